"""`after` in a policy: the look back at what a plan promised, and the way back."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.unit.plan.scenario import EAGER, blast, planned, policy, two_clusters, web
from tests.unit.plan.worlds import MB, NOW, notice, price, traffic, vm, world
from transhume.knowledge.model import (
    CloudName,
    HostName,
    MoveKind,
    Outcome,
    Plan,
    PlanStatus,
    PriceTick,
    Snapshot,
    StepId,
    StepResult,
    SymptomKind,
)
from transhume.knowledge.records import Effect, StoredPlan
from transhume.loop import Decision, Loop
from transhume.plan import PlannerSettings, find_faults, make_undo
from transhume.plan.aftermath import WAITS, LookBack, look_back
from transhume.plan.expectation import Executed, executed_plans
from transhume.policies.calendar import Hours
from transhume.policies.model import (
    ElectiveLimits,
    Expectation,
    Mode,
    MoveBudget,
    Otherwise,
    Pin,
    Policy,
    Selector,
)

WITHIN = timedelta(minutes=15)
BEFORE = (price("a", 0.20), price("b", 0.05))
B_DEAR = (price("a", 0.20), price("b", 0.40))
RESTING = ElectiveLimits(min_gain=0.0, cooldown_seconds=6 * 3600.0)


def hopeful(*expect: str, otherwise: Otherwise = Otherwise.UNDO, **parts: Any) -> Policy:
    after = Expectation(
        expect=expect or ("price",), within_seconds=WITHIN.total_seconds(), otherwise=otherwise
    )
    return policy(**({"after": after, "mode": Mode.AUTO, "elective": RESTING} | parts))


def first_plan(rules: Policy) -> Plan:
    return planned(two_clusters(prices=BEFORE), replace(rules, elective=EAGER))


def outcomes(plan: Plan, ended: timedelta) -> tuple[Outcome, ...]:
    return tuple(
        Outcome(
            plan=plan.id,
            step=step.id,
            vm=step.vm,
            source=step.source,
            destination=step.destination,
            result=StepResult.DONE,
            why="",
            started_at=NOW + ended,
            ended_at=NOW + ended,
            predicted=step.prediction,
            measured=None,
        )
        for step in plan.steps
    )


def after(
    plan: Plan,
    *,
    prices: Sequence[PriceTick] = B_DEAR,
    passed: timedelta = WITHIN,
    earlier: Iterable[Outcome] = (),
    **changes: Any,
) -> Snapshot:
    """Return what is known some time after the plan brought everybody to b."""
    seen = two_clusters(
        prices=prices,
        **({"placement": {"b1": blast + web}} | changes),
        outcomes=(*outcomes(plan, timedelta()), *earlier),
    )
    return replace(seen, at=NOW + passed)


def done(plan: Plan, **parts: Any) -> Executed:
    return Executed(plan=plan, ended_at=NOW, **parts)


def looked(snapshot: Snapshot, rules: Policy, executed: Executed) -> LookBack:
    return look_back(snapshot, [rules], [executed], PlannerSettings())


def test_a_plan_whose_effect_has_come_about_stands() -> None:
    plan = first_plan(hopeful())

    back = looked(after(plan, prices=BEFORE), hopeful("price", "cut"), done(plan))

    assert back == LookBack(effects=((plan.id, Effect.AS_EXPECTED),))


def test_a_plan_that_parked_a_vm_is_taken_back_to_where_it_began() -> None:
    """The berth in c is neither where the VM is expected to be, nor where it goes back to."""
    plan = first_plan(hopeful())
    straight, *others = plan.steps
    aside = replace(straight, destination=HostName("c1"), destination_cloud=CloudName("c"))
    onward = replace(
        straight, id=StepId("onward"), source=HostName("c1"), source_cloud=CloudName("c")
    )
    by_way = replace(plan, steps=(aside, *others, onward))
    parked = outcomes(replace(plan, steps=(aside,)), timedelta(seconds=-5))
    arrived = replace(plan, steps=(*others, onward))
    seen = after(
        arrived,
        prices=(*B_DEAR, price("c", 0.9)),
        earlier=parked,
        room={"a1": 6, "b1": 6, "c1": 6},
    )

    back = looked(seen, hopeful(), done(by_way))

    assert by_way.ways == plan.ways
    assert back.effects == ((plan.id, Effect.MISSED),)
    assert back.undo is not None
    assert back.undo.ways == {vm: (end, origin) for vm, (origin, end) in plan.ways.items()}


def test_a_plan_is_not_looked_at_before_its_time_nor_long_after_it() -> None:
    plan = first_plan(hopeful())
    for passed in (timedelta(0), WITHIN - timedelta(seconds=1), 2 * WITHIN + timedelta(seconds=1)):
        assert looked(after(plan, passed=passed), hopeful(), done(plan)) == LookBack()


def test_a_plan_whose_effect_is_missing_is_taken_back_whole() -> None:
    plan = first_plan(hopeful())

    back = looked(after(plan), hopeful(), done(plan))

    assert back.effects == ((plan.id, Effect.MISSED),)
    (symptom,) = back.symptoms
    assert symptom.kind is SymptomKind.EFFECT_MISSED
    assert symptom.detail == f"{plan.id} was to save $0.90/h and saves -$1.20/h, 15m after it"
    assert back.undo is not None
    assert back.undo.undoes == plan.id
    assert back.undo.trigger == symptom.detail
    assert {(s.vm, s.source, s.destination_cloud) for s in back.undo.steps} == {
        (s.vm, s.destination, s.source_cloud) for s in plan.steps
    }
    assert {step.kind for step in back.undo.steps} == {MoveKind.ELECTIVE}
    assert find_faults(after(plan), [hopeful()], back.undo.steps, undoes=plan.id) == ()


def test_only_the_plan_that_says_so_may_take_back_within_the_cool_down() -> None:
    plan = first_plan(hopeful())
    undo = looked(after(plan), hopeful(), done(plan)).undo
    assert undo is not None

    assert "within the cool-down" in " ".join(find_faults(after(plan), [hopeful()], undo.steps))
    elsewhere = tuple(replace(step, id=f"{step.id}x") for step in undo.steps)
    again = replace(
        after(plan),
        outcomes=(*outcomes(undo, WITHIN), *outcomes(plan, timedelta())),
    )
    assert find_faults(again, [hopeful()], elsewhere, undoes=plan.id), "once is all"


def test_a_price_that_rises_everywhere_is_no_fault_of_the_plan() -> None:
    plan = first_plan(hopeful())
    dearer = (price("a", 2.0), price("b", 0.5))

    assert looked(after(plan, prices=dearer), hopeful(), done(plan)).effects == (
        (plan.id, Effect.AS_EXPECTED),
    )


def test_half_of_what_was_predicted_is_enough_and_less_is_kept_where_going_back_is_worse() -> None:
    plan = first_plan(hopeful())
    enough, little = (price("a", 0.20), price("b", 0.12)), (price("a", 0.20), price("b", 0.16))

    assert looked(after(plan, prices=enough), hopeful(), done(plan)).effects == (
        (plan.id, Effect.AS_EXPECTED),
    )
    back = looked(after(plan, prices=little), hopeful(), done(plan))
    assert (back.undo, back.effects) == (None, ((plan.id, Effect.KEPT),))
    assert "kept, since going back would be worse" in back.symptoms[0].detail


def test_where_a_policy_says_keep_it_is_only_told() -> None:
    plan = first_plan(hopeful())

    back = looked(after(plan), hopeful(otherwise=Otherwise.KEEP), done(plan))

    assert (back.undo, back.effects) == (None, ((plan.id, Effect.KEPT),))
    assert back.symptoms[0].detail.endswith("it is kept")


def test_a_cut_that_has_not_fallen_takes_a_plan_back_though_the_price_has() -> None:
    """vm1 went to b, where it's cheap and whom it talked to was; since then it talks to one in a."""
    names = ("vm1", "vm2", "vm3")
    one, two, three = (vm(name) for name in names)
    rules = hopeful("price", "cut", elective=EAGER, applies_to=Selector(vms=("vm1",)))
    prices = (price("a", 2.0, egress=0.5), price("b", 0.05, egress=0.5))
    known: dict[str, Any] = {"room": {"a1": 3, "b1": 3}, "prices": prices}
    old, new = (traffic(names, {("vm1", mate): 0.1 * MB}) for mate in ("vm2", "vm3"))
    plan = planned(world({"a1": [one, three], "b1": [two]}, matrix=old, **known), rules)
    moved_on = world(
        {"a1": [three], "b1": [one, two]},
        matrix=new,
        outcomes=outcomes(plan, timedelta()),
        **known,
    )

    back = looked(replace(moved_on, at=NOW + WITHIN), rules, done(plan))

    assert back.effects == ((plan.id, Effect.MISSED),)
    assert back.undo is not None
    assert "was to take $0.18/h of egress off the bill and takes -$0.18/h off" in (
        back.symptoms[0].detail
    )


