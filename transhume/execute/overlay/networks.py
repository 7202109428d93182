"""All of the overlay's networks at once: what is asked for a VM is asked of the networks that it's on.

Two networks may use one address for two VMs. So each is told of its own interfaces alone.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

from transhume.execute.overlay.protocol import Overlay
from transhume.knowledge.model import (
    Interface,
    MacAddress,
    Snapshot,
    VirtualNetworkName,
    Vm,
    VmName,
)


class Networks:
    """Several virtual networks, in the place of one; implements `Overlay`.

    Args:
        members: by name.
        only: the addresses that each is told of; None: all of them.
    """

    def __init__(
        self,
        members: Mapping[VirtualNetworkName, Overlay],
        only: Mapping[VirtualNetworkName, frozenset[MacAddress]] | None = None,
    ) -> None:
        self._members = members
        self._only = only

    def of(self, vm: Vm) -> "Networks":
        """Return them as they are for one VM."""
        alone = len(self._members) == 1
        only = {name: frozenset(macs_on(vm, name, alone=alone)) for name in self._members}
        return Networks(self._members, only)

    async def join(self) -> None:
        """Connect the bridges of all sites, in each network."""
        for member in self._members.values():
            await member.join()

    def obstacle(self, macs: Sequence[MacAddress], site: str) -> str | None:
        """Say which of the networks `site` lacks."""
        found = (member.obstacle(theirs, site) for _, member, theirs in self._concerned(macs))
        return next(filter(None, found), None)

    async def bind(self, macs: Sequence[MacAddress], site: str) -> None:
        """Send the frames for `macs` to `site`."""
        for _, member, theirs in self._concerned(macs):
            await member.bind(theirs, site)

    async def adopt(self, macs: Sequence[MacAddress], site: str) -> None:
        """Take note of where an inventory has seen `macs`."""
        for _, member, theirs in self._concerned(macs):
            await member.adopt(theirs, site)

    @asynccontextmanager
    async def hand_over(
        self, vm: VmName, macs: Sequence[MacAddress], source: str, destination: str
    ) -> AsyncIterator[None]:
        """Have a move known in each network that the VM is on."""
        async with AsyncExitStack() as announced:
            for _, member, theirs in self._concerned(macs):
                context = member.hand_over(vm, theirs, source, destination)
                await announced.enter_async_context(context)
            yield

    async def check(self, macs: Sequence[MacAddress], site: str) -> tuple[str, ...]:
        """Say what keeps frames for `macs` from reaching `site`, in each network."""
        found: list[str] = []
        for name, member, theirs in self._concerned(macs):
            of = f"network {name}: " if len(self._members) > 1 else ""
            found += [f"{of}{fault}" for fault in await member.check(theirs, site)]
        return tuple(found)

    async def remove(self) -> None:
        """Take away what was made, of each network."""
        for member in self._members.values():
            await member.remove()

    def _concerned(
        self, macs: Sequence[MacAddress]
    ) -> list[tuple[VirtualNetworkName, Overlay, list[MacAddress]]]:
        found = (
            (name, member, [mac for mac in macs if self._only is None or mac in self._only[name]])
            for name, member in self._members.items()
        )
        return [each for each in found if each[2]]


def macs_on(vm: Vm, network: VirtualNetworkName, *, alone: bool) -> tuple[MacAddress, ...]:
    """Return a VM's addresses on a network; the one that is `alone` has those of which nobody has said it."""
    return tuple(each.mac for each in _interfaces_on(vm, network, alone=alone))


def seen_on(snapshot: Snapshot, network: VirtualNetworkName, *, alone: bool) -> Snapshot:
    """Return a snapshot in which VMs have only their interfaces on a network."""
    vms = {
        name: replace(vm, interfaces=_interfaces_on(vm, network, alone=alone))
        for name, vm in snapshot.vms.items()
    }
    return replace(snapshot, vms=vms)


def _interfaces_on(vm: Vm, network: VirtualNetworkName, *, alone: bool) -> tuple[Interface, ...]:
    wanted = (network, None) if alone else (network,)
    return tuple(each for each in vm.interfaces if each.network in wanted)
