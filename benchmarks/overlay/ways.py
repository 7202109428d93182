"""Ways to keep a network whole while VMs move: what others do, what the daemon does, and what site agents do.

A further one is an entry of `WAYS`; what it needs as long as the lab is up is its opening's affair.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from benchmarks.overlay.agents import agents_opened
from benchmarks.overlay.flooding import Flooding
from benchmarks.overlay.sniffing import Sniffing
from benchmarks.overlay.way import Moving, Opening, Places, Way
from transhume.execute.overlay import VxlanOverlay
from transhume.lab.lab import Lab


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
OURS = "site agents"
WAYS: dict[str, Opening] = {
    "flood and learn": _opening(FloodAndLearn),
    "RARP detected": _opening(RarpSniffed),
    TODAY: _opening(DaemonBinds),
    OURS: agents_opened,
}
