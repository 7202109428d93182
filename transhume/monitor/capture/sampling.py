"""Looking at some of the frames only: how many, so that capture stays within its share of a processor, and what
the whole was, as far as the part tells.

Pure arithmetic. Each frame is looked at with the same chance, whatever it is, so that a count divided by the
chance is an estimate without bias (Horvitz and Thompson's). Its variance is known from the squares of the
lengths seen.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transhume.knowledge.model import TrafficWindow
from transhume.knowledge.model.addresses import ADDRESS_PAIR, AddressPairs

SMALLEST_SHARE = 1 / 1024
"""Fewer frames than this say too little, whatever they cost."""
CALM_WINDOWS = 3
"""How many windows have to be cheap before more is looked at."""
CALM = 0.4
"""What is cheap, as a part of the budget: twice that much is still within it."""


class Budget:
    """Chooses the share of frames to look at from what the last windows took.

    Looking at fewer frames comes at once, at more only after a while and by doubling: traffic at the edge of
    the budget doesn't make the share go up and down.

    Args:
        cpu_share: what may be spent, in seconds of a processor by second.
    """

    def __init__(self, cpu_share: float) -> None:
        self._cpu_share = cpu_share
        self._calm = 0
        self._open: datetime | None = None
        self._spent = 0.0
        self._seconds = 0.0
        self._sampled = 1.0
        self.share = 1.0

    def account(self, windows: Iterable[TrafficWindow]) -> float:
        """Take windows in, all interfaces' of one stretch of time before the next stretch; return the share."""
        for window in windows:
            if window.start != self._open:
                self._settle()
                self._open, self._seconds = window.start, window.seconds
                self._spent, self._sampled = 0.0, 1.0
            self._spent += window.capture_cpu_seconds or 0.0
            self._sampled = min(self._sampled, window.sampled)
        return self.share

    def _settle(self) -> None:
        if self._open is None:
            return
        load = self._spent / self._seconds / self._cpu_share
        if load > 1:
            # What a window took belongs to the share that it had: a change takes a while to show.
            self._calm = 0
            self.share = max(min(self.share, self._sampled / load), SMALLEST_SHARE)
        elif load > CALM or self._sampled != self.share:
            self._calm = 0
        else:
            self._calm += 1
            if self._calm >= CALM_WINDOWS:
                self._calm = 0
                self.share = min(2 * self.share, 1.0)


def estimated(counts: ArrayLike, share: float) -> NDArray[np.int64]:
    """Return what the whole was, by what was counted in a share of the frames."""
    found = np.asarray(counts).astype(np.int64)
    return found if share >= 1 else np.rint(found / share).astype(np.int64)


def standard_error(squared_bytes: ArrayLike, share: float) -> NDArray[np.float64]:
    """Return the standard error of estimated bytes, by the sum of the squared lengths of the frames seen."""
    squares = np.asarray(squared_bytes).astype(np.float64)
    found: NDArray[np.float64] = np.sqrt(squares * (1 - share)) / share
    return found


def spread_squares(
    bytes_: NDArray[np.int64], frames: NDArray[np.int64], squared_bytes: float
) -> NDArray[np.float64]:
    """Return each pair's part in a sum of squared lengths, as if all pairs' lengths varied alike."""
    if not len(bytes_):
        return np.zeros(0)
    of_means = bytes_.astype(np.float64) ** 2 / np.maximum(frames, 1)
    total = of_means.sum()
    return of_means * (max(squared_bytes, total) / total) if total else of_means


def merged(parts: Sequence[TrafficWindow]) -> TrafficWindow:
    """Return the windows of one capture point and one stretch of time as one, each pair once."""
    if len(parts) == 1:
        return parts[0]
    rows = np.concatenate([part.addresses[part.pair] for part in parts])
    first, at = each_once(rows)
    frames = _added([part.frames for part in parts], at, len(first))
    errors = [_error(part) ** 2 for part in parts]
    variance = np.bincount(at, np.concatenate(errors), minlength=len(first))
    looked_at = sum(part.total_frames * part.sampled for part in parts)
    return replace(
        parts[0],
        addresses=rows[first],
        pair=np.arange(len(first), dtype=np.int32),
        bytes=_added([part.bytes for part in parts], at, len(first)),
        payload_bytes=_added([part.payload_bytes for part in parts], at, len(first)),
        frames=frames,
        dropped_frames=sum(part.dropped_frames for part in parts),
        unreadable_frames=sum(part.unreadable_frames for part in parts),
        sampled=looked_at / int(frames.sum()) if frames.any() else parts[-1].sampled,
        bytes_error=np.sqrt(variance) if variance.any() else None,
    )


def each_once(rows: AddressPairs) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where each different row comes first, and for each row which of those it equals."""
    words = rows.view(np.dtype((np.void, ADDRESS_PAIR.itemsize)))
    _, first, at = np.unique(words, return_index=True, return_inverse=True)
    return first, at


def _added(
    columns: Sequence[NDArray[np.int64]], at: NDArray[np.intp], rows: int
) -> NDArray[np.int64]:
    found = np.zeros(rows, dtype=np.int64)
    np.add.at(found, at, np.concatenate(columns))
    return found


def _error(part: TrafficWindow) -> NDArray[np.float64]:
    return part.bytes_error if part.bytes_error is not None else np.zeros(len(part.bytes))
