"""What a plan that can't mend everything says of why: the rules, notices and capacities that conflict."""

from dataclasses import replace

from tests.unit.plan.scenario import (
    BLAST,
    ON_BLAST,
    blast,
    planned,
    policy,
    two_clusters,
    unplanned,
)
from tests.unit.plan.worlds import notice, price, vm
from transhume.knowledge.codec import decode, encode
from transhume.knowledge.model import (
    CloudName,
    Conflict,
    ConflictKind,
    ConflictMember,
    NoPlan,
    Plan,
)
from transhume.plan import explain_no_plan, explain_plan
from transhume.policies.model import Forbid, Pin, Quota, Selector, Spread, Together

CALM = (price("a", 0.05), price("b", 0.05), price("c", 0.05))
A, B = CloudName("a"), CloudName("b")
SMALL_B = two_clusters(prices=CALM[:2], matrix=None, groups=(), room={"a1": 6, "b1": 2})


def texts(result: Plan | NoPlan) -> list[str]:
    assert result.conflict is not None
    assert result.conflict.minimal
    return [member.text for member in result.conflict.members]


def test_a_pin_to_a_cloud_without_room_names_both() -> None:
    plan = planned(SMALL_B, policy(rules=(Pin(who=ON_BLAST, cloud=B),)))

    assert texts(plan) == [
        "rule 1 of policy cheap (vm1, vm3, vm5 in b only)",
        "the capacity of b (2 vCPUs)",
    ]
    rule, capacity = plan.conflict.members if plan.conflict else ()
    assert (rule.kind, rule.policy, rule.rule) == (ConflictKind.RULE, "cheap", 1)
    assert (capacity.kind, capacity.cloud) == (ConflictKind.CAPACITY, B)


def test_rules_that_have_nothing_to_do_with_it_arent_named() -> None:
    rules = (
        Forbid(who=ON_BLAST, clouds=(CloudName("c"),)),
        Spread(who=ON_BLAST, minimum=1),
        Pin(who=ON_BLAST, cloud=B),
        Quota(cloud=A, vms=6),
    )

    assert [text[:6] for text in texts(planned(SMALL_B, policy(rules=rules)))] == [
        "rule 3",
        "the ca",
    ]


def test_two_policies_that_pull_one_group_apart_are_both_named() -> None:
    nothing = unplanned(
        two_clusters(
            placement={"a1": blast[:2], "b1": blast[2:]},
            room={"a1": 6, "b1": 6},
            prices=CALM[:2],
            matrix=None,
            groups=(),
        ),
        policy("stay", rules=(Pin(who=Selector(vms=BLAST[:1]), cloud=A),)),
        policy("go", rules=(Pin(who=Selector(vms=BLAST[2:]), cloud=B),)),
        policy("whole", rules=(Together(who=ON_BLAST),)),
    )

    assert texts(nothing) == [
        "rule 1 of policy stay (vm1 in a only)",
        "rule 1 of policy go (vm5 in b only)",
        "rule 1 of policy whole (vm1, vm3, vm5 in one cloud)",
    ]


def test_a_notice_without_room_elsewhere_is_named_with_the_full_cloud() -> None:
    plan = planned(replace(SMALL_B, notices=(notice("a", 600),)), policy())

    assert texts(plan) == [
        "the revocation of a at 12:10:00 UTC",
        "the capacity of b (2 vCPUs)",
    ]


def test_a_notice_that_leaves_too_little_time_is_named_with_the_time() -> None:
    late = two_clusters(prices=CALM[:2], matrix=None, groups=(), notices=[notice("a", 2)])

    assert texts(unplanned(late, policy())) == [
        "the revocation of a at 12:00:02 UTC",
        "the time that moves out of a take before the notice ends",
    ]


def test_a_rule_that_the_clouds_cant_meet_stands_alone() -> None:
    plan = planned(two_clusters(prices=CALM[:2]), policy(rules=(Spread(who=ON_BLAST, minimum=3),)))

    assert texts(plan) == ["rule 1 of policy cheap (vm1, vm3, vm5 in at least 3 clouds)"]
    assert "this can't hold, whatever else gives way: rule 1" in " ".join(explain_plan(plan))


def test_what_no_order_allows_is_named() -> None:
    swap = policy(
        rules=(
            Pin(who=Selector(vms=("vm1",)), cloud=B),
            Pin(who=Selector(vms=("vm2",)), cloud=A),
        )
    )
    full = two_clusters(
        placement={"a1": [vm("vm1")], "b1": [vm("vm2")]},
        room={"a1": 1, "b1": 1},
        prices=CALM[:2],
        matrix=None,
        groups=(),
    )

    nothing = unplanned(full, swap)

    assert any("no order of the moves" in text for text in texts(nothing))
    assert nothing.conflict is not None
    assert nothing.conflict.sentence in " ".join(explain_no_plan(nothing))


def test_a_plan_that_mends_everything_has_no_conflict() -> None:
    calm = two_clusters(prices=CALM[:2], matrix=None, groups=())

    assert planned(calm, policy(rules=(Pin(who=ON_BLAST, cloud=B),))).conflict is None


def test_a_conflict_that_may_be_smaller_is_said_to_be() -> None:
    both = tuple(ConflictMember(kind=ConflictKind.RULE, text=text) for text in ("this", "that"))

    assert Conflict(members=both, minimal=True).sentence == (
        "these can't all hold: this; that. Without any one of them the others could"
    )
    assert Conflict(members=both, minimal=False).sentence == (
        "these can't all hold: this; that. Some must give way; fewer may be to blame"
    )


def test_decisions_written_before_there_were_conflicts_can_be_read() -> None:
    plan = planned(SMALL_B, policy(rules=(Pin(who=ON_BLAST, cloud=B),)))
    written = encode(plan)
    before = written[: written.index(b',"conflict":')] + b"}"

    assert decode(Plan, written) == plan
    assert decode(Plan, before) == replace(plan, conflict=None, explanations={}, limits=())
