"""The loop's judgement: pace, mode and patience, on a snapshot in which one cloud has become dear."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CloudName,
    CommunicationMatrix,
    Endpoint,
    Host,
    HostName,
    Interface,
    MacAddress,
    NoPlan,
    PairTraffic,
    PatternKind,
    Placement,
    Plan,
    PlanStatus,
    PriceTick,
    Resources,
    RevocationNotice,
    Snapshot,
    TrafficWindow,
    Vm,
    VmName,
)
from transhume.loop import FIRST_PATIENCE, Loop, perceive
from transhume.plan import PlannerSettings, make_plan
from transhume.policies.model import (
    DeadlineGoal,
    ElectiveLimits,
    Mode,
    Pin,
    Policy,
    Selector,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MIB = 1 << 20
A, B = CloudName("a"), CloudName("b")
ROOM = Resources(vcpus=8, memory_bytes=8 * 96 * MIB)
NEEDS = Resources(vcpus=1, memory_bytes=96 * MIB)


def snapshot(*, dear: float = 0.4, seen_seconds: float = 60.0) -> Snapshot:
    names = (VmName("vm1"), VmName("vm2"))
    matrix = CommunicationMatrix.of_dense(
        [[0, 10**8], [10**8, 0]], start=NOW, seconds=seen_seconds, vms=names
    )
    hosts = {HostName(f"{c}1"): Host(name=HostName(f"{c}1"), cloud=c) for c in (A, B)}
    return Snapshot(
        version=1,
        at=NOW,
        clouds={c: Cloud(name=c) for c in (A, B)},
        hosts=hosts,
        vms={name: Vm(name=name, uuid=name, needs=NEEDS) for name in names},
        placement=Placement(host_of=dict.fromkeys(names, HostName("a1"))),
        capacity={host: CapacityReport(host=host, at=NOW, total=ROOM, free=ROOM) for host in hosts},
        prices={
            A: PriceTick(cloud=A, at=NOW, dollars_per_vcpu_hour=dear),
            B: PriceTick(cloud=B, at=NOW, dollars_per_vcpu_hour=0.04),
        },
        matrix=matrix,
    )


def policy(mode: Mode = Mode.AUTO, hold_seconds: float = 0.0) -> Policy:
    return Policy(
        name="cheap", source="t", mode=mode, elective=ElectiveLimits(hold_seconds=hold_seconds)
    )


def loop() -> Loop:
    return Loop(PlannerSettings())


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        (Mode.AUTO, PlanStatus.EXECUTING),
        (Mode.APPROVE, PlanStatus.AWAITING_APPROVAL),
        (Mode.RECOMMEND, PlanStatus.RECOMMENDED),
    ],
)
def test_the_mode_says_what_becomes_of_a_plan(mode: Mode, status: PlanStatus) -> None:
    decision = loop().consider(snapshot(), [policy(mode)])
    assert isinstance(decision.result, Plan)
    assert decision.status is status
    assert (decision.to_execute is not None) == (mode is Mode.AUTO)


def test_the_most_cautious_policy_decides() -> None:
    cautious = replace(policy(Mode.RECOMMEND), name="cautious")
    assert loop().consider(snapshot(), [policy(), cautious]).to_execute is None


def of_one(vm: str, mode: Mode, hold_seconds: float = 0.0) -> Policy:
    return replace(policy(mode, hold_seconds), name=f"of-{vm}", applies_to=Selector(vms=(vm,)))


def test_a_policy_that_only_recommends_keeps_no_other_vms_from_being_evacuated() -> None:
    """Nor do its VMs take the room on paper that the others could have."""
    notice = RevocationNotice(cloud=A, at=NOW, deadline=NOW + timedelta(seconds=120))
    one = replace(snapshot().capacity[HostName("b1")], total=NEEDS, free=NEEDS)
    known = snapshot()
    tight = replace(known, notices=(notice,), capacity={**known.capacity, HostName("b1"): one})
    for bold in ("vm1", "vm2"):
        timid = "vm2" if bold == "vm1" else "vm1"
        policies = [of_one(bold, Mode.AUTO), of_one(timid, Mode.RECOMMEND)]
        plan = loop().consider(tight, policies).to_execute
        assert plan is not None
        assert [step.vm for step in plan.steps] == [bold]


def test_vms_that_wait_for_nobody_go_first_and_the_others_are_recommended_then() -> None:
    """The hold of each counts, also while both are in the best plan of all."""
    judgement = loop()
    silent = CommunicationMatrix.of_dense(
        [[0, 0], [0, 0]], start=NOW, seconds=60.0, vms=(VmName("vm1"), VmName("vm2"))
    )
    calm = replace(snapshot(), matrix=silent)
    both = [of_one("vm1", Mode.AUTO, 60.0), of_one("vm2", Mode.APPROVE)]
    assert judgement.consider(calm, both).to_execute is None
    later = replace(calm, at=NOW + timedelta(seconds=61))
    bold = judgement.consider(later, both).to_execute
    assert bold is not None
    assert bold.moves == {("vm1", B)}
    placed = {VmName("vm1"): HostName("b1"), VmName("vm2"): HostName("a1")}
    gone = replace(later, placement=Placement(host_of=placed))
    rest = judgement.consider(gone, both)
    assert rest.status is PlanStatus.AWAITING_APPROVAL
    assert isinstance(rest.result, Plan)
    assert rest.result.moves == {("vm2", B)}


def test_looking_anew_for_an_approval_begins_no_hold() -> None:
    judgement, held = loop(), [policy(hold_seconds=60)]
    judgement.rethink(snapshot(), held)
    later = replace(snapshot(), at=NOW + timedelta(seconds=61))
    assert "0 s of 60 s" in judgement.consider(later, held).waiting


def test_vms_whose_moves_came_to_nothing_keep_no_others_from_a_persons_word() -> None:
    judgement = loop()
    notice = RevocationNotice(cloud=A, at=NOW, deadline=NOW + timedelta(seconds=120))
    revoked = replace(snapshot(), notices=(notice,))
    both = [of_one("vm1", Mode.AUTO), of_one("vm2", Mode.APPROVE)]
    failing = judgement.consider(revoked, both).to_execute
    assert failing is not None
    judgement.ended(failing, PlanStatus.FAILED, NOW)
    asked = judgement.consider(revoked, both)
    assert asked.status is PlanStatus.AWAITING_APPROVAL
    assert isinstance(asked.result, Plan)
    assert {step.vm for step in asked.result.steps} == {"vm1", "vm2"}


def test_a_recommendation_is_recorded_once() -> None:
    judgement = loop()
    assert judgement.consider(snapshot(), [policy(Mode.RECOMMEND)]).status is not None
    assert judgement.consider(snapshot(), [policy(Mode.RECOMMEND)]).status is None


def test_a_recommendation_that_was_superseded_is_recorded_anew() -> None:
    judgement = loop()
    first = judgement.consider(snapshot(), [policy(Mode.APPROVE)])
    judgement.forget()
    again = judgement.consider(snapshot(), [policy(Mode.APPROVE)])
    assert again.status is first.status is PlanStatus.AWAITING_APPROVAL


def test_thinking_again_for_a_comparison_leaves_no_trace() -> None:
    judgement = loop()
    assert isinstance(judgement.rethink(snapshot(), [policy(Mode.APPROVE)]), Plan)
    assert judgement.consider(snapshot(), [policy(Mode.APPROVE)]).status is not None


def test_nothing_to_do_is_said_with_its_reason() -> None:
    decision = loop().consider(snapshot(dear=0.04), [policy()])
    assert isinstance(decision.result, NoPlan)
    assert decision.result.reason


def test_an_elective_plan_waits_until_its_reason_has_lasted() -> None:
    judgement = loop()
    held = judgement.consider(snapshot(), [policy(hold_seconds=60)])
    assert held.to_execute is None
    assert "held" in held.waiting
    later = replace(snapshot(), at=NOW + timedelta(seconds=61))
    assert judgement.consider(later, [policy(hold_seconds=60)]).to_execute is not None


def test_a_reason_that_went_away_starts_its_hold_anew() -> None:
    judgement = loop()
    judgement.consider(snapshot(), [policy(hold_seconds=60)])
    calm = replace(snapshot(dear=0.04), at=NOW + timedelta(seconds=30))
    judgement.consider(calm, [policy(hold_seconds=60)])
    later = replace(snapshot(), at=NOW + timedelta(seconds=61))
    assert judgement.consider(later, [policy(hold_seconds=60)]).to_execute is None


def test_elective_moves_wait_for_traffic_to_have_been_seen() -> None:
    decision = loop().consider(snapshot(seen_seconds=1.0), [policy()])
    assert decision.to_execute is None
    assert "traffic seen" in decision.waiting


def test_elective_moves_rest_on_no_traffic_of_long_ago() -> None:
    """What a daemon finds in the knowledge whose capture has ended, or hasn't begun yet."""
    judgement = Loop(PlannerSettings(), traffic_horizon_seconds=300.0)
    assert judgement.consider(snapshot(), [policy()]).to_execute is not None
    later = replace(snapshot(), at=NOW + timedelta(days=2))
    decision = judgement.consider(later, [policy()])
    assert decision.to_execute is None
    assert decision.waiting.startswith("no traffic seen since ")


