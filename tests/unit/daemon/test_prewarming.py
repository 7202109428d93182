"""VMs of a plan that waits are kept warm within its budget, with their disks where these would move, too."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import cast

import pytest
from structlog.testing import capture_logs

from tests.unit.execute.plans import plan, step
from tests.unit.plan.worlds import price, vm, world
from transhume.daemon import prewarming
from transhume.daemon.prewarming import Prewarming
from transhume.deployment.model import PrewarmBudget
from transhume.errors import GatewayUnreachable
from transhume.execute.migration.gateways import Gateways
from transhume.knowledge.model import (
    PlanStatus,
    PriceTick,
    Resources,
    Snapshot,
    Step,
    Transfer,
    Vm,
    VmName,
)
from transhume.knowledge.records import StoredPlan
from transhume.knowledge.store import Store

GB = 10**9
AMPLE = PrewarmBudget(bytes_per_vm=1000)
MONEY = PrewarmBudget(bytes_per_vm=100 * GB, dollars=0.40)


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prewarming, "LOOK_SECONDS", 0.0)


@dataclass(slots=True)
class Warmed:
    """A VM that a gateway was asked to keep warm."""

    ends: tuple[str, ...]
    disks: bool
    most_bytes: int
    bytes_per_second: float | None
    sent_bytes: int = 0


class Asked:
    """Gateways that remember what they were asked for."""

    def __init__(self) -> None:
        self.clients = {"a": None, "b": None, "c": None}
        self.warm_vms: dict[str, Warmed] = {}
        self.forgetful = False
        self.reached = True
        self.refuses: set[str] = set()
        self.broken: set[tuple[str, str]] = set()

    async def broken_off(self, source: str) -> set[tuple[str, str]]:
        if not self.reached:
            raise GatewayUnreachable(source, "here", "nobody")
        return self.broken

    async def warm(
        self,
        vm: VmName,
        *ends: str,
        most_wire_bytes: int,
        bytes_per_second: float | None,
        disks: bool,
    ) -> None:
        if not self.reached or vm in self.refuses:
            raise GatewayUnreachable("a", "here", "nobody")
        self.warm_vms[vm] = Warmed(ends, disks, most_wire_bytes, bytes_per_second)

    async def cool(self, vm: VmName, *_ends: str) -> Transfer | None:
        if not self.reached:
            raise GatewayUnreachable("a", "here", "nobody")
        if vm not in self.warm_vms:
            return None
        sent = Transfer(wire_bytes=self.warm_vms.pop(vm).sent_bytes)
        return None if self.forgetful else sent

    @property
    def budgets_gb(self) -> dict[str, float]:
        return {vm: round(warmed.most_bytes / GB, 3) for vm, warmed in self.warm_vms.items()}


def sized(name: str, memory_gb: int) -> Vm:
    return vm(name, needs=Resources(vcpus=1, memory_bytes=memory_gb * GB))


class Kept:
    """A store with one plan."""

    def __init__(self, *steps: Step, egress: float | None = 0.1) -> None:
        self.steps(*steps)
        self.prices: list[PriceTick] = []
        if egress is not None:
            self.costs(egress)

    def steps(self, *steps: Step) -> None:
        self.stored = StoredPlan(plan=plan(*steps), status=PlanStatus.AWAITING_APPROVAL)

    def costs(self, egress: float) -> None:
        self.prices = [price("a", 1.0, egress=egress)]

    async def plans(self, limit: int) -> list[StoredPlan]:
        return [self.stored][:limit]

    async def snapshot(self) -> Snapshot:
        vms = [sized("vm1", 1), sized("vm2", 3)]
        return world({"a1": vms}, room={"a1": 9, "b1": 9, "c1": 9}, prices=self.prices)


def keeping(asked: Asked, budget: PrewarmBudget) -> Prewarming:
    return Prewarming(cast("Gateways", asked), budget, lambda each: each.name == "vm2")


async def test_disks_go_ahead_where_they_would_be_copied_and_all_ends_with_the_plan() -> None:
    asked, kept = Asked(), Kept(step(1), step(2))
    looks = keeping(asked, AMPLE).keep(cast("Store", kept))

    await anext(looks)
    assert {name: each.disks for name, each in asked.warm_vms.items()} == {
        "vm1": False,
        "vm2": True,
    }
    assert {each.most_bytes for each in asked.warm_vms.values()} == {1000}
    kept.stored = replace(kept.stored, status=PlanStatus.SUPERSEDED)
    await anext(looks)
    assert asked.warm_vms == {}


async def test_gateways_are_told_the_rate() -> None:
    asked = Asked()
    budget = replace(AMPLE, bytes_per_second=2e7)
    await anext(keeping(asked, budget).keep(cast("Store", Kept(step(1)))))
    assert asked.warm_vms["vm1"].bytes_per_second == 2e7


async def test_money_is_shared_out_and_nothing_is_begun_anew_where_all_is_as_it_was() -> None:
    asked, kept = Asked(), Kept(step(1), step(2))
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    await anext(looks)
    assert asked.budgets_gb == {"vm1": 1.0, "vm2": 3.0}
    before = dict(asked.warm_vms)
    await anext(looks)
    assert all(asked.warm_vms[name] is each for name, each in before.items())


async def test_a_plan_that_grows_shares_out_what_is_left_of_its_money() -> None:
    asked, kept = Asked(), Kept(step(1))
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    await anext(looks)
    assert asked.budgets_gb == {"vm1": 4.0}
    asked.warm_vms["vm1"].sent_bytes = 2 * GB
    kept.steps(step(1), step(2))
    await anext(looks)
    assert asked.budgets_gb == {"vm1": 0.5, "vm2": 1.5}


async def test_when_egress_gets_dearer_the_rest_of_the_money_is_fewer_bytes() -> None:
    asked, kept = Asked(), Kept(step(1))
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    await anext(looks)
    asked.warm_vms["vm1"].sent_bytes = 2 * GB
    kept.costs(0.4)
    await anext(looks)
    assert asked.budgets_gb == {"vm1": 0.5}


@pytest.mark.parametrize("fails", [False, True])
async def test_a_daemon_that_is_started_again_goes_on_with_what_was_spent(fails: bool) -> None:
    asked, kept = Asked(), Kept(step(1), step(2))
    await anext(keeping(asked, MONEY).keep(cast("Store", kept)))
    asked.warm_vms["vm1"].sent_bytes = GB
    asked.warm_vms["vm2"].sent_bytes = GB
    asked.reached = not fails
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    await anext(looks)
    assert asked.budgets_gb == ({"vm1": 1.0, "vm2": 3.0} if fails else {"vm1": 0.5, "vm2": 1.5})
    asked.reached = True
    before = dict(asked.warm_vms)
    await anext(looks)
    assert all(asked.warm_vms[name] is each for name, each in before.items())


@pytest.mark.parametrize("how", ["forgetful", "unreachable"])
async def test_what_nobody_tells_the_cost_of_counts_as_spent_to_the_last(how: str) -> None:
    """A gateway that was started again meanwhile doesn't know what it has sent."""
    asked, kept = Asked(), Kept(step(1), step(2))
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    await anext(looks)
    asked.forgetful, asked.reached = how == "forgetful", how == "forgetful"
    kept.costs(0.2)
    await anext(looks)
    asked.reached = True
    asked.warm_vms.clear()
    kept.costs(0.1)
    await anext(looks)
    assert asked.warm_vms == {}


