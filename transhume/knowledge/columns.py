"""Windows and matrices as they are written down: their columns, short ones as lists, long ones packed.

Owns the written form of what is made of arrays, and the checks that make a stranger's arrays fit together. A
column of up to `LISTED_AT_MOST` numbers is a list that a person can read with `redis-cli`; a longer one is
text: a NumPy type, a colon, and base64 of its little-endian values, in the smallest type that holds them. Of a
window's addresses only the rows that it names are written. Leaves JSON and everything else to `codec`.
"""

from base64 import b64decode, b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import (
    ADDRESS_PAIR,
    AddressPairs,
    CommunicationMatrix,
    NetworkName,
    NetworkTraffic,
    TrafficWindow,
    VmName,
)

Column = str | tuple[int, ...]
Texts = str | tuple[str, ...]

LISTED_AT_MOST = 256
MOST_VMS_IN_A_MATRIX = 100_000
"""A damaged list of names must not make anybody reserve terabytes."""
_TYPES = ("u1", "u2", "u4", "i8")
_FAMILIES = (0, 4, 6)
_ALL_FLAGS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenWindow:
    """A window of traffic, written down."""

    start: datetime
    seconds: float
    capture_point: str
    addresses: Texts
    """Rows of `ADDRESS_PAIR` in hexadecimal, or all of them in base64."""
    bytes: Column
    payload_bytes: Column
    frames: Column
    dropped_frames: int = 0
    unreadable_frames: int = 0
    sampled: float = 1.0
    bytes_error: tuple[float, ...] | None = None
    capture_cpu_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenNetwork:
    """What VMs exchanged with a named network, written down."""

    name: NetworkName
    to: Column
    from_: Column


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenMatrix:
    """A communication matrix, written down."""

    start: datetime
    seconds: float
    vms: tuple[VmName, ...]
    source: Column
    destination: Column
    bytes: Column
    payload_bytes: Column
    frames: Column
    to_outside: Column
    from_outside: Column
    networks: tuple[WrittenNetwork, ...] = ()
    multicast_bytes: int = 0
    unattributed_bytes: int = 0
    dropped_frames: int = 0
    bytes_error: float = 0.0


def written_window(window: TrafficWindow) -> WrittenWindow:
    """Return a window's written form."""
    return WrittenWindow(
        start=window.start,
        seconds=window.seconds,
        capture_point=window.capture_point,
        addresses=_written_rows(window.addresses[window.pair]),
        bytes=_written(window.bytes),
        payload_bytes=_written(window.payload_bytes),
        frames=_written(window.frames),
        dropped_frames=window.dropped_frames,
        unreadable_frames=window.unreadable_frames,
        sampled=window.sampled,
        bytes_error=None if window.bytes_error is None else tuple(window.bytes_error.tolist()),
        capture_cpu_seconds=window.capture_cpu_seconds,
    )


def read_window(written: WrittenWindow) -> TrafficWindow:
    """Return the window; raises `ValueError` where its parts don't fit together."""
    if not 0.0 < written.seconds < float("inf"):
        raise ValueError(f"a window of {written.seconds} seconds")
    if not 0.0 < written.sampled <= 1.0:
        raise ValueError(f"a sampled share of {written.sampled}")
    addresses = _read_rows(written.addresses)
    count = len(addresses)
    error = written.bytes_error
    if error is not None and len(error) != count:
        raise ValueError(f"{len(error)} errors for {count} pairs")
    return TrafficWindow(
        start=written.start,
        seconds=written.seconds,
        capture_point=written.capture_point,
        addresses=addresses,
        pair=np.arange(count, dtype=np.int32),
        bytes=_counts(written.bytes, count, "pairs"),
        payload_bytes=_counts(written.payload_bytes, count, "pairs"),
        frames=_counts(written.frames, count, "pairs"),
        dropped_frames=written.dropped_frames,
        unreadable_frames=written.unreadable_frames,
        sampled=written.sampled,
        bytes_error=None if error is None else np.array(error, dtype=np.float64),
        capture_cpu_seconds=written.capture_cpu_seconds,
    )


