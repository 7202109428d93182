"""What costs hypervisors some work to say of each VM: asked now and then, so that plans know what a move takes.

That is how fast it writes to its memory, and how much its disks hold. Owns whose turn it is: a few VMs at a
time, the one that was asked about longest ago first; one that is on its way is left alone, because its
hypervisor has other work with it. A VM of which nothing can be told is passed over, and tried again when its
turn comes: estimates do without it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

import structlog

from transhume.daemon.senses import Clock, Sense
from transhume.errors import Error
from transhume.knowledge.model import DirtyRate, DiskUse, HostName, Snapshot, Vm, VmName
from transhume.knowledge.store import Store

S = TypeVar("S", bound=DirtyRate | DiskUse)
Measure = Callable[[VmName, HostName, int], Awaitable[float]]
"""Samples a VM at a host for some seconds, and returns bytes per second."""
Ask = Callable[[VmName, HostName], Awaitable[int]]
"""Returns how many bytes a VM's disks hold at a host."""

DIRTY_RATE_EVERY, DISK_USE_EVERY = timedelta(minutes=1), timedelta(minutes=10)
SAMPLING_SECONDS = 2
AT_ONCE = 4
LOOK_SECONDS = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject(Generic[S]):
    """What is asked about VMs."""

    kind: type[S]
    event: str
    """What the log says of a VM of which it can't be told."""
    every: timedelta
    concerns: Callable[[Vm], bool]
    ask: Callable[[Snapshot, VmName], Awaitable[S]]


def dirty_rates(measure: Measure, clock: Clock) -> Sense:
    """Sample how fast each VM writes to its memory; one odd sample weighs half.

    Args:
        measure: asks the hypervisors.
        clock: tells the time.
    """

    async def ask(snapshot: Snapshot, vm: VmName) -> DirtyRate:
        rate = await measure(vm, snapshot.placement.host_of[vm], SAMPLING_SECONDS)
        before = snapshot.vms[vm].dirty_bytes_per_second
        smooth = rate if before is None else (rate + before) / 2
        return DirtyRate(vm=vm, at=clock(), bytes_per_second=smooth)

    subject = Subject(
        kind=DirtyRate,
        event="dirty_rate_unknown",
        every=DIRTY_RATE_EVERY,
        concerns=lambda _vm: True,
        ask=ask,
    )
    return Sense(name="dirty rates", perceive=Sampling(subject, clock).perceive)


def disk_use(ask_host: Ask, clock: Clock, goes_along: Callable[[Vm], bool]) -> Sense:
    """Ask how much the disks of VMs hold that may have to be copied.

    Args:
        ask_host: asks the hypervisors.
        clock: tells the time.
        goes_along: whether a VM's disks are copied when it moves; nobody else's host is asked.
    """

    async def ask(snapshot: Snapshot, vm: VmName) -> DiskUse:
        found = await ask_host(vm, snapshot.placement.host_of[vm])
        return DiskUse(vm=vm, at=clock(), bytes=found)

    subject = Subject(
        kind=DiskUse,
        event="disk_use_unknown",
        every=DISK_USE_EVERY,
        concerns=goes_along,
        ask=ask,
    )
    return Sense(name="disk use", perceive=Sampling(subject, clock).perceive)


class Sampling(Generic[S]):
    """Which VMs were asked about, and when, while the daemon runs."""

    def __init__(self, subject: Subject[S], clock: Clock) -> None:
        self._subject, self._clock = subject, clock
        self._tried: dict[VmName, datetime] = {}
        self._told: set[VmName] = set()
        """Those of which it was told that nothing can be said."""

    async def perceive(self, store: Store) -> AsyncIterator[None]:
        """Ask about those whose turn it is, again and again."""
        while True:
            snapshot = await store.snapshot()
            gone = self._tried.keys() - snapshot.vms.keys()
            if gone:
                await store.drop_samples(self._subject.kind, gone)
                self._forget(gone)
            due = self.due(snapshot)
            if due:
                found = await asyncio.gather(*(self._ask(snapshot, vm) for vm in due))
                samples = [each for each in found if each is not None]
                await store.put_samples(self._subject.kind, samples)
            yield
            if not due:
                await asyncio.sleep(LOOK_SECONDS)

    def due(self, snapshot: Snapshot) -> list[VmName]:
        """Return the VMs to be asked about next: those that were not for the longest time, at most so many."""
        now, longest_ago = self._clock(), datetime.min.replace(tzinfo=snapshot.at.tzinfo)
        turns = sorted(
            (self._tried.get(vm, longest_ago), vm)
            for vm in snapshot.placement.host_of
            if vm not in snapshot.moving and self._subject.concerns(snapshot.vms[vm])
        )
        every = self._subject.every
        return [vm for tried, vm in turns[:AT_ONCE] if tried == longest_ago or now - tried >= every]

    async def _ask(self, snapshot: Snapshot, vm: VmName) -> S | None:
        self._tried[vm] = self._clock()
        try:
            found = await self._subject.ask(snapshot, vm)
        except Error as error:
            if vm not in self._told:
                host = snapshot.placement.host_of[vm]
                log.info(self._subject.event, vm=vm, host=host, why=str(error))
            self._told.add(vm)
            return None
        self._told.discard(vm)
        return found

    def _forget(self, gone: Iterable[VmName]) -> None:
        for vm in gone:
            self._tried.pop(vm, None)
            self._told.discard(vm)