async def test_who_was_refused_has_spent_nothing() -> None:
    asked, kept = Asked(), Kept(step(1))
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    asked.reached = False
    await anext(looks)
    asked.reached = True
    kept.costs(0.2)
    await anext(looks)
    assert asked.budgets_gb == {"vm1": 2.0}


async def test_for_money_nothing_is_sent_until_somebody_tells_a_price() -> None:
    asked, kept = Asked(), Kept(step(1), egress=None)
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    await anext(looks)
    assert asked.warm_vms == {}
    kept.costs(0.0)
    await anext(looks)
    assert asked.budgets_gb == {"vm1": 100.0}


async def test_free_egress_goes_on_untouched_when_the_plan_changes() -> None:
    asked, kept = Asked(), Kept(step(1), egress=0.0)
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    await anext(looks)
    first = asked.warm_vms["vm1"]
    kept.steps(step(1), step(2))
    await anext(looks)
    assert asked.warm_vms["vm1"] is first
    assert asked.budgets_gb == {"vm1": 100.0, "vm2": 100.0}


async def test_a_vm_that_is_parked_on_its_way_is_warmed_where_it_goes_first() -> None:
    there = replace(step(1), destination_cloud="c")
    onwards = replace(step(1), source_cloud="c", destination_cloud="b", stage=1)
    asked = Asked()
    await anext(keeping(asked, MONEY).keep(cast("Store", Kept(there, onwards))))
    assert asked.warm_vms["vm1"].ends == ("a", "c")
    assert asked.budgets_gb == {"vm1": 4.0}


