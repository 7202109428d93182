"""Moves for money: what pays moves, together; what doesn't stays, and the reason says which limit it was."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.plan.scenario import (
    BLAST,
    DEAR_A,
    DEAR_EGRESS,
    NAMES,
    ON_BLAST,
    WEB,
    blast,
    planned,
    policy,
    two_clusters,
    unplanned,
    ways,
    web,
)
from tests.unit.plan.worlds import MB, NOW, moved, notice, price, ring, traffic, vm
from transhume.knowledge.model import CloudName, JobName, MoveKind, Plan, Progress
from transhume.plan import PlannerSettings, make_plan
from transhume.policies.model import (
    AvailabilityGoal,
    DeadlineGoal,
    ElectiveLimits,
    MoveBudget,
    Pin,
    Policy,
    PriceGoal,
    Selector,
)


def test_only_the_group_that_the_policy_is_about_goes_to_the_cheaper_cloud() -> None:
    plan = planned(two_clusters(), policy(applies_to=ON_BLAST))

    assert ways(plan) == dict.fromkeys(BLAST, "b")
    assert plan.optimal
    assert {step.kind for step in plan.steps} == {MoveKind.ELECTIVE}
    assert {step.group for step in plan.steps} == {"g-blast"}


def test_vms_whose_job_is_done_move_for_money_after_its_deadline() -> None:
    """Each second that a move takes would cost a dollar, for a job that isn't there any more."""
    job = JobName("render")
    over = policy(
        deadline=DeadlineGoal(at=NOW - timedelta(hours=1), work_seconds=600, progress_job=job)
    )
    done = Progress(job=job, at=NOW - timedelta(hours=2), done=4000, total=4000)

    assert len(planned(replace(two_clusters(), progress={job: done}), over).steps) == 6
    unplanned(two_clusters(), over)  # nobody said that it's done: it's late, and would be later


def test_a_group_tied_to_a_pinned_member_by_its_traffic_stays_while_the_free_one_moves() -> None:
    """Without vm6 the other two would pay more for crossing than they save."""
    pinned = policy(rules=(Pin(who=Selector(vms=("vm6",)), cloud=CloudName("a")),))

    plan = planned(two_clusters(prices=DEAR_EGRESS), pinned)

    assert ways(plan) == dict.fromkeys(BLAST, "b")


def test_a_group_whose_outside_traffic_is_dearer_in_the_cheap_cloud_stays() -> None:
    matrix = traffic(
        NAMES, ring(BLAST, 2 * MB) | ring(WEB, 2 * MB), outside={"vm2": 10 * MB, "vm4": 10 * MB}
    )
    prices = (price("a", 0.20, egress=0.0), price("b", 0.05, egress=0.09))

    plan = planned(two_clusters(matrix=matrix, prices=prices), policy())

    assert ways(plan) == dict.fromkeys(BLAST, "b")


def test_a_split_group_is_joined_when_crossing_costs_more_than_moving() -> None:
    even = (price("a", 0.05), price("b", 0.05))
    split = two_clusters(placement={"a1": [*blast[:2], *web], "b1": blast[2:]}, prices=even)

    plan = planned(split, policy())

    assert ways(plan) == {"vm5": "a"}
    assert "joins vm1, vm3 in a" in plan.steps[0].reason


def test_nothing_is_done_when_nothing_is_cheaper() -> None:
    nothing = unplanned(two_clusters(prices=(price("a", 0.05), price("b", 0.05))), policy())

    assert nothing.reason == "no rule is broken, and no other placement is cheaper"
    assert nothing.best_alternative is None


def test_nothing_is_done_where_no_policy_governs() -> None:
    nothing = unplanned(two_clusters(), policy(applies_to=Selector(vms=("nobody",))))

    assert "no policy applies" in nothing.reason
    assert nothing.policies == ()


def test_vms_on_their_way_are_left_alone() -> None:
    plan = planned(two_clusters(moving=["vm1"]), policy())

    assert "vm1" not in ways(plan)


