"""The gate finds what's wrong with a plan, whoever made it."""

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.plan.scenario import (
    BLAST,
    DEAR_A,
    EAGER,
    ON_BLAST,
    blast,
    planned,
    policy,
    two_clusters,
    web,
)
from tests.unit.plan.worlds import moved, notice
from transhume.knowledge.model import CloudName, HostName, MoveKind, Snapshot, Step, VmName
from transhume.plan import find_faults
from transhume.policies.model import (
    ElectiveLimits,
    Forbid,
    Hold,
    KeepTogether,
    MoveBudget,
    Pin,
    Policy,
    Quota,
    Selector,
    Spread,
    Together,
)

A, B = CloudName("a"), CloudName("b")
SPLIT = {"a1": [*blast[:2], *web], "b1": blast[2:]}


def good() -> tuple[Step, ...]:
    """Return the steps that take blast from a to b, one after the other."""
    return planned(two_clusters(), policy(applies_to=ON_BLAST)).steps


def faults(snapshot: Snapshot, rule_book: Policy, *steps: Step) -> str:
    return "; ".join(find_faults(snapshot, [rule_book], steps))


def test_a_good_plan_has_no_faults() -> None:
    assert faults(two_clusters(), policy(), *good()) == ""


STEP_FAULTS = [
    pytest.param({"source": HostName("b1"), "source_cloud": B}, "isn't on b1", id="elsewhere"),
    pytest.param(
        {"destination": HostName("a1"), "destination_cloud": A}, "where it is", id="nowhere"
    ),
    pytest.param({"destination": HostName("z9")}, "z9 is no host of b", id="unknown host"),
    pytest.param({"destination_cloud": A}, "b1 is no host of a", id="wrong cloud"),
    pytest.param({"stage": -1}, "comes after", id="stages out of order"),
]


@pytest.mark.parametrize(("changes", "fault"), STEP_FAULTS)
def test_a_step_that_isnt_what_it_says_is_found(changes: dict[str, Any], fault: str) -> None:
    assert fault in faults(two_clusters(), policy(), replace(good()[0], **changes))


def test_a_vm_that_moves_twice_is_found() -> None:
    assert "vm1 moves twice" in faults(two_clusters(), policy(), good()[0], good()[0])


SITUATIONS = [
    pytest.param({"moving": ["vm1"]}, {}, "on its way already", id="moving"),
    pytest.param({"room": {"a1": 6, "b1": 2}}, {}, "stage 2: b1 has no room", id="full"),
    pytest.param({"notices": [notice("b", 60)]}, {}, "under a notice", id="revoked"),
    pytest.param({"prices": DEAR_A[:1]}, {}, "b tells no price", id="priceless"),
    pytest.param(
        {}, {"applies_to": Selector(vms=("vm2",))}, "no policy's business", id="not governed"
    ),
    pytest.param({}, {"rules": (Pin(who=ON_BLAST, cloud=A),)}, "pins vm1 to a", id="pin"),
    pytest.param({}, {"rules": (Forbid(who=ON_BLAST, clouds=(B,)),)}, "forbids b", id="forbid"),
    pytest.param({}, {"rules": (Quota(cloud=B, vms=2),)}, "over its quota", id="quota"),
    pytest.param(
        {"outcomes": [moved("vm1", ago=60)]},
        {"elective": ElectiveLimits(cooldown_seconds=61)},
        "within the cool-down",
        id="cool-down",
    ),
    pytest.param(
        {"outcomes": [moved("vm2", ago=60)]},
        {"elective": replace(EAGER, budgets=(MoveBudget(moves=3, per_seconds=100),))},
        "1 of them are spent",
        id="budget",
    ),
]


@pytest.mark.parametrize(("world", "rules", "fault"), SITUATIONS)
def test_a_plan_that_breaks_something_is_found(
    world: dict[str, Any], rules: dict[str, Any], fault: str
) -> None:
    assert fault in faults(two_clusters(**world), policy(**rules), *good())


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        pytest.param(Together(who=ON_BLAST), "not together", id="together"),
        pytest.param(KeepTogether(cut_above_bytes_per_second=1e6), "is split", id="group"),
    ],
)
def test_a_plan_that_ends_halfway_is_found(rule: Any, fault: str) -> None:
    rules = {"keep_together": rule} if isinstance(rule, KeepTogether) else {"rules": (rule,)}

    assert fault in faults(two_clusters(), policy(**rules), *good()[:2])


def test_a_spread_that_fails_only_in_between_is_found_where_it_holds_always() -> None:
    """vm1 and vm5 change places: for a while, both can be in one cloud."""
    split = two_clusters(placement=SPLIT, room={"a1": 7, "b1": 7})
    there = good()[0]
    back = replace(
        there,
        vm=VmName("vm5"),
        source=there.destination,
        destination=there.source,
        source_cloud=there.destination_cloud,
        destination_cloud=there.source_cloud,
    )
    pair = Selector(vms=("vm1", "vm5"))

    at_end = policy(rules=(Spread(who=pair, minimum=2),))
    always = policy(rules=(Spread(who=pair, minimum=2, hold=Hold.ALWAYS),))

    assert faults(split, at_end, there, back) == ""
    assert "doesn't hold meanwhile" in faults(split, always, there, back)


def test_what_was_broken_before_is_no_fault_of_the_plan() -> None:
    split = two_clusters(placement=SPLIT)
    step = replace(planned(two_clusters(), policy()).steps[3], kind=MoveKind.MANDATORY, stage=0)
    assert step.vm not in BLAST

    assert faults(split, policy(rules=(Together(who=ON_BLAST),)), step) == ""
