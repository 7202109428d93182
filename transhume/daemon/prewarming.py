"""Pre-warming: while a plan waits for somebody's word, its VMs' memory goes ahead to where they may go.

Owns which VMs are kept warm where, and since when not any more; how is the gateways' affair. Disks that would
be copied go along. Each VM has a budget of bytes. A gateway that doesn't answer, or refuses, costs a line in
the log and nothing else.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Collection
from dataclasses import dataclass

import structlog

from transhume.errors import Error
from transhume.execute.migration.gateways import Gateways
from transhume.knowledge.model import CloudName, Plan, PlanStatus, Vm, VmName
from transhume.knowledge.store import Store

LOOK_SECONDS = 3.0
WAITING = (PlanStatus.RECOMMENDED, PlanStatus.AWAITING_APPROVAL)
PLANS_LOOKED_AT = 5

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Way:
    vm: VmName
    source: CloudName
    destination: CloudName


class Prewarming:
    """Keeps VMs of plans that wait warm; `keep` does it, for ever.

    Args:
        gateways: those of the federation.
        budget_bytes: what may be sent for a VM, on the wire.
        copies_disks: says whether a VM's own disks would move with it.
    """

    def __init__(
        self,
        gateways: Gateways,
        budget_bytes: int,
        copies_disks: Callable[[Vm], bool] = lambda _vm: False,
    ) -> None:
        self._gateways = gateways
        self._budget_bytes = budget_bytes
        self._copies_disks = copies_disks
        self._warm: set[_Way] = set()

    async def keep(self, store: Store) -> AsyncIterator[None]:
        """Look at the plans that wait, again and again."""
        while True:
            wanted = await self._wanted(store)
            begun = wanted - self._warm
            vms = (await store.snapshot()).vms if begun else {}
            for way in begun:
                vm = vms.get(way.vm)
                await self._begin(way, disks=vm is not None and self._copies_disks(vm))
            for way in self._warm - wanted:
                await self._end(way)
            yield
            await asyncio.sleep(LOOK_SECONDS)

    async def _wanted(self, store: Store) -> set[_Way]:
        """Return what the latest plan wants, if it waits; while one is carried out, nothing changes."""
        plans = await store.plans(limit=PLANS_LOOKED_AT)
        if any(stored.status is PlanStatus.EXECUTING for stored in plans):
            return set(self._warm)
        latest = next((stored for stored in plans if stored.status in WAITING), None)
        if latest is None or not isinstance(latest.plan, Plan):
            return set()
        return set(self._ways(latest.plan))

    def _ways(self, plan: Plan) -> Collection[_Way]:
        known = self._gateways.clients
        return [
            _Way(step.vm, step.source_cloud, step.destination_cloud)
            for step in plan.steps
            if step.source_cloud != step.destination_cloud
            and step.source_cloud in known
            and step.destination_cloud in known
        ]

    async def _begin(self, way: _Way, *, disks: bool) -> None:
        self._warm.add(way)  # also where it can't be: it isn't asked for again and again
        try:
            await self._gateways.warm(
                way.vm,
                way.source,
                way.destination,
                most_wire_bytes=self._budget_bytes,
                disks=disks,
            )
        except Error as error:
            log.warning("not_warmed", vm=way.vm, destination=way.destination, why=str(error))
        else:
            log.info("warming_begun", vm=way.vm, destination=way.destination)

    async def _end(self, way: _Way) -> None:
        self._warm.discard(way)
        try:
            await self._gateways.cool(way.vm, way.source, way.destination)
        except Error as error:
            log.warning("not_cooled", vm=way.vm, destination=way.destination, why=str(error))
