"""A plan as one transaction: what starts when, and what is taken back."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.execute.plans import NOW, plan, step
from transhume.execute.plan_transaction import UNDO_ATTEMPTS, PlanTransaction
from transhume.knowledge.model import (
    CloudName,
    GroupId,
    HostName,
    Plan,
    PlanStatus,
    StepId,
    StepResult,
)
from transhume.knowledge.model.undoing import reversed_step, step_of

SOON = NOW + timedelta(minutes=5)


def run(transaction: PlanTransaction, results: dict[str, StepResult]) -> list[str]:
    """Carry a plan out, each step ending as told (done unless told); return the order of starts."""
    order = []
    while ready := transaction.ready():
        for each in ready:
            transaction.begin(each)
            order.append(str(each.id))
        for each in ready:
            transaction.finished(each, results.get(each.id, StepResult.DONE))
    return order


def test_stages_run_one_after_the_other_and_their_steps_together() -> None:
    transaction = PlanTransaction(plan(step(1), step(2), step(3, stage=1)))
    first = transaction.ready()
    assert [s.id for s in first] == ["s1", "s2"]
    transaction.begin(first[0])
    transaction.begin(first[1])
    transaction.finished(first[0], StepResult.DONE)
    assert transaction.ready() == []
    transaction.finished(first[1], StepResult.DONE)
    assert [s.id for s in transaction.ready()] == ["s3"]


def test_a_failed_elective_move_takes_its_group_back() -> None:
    transaction = PlanTransaction(plan(step(1), step(2, stage=1), step(3, stage=2)))
    order = run(transaction, {"s2": StepResult.UNDONE})
    assert order == ["s1", "s2", "s1~undo"]
    assert [s.id for s, _ in transaction.left_out()] == ["s3"]
    assert transaction.status() is PlanStatus.UNDONE


def test_another_group_goes_on_after_a_failure() -> None:
    transaction = PlanTransaction(plan(step(1), step(2, stage=1, group="g2")))
    assert run(transaction, {"s1": StepResult.UNDONE}) == ["s1", "s2"]
    assert transaction.status() is PlanStatus.DONE


def test_an_evacuation_saves_whom_it_can() -> None:
    transaction = PlanTransaction(plan(step(1, mandatory=True), step(2, stage=1, mandatory=True)))
    assert run(transaction, {"s1": StepResult.UNDONE}) == ["s1", "s2"]
    assert transaction.status() is PlanStatus.DONE


def test_an_evacuation_does_not_wait_until_a_group_is_back() -> None:
    """Taking others back may take longer than there is until the cloud goes."""
    fled = replace(step(3, mandatory=True, group=None), after=(StepId("s2"),))
    transaction = PlanTransaction(plan(step(1), replace(step(2), after=(StepId("s1"),)), fled))
    assert run(transaction, {"s2": StepResult.UNDONE}) == ["s1", "s2", "s3", "s1~undo"]
    assert transaction.status() is PlanStatus.DONE


def test_skipped_is_not_failed() -> None:
    transaction = PlanTransaction(plan(step(1), step(2, stage=1)))
    run(transaction, {"s1": StepResult.SKIPPED})
    assert transaction.status() is PlanStatus.DONE


def test_a_plan_of_which_every_step_was_skipped_is_not_told_as_done() -> None:
    transaction = PlanTransaction(plan(step(1), step(2, stage=1)))
    run(transaction, {"s1": StepResult.SKIPPED, "s2": StepResult.SKIPPED})
    assert transaction.status() is PlanStatus.UNDONE


def test_a_failed_undoing_needs_a_person() -> None:
    transaction = PlanTransaction(plan(step(1), step(2, stage=1)))
    run(transaction, {"s2": StepResult.UNDONE, "s1~undo": StepResult.FAILED})
    assert transaction.status() is PlanStatus.FAILED


def test_an_undoing_that_a_crash_cut_short_is_begun_again() -> None:
    results = {
        StepId("s1"): StepResult.DONE,
        StepId("s2"): StepResult.UNDONE,
        StepId("s1~undo"): StepResult.UNDONE,
    }
    transaction = PlanTransaction(plan(step(1), step(2, stage=1)), results)
    assert run(transaction, {}) == ["s1~undo"]
    assert transaction.status() is PlanStatus.UNDONE


@pytest.mark.parametrize("result", [StepResult.UNDONE, StepResult.SKIPPED])
def test_a_group_that_can_not_be_brought_back_needs_a_person(result: StepResult) -> None:
    transaction = PlanTransaction(plan(step(1), step(2, stage=1)))
    order = run(transaction, {"s2": StepResult.UNDONE, "s1~undo": result})
    assert order.count("s1~undo") == (UNDO_ATTEMPTS if result is StepResult.UNDONE else 1)
    assert transaction.status() is PlanStatus.FAILED


def test_stopping_lets_the_running_step_end_and_starts_no_other() -> None:
    transaction = PlanTransaction(plan(step(1), step(2, stage=1)))
    (running,) = transaction.ready()
    transaction.begin(running)
    transaction.stop("a notice came in")
    assert transaction.status() is PlanStatus.EXECUTING
    transaction.finished(running, StepResult.DONE)
    assert transaction.ready() == []
    assert transaction.left_out() == [(step(2, stage=1), "a notice came in")]


def test_only_what_flees_and_what_that_needs_is_begun_when_others_have_to_flee() -> None:
    """vm2 makes room for vm3, which flees; vm1 only breaks a rule, and vm4's group is to save money."""
    rule, paying = step(1, stage=1, mandatory=True, group=None), step(4, stage=1)
    room = replace(step(2, stage=1, mandatory=True, group=None), after=(StepId("s5"),))
    flees = replace(
        step(3, stage=2, mandatory=True, group=None), relies_on=(room.id,), deadline=NOW
    )
    begun = step(5)
    transaction = PlanTransaction(
        plan(begun, room, flees, replace(rule, after=(begun.id,)), paying)
    )
    transaction.begin(begun)
    transaction.make_way("a notice came in")
    transaction.finished(begun, StepResult.DONE)
    assert run(transaction, {}) == ["s2", "s3"]
    assert {(step.id, why) for step, why in transaction.left_out()} == {
        ("s1", "a notice came in"),
        ("s4", "a notice came in"),
    }
    assert transaction.status() is PlanStatus.DONE


