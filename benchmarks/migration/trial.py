"""One move by one method, measured and checked: the stage that all methods share, and what a run gives.

A move that takes longer than the limit is broken off; it counts with what it had taken until then. After
every move the overlay is told, and each guest has to have found all that it keeps intact.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from benchmarks.migration.methods import PEERS, ZSTD, Gang, Method, Opening
from benchmarks.migration.outside import QemuTime, Switches, cpu_seconds, sent_bytes
from transhume.deployment.loader import load_deployment
from transhume.execute.overlay import VxlanOverlay
from transhume.knowledge.model import HostName, Measurement, VmName
from transhume.lab.lab import Lab
from transhume.lab.spec import CloudSpec, GuestSpec
from transhume.reach.libvirt import Connections

PATIENCE_SECONDS = 120.0
SETTLE_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one move of a gang took."""

    method: str
    finished: bool
    sent_bytes: int
    """From the source's cloud, during the move."""
    returned_bytes: int
    """From the destination's."""
    seconds: float
    """From the call until the last guest ran at the destination."""
    pauses: tuple[float | None, ...]
    """Each guest's, from STOP to RESUME."""
    told_bytes: int
    """What QEMU says that it has sent, or the transport."""
    qemu_cpu_seconds: float
    gateway_cpu_seconds: float
    prepared_bytes: int
    prepared_seconds: float


class GuestHarmed(Exception):
    """A guest isn't what it was: nothing else that was measured matters."""


@dataclass(slots=True)
class Stage:
    """A lab, the methods that work in it, and where its guests are."""

    lab: Lab
    connections: Connections
    methods: dict[str, Method]
    here: HostName
    there: HostName
    limit_seconds: float
    bystanders: int = 0

    @property
    def guests(self) -> tuple[GuestSpec, ...]:
        """Those that move, together."""
        guests = self.lab.spec.guests
        return guests[: len(guests) - self.bystanders]

    @property
    def vms(self) -> tuple[VmName, ...]:
        """Their names."""
        return tuple(guest.name for guest in self.guests)

    def gang(self) -> Gang:
        """Return the next move."""
        return Gang(vms=self.vms, source=self.here, destination=self.there)

    async def run(self, name: str) -> Run:
        """Move the guests to the other cloud, and measure it.

        Raises:
            GuestHarmed: a guest doesn't answer, or has found an error.
        """
        method, gang = self.methods[name], self.gang()
        before, began = self._sent(gang.source), time.monotonic()
        await method.prepare(gang)
        prepared = self._sent(gang.source) - before, time.monotonic() - began
        run = await self._measured(name, method, gang, prepared)
        await method.after(gang)
        await self._settled(finished=run.finished)
        return run

    async def away(self, name: str) -> None:
        """Move the guests to the other cloud without measuring it."""
        method, gang = self.methods[name], self.gang()
        await method.move(gang)
        await method.after(gang)
        await self._settled(finished=True)

    async def _measured(
        self, name: str, method: Method, gang: Gang, prepared: tuple[int, float]
    ) -> Run:
        await asyncio.sleep(SETTLE_SECONDS)
        qemu, switches = QemuTime(self.lab, gang.vms), Switches()
        gateways = [cpu_seconds(pid) for pid in method.gateways]
        sent, returned = self._sent(gang.source), self._sent(gang.destination)
        took: tuple[Measurement, ...] = ()
        listening = switches.watched(self.connections, gang.source, gang.destination)
        async with listening, qemu.watched():
            began = time.monotonic()
            try:
                async with asyncio.timeout(self.limit_seconds):
                    took = await method.move(gang)
            except TimeoutError:
                pass
            ended = time.monotonic()
        return Run(
            method=name,
            finished=bool(took),
            sent_bytes=self._sent(gang.source) - sent,
            returned_bytes=self._sent(gang.destination) - returned,
            seconds=((switches.last_arrival(gang.vms) if took else None) or ended) - began,
            pauses=switches.pauses(gang.vms) if took else (),
            told_bytes=sum(each.bytes for each in took),
            qemu_cpu_seconds=qemu.seconds,
            gateway_cpu_seconds=sum(map(cpu_seconds, method.gateways)) - sum(gateways),
            prepared_bytes=prepared[0],
            prepared_seconds=prepared[1],
        )

    def _sent(self, host: HostName) -> int:
        return sent_bytes(self._cloud_of(host).netns)

    def _cloud_of(self, host: HostName) -> CloudSpec:
        return next(cloud for cloud in self.lab.spec.clouds if cloud.host == host)

    async def _settled(self, *, finished: bool) -> None:
        """Note where the guests are, tell the overlay, and let them verify what they keep."""
        if finished:
            self.here, self.there = self.there, self.here
        else:
            await self._gather()
        macs = [guest.mac for guest in self.guests]
        await VxlanOverlay(self.lab.network).bind(macs, self._cloud_of(self.here).name)
        for vm in self.vms:
            await asyncio.to_thread(_verified_anew, self.lab, vm)

    async def _gather(self) -> None:
        """After a move that was broken off: bring those that had arrived back to the others."""
        source = self._cloud_of(self.there).name
        found = await asyncio.to_thread(self.lab.status)
        there = next(cloud.guests for cloud in found if cloud.name == source)
        if vms := tuple(vm for vm in self.vms if vm in there):
            async with PEERS[ZSTD](self.lab) as method:
                await method.move(Gang(vms=vms, source=self.there, destination=self.here))


@asynccontextmanager
async def opened_stage(
    lab: Lab, openings: Mapping[str, Opening], limit_seconds: float, bystanders: int = 0
) -> AsyncIterator[Stage]:
    """Open the methods in a lab whose guests are all in its first cloud, where the last of them stay."""
    here, there = (HostName(cloud.host) for cloud in lab.spec.clouds)
    connections = Connections(load_deployment(lab.deployment).hypervisors)
    try:
        async with AsyncExitStack() as stack:
            methods = {
                name: await stack.enter_async_context(opening(lab))
                for name, opening in openings.items()
            }
            stage = Stage(lab, connections, methods, here, there, limit_seconds, bystanders)
            for vm in stage.vms:
                await asyncio.to_thread(_verified_anew, lab, vm)
            yield stage
    finally:
        connections.close()


def _verified_anew(lab: Lab, vm: VmName) -> None:
    """Wait until a guest has got on with everything that it does, and see that nothing is wrong there."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    before = {counter.role: counter for counter in lab.counters(vm)}
    behind = set(before)
    while behind:
        now = lab.counters(vm)
        wrong = [f"{counter.role}: {counter.errors} errors" for counter in now if counter.errors]
        if wrong:
            raise GuestHarmed(f"{vm}: {', '.join(wrong)}")
        behind = {c.role for c in now if c.sweeps < before[c.role].sweeps + 1}
        if time.monotonic() > deadline:
            raise GuestHarmed(f"{vm} doesn't get on with {', '.join(sorted(behind))}")
        time.sleep(0.5)
