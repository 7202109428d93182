"""The order of moves: room at every instant, groups in one go, the urgent first."""

import pytest

from tests.unit.plan.worlds import SMALL
from transhume.knowledge.model import CloudName, HostName, Resources, VmName
from transhume.plan.schedule import AlwaysSpread, Move, Terms, schedule

ONE = SMALL
NONE = Resources(vcpus=0, memory_bytes=0)


def move(vm: str, way: str, *, unit: str = "", urgency: float = 0.0, seconds: float = 10.0) -> Move:
    """Return a move; the way is as `a1>b1`."""
    source, destination = way.split(">")
    return Move(
        vm=VmName(vm),
        source=HostName(source),
        destination=HostName(destination),
        source_cloud=CloudName(source[0]),
        destination_cloud=CloudName(destination[0]),
        needs=ONE,
        seconds=seconds,
        unit=unit or vm,
        urgency=(urgency,),
    )


def free(**hosts: int) -> dict[HostName, Resources]:
    return {
        HostName(h): Resources(vcpus=n * ONE.vcpus, memory_bytes=n * ONE.memory_bytes)
        for h, n in hosts.items()
    }


def homes(*moves: Move) -> dict[VmName, CloudName]:
    return {m.vm: m.source_cloud for m in moves}


def stages(*moves: Move, room: dict[HostName, Resources], per_link: int = 1) -> list[list[str]]:
    found = schedule(moves, Terms(free=room, cloud_of=homes(*moves), moves_per_link=per_link))
    assert found.stuck == {}
    return [[m.vm for m in stage] for stage in found.stages]


def test_moves_over_one_link_follow_each_other_and_others_run_beside_them() -> None:
    found = stages(
        move("v1", "a1>b1"), move("v2", "a1>c1"), move("v3", "a1>b1"), room=free(a1=0, b1=2, c1=1)
    )

    assert found == [["v1", "v2"], ["v3"]]


def test_a_link_may_be_shared_where_the_settings_say_so() -> None:
    found = stages(move("v1", "a1>b1"), move("v2", "a1>b1"), room=free(a1=0, b1=2), per_link=2)

    assert found == [["v1", "v2"]]


def test_who_leaves_makes_room_only_for_the_next_stage() -> None:
    found = stages(move("in", "c1>b1"), move("out", "b1>a1"), room=free(a1=1, b1=0, c1=0))

    assert found == [["out"], ["in"]]


def test_a_group_is_contiguous_and_the_most_urgent_goes_first() -> None:
    found = stages(
        move("v1", "a1>b1", unit="g1", urgency=2),
        move("v2", "a1>b1", unit="g2", urgency=1),
        move("v3", "a1>b1", unit="g1", urgency=2),
        move("v4", "a1>b1", unit="g2", urgency=1),
        room=free(a1=0, b1=4),
    )

    assert found == [["v2"], ["v4"], ["v1"], ["v3"]]


def test_a_group_that_fits_as_a_whole_goes_before_one_that_would_have_to_wait_halfway() -> None:
    found = stages(
        move("v1", "a1>b1", unit="first"),
        move("v2", "a1>b1", unit="first"),
        move("v3", "b1>c1", unit="second"),
        room=free(a1=0, b1=1, c1=1),
    )

    assert found == [["v3", "v1"], ["v2"]]


def test_a_swap_between_full_hosts_is_handed_back_with_the_reason() -> None:
    moves = move("v1", "a1>b1"), move("v2", "b1>a1")

    found = schedule(moves, Terms(free=free(a1=0, b1=0), cloud_of=homes(*moves)))

    assert found.stages == ()
    assert "b1 has no room" in found.stuck[VmName("v1")]


def test_a_spread_that_holds_always_orders_the_moves() -> None:
    """v1 and v2 would change places: whoever goes first joins the other."""
    moves = move("v1", "a1>b1"), move("v2", "b1>a1")
    rule = AlwaysSpread(vms=frozenset((VmName("v1"), VmName("v2"))), minimum=2)

    found = schedule(moves, Terms(free=free(a1=1, b1=1), cloud_of=homes(*moves), spreads=(rule,)))

    assert found.stages == ()
    assert "fewer than 2 clouds" in found.stuck[VmName("v1")]


def test_a_move_waits_for_its_link_and_not_for_moves_that_are_none_of_its_business() -> None:
    """v2 takes long on another link."""
    moves = move("v1", "a1>b1"), move("v2", "a1>c1", seconds=30), move("v3", "a1>b1")

    found = schedule(moves, Terms(free=free(a1=0, b1=2, c1=1), cloud_of=homes(*moves)))

    assert found.finished_after() == pytest.approx({"v1": 10, "v2": 30, "v3": 20})
    assert found.makespan == 30
