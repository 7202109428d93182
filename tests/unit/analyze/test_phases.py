"""Phases: where traffic changes its shape or its amount, and not where it only fluctuates."""

from datetime import timedelta

import numpy as np
import pytest

from tests.unit.analyze.drawn_shapes import all_to_all, grid, master_worker, ring
from tests.unit.analyze.series_of_traffic import fluctuating, series_of
from tests.unit.analyze.traffic import START
from transhume.analyze import find_phases
from transhume.knowledge.model import MatrixSeries, PatternKind

SILENCE = np.zeros((16, 16))
SPREADS = [0.0, 0.1, 0.3, 0.6, 1.0]


def lengths(series: MatrixSeries) -> list[float]:
    return [phase.seconds for phase in find_phases(series)]


@pytest.mark.parametrize("spread", SPREADS)
def test_each_stretch_with_one_shape_and_amount_is_a_phase(spread: float) -> None:
    random = np.random.default_rng(0)
    planted = (
        (ring(16), 20),
        (all_to_all(16) / 10, 15),
        (ring(16) * 4, 12),
        (SILENCE, 6),
        (master_worker(16, random), 10),
    )
    windows = [
        fluctuating(shape, spread, random) if shape.any() else shape
        for shape, count in planted
        for _ in range(count)
    ]

    phases = find_phases(series_of(windows, seconds=5.0))

    assert [phase.seconds for phase in phases] == [count * 5.0 for _, count in planted]
    assert [phase.pattern.kind for phase in phases] == [
        PatternKind.RING,
        PatternKind.ALL_TO_ALL,
        PatternKind.RING,
        PatternKind.NONE,
        PatternKind.MASTER_WORKER,
    ]
    assert [phase.start for phase in phases] == [
        START + timedelta(seconds=seconds) for seconds in (0, 100, 175, 235, 265)
    ]


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("spread", SPREADS)
def test_what_always_fluctuates_is_one_phase(spread: float, seed: int) -> None:
    random = np.random.default_rng(seed)

    assert lengths(series_of(fluctuating(ring(16), spread, random) for _ in range(80))) == [80.0]


@pytest.mark.parametrize("seed", range(10))
def test_bursts_are_no_phases(seed: int) -> None:
    random = np.random.default_rng(seed)
    windows = [
        fluctuating(grid(4, 4), 0.2, random) if random.random() < 0.5 else SILENCE
        for _ in range(60)
    ]

    assert lengths(series_of(windows)) == [60.0]


def test_a_single_odd_window_is_no_phase() -> None:
    random = np.random.default_rng(0)
    windows = [fluctuating(ring(16), 0.2, random) for _ in range(30)]
    windows[17] = fluctuating(ring(16) * 2, 0.2, random)

    assert lengths(series_of(windows)) == [30.0]


def test_a_change_of_the_amount_alone_is_a_change() -> None:
    random = np.random.default_rng(0)
    windows = [fluctuating(ring(16) * (1 + 3 * (at >= 12)), 0.2, random) for at in range(24)]

    quiet, loud = find_phases(series_of(windows))

    assert (quiet.seconds, loud.seconds) == (12.0, 12.0)
    assert loud.bytes_per_second == pytest.approx(4 * quiet.bytes_per_second, rel=0.1)


def test_a_phase_tells_its_rate() -> None:
    (phase,) = find_phases(series_of([ring(16) * 1e6] * 8, seconds=4.0))

    assert phase.bytes_per_second == pytest.approx(32 * 1e6 / 4)


def test_a_silence_is_one_phase_of_nothing() -> None:
    (phase,) = find_phases(series_of([SILENCE] * 9))

    assert (phase.seconds, phase.bytes_per_second) == (9.0, 0.0)
    assert phase.pattern.kind == PatternKind.NONE


def test_few_windows_are_one_phase_and_none_are_none() -> None:
    assert lengths(series_of([])) == []
    assert lengths(series_of([ring(16) * 1e6])) == [1.0]
    assert lengths(series_of([ring(16) * 1e6, SILENCE])) == [2.0]


def test_in_a_very_long_series_phases_are_found_too() -> None:
    random = np.random.default_rng(0)
    quiet = [fluctuating(ring(4), 0.3, random) for _ in range(30)]
    loud = [fluctuating(all_to_all(4), 0.3, random) for _ in range(30)]

    found = lengths(series_of(quiet * 50 + loud * 50))

    assert found == pytest.approx([1500.0, 1500.0], abs=2)


def test_neither_the_first_window_nor_the_last_is_a_phase_by_itself() -> None:
    odd, rest = all_to_all(16) * 1e6, [SILENCE] * 6

    assert min(lengths(series_of([odd, *rest]))) >= 2
    assert min(lengths(series_of([*rest, odd]))) >= 2
