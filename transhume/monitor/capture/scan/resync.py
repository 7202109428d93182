"""Where records begin, for a reader that starts in the middle of a capture.

A place is believed in where a long chain of records leads to it, and on from it. Payload can look like records
too (zeros do, and so does a capture that was sent over the wire), and such a chain may even run into the true
one at its frame's end; but it can't be longer than its frame. So a chain is followed for longer than any frame,
and the place that is returned is the first one that far in. It remains a guess: whoever splits a file checks
that the part before ends where the next one began.
"""

import struct

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan.head import FileHead, Form, Octets

CHAIN_RECORDS = 8
"""So many have to follow from the place that is returned."""
SETTLED_BYTES = 128 << 10
"""More than a super-frame of 64 KiB holds."""
LARGEST_FRAME = 256 << 10
"""A record may be longer; a chain with such a one isn't believed."""
_STEP = 1 << 16
_DAY_SECONDS = 86_400
_SECTION = 0x0A0D0D0A
_ENHANCED = 6
_KINDS = (_SECTION, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0x0BAD, 0x40000BAD)


def resync(data: Octets, head: FileHead) -> int | None:
    """Return a place where a record begins, soon after the beginning of `data`; None where there is none.

    Where `data` ends before a chain of records is long enough, the chain's first place has to do.
    """
    pcapng = head.form is Form.PCAPNG
    for begin in range(0, len(data), _STEP):
        stretch = data[begin : begin + _STEP + 32]
        places = _blocks(stretch, head) if pcapng else _records(stretch, head)
        for place in (begin + places[places < _STEP]).tolist():
            settled = _followed(data, place, head)
            if settled is not None:
                return settled
    return None


def _numbers(data: Octets, order: str, at: int, count: int) -> NDArray[np.int64]:
    """Return the 32-bit numbers `at` bytes behind each of `count` places."""
    found: NDArray[np.uint32] = np.ndarray((count,), f"{order}u4", data[at:], strides=(1,))
    return found.astype(np.int64)


def _records(data: Octets, head: FileHead) -> NDArray[np.int64]:
    """Return the places where the header of a pcap record may stand."""
    count = max(len(data) - head.record_header + 1, 0)
    if not count:
        return np.zeros(0, dtype=np.int64)
    fraction = _numbers(data, head.order, 4, count)
    captured, wire = (_numbers(data, head.order, at, count) for at in (8, 12))
    plausible = (fraction * head.tick_ns <= 1_000_000_000) & (captured > 0)
    return np.flatnonzero(plausible & (captured <= wire) & (wire <= LARGEST_FRAME))


def _blocks(data: Octets, head: FileHead) -> NDArray[np.int64]:
    """Return the places where a pcapng block may begin."""
    count = max(len(data) - 12 + 1, 0)
    if not count:
        return np.zeros(0, dtype=np.int64)
    kind, length = (_numbers(data, head.order, at, count) for at in (0, 4))
    plausible = (length >= 12) & (length <= LARGEST_FRAME) & (length & 3 == 0)
    return np.flatnonzero(plausible & np.isin(kind, _KINDS))


def _followed(data: Octets, place: int, head: FileHead) -> int | None:
    """Follow the chain of records from a place, and return one of its places; None where it breaks off."""
    view, at, settled, records_behind = data.data, place, None, 0
    length = _block_length if head.form is Form.PCAPNG else _record_length
    while at + head.record_header <= len(view) and records_behind < CHAIN_RECORDS:
        step = length(view, at, head)
        if step is None or not _same_day(view, place, at, head):
            return None
        if at + step > len(view):
            break
        if at - place >= SETTLED_BYTES:
            settled = at if settled is None else settled
            records_behind += 1
        at += step
    if settled is None and at > place:
        return place
    return settled


def _same_day(view: memoryview, place: int, at: int, head: FileHead) -> bool:
    """Return whether the pcap records at two places are of about the same time."""
    if head.form is Form.PCAPNG:
        return True
    one, other = (struct.unpack_from(f"{head.order}I", view, where)[0] for where in (place, at))
    return bool(abs(one - other) < _DAY_SECONDS)


def _record_length(view: memoryview, at: int, head: FileHead) -> int | None:
    fraction, captured, wire = struct.unpack_from(f"{head.order}4x3I", view, at)
    if fraction * head.tick_ns > 1_000_000_000 or not 0 < captured <= wire <= LARGEST_FRAME:
        return None
    return int(head.record_header + captured)


def _block_length(view: memoryview, at: int, head: FileHead) -> int | None:
    kind, length = struct.unpack_from(f"{head.order}2I", view, at)
    if length < 12 or length & 3 or length > LARGEST_FRAME:
        return None
    if at + length > len(view):
        return int(length)
    (trailing,) = struct.unpack_from(f"{head.order}I", view, at + length - 4)
    if trailing != length:
        return None
    if kind == _ENHANCED:
        captured = struct.unpack_from(f"{head.order}20xI", view, at)[0] if length >= 32 else length
        if captured + 32 > length:
            return None
    return int(length)