B = CloudName("b")


@pytest.mark.parametrize("host", ["a1", "b1"])
def test_while_a_host_on_the_way_back_gives_no_answer_it_is_waited_for(host: str) -> None:
    """It may be back in a moment, and what is looked at counts for good."""
    plan = first_plan(hopeful())
    answering = after(plan)
    silent = replace(answering.capacity[HostName(host)], silent=True)
    lame = replace(answering, capacity={**answering.capacity, silent.host: silent})

    waits = looked(lame, hopeful(), done(plan))

    assert (waits.undo, waits.effects) == (None, ((plan.id, Effect.MISSED),))
    assert waits.symptoms[0].detail.endswith(WAITS)
    assert looked(answering, hopeful(), done(plan, effect=Effect.MISSED)).undo is not None


def test_a_host_that_is_dead_keeps_nobody_from_going_back_to_another_of_its_cloud() -> None:
    plan = first_plan(hopeful())
    answering = after(plan, room={"a1": 6, "a2": 6, "b1": 6})
    silent = replace(answering.capacity[HostName("a1")], silent=True)
    lame = replace(answering, capacity={**answering.capacity, silent.host: silent})

    undo = looked(lame, hopeful(), done(plan)).undo

    assert undo is not None
    assert {step.destination for step in undo.steps} == {"a2"}


