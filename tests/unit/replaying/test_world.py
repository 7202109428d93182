"""What becomes of VMs, jobs and money in a replayed world."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from tests.unit.plan.worlds import moved, traffic
from transhume.knowledge.model import (
    Cloud,
    CloudName,
    Host,
    HostName,
    JobName,
    Link,
    Measurement,
    Outcome,
    PriceTick,
    Resources,
    RevocationNotice,
    StepResult,
    Transfer,
    Vm,
    VmName,
)
from transhume.plan import PlannerSettings
from transhume.policies.model import (
    AnyOf,
    DeadlineGoal,
    ElectiveLimits,
    Expectation,
    MigrationTerms,
    MoveBudget,
    Pin,
    Policy,
    PriceGoal,
    Selector,
)
from transhume.replaying import Alternative, Facts, Run, Trace, Traffic, compare
from transhume.replaying.migration import MigrationModel
from transhume.replaying.screen import Look, Screen
from transhume.replaying.trace import Change, NewTraffic
from transhume.replaying.understood import is_understood

START = datetime(2030, 1, 1, tzinfo=UTC)
HOUR = timedelta(hours=1)
GIB = 1 << 30
A, B = CloudName("a"), CloudName("b")
PINNED_TO_B = Policy(
    name="pinned", source="here", rules=(Pin(who=Selector(vms=("vm1",)), cloud=B),)
)
PAYING = Policy(name="paying", source="here", elective=ElectiveLimits(cooldown_seconds=7200.0))


def price(cloud: CloudName, vcpu: float, at: datetime = START, egress: float = 0.0) -> PriceTick:
    return PriceTick(cloud=cloud, at=at, dollars_per_vcpu_hour=vcpu, egress_dollars_per_gb=egress)


def notice(cloud: CloudName, at: datetime, minutes: float) -> RevocationNotice:
    return RevocationNotice(cloud=cloud, at=at, deadline=at + timedelta(minutes=minutes))


def trace(*changes: Change, hours: float = 10, memory: int = GIB, room: int = 8) -> Trace:
    """Return two VMs in a, room in b, and a link that carries 10 MB/s; the clouds cost the same."""
    hosts = {HostName(f"{c}1"): Host(name=HostName(f"{c}1"), cloud=c) for c in (A, B)}
    needs = Resources(vcpus=1, memory_bytes=memory)
    names = (VmName("vm1"), VmName("vm2"))
    return Trace(
        start=START,
        end=START + hours * HOUR,
        facts=Facts(
            clouds={cloud: Cloud(name=cloud) for cloud in (A, B)},
            hosts=hosts,
            vms={name: Vm(name=name, uuid=name, needs=needs) for name in names},
            links=(Link(clouds=frozenset((A, B)), bytes_per_second=1e7),),
            room=dict.fromkeys(hosts, Resources(vcpus=room, memory_bytes=room * memory)),
        ),
        host_of=dict.fromkeys(names, HostName("a1")),
        changes=(
            price(A, 1.0),
            price(B, 1.0),
            NewTraffic(at=START, traffic=Traffic(matrix=traffic(names, {}))),
            *changes,
        ),
    )


def replayed(found: Trace, *policies: Policy) -> tuple[Run, Run]:
    """Return staying put, and what the policies come to."""
    stay, run = compare(found, [Alternative(name="it", policies=policies)]).runs
    return stay, run


def test_staying_put_costs_what_the_prices_say() -> None:
    stay, _ = replayed(trace(price(A, 3.0, START + 4 * HOUR)), PAYING)
    assert stay.compute_dollars == pytest.approx(2 * (4 * 1.0 + 6 * 3.0))
    assert stay.paid_dollars == stay.compute_dollars
    assert [round(point.dollars, 6) for point in (stay.points[0], stay.points[-1])] == [0.0, 44.0]


def test_traffic_that_crosses_clouds_is_paid_for_and_is_the_cut() -> None:
    split = trace()
    chatty = traffic(("vm1", "vm2"), {("vm1", "vm2"): 1e6}, {"vm2": 2e6})
    found = Trace(
        start=split.start,
        end=split.end,
        facts=split.facts,
        host_of={VmName("vm1"): HostName("a1"), VmName("vm2"): HostName("b1")},
        changes=(
            price(A, 0.0, egress=0.5),
            price(B, 0.0, egress=0.1),
            NewTraffic(at=START, traffic=Traffic(matrix=chatty)),
        ),
    )
    stay = compare(found, []).runs[0]
    assert stay.mean_cut_bytes_per_second == pytest.approx(1e6)
    assert stay.egress_dollars == pytest.approx(36 * (0.5 + 2 * 0.1))


def test_a_replay_bills_traffic_within_a_provider_as_that_asks() -> None:
    split = trace()
    clouds = {name: Cloud(name=name, provider="one", region="east") for name in (A, B)}
    nearer = replace(price(A, 0.0, egress=0.5), egress_within_region_dollars_per_gb=0.01)
    chatty = traffic(("vm1", "vm2"), {("vm1", "vm2"): 1e6}, {"vm1": 2e6})
    found = replace(
        split,
        facts=replace(split.facts, clouds=clouds),
        host_of={VmName("vm1"): HostName("a1"), VmName("vm2"): HostName("b1")},
        changes=(nearer, price(B, 0.0), NewTraffic(at=START, traffic=Traffic(matrix=chatty))),
    )
    stay = compare(found, []).runs[0]
    assert stay.egress_dollars == pytest.approx(36 * (0.01 + 2 * 0.5))


def test_what_pays_moves_and_takes_its_time() -> None:
    _, run = replayed(trace(price(A, 3.0, START + 4 * HOUR)), PAYING)
    assert [move.vm for move in run.moves] == ["vm1", "vm2"]
    seconds = 0.7 * GIB / 1e7 + 1
    assert [(move.ended - move.began).total_seconds() for move in run.moves] == pytest.approx(
        [seconds, seconds], abs=1e-3
    )
    assert run.moves[0].began == START + 4 * HOUR
    assert run.moves[1].began >= run.moves[0].ended, "one at a time on a link"
    assert run.elective_moves == 2


def test_a_hold_makes_what_pays_wait() -> None:
    patient = Policy(name="patient", source="here", elective=ElectiveLimits(hold_seconds=630.0))
    _, run = replayed(trace(price(A, 3.0, START + 4 * HOUR)), patient)
    assert run.moves[0].began == START + 4 * HOUR + timedelta(minutes=11), "at a whole tick"


def test_a_budget_lets_moves_wait_for_its_window() -> None:
    limits = ElectiveLimits(budgets=(MoveBudget(moves=1, per_seconds=3600.0),), min_gain=0.0)
    thrifty = Policy(name="thrifty", source="here", elective=limits)
    _, run = replayed(trace(price(A, 3.0, START + 4 * HOUR)), thrifty)
    first, second = run.moves
    assert HOUR <= second.began - first.ended <= HOUR + timedelta(minutes=1)


def test_what_was_moved_in_two_steps_is_spent_from_a_budget_once() -> None:
    """Parked on its way, or moved back: the planner has one more move, and is to be asked for it."""
    twice = [moved("vm1", ago=60), moved("vm1", ago=90)]
    limits = ElectiveLimits(
        budgets=(MoveBudget(moves=2, per_seconds=3600.0),), cooldown_seconds=0.0
    )
    thrifty = Policy(name="thrifty", source="here", elective=limits)
    found = trace(price(A, 3.0))
    facts, at = found.at_start(), twice[0].ended_at
    model = MigrationModel.calibrated(facts, (), at=at, settings=PlannerSettings())
    look = Look(
        at=at, facts=facts, host_of=found.host_of, placement_version=1, outcomes=tuple(twice)
    )
    assert not Screen((thrifty,), model).nothing_pays(look)


def test_a_host_that_goes_takes_its_vms_until_it_is_back() -> None:
    gone = notice(A, START + HOUR, 2)
    back = RevocationNotice(cloud=A, at=START + 3 * HOUR, deadline=gone.deadline, withdrawn=True)
    stay, run = replayed(trace(gone, back), PAYING)
    assert stay.lost_vms == 2
    assert stay.down_vm_seconds == pytest.approx(2 * (2 * 3600 - 120 + 300))
    assert stay.loss_dollars == 20.0
    assert stay.compute_dollars == pytest.approx(2 * (10 - (2 * 3600 - 120 + 300) / 3600))
    assert run.lost_vms == 1, (
        "two minutes are enough for one of two moves of 76 s; no more are begun"
    )
    assert [move.result for move in run.moves] == [StepResult.DONE]


def test_a_move_to_a_host_that_goes_is_undone() -> None:
    bigger = trace(
        price(A, 9.0, START + HOUR),
        notice(B, START + HOUR + timedelta(minutes=1), 5),
        memory=16 * GIB,
    )
    _, run = replayed(bigger, PAYING)
    assert run.moves[0].result is StepResult.UNDONE
    assert run.moves[0].ended == START + HOUR + timedelta(minutes=6)
    assert run.undone_moves == 1
    assert run.lost_vms == 0


def test_a_job_stands_still_while_its_vms_are_down_and_misses_its_deadline() -> None:
    goal = DeadlineGoal(at=START + 5 * HOUR, work_seconds=4.5 * 3600)
    late = Policy(name="late", source="here", applies_to=Selector(vms=("vm1",)), deadline=goal)
    gone = notice(A, START + HOUR, 0)
    back = RevocationNotice(cloud=A, at=START + 2 * HOUR, deadline=gone.deadline, withdrawn=True)
    stay, _ = replayed(replace(trace(gone, back, hours=6), tick_seconds=300.0), late)
    (missed,) = stay.missed
    assert missed.job == "late"
    assert missed.late_seconds == pytest.approx(1800 + 300)
    assert missed.done == 1.0


def test_the_changeover_of_moves_holds_a_job_up() -> None:
    goal = DeadlineGoal(
        at=START + 6 * HOUR,
        work_seconds=5 * 3600,
        changeover_seconds=600.0,
        progress_job=JobName("work"),
    )
    quick = Policy(name="quick", source="here", deadline=goal, price=PriceGoal())
    rise = replace(trace(price(A, 9.0, START + HOUR), hours=7), tick_seconds=600.0)
    _, run = replayed(rise, quick)
    assert run.elective_moves == 2
    assert run.missed == ()
    tight = replace(goal, at=START + 5 * HOUR + timedelta(minutes=1))
    staying, _ = replayed(rise, replace(quick, deadline=tight))
    assert staying.missed == ()


def test_a_policy_with_words_unknown_here_is_asked_at_every_tick() -> None:
    watched = Policy(
        name="watched", source="here", after=Expectation(expect=("price",), within_seconds=60)
    )
    assert is_understood((PAYING,))
    assert not is_understood((watched,))
    _, run = replayed(trace(hours=1), watched)
    assert run.asked == 61


def test_a_plan_whose_effect_does_not_come_about_is_taken_back_in_a_replay_too() -> None:
    """A peak that is over soon: the daemon goes back, once, and stays for a cool-down."""
    hasty = replace(PAYING, after=Expectation(expect=("price",), within_seconds=1800))
    over = START + 1.2 * HOUR
    peak = (price(A, 3.0, START + HOUR), price(B, 2.0, over), price(A, 1.0, over))
    _, run = replayed(trace(*peak, hours=3), hasty)
    assert [(move.vm, move.destination) for move in run.moves] == [
        (vm, host) for host in ("b1", "a1") for vm in ("vm1", "vm2")
    ]
    back = run.moves[2]
    assert back.began - run.moves[1].ended < timedelta(minutes=31)
    assert back.reason.startswith("goes back: ")
    assert run.moves_within_cooldown == 0


def test_where_nothing_changes_the_planner_is_asked_once() -> None:
    wobbles = [price(B, 1.0 + n / 1000, START + n * HOUR / 4) for n in range(1, 30)]
    _, run = replayed(trace(*wobbles), PAYING)
    assert run.asked == 1


def test_a_vm_outside_its_list_of_clouds_is_time_in_violation() -> None:
    listed = AnyOf(who=Selector(vms=("vm1",)), clouds=(B,))
    wanting = replace(PAYING, name="wanting", rules=(listed,))
    stay, run = replayed(trace(hours=2), wanting)
    name = "wanting: rule 1 (any_of)"
    assert stay.violation_seconds[name] == 2 * 3600
    (move,) = run.moves
    assert (move.vm, move.destination) == ("vm1", "b1")
    assert run.violation_seconds[name] == pytest.approx((move.ended - START).total_seconds())
    assert is_understood((wanting,)), "it needn't be asked about at every tick"


def test_what_any_of_judges_is_not_named_as_unjudged() -> None:
    wanting = replace(PAYING, rules=(AnyOf(who=Selector(), clouds=(B,)),))
    assert compare(trace(hours=1), [Alternative(name="it", policies=(wanting,))]).unjudged == ()


def test_namesakes_with_other_rules_are_judged_apart() -> None:
    """As where a policy is compared with a variant of itself."""
    here, there = (replace(PAYING, rules=(Pin(who=Selector(), cloud=c),)) for c in (A, B))
    found = compare(
        trace(hours=1),
        [Alternative(name="old", policies=(here,)), Alternative(name="new", policies=(there,))],
    )
    stay = found.runs[0].violation_seconds
    assert stay == {"paying: rule 1 (pin)": 0.0, "new: paying: rule 1 (pin)": 3600.0}


def test_a_job_goes_on_from_where_it_was() -> None:
    goal = DeadlineGoal(at=START + 3 * HOUR, work_seconds=8 * 3600, progress_job=JobName("frames"))
    late = Policy(name="late", source="here", deadline=goal)
    from_nothing = replace(trace(hours=4), tick_seconds=1200.0)
    stay, _ = replayed(from_nothing, late)
    assert [missed.job for missed in stay.missed] == ["frames"]
    for done in (0.75, 1.0):
        stay, _ = replayed(replace(from_nothing, done={JobName("frames"): done}), late)
        assert stay.missed == ()


def with_disks(found: Trace, held: int, *outcomes: Outcome) -> Trace:
    vms = {name: replace(vm, disk_bytes=held) for name, vm in found.facts.vms.items()}
    return replace(found, facts=replace(found.facts, vms=vms), outcomes=outcomes)


def test_disks_that_a_policy_has_copied_are_part_of_moves_and_not_learnt_as_memory() -> None:
    """After the first move the second, of as much, takes as much again."""
    pins = (Pin(who=Selector(vms=("vm1",)), cloud=B), Pin(who=Selector(vms=("vm2",)), cloud=B))
    alone = Policy(name="alone", source="here", rules=pins)
    copying = replace(alone, name="copying", migration=MigrationTerms(copy_disks=True))
    found = with_disks(trace(), 20 * GIB)

    _, without = replayed(found, alone)
    _, copied = replayed(found, copying)

    assert [move.bytes for move in without.moves] == [pytest.approx(0.7 * GIB, abs=1)] * 2
    assert [move.bytes for move in copied.moves] == [pytest.approx(20.7 * GIB, rel=1e-6)] * 2


def test_disks_that_both_ends_were_seen_to_see_arent_copied_in_a_replay_either() -> None:
    copying = replace(PINNED_TO_B, migration=MigrationTerms(copy_disks=True))
    stayed = moved(
        "vm1",
        ago=60,
        source="a1",
        destination="b1",
        measured=Measurement(bytes=GIB // 2, seconds=60.0, disk_bytes=0),
    )
    _, run = replayed(with_disks(trace(), 20 * GIB, stayed), copying)

    assert [move.bytes for move in run.moves] == [pytest.approx(GIB / 2, rel=1e-6)]


def test_a_planner_in_a_replay_knows_which_disks_both_ends_see() -> None:
    """With them, no move would pay."""
    copying = replace(PAYING, migration=MigrationTerms(copy_disks=True))
    stayed = [
        moved(
            vm,
            ago=60,
            source="a1",
            destination="b1",
            measured=Measurement(bytes=GIB // 2, seconds=60.0, disk_bytes=0),
        )
        for vm in ("vm1", "vm2")
    ]
    rise = trace(price(A, 1.2, START + HOUR, egress=0.09), hours=10)

    _, seen = replayed(with_disks(rise, 200 * GIB, *stayed), copying)
    _, unseen = replayed(with_disks(rise, 200 * GIB), copying)

    assert (len(seen.moves), len(unseen.moves)) == (2, 0)


def test_a_factor_above_1_stays_what_it_is_after_a_replayed_move() -> None:
    pins = (Pin(who=Selector(vms=("vm1",)), cloud=B), Pin(who=Selector(vms=("vm2",)), cloud=B))
    copying = Policy(
        name="copying", source="here", rules=pins, migration=MigrationTerms(copy_disks=True)
    )
    measured = Measurement(
        bytes=GIB // 2 + 3 * GIB, seconds=60.0, disk_bytes=3 * GIB, disks=Transfer(new_pages=1)
    )
    past = moved("vm1", ago=60, source="a1", destination="b1", measured=measured)

    _, run = replayed(with_disks(trace(), GIB, past), copying)

    assert [move.bytes for move in run.moves] == [pytest.approx(3.5 * GIB, rel=1e-3)] * 2
