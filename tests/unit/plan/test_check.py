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
from tests.unit.plan.worlds import moved, notice, price
from transhume.knowledge.model import CloudName, HostName, MoveKind, Snapshot, Step, StepId, VmName
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

A, B, C = CloudName("a"), CloudName("b"), CloudName("c")
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


def parked() -> tuple[Step, ...]:
    """Return the steps that take vm1 to b by way of c."""
    there = good()[0]
    aside = replace(there, destination=HostName("c1"), destination_cloud=CloudName("c"))
    onward = replace(
        there,
        id=StepId("onward"),
        source=HostName("c1"),
        source_cloud=CloudName("c"),
        stage=1,
        relies_on=(aside.id,),
        starts_after_seconds=aside.ends_after_seconds,
    )
    return aside, onward


WITH_C: dict[str, Any] = {
    "room": {"a1": 6, "b1": 6, "c1": 6},
    "prices": (*DEAR_A, price("c", 0.05)),
}


def test_a_vm_that_is_parked_on_its_way_makes_one_move() -> None:
    once = policy(
        elective=ElectiveLimits(
            min_gain=0, cooldown_seconds=3600, budgets=(MoveBudget(moves=1, per_seconds=3600),)
        )
    )

    assert faults(two_clusters(**WITH_C), once, *parked()) == ""


PARKED_FAULTS = [
    pytest.param({"relies_on": ()}, {}, "goes on without having been parked", id="not waiting"),
    pytest.param({"starts_after_seconds": 0.0}, {}, "begins before", id="at the same time"),
    pytest.param({"relies_on": (StepId("x"),)}, {}, "waits for x", id="waits for nobody"),
    pytest.param({}, {"rules": (Pin(who=ON_BLAST, cloud=A),)}, "pins vm1 to a", id="pin"),
    pytest.param({}, {"rules": (Forbid(who=ON_BLAST, clouds=(C,)),)}, "forbids c", id="forbid"),
    pytest.param({}, {"rules": (Quota(cloud=C, vms=0),)}, "vm1 is parked in c", id="quota"),
]


@pytest.mark.parametrize(("changes", "rules", "fault"), PARKED_FAULTS)
def test_a_vm_that_is_parked_wrongly_is_found(
    changes: dict[str, Any], rules: dict[str, Any], fault: str
) -> None:
    aside, onward = parked()
    found = faults(two_clusters(**WITH_C), policy(**rules), aside, replace(onward, **changes))

    assert fault in found


def test_a_pin_that_is_broken_anyway_may_wait_until_the_vm_has_been_parked() -> None:
    pinned = policy(rules=(Pin(who=Selector(vms=("vm1",)), cloud=B),))
    mandatory = (replace(step, kind=MoveKind.MANDATORY) for step in parked())

    assert faults(two_clusters(**WITH_C), pinned, *mandatory) == ""


def test_room_that_a_step_does_not_rely_on_is_no_room() -> None:
    """vm1 leaves a before vm4 arrives, by the clock; nothing makes sure of it."""
    crowded = two_clusters(
        placement={"a1": [*blast, *web[:2]], "b1": web[2:]}, room={"a1": 5, "b1": 2}
    )
    leaves = good()[0]
    assert web[2].name == "vm6"
    arrives = replace(
        leaves,
        id=StepId("arrives"),
        vm=VmName("vm6"),
        source=HostName("b1"),
        destination=HostName("a1"),
        source_cloud=B,
        destination_cloud=A,
        stage=1,
        after=(leaves.id,),
        starts_after_seconds=leaves.ends_after_seconds,
    )

    assert "stage 1: a1 has no room" in faults(crowded, policy(), leaves, arrives)
    assert faults(crowded, policy(), leaves, replace(arrives, relies_on=(leaves.id,))) == ""


def test_a_move_that_ends_after_its_host_is_gone_is_found() -> None:
    fleeing = two_clusters(notices=[notice("a", 60)])
    step = planned(fleeing, policy()).steps[0]

    late = replace(step, starts_after_seconds=59.0)

    assert "the notice leaves 60 s" in faults(fleeing, policy(), late)
    assert "the notice" not in faults(replace(fleeing, links=()), policy(), late)


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
    last = planned(two_clusters(), policy()).steps[3]
    step = replace(last, kind=MoveKind.MANDATORY, stage=0, after=(), relies_on=())
    assert step.vm not in BLAST

    assert faults(split, policy(rules=(Together(who=ON_BLAST),)), step) == ""
