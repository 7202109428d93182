"""Notices and rules: what must move moves, as far as it fits, and the rest is reported before it begins."""

from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import pytest

from tests.unit.plan.scenario import (
    BLAST,
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
from tests.unit.plan.worlds import MIB, NOW, group, moved, notice, price, vm
from transhume.knowledge.model import CloudName, MoveKind, Plan, Resources, Snapshot
from transhume.plan import ExactSolver, find_faults, make_plan, planner
from transhume.policies.model import (
    AvailabilityGoal,
    DeadlineGoal,
    ElectiveLimits,
    Forbid,
    Hold,
    KeepTogether,
    MoveBudget,
    Pin,
    Quota,
    Rule,
    Selector,
    Spread,
    Together,
)

CALM = (price("a", 0.05), price("b", 0.05), price("c", 0.05))
A, B, C = CloudName("a"), CloudName("b"), CloudName("c")


def test_a_notice_evacuates_group_by_group_in_time() -> None:
    plan = planned(two_clusters(prices=CALM[:2], notices=[notice("a", 120)]), policy())

    assert ways(plan) == dict.fromkeys(NAMES, "b")
    assert {step.kind for step in plan.steps} == {MoveKind.MANDATORY}
    assert {step.deadline for step in plan.steps} == {NOW + timedelta(seconds=120)}
    assert [step.group for step in plan.steps] == ["g-blast"] * 3 + ["g-web"] * 3
    assert plan.unplaced == {}
    assert plan.before.risk > 0
    assert plan.after.risk == 0


def test_what_doesnt_fit_is_reported_and_a_whole_group_goes_rather_than_halves() -> None:
    tight = two_clusters(prices=CALM[:2], notices=[notice("a", 120)], room={"a1": 6, "b1": 3})

    plan = planned(tight, policy())

    assert tuple(sorted(ways(plan))) in (BLAST, WEB)
    left = plan.unplaced["vm1" if "vm1" not in ways(plan) else "vm2"]
    assert left == (
        "a will be gone at 12:02:00 UTC; it needs 1 vCPU and 96 MiB; b has 0 free vCPUs"
    )
    assert len(plan.unplaced) == 3


def test_what_fits_is_saved_even_where_that_splits_a_group() -> None:
    tight = two_clusters(prices=CALM[:2], notices=[notice("a", 120)], room={"a1": 6, "b1": 4})

    plan = planned(tight, policy(keep_together=KeepTogether(cut_above_bytes_per_second=1)))

    assert len(plan.steps) == 4
    assert len(plan.unplaced) == 2


def test_nothing_fits_is_no_plan_with_the_reason() -> None:
    full = two_clusters(prices=CALM[:2], notices=[notice("a", 120)], room={"a1": 6, "b1": 0})

    nothing = unplanned(full, policy())

    assert nothing.reason.startswith("vm1 (and 5 more) should move and can't: a will be gone")
    assert set(nothing.unplaced) == set(NAMES)


def test_what_cannot_be_in_time_is_told_and_not_begun() -> None:
    """A move takes 6.6 s over this link: four fit into 30 s."""
    hurried = two_clusters(prices=CALM[:2], notices=[notice("a", 30)])

    plan = planned(hurried, policy())

    assert len(plan.steps) == 4
    assert max(step.ends_after_seconds for step in plan.steps) <= 30
    assert set(plan.unplaced) == set(NAMES) - set(ways(plan))
    assert all("the notice leaves 30s" in why for why in plan.unplaced.values())


def test_what_would_be_late_only_by_a_guess_is_tried_last_and_said_so() -> None:
    """Nobody said what the link carries; 12.5 MB/s are assumed."""
    hurried = two_clusters(prices=CALM[:2], notices=[notice("a", 30)])

    plan = planned(replace(hurried, links=()), policy())

    assert len(plan.steps) == 6
    assert {step.vm for step in plan.steps[-2:]} == set(plan.unplaced)
    assert all("tried last" in why for why in plan.unplaced.values())


@pytest.mark.parametrize(
    ("left", "evacuates", "seconds"),
    [
        pytest.param(120, True, 6.0, id="a twentieth of the time"),
        pytest.param(10, True, 1.0, id="a second at least"),
        pytest.param(3600, True, 20.0, id="no more than ever"),
        pytest.param(120, False, 20.0, id="nobody flees"),
        pytest.param(-60, True, 20.0, id="nothing is left"),
    ],
)
def test_a_short_notice_isnt_spent_on_thinking(
    monkeypatch: pytest.MonkeyPatch, left: float, evacuates: bool, seconds: float
) -> None:
    asked = []

    def solver(*, seconds: float, **_: int) -> ExactSolver:
        asked.append(seconds)
        return ExactSolver()

    monkeypatch.setattr(planner, "SolverBySize", solver)
    known = two_clusters(prices=CALM[:2], notices=[notice("a", left), notice("b", 9 * left)])
    rule = policy(availability=AvailabilityGoal(evacuate_on_notice=evacuates))
    make_plan(known, [rule], trigger="a test")

    assert asked == [seconds]


def test_a_policy_that_doesnt_evacuate_stays_and_bears_the_risk() -> None:
    staying = policy(
        availability=AvailabilityGoal(evacuate_on_notice=False),
        rules=(Pin(who=Selector(), cloud=A),),
    )

    nothing = unplanned(two_clusters(prices=CALM[:2], notices=[notice("a", 120)]), staying)

    assert nothing.before.risk > 0


def test_a_notice_for_one_host_drains_it_within_its_cloud() -> None:
    draining = two_clusters(
        placement={"a1": blast, "a2": web},
        room={"a1": 3, "a2": 6, "b1": 6},
        prices=CALM[:2],
        notices=[notice("a", 600, host="a1")],
    )

    plan = planned(draining, policy())

    assert {step.destination for step in plan.steps} == {"a2"}
    assert set(ways(plan)) == set(BLAST)
    assert "host a1 of a will be gone" in plan.steps[0].reason


def test_cooldown_and_budgets_dont_hinder_what_must_be() -> None:
    limited = policy(
        elective=ElectiveLimits(
            cooldown_seconds=6 * 3600, budgets=(MoveBudget(moves=0, per_seconds=3600),)
        )
    )
    fleeing = two_clusters(
        prices=CALM[:2],
        notices=[notice("a", 600)],
        outcomes=[moved(name, ago=60) for name in NAMES],
    )

    assert set(ways(planned(fleeing, limited))) == set(NAMES)


def test_an_evacuation_may_go_to_a_cloud_that_tells_no_price() -> None:
    plan = planned(two_clusters(prices=CALM[:1], notices=[notice("a", 600)]), policy())

    assert set(ways(plan).values()) == {"b"}


RULES = [
    pytest.param(Pin(who=Selector(vms=("vm1",)), cloud=B), {"vm1": "b"}, "pins vm1 to b", id="pin"),
    pytest.param(
        Forbid(who=ON_BLAST, clouds=(A,)),
        dict.fromkeys(BLAST, "b"),
        "forbids a to vm1",
        id="forbid",
    ),
]


@pytest.mark.parametrize(("rule", "expected", "why"), RULES)
def test_a_broken_rule_moves_those_it_is_about(
    rule: Rule, expected: dict[str, str], why: str
) -> None:
    plan = planned(two_clusters(prices=CALM[:2], matrix=None), policy(rules=(rule,)))

    assert ways(plan) == expected
    assert why in plan.steps[0].reason
    assert plan.steps[0].kind is MoveKind.MANDATORY


def test_the_fewest_moves_bring_together_what_must_be_together() -> None:
    apart = two_clusters(placement={"a1": [*blast[:2], *web], "b1": blast[2:]}, prices=CALM[:2])

    plan = planned(apart, policy(rules=(Together(who=ON_BLAST),)))

    assert ways(plan) == {"vm5": "a"}


def test_a_spread_is_restored_with_one_move_and_kept_from_then_on() -> None:
    spread = policy(rules=(Spread(who=ON_BLAST, minimum=2, hold=Hold.ALWAYS),))

    plan = planned(two_clusters(prices=CALM[:2]), spread)
    assert len(plan.steps) == 1

    dear = (price("a", 0.9), price("b", 0.05))
    split = two_clusters(placement={"a1": [*blast[:2], *web], "b1": blast[2:]}, prices=dear)
    later = planned(split, spread)
    assert "vm1" not in ways(later) or "vm3" not in ways(later), "one of them holds the fort in a"


def test_a_full_quota_keeps_the_rest_out() -> None:
    dear = two_clusters(matrix=None, groups=())

    plan = planned(dear, policy(rules=(Quota(cloud=B, vms=2),)))

    assert len(plan.steps) == 2


def test_an_exceeded_quota_drives_out_what_is_too_much() -> None:
    calm = two_clusters(prices=CALM[:2], matrix=None, groups=())

    plan = planned(calm, policy(rules=(Quota(cloud=A, vms=4),)))

    assert len(plan.steps) == 2
    assert plan.steps[0].reason == "policy cheap allows 4 VMs in a"


def test_a_quota_holds_in_an_evacuation_too() -> None:
    fleeing = two_clusters(prices=CALM[:2], notices=[notice("a", 600)])

    plan = planned(fleeing, policy(rules=(Quota(cloud=B, vms=4),)))

    assert len(plan.steps) == 4
    assert "allows 4 VMs in b" in next(iter(plan.unplaced.values()))


def test_a_spread_gives_way_to_an_evacuation() -> None:
    split = two_clusters(
        placement={"a1": [*blast[:2], *web], "b1": blast[2:]},
        prices=CALM[:2],
        notices=[notice("a", 600)],
    )

    plan = planned(split, policy(rules=(Spread(who=ON_BLAST, minimum=2, hold=Hold.ALWAYS),)))

    assert set(ways(plan)) == {"vm1", "vm3", *WEB}


def test_a_measured_group_isnt_split_even_where_that_would_pay() -> None:
    """One of the three fits into b, and crossing costs nothing."""
    free = (price("a", 0.20, egress=0.0), price("b", 0.05, egress=0.0))
    room = {"a1": 6, "b1": 1}
    kept = policy(applies_to=ON_BLAST, keep_together=KeepTogether(cut_above_bytes_per_second=1e6))

    assert len(planned(two_clusters(prices=free, room=room), policy()).steps) == 1
    unplanned(two_clusters(prices=free, room=room), kept)


def test_a_vm_makes_room_for_one_that_has_nowhere_else_to_go() -> None:
    pinned = policy(rules=(Pin(who=Selector(vms=("vm1",)), cloud=B),))
    full = two_clusters(
        placement={"a1": blast, "b1": [vm("lodger", cluster="web")]},
        room={"a1": 4, "b1": 1, "c1": 1},
        prices=CALM,
        matrix=None,
        groups=(),
    )

    plan = planned(full, pinned)

    assert ways(plan)["vm1"] == "b"
    assert plan.steps[0].vm == "lodger", "it has to be gone before vm1 can arrive"
    assert plan.steps[0].stage < plan.steps[1].stage
    assert plan.steps[0].reason == "makes room for VMs that have to move"


def test_a_rule_that_cannot_be_met_is_met_as_far_as_can_be_and_reported() -> None:
    plan = planned(two_clusters(prices=CALM[:2]), policy(rules=(Spread(who=ON_BLAST, minimum=3),)))

    assert len(plan.steps) == 1, "two clouds are nearer to three than one is"
    assert "in at least 3 clouds, which can't be met" in plan.unplaced["vm1"]


SWAP = policy(
    rules=(
        Pin(who=Selector(vms=("vm1",)), cloud=B),
        Pin(who=Selector(vms=("vm2",)), cloud=A),
    )
)


def swapping(**room: int) -> Snapshot:
    """Return two full clouds each of which has the other's VM."""
    return two_clusters(
        placement={"a1": [vm("vm1")], "b1": [vm("vm2")]},
        room={"a1": 1, "b1": 1, **room},
        prices=CALM,
        matrix=None,
        groups=(),
    )


def test_two_full_clouds_that_would_swap_stay_as_they_are_where_nobody_can_be_parked() -> None:
    nothing = unplanned(swapping(), SWAP)

    assert "no order of the moves" in nothing.unplaced["vm1"]


def test_two_full_clouds_swap_by_way_of_a_third() -> None:
    plan = planned(swapping(c1=1), SWAP)

    aside, other, onward = plan.steps
    assert (aside.destination, onward.source) == ("c1", "c1")
    assert aside.vm == onward.vm != other.vm
    assert aside.reason.startswith(f"steps aside to make room for {other.vm}, then goes on to ")
    assert aside.kind is onward.kind is MoveKind.MANDATORY
    assert aside.id in other.relies_on
    assert set(onward.relies_on) == {aside.id, other.id}
    once = sum(step.prediction.dollars for step in plan.steps)
    assert plan.after.migration == pytest.approx(once * 3600 / plan.horizon_seconds)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(Forbid(who=Selector(), clouds=(C,)), id="forbidden"),
        pytest.param(Quota(cloud=C, vms=0), id="quota"),
    ],
)
def test_nobody_is_parked_where_a_rule_is_against_it(rule: Rule) -> None:
    unplanned(swapping(c1=1), replace(SWAP, rules=(*SWAP.rules, rule)))


