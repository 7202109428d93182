"""Forecast: what the next windows will be like, and how far off such a forecast was on those already seen.

Each method is a weighted mean of past windows; which weights is all that it has to say. So no method ever
touches a matrix: how far off it would have been follows from the scalar products of the windows with each
other, and only what the best one says of the future is added up, sparse as it is.

Asked are: the last window again; the mean of all; means that forget (exponential weights); the mean since the
last change of phase; and the window one period ago, where there is a period. Each is tried at many instants of
the second half of the series with nothing but what was seen until then; the one with the least error is taken.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.phases import embedded, last_starts
from transhume.analyze.spectra import gram
from transhume.analyze.views import weighted_sum
from transhume.errors import UsageError
from transhume.knowledge.model import CommunicationMatrix, Forecast, MatrixSeries

Weights = NDArray[np.float64]
Products = NDArray[np.float64]

REMEMBERED = 240
"""Windows before these tell nothing of the next."""
TRIALS = 32
"""At so many instants at most a method is tried."""
HALF_LIVES = (2.0, 8.0)
"""Of the means that forget, in windows."""
REPEATS = 0.5
"""Windows one period apart differ by less than this share of what two windows differ by on average."""
DENSE_TO = 4_000_000
"""Up to so many numbers, windows times pairs, are multiplied as one array, without SciPy."""


@dataclass(frozen=True, slots=True, eq=False)
class _Past:
    """The first `count` windows, as far as a method may look at them."""

    count: int
    products: Products
    phase_start: int


@dataclass(frozen=True, slots=True)
class _Method:
    name: str
    weights: Callable[[_Past, int], Weights]
    """The weights of the past windows in the forecast of the n-th to come."""


def forecast(series: MatrixSeries, steps: int) -> Forecast:
    """Return what is expected of the next `steps` windows.

    A series of a single window is expected to go on like that, with an error of 1: nothing backs it.

    Raises:
        UsageError: no steps, or a series without windows.
    """
    if steps < 1 or not series.matrices:
        raise UsageError(
            f"a forecast of {steps} windows from {len(series.matrices)}; both must be 1 or more"
        )
    recent = replace(series, matrices=series.matrices[-REMEMBERED:])
    products = _products(recent.matrices)
    starts = last_starts(embedded(recent))
    ahead = min(steps, max(1, len(recent.matrices) // 4))
    errors = [_error(method, products, starts, ahead) for method in METHODS]
    best = int(np.argmin(errors))
    past = _past(products, starts, len(recent.matrices))
    return Forecast(
        matrices=tuple(
            _expected(recent, METHODS[best].weights(past, step), step)
            for step in range(1, steps + 1)
        ),
        error=errors[best] if np.isfinite(errors[best]) else 1.0,
        method=METHODS[best].name,
    )


def _expected(series: MatrixSeries, weights: Weights, step: int) -> CommunicationMatrix:
    seconds = timedelta(seconds=series.seconds)
    found = weighted_sum(
        series.matrices,
        weights,
        start=series.matrices[-1].start + step * seconds,
        seconds=series.seconds,
    )
    return replace(found, dropped_frames=0, bytes_error=0.0)


# --- methods -----------------------------------------------------------------------------------------


def _last(past: _Past, _step: int) -> Weights:
    weights = np.zeros(past.count)
    weights[-1] = 1.0
    return weights


def _mean(past: _Past, _step: int) -> Weights:
    return np.full(past.count, 1.0 / past.count)


def _forgetting(half_life: float, past: _Past, _step: int) -> Weights:
    weights = 0.5 ** (np.arange(past.count)[::-1] / half_life)
    return np.asarray(weights / weights.sum())


def _of_phase(past: _Past, _step: int) -> Weights:
    weights = np.zeros(past.count)
    weights[past.phase_start :] = 1.0 / (past.count - past.phase_start)
    return weights


def _one_period_ago(past: _Past, step: int) -> Weights:
    """Repeat the last period or, while none is to be seen, the last window."""
    period = _period(past.products) or 1
    weights = np.zeros(past.count)
    weights[past.count - period + (step - 1) % period] = 1.0
    return weights


METHODS: Sequence[_Method] = (
    _Method("last window", _last),
    _Method("mean", _mean),
    *(
        _Method(f"mean that halves every {half_life:g} windows", partial(_forgetting, half_life))
        for half_life in HALF_LIVES
    ),
    _Method("mean of the phase", _of_phase),
    _Method("one period ago", _one_period_ago),
)


def _period(products: Products) -> int | None:
    """Return after how many windows they repeat, seen twice at least; None where they don't.

    One period apart they are nearer than neighbours are: what only goes on as it was has no period.
    """
    count = len(products)
    size = np.diag(products)
    differ = np.array(
        [
            np.mean(size[lag:] + size[:-lag] - 2 * np.diag(products, lag))
            for lag in range(1, count // 2 + 1)
        ]
    )
    usual = 2.0 * float(np.mean(size) - np.mean(products)) if count else 0.0
    if len(differ) < 2 or differ[1:].min() >= min(differ[0], REPEATS * usual):
        return None
    near = differ[1:] <= differ[1:].min() + 0.05 * differ[0]
    return int(np.argmax(near)) + 2


# --- trials ------------------------------------------------------------------------------------------


def _error(method: _Method, products: Products, starts: NDArray[np.intp], ahead: int) -> float:
    """Return the method's relative error over trials in the second half; infinite where there are none."""
    count = len(products)
    first = max(1, count // 2)
    instants = np.unique(np.linspace(first, count - 1, TRIALS).astype(int)) if count > 1 else ()
    missed = seen = 0.0
    for instant in map(int, instants):
        past = _past(products, starts, instant)
        for step in range(1, min(ahead, count - instant) + 1):
            weights, target = method.weights(past, step), instant + step - 1
            alike = float(weights @ products[:instant, target])
            size = float(products[target, target])
            missed += float(weights @ past.products @ weights) - 2 * alike + size
            seen += size
    if not seen:
        return 0.0 if len(instants) and missed <= 0 else float("inf")
    return float(np.sqrt(max(0.0, missed) / seen))


def _past(products: Products, starts: NDArray[np.intp], count: int) -> _Past:
    return _Past(count, products[:count, :count], int(starts[count]))


def _products(matrices: Sequence[CommunicationMatrix]) -> Products:
    """Return the scalar product of the bytes of each two windows."""
    keys = [one.source.astype(np.int64) * len(one.vms) + one.destination for one in matrices]
    pairs, column = np.unique(np.concatenate(keys), return_inverse=True)
    row = np.repeat(np.arange(len(matrices)), [len(key) for key in keys])
    said = np.concatenate([one.bytes for one in matrices]).astype(float)
    if len(matrices) * len(pairs) <= DENSE_TO:
        dense = np.zeros((len(matrices), len(pairs)))
        dense[row, column] = said
        return gram(dense)
    from scipy.sparse import csr_array

    sparse = csr_array((said, (row, column)), shape=(len(matrices), len(pairs)))
    return np.asarray((sparse @ sparse.T).todense())
