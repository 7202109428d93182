"""Draws windows and matrices, and compares them: their columns are arrays, which have no plain equality."""

from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from transhume.knowledge.model import (
    ADDRESS_PAIR,
    CommunicationMatrix,
    NetworkName,
    NetworkTraffic,
    TrafficWindow,
    VmName,
)

ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])
MOMENTS: st.SearchStrategy[datetime] = st.datetimes(timezones=ZONES)
COUNTS = st.one_of(st.integers(0, 300), st.integers(0, 2**63 - 1))
LENGTHS = st.one_of(st.integers(0, 8), st.integers(250, 270))


def columns(length: int) -> st.SearchStrategy[Any]:
    return arrays.arrays(np.int64, length, elements=COUNTS, fill=st.just(0))


@st.composite
def windows(draw: st.DrawFn) -> TrafficWindow:
    rows, length = draw(st.integers(1, 5)), draw(LENGTHS)
    addresses = np.frombuffer(
        draw(st.binary(min_size=48 * rows, max_size=48 * rows)), dtype=ADDRESS_PAIR
    ).copy()
    addresses["family"] = draw(arrays.arrays(np.uint8, rows, elements=st.sampled_from([0, 4, 6])))
    addresses["flags"] &= 7
    errors = arrays.arrays(np.float64, length, elements=st.floats(0, 1e12))
    return TrafficWindow(
        start=draw(MOMENTS),
        seconds=draw(st.floats(1e-6, 1e6)),
        capture_point=draw(st.text()),
        addresses=addresses,
        pair=draw(arrays.arrays(np.int32, length, elements=st.integers(0, rows - 1))),
        bytes=draw(columns(length)),
        payload_bytes=draw(columns(length)),
        frames=draw(columns(length)),
        dropped_frames=draw(st.integers(0)),
        unreadable_frames=draw(st.integers(0)),
        sampled=draw(st.floats(1e-6, 1.0)),
        bytes_error=draw(st.none() | errors),
        capture_cpu_seconds=draw(st.none() | st.floats(0, 1e6)),
    )


@st.composite
def matrices(draw: st.DrawFn) -> CommunicationMatrix:
    names = draw(st.lists(st.text(), max_size=20, unique=True))
    count = len(names)
    wanted = min(draw(LENGTHS), count * count)
    all_pairs = np.random.default_rng(draw(st.integers(0, 99))).permutation(count * count)
    pairs = np.sort(all_pairs[:wanted])
    return CommunicationMatrix(
        start=draw(MOMENTS),
        seconds=draw(st.floats(0, 1e6)),
        vms=tuple(map(VmName, names)),
        source=(pairs // max(count, 1)).astype(np.int32),
        destination=(pairs % max(count, 1)).astype(np.int32),
        bytes=draw(columns(wanted)),
        payload_bytes=draw(columns(wanted)),
        frames=draw(columns(wanted)),
        to_outside=draw(columns(count)),
        from_outside=draw(columns(count)),
        networks=tuple(
            NetworkTraffic(
                name=NetworkName(name), to=draw(columns(count)), from_=draw(columns(count))
            )
            for name in draw(st.lists(st.text(), max_size=2, unique=True))
        ),
        multicast_bytes=draw(st.integers(0)),
        unattributed_bytes=draw(st.integers(0)),
        dropped_frames=draw(st.integers(0)),
        bytes_error=draw(st.floats(0, 1e12)),
    )


def plain(record: Any) -> Any:
    """Return a record as plain values that compare; of a window's addresses, those of its pairs."""
    if isinstance(record, TrafficWindow):
        return {
            field.name: plain(getattr(record, field.name))
            for field in fields(record)
            if field.name not in ("addresses", "pair")
        } | {"addresses": record.addresses[record.pair].tobytes()}
    if is_dataclass(record):
        return {field.name: plain(getattr(record, field.name)) for field in fields(record)}
    if isinstance(record, np.ndarray):
        return str(record.dtype), record.tolist()
    return [plain(each) for each in record] if isinstance(record, tuple) else record