PRICEY = (price("a", 0.055, egress=0.09), price("b", 0.05, egress=0.09))
LIMITS = [
    pytest.param(
        {"outcomes": [moved(name, ago=600) for name in NAMES]},
        policy(elective=ElectiveLimits(min_gain=0.0, cooldown_seconds=3600)),
        "vm1 moved not long ago and rests until 12:50:00 UTC",
        id="cool-down",
    ),
    pytest.param(
        {"prices": (price("a", 0.051), price("b", 0.05))},
        policy(elective=ElectiveLimits(min_gain=0.05)),
        "it asks for at least 5%",
        id="minimum gain",
    ),
    pytest.param(
        {"prices": PRICEY},
        policy(price=PriceGoal(payback_seconds=600)),
        "doesn't pay for itself within 10m",
        id="payback",
    ),
    pytest.param(
        {"prices": DEAR_EGRESS},
        policy(elective=ElectiveLimits(budgets=(MoveBudget(moves=2, per_seconds=3600),))),
        "the budget of policy cheap, 2 moves per 1h",
        id="budget",
    ),
    pytest.param(
        {"room": {"a1": 6, "b1": 2}, "prices": DEAR_EGRESS},
        policy(),
        "b has 0 free vCPUs",
        id="capacity",
    ),
    pytest.param(
        {},
        policy(rules=(Pin(who=Selector(), cloud=CloudName("a")),)),
        "policy cheap pins vm1 to a",
        id="rule",
    ),
]


@pytest.mark.parametrize(("changes", "limited", "why"), LIMITS)
def test_the_limit_that_stops_a_move_is_named_with_what_the_move_would_save(
    changes: dict[str, object], limited: Policy, why: str
) -> None:
    nothing = unplanned(two_clusters(**changes), limited)

    assert why in nothing.reason
    assert "would save" in nothing.reason
    assert nothing.best_alternative is not None
    assert nothing.best_alternative.total < nothing.before.total


def test_the_cooldown_is_over_when_it_is_over() -> None:
    rested = two_clusters(outcomes=[moved(name, ago=3601) for name in NAMES])

    plan = planned(rested, policy(elective=ElectiveLimits(cooldown_seconds=3600)))

    assert set(ways(plan)) == set(NAMES)


def test_past_moves_count_against_the_budget() -> None:
    budget = ElectiveLimits(cooldown_seconds=0, budgets=(MoveBudget(moves=4, per_seconds=3600),))
    spent = two_clusters(
        outcomes=[moved("vm2", ago=60), moved("vm4", ago=7200)], prices=DEAR_EGRESS
    )

    plan = planned(spent, policy(elective=budget))

    assert len(plan.steps) == 3, "one of the four was spent; the one two hours ago no longer counts"


def test_a_small_gain_is_worth_having_when_the_budget_is_overdrawn() -> None:
    cheaper = two_clusters(prices=(price("a", 0.051), price("b", 0.05)))
    overdrawn = policy(
        price=PriceGoal(budget_dollars_per_hour=0.1), elective=ElectiveLimits(min_gain=0.05)
    )

    assert set(ways(planned(cheaper, overdrawn))) == set(NAMES)


def test_where_nothing_brings_the_bill_below_the_budget_that_is_said() -> None:
    """Both clouds ask the same, and 0.30 are spent."""
    overdrawn = policy(price=PriceGoal(budget_dollars_per_hour=0.25))
    level = (price("a", 0.05), price("b", 0.05))

    nothing = unplanned(two_clusters(prices=level), overdrawn)

    assert nothing.reason.endswith("; the VMs of policy cheap cost more than its budget of $0.25/h")
    within = policy(price=PriceGoal(budget_dollars_per_hour=0.5))
    assert "budget" not in unplanned(two_clusters(prices=level), within).reason


def test_over_its_budget_a_policy_still_waits_for_its_payback() -> None:
    slow = policy(price=PriceGoal(budget_dollars_per_hour=0.1, payback_seconds=600))

    assert (
        "doesn't pay for itself within 10m" in unplanned(two_clusters(prices=PRICEY), slow).reason
    )


def test_the_stricter_of_two_policies_decides() -> None:
    strict = policy("strict", elective=ElectiveLimits(cooldown_seconds=3600))
    recently = two_clusters(outcomes=[moved(name, ago=60) for name in NAMES])

    assert "rests until" in unplanned(recently, policy("lax"), strict).reason


def test_vms_that_cost_nothing_are_refused_like_others_where_their_going_along_gains_too_little() -> (
    None
):
    """`y` would leave a dear way to outside; `x` talks to it, and runs for nothing as long as it stays."""
    free = two_clusters(
        placement={"a1": [vm("x"), vm("y")]},
        room={"a1": 2, "b1": 2},
        prices=(price("a", 0.0, egress=1.0), price("b", 0.01, egress=0.0)),
        matrix=traffic(("x", "y"), ring(("x", "y"), 10 * MB), outside={"y": 10 * MB}),
        groups=(),
    )
    apart = [policy(f"of-{name}", applies_to=Selector(vms=(name,))) for name in ("x", "y")]

    assert unplanned(free, *apart).reason == (
        "moving x would save -$0.022/h, the VMs of policy of-x cost nothing; it asks for at least 0%"
    )