def written_matrix(matrix: CommunicationMatrix) -> WrittenMatrix:
    """Return a matrix's written form."""
    return WrittenMatrix(
        start=matrix.start,
        seconds=matrix.seconds,
        vms=matrix.vms,
        source=_written(matrix.source),
        destination=_written(matrix.destination),
        bytes=_written(matrix.bytes),
        payload_bytes=_written(matrix.payload_bytes),
        frames=_written(matrix.frames),
        to_outside=_written(matrix.to_outside),
        from_outside=_written(matrix.from_outside),
        networks=tuple(
            WrittenNetwork(name=part.name, to=_written(part.to), from_=_written(part.from_))
            for part in matrix.networks
        ),
        multicast_bytes=matrix.multicast_bytes,
        unattributed_bytes=matrix.unattributed_bytes,
        dropped_frames=matrix.dropped_frames,
        bytes_error=matrix.bytes_error,
    )


def read_matrix(written: WrittenMatrix) -> CommunicationMatrix:
    """Return the matrix; raises `ValueError` where its parts don't fit together."""
    vms = len(written.vms)
    if vms > MOST_VMS_IN_A_MATRIX:
        raise ValueError(f"{vms} VMs in one matrix; {MOST_VMS_IN_A_MATRIX} are the most")
    source, destination = _read_pairs(written)
    pairs = len(source)
    return CommunicationMatrix(
        start=written.start,
        seconds=written.seconds,
        vms=written.vms,
        source=source.astype(np.int32),
        destination=destination.astype(np.int32),
        bytes=_counts(written.bytes, pairs, "pairs"),
        payload_bytes=_counts(written.payload_bytes, pairs, "pairs"),
        frames=_counts(written.frames, pairs, "pairs"),
        to_outside=_counts(written.to_outside, vms, "VMs"),
        from_outside=_counts(written.from_outside, vms, "VMs"),
        networks=tuple(
            NetworkTraffic(
                name=part.name,
                to=_counts(part.to, vms, "VMs"),
                from_=_counts(part.from_, vms, "VMs"),
            )
            for part in written.networks
        ),
        multicast_bytes=written.multicast_bytes,
        unattributed_bytes=written.unattributed_bytes,
        dropped_frames=written.dropped_frames,
        bytes_error=written.bytes_error,
    )


def _read_pairs(written: WrittenMatrix) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    vms = len(written.vms)
    source = _read(written.source)
    destination = _counts(written.destination, len(source), "pairs")
    beyond = (source < 0) | (source >= vms) | (destination >= vms)
    if beyond.any():
        at = int(np.flatnonzero(beyond)[0])
        raise ValueError(f"pair {source[at]}, {destination[at]} is outside of {vms} VMs")
    if (np.diff(source * vms + destination) <= 0).any():
        raise ValueError("pairs that are out of order or there twice")
    return source, destination


def _written(values: NDArray[Any]) -> Column:
    if len(values) <= LISTED_AT_MOST:
        return tuple(values.tolist())
    most, least = int(values.max()), int(values.min())
    kind = next(kind for kind in _TYPES if _holds(kind, least, most))
    return f"{kind}:{b64encode(values.astype(f'<{kind}').tobytes()).decode()}"


def _holds(kind: str, least: int, most: int) -> bool:
    limits = np.iinfo(kind)
    return bool(limits.min <= least and most <= limits.max)


def _read(column: Column) -> NDArray[np.int64]:
    if not isinstance(column, str):
        return np.array(column, dtype=np.int64)
    kind, _, packed = column.partition(":")
    if kind not in _TYPES:
        raise ValueError(f"a column of {kind[:8]!r}")
    return np.frombuffer(b64decode(packed, validate=True), dtype=f"<{kind}").astype(np.int64)


def _counts(column: Column, wanted: int, of_what: str) -> NDArray[np.int64]:
    counts = _read(column)
    if len(counts) != wanted:
        raise ValueError(f"{len(counts)} values for {wanted} {of_what}")
    if (counts < 0).any():
        raise ValueError(f"a count of {counts.min()}")
    return counts


def _written_rows(rows: AddressPairs) -> Texts:
    if len(rows) <= LISTED_AT_MOST:
        return tuple(row.tobytes().hex() for row in rows)
    return b64encode(rows.tobytes()).decode()


def _read_rows(written: Texts) -> AddressPairs:
    if isinstance(written, str):
        packed = b64decode(written, validate=True)
    else:
        packed = b"".join(_read_row(row) for row in written)
    rows = np.frombuffer(packed, dtype=ADDRESS_PAIR)
    if not np.isin(rows["family"], _FAMILIES).all() or (rows["flags"] > _ALL_FLAGS).any():
        raise ValueError("an address of no known kind")
    return rows


def _read_row(written: str) -> bytes:
    packed = bytes.fromhex(written)
    if len(packed) != ADDRESS_PAIR.itemsize:
        raise ValueError(f"a pair of addresses of {len(packed)} bytes")
    return packed
