"""Views: one matrix out of many windows, in which the recent counts more and the totals are right."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from tests.unit.analyze.traffic import START, matrix_of
from transhume.analyze import exponential_view, sliding_view
from transhume.errors import UsageError
from transhume.knowledge.model import CommunicationMatrix, MatrixSeries, NetworkName, NetworkTraffic

SECONDS = 2.0


def series(windows: Sequence[CommunicationMatrix]) -> MatrixSeries:
    """Return windows of two seconds, one after another."""
    matrices = tuple(
        replace(window, start=START + timedelta(seconds=SECONDS * at), seconds=SECONDS)
        for at, window in enumerate(windows)
    )
    return MatrixSeries(vms=matrices[0].vms, seconds=SECONDS, matrices=matrices)


def pair(count: float) -> CommunicationMatrix:
    return matrix_of([[0, count], [0, 0]])


def test_a_window_counts_half_for_each_half_life_that_it_is_older() -> None:
    view = exponential_view(series([pair(800), pair(400), pair(100)]), half_life_seconds=SECONDS)

    assert view.between(0, 1) == 100 + 200 + 200
    assert view.seconds == pytest.approx(SECONDS * 1.75)
    assert view.start + timedelta(seconds=view.seconds) == START + timedelta(seconds=3 * SECONDS)


def test_a_steady_rate_is_that_rate_in_every_view() -> None:
    steady = series([pair(6000)] * 10)

    for view in (exponential_view(steady, 3.0), sliding_view(steady, 7.0)):
        assert view.rate()[0, 1] == pytest.approx(3000, rel=1e-3)


def test_the_last_seconds_are_whole_windows_and_the_share_of_the_one_they_begin_in() -> None:
    windows = series([pair(1000), pair(400), pair(100)])

    assert sliding_view(windows, 2.0).between(0, 1) == 100
    assert sliding_view(windows, 3.0).between(0, 1) == 300
    assert sliding_view(windows, 6.0).between(0, 1) == 1500
    assert sliding_view(windows, 3.0).seconds == 3.0
    assert sliding_view(windows, 3.0).start == START + timedelta(seconds=3)


def test_of_more_than_there_is_there_is_all() -> None:
    view = sliding_view(series([pair(1000), pair(400)]), 3600.0)

    assert (view.between(0, 1), view.seconds, view.start) == (1400, 2 * SECONDS, START)


def test_all_parts_of_the_traffic_are_in_the_view() -> None:
    first, second = NetworkName("campus"), NetworkName("dns")
    window = replace(
        CommunicationMatrix.of_pairs(
            start=START,
            seconds=1.0,
            vms=pair(0).vms,
            source=[0, 1],
            destination=[1, 0],
            bytes=[100, 40],
            payload_bytes=[80, 20],
            frames=[10, 4],
            to_outside=[6, 0],
            from_outside=[0, 8],
            multicast_bytes=12,
            unattributed_bytes=20,
            dropped_frames=2,
            bytes_error=3.0,
        ),
        networks=(NetworkTraffic(name=first, to=np.array([6, 0]), from_=np.array([0, 2])),),
    )
    other = replace(
        window,
        networks=(NetworkTraffic(name=second, to=np.array([2, 2]), from_=np.array([0, 0])),),
    )

    view = exponential_view(series([window, other]), half_life_seconds=SECONDS)

    assert view.bytes.tolist() == [150, 60]
    assert view.payload_bytes.tolist() == [120, 30]
    assert view.frames.tolist() == [15, 6]
    assert (view.to_outside.tolist(), view.from_outside.tolist()) == ([9, 0], [0, 12])
    assert (view.multicast_bytes, view.unattributed_bytes, view.dropped_frames) == (18, 30, 3)
    assert view.bytes_error == pytest.approx(np.hypot(3.0, 1.5))
    assert [(one.name, one.to.tolist(), one.from_.tolist()) for one in view.networks] == [
        (first, [3, 0], [0, 1]),
        (second, [2, 2], [0, 0]),
    ]


def test_many_small_counts_keep_their_sum() -> None:
    """Half a byte on each of many pairs is neither nothing nor twice as much."""
    ones = np.ones((40, 40)) - np.eye(40)
    view = exponential_view(series([matrix_of(ones), matrix_of(ones * 0)]), SECONDS)

    assert view.bytes.sum() == 40 * 39 // 2
    assert view.bytes.min() == view.bytes.max() == 1


def test_what_is_forgotten_is_gone() -> None:
    view = exponential_view(series([pair(1000), *[pair(0)] * 30]), SECONDS)

    assert len(view.bytes) == 0
    assert view.total_bytes == 0


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_time_must_be_above_nothing(seconds: float) -> None:
    with pytest.raises(UsageError, match="above 0 s"):
        exponential_view(series([pair(1)]), seconds)
    with pytest.raises(UsageError, match="above 0 s"):
        sliding_view(series([pair(1)]), seconds)


def test_of_nothing_there_is_no_view() -> None:
    empty = MatrixSeries(vms=(), seconds=1.0)

    with pytest.raises(UsageError, match="without windows"):
        exponential_view(empty, 1.0)