def test_a_daemon_that_stops_begins_nothing_that_flees_either() -> None:
    flees = replace(step(1, mandatory=True), deadline=NOW)
    transaction = PlanTransaction(plan(flees))
    for stop in (transaction.make_way, transaction.stop, transaction.make_way):
        stop("why")
    assert transaction.ready() == []


def test_nobody_is_taken_back_to_where_he_would_be_lost() -> None:
    transaction = PlanTransaction(plan(step(1), step(2, stage=1)))
    transaction.shun({HostName("a1"): SOON})
    assert run(transaction, {"s2": StepResult.UNDONE}) == ["s1", "s2"]
    assert transaction.status() is PlanStatus.DONE
    transaction.shun({})
    assert [s.id for s in transaction.ready()] == ["s1~undo"]


@pytest.mark.parametrize(("later_by", "moves"), [(0, ["s2"]), (1, ["s1", "s2", "s3"])])
def test_who_flees_is_sent_to_what_will_be_gone_as_well_only_where_he_gains_time(
    later_by: int, moves: list[str]
) -> None:
    """vm1 flees to b, vm2 to c, and vm3 to the room that vm1 has left."""
    fleeing = [
        replace(step(number, mandatory=True, group=None), deadline=SOON) for number in (1, 2, 3)
    ]
    there = fleeing[0]
    elsewhere = replace(fleeing[1], destination=HostName("c1"), destination_cloud=CloudName("c"))
    relying = replace(fleeing[2], destination=HostName("c1"), relies_on=(there.id,))
    transaction = PlanTransaction(plan(there, elsewhere, relying))
    transaction.make_way("a notice")
    gone_at = SOON + timedelta(minutes=later_by)
    transaction.shun({HostName("a1"): SOON, HostName("b1"): gone_at})

    assert run(transaction, {}) == moves
    assert transaction.status() is PlanStatus.DONE
    assert [why for _, why in transaction.left_out()] == (
        [] if later_by else ["b1 is about to go as well", "a move that it relies on wasn't made"]
    )


def test_who_made_room_for_one_that_left_a_shunned_host_is_not_taken_back_either() -> None:
    """vm2 went from c to b, so that vm1 may have its place in c; vm3 belongs to vm2."""
    room = replace(step(2), source=HostName("c1"), source_cloud=CloudName("c"))
    moved = replace(
        step(1, stage=1, group=None),
        destination=HostName("c1"),
        destination_cloud=CloudName("c"),
        relies_on=(room.id,),
    )
    mate = replace(step(3, stage=2), after=(moved.id,))
    steps = plan(room, moved, mate)
    shunning, heedless = PlanTransaction(steps), PlanTransaction(steps)
    shunning.shun({HostName("a1"): SOON})
    failing = {"s3": StepResult.UNDONE}
    assert run(heedless, failing) == ["s2", "s1", "s3", "s1~undo", "s2~undo"]
    assert run(shunning, failing) == ["s2", "s1", "s3"]


