"""What a move takes: from memory, link and dirty rate, and from what past moves took."""

from dataclasses import replace

import pytest

from tests.unit.plan.worlds import SMALL, moved, price, vm, world
from transhume.knowledge.model import (
    CloudName,
    HostName,
    Measurement,
    Outcome,
    Prediction,
    Snapshot,
    StepResult,
    Transfer,
    Warmth,
)
from transhume.plan.estimate import Estimator
from transhume.plan.settings import PlannerSettings

A, B = CloudName("a"), CloudName("b")
SETTINGS = PlannerSettings(memory_factor=0.5, overhead_seconds=2.0)
MEMORY = SMALL.memory_bytes


def snapshot(*outcomes: Outcome, dirty: float | None = None, wan: float = 10e6) -> Snapshot:
    mover = replace(vm("vm1"), dirty_bytes_per_second=dirty)
    return world({"a1": [mover]}, room={"a1": 1, "b1": 1}, outcomes=outcomes, wan=wan)


def predict(known: Snapshot, destination: CloudName = B, *, egress: float = 0.1) -> Prediction:
    estimator = Estimator.learnt_from(known, SETTINGS)
    (mover,) = known.vms.values()
    return estimator.predict(mover, A, destination, price(destination, 3.6), egress)


def took(count: float, downtime: float | None = None) -> Outcome:
    measured = Measurement(bytes=round(count), seconds=1.0, downtime_seconds=downtime)
    return moved("vm1", ago=60, source="a1", destination="b1", measured=measured)


def test_bytes_seconds_and_dollars_follow_from_memory_and_link() -> None:
    found = predict(snapshot())

    assert found.bytes == MEMORY // 2
    assert found.seconds == pytest.approx(MEMORY / 2 / 10e6 + 2)
    double_occupancy = 3.6 * found.seconds / 3600
    assert found.dollars == pytest.approx(found.bytes / 1e9 * 0.1 + double_occupancy)


def test_nothing_crosses_a_border_within_a_cloud() -> None:
    assert predict(snapshot(), A, egress=1e9).dollars < 1


@pytest.mark.parametrize(
    ("dirty", "inflation"),
    [
        pytest.param(None, 1.0, id="unknown"),
        pytest.param(5e6, 2.0, id="half the link"),
        pytest.param(9e6, 4.0, id="bounded"),
        pytest.param(20e6, 4.0, id="faster than the link"),
    ],
)
def test_a_guest_that_rewrites_its_memory_sends_more(dirty: float | None, inflation: float) -> None:
    assert predict(snapshot(dirty=dirty)).bytes == pytest.approx(MEMORY / 2 * inflation, abs=1)


def test_the_factor_is_learnt_from_past_moves_as_a_geometric_mean() -> None:
    found = predict(snapshot(took(MEMORY), took(MEMORY / 4)))

    assert found.bytes == pytest.approx(MEMORY / 2, abs=1)


def test_the_pause_is_the_median_of_those_measured() -> None:
    found = predict(snapshot(took(1e6, 0.1), took(1e6, 0.3), took(1e6, 9.0), took(1e6)))

    assert found.downtime_seconds == 0.3


@pytest.mark.parametrize(
    "useless",
    [
        pytest.param(replace(took(MEMORY), result=StepResult.FAILED), id="failed"),
        pytest.param(replace(took(MEMORY), measured=None), id="not measured"),
        pytest.param(took(0), id="no bytes"),
    ],
)
def test_moves_that_tell_nothing_are_not_learnt_from(useless: Outcome) -> None:
    assert predict(snapshot(useless)).bytes == MEMORY // 2


def test_a_link_of_which_nobody_said_what_it_carries_is_assumed() -> None:
    known = replace(snapshot(), links=())

    assert predict(known).seconds == pytest.approx(MEMORY / 2 / SETTINGS.link_bytes_per_second + 2)


def test_a_moves_share_of_a_link_is_told_where_the_link_is_known() -> None:
    shared = replace(SETTINGS, moves_per_link=4)
    known = snapshot()

    assert Estimator.learnt_from(known, shared).share(A, B) == 10e6 / 4
    assert Estimator.learnt_from(known, shared).share(A, A) is None
    assert Estimator.learnt_from(replace(known, links=()), shared).share(A, B) is None


def test_only_what_the_destination_doesnt_know_is_sent() -> None:
    known = snapshot()
    (mover,) = known.vms
    warm = replace(known, warmth=(Warmth(vm=mover, cloud=B, at=known.at, known_share=0.75),))

    assert predict(warm).bytes == pytest.approx(MEMORY / 2 / 4, abs=1)
    assert predict(warm, A).bytes == MEMORY // 2