def test_traffic_of_which_the_first_is_older_than_the_horizon_is_no_traffic_of_long_ago() -> None:
    """Windows are counted to whole widths: the first of those in the horizon may seem to start before it."""
    at = NOW + timedelta(seconds=302)
    seen = perceive(
        replace(snapshot(), at=at),
        [replace(window("a1/vnet7", 10, after=s), seconds=5.0) for s in range(3, 300, 5)],
        horizon_seconds=300.0,
    )
    judgement = Loop(PlannerSettings(), traffic_horizon_seconds=300.0)
    assert judgement.consider(seen, [policy()]).waiting == ""


def test_an_evacuation_waits_for_nothing() -> None:
    notice = RevocationNotice(cloud=A, at=NOW, deadline=NOW + timedelta(seconds=120))
    revoked = replace(snapshot(seen_seconds=1.0), notices=(notice,))
    decision = loop().consider(revoked, [policy(hold_seconds=600)])
    assert decision.to_execute is not None


def test_moves_that_pay_do_not_ride_along_with_one_that_must_be_made_before_traffic_was_seen() -> (
    None
):
    pin = Pin(who=Selector(vms=("vm1",)), cloud=B)
    decision = loop().consider(snapshot(seen_seconds=1.0), [replace(policy(), rules=(pin,))])
    assert isinstance(decision.result, Plan)
    assert [step.vm for step in decision.result.steps] == ["vm1"]
    assert decision.to_execute is not None