def test_nobody_waits_for_a_host_where_a_rule_is_in_the_way_back() -> None:
    rules = hopeful(rules=(Pin(who=Selector(vms=("vm3",)), cloud=B),))
    plan = first_plan(hopeful())
    answering = after(plan, room={"a1": 6, "a2": 6, "b1": 6})
    silent = replace(answering.capacity[HostName("a1")], silent=True)
    lame = replace(answering, capacity={**answering.capacity, silent.host: silent})

    back = looked(lame, rules, done(plan))

    assert back.effects == ((plan.id, Effect.KEPT),)
    assert "pins vm3 to b" in back.symptoms[0].detail


FROZEN = MoveBudget(moves=0, hours=Hours(begins_minute=0, ends_minute=1440))
IN_THE_WAY = [
    pytest.param({"room": {"a1": 3, "b1": 6}}, {}, "a has no room for them", id="no room"),
    pytest.param({"notices": [notice("a", 3600)]}, {}, "can't go back to a", id="notice"),
    pytest.param(
        {}, {"rules": (Pin(who=Selector(vms=("vm3",)), cloud=B),)}, "pins vm3 to b", id="rule"
    ),
    pytest.param(
        {},
        {"elective": replace(RESTING, budgets=(FROZEN,))},
        "cheap allows 0 moves",
        id="frozen hours",
    ),
]


