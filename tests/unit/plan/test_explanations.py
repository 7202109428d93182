"""Why each VM goes or stays: said of small federations, and held against what the planner then does."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.plan.scenario import (
    BLAST,
    DEAR_A,
    EAGER,
    NAMES,
    ON_BLAST,
    blast,
    planned,
    policy,
    two_clusters,
    unplanned,
    web,
)
from tests.unit.plan.test_explain import flat
from tests.unit.plan.worlds import MB, moved, notice, price, ring, traffic, vm, world
from transhume.knowledge.codec import decode, encode
from transhume.knowledge.model import (
    CloudName,
    Explanation,
    Hindrance,
    NoPlan,
    Parameter,
    Plan,
    Snapshot,
    TurningPoint,
    VmName,
)
from transhume.plan import PlannerSettings, explain_vm, make_plan
from transhume.policies.model import (
    ElectiveLimits,
    Forbid,
    MoveBudget,
    Pin,
    Policy,
    PriceGoal,
    Quota,
    Selector,
    Together,
)

THREE = (price("a", 0.20), price("b", 0.05), price("c", 0.10))
ALONE = [vm(name) for name in ("vm1", "vm2", "vm3")]


def alone(**changes: Any) -> Snapshot:
    """Return three VMs in a that talk to nobody, with room for all in b."""
    known: dict[str, Any] = {
        "prices": DEAR_A,
        "placement": {"a1": ALONE},
        "room": {"a1": 3, "b1": 3},
    }
    return world(**(known | changes))


def explained(result: Plan | NoPlan, name: str = "vm1") -> Explanation:
    return result.explanations[VmName(name)]


def text_of(result: Plan | NoPlan, name: str = "vm1") -> str:
    return flat(explain_vm(explained(result, name), result.limits, 21600.0))


def point_of(explanation: Explanation, parameter: Parameter, about: str) -> TurningPoint:
    return next(
        point
        for point in explanation.turning_points
        if (point.parameter, point.about) == (parameter, about)
    )


# why it moves, and why there


def test_a_bundle_is_weighed_as_one_and_each_of_it_alone() -> None:
    found = explained(planned(two_clusters(), policy(applies_to=ON_BLAST)))

    assert (found.cloud, found.destination, found.policies) == ("a", "b", ("cheap",))
    assert found.bundle == BLAST
    assert [(a.stays, a.alone) for a in found.alternatives] == [(True, False), (True, True)]
    together, by_itself = (a.dollars_per_hour or 0.0 for a in found.alternatives)
    assert together == pytest.approx(3 * 0.15, abs=0.01)
    assert by_itself > together
    assert found.runner_up == found.alternatives[0]


def test_the_bill_of_a_vm_names_the_peer_whose_traffic_is_paid_for() -> None:
    apart = world(
        {"a1": [vm("db")], "b1": [vm("web")]},
        room={"a1": 1, "b1": 2},
        prices=(price("a", 0.05), price("b", 0.05)),
        matrix=traffic(("db", "web"), {("db", "web"): 5 * MB}),
    )

    plan = planned(apart, policy())

    (egress,) = (line for line in explained(plan, "db").bill if line.cause == "egress")
    assert (egress.about, egress.then) == ("web", 0.0)
    assert egress.now == pytest.approx(5 * MB * 3600 / 1e9 * 0.05)
    assert "traffic with web $0.90/h $0.00/h" in text_of(plan, "db")


def test_a_cheaper_cloud_that_a_policy_forbids_is_told_with_the_policys_name() -> None:
    forbidding = policy(rules=(Forbid(who=Selector(vms=("vm1",)), clouds=(CloudName("c"),)),))
    prices = (price("a", 0.20), price("b", 0.05), price("c", 0.01))

    plan = planned(alone(prices=prices, room={"a1": 3, "b1": 3, "c1": 3}), forbidding)

    barred = explained(plan).alternatives[0]
    assert barred.cloud == "c"
    assert barred.barred == "policy cheap forbids c to vm1"
    assert barred.hindrances == (Hindrance.RULE,)
    assert (barred.dollars_per_hour or 0.0) < 0
    assert "the rule is lifted: c would save $0.040/h" in text_of(plan)
    assert plan.limits[0].about == "policy cheap forbids c to vm1"


def test_an_evacuation_names_the_notice_and_the_policy_that_heeds_it() -> None:
    plan = planned(two_clusters(notices=[notice("a", 120)]), policy())

    (demand,) = explained(plan).demands
    assert demand == "a will be gone at 12:02:00 UTC (policy cheap evacuates on notice)"


# what would change the answer


@pytest.mark.parametrize("cloud", ["a", "b"])
def test_past_a_price_that_is_told_the_planner_decides_otherwise(cloud: str) -> None:
    point = point_of(explained(planned(alone(), policy())), Parameter.VCPU_PRICE, cloud)

    def with_price(dollars: float) -> Plan | NoPlan:
        prices = [t if t.cloud != cloud else price(cloud, dollars) for t in DEAR_A]
        return make_plan(alone(prices=prices), [policy()], trigger="a test")

    further = 1.001 if point.above else 0.999
    assert point.stays
    assert isinstance(with_price(point.threshold / further), Plan)
    assert isinstance(with_price(point.threshold * further), NoPlan)


def test_past_the_traffic_that_is_told_the_planner_decides_otherwise() -> None:
    def apart(rate: float) -> Snapshot:
        return world(
            {"a1": [vm("db")], "b1": [vm("web")]},
            room={"a1": 1, "b1": 2},
            prices=(price("a", 0.05), price("b", 0.06)),
            matrix=traffic(("db", "web"), {("db", "web"): rate}),
        )

    point = point_of(explained(planned(apart(5 * MB), policy()), "db"), Parameter.TRAFFIC, "web")

    assert not point.above
    assert isinstance(make_plan(apart(point.threshold * 1.01), [policy()], trigger="x"), Plan)
    assert isinstance(make_plan(apart(point.threshold * 0.99), [policy()], trigger="x"), NoPlan)


def test_with_the_room_that_is_told_to_lack_the_vm_moves() -> None:
    placement = {"a1": ALONE, "b1": [vm("other")]}
    ours = policy(applies_to=Selector(vms=("vm*",)))
    full = unplanned(alone(placement=placement, room={"a1": 3, "b1": 1}), ours)

    vcpus = point_of(explained(full), Parameter.VCPUS, "b")
    assert (vcpus.now, vcpus.threshold) == (0.0, 1.0)
    assert "b has 1 more vCPU and 96 MiB more memory free: b is cheaper" in text_of(full)
    assert planned(alone(placement=placement, room={"a1": 3, "b1": 2}), ours).steps


def test_with_the_payback_that_is_told_the_vm_moves() -> None:
    def hasty(seconds: float) -> Policy:
        return policy(price=PriceGoal(payback_seconds=seconds))

    nothing = unplanned(alone(), hasty(30.0))

    point = point_of(explained(nothing), Parameter.PAYBACK, "")
    assert "running in b would save $0.15/h, but the move has paid" in explained(nothing).reason
    assert planned(alone(), hasty(point.threshold * 1.01)).steps
    assert unplanned(alone(), hasty(point.threshold * 0.99))


# what binds, and its price


def test_one_more_move_is_worth_what_the_planner_saves_with_it() -> None:
    def sparing(moves: int) -> Policy:
        budget = MoveBudget(moves=moves, per_seconds=3600.0)
        return policy(elective=replace(EAGER, budgets=(budget,)))

    one, two = (planned(alone(), sparing(moves)) for moves in (1, 2))

    (limit,) = one.limits
    assert (limit.kind, limit.looser, limit.least) == (Hindrance.BUDGET, "one more move", False)
    assert limit.about == "1 move per 1h of policy cheap"
    assert limit.saves_dollars_per_hour == pytest.approx(one.after.total - two.after.total)


def test_room_for_one_more_vm_is_worth_what_the_planner_saves_with_it() -> None:
    small, large = (planned(alone(room={"a1": 3, "b1": n}), policy()) for n in (1, 2))

    (limit,) = small.limits
    assert limit.looser.startswith("1 vCPU and 96 MiB more, for vm")
    assert limit.saves_dollars_per_hour == pytest.approx(small.after.total - large.after.total)


def test_one_more_vm_of_a_quota_is_priced() -> None:
    few, more = (
        planned(alone(), policy(rules=(Quota(cloud=CloudName("b"), vms=n),))) for n in (1, 2)
    )

    (limit,) = few.limits
    assert (limit.kind, limit.about) == (Hindrance.QUOTA, "policy cheap allows 1 VM in b")
    assert limit.saves_dollars_per_hour == pytest.approx(few.after.total - more.after.total)


def test_a_rule_that_keeps_vms_together_is_priced_by_planning_without_it() -> None:
    together = policy(
        rules=(
            Together(who=Selector(vms=("vm1", "vm2"))),
            Pin(who=Selector(vms=("vm2",)), cloud=CloudName("a")),
        )
    )

    bound = planned(alone(), together)
    free = planned(alone(), policy(rules=together.rules[1:]))

    prices = {limit.kind: limit.saves_dollars_per_hour for limit in bound.limits}
    assert prices[Hindrance.TOGETHER] == pytest.approx(bound.after.total - free.after.total)


# why it stays


def test_a_vm_that_rests_is_told_until_when_and_what_its_group_would_save() -> None:
    resting = two_clusters(outcomes=[moved(name, ago=60) for name in NAMES])

    nothing = unplanned(resting, policy(elective=ElectiveLimits(cooldown_seconds=3600)))

    assert explained(nothing).reason == (
        "b would save $0.45/h, 3 VMs moving as one, but vm1, vm3, vm5 moved not long ago and rest "
        "until 12:59:00 UTC"
    )


def test_a_plan_explains_those_too_that_it_leaves_where_they_are() -> None:
    plan = planned(two_clusters(prices=THREE, room={"a1": 6, "b1": 4, "c1": 2}), policy())

    stays = next(each for each in plan.explanations.values() if each.destination is None)
    assert stays.reason.startswith(
        "b would save $0.45/h, 3 VMs moving as one, but they need 3 vCPUs"
    )
    assert {step.vm for step in plan.steps}.isdisjoint({stays.vm})


def test_where_it_is_cheapest_already_the_next_best_is_told() -> None:
    nothing = unplanned(alone(prices=(price("a", 0.05), price("b", 0.2))), policy())

    assert explained(nothing).reason.startswith(
        "no other place is cheaper: b, the next best, costs $0.15/h"
    )


def test_a_vm_on_its_way_is_left_alone() -> None:
    plan = planned(alone(moving=["vm1"]), policy())

    assert explained(plan).reason == "it's on its way already"


def test_a_vm_of_no_policy_is_said_to_be_of_none() -> None:
    plan = planned(two_clusters(), policy(applies_to=ON_BLAST))

    stranger = explained(plan, "vm2")
    assert (stranger.policies, stranger.destination) == ((), None)
    assert "no policy selects it" in stranger.reason


# how many, and how they are kept


def test_as_many_vms_are_explained_as_the_settings_say_those_that_move_first() -> None:
    snapshot = two_clusters(placement={"a1": blast, "b1": web}, room={"a1": 3, "b1": 6})
    plan, silent = (
        make_plan(
            snapshot, [policy()], trigger="x", settings=PlannerSettings(most_explained_vms=count)
        )
        for count in (3, 0)
    )

    assert tuple(plan.explanations) == BLAST
    assert not silent.explanations
    assert not silent.limits


def test_plans_of_before_there_were_explanations_can_be_read() -> None:
    plan = replace(planned(alone(), policy()), explanations={}, limits=())
    old = encode(plan).replace(b',"explanations":{},"limits":[]', b"")

    assert b"explanations" not in old
    assert decode(Plan, old) == plan


def test_without_traffic_between_them_vms_are_weighed_one_by_one() -> None:
    chatty = alone(matrix=traffic(NAMES[:3], ring(NAMES[:3], 2 * MB)))

    assert explained(planned(alone(), policy())).bundle_size == 1
    assert explained(planned(chatty, policy())).bundle_size == 3