def test_what_a_person_approves_is_compared_with_moves_that_had_not_to_wait_either() -> None:
    """Else a move that must be made is out of date whenever it's approved, as long as others would pay."""
    pin = Pin(who=Selector(vms=("vm1",)), cloud=B)
    cautious = [replace(policy(Mode.APPROVE, hold_seconds=60), rules=(pin,))]
    judgement = loop()
    asked = judgement.consider(snapshot(), cautious)
    assert asked.status is PlanStatus.AWAITING_APPROVAL
    best = judgement.rethink(snapshot(), cautious)
    assert isinstance(asked.result, Plan)
    assert isinstance(best, Plan)
    assert best.moves == asked.result.moves


def test_moves_that_failed_are_not_tried_again_at_once_and_each_time_later() -> None:
    judgement, now = loop(), NOW
    for failures in range(3):
        first = judgement.consider(replace(snapshot(), at=now), [policy()])
        assert first.to_execute is not None
        judgement.ended(first.to_execute, PlanStatus.UNDONE, now)
        patience = FIRST_PATIENCE * 2**failures
        soon = replace(snapshot(), at=now + patience * 0.9)
        assert judgement.consider(soon, [policy()]).to_execute is None
        now += patience


def test_who_flees_waits_for_no_time_to_come_where_the_clock_was_set_back() -> None:
    """Five seconds of patience would be hours, while the notice's time goes by."""
    judgement, ahead = loop(), NOW + timedelta(hours=5)
    notice = RevocationNotice(cloud=A, at=NOW, deadline=ahead + timedelta(seconds=120))
    revoked = replace(snapshot(), at=ahead, notices=(notice,))
    fleeing = judgement.consider(revoked, [policy()]).to_execute
    assert fleeing is not None
    judgement.ended(fleeing, PlanStatus.UNDONE, ahead)
    assert judgement.consider(revoked, [policy()]).to_execute is None
    back = replace(revoked, at=NOW, notices=(replace(notice, deadline=NOW + timedelta(hours=1)),))
    assert judgement.consider(back, [policy()]).to_execute is not None


