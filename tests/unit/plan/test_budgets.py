"""Budgets of elective moves: by stretch of time and by the calendar; in moves, bytes and dollars."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from tests.unit.plan.scenario import (
    EAGER,
    NAMES,
    planned,
    policy,
    two_clusters,
    unplanned,
    ways,
)
from tests.unit.plan.worlds import NOW, SMALL, moved, notice, price, vm
from transhume.knowledge.model import (
    Cloud,
    CloudName,
    Host,
    HostName,
    Measurement,
    MoveKind,
    Placement,
    Plan,
    PlanId,
    Resources,
    Snapshot,
    StepResult,
)
from transhume.plan import find_faults, make_plan
from transhume.policies.calendar import Hours, Weekday
from transhume.policies.model import ElectiveLimits, MoveBudget, Policy

ROME = ZoneInfo("Europe/Rome")
WORK = Hours(
    begins_minute=8 * 60,
    ends_minute=18 * 60,
    days=(Weekday.MON, Weekday.TUE, Weekday.WED, Weekday.THU, Weekday.FRI),
    timezone=ROME,
)
FREE_EGRESS = (price("a", 0.20, egress=0.0), price("b", 0.05, egress=0.0))


def within(*budgets: MoveBudget, **limits: Any) -> Policy:
    elective = ElectiveLimits(min_gain=0.0, cooldown_seconds=0.0, budgets=budgets, **limits)
    return policy(elective=elective)


def apart(**changes: Any) -> Snapshot:
    """Return six VMs in a that don't talk, so that each may go to cheap b by itself."""
    return two_clusters(**({"prices": FREE_EGRESS, "matrix": None, "groups": ()} | changes))


def at(snapshot: Snapshot, text: str) -> Snapshot:
    return replace(snapshot, at=datetime.fromisoformat(text).astimezone(UTC))


@pytest.mark.parametrize(
    ("instant", "moves"),
    [
        pytest.param("2030-01-01T07:00:00+01:00", 6, id="an hour before they begin"),
        pytest.param("2030-01-01T08:00:00+01:00", 0, id="when they begin"),
        pytest.param("2030-01-01T17:59:59+01:00", 0, id="before they end"),
        pytest.param("2030-01-01T18:00:00+01:00", 6, id="when they end"),
        pytest.param("2030-01-05T12:00:00+01:00", 6, id="on a Saturday"),
        pytest.param("2030-07-01T17:30:00+02:00", 0, id="by the summer's clock"),
        pytest.param("2030-07-01T18:00:00+02:00", 6, id="after the summer's six"),
    ],
)
def test_in_frozen_hours_nothing_moves_for_money(instant: str, moves: int) -> None:
    frozen = within(MoveBudget(moves=0, hours=WORK))
    snapshot = at(apart(), instant)
    if moves:
        assert len(planned(snapshot, frozen).steps) == moves
        return
    assert (
        "the budget of policy cheap, no moves from 08:00 to 18:00 on mon, tue, wed, thu, fri "
        "(Europe/Rome), leaves no room for it" in unplanned(snapshot, frozen).reason
    )


def test_no_plan_is_begun_that_would_still_run_when_frozen_hours_begin() -> None:
    frozen = within(MoveBudget(moves=0, hours=WORK))
    # A move of 96 MiB takes 6.6 s.
    plan = planned(at(apart(), "2030-01-01T07:59:40+01:00"), frozen)

    assert len(plan.steps) == 3
    assert sum(step.prediction.seconds for step in plan.steps) < 20
    late = at(apart(), "2030-01-01T07:59:45+01:00")
    assert "lets nothing move from" in " ".join(find_faults(late, [frozen], plan.steps))


def test_hours_with_some_moves_count_from_their_beginning() -> None:
    """Two were made before they began, one since: of two, one is left."""
    some = within(MoveBudget(moves=2, hours=Hours(begins_minute=12 * 60, ends_minute=14 * 60)))
    past = [moved("vm1", ago=60), moved("vm2", ago=4000), moved("vm3", ago=4000)]

    plan = planned(at(apart(outcomes=past), "2030-01-01T13:00Z"), some)

    assert len(plan.steps) == 2
    recent = [moved("vm1", ago=-600), moved("vm2", ago=4000)]
    assert len(planned(at(apart(outcomes=recent), "2030-01-01T13:00Z"), some).steps) == 1


def test_the_strictest_of_the_budgets_that_apply_wins() -> None:
    budgets = (
        MoveBudget(moves=5, per_seconds=3600.0),
        MoveBudget(moves=4, hours=Hours(begins_minute=0, ends_minute=1440)),
        MoveBudget(moves=0, hours=Hours(begins_minute=0, ends_minute=60)),
    )
    other = policy("other", elective=replace(EAGER, budgets=budgets[:1]))

    assert len(planned(apart(), within(*budgets), other).steps) == 4


