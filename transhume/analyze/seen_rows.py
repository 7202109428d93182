"""Rows of the address table and how much was seen of each: what sightings are kept as.

Owns the columns and their adding up; which window, slice and capture point they belong to is told by who holds
them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.address_table import Numbers
from transhume.analyze.distinct import added, ascending
from transhume.knowledge.model import TrafficWindow
from transhume.knowledge.model.traffic import Counts


@dataclass(frozen=True, slots=True)
class SeenRows:
    """What was seen of some rows of the address table; a row may be there more than once."""

    pair: Numbers
    bytes: Counts
    payload_bytes: Counts
    frames: Counts
    variance: NDArray[np.float64] | None = None
    """The square of the standard error of `bytes`, in whole numbers, whose sum has no order; None for 0."""

    def __len__(self) -> int:
        return len(self.pair)

    @property
    def columns(self) -> tuple[Counts, Counts, Counts, NDArray[np.float64]]:
        """Bytes, payload bytes, frames, variance."""
        variance = self.variance
        if variance is None:
            variance = np.broadcast_to(np.float64(0.0), len(self))
        return self.bytes, self.payload_bytes, self.frames, variance


def rows_of(window: TrafficWindow, pair: Numbers) -> SeenRows:
    """Return a window's rows but for those that count nothing, which are there for what they claim."""
    error = window.bytes_error
    seen = SeenRows(
        pair,
        window.bytes,
        window.payload_bytes,
        window.frames,
        None if error is None else np.rint(np.square(error)),
    )
    something = (window.bytes | window.payload_bytes | window.frames) != 0
    return seen if something.all() else _only(seen, something)


def _only(rows: SeenRows, kept: NDArray[np.bool_]) -> SeenRows:
    return SeenRows(
        rows.pair[kept],
        rows.bytes[kept],
        rows.payload_bytes[kept],
        rows.frames[kept],
        None if rows.variance is None else rows.variance[kept],
    )


def together(parts: Sequence[SeenRows]) -> SeenRows:
    """Return the sum of some rows, each pair once, in the order of the numbers."""
    if len(parts) == 1 and ascending(parts[0].pair):
        return parts[0]
    pair, columns = added(
        np.concatenate([rows.pair for rows in parts]),
        [np.concatenate(column) for column in zip(*(rows.columns for rows in parts), strict=True)],
    )
    bytes_, payload_bytes, frames, variance = columns
    sampled = any(rows.variance is not None for rows in parts)
    return SeenRows(pair, bytes_, payload_bytes, frames, variance if sampled else None)


def renumbered(rows: SeenRows, number: Numbers) -> SeenRows:
    """Return the same rows by other numbers: `number` has the new one for each old one."""
    return SeenRows(number[rows.pair], rows.bytes, rows.payload_bytes, rows.frames, rows.variance)