def test_a_hold_lasts_no_longer_than_it_says_where_the_clock_was_set_back() -> None:
    judgement, held = loop(), [policy(hold_seconds=60)]
    judgement.consider(replace(snapshot(), at=NOW + timedelta(hours=5)), held)
    assert judgement.consider(snapshot(), held).to_execute is None
    later = replace(snapshot(), at=NOW + timedelta(seconds=61))
    assert judgement.consider(later, held).to_execute is not None


def test_moves_that_failed_to_pay_are_tried_at_once_when_a_notice_demands_them() -> None:
    judgement = loop()
    elective = judgement.consider(snapshot(), [policy()]).to_execute
    assert elective is not None
    for _ in range(10):
        judgement.ended(elective, PlanStatus.UNDONE, NOW)
    notice = RevocationNotice(cloud=A, at=NOW, deadline=NOW + timedelta(seconds=120))
    revoked = judgement.consider(replace(snapshot(), notices=(notice,)), [policy()]).to_execute
    assert revoked is not None
    assert {step.vm for step in revoked.steps} == {step.vm for step in elective.steps}


def test_moves_that_failed_to_mend_a_rule_are_tried_at_once_when_a_notice_demands_them() -> None:
    pin = Pin(who=Selector(vms=("vm?",)), cloud=B)
    pinned, judgement = [replace(policy(), rules=(pin,))], loop()
    mending = judgement.consider(snapshot(), pinned).to_execute
    assert mending is not None
    for _ in range(10):
        judgement.ended(mending, PlanStatus.FAILED, NOW)
    assert judgement.consider(snapshot(), pinned).to_execute is None
    notice = RevocationNotice(cloud=A, at=NOW, deadline=NOW + timedelta(seconds=120))
    revoked = judgement.consider(replace(snapshot(), notices=(notice,)), pinned).to_execute
    assert revoked is not None
    assert revoked.moves == mending.moves


def test_a_move_that_fails_time_and_again_keeps_no_others_from_being_made() -> None:
    pin = Pin(who=Selector(vms=("vm1",)), cloud=B)
    silent = CommunicationMatrix.of_dense(
        [[0, 0], [0, 0]], start=NOW, seconds=60.0, vms=(VmName("vm1"), VmName("vm2"))
    )
    known = replace(snapshot(), matrix=silent)
    holding, judgement = [replace(policy(hold_seconds=60), rules=(pin,))], loop()
    failing = judgement.consider(known, holding).to_execute
    assert failing is not None
    assert failing.moves == {("vm1", B)}
    for _ in range(10):
        judgement.ended(failing, PlanStatus.FAILED, NOW)
    assert judgement.consider(known, holding).to_execute is None
    later = judgement.consider(replace(known, at=NOW + timedelta(seconds=61)), holding).to_execute
    assert later is not None
    assert later.moves == {("vm2", B)}