@pytest.mark.parametrize("kept", [True, False], ids=["kept", "not"])
def test_nobody_is_taken_back_to_a_place_that_is_kept_for_others(kept: bool) -> None:
    """vm3 fled to b, where vm2 was, which went to c, where vm1 was; vm4 belongs to vm1 and vm2."""
    first = replace(
        step(1), source=HostName("c1"), destination=HostName("d1"), source_cloud=CloudName("c")
    )
    second = replace(
        step(2), source=HostName("b1"), destination=HostName("c1"), relies_on=(first.id,)
    )
    fled = replace(step(3, mandatory=kept, group=None), relies_on=(second.id,))
    mate = replace(step(4), after=(fled.id,))
    transaction = PlanTransaction(plan(first, second, fled, mate))
    back = [] if kept else ["s3~undo", "s2~undo", "s1~undo"]
    assert run(transaction, {"s4": StepResult.UNDONE}) == ["s1", "s2", "s3", "s4", *back]


def test_a_parked_vm_that_left_a_shunned_host_stays_where_it_was_to_go() -> None:
    """And isn't taken half-way back."""
    parked = replace(step(1), destination=HostName("c1"), destination_cloud=CloudName("c"))
    onward = replace(
        step(1, stage=1),
        id=StepId("s1b"),
        source=HostName("c1"),
        source_cloud=CloudName("c"),
        after=(parked.id,),
    )
    transaction = PlanTransaction(
        plan(parked, onward, replace(step(3, stage=2), after=(onward.id,)))
    )
    transaction.shun({HostName("a1"): SOON})
    assert run(transaction, {"s3": StepResult.UNDONE}) == ["s1", "s1b", "s3"]


@pytest.mark.parametrize("step_id", ["s1", "s1~undo"])
def test_a_step_and_its_undoing_are_found_again_by_their_ids(step_id: str) -> None:
    found = step_of(plan(step(1)), StepId(step_id))
    assert found == (step(1) if step_id == "s1" else reversed_step(step(1)))


def test_a_plan_is_taken_up_where_the_journal_left_it() -> None:
    transaction = PlanTransaction(plan(step(1), step(2, stage=1)), {StepId("s1"): StepResult.DONE})
    assert [s.id for s in transaction.ready()] == ["s2"]


# a VM that is parked on its way


def swap(*, mandatory: bool = False) -> Plan:
    """vm1 steps aside from a to c, vm2 takes its place, vm1 takes vm2's in b."""
    aside = replace(
        step(1, group=None, mandatory=mandatory),
        destination=HostName("c1"),
        destination_cloud=CloudName("c"),
    )
    other = replace(
        reversed_step(step(2, group=None, mandatory=mandatory)),
        id=StepId("s2"),
        stage=1,
        relies_on=(aside.id,),
    )
    onward = replace(
        step(1, stage=2, group=None, mandatory=mandatory),
        id=StepId("s3"),
        source=HostName("c1"),
        source_cloud=CloudName("c"),
        relies_on=(aside.id, other.id),
    )
    return plan(aside, other, onward)


def test_a_parked_vm_goes_on_when_its_place_is_free() -> None:
    transaction = PlanTransaction(swap())
    assert run(transaction, {}) == ["s1", "s2", "s3"]
    assert transaction.status() is PlanStatus.DONE


def test_a_parked_vm_goes_back_when_its_place_does_not_become_free() -> None:
    transaction = PlanTransaction(swap())
    assert run(transaction, {"s2": StepResult.UNDONE}) == ["s1", "s2", "s1~undo"]
    assert transaction.status() is PlanStatus.UNDONE
    assert [s.id for s, _ in transaction.left_out()] == ["s3"]


def test_a_parked_vm_that_can_not_go_on_goes_back_after_who_took_its_place() -> None:
    transaction = PlanTransaction(swap())
    order = run(transaction, {"s3": StepResult.SKIPPED})
    assert order == ["s1", "s2", "s3", "s2~undo", "s1~undo"]
    assert transaction.status() is PlanStatus.UNDONE


@pytest.mark.parametrize(
    ("undone", "rest"),
    [(StepResult.DONE, []), (StepResult.FAILED, []), (StepResult.UNDONE, ["s2", "s3"])],
)
def test_what_waits_for_a_step_waits_until_its_undoing_has_ended(
    undone: StepResult, rest: list[str]
) -> None:
    """A daemon that was told to stop took vm1 back when it crashed; the next one isn't told so."""
    transaction = PlanTransaction(swap(), {StepId("s1"): StepResult.DONE})
    undoing = reversed_step(swap().steps[0])
    transaction.begin(undoing)
    assert transaction.ready() == []
    transaction.finished(undoing, undone)
    assert run(transaction, {}) == rest


@pytest.mark.parametrize("how", [StepResult.FAILED, StepResult.SKIPPED])
def test_nobody_is_taken_back_where_another_could_not_be_taken_away(how: StepResult) -> None:
    """vm2 is in vm1's place still, and the two of them may be more than a host can hold."""
    transaction = PlanTransaction(swap())
    order = run(transaction, {"s3": StepResult.SKIPPED, "s2~undo": how})
    assert order == ["s1", "s2", "s3", "s2~undo"]
    assert transaction.status() is PlanStatus.FAILED