@pytest.mark.parametrize(("changes", "parts", "said"), IN_THE_WAY)
def test_where_the_way_back_is_closed_that_is_said_and_the_plan_stands(
    changes: dict[str, Any], parts: dict[str, Any], said: str
) -> None:
    plan = first_plan(hopeful())

    back = looked(after(plan, **changes), hopeful(**parts), done(plan))

    assert (back.undo, back.effects) == (None, ((plan.id, Effect.KEPT),))
    assert "it can't be taken back: " in back.symptoms[0].detail
    assert said in back.symptoms[0].detail


def test_a_spent_budget_doesnt_keep_a_plan_from_being_taken_back() -> None:
    budget = MoveBudget(moves=6, per_seconds=3600.0)
    rules = hopeful(elective=replace(RESTING, budgets=(budget,)))

    assert looked(after(first_plan(hopeful())), rules, done(first_plan(hopeful()))).undo


def test_a_plan_whose_vms_have_moved_on_is_left_alone() -> None:
    plan = first_plan(hopeful())
    home = after(plan, placement={"a1": blast + web})

    back = looked(home, hopeful(), done(plan))

    assert (back.effects, back.symptoms) == (((plan.id, Effect.OVERTAKEN),), ())


def test_without_a_price_nobody_can_tell() -> None:
    plan = first_plan(hopeful())

    assert looked(after(plan, prices=BEFORE[:1]), hopeful(), done(plan)) == LookBack()


def test_what_was_executed_and_undone_is_read_from_the_stored_plans() -> None:
    plan = first_plan(hopeful())
    undo = looked(after(plan), hopeful(), done(plan)).undo
    kept = StoredPlan(
        plan=plan, id=plan.id, status=PlanStatus.DONE, since=NOW, effect=Effect.MISSED
    )
    assert undo is not None
    for status, undone in ((PlanStatus.EXECUTING, True), (PlanStatus.AWAITING_APPROVAL, False)):
        other = StoredPlan(plan=undo, id=undo.id, status=status, since=NOW + WITHIN)
        (found,) = executed_plans([other, kept])
        assert found.plan == plan
        assert (found.undone_at is not None) is undone
        assert found.open is not undone


# --- the loop ------------------------------------------------------------------------------------


def considered(loop: Loop, snapshot: Snapshot, rules: Policy, *executed: Executed) -> Decision:
    return loop.consider(snapshot, [rules], executed)


def test_the_loop_takes_back_at_once_and_once() -> None:
    plan = first_plan(hopeful())
    loop = Loop(PlannerSettings())

    first = considered(loop, after(plan), hopeful(), done(plan))

    assert first.effects == ((plan.id, Effect.MISSED),)
    assert first.to_execute is not None
    assert first.to_execute.undoes == plan.id
    undone = done(plan, effect=Effect.MISSED, undone_at=NOW + WITHIN)
    later = after(plan, passed=WITHIN + timedelta(seconds=30))
    assert considered(loop, later, hopeful(), undone).to_execute is None


def test_another_daemon_takes_back_what_the_one_before_had_found_missing() -> None:
    plan = first_plan(hopeful())

    again = considered(
        Loop(PlannerSettings()), after(plan), hopeful(), done(plan, effect=Effect.MISSED)
    )

    assert again.effects == ()
    assert again.to_execute is not None


def test_the_way_back_waits_for_approval_where_plans_do_and_stays_the_best_meanwhile() -> None:
    plan = first_plan(hopeful())
    cautious, loop = hopeful(mode=Mode.APPROVE), Loop(PlannerSettings())
    asked = considered(loop, after(plan), cautious, done(plan))
    assert asked.status is PlanStatus.AWAITING_APPROVAL
    missed = done(plan, effect=Effect.MISSED)
    assert considered(loop, after(plan), cautious, missed).status is None, "recorded once"

    best = loop.rethink(after(plan), [cautious], [missed])

    assert isinstance(best, Plan)
    assert isinstance(asked.result, Plan)
    assert best.steps == asked.result.steps


