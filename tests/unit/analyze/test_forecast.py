"""Forecasts: the method that would have been best so far, and how good it would have been."""

import sys
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest

from tests.unit.analyze.drawn_shapes import Weights, all_to_all, grid, master_worker, ring
from tests.unit.analyze.series_of_traffic import fluctuating, series_of
from tests.unit.analyze.traffic import START
from transhume.analyze import forecast
from transhume.errors import UsageError
from transhume.knowledge.model import MatrixSeries


def missed(series: MatrixSeries, actual: Sequence[Weights]) -> tuple[float, float, str]:
    """Return what the forecast says of its error, what it really is, and the method."""
    found = forecast(series, len(actual))
    expected = np.array([matrix.dense() for matrix in found.matrices], dtype=float)
    truth = np.array([window.astype(np.int64) for window in actual], dtype=float)
    return (
        found.error,
        float(np.linalg.norm(expected - truth) / np.linalg.norm(truth)),
        found.method,
    )


def test_what_stays_the_same_is_forecast_without_error() -> None:
    found = forecast(series_of([ring(8) * 1e6] * 10), 3)

    assert found.error == pytest.approx(0.0, abs=1e-6)
    assert all((matrix.dense() == ring(8) * 1e6).all() for matrix in found.matrices)


def test_the_windows_forecast_follow_the_last_one() -> None:
    found = forecast(series_of([ring(8) * 1e6] * 10, seconds=5.0), 3)

    assert [matrix.start - START for matrix in found.matrices] == [
        timedelta(seconds=seconds) for seconds in (50, 55, 60)
    ]
    assert {matrix.seconds for matrix in found.matrices} == {5.0}


def test_of_what_fluctuates_the_mean_is_expected() -> None:
    """The last window is off by its own fluctuation and the next one's: by half as much again."""
    random = np.random.default_rng(0)
    windows = [fluctuating(grid(4, 4), 0.3, random) for _ in range(44)]

    told, real, method = missed(series_of(windows[:40]), windows[40:])

    assert method == "mean"
    assert told == pytest.approx(real, rel=0.15)
    assert real == pytest.approx(0.3, abs=0.04)


def test_what_repeats_is_expected_to_repeat() -> None:
    random = np.random.default_rng(0)
    stages = (
        ring(16),
        ring(16),
        all_to_all(16),
        master_worker(16, random),
        master_worker(16, random),
    )
    windows = [fluctuating(stages[at % 5], 0.05, random) for at in range(53)]

    told, real, method = missed(series_of(windows[:43]), windows[43:])

    assert method == "one period ago"
    assert told < 0.15
    assert real < 0.15


def test_after_a_change_of_phase_what_was_before_it_is_forgotten() -> None:
    random = np.random.default_rng(0)
    windows = [fluctuating(ring(16), 0.3, random) for _ in range(20)]
    windows += [fluctuating(all_to_all(16), 0.3, random) for _ in range(44)]

    told, real, method = missed(series_of(windows[:60]), windows[60:])

    assert method == "mean of the phase"
    assert real < 0.35
    assert told < 0.5


def test_what_grows_is_expected_to_be_as_lately() -> None:
    windows = [ring(8) * 1e5 * (at + 10) for at in range(40)]

    assert forecast(series_of(windows), 1).method == "last window"


def test_the_error_of_what_nobody_can_know_is_large() -> None:
    random = np.random.default_rng(0)
    windows = []
    for _ in range(30):
        order = random.permutation(16)
        windows.append(ring(16)[np.ix_(order, order)] * 1e6)

    assert forecast(series_of(windows), 2).error > 0.8


def test_a_single_window_is_expected_again_but_nothing_backs_that() -> None:
    found = forecast(series_of([ring(8) * 1e6]), 2)

    assert (found.method, found.error) == ("last window", 1.0)
    assert (found.matrices[1].dense() == ring(8) * 1e6).all()


def test_after_silence_silence_is_expected() -> None:
    found = forecast(series_of([np.zeros((4, 4))] * 6), 2)

    assert found.error == 0.0
    assert found.matrices[0].total_bytes == 0


def test_large_series_are_forecast_without_square_arrays(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    series = series_of([fluctuating(all_to_all(12), 0.3, random) for _ in range(20)])
    as_one_array = forecast(series, 1)
    monkeypatch.setattr(sys.modules["transhume.analyze.forecasting"], "DENSE_TO", 0)

    sparse = forecast(series, 1)

    assert sparse.error == pytest.approx(as_one_array.error)
    assert sparse.method == as_one_array.method


@pytest.mark.parametrize(
    ("windows", "steps"), [pytest.param(0, 1, id="no past"), pytest.param(3, 0, id="no future")]
)
def test_both_past_and_future_are_needed(windows: int, steps: int) -> None:
    with pytest.raises(UsageError, match="both must be 1 or more"):
        forecast(series_of([ring(8)] * windows), steps)
