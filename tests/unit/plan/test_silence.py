"""Hosts that give no answer: nobody is sent there, and from there nobody is moved for money."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tests.unit.plan.scenario import (
    NAMES,
    blast,
    planned,
    policy,
    two_clusters,
    unplanned,
    ways,
    web,
)
from tests.unit.plan.worlds import notice, price
from transhume.knowledge.model import CloudName, MoveKind, Snapshot
from transhume.plan import find_faults
from transhume.policies.model import Pin, Selector

CHEAP_B = (price("a", 0.20), price("b", 0.01), price("c", 0.15))


def with_silent(hosts: Sequence[str], **changes: Any) -> Snapshot:
    """Return both clusters in a, with room in b and in c, where some hosts give no answer."""
    snapshot = two_clusters(**({"prices": CHEAP_B, "room": {"a1": 6, "b1": 6, "c1": 6}} | changes))
    capacity = {
        name: replace(report, silent=name in hosts) for name, report in snapshot.capacity.items()
    }
    return replace(snapshot, capacity=capacity)


def test_who_flees_goes_to_where_somebody_answers_though_that_is_dearer() -> None:
    """A cloud that has gone is the cheapest still by what it asked last."""
    plan = planned(with_silent(["b1"], notices=[notice("a", 600)]), policy())
    assert ways(plan) == dict.fromkeys(NAMES, "c")
    assert {step.kind for step in plan.steps} == {MoveKind.MANDATORY}


def test_nobody_is_sent_to_a_silent_host_for_money() -> None:
    assert ways(planned(with_silent(["b1"]), policy())) == dict.fromkeys(NAMES, "c")
    nothing = unplanned(with_silent(["b1", "c1"]), policy())
    assert "no host of b gives an answer" in nothing.reason


def test_of_a_cloud_the_hosts_that_answer_are_chosen() -> None:
    """The smaller host would be filled up first."""
    room = {"a1": 6, "b1": 6, "b2": 12}
    plan = planned(with_silent(["b1"], room=room, prices=CHEAP_B[:2]), policy())
    assert {step.destination for step in plan.steps} == {"b2"}


def test_a_silent_host_takes_nobody_in_the_place_of_one_that_leaves() -> None:
    """Of two full hosts that would swap, one gives no answer."""
    swap = (
        policy("blast", rules=(Pin(who=Selector(vms=("vm1",)), cloud=CloudName("b")),)),
        policy("web", rules=(Pin(who=Selector(vms=("vm2",)), cloud=CloudName("a")),)),
    )
    placement = {"a1": (blast[0],), "b1": (web[0],)}
    full = with_silent(
        ["b1"], placement=placement, room={"a1": 2, "b1": 1}, matrix=None, groups=(), prices=()
    )
    plan = planned(full, *swap)
    assert ways(plan) == {web[0].name: "a"}


def test_no_move_from_a_silent_host_is_begun_for_money_and_the_explanation_says_so() -> None:
    nothing = unplanned(with_silent(["a1"]), policy())
    told = [option.barred for each in nothing.explanations.values() for option in each.alternatives]
    assert any("gives no answer" in why for why in told)


def test_who_must_leave_a_silent_host_is_tried() -> None:
    plan = planned(with_silent(["a1"], notices=[notice("a", 600)]), policy())
    assert ways(plan) == dict.fromkeys(NAMES, "b")


def test_the_checker_finds_who_is_sent_to_a_silent_host() -> None:
    answering = with_silent([])
    plan = planned(answering, policy())
    assert not find_faults(answering, (policy(),), plan.steps)
    assert find_faults(with_silent(["b1"]), (policy(),), plan.steps)