def of_three(*, moved: str = "") -> Snapshot:
    """Three VMs that don't talk to each other, all in the dear cloud but for one that has left it."""
    names = (VmName("vm1"), VmName("vm2"), VmName("vm3"))
    silent = CommunicationMatrix.of_dense([[0, 0, 0]] * 3, start=NOW, seconds=60.0, vms=names)
    return replace(
        snapshot(),
        vms={name: Vm(name=name, uuid=name, needs=NEEDS) for name in names},
        placement=Placement(host_of={n: HostName("b1" if n == moved else "a1") for n in names}),
        matrix=silent,
    )


def test_others_than_those_that_failed_wait_for_no_more_timid_policy_either() -> None:
    pin = Pin(who=Selector(vms=("vm1",)), cloud=B)
    policies = [
        replace(of_one("vm1", Mode.AUTO, 1.0), rules=(pin,)),
        of_one("vm2", Mode.RECOMMEND),
        of_one("vm3", Mode.AUTO),
    ]
    judgement, known = loop(), of_three()
    failing = judgement.consider(known, policies).to_execute
    assert failing is not None
    for _ in range(10):
        judgement.ended(failing, PlanStatus.FAILED, NOW)
    others = judgement.consider(known, policies).to_execute
    assert others is not None
    assert others.moves == {("vm3", B)}


def test_what_is_best_for_the_same_vms_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here there is nothing to do for the bold: their VM is where it's cheap."""
    asked: list[frozenset[VmName]] = []

    def counted(known: Snapshot, policies: Sequence[Policy], **others: Any) -> Plan | NoPlan:
        asked.append(known.moving)
        return make_plan(known, policies, **others)

    monkeypatch.setattr("transhume.loop.make_plan", counted)
    policies = [of_one("vm1", Mode.AUTO), of_one("vm2", Mode.RECOMMEND)]
    loop().consider(of_three(moved="vm1"), policies)
    assert asked == [frozenset(), {"vm2"}]


def test_nothing_is_moved_for_money_while_others_wait_to_flee() -> None:
    """Neither until they may try again, nor until a person has said so."""
    known = snapshot()
    dear = CloudName("c")
    hosts = {**known.hosts, HostName("c1"): Host(name=HostName("c1"), cloud=dear)}
    room = CapacityReport(host=HostName("c1"), at=NOW, total=ROOM, free=ROOM)
    prices = {**known.prices, dear: PriceTick(cloud=dear, at=NOW, dollars_per_vcpu_hour=0.4)}
    apart = replace(
        known,
        hosts=hosts,
        capacity={**known.capacity, HostName("c1"): room},
        prices=prices,
        placement=Placement(host_of={VmName("vm1"): HostName("a1"), VmName("vm2"): HostName("c1")}),
        notices=(RevocationNotice(cloud=A, at=NOW, deadline=NOW + timedelta(seconds=120)),),
    )
    judgement, held = loop(), [policy(hold_seconds=1)]
    failing = judgement.consider(apart, held).to_execute
    assert failing is not None
    assert failing.moves == {("vm1", B)}
    judgement.ended(failing, PlanStatus.FAILED, NOW)
    for seconds in (0, 2):
        soon = replace(apart, at=NOW + timedelta(seconds=seconds))
        assert judgement.consider(soon, held).to_execute is None
    asked = loop().consider(apart, [of_one("vm1", Mode.APPROVE), of_one("vm2", Mode.AUTO)])
    assert asked.status is PlanStatus.AWAITING_APPROVAL
    assert isinstance(asked.result, Plan)
    assert {step.vm for step in asked.result.steps} == {"vm1", "vm2"}


def test_a_plan_that_was_held_asks_for_approval_once_its_reason_has_lasted() -> None:
    judgement, cautious = loop(), [policy(Mode.APPROVE, hold_seconds=60)]
    assert judgement.consider(snapshot(), cautious).status is PlanStatus.RECOMMENDED
    later = replace(snapshot(), at=NOW + timedelta(seconds=61))
    assert judgement.consider(later, cautious).status is PlanStatus.AWAITING_APPROVAL
    assert judgement.consider(later, cautious).status is None