def test_an_evacuation_can_be_approved_while_a_way_back_is_due() -> None:
    plan = first_plan(hopeful())
    cautious, loop = hopeful(mode=Mode.APPROVE), Loop(PlannerSettings())
    revoked = after(
        plan,
        prices=(*B_DEAR, price("c", 0.30)),
        placement={"b1": blast + web, "c1": [vm("bystander")]},
        room={"a1": 7, "b1": 7, "c1": 1},
        notices=[notice("c", 3600)],
    )
    assert looked(revoked, cautious, done(plan)).undo is not None
    missed = done(plan, effect=Effect.MISSED)
    asked = considered(loop, revoked, cautious, missed)
    assert asked.status is PlanStatus.AWAITING_APPROVAL

    best = loop.rethink(revoked, [cautious], [missed])

    assert isinstance(best, Plan)
    assert isinstance(asked.result, Plan)
    assert best.moves == asked.result.moves


def test_an_evacuation_comes_before_a_way_back() -> None:
    plan = first_plan(hopeful())
    fleeing = after(plan, notices=[notice("b", 3600)])

    decision = considered(Loop(PlannerSettings()), fleeing, hopeful(), done(plan))

    assert decision.to_execute is not None
    assert decision.to_execute.undoes is None
    assert {step.kind for step in decision.to_execute.steps} == {MoveKind.MANDATORY}


def test_a_way_back_waits_for_no_move_that_waits_itself() -> None:
    """Neither for its next try nor for a person: meanwhile the time for a way back would be over."""
    plan = first_plan(hopeful())
    pin = Pin(who=Selector(vms=("bystander",)), cloud=CloudName("a"))
    stray = after(
        plan,
        prices=(*B_DEAR, price("c", 0.30)),
        placement={"b1": blast + web, "c1": [vm("bystander")]},
        room={"a1": 7, "b1": 7, "c1": 1},
    )
    for mode in (Mode.AUTO, Mode.APPROVE, Mode.RECOMMEND):
        home = policy("home", rules=(pin,), mode=mode, applies_to=Selector(vms=("bystander",)))
        rules, loop = [hopeful(), home], Loop(PlannerSettings())
        first = loop.consider(stray, rules, [done(plan)])
        if mode is Mode.AUTO:
            assert first.to_execute is not None
            assert first.to_execute.undoes is None
            loop.ended(first.to_execute, PlanStatus.FAILED, stray.at)
            first = loop.consider(stray, rules, [done(plan)])
        assert first.to_execute is not None
        assert first.to_execute.undoes == plan.id


def test_moves_that_were_taken_back_arent_made_again_at_once_and_each_time_later() -> None:
    """Even where no cool-down keeps them from it."""
    rules = hopeful(elective=EAGER)
    plan = first_plan(rules)
    at_home = two_clusters(prices=BEFORE)
    undone = done(plan, effect=Effect.MISSED, undone_at=NOW + WITHIN)
    for undos, passed, goes in (
        ((undone,), WITHIN * 1.9, False),
        ((undone,), WITHIN * 2.1, True),
        ((undone, undone), WITHIN * 2.1, False),
        ((undone, undone), WITHIN * 3.1, True),
    ):
        now = replace(at_home, at=NOW + passed)
        decision = considered(Loop(PlannerSettings()), now, rules, *undos)
        assert (decision.to_execute is not None) is goes
        if not goes:
            assert "the same moves were taken back" in decision.waiting


def test_an_undo_is_never_looked_at_itself() -> None:
    plan = first_plan(hopeful())
    undo = make_undo(after(plan), [hopeful()], plan, trigger="a test")
    assert isinstance(undo, Plan)
    stored = StoredPlan(plan=undo, id=undo.id, status=PlanStatus.DONE, since=NOW)
    assert executed_plans([stored]) == ()