def test_a_cloud_without_a_price_is_no_destination_for_money() -> None:
    nothing = unplanned(two_clusters(prices=DEAR_A[:1]), policy())

    assert "b told no price" in nothing.reason


@pytest.mark.parametrize("left", [600, -60], ids=["to come", "just over"])
def test_a_cloud_under_notice_is_no_destination(left: float) -> None:
    nothing = unplanned(two_clusters(notices=[notice("b", left)]), policy())

    assert nothing.best_alternative is None


def test_the_preferred_cloud_breaks_a_tie_and_isnt_billed() -> None:
    even = two_clusters(
        prices=(price("a", 0.20), price("b", 0.05), price("c", 0.05)),
        room={"a1": 6, "b1": 6, "c1": 6},
    )
    c_first = policy(availability=AvailabilityGoal(prefer=(CloudName("c"),)))

    plan = planned(even, c_first)

    assert set(ways(plan).values()) == {"c"}
    assert plan.after.running == pytest.approx(6 * 0.05)


def test_the_savings_of_the_steps_add_up_to_the_plans_and_the_payback_is_the_groups() -> None:
    plan = planned(two_clusters(), policy(applies_to=ON_BLAST))

    assert sum(s.saving_dollars_per_hour for s in plan.steps) == pytest.approx(3 * 0.15)
    once = sum(s.prediction.dollars + s.split_dollars for s in plan.steps)
    expected = once / (3 * 0.15) * 3600
    assert [s.payback_seconds for s in plan.steps] == pytest.approx([expected] * 3)


def test_the_same_snapshot_gives_the_same_plan_and_a_newer_one_another_name() -> None:
    snapshot = two_clusters()

    first, again = planned(snapshot, policy()), planned(snapshot, policy())
    newer = planned(replace(snapshot, version=8), policy())

    assert first == again
    assert first.id != newer.id


def test_elective_moves_leave_room_for_those_on_their_way_in_large_clouds() -> None:
    """Two per cent of 100 places are two; the VMs there already are no reason to keep less."""
    many = [vm(f"v{n:03}") for n in range(100)]

    def moved_with(headroom: float, room: int) -> int:
        crowd = two_clusters(
            placement={"a1": many}, room={"a1": 100, "b1": room}, matrix=None, groups=()
        )
        settings = PlannerSettings(transit_headroom=headroom, most_proved_vms=1000)
        result = make_plan(crowd, [policy()], trigger="a test", settings=settings)
        return len(result.steps) if isinstance(result, Plan) else 0

    assert moved_with(0.02, 100) == 98
    assert moved_with(0.0, 100) == 100
    assert moved_with(0.02, 20) == 20, "the share of so small a cloud holds no VM"


def test_an_evacuation_takes_the_headroom_too() -> None:
    many = [vm(f"v{n:03}") for n in range(60)]
    crowd = two_clusters(
        placement={"a1": many},
        room={"a1": 60, "b1": 60},
        matrix=None,
        groups=(),
        notices=[notice("a", 3600)],
    )
    settings = PlannerSettings(transit_headroom=0.05)

    result = make_plan(crowd, [policy()], trigger="a test", settings=settings)

    assert isinstance(result, Plan)
    assert len(result.steps) == 60


def test_what_a_group_costs_while_it_is_split_can_keep_it_where_it_is() -> None:
    """Moving three VMs takes 20 s over this link, in which their traffic crosses at $0.05 a gigabyte."""
    busy = traffic(NAMES, ring(BLAST, 400 * MB))
    hasty = policy(applies_to=ON_BLAST, price=PriceGoal(payback_seconds=600))
    calm = planned(two_clusters(), hasty)

    assert 0 < sum(step.split_dollars for step in calm.steps) < 0.01
    nothing = unplanned(two_clusters(matrix=busy), hasty)
    assert "doesn't pay for itself within 10m" in nothing.reason


def test_a_group_goes_together_where_moves_may_share_a_link_each_with_its_share() -> None:
    asked = [policy(applies_to=ON_BLAST)]
    shared = PlannerSettings(moves_per_link=4)
    plan = make_plan(two_clusters(), asked, trigger="a test", settings=shared)
    assert isinstance(plan, Plan)
    alone = planned(two_clusters(), *asked)

    assert {step.starts_after_seconds for step in plan.steps} == {0.0}
    assert {step.bytes_per_second for step in plan.steps} == {alone.steps[0].bytes_per_second / 4}
    assert len({step.starts_after_seconds for step in alone.steps}) == 3