def test_what_is_forbidden_at_the_end_only_may_be_on_the_way() -> None:
    rule = Forbid(who=Selector(), clouds=(C,), hold=Hold.AT_END)

    plan = planned(swapping(c1=1), replace(SWAP, rules=(*SWAP.rules, rule)))

    assert plan.steps[0].destination_cloud == C
    stays = replace(policy(), rules=(rule,))
    assert any(
        "forbids c" in fault for fault in find_faults(swapping(c1=1), [stays], plan.steps[:1])
    )


def test_nobody_is_parked_on_a_host_that_will_be_gone() -> None:
    unplanned(replace(swapping(c1=1), notices=(notice("c", 600),)), SWAP)


def test_room_that_is_scattered_over_hosts_is_no_room() -> None:
    big = vm("big", needs=Resources(vcpus=2, memory_bytes=192 * MIB))
    scattered = two_clusters(
        placement={"a1": [big], "b1": [vm("x", cluster="x")], "b2": [vm("y", cluster="x")]},
        room={"a1": 2, "b1": 2, "b2": 2},
        prices=CALM[:2],
        matrix=None,
        groups=(),
        notices=[notice("a", 600)],
    )

    nothing = unplanned(scattered, policy(applies_to=Selector(vms=("big",))))

    assert "on no single host of b" in nothing.unplaced["big"]


