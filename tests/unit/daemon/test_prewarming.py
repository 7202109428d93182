"""VMs of a plan that waits are kept warm, with their disks where these would move with them."""

from dataclasses import replace
from typing import cast

from tests.unit.execute.plans import plan, step
from tests.unit.plan.worlds import vm, world
from transhume.daemon import prewarming
from transhume.daemon.prewarming import Prewarming
from transhume.execute.migration.gateways import Gateways
from transhume.knowledge.model import PlanStatus, Snapshot, VmName
from transhume.knowledge.records import StoredPlan
from transhume.knowledge.store import Store


class Asked:
    """Gateways that remember what they were asked for."""

    def __init__(self) -> None:
        self.clients = {"a": None, "b": None}
        self.warm_disks: dict[str, bool] = {}

    async def warm(self, vm: VmName, *_ends: str, most_wire_bytes: int, disks: bool) -> None:
        assert most_wire_bytes == 1000
        self.warm_disks[vm] = disks

    async def cool(self, vm: VmName, *_ends: str) -> None:
        del self.warm_disks[vm]


class Kept:
    """A store with one plan."""

    def __init__(self) -> None:
        self.stored = StoredPlan(plan=plan(step(1), step(2)), status=PlanStatus.AWAITING_APPROVAL)

    async def plans(self, limit: int) -> list[StoredPlan]:
        return [self.stored][:limit]

    async def snapshot(self) -> Snapshot:
        return world({"a1": [vm("vm1"), vm("vm2")]}, room={"a1": 9, "b1": 9})


async def test_disks_go_ahead_where_they_would_be_copied_and_all_ends_with_the_plan(
    monkeypatch,
) -> None:
    monkeypatch.setattr(prewarming, "LOOK_SECONDS", 0.0)
    asked, kept = Asked(), Kept()
    keeping = Prewarming(cast("Gateways", asked), 1000, lambda each: each.name == "vm2")
    looks = keeping.keep(cast("Store", kept))

    await anext(looks)
    assert asked.warm_disks == {"vm1": False, "vm2": True}
    kept.stored = replace(kept.stored, status=PlanStatus.SUPERSEDED)
    await anext(looks)
    assert asked.warm_disks == {}
