"""Phases: the stretches of time in which traffic keeps its shape and its amount.

Each window becomes a point: the square roots of the pairs' shares of its bytes (so that the distance of two
points is the Hellinger distance of what was said), folded with signs into a few dimensions (the count sketch
of Charikar, Chen and Farach-Colton, 2002; by the VMs' names, so that the order of the rows doesn't matter), and
the logarithm of the amount. Where the points change their mean, a phase ends: the optimal segmentation under a
penalty for each change, by PELT (Killick, Fearnhead and Eckley, 2012). The penalty grows with how much
neighbouring windows differ anyway, so that what always fluctuates isn't a change.
"""

from collections.abc import Sequence
from itertools import pairwise
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.patterns import find_pattern
from transhume.analyze.views import weighted_sum
from transhume.knowledge.model import CommunicationMatrix, MatrixSeries, TrafficPhase, VmName

Points = NDArray[np.float64]

DIMENSIONS = 64
SHORTEST = 2
"""A phase has at least so many windows: one odd window is noise."""
LONGEST = 2000
"""In a series of more windows, neighbours are taken together, so that no more are left."""
SILENT = 0.01
"""What is below this share of the median window's amount counts as this share."""
USUAL = 0.02
"""The least that neighbours are taken to differ by, as a squared distance: some 14 % of the amount."""


def find_phases(series: MatrixSeries) -> tuple[TrafficPhase, ...]:
    """Return the phases of a series in order, without gaps; none for a series without windows."""
    if not series.matrices:
        return ()
    points, step = _pooled(embedded(series))
    starts = [start * step for start in _starts(points)]
    return tuple(
        _phase(series.matrices[start:end], series.seconds)
        for start, end in pairwise([*starts, len(series.matrices)])
    )


def _phase(matrices: Sequence[CommunicationMatrix], window_seconds: float) -> TrafficPhase:
    seconds = len(matrices) * window_seconds
    whole = weighted_sum(matrices, np.ones(len(matrices)), start=matrices[0].start, seconds=seconds)
    return TrafficPhase(
        start=whole.start,
        seconds=seconds,
        bytes_per_second=float(whole.bytes_per_second.sum()),
        pattern=find_pattern(whole),
    )


# --- windows as points -------------------------------------------------------------------------------


def embedded(series: MatrixSeries) -> Points:
    """Return a point for each window; the squared distance of two is 0 to 2 for shape, and more for amount."""
    fold = _Fold(series.vms)
    points = np.zeros((len(series.matrices), DIMENSIONS + 1))
    for at, matrix in enumerate(series.matrices):
        if matrix.bytes.any():
            points[at, :DIMENSIONS] = fold(matrix)
    points[:, -1] = _amounts(series)
    return points


class _Fold:
    """The way from a window's pairs to a few dimensions, by the names of the VMs alone."""

    def __init__(self, vms: Sequence[VmName]) -> None:
        hashed = np.array([crc32(vm.encode()) for vm in vms], dtype=np.uint64)
        self._source = hashed * np.uint64(0x9E3779B97F4A7C15)
        self._destination = hashed * np.uint64(0xC2B2AE3D27D4EB4F)

    def __call__(self, matrix: CommunicationMatrix) -> Points:
        key = self._source[matrix.source] ^ self._destination[matrix.destination]
        key = (key ^ (key >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
        place = ((key >> np.uint64(40)) % np.uint64(DIMENSIONS)).astype(np.intp)
        sign = 1.0 - 2.0 * ((key >> np.uint64(39)) & np.uint64(1)).astype(float)
        root = np.sqrt(matrix.bytes / matrix.bytes.sum())
        return np.asarray(np.bincount(place, root * sign, DIMENSIONS), dtype=np.float64)


def _amounts(series: MatrixSeries) -> Points:
    """Return the logarithm of each window's bytes, from that of a window with next to nothing up."""
    said = np.array([float(matrix.bytes.sum()) for matrix in series.matrices])
    loud = said[said > 0]
    return np.log(said + SILENT * (np.median(loud) if len(loud) else 1.0))


def _pooled(points: Points) -> tuple[Points, int]:
    """Return the means of neighbouring points, no more than can be looked at, and how many make one."""
    step = -(-len(points) // LONGEST)
    starts = np.arange(0, len(points), step)
    sizes = np.diff(np.append(starts, len(points)))
    return np.add.reduceat(points, starts) / sizes[:, None], step


# --- change points -----------------------------------------------------------------------------------


def _starts(points: Points) -> list[int]:
    """Return where the phases of some points begin; the first at 0."""
    last = _last_starts(_without_odd_ones(points), _penalty(points))
    starts, end = [], len(points)
    while end > 0:
        end = int(last[end])
        starts.append(end)
    return starts[::-1]


def _without_odd_ones(points: Points) -> Points:
    """Return the points with each number that neither neighbour bears out replaced by the nearer of theirs.

    That is the median of three: it takes out what lasts for one window, and leaves the edges of all else.
    """
    if len(points) < 3:
        return points
    found = points.copy()
    found[1:-1] = np.median(np.stack((points[:-2], points[1:-1], points[2:])), axis=0)
    return found


def last_starts(points: Points) -> NDArray[np.intp]:
    """Return for each n where the last phase of the first n points begins, as one would have said then."""
    return _last_starts(points, _penalty(points))


def _last_starts(points: Points, penalty: float) -> NDArray[np.intp]:
    """Return for each n where the last phase of the first n points begins, each change costing a penalty.

    The cost of a phase is its points' squared distance from their mean, which running sums give at once.
    """
    count = len(points)
    sums = np.vstack((np.zeros(points.shape[1]), np.cumsum(points, axis=0)))
    squares = np.concatenate(([0.0], np.cumsum((points**2).sum(axis=1))))
    best = np.full(count + 1, np.inf)
    best[0] = -penalty
    last = np.zeros(count + 1, dtype=np.intp)
    tried = np.zeros(1, dtype=np.intp)
    hopeless = np.zeros(1, dtype=np.bool_)
    for end in range(1, count + 1):
        length = end - tried
        spread = squares[end] - squares[tried]
        spread -= ((sums[end] - sums[tried]) ** 2).sum(axis=1) / length
        cost = best[tried] + np.maximum(spread, 0.0)
        ready = (length >= SHORTEST) | (tried == 0)
        at = int(np.argmin(np.where(ready, cost, np.inf)))
        best[end], last[end] = cost[at] + penalty, tried[at]
        # Where a change here would be cheaper than going on from a start, so it will be for ever: but only a
        # phase of the shortest length can begin here, hence the delay by a round.
        tried, hopeless = tried[~hopeless], (ready & (cost > best[end]))[~hopeless]
        if end >= SHORTEST:
            tried, hopeless = np.append(tried, end), np.append(hopeless, False)
    return last


def _penalty(points: Points) -> float:
    """Return what a change has to gain: more than fluctuation brings about over so many windows.

    A change that isn't one gains about the variance of a point, and over n places to choose from at most some
    2 log n times that; twice as much, as neighbours aren't independent. The variance is half the squared
    distance of neighbours, where three in four differ by less: phases last longer than four windows, bursts
    don't.
    """
    steps = (np.diff(points, axis=0) ** 2).sum(axis=1)
    usual = max(float(np.quantile(steps, 0.75)) if len(steps) else 0.0, USUAL) / 2
    return usual * (4.0 + 4.0 * float(np.log(max(len(points), 2))))