MACS = {VmName(f"vm{n}"): MacAddress(f"52:54:00:00:00:0{n}") for n in (1, 2)}


def window(point: str, count: int, *, dropped: int = 0, after: float = 0.0) -> TrafficWindow:
    ends = [Endpoint(mac=mac) for mac in MACS.values()]
    pairs = [
        PairTraffic(source=one, destination=other, bytes=count, frames=1)
        for one, other in (ends, ends[::-1])
    ]
    return TrafficWindow.of_pairs(
        pairs,
        start=NOW + timedelta(seconds=after),
        seconds=1.0,
        capture_point=point,
        dropped_frames=dropped,
    )


def inventory(*, moving: frozenset[VmName] = frozenset()) -> Snapshot:
    """Return what is known of two VMs at one host, one of which has the tap `vnet7`."""
    devices = dict(zip(MACS, ("vnet7", ""), strict=True))
    vms = {
        name: Vm(
            name=name,
            uuid=name,
            needs=NEEDS,
            interfaces=(Interface(mac=mac, device=devices[name]),),
        )
        for name, mac in MACS.items()
    }
    return replace(snapshot(), vms=vms, moving=moving, matrix=None)


def test_what_the_windows_show_is_in_the_snapshot() -> None:
    seen = perceive(
        replace(inventory(), at=NOW + timedelta(seconds=3)),
        [window("a1/vnet7", 10), window("a1/vnet7", 20, after=2.0)],
        horizon_seconds=60.0,
    )

    assert seen.matrix is not None
    assert (seen.matrix.between(0, 1), seen.matrix.seconds, seen.matrix.start) == (30, 3.0, NOW)
    assert [group.vms for group in seen.groups] == [("vm1", "vm2")]
    assert [(each.kind, each.group) for each in seen.patterns] == [(PatternKind.PAIRS, "g-vm1")]


def test_the_inventory_tells_which_capture_point_is_whose_tap() -> None:
    """Both points saw nothing but these two, so that either looks like the tap of both."""
    windows = [window("a1/vnet7", 900), window("a1/br0", 1000)]

    known = perceive(inventory(), windows, horizon_seconds=60.0).matrix
    moving = perceive(inventory(moving=frozenset(MACS)), windows, horizon_seconds=60.0).matrix

    assert known is not None
    assert moving is not None
    assert known.between(0, 1) == 900
    assert moving.between(0, 1) == 1000, "the device is the one at the host that it leaves"


def test_a_host_whose_clock_is_ahead_adds_no_more_than_its_part() -> None:
    """Of its windows, all that the knowledge keeps are younger than the horizon: an hour's, not a minute's."""
    at = NOW + timedelta(hours=1)
    right = [window("a1/vnet7", 10, after=after) for after in range(3540, 3600)]
    ahead = [window("a1/vnet7", 10, after=after) for after in range(3601, 7200)]

    seen = perceive(replace(inventory(), at=at), [*right, *ahead], horizon_seconds=60.0).matrix

    assert seen is not None
    assert (seen.between(0, 1), seen.seconds) == (600, 60.0)


def test_without_windows_nothing_is_known_of_traffic() -> None:
    assert perceive(inventory(), [], horizon_seconds=60.0).matrix is None


def test_a_deadline_keeps_its_vms_off_machines_that_may_go() -> None:
    """The loop asks the deadline's strategy before it plans: a move that would pay isn't made."""
    cheaper = snapshot()
    revocable = {A: Cloud(name=A), B: Cloud(name=B, revocable=True)}
    goal = DeadlineGoal(
        at=NOW + timedelta(hours=10),
        work_seconds=9 * 3600.0,
        changeover_seconds=600.0,
    )
    judged = loop().consider(replace(cheaper, clouds=revocable), [replace(policy(), deadline=goal)])
    assert isinstance(judged.result, NoPlan)
    assert loop().consider(cheaper, [replace(policy(), deadline=goal)]).to_execute is not None
