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
    VmName,
    Warmth,
)
from transhume.plan.estimate import Estimator
from transhume.plan.settings import PlannerSettings
from transhume.policies.model import MigrationTerms, Policy

A, B = CloudName("a"), CloudName("b")
SETTINGS = PlannerSettings(memory_factor=0.5, overhead_seconds=2.0)
MEMORY = SMALL.memory_bytes
COPYING = Policy(name="copying", source="test", migration=MigrationTerms(copy_disks=True))


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


DISK = 8 * MEMORY


def with_disk(*outcomes: Outcome) -> Snapshot:
    known = snapshot(*outcomes)
    (mover,) = known.vms.values()
    return replace(known, vms={mover.name: replace(mover, disk_bytes=DISK)})


def copied(memory: float, disks: int | None, *, to: str = "b1", source: str = "a1") -> Outcome:
    """Return a move of the VM with a disk: what it took of the wire for its memory, and for its disk."""
    measured = Measurement(bytes=round(memory) + (disks or 0), seconds=1.0, disk_bytes=disks)
    return moved("vm1", ago=60, source=source, destination=to, measured=measured)


def predict_copying(known: Snapshot, destination: CloudName = B) -> Prediction:
    estimator = Estimator.learnt_from(known, SETTINGS, (COPYING,))
    (mover,) = known.vms.values()
    return estimator.predict(mover, A, destination, price(destination, 3.6), 0.1)


def test_disks_that_a_policy_has_copied_are_sent_too() -> None:
    known = with_disk()

    assert predict(known).bytes == MEMORY // 2
    found = predict_copying(known)
    assert (found.bytes, found.disk_bytes) == (MEMORY // 2 + DISK, DISK)
    assert found.seconds == pytest.approx((MEMORY / 2 + DISK) / 10e6 + 2)


def test_what_past_moves_took_for_disks_says_nothing_of_memory() -> None:
    found = predict_copying(with_disk(copied(MEMORY / 4, DISK // 10)))

    assert found.disk_bytes == pytest.approx(DISK / 10, rel=1e-3)
    assert found.bytes - found.disk_bytes == pytest.approx(MEMORY / 4, rel=1e-3)


def test_disks_that_stayed_where_they_are_last_time_arent_counted() -> None:
    seen_by_both = copied(MEMORY / 2, 0)

    assert predict_copying(with_disk(seen_by_both)).disk_bytes == 0
    assert predict_copying(with_disk(seen_by_both), A).disk_bytes == DISK, "another way"
    latest_first = (copied(MEMORY / 2, DISK), seen_by_both)
    assert predict_copying(with_disk(*latest_first)).disk_bytes == DISK
    way_back = copied(MEMORY / 2, 0, source="b1", to="a1")
    assert predict_copying(with_disk(way_back)).disk_bytes == 0


def test_holes_that_a_hypervisor_counts_arent_expected_again() -> None:
    """And the time that their bytes would have taken isn't missed."""
    past = copied(MEMORY / 2, 40 * DISK)
    assert past.measured is not None
    linked = (MEMORY / 2 + DISK) / 10e6 + 2
    slow = replace(past, measured=replace(past.measured, seconds=linked + 6))

    found = predict_copying(with_disk(slow))
    assert found.disk_bytes == DISK
    assert found.seconds == pytest.approx(linked + 6, rel=1e-6)


def test_a_move_whose_disks_nobody_counted_tells_nothing() -> None:
    """They may be among its bytes."""
    found = predict_copying(with_disk(copied(MEMORY * 9, None)))

    assert (found.bytes, found.disk_bytes) == (MEMORY // 2 + DISK, DISK)


def test_what_they_took_longer_is_nobodys_either() -> None:
    past = copied(MEMORY * 9, None)
    assert past.measured is not None
    slow = replace(past, measured=replace(past.measured, seconds=10_000.0))

    assert predict_copying(with_disk(slow)).seconds == predict_copying(with_disk()).seconds


def test_disks_that_are_known_to_be_common_beforehand_stay_until_a_move_tells_better() -> None:
    assumed = replace(SETTINGS, common_disks=frozenset({(VmName("vm1"), frozenset((A, B)))}))

    def disk_bytes(known: Snapshot) -> int:
        estimator = Estimator.learnt_from(known, assumed, (COPYING,))
        (mover,) = known.vms.values()
        return estimator.predict(mover, A, B, price(B, 3.6), 0.1).disk_bytes

    assert disk_bytes(with_disk()) == 0
    assert disk_bytes(with_disk(copied(MEMORY / 2, DISK))) == DISK


def by_gateways(outcome: Outcome, **disks: int) -> Outcome:
    assert outcome.measured is not None
    sent = Transfer(**disks)
    return replace(outcome, measured=replace(outcome.measured, transfer=sent, disks=sent))


@pytest.mark.parametrize(
    "useless",
    [
        pytest.param([by_gateways(copied(MEMORY / 2, DISK // 1000), own_pages=9)], id="sent ahead"),
        pytest.param([copied(MEMORY / 2, DISK // 1000, to="a1")], id="within a cloud"),
        pytest.param([copied(MEMORY / 2, -1)], id="nonsense"),
    ],
)
def test_nothing_is_learnt_of_disks_where_most_of_them_was_there(useless: list[Outcome]) -> None:
    assert predict_copying(with_disk(*useless)).disk_bytes == DISK


def test_what_gateways_count_may_be_more_than_was_thought_that_disks_hold() -> None:
    """A base image wasn't at the destination."""
    past = by_gateways(copied(MEMORY / 2, 3 * DISK), new_pages=9)

    assert predict_copying(with_disk(past)).disk_bytes == pytest.approx(3 * DISK)


def test_how_long_disks_took_of_which_nobody_knows_how_large_they_are_says_nothing() -> None:
    past = by_gateways(copied(MEMORY / 2, 100 * MEMORY), new_pages=9)
    assert past.measured is not None
    slow = replace(past, measured=replace(past.measured, seconds=10_000.0))

    assert predict(snapshot(slow)).seconds == pytest.approx(MEMORY / 2 / 10e6 + 2)


def test_what_is_known_of_a_disk_beforehand_isnt_sent() -> None:
    known = with_disk()
    (mover,) = known.vms
    warm = Warmth(vm=mover, cloud=B, at=known.at, known_share=0.0, known_disk_bytes=DISK // 4)

    assert predict_copying(replace(known, warmth=(warm,))).disk_bytes == DISK - DISK // 4
    more = replace(warm, known_disk_bytes=2 * DISK)
    assert predict_copying(replace(known, warmth=(more,))).disk_bytes == DISK // 50


def test_a_disks_pages_dont_make_a_move_one_of_known_memory() -> None:
    """The memory was new; that the disk was known is no reason not to learn from it."""
    sent = Transfer(own_pages=1000, new_pages=10, wire_bytes=MEMORY // 8 + 1000)
    disks = Transfer(own_pages=1000, wire_bytes=1000)
    taken = Measurement(
        bytes=MEMORY // 8 + 1000, seconds=1.0, disk_bytes=1000, transfer=sent, disks=disks
    )
    outcome = moved("vm1", ago=60, source="a1", destination="b1", measured=taken)

    found = predict_copying(with_disk(outcome))
    assert found.bytes - found.disk_bytes == pytest.approx(MEMORY / 8, rel=1e-3)


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