def test_however_warm_a_vm_is_something_is_sent() -> None:
    known = snapshot()
    (mover,) = known.vms
    warm = replace(known, warmth=(Warmth(vm=mover, cloud=B, at=known.at, known_share=1.0),))

    assert predict(warm).bytes > 0


def test_nothing_is_learnt_from_a_vm_whose_memory_was_known() -> None:
    warm = took(MEMORY / 100)
    assert warm.measured is not None
    sent = replace(warm.measured, transfer=Transfer(own_pages=1000, new_pages=10))

    assert predict(snapshot(replace(warm, measured=sent))).bytes == MEMORY // 2


@pytest.mark.parametrize(
    ("dirty", "converges"),
    [
        pytest.param(None, True, id="unknown"),
        pytest.param(9.9e6, True, id="just slower than the link"),
        pytest.param(10e6, False, id="as fast as the link"),
        pytest.param(20e6, False, id="faster"),
    ],
)
def test_a_guest_that_writes_faster_than_the_link_isnt_promised_to_converge(
    dirty: float | None, converges: bool
) -> None:
    assert predict(snapshot(dirty=dirty)).converges is converges


def test_a_share_of_a_link_is_what_a_guests_writing_is_held_against() -> None:
    known = snapshot(dirty=4e6)
    (mover,) = known.vms.values()
    shared = Estimator.learnt_from(known, replace(SETTINGS, moves_per_link=4))

    assert predict(known).converges
    assert not shared.predict(mover, A, B, price(B, 1.0), 0.0).converges


def test_what_gateways_make_of_a_byte_is_learnt_and_holds_for_what_is_rewritten() -> None:
    """A guest that writes twice as fast as the link carries converges where three quarters are spared."""
    carried = took(MEMORY / 2)
    assert carried.measured is not None
    thin = Transfer(raw_bytes=MEMORY, wire_bytes=MEMORY // 4, new_pages=1)
    known = snapshot(
        replace(carried, measured=replace(carried.measured, transfer=thin)), dirty=20e6
    )

    found = predict(known)
    assert found.converges
    assert found.bytes == pytest.approx(MEMORY / 2, rel=0.01), "learnt with the same inflation"
    assert predict(replace(known, outcomes=())).converges is False


def lasted(
    seconds: float, *, to: str = "b1", cpu: float = 0.0, rounds: int | None = None
) -> Outcome:
    measured = Measurement(
        bytes=MEMORY // 2,
        seconds=seconds,
        transfer=Transfer(cpu_seconds=cpu) if cpu else None,
        rounds=rounds,
    )
    return moved("vm1", ago=60, source="a1", destination=to, measured=measured)


LINKED = MEMORY / 2 / 10e6 + 2
"""How long a move takes whose link is the narrow place."""


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        pytest.param([LINKED], LINKED, id="as the link"),
        pytest.param([LINKED / 2], LINKED, id="faster than the link can be"),
        pytest.param([LINKED + 6, LINKED + 6, LINKED + 90], LINKED + 6, id="slower, the median"),
    ],
)
def test_what_moves_took_longer_than_their_link_is_learnt(
    past: list[float], expected: float
) -> None:
    found = predict(snapshot(*(lasted(seconds) for seconds in past)))

    assert found.seconds == pytest.approx(expected, rel=1e-6)


def test_moves_within_a_cloud_say_nothing_of_those_between_clouds() -> None:
    inner = replace(lasted(1000.0, to="a1"), source=HostName("a1"))

    assert predict(snapshot(inner)).seconds < 100
    assert predict(snapshot(inner), A).seconds == pytest.approx(1000.0, rel=0.01)


def test_a_warm_vms_memory_is_looked_up_all_the_same() -> None:
    """Few bytes cross, and the time that processors take is what is left."""
    known = snapshot(lasted(LINKED + 6))
    (mover,) = known.vms
    warm = replace(known, warmth=(Warmth(vm=mover, cloud=B, at=known.at, known_share=1.0),))

    assert 2 + 6 < predict(warm).seconds < LINKED + 6


def test_processor_time_and_rounds_are_predicted_once_moves_have_told_of_them() -> None:
    told = (
        lasted(10.0, cpu=4.0, rounds=3),
        lasted(10.0, cpu=6.0, rounds=3),
        lasted(10.0, rounds=9),
    )

    assert (predict(snapshot()).cpu_seconds, predict(snapshot()).rounds) == (None, None)
    assert predict(snapshot(*told)).cpu_seconds == pytest.approx(5.0)
    assert predict(snapshot(*told)).rounds == 3
    assert predict(snapshot(*told), A).cpu_seconds is None, "no gateway takes part within a cloud"
