"""Hosts within a cloud: the tightest that fits, and room that is there already before room to come."""

from tests.unit.plan.worlds import MIB, vm, world
from transhume.knowledge.model import Resources, Vm, VmName
from transhume.plan.packing import Packing, pack
from transhume.plan.settings import PlannerSettings
from transhume.plan.situation import Situation
from transhume.policies.model import Policy

BIG = Resources(vcpus=2, memory_bytes=192 * MIB)


def packed(placement: dict[str, list[Vm]], room: dict[str, int], goes: dict[str, str]) -> Packing:
    snapshot = world(placement, room=room)
    situation = Situation.read(snapshot, [Policy(name="p", source="")], PlannerSettings())
    clouds = [place.cloud for place in situation.places]
    assignment = situation.home.copy()
    for name, cloud in goes.items():
        assignment[situation.number[VmName(name)]] = clouds.index(cloud)  # type: ignore[arg-type]
    return pack(situation, assignment, mended=assignment)


def test_the_tightest_host_is_filled_first() -> None:
    found = packed({"a1": [vm("v1")]}, {"a1": 1, "b1": 5, "b2": 1}, {"v1": "b"})

    assert found.host_of == {0: "b2"}


def test_the_largest_vm_chooses_first() -> None:
    found = packed(
        {"a1": [vm("small"), vm("big", needs=BIG)]},
        {"a1": 3, "b1": 1, "b2": 2},
        {"small": "b", "big": "b"},
    )

    assert found.host_of == {0: "b2", 1: "b1"}
    assert found.homeless == ()


def test_a_host_with_room_now_is_better_than_one_that_others_have_to_leave() -> None:
    found = packed(
        {"a1": [vm("v1")], "b1": [vm("leaver")]},
        {"a1": 2, "b1": 1, "b2": 9},
        {"v1": "b", "leaver": "a"},
    )

    assert found.host_of[1] == "b2"


def test_a_vm_too_large_for_each_host_has_no_home() -> None:
    found = packed(
        {"a1": [vm("big", needs=BIG)], "b1": [vm("x")], "b2": [vm("y")]},
        {"a1": 2, "b1": 2, "b2": 2},
        {"big": "b"},
    )

    assert found.homeless == (0,)
