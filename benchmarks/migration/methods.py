"""How VMs are moved: QEMU's own ways through libvirt, and the seam for a transport of ours.

A method lives as long as a lab. `prepare` is what it does before anybody asks for the move (its bytes and
seconds are counted apart), `move` is what is measured, `after` leaves things as the next method expects
them.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from transhume.deployment.loader import load_deployment
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.migration.transport import Direct, Transport
from transhume.knowledge.model import HostName, Measurement, VmName
from transhume.lab.lab import Lab
from transhume.reach.libvirt import Connections

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Gang:
    """VMs that move at the same time."""

    vms: tuple[VmName, ...]
    source: HostName
    destination: HostName


class Method(Protocol):
    """A way to move VMs in one lab."""

    @property
    def gateways(self) -> tuple[int, ...]:
        """The processes whose CPU time is its price, beside QEMU's."""
        ...

    async def reset(self) -> None:
        """Forget what earlier moves have left."""
        ...

    async def prepare(self, gang: Gang) -> None:
        """Do what is done while a move is only likely."""
        ...

    async def move(self, gang: Gang) -> tuple[Measurement, ...]:
        """Move all of them at once; whatever one raises ends the others."""
        ...

    async def after(self, gang: Gang) -> None:
        """Clear up."""
        ...


Opening = Callable[[Lab], AbstractAsyncContextManager[Method]]
"""Makes a method work in a lab, and takes it away."""


@dataclass(slots=True)
class ByLibvirt:
    """Moves through libvirt, all at once, over a transport; the base of every method."""

    hosts: LibvirtHosts

    @property
    def gateways(self) -> tuple[int, ...]:
        """None."""
        return ()

    async def reset(self) -> None:
        """Do nothing: nothing is left."""

    async def prepare(self, gang: Gang) -> None:
        """Do nothing."""

    async def move(self, gang: Gang) -> tuple[Measurement, ...]:
        """Move all of them at once."""
        async with asyncio.TaskGroup() as group:
            moves = [
                group.create_task(
                    self.hosts.migrate(vm, gang.source, gang.destination, lambda _: None)
                )
                for vm in gang.vms
            ]
        return tuple(move.result() for move in moves)

    async def after(self, gang: Gang) -> None:
        """Wait until libvirt is done with them at both ends."""
        for vm in gang.vms:
            await self.hosts.settle(vm, gang.source, gang.destination)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What libvirt is told beside what `LibvirtHosts` tells it."""

    flags: tuple[str, ...] = ()
    """By their names in libvirt."""
    parameters: Mapping[str, str | int] = field(default_factory=dict)


def by_libvirt(told: Told | None = None, transport: Transport | None = None) -> Opening:
    """Return the method that lets libvirt do it, with these flags and over this transport."""

    @asynccontextmanager
    async def opened(lab: Lab) -> AsyncIterator[Method]:
        connections = _Telling(lab, told or Told())
        try:
            yield ByLibvirt(LibvirtHosts(connections, transport or Direct()))
        finally:
            connections.close()

    return opened


class _Telling(Connections):
    """Connections over which each migration gets more flags."""

    def __init__(self, lab: Lab, told: Told) -> None:
        super().__init__(load_deployment(lab.deployment).hypervisors)
        self._told = told

    async def call_apart(self, host: HostName, what: Callable[[Any], T]) -> T:
        return await super().call_apart(host, lambda real: what(_Connection(real, self._told)))


class _Connection:
    def __init__(self, real: Any, told: Told) -> None:
        self._real = real
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def lookupByName(self, name: str) -> "_Domain":  # noqa: N802
        return _Domain(self._real.lookupByName(name), self._told)


class _Domain:
    def __init__(self, real: Any, told: Told) -> None:
        self._real = real
        self._told = told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def migrateToURI3(self, peer: str, parameters: dict[str, str | int], flags: int) -> None:  # noqa: N802
        import libvirt

        for flag in self._told.flags:
            flags |= getattr(libvirt, flag)
        self._real.migrateToURI3(peer, {**parameters, **self._told.parameters}, flags)


PLAIN, ZSTD = "plain", "multifd-zstd"
"""The two that everything is compared with."""
PEERS: dict[str, Opening] = {
    PLAIN: by_libvirt(),
    "xbzrle": by_libvirt(
        Told(flags=("VIR_MIGRATE_COMPRESSED",), parameters={"compression": "xbzrle"})
    ),
    ZSTD: by_libvirt(
        Told(
            flags=("VIR_MIGRATE_COMPRESSED", "VIR_MIGRATE_PARALLEL"),
            parameters={"compression": "zstd", "parallel.connections": 2},
        )
    ),
}
