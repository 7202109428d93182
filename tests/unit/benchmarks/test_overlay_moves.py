"""What of a silence is the network's, on made-up reports of probes."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from benchmarks.overlay.moves import lab_spec, percentile_99
from benchmarks.overlay.stand import OUTSIDE_NAME, Watched
from benchmarks.overlay.trial import Mover, faults, own_silence
from benchmarks.overlay.way import Moving
from transhume.knowledge.model import IpAddress
from transhume.lab.probes import ANNOUNCED, Loss, Passed, Pings, Silence, Talk

STOPPED, RESUMED, TRIP = 100.0, 100.1, 0.1
SPEC = lab_spec(TRIP)
PEERS = {name: IpAddress(f"10.66.0.{number}") for number, name in enumerate((*"abc", OUTSIDE_NAME))}
MOVING = Moving(guest=SPEC.guests[0], source="a", destination="b")


def pings(silence: float, losses: tuple[Loss, ...] = ()) -> Pings:
    longest = Silence(began=STOPPED - 0.001, seconds=silence)
    return Pings(
        sent=1000,
        received=1000 - sum(loss.count for loss in losses),
        duplicates=0,
        reordered=0,
        skipped=0,
        least_trip=TRIP,
        median_trip=TRIP,
        losses=losses,
        longest=longest,
        silences=(longest,),
    )


def passed(place: str, first: float, last: float, *, from_vm: bool) -> Passed:
    return Passed(tap="vnet0", from_vm=from_vm, peer=PEERS[place], first=first, last=last, count=5)


def talk(**changes: object) -> Talk:
    values = {"sent": 9, "echoed": 9, "wrong": 0, "retransmits": 0, "failure": None}
    return Talk(**(values | changes), longest=Silence(began=0, seconds=0))


WATCHED = Watched(
    pings={
        "a": pings(0.175),
        "b": pings(0.075),
        "c": pings(0.125, (Loss(began=90.0, count=3), Loss(began=99.95, count=2))),
        OUTSIDE_NAME: pings(0.225),
    },
    passed={
        "a": (passed("c", 90.0, 99.999, from_vm=True), passed("c", 90.0, 99.999, from_vm=False)),
        "b": (
            passed("b", 100.119, 109.0, from_vm=True),
            passed("c", 100.12, 109.0, from_vm=True),
            replace(passed("c", 100.1, 109.0, from_vm=True), peer=ANNOUNCED),
            passed("c", 100.09, 109.0, from_vm=False),
            passed(OUTSIDE_NAME, 100.2, 109.0, from_vm=False),
        ),
        "c": (),
    },
    flooded=(),
    talks={"a": talk()},
)


def views() -> dict[str, object]:
    stand = SimpleNamespace(lab=SimpleNamespace(spec=SPEC), guest=SPEC.guests[0], peers=PEERS)
    mover = Mover(stand, None, None, at="a")
    move = mover._seen("way", MOVING, 3.0, (STOPPED, RESUMED), WATCHED)
    return {view.role: view for view in move.views}


def test_whoever_is_farther_away_afterwards_isnt_the_networks_fault():
    assert {role: view.added for role, view in views().items()} == pytest.approx(
        {"source": 0.025, "destination": 0.025, "third": 0.025, "outside": 0.125}
    )


def test_a_guest_that_wakes_up_slowly_isnt_the_networks_fault():
    assert own_silence(WATCHED, MOVING) == pytest.approx(0.12)
    assert views()["third"].over == pytest.approx(0.005)


def test_what_waited_for_the_guest_was_not_late():
    found = views()

    assert found["third"].late == 0
    assert found["outside"].late == pytest.approx(0.1)
    assert found["source"].late is None


def test_what_was_lost_before_the_guest_stopped_is_told_apart():
    assert (views()["third"].lost, views()["third"].lost_before) == (2, 3)


def test_conversations_that_ended_or_brought_wrong_bytes_are_named():
    found = {"a": talk(), "b": talk(failure="reset"), "bulk": talk(wrong=2)}

    assert list(faults(found)) == ["b: reset", "bulk: 2 pieces with wrong bytes"]


def test_the_99th_percentile_is_a_value_that_was_seen():
    assert percentile_99([3.0, 1.0, 2.0]) == 3.0
    assert percentile_99([float(n) for n in range(1, 201)]) == 198.0
