"""An analysis as one long table: a row for each slice of time and ordered pair of VMs that talked in it.

Owns the columns that the Parquet and CSV files share. Rows are in order of time, then source, then destination;
they are given in batches of some slices, so that a file is written in the memory of a batch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from transhume.knowledge.model import CommunicationMatrix, MatrixSeries

COLUMNS = ("start", "source", "destination", "bytes", "payload_bytes", "frames")
ROWS_AT_A_TIME = 1 << 18


@dataclass(frozen=True, slots=True)
class SliceRows:
    """Some whole slices one after the other: which slice each row is of, and the columns."""

    starts: tuple[datetime, ...]
    slice: np.ndarray[tuple[int], np.dtype[np.int32]]
    source: np.ndarray[tuple[int], np.dtype[np.int32]]
    destination: np.ndarray[tuple[int], np.dtype[np.int32]]
    bytes: np.ndarray[tuple[int], np.dtype[np.int64]]
    payload_bytes: np.ndarray[tuple[int], np.dtype[np.int64]]
    frames: np.ndarray[tuple[int], np.dtype[np.int64]]


def batches(series: MatrixSeries) -> Iterator[SliceRows]:
    """Yield the rows of a series; a slice in which no VM talked to another has none."""
    waiting: list[CommunicationMatrix] = []
    count = 0
    for matrix in series.matrices:
        if not len(matrix.source):
            continue
        waiting.append(matrix)
        count += len(matrix.source)
        if count >= ROWS_AT_A_TIME:
            yield _joined(waiting)
            waiting, count = [], 0
    if waiting:
        yield _joined(waiting)


def _joined(matrices: Sequence[CommunicationMatrix]) -> SliceRows:
    lengths = [len(matrix.source) for matrix in matrices]
    return SliceRows(
        starts=tuple(matrix.start for matrix in matrices),
        slice=np.repeat(np.arange(len(matrices), dtype=np.int32), lengths),
        source=np.concatenate([matrix.source for matrix in matrices]),
        destination=np.concatenate([matrix.destination for matrix in matrices]),
        bytes=np.concatenate([matrix.bytes for matrix in matrices]),
        payload_bytes=np.concatenate([matrix.payload_bytes for matrix in matrices]),
        frames=np.concatenate([matrix.frames for matrix in matrices]),
    )