def test_nobody_is_taken_back_where_one_may_be_that_failed() -> None:
    """Such as one that ran there, and couldn't be moved back."""
    transaction = PlanTransaction(swap())
    assert run(transaction, {"s2": StepResult.FAILED}) == ["s1", "s2"]
    assert transaction.status() is PlanStatus.FAILED


@pytest.mark.parametrize(
    ("how", "begun"),
    [
        pytest.param(StepResult.FAILED, [], id="nobody knows where it is"),
        pytest.param(StepResult.SKIPPED, ["s3"], id="it has stayed away"),
    ],
)
def test_nobody_goes_where_one_may_be_that_was_to_be_taken_back(
    how: StepResult, begun: list[str]
) -> None:
    relying = replace(
        step(3, mandatory=True), after=(StepId("s2"),), relies_on=(StepId("s1"),), group=None
    )
    transaction = PlanTransaction(plan(step(1), step(2), relying))
    order = run(transaction, {"s2": StepResult.UNDONE, "s1~undo": how})
    assert order == ["s1", "s2", "s1~undo", *begun]
    assert transaction.status() is PlanStatus.FAILED


def test_an_evacuated_vm_stays_where_it_is_parked_rather_than_going_back() -> None:
    transaction = PlanTransaction(swap(mandatory=True))
    assert run(transaction, {"s2": StepResult.UNDONE}) == ["s1", "s2"]
    assert [why for _, why in transaction.left_out()] == ["a move that it relies on wasn't made"]
    assert transaction.status() is PlanStatus.DONE


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        pytest.param(1, ["s1~undo"], id="back, for nobody took its place"),
        pytest.param(2, ["s3"], id="on, for the way is free"),
    ],
)
def test_stopping_leaves_nobody_parked(begun: int, rest: list[str]) -> None:
    transaction = PlanTransaction(swap())
    for _ in range(begun):
        (each,) = transaction.ready()
        transaction.begin(each)
        transaction.finished(each, StepResult.DONE)
    transaction.stop("a notice came in")
    assert run(transaction, {}) == rest


def test_nobody_stays_parked_for_one_that_was_to_flee_and_can_not() -> None:
    room = step(5, mandatory=True, group=None)
    flees = replace(
        step(6, stage=1, mandatory=True, group=None), relies_on=(room.id,), deadline=NOW
    )
    transaction = PlanTransaction(plan(*swap().steps, room, flees))
    for each in transaction.ready():
        transaction.begin(each)
    transaction.make_way("a notice came in")
    transaction.finished(swap().steps[0], StepResult.DONE)
    transaction.finished(room, StepResult.UNDONE)
    assert run(transaction, {}) == ["s1~undo"]


def test_stopping_before_a_vm_is_parked_takes_nobody_back() -> None:
    aside, other, onward = (replace(each, group=GroupId("g1")) for each in swap().steps)
    mate = step(3, stage=0)
    aside = replace(aside, after=(mate.id,))
    transaction = PlanTransaction(plan(mate, aside, other, replace(onward, id=StepId("s4"))))
    (begun,) = transaction.ready()
    transaction.begin(begun)
    transaction.stop("a notice came in")
    transaction.finished(begun, StepResult.DONE)
    assert run(transaction, {}) == []
    assert transaction.status() is PlanStatus.DONE


def test_what_was_taken_back_before_a_crash_is_not_relied_on_after_it() -> None:
    results = {StepId("s1"): StepResult.DONE, StepId("s1~undo"): StepResult.DONE}
    transaction = PlanTransaction(swap(), results)
    assert run(transaction, {}) == []
    assert transaction.status() is PlanStatus.UNDONE


def test_who_only_waits_for_a_link_begins_though_the_move_before_it_failed() -> None:
    behind = replace(step(2, stage=1, group=None), after=(StepId("s1"),))
    relying = replace(step(3, stage=1, group=None), relies_on=(StepId("s1"),))
    transaction = PlanTransaction(plan(step(1, group=None), behind, relying))
    assert run(transaction, {"s1": StepResult.UNDONE}) == ["s1", "s2"]


def test_a_step_begins_as_soon_as_what_it_waits_for_has_ended() -> None:
    third = replace(step(3, stage=1, group=None), after=(StepId("s1"),))
    transaction = PlanTransaction(plan(step(1, group=None), step(2, group=None), third))
    first, second = transaction.ready()
    transaction.begin(first)
    transaction.begin(second)
    transaction.finished(first, StepResult.DONE)
    assert [s.id for s in transaction.ready()] == ["s3"]
