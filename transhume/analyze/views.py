"""Views: one matrix out of a series, in which the recent counts more.

Owns the weighted sum of sparse matrices, which forecasts and phases use as well. Counts stay whole numbers:
each column is rounded so that its sum is right (the sum of the exact values, rounded), and each entry by less
than one; an entry that comes to nothing goes.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from transhume.errors import UsageError
from transhume.knowledge.model import (
    CommunicationMatrix,
    MatrixSeries,
    NetworkName,
    NetworkTraffic,
)

Counts = NDArray[np.int64]


def exponential_view(series: MatrixSeries, half_life_seconds: float) -> CommunicationMatrix:
    """Return the matrix in which a window counts half as much for each half-life that it is older.

    The last window counts whole. `seconds` is the sum of the windows' seconds, weighted alike, so that the
    rates are weighted means of the windows' rates; the matrix ends where the series does.

    Raises:
        UsageError: a half-life that isn't above 0, or a series without windows.
    """
    if half_life_seconds <= 0:
        raise UsageError(f"a half-life of {half_life_seconds} s; it must be above 0 s")
    ages = np.arange(len(series.matrices))[::-1] * series.seconds
    return _weighted(series, np.exp2(-ages / half_life_seconds))


def sliding_view(series: MatrixSeries, seconds: float) -> CommunicationMatrix:
    """Return the matrix of the last so many seconds; a window that began before counts by its share within.

    Raises:
        UsageError: a time that isn't above 0, or a series without windows.
    """
    if seconds <= 0:
        raise UsageError(f"a view of the last {seconds} s; it must be above 0 s")
    ages = np.arange(len(series.matrices))[::-1] * series.seconds
    return _weighted(series, np.clip((seconds - ages) / series.seconds, 0.0, 1.0))


def _weighted(series: MatrixSeries, weights: NDArray[np.float64]) -> CommunicationMatrix:
    if not series.matrices:
        raise UsageError("a view of a series without windows; it needs one at least")
    last = series.matrices[-1]
    seconds = float(weights.sum()) * series.seconds
    end = last.start + timedelta(seconds=series.seconds)
    return weighted_sum(
        series.matrices, weights, start=end - timedelta(seconds=seconds), seconds=seconds
    )


def weighted_sum(
    matrices: Sequence[CommunicationMatrix],
    weights: Sequence[float] | NDArray[np.float64],
    *,
    start: datetime,
    seconds: float,
) -> CommunicationMatrix:
    """Return the sum of matrices over the same VMs, each times its weight (0 or more)."""
    counted = [(one, w) for one, w in zip(matrices, weights, strict=True) if w > 0]
    vms = matrices[0].vms
    source = _joined([one.source for one, _ in counted])
    destination = _joined([one.destination for one, _ in counted])
    pair, at = np.unique(source * len(vms) + destination, return_inverse=True)
    rows_of = np.split(at, np.cumsum([len(one.source) for one, _ in counted])[:-1])

    def added(columns: list[Counts]) -> Counts:
        total = np.zeros(len(pair))
        for column, (_, w), rows in zip(columns, counted, rows_of, strict=True):
            total[rows] += column * w
        return _rounded(total)

    def vector(columns: list[Counts]) -> Counts:
        total = np.zeros(len(vms))
        for column, (_, w) in zip(columns, counted, strict=True):
            total += column * w
        return _rounded(total)

    def number(values: list[int]) -> int:
        scaled = (value * w for value, (_, w) in zip(values, counted, strict=True))
        return round(sum(scaled, start=0.0))

    count = added([one.bytes for one, _ in counted])
    payload = added([one.payload_bytes for one, _ in counted])
    frames = added([one.frames for one, _ in counted])
    kept = (count > 0) | (payload > 0) | (frames > 0)
    return CommunicationMatrix(
        start=start,
        seconds=seconds,
        vms=vms,
        source=(pair[kept] // max(len(vms), 1)).astype(np.int32),
        destination=(pair[kept] % max(len(vms), 1)).astype(np.int32),
        bytes=count[kept],
        payload_bytes=payload[kept],
        frames=frames[kept],
        to_outside=vector([one.to_outside for one, _ in counted]),
        from_outside=vector([one.from_outside for one, _ in counted]),
        networks=_networks(counted, len(vms)),
        multicast_bytes=number([one.multicast_bytes for one, _ in counted]),
        unattributed_bytes=number([one.unattributed_bytes for one, _ in counted]),
        dropped_frames=number([one.dropped_frames for one, _ in counted]),
        bytes_error=float(np.sqrt(sum((one.bytes_error * w) ** 2 for one, w in counted))),
    )


def _networks(
    counted: Sequence[tuple[CommunicationMatrix, float]], count: int
) -> tuple[NetworkTraffic, ...]:
    """Return what was exchanged with each network that any of the matrices names, by name."""
    to: dict[NetworkName, NDArray[np.float64]] = {}
    from_: dict[NetworkName, NDArray[np.float64]] = {}
    for one, w in counted:
        for network in one.networks:
            to[network.name] = to.get(network.name, np.zeros(count)) + network.to * w
            from_[network.name] = from_.get(network.name, np.zeros(count)) + network.from_ * w
    return tuple(
        NetworkTraffic(name=name, to=_rounded(to[name]), from_=_rounded(from_[name]))
        for name in sorted(to)
    )


def _joined(columns: Sequence[NDArray[np.generic]]) -> NDArray[np.int64]:
    return np.concatenate([np.empty(0, dtype=np.int64), *columns])


def _rounded(values: NDArray[np.float64]) -> Counts:
    """Round so that each beginning of the column sums up to its own exact sum, rounded."""
    return np.diff(np.rint(np.cumsum(values)), prepend=0.0).astype(np.int64)
