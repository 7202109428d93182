"""Ways to keep a network whole while VMs move: what others do, what we did, and the seam for what we do.

A way lives as long as a lab, and works between `join` and `leave`: ways take turns on the same bridges. A
further one is an entry of `WAYS`; what it needs as long as the lab is up (processes, a store) is its opening's.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import Protocol

from benchmarks.overlay.flooding import Flooding
from benchmarks.overlay.sniffing import Sniffing
from transhume.execute.overlay import VxlanOverlay
from transhume.knowledge.model import MacAddress
from transhume.lab.lab import Lab
from transhume.lab.spec import GuestSpec

Places = Mapping[MacAddress, str]
"""At which site who is: guests and neighbours."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moving:
    """A live move of one guest."""

    guest: GuestSpec
    source: str
    destination: str


class Way(Protocol):
    """One kind of network between the sites of one lab."""

    async def join(self, places: Places) -> None:
        """Make the network, with everybody where he is; nothing of another way is there."""

    async def before(self, moving: Moving) -> None:
        """Do what is done before the hypervisor is asked for a move."""

    async def after(self, moving: Moving) -> None:
        """Do what is done once the hypervisor says that the move is over."""

    async def leave(self) -> None:
        """Take away what `join` made."""


Opening = Callable[[Lab], AbstractAsyncContextManager[Way]]
"""Makes a way ready for a lab, and clears up after it."""


class FloodAndLearn:
    """A plain VXLAN segment: bridges and tunnels flood what they don't know, and learn from what they see."""

    def __init__(self, lab: Lab) -> None:
        self._flooding = Flooding(lab.network)

    async def join(self, places: Places) -> None:
        """Connect the bridges; who is where shows."""
        await self._flooding.join()

    async def before(self, moving: Moving) -> None:
        """Do nothing."""

    async def after(self, moving: Moving) -> None:
        """Do nothing: QEMU has announced the VM."""

    async def leave(self) -> None:
        """Remove the tunnels' ends."""
        await self._flooding.remove()


class DaemonBinds:
    """The daemon re-points every site itself once the move is over."""

    def __init__(self, lab: Lab) -> None:
        self._overlay = VxlanOverlay(lab.network)

    async def join(self, places: Places) -> None:
        """Connect the bridges, and tell every site where everybody is."""
        await self._overlay.join()
        for mac, site in places.items():
            await self._overlay.bind([mac], site)

    async def before(self, moving: Moving) -> None:
        """Do nothing."""

    async def after(self, moving: Moving) -> None:
        """Tell every site."""
        await self._overlay.bind([moving.guest.mac], moving.destination)

    async def leave(self) -> None:
        """Remove the tunnels' ends."""
        await self._overlay.remove()


class RarpSniffed(DaemonBinds):
    """The destination sees QEMU's announcement on its bridge, and tells the others over the WAN."""

    def __init__(self, lab: Lab) -> None:
        super().__init__(lab)
        self._lab = lab
        self._sniffing: Sniffing | None = None

    async def before(self, moving: Moving) -> None:
        """Listen at the destination."""
        delay = self._lab.spec.wan_delay_seconds
        self._sniffing = Sniffing(
            self._lab.network, moving.guest.mac, moving.destination, word_takes_seconds=delay
        )
        await self._sniffing.start()

    async def after(self, moving: Moving) -> None:
        """Stop listening.

        Raises:
            TimeoutError: no announcement came, and nothing was re-pointed.
        """
        assert self._sniffing is not None
        await self._sniffing.end()


def _opening(made: Callable[[Lab], Way]) -> Opening:
    @asynccontextmanager
    async def opened(lab: Lab) -> AsyncIterator[Way]:
        yield made(lab)

    return opened


TODAY = "daemon binds after"
WAYS: dict[str, Opening] = {
    "flood and learn": _opening(FloodAndLearn),
    "RARP detected": _opening(RarpSniffed),
    TODAY: _opening(DaemonBinds),
}
