"""How fast VMs write to their memory: measured now and then, so that plans know what a move takes.

Owns whose turn it is. Each VM that runs is sampled every minute or so, a few at a time; one that is on its way
is left alone, because its hypervisor has other work with it. One odd sample weighs half. A VM that can't be
measured is passed over, and tried again when its turn comes: estimates do without it.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from datetime import datetime, timedelta

import structlog

from transhume.daemon.senses import Clock, Sense
from transhume.errors import Error
from transhume.knowledge.model import DirtyRate, HostName, Snapshot, VmName
from transhume.knowledge.store import Store

Measure = Callable[[VmName, HostName, int], Awaitable[float]]
"""Samples a VM at a host for some seconds, and returns bytes per second."""

EVERY = timedelta(minutes=1)
SAMPLING_SECONDS = 2
AT_ONCE = 4
LOOK_SECONDS = 5.0

log = structlog.get_logger()


def dirty_rates(measure: Measure, clock: Clock) -> Sense:
    """Sample each VM now and then.

    Args:
        measure: asks the hypervisors.
        clock: tells the time.
    """
    return Sense(name="dirty rates", perceive=DirtyRates(measure, clock).perceive)


class DirtyRates:
    """What was measured, and when, while the daemon runs."""

    def __init__(self, measure: Measure, clock: Clock) -> None:
        self._measure, self._clock = measure, clock
        self._tried: dict[VmName, datetime] = {}
        self._told: set[VmName] = set()
        """Those of which it was told that they can't be measured."""

    async def perceive(self, store: Store) -> AsyncIterator[None]:
        """Measure those whose turn it is, again and again."""
        while True:
            snapshot = await store.snapshot()
            gone = self._tried.keys() - snapshot.vms.keys()
            if gone:
                await store.drop_dirty_rates(gone)
                self._forget(gone)
            due = self.due(snapshot)
            if due:
                found = await asyncio.gather(*(self._sample(snapshot, vm) for vm in due))
                await store.put_dirty_rates([rate for rate in found if rate is not None])
            yield
            if not due:
                await asyncio.sleep(LOOK_SECONDS)

    def due(self, snapshot: Snapshot) -> list[VmName]:
        """Return the VMs to be measured next: those that were not for the longest time, at most so many."""
        now, longest_ago = self._clock(), datetime.min.replace(tzinfo=snapshot.at.tzinfo)
        turns = sorted(
            (self._tried.get(vm, longest_ago), vm)
            for vm in snapshot.placement.host_of
            if vm not in snapshot.moving
        )
        return [vm for tried, vm in turns[:AT_ONCE] if tried == longest_ago or now - tried >= EVERY]

    async def _sample(self, snapshot: Snapshot, vm: VmName) -> DirtyRate | None:
        self._tried[vm] = self._clock()
        host = snapshot.placement.host_of[vm]
        try:
            rate = await self._measure(vm, host, SAMPLING_SECONDS)
        except Error as error:
            if vm not in self._told:
                log.info("dirty_rate_unknown", vm=vm, host=host, why=str(error))
            self._told.add(vm)
            return None
        self._told.discard(vm)
        before = snapshot.vms[vm].dirty_bytes_per_second
        smooth = rate if before is None else (rate + before) / 2
        return DirtyRate(vm=vm, at=self._clock(), bytes_per_second=smooth)

    def _forget(self, gone: Iterable[VmName]) -> None:
        for vm in gone:
            self._tried.pop(vm, None)
            self._told.discard(vm)