def test_moves_that_came_to_nothing_are_spent_and_those_that_were_never_begun_are_not() -> None:
    """Each sent what it sent: a move that fails time and again isn't tried more often than budgets allow."""
    two = within(MoveBudget(moves=2, per_seconds=3600.0))

    def steps(*results: StepResult) -> int:
        past = [replace(moved("vm1", ago=60 * n), plan=PlanId(f"p{n}")) for n in (1, 2)]
        known = apart(outcomes=[replace(o, result=r) for o, r in zip(past, results, strict=False)])
        plan = make_plan(known, [two], trigger="a test")
        return len(plan.steps) if isinstance(plan, Plan) else 0

    assert steps(StepResult.UNDONE) == 1
    assert steps(StepResult.UNDONE, StepResult.FAILED) == 0
    assert steps(StepResult.SKIPPED, StepResult.SKIPPED) == 2
    failed = apart(outcomes=[replace(moved("vm1", ago=60), result=StepResult.FAILED)])
    faults = find_faults(failed, [two], planned(apart(), two).steps)
    assert faults == ("cheap allows 2 moves, 1 of them are spent",)


def test_a_budget_of_bytes_lets_so_much_through() -> None:
    one = round(SMALL.memory_bytes * 0.7)
    budget = within(MoveBudget(bytes=int(3.5 * one), per_seconds=3600.0))

    plan = planned(apart(), budget)
    assert len(plan.steps) == 3

    sent = Measurement(bytes=2 * one, seconds=5.0)
    after = apart(outcomes=[moved("vm1", ago=60, measured=sent)])
    assert "the budget of policy cheap, 247 MB per 1h" in unplanned(after, budget).reason
    assert "bytes, " in " ".join(find_faults(after, [budget], plan.steps))


def test_a_budget_of_dollars_lets_so_much_through() -> None:
    prices = (price("a", 0.20, egress=0.05), price("b", 0.05, egress=0.05))
    once = planned(apart(prices=prices), within()).steps[0].prediction.dollars
    budget = within(MoveBudget(dollars=2.5 * once, per_seconds=3600.0))

    plan = planned(apart(prices=prices), budget)

    assert len(plan.steps) == 2
    too_much = planned(apart(prices=prices), within()).steps
    assert "dollars, " in " ".join(find_faults(apart(prices=prices), [budget], too_much))


def test_an_evacuation_asks_no_budget() -> None:
    frozen = within(
        MoveBudget(moves=0, hours=Hours(begins_minute=0, ends_minute=1440)),
        MoveBudget(bytes=0, per_seconds=3600.0),
    )

    plan = planned(two_clusters(notices=[notice("a", 600)]), frozen)

    assert set(ways(plan)) == set(NAMES)
    assert {step.kind for step in plan.steps} == {MoveKind.MANDATORY}


def test_a_step_in_frozen_hours_is_a_fault() -> None:
    steps = planned(apart(), within()).steps
    frozen = within(MoveBudget(moves=0, hours=Hours(begins_minute=0, ends_minute=1440)))

    assert find_faults(apart(), [frozen], steps) == ("cheap allows 0 moves, 0 of them are spent",)
    assert apart().at == NOW


def test_the_budget_that_binds_is_the_one_that_is_named() -> None:
    loose = MoveBudget(moves=50, per_seconds=3600.0)
    tight = MoveBudget(moves=2, per_seconds=86400.0)
    past = [moved("vm1", ago=7200), moved("vm2", ago=7200)]

    nothing = unplanned(apart(outcomes=past), within(loose, tight))

    assert "the budget of policy cheap, 2 moves per 1d, leaves no room" in nothing.reason


def test_moves_of_vms_whose_host_is_not_known_any_more_are_spent() -> None:
    """Planner and checker must agree, or no plan passes, not even one with moves that must be made."""
    known = apart(outcomes=[moved("lost", ago=60)], notices=[notice("a", 600, host="a2")])
    lost, fleeing = vm("lost"), vm("fleeing")
    hosts = {**known.hosts, HostName("a2"): Host(name=HostName("a2"), cloud=CloudName("a"))}
    where = {**known.placement.host_of, lost.name: HostName("x9"), fleeing.name: HostName("a2")}
    vms = {**known.vms, lost.name: lost, fleeing.name: fleeing}
    whole = replace(known, vms=vms, hosts=hosts, placement=Placement(host_of=where))

    plan = planned(whole, within(MoveBudget(moves=3, per_seconds=3600.0)))

    assert [step.vm for step in plan.steps if step.kind is MoveKind.MANDATORY] == ["fleeing"]
    assert len(plan.steps) == 3


def test_a_budget_of_nothing_lets_nothing_through_beside_what_is_much_dearer() -> None:
    """Going to c costs next to nothing; of what the large VM's way to b costs, it's a rounding error."""
    large = vm("large", needs=Resources(vcpus=1, memory_bytes=64 << 30))
    dear = (price("a", 0.2, egress=9.0), price("b", 0.05), price("c", 1e-6))
    near = {CloudName(c): Cloud(name=CloudName(c), provider="p") for c in ("a", "c")}
    known = two_clusters(
        placement={"a1": [large, vm("small")]},
        room={"a1": Resources(vcpus=9, memory_bytes=99 << 30), "b1": 2, "c1": 1},
        prices=(replace(dear[0], egress_within_provider_dollars_per_gb=0.0), *dear[1:]),
        matrix=None,
        groups=(),
    )
    known = replace(known, clouds={**known.clouds, **near})
    assert [step.vm for step in planned(known, within()).steps] == ["small"]

    nothing = unplanned(known, within(MoveBudget(dollars=0.0, per_seconds=3600.0)))

    assert "would break" not in nothing.reason
