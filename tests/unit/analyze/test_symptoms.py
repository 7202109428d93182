"""Reasons to think again: told when they come up, and not again while they last."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import pytest

from tests.unit.analyze.traffic import START, matrix_of
from transhume.analyze import find_symptoms, watch
from transhume.analyze.deadlines import Standing, measured_changeover, standing
from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CloudName,
    Group,
    GroupId,
    Host,
    HostName,
    JobName,
    Measurement,
    Outcome,
    Placement,
    PlanId,
    Prediction,
    PriceTick,
    Progress,
    Resources,
    RevocationNotice,
    Snapshot,
    StepId,
    StepResult,
    Symptom,
    SymptomKind,
    Vm,
    VmName,
)
from transhume.policies.model import DeadlineGoal, Policy

A, B = CloudName("a"), CloudName("b")
A1, B1 = HostName("a1"), HostName("b1")
VM0, VM1, VM2 = (VmName(f"vm{i}") for i in range(3))
GIB = 1 << 30
SMALL = Resources(vcpus=1, memory_bytes=GIB)
LATER = START + timedelta(seconds=5)


def price(cloud: CloudName, vcpu: float, egress: float = 0.09) -> PriceTick:
    return PriceTick(
        cloud=cloud, at=START, dollars_per_vcpu_hour=vcpu, egress_dollars_per_gb=egress
    )


def capacity(host: HostName, vcpus: int) -> CapacityReport:
    free = Resources(vcpus=vcpus, memory_bytes=vcpus * GIB)
    return CapacityReport(
        host=host, at=START, total=Resources(vcpus=16, memory_bytes=16 * GIB), free=free
    )


BEFORE = Snapshot(
    version=1,
    at=START,
    clouds={A: Cloud(name=A), B: Cloud(name=B)},
    hosts={A1: Host(name=A1, cloud=A), B1: Host(name=B1, cloud=B)},
    vms={name: Vm(name=name, uuid=name, needs=SMALL) for name in (VM0, VM1, VM2)},
    placement=Placement(host_of={VM0: A1, VM1: A1, VM2: B1}),
    capacity={A1: capacity(A1, 4), B1: capacity(B1, 4)},
    prices={A: price(A, 0.04), B: price(B, 0.05)},
)
NOW = replace(BEFORE, version=2, at=LATER)


def seen(
    before: Snapshot | None, now: Snapshot, policies: Sequence[Policy] = ()
) -> list[tuple[SymptomKind, str]]:
    return [(found.kind, found.subject) for found in find_symptoms(before, now, policies)]


def only(before: Snapshot | None, now: Snapshot, policies: Sequence[Policy] = ()) -> Symptom:
    (found,) = find_symptoms(before, now, policies)
    assert found.at == now.at
    return found


def test_when_nothing_changed_there_is_nothing_to_tell() -> None:
    assert seen(BEFORE, NOW) == []
    assert seen(None, NOW) == []


def test_a_host_that_answers_again_has_room_to_give_and_a_silent_one_has_none() -> None:
    silent = replace(NOW, capacity={**NOW.capacity, B1: replace(capacity(B1, 9), silent=True)})
    assert seen(BEFORE, silent) == []
    assert seen(silent, NOW) == [(SymptomKind.CAPACITY_BACK, B)]


# --- prices ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("new", "told"),
    [
        pytest.param(
            price(A, 0.08), "a's price changed: vCPU hour $0.04 to $0.08 (+100%)", id="up"
        ),
        pytest.param(
            price(A, 0.01), "a's price changed: vCPU hour $0.04 to $0.01 (-75%)", id="down"
        ),
        pytest.param(
            price(A, 0.04, 0.0), "a's price changed: GB of egress $0.09 to $0 (-100%)", id="egress"
        ),
    ],
)
def test_a_changed_price_is_told_with_both_numbers(new: PriceTick, told: str) -> None:
    found = only(BEFORE, replace(NOW, prices={**BEFORE.prices, A: new}))

    assert (found.kind, found.subject) == (SymptomKind.PRICE_CHANGED, "a")
    assert found.detail == told


def test_a_price_within_a_provider_is_told_where_it_moves_by_itself() -> None:
    nearer = replace(price(A, 0.04), egress_within_provider_dollars_per_gb=0.02)
    found = only(BEFORE, replace(NOW, prices={**BEFORE.prices, A: nearer}))
    told = "a's price changed: GB of egress within its provider $0.09 to $0.02 (-78%)"
    assert found.detail == told


def test_a_price_that_moves_by_less_than_a_hundredth_has_not_changed() -> None:
    assert seen(BEFORE, replace(NOW, prices={**BEFORE.prices, A: price(A, 0.0403)})) == []


def test_something_that_was_free_and_now_costs_has_changed() -> None:
    free = replace(BEFORE, prices={A: price(A, 0.0)})

    assert only(free, replace(NOW, prices={A: price(A, 0.01)})).detail.endswith("$0 to $0.01")


# --- notices and capacity ----------------------------------------------------------------------------

NOTICE = RevocationNotice(cloud=A, at=LATER, deadline=LATER + timedelta(seconds=120))


def test_a_notice_is_told_once_with_the_time_left() -> None:
    noticed = replace(NOW, notices=(NOTICE,))

    found = only(BEFORE, noticed)

    assert (found.kind, found.subject) == (SymptomKind.NOTICE, "a")
    assert found.detail == "a will be gone in 2m"
    assert seen(noticed, replace(noticed, version=3)) == []


def test_a_notice_that_stands_at_the_first_look_is_new() -> None:
    assert seen(None, replace(NOW, notices=(NOTICE,))) == [(SymptomKind.NOTICE, "a")]


def test_a_notice_that_is_over_at_the_first_look_is_none() -> None:
    over = replace(NOW, at=NOTICE.deadline + timedelta(seconds=1), notices=(NOTICE,))
    assert seen(None, over) == []


def test_a_notice_with_another_deadline_is_another_notice() -> None:
    sooner = replace(NOTICE, deadline=LATER + timedelta(seconds=30), host=A1)
    first, second = (
        replace(NOW, notices=(replace(NOTICE, host=A1),)),
        replace(NOW, notices=(sooner,)),
    )

    assert only(first, second).detail == "host a1 of a will be gone in 30s"


def test_a_notice_taken_back_is_capacity_that_came_back() -> None:
    found = only(replace(BEFORE, notices=(NOTICE,)), NOW)

    assert (found.kind, found.subject) == (SymptomKind.CAPACITY_BACK, "a")


def test_a_notice_that_ran_out_brings_nothing_back() -> None:
    gone = replace(NOW, at=NOTICE.deadline + timedelta(seconds=1))

    assert seen(replace(BEFORE, notices=(NOTICE,)), gone) == []


def test_room_for_a_vm_that_was_not_there_is_told() -> None:
    found = only(BEFORE, replace(NOW, capacity={**BEFORE.capacity, B1: capacity(B1, 6)}))

    assert (found.kind, found.subject) == (SymptomKind.CAPACITY_BACK, "b")
    assert found.detail == "host b1 of b has 2 vCPUs and 2.15 GB more to give"


def test_a_new_host_is_room() -> None:
    b2 = HostName("b2")
    now = replace(
        NOW,
        hosts={**BEFORE.hosts, b2: Host(name=b2, cloud=B)},
        capacity={**BEFORE.capacity, b2: capacity(b2, 8)},
    )

    assert seen(BEFORE, now) == [(SymptomKind.CAPACITY_BACK, "b")]


def test_room_for_less_than_any_vm_is_no_reason() -> None:
    crumbs = replace(capacity(B1, 4), free=Resources(vcpus=8, memory_bytes=4 * GIB + 1000))

    assert seen(BEFORE, replace(NOW, capacity={**BEFORE.capacity, B1: crumbs})) == []


def outcome(seconds: float = 12.0, result: StepResult = StepResult.DONE) -> Outcome:
    return Outcome(
        plan=PlanId("p"),
        step=StepId("s"),
        vm=VM0,
        source=A1,
        destination=B1,
        result=result,
        why="",
        started_at=START - timedelta(seconds=20),
        ended_at=START,
        predicted=Prediction(bytes=1, seconds=1, downtime_seconds=0, dollars=0),
        measured=Measurement(bytes=1, seconds=seconds),
    )


@pytest.mark.parametrize(
    ("before", "now"),
    [
        pytest.param(
            replace(BEFORE, moving=frozenset({VM0})),
            replace(NOW, capacity={A1: capacity(A1, 5), B1: capacity(B1, 4)}),
            id="as the move ends",
        ),
        pytest.param(
            BEFORE,
            replace(
                NOW, capacity={A1: capacity(A1, 5), B1: capacity(B1, 4)}, outcomes=(outcome(),)
            ),
            id="as a report comes in late",
        ),
        pytest.param(
            BEFORE,
            replace(
                NOW,
                capacity={A1: capacity(A1, 5), B1: capacity(B1, 3)},
                placement=Placement(host_of={VM0: B1, VM1: A1, VM2: B1}),
            ),
            id="as the placement explains it",
        ),
    ],
)
def test_room_that_our_own_move_left_behind_is_no_reason_to_move_again(
    before: Snapshot, now: Snapshot
) -> None:
    """Else each plan would bring about the next one."""
    assert seen(before, now) == []


# --- groups and VMs ----------------------------------------------------------------------------------

GROUP = Group(
    id=GroupId("g-vm0"),
    vms=(VM0, VM2),
    internal_bytes_per_second=3e6,
    external_bytes_per_second=0,
)


def test_a_group_in_two_clouds_is_told_once_with_what_crosses() -> None:
    matrix = matrix_of([[0, 0, 2e6], [0, 0, 0], [1e6, 0, 0]])
    split = replace(NOW, groups=(GROUP,), matrix=matrix)

    found = only(BEFORE, split)

    assert (found.kind, found.subject) == (SymptomKind.GROUP_SPLIT, "g-vm0")
    assert found.detail == "group g-vm0 is split: 1 in a, 1 in b; 3 MB/s cross between them"
    assert seen(split, replace(split, version=3)) == []
    assert seen(None, split) == [(SymptomKind.GROUP_SPLIT, "g-vm0")]


def test_a_group_in_one_cloud_is_whole() -> None:
    assert seen(BEFORE, replace(NOW, groups=(replace(GROUP, vms=(VM0, VM1)),))) == []


def test_a_vm_that_is_nowhere_any_more_is_lost() -> None:
    found = only(BEFORE, replace(NOW, placement=Placement(host_of={VM0: A1, VM2: B1})))

    assert (found.kind, found.subject) == (SymptomKind.VM_LOST, "vm1")
    assert found.detail == "vm1 was on a1 and is nowhere now"


def test_a_vm_that_is_being_moved_is_not_lost() -> None:
    gone = replace(NOW, placement=Placement(host_of={VM0: A1, VM2: B1}), moving=frozenset({VM1}))

    assert SymptomKind.VM_LOST not in dict(seen(BEFORE, gone))


# --- deadlines ---------------------------------------------------------------------------------------

JOB = JobName("blast")
GOAL = DeadlineGoal(
    at=START + timedelta(hours=10), work_seconds=8 * 3600, progress_job=JOB, changeover_seconds=1800
)


def at_hour(hour: float, done: float) -> Snapshot:
    return replace(
        BEFORE,
        at=START + timedelta(hours=hour),
        progress={JOB: Progress(job=JOB, at=START, done=done, total=80)},
    )


def late_policy(goal: DeadlineGoal = GOAL) -> Policy:
    return Policy(name="on-time", source="on-time.yaml", deadline=goal)


@pytest.mark.parametrize(
    ("hour", "done", "at_risk"),
    [
        pytest.param(0.0, 0, False, id="10 h for 8 h and 2 changeovers"),
        pytest.param(1.0, 0, False, id="9 h: exactly enough"),
        pytest.param(1.1, 0, True, id="less than that"),
        pytest.param(5.0, 40, False, id="half done at half time"),
        pytest.param(9.9, 80, False, id="all done: no time is needed"),
    ],
)
def test_a_job_is_at_risk_when_less_is_left_than_its_work_and_two_changeovers(
    hour: float, done: float, at_risk: bool
) -> None:
    assert standing(GOAL, at_hour(hour, done)).at_risk == at_risk


def test_a_deadline_at_risk_is_told_once_with_its_arithmetic() -> None:
    safe, late = at_hour(1.0, 0), at_hour(2.0, 0)

    found = only(safe, late, [late_policy()])

    assert (found.kind, found.subject) == (SymptomKind.DEADLINE_AT_RISK, "blast")
    assert found.detail == "blast is at risk: 8h of work and two changeovers of 30m in 8h"
    assert seen(late, at_hour(2.1, 0), [late_policy()]) == []


def test_a_job_of_two_deadlines_is_told_once_of_each_that_is_at_risk() -> None:
    soft, hard = (
        late_policy(),
        replace(late_policy(replace(GOAL, at=GOAL.at + timedelta(hours=10))), name="hard"),
    )
    looks = [at_hour(hour, 0) for hour in (1.0, 2.0, 2.1, 2.2, 12.0, 12.1)]

    assert told_in(looks, [soft, hard]) == [0, 1, 0, 0, 1, 0]


def test_a_deadline_that_comes_back_with_its_policy_is_told_again() -> None:
    late = at_hour(2.0, 0)
    _, memory = watch(None, late, [late_policy()])
    _, memory = watch(memory, late, [])

    assert [found.kind for found in watch(memory, late, [late_policy()])[0]] == [
        SymptomKind.DEADLINE_AT_RISK
    ]


def test_without_word_of_progress_nothing_is_done_yet() -> None:
    silent = replace(at_hour(2.0, 0), progress={})

    assert standing(GOAL, silent) == Standing(
        work_left=8 * 3600.0, time_left=8 * 3600.0, changeover=1800
    )


def test_a_changeover_that_nobody_wrote_down_is_the_median_of_those_measured() -> None:
    outcomes = tuple(outcome(seconds) for seconds in (10.0, 11.0, 300.0))
    measured = replace(BEFORE, outcomes=(*outcomes, outcome(9000.0, StepResult.UNDONE)))

    assert measured_changeover(measured) == 11.0
    assert measured_changeover(BEFORE) == 0.0
    assert standing(replace(GOAL, changeover_seconds=None), measured).changeover == 11.0


# --- what flaps about a threshold --------------------------------------------------------------------


def told_in(looks: Sequence[Snapshot], policies: Sequence[Policy] = ()) -> list[int]:
    """Return how many symptoms each look brings, one after another."""
    counts, memory = [], None
    for number, snapshot in enumerate(looks):
        symptoms, memory = watch(memory, replace(snapshot, version=number), policies)
        counts.append(len(symptoms))
    return counts


def after(seconds: float, snapshot: Snapshot = BEFORE) -> Snapshot:
    return replace(snapshot, at=START + timedelta(seconds=seconds))


def priced(*dollars: float) -> list[Snapshot]:
    return [replace(BEFORE, prices={A: price(A, each)}) for each in dollars]


def test_watching_tells_what_two_looks_tell() -> None:
    changed = replace(NOW, prices={**BEFORE.prices, A: price(A, 0.08)}, notices=(NOTICE,))
    _, memory = watch(None, BEFORE, ())

    assert watch(memory, changed, ())[0] == find_symptoms(BEFORE, changed, ())


def test_a_price_that_wobbles_about_the_threshold_is_told_once() -> None:
    assert told_in(priced(0.04, *[0.0405, 0.04] * 5)) == [0, 1] + [0] * 9


def test_a_price_that_comes_back_from_further_is_told_again() -> None:
    assert told_in(priced(0.04, 0.044, 0.04, 0.044)) == [0, 1, 1, 1]


def test_a_price_that_creeps_is_told_when_it_has_come_far_enough() -> None:
    """Each step is below the threshold; together they are not."""
    assert sum(told_in(priced(*[0.04 * 1.004**step for step in range(16)]))) == 5


def split(at: float, vms: Sequence[VmName] = (VM0, VM2), name: str = "g-vm0") -> Snapshot:
    return after(at, replace(BEFORE, groups=(replace(GROUP, id=GroupId(name), vms=tuple(vms)),)))


def test_a_group_that_splits_and_heals_and_splits_is_told_once() -> None:
    looks = [after(0), split(5), after(10), split(15), after(20), split(25)]

    assert told_in(looks) == [0, 1, 0, 0, 0, 0]


def test_a_group_that_splits_after_it_was_whole_for_long_is_told_again() -> None:
    assert told_in([after(0), split(5), after(10), after(70), split(75)]) == [0, 1, 0, 0, 1]


def test_a_split_group_that_loses_and_regains_a_vm_and_its_name_is_told_once() -> None:
    others = [VmName(f"vm{i}") for i in range(3, 8)]
    placement = Placement(host_of={**BEFORE.placement.host_of, **dict.fromkeys(others, B1)})

    def looked(at: float, vms: Sequence[VmName], name: str) -> Snapshot:
        return replace(split(at, vms, name), placement=placement)

    with_all = [VM0, VM1, *others]
    looks = [
        looked(0, with_all, "g-vm0"),
        looked(5, with_all[1:], "g-vm1"),
        looked(10, with_all, "g-vm0"),
    ]

    assert told_in(looks) == [1, 0, 0]


def test_a_split_that_becomes_another_one_is_told() -> None:
    moved = replace(split(10), placement=Placement(host_of={VM0: B1, VM1: A1, VM2: A1}))

    assert told_in([split(0), split(5), moved]) == [1, 0, 1]


def test_a_job_about_its_limit_is_told_once_until_it_is_clearly_safe() -> None:
    """Safe again it is only with time for another changeover, which is half an hour."""
    late, nearly, safe = at_hour(1.1, 0), at_hour(1.1, 2), at_hour(1.1, 8)
    policies = [late_policy()]

    assert told_in([late, nearly, late, nearly, late], policies) == [1, 0, 0, 0, 0]
    assert told_in([late, safe, late], policies) == [1, 0, 1]
    assert told_in([late, at_hour(9.9, 80), late], policies) == [1, 0, 1]


def roomy(at: float, vcpus: int) -> Snapshot:
    return after(at, replace(BEFORE, capacity={**BEFORE.capacity, B1: capacity(B1, vcpus)}))


def test_room_that_comes_and_goes_is_told_once() -> None:
    looks = [roomy(at, 4 + 2 * (at % 10 == 5)) for at in range(0, 60, 5)]

    assert told_in(looks) == [0, 1] + [0] * 10


def test_more_room_than_was_told_is_told_and_so_is_the_same_after_a_while() -> None:
    looks = [roomy(0, 4), roomy(5, 6), roomy(10, 4), roomy(15, 9), roomy(20, 4), roomy(90, 6)]

    assert told_in(looks) == [0, 1, 0, 1, 0, 1]