@pytest.mark.parametrize("differ", [0, 1], ids=["of one size", "each a little larger"])
def test_scattered_room_takes_as_many_as_fit_however_many_there_are(differ: int) -> None:
    """In all there is room for seven, on the two hosts for three each; nearly fifty will be lost anyway."""
    several = [
        vm(f"vm{n}", needs=Resources(vcpus=1, memory_bytes=96 * MIB + differ * n))
        for n in range(50)
    ]
    half = Resources(vcpus=50, memory_bytes=350 * MIB)
    scattered = two_clusters(
        placement={"a1": several},
        room={"a1": 51, "b1": half, "b2": half},
        prices=CALM[:2],
        matrix=None,
        groups=(),
        notices=[notice("a", 3600)],
    )

    plan = make_plan(scattered, [policy()], trigger="a test", solver=ExactSolver())

    assert isinstance(plan, Plan), plan.reason
    assert sorted(step.destination for step in plan.steps) == ["b1"] * 3 + ["b2"] * 3
    assert len(plan.unplaced) == 44
    assert not plan.optimal


def test_who_flees_chooses_a_host_before_who_moves_for_money() -> None:
    """In all there would be room for the third as well, but beside it on no host for both of the others."""
    fleeing = [
        vm(name, cluster="x", needs=Resources(vcpus=1, memory_bytes=64 * MIB))
        for name in ("vm1", "vm2")
    ]
    half = Resources(vcpus=9, memory_bytes=120 * MIB)
    scattered = two_clusters(
        placement={"a1": fleeing, "c1": [vm("large")]},
        room={"a1": 2, "b1": half, "b2": half, "c1": 1},
        prices=(*CALM[:2], price("c", 5.0)),
        matrix=None,
        groups=(),
        notices=[notice("a", 3600)],
    )

    plan = planned(scattered, policy())

    assert {step.vm for step in plan.steps} == {"vm1", "vm2"}
    assert not plan.unplaced


