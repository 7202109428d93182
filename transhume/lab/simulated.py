"""Clouds without machines: the executor's protocol and an inventory over a model of migration.

For the demonstration and for tests of what can't be provoked otherwise. A simulated migration takes
(memory in use) / (rate of the link) of simulated time, several rounds where the guest dirties memory, and
sleeps that time divided by `speedup`. Says what real hypervisors would say; knows nothing of frames.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime

from transhume.errors import MoveFailed
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.protocol import JobSample, OnSample, Seen, Whereabouts
from transhume.knowledge.model import (
    CapacityReport,
    Host,
    HostName,
    MacAddress,
    Measurement,
    Placement,
    Resources,
    Vm,
    VmName,
    total,
)

SAMPLES = 20
DOWNTIME_SECONDS = 0.12
LONGEST_ROUNDS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatedHost:
    """A host of a simulated cloud."""

    host: Host
    capacity: Resources


@dataclass(slots=True)
class SimulatedClouds:
    """Hosts, the VMs they run and the link between them; implements `Hypervisors`."""

    hosts: dict[HostName, SimulatedHost]
    vms: dict[VmName, Vm]
    link_bytes_per_second: float
    speedup: float = 1.0
    used_share: float = 0.75
    """The share of a VM's memory that isn't zero."""
    running_at: dict[VmName, HostName] = field(default_factory=dict)
    paused_at: dict[VmName, HostName] = field(default_factory=dict)
    faults: dict[VmName, str] = field(default_factory=dict)
    """Why the next migration of a VM will fail, for tests and demonstrations of failure."""

    def placement(self) -> Placement:
        """Say where every VM runs."""
        return Placement(host_of=dict(self.running_at))

    def capacity(self, now: datetime) -> tuple[CapacityReport, ...]:
        """Say what each host has and has left."""
        return tuple(
            CapacityReport(
                host=name,
                at=now,
                total=host.capacity,
                free=host.capacity - total(vm.needs for vm in self._running(name)),
            )
            for name, host in self.hosts.items()
        )

    def _running(self, host: HostName) -> Iterable[Vm]:
        return (self.vms[vm] for vm, where in self.running_at.items() if where == host)

    async def whereabouts(self, vm: VmName, source: HostName, destination: HostName) -> Whereabouts:
        """Say where a VM is."""
        return Whereabouts(source=self._seen(vm, source), destination=self._seen(vm, destination))

    def _seen(self, vm: VmName, host: HostName) -> Seen:
        if self.running_at.get(vm) == host:
            return Seen.RUNNING
        return Seen.PAUSED if self.paused_at.get(vm) == host else Seen.ABSENT

    async def obstacle(self, vm: VmName, source: HostName, destination: HostName) -> str | None:
        """Say why the VM can't move: it isn't there, or it doesn't fit."""
        if self._seen(vm, source) is not Seen.RUNNING:
            return f"{vm} is {self._seen(vm, source)} at {source}"
        used = total(found.needs for found in self._running(destination))
        if not (self.hosts[destination].capacity - used).covers(self.vms[vm].needs):
            return f"{destination} has no room for {vm}"
        return None

    async def migrate(
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        on_sample: OnSample,
        options: MigrationOptions | None = None,
    ) -> Measurement:
        """Move a VM in simulated time."""
        sent = self._bytes_to_send(self.vms[vm])
        seconds = sent / self.link_bytes_per_second
        for part in range(1, SAMPLES + 1):
            await asyncio.sleep(seconds / SAMPLES / self.speedup)
            if part > SAMPLES // 2 and vm in self.faults:
                raise MoveFailed(vm, source, destination, self.faults.pop(vm))
            on_sample(
                JobSample(
                    bytes_sent=sent * part // SAMPLES,
                    bytes_remaining=sent - sent * part // SAMPLES,
                    bytes_per_second=self.link_bytes_per_second,
                    dirty_bytes_per_second=self.vms[vm].dirty_bytes_per_second or 0.0,
                )
            )
        self.running_at[vm] = destination
        return Measurement(bytes=sent, seconds=seconds, downtime_seconds=DOWNTIME_SECONDS)

    def _bytes_to_send(self, vm: Vm) -> int:
        """Sum the rounds of pre-copy: each sends what was dirtied during the one before."""
        first = vm.needs.memory_bytes * self.used_share
        ratio = min((vm.dirty_bytes_per_second or 0.0) / self.link_bytes_per_second, 0.9)
        return int(sum(first * ratio**number for number in range(LONGEST_ROUNDS)))

    async def settle(
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        at_most_seconds: float | None = None,
    ) -> None:
        """Return at once: nothing moves here without its caller."""

    async def resume(self, vm: VmName, host: HostName) -> None:
        """Let a paused VM run on."""
        if self.paused_at.pop(vm, None) == host:
            self.running_at[vm] = host

    async def discard(self, vm: VmName, host: HostName) -> None:
        """Forget a paused copy."""
        if self.paused_at.get(vm) == host:
            del self.paused_at[vm]


@dataclass(slots=True)
class SimulatedOverlay:
    """An overlay that remembers which cloud each address points at; implements `Overlay`."""

    site_of: dict[MacAddress, str] = field(default_factory=dict)
    announced: list[tuple[VmName, str, str]] = field(default_factory=list)
    """Moves, as VM, source and destination."""
    broken: Callable[[str], tuple[str, ...]] = lambda _site: ()
    """What is wrong at a site, for tests."""
    lacking: tuple[str, ...] = ()
    """Sites that the network isn't at."""

    def obstacle(self, macs: Iterable[MacAddress], site: str) -> str | None:
        """Say whether a site lacks the network."""
        return f"the network isn't at {site}" if site in self.lacking else None

    async def join(self) -> None:
        """Do nothing: there are no bridges."""

    async def bind(self, macs: Iterable[MacAddress], site: str) -> None:
        """Point addresses at a site."""
        self.site_of.update(dict.fromkeys(macs, site))

    async def adopt(self, macs: Iterable[MacAddress], site: str) -> None:
        """Point addresses at a site."""
        await self.bind(macs, site)

    @asynccontextmanager
    async def hand_over(
        self, vm: VmName, macs: Iterable[MacAddress], source: str, destination: str
    ) -> AsyncIterator[None]:
        """Remember what was announced."""
        self.announced.append((vm, source, destination))
        yield

    async def check(self, macs: Iterable[MacAddress], site: str) -> tuple[str, ...]:
        """Say which addresses point elsewhere."""
        astray = tuple(
            f"{mac} points at {self.site_of.get(mac)}" for mac in macs if self.site_of[mac] != site
        )
        return astray + self.broken(site)

    async def remove(self) -> None:
        """Forget all."""
        self.site_of.clear()