async def looks_until(looks: AsyncIterator[None], met: Callable[[], bool]) -> int:
    """Look again and again until something is so; return how often that was."""
    for count in range(1000):
        if met():
            return count
        await anext(looks)
    raise AssertionError("it never is")


@pytest.mark.parametrize("budget", [AMPLE, MONEY], ids=["bytes", "money"])
async def test_what_broke_off_with_its_link_is_begun_again_with_what_is_left(
    budget: PrewarmBudget,
) -> None:
    asked, kept = Asked(), Kept(step(1))
    looks = keeping(asked, budget).keep(cast("Store", kept))
    await anext(looks)
    first = asked.warm_vms["vm1"]
    first.sent_bytes = first.most_bytes // 4
    await anext(looks)
    assert asked.warm_vms["vm1"] is first
    asked.broken = {("vm1", "b"), ("vm2", "b")}
    await looks_until(looks, lambda: asked.warm_vms["vm1"] is not first)
    assert asked.warm_vms["vm1"].most_bytes == pytest.approx(first.most_bytes * 3 / 4)


async def test_who_could_not_be_warmed_is_tried_again_ever_less_often_and_told_of_once() -> None:
    asked, kept = Asked(), Kept(step(1))
    asked.reached = False
    looks = keeping(asked, AMPLE).keep(cast("Store", kept))
    with capture_logs() as logs:
        for _ in range(500):
            await anext(looks)
    assert [line["event"] for line in logs] == ["not_warmed"]
    asked.reached = True
    count = await looks_until(looks, lambda: "vm1" in asked.warm_vms)
    assert 0 < count <= prewarming.MOST_LOOKS_UNTIL_AGAIN


@pytest.mark.parametrize("how", ["refused", "broken off"])
async def test_others_stay_warm_while_one_is_tried_again(how: str) -> None:
    """Begun anew, all of their memory and disks would be read again, and nobody knew meanwhile what is warm."""
    asked, kept = Asked(), Kept(step(1), step(2))
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    if how == "refused":
        asked.refuses = {"vm1"}
    await anext(looks)
    other, first = asked.warm_vms["vm2"], asked.warm_vms.get("vm1")
    if first is not None:
        first.sent_bytes, asked.broken = GB // 4, {("vm1", "b")}
    for _ in range(2 * prewarming.LOOKS_UNTIL_AGAIN):
        await anext(looks)
        assert asked.warm_vms["vm2"] is other
    asked.refuses, asked.broken = set(), set()
    await looks_until(looks, lambda: asked.warm_vms.get("vm1") not in (None, first))
    assert asked.warm_vms["vm2"] is other
    assert asked.budgets_gb == {"vm1": 1.0 if first is None else 0.75, "vm2": 3.0}


async def test_what_an_earlier_daemon_spent_of_others_shares_is_taken_back_from_them() -> None:
    """It couldn't be told as this one began."""
    asked, kept = Asked(), Kept(step(1), step(2))
    await anext(keeping(asked, MONEY).keep(cast("Store", kept)))
    asked.warm_vms["vm1"].sent_bytes, asked.reached = 2 * GB, False
    looks = keeping(asked, MONEY).keep(cast("Store", kept))
    await anext(looks)
    asked.reached, first = True, asked.warm_vms["vm1"]
    await looks_until(looks, lambda: asked.warm_vms["vm1"] is not first)
    assert asked.budgets_gb == {"vm1": 0.5, "vm2": 1.5}


async def test_what_breaks_off_again_and_again_is_begun_ever_less_often() -> None:
    asked, kept = Asked(), Kept(step(1))
    asked.broken = {("vm1", "b")}
    looks = keeping(asked, AMPLE).keep(cast("Store", kept))
    begun, last = [], None
    for count in range(100):
        await anext(looks)
        if asked.warm_vms["vm1"] is not last:
            begun.append(count)
            last = asked.warm_vms["vm1"]
    pauses = [later - sooner for sooner, later in pairwise(begun)]
    assert len(pauses) > 2
    assert pauses == sorted(set(pauses))