def test_a_job_without_slack_makes_elective_moves_too_dear() -> None:
    late_if_moved = policy(
        deadline=DeadlineGoal(
            at=NOW + timedelta(seconds=1000), work_seconds=999, changeover_seconds=10
        )
    )
    at_leisure = policy(
        deadline=DeadlineGoal(
            at=NOW + timedelta(seconds=1000), work_seconds=900, changeover_seconds=10
        )
    )

    unplanned(two_clusters(), late_if_moved)
    assert len(planned(two_clusters(), at_leisure).steps) == 6


def test_every_group_of_a_larger_evacuation_is_contiguous_and_faultless() -> None:
    vms = [vm(f"v{n}") for n in range(6)]
    crowd = two_clusters(
        placement={"a1": vms},
        room={"a1": 6, "b1": 3, "c1": 3},
        prices=CALM,
        matrix=None,
        groups=(group("one", "v0", "v2", "v4"), group("two", "v1", "v3", "v5")),
        notices=[notice("a", 600)],
    )

    plan = planned(crowd, policy())

    assert find_faults(crowd, [policy()], plan.steps) == ()
    for way in ("b", "c"):
        moves = [step for step in plan.steps if step.destination_cloud == way]
        assert len(moves) == 3, "both ways are used at the same time"
        changes = sum(one.group != other.group for one, other in pairwise(moves))
        assert changes < len({step.group for step in moves}), "no group is taken up twice"
