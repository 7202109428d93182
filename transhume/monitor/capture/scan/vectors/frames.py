"""Where frames are in memory, many at once: pcap records, pcapng blocks, and blocks of a packet socket's ring.

Owns the walk from record to record, which is a Python loop that looks at lengths only; the rest of the headers
is then read in one go. A walk ends where a record isn't whole, at a block that holds no frame, or at damage:
the frames before that are good.
"""

import struct
from contextlib import suppress
from dataclasses import dataclass
from itertools import repeat
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan import stops
from transhume.monitor.capture.scan.clocks import LINK, SECOND_NS, SNAPLEN, Clocks, nanoseconds
from transhume.monitor.capture.scan.head import Octets
from transhume.monitor.capture.scan.links import LARGEST_RECORD, RAW_HARDWARE, Link

BATCH: Final = 1 << 15

_OLD, _SIMPLE, _ENHANCED = 2, 3, 6
_SECTION = 0x0A0D0D0A
_VLAN_VALID = 1 << 4
_RING_HEADER = 68
"""A frame's header in the ring, and the link-layer address behind it."""
_VIRTIO_BYTES = 10

Numbers = NDArray[np.int64]


@dataclass(slots=True)
class Frames:
    """A batch of frames, column by column."""

    offset: Numbers
    captured: Numbers
    wire: Numbers
    at_ns: Numbers
    link: Numbers
    interface: Numbers
    segment: Numbers | None = None
    """What each segment of a super-frame carries; 0 for a plain frame."""
    leading_untimed: int = 0
    """How many at the front have no time of their own."""

    def first(self, count: int) -> "Frames":
        """Return the first `count` frames."""
        return Frames(
            offset=self.offset[:count],
            captured=self.captured[:count],
            wire=self.wire[:count],
            at_ns=self.at_ns[:count],
            link=self.link[:count],
            interface=self.interface[:count],
            segment=None if self.segment is None else self.segment[:count],
            leading_untimed=min(self.leading_untimed, int(count)),
        )


@dataclass(slots=True)
class Walk:
    """Frames, the byte behind them, and why the walk ended; with damage, what was seen there."""

    frames: Frames
    at: int
    stop: int
    seen: int = 0


def pcap_frames(data: Octets, at: int, *, order: str, header: int, tick_ns: int, link: int) -> Walk:
    """Walk over pcap records from `at`."""
    places, after = _pcap_records(data, at, order, header)
    fields = _fields(data, places, 4, order)
    seconds, fraction, captured, wire = fields.T
    code = np.full(len(places), stops.GO_ON, dtype=np.int64)
    code[places + header + captured > len(data)] = stops.MORE
    code[captured > LARGEST_RECORD] = stops.TOO_LONG
    # Exactly a second is what writers that round a float leave behind.
    code[fraction * tick_ns > SECOND_NS] = stops.FRACTION
    code[places + header > len(data)] = stops.MORE
    frames = Frames(
        offset=places + header,
        captured=captured,
        wire=wire,
        at_ns=seconds * SECOND_NS + fraction * tick_ns,
        link=np.full(len(places), link),
        interface=np.zeros(len(places), dtype=np.int64),
    )
    return _until(code, captured, places, Walk(frames, after, stops.FULL))


def values_of(column: Numbers) -> list[int]:
    """Return the different numbers of a column that mostly has one only, in order."""
    found: list[int] = (column[:1] if (column == column[0]).all() else np.unique(column)).tolist()
    return found


def _until(code: Numbers, seen: Numbers, places: Numbers, walk: Walk) -> Walk:
    """Return a walk that ends before the first frame that has a reason to."""
    bad = np.flatnonzero(code != stops.GO_ON)
    if not len(bad):
        return walk
    first = int(bad[0])
    return Walk(walk.frames.first(first), int(places[first]), int(code[first]), int(seen[first]))


def _pcap_records(data: Octets, at: int, order: str, header: int) -> tuple[Numbers, int]:
    """Return where records begin, and where the next one would; the last may be anything but whole."""
    view = data.data
    unpack = struct.Struct(f"{order}8xI").unpack_from
    places: list[int] = []
    add = places.append
    # The error says that the data ends there: to ask before each record takes longer than to be told.
    with suppress(struct.error):
        for _ in repeat(None, BATCH):
            add(at)
            at += header + unpack(view, at)[0]
    return np.array(places, dtype=np.int64), at


def pcapng_frames(
    data: Octets, at: int, *, order: str, clocks: Clocks, section_first: int, before_ns: int
) -> Walk:
    """Walk over pcapng blocks from `at`; a frame without a time is as old as the one before it."""
    places, after, stop = _packet_blocks(data, at, order)
    # Columns: kind, length, interface, high, low, captured, wire; of a simple block the third is the length.
    fields = _fields(data, places, 7, order)
    kind, length, interface, high, low, captured, wire = fields.T
    old, simple = kind == _OLD, kind == _SIMPLE
    if old.any():
        interface = np.where(old, _old_interfaces(data, places, order), interface)
    if simple.any():
        wire, interface = np.where(simple, interface, wire), np.where(simple, 0, interface)
    known = len(clocks) - section_first
    clock = section_first + np.minimum(interface, known - 1)
    at_ns = _times(high, low, clock, clocks, simple, before_ns)
    if simple.any() and len(clocks):
        snaplen = clocks[clock, SNAPLEN].astype(np.int64)
        most = np.minimum(np.where(snaplen == 0, wire, snaplen), length - 16)
        captured = np.where(simple, np.minimum(wire, most), captured)
    seen = np.where(interface >= known, interface, 0)
    code = np.where(captured > length - np.where(simple, 16, 32), stops.LONGER, stops.GO_ON)
    code[at_ns == -1] = stops.NO_TIME
    code[interface >= known] = stops.UNKNOWN_INTERFACE
    code[length < np.where(simple, 16, 32)] = stops.TOO_SHORT
    code[_fields(data, places + length - 4, 1, order)[:, 0] != length] = stops.LENGTHS_DIFFER
    code[places + length > len(data)] = stops.MORE
    impossible = (length < 12) | (length & 3 != 0)
    code[length > LARGEST_RECORD] = stops.TOO_LONG
    code[impossible] = stops.ODD_LENGTH
    seen = np.where((length > LARGEST_RECORD) | impossible, length, seen)
    frames = Frames(
        offset=places + np.where(simple, 12, 28),
        captured=captured,
        wire=wire,
        at_ns=np.maximum(at_ns, 0),
        link=clocks[clock, LINK].astype(np.int64) if len(clocks) else np.zeros_like(places),
        interface=clock,
        leading_untimed=int(np.argmin(simple)) if not simple.all() else len(simple),
    )
    return _until(code, seen, places, Walk(frames, after, stop))


def _packet_blocks(data: Octets, at: int, order: str) -> tuple[Numbers, int, int]:
    """Return where blocks with frames begin, where the next block would, and what there is to stop for.

    The last block may be anything but whole, and what comes behind an impossible one is nonsense.
    """
    view = data.data
    unpack = struct.Struct(f"{order}2I").unpack_from
    places: list[int] = []
    add, kinds = places.append, (_ENHANCED, _SIMPLE, _OLD)
    with suppress(struct.error):
        for _ in repeat(None, BATCH):
            kind, length = unpack(view, at)
            if kind not in kinds:
                return np.array(places, dtype=np.int64), at, stops.BLOCK
            add(at)
            at += length
        return np.array(places, dtype=np.int64), at, stops.FULL
    return np.array(places, dtype=np.int64), at, stops.MORE


def _old_interfaces(data: Octets, places: Numbers, order: str) -> Numbers:
    """Return the interface of each block as old packet blocks have it: in two bytes, not four."""
    every = np.ndarray((max(len(data) - 1, 0),), f"{order}u2", data, strides=(1,))
    return every[np.clip(places + 8, 0, len(every) - 1)].astype(np.int64)


def _times(  # noqa: PLR0917
    high: Numbers,
    low: Numbers,
    clock: Numbers,
    clocks: Clocks,
    simple: NDArray[np.bool_],
    before_ns: int,
) -> Numbers:
    ticks = high.astype(np.uint64) << np.uint64(32) | low.astype(np.uint64)
    at_ns = np.full(len(ticks), -1, dtype=np.int64)
    for number in np.unique(clock[~simple]) if len(clocks) else ():
        mine = clock == number
        at_ns[mine] = nanoseconds(ticks[mine], clocks[number])
    if simple.any():
        # The index of the last frame that has a time, at each frame; 0 stands for the one before the batch.
        timed = np.maximum.accumulate(np.where(simple, 0, np.arange(1, len(simple) + 1)))
        known = np.concatenate((np.array([max(before_ns, 0)]), at_ns))
        at_ns = np.take(known, timed)
    return at_ns


def _fields(data: Octets, places: Numbers, count: int, order: str) -> Numbers:
    """Return `count` 32-bit numbers from each place on; instead of those outside of the data, others."""
    every = np.ndarray((max(len(data) - 3, 0),), f"{order}u4", data, strides=(1,))
    indices = places[:, None] + 4 * np.arange(count)
    if not len(every):
        return np.zeros_like(indices)
    found: Numbers = every[np.clip(indices, 0, len(every) - 1)].astype(np.int64)
    return found


def ring_frames(data: Octets, at: int, left: int, *, virtio: bool) -> Walk:
    """Walk over frames of a TPACKET_V3 block: at most `left` of them, the first at `at`."""
    view, end = data.data, len(data)
    unpack = struct.Struct("=6IH").unpack_from
    rows: list[tuple[int, ...]] = []
    stop = stops.FULL
    for _ in range(min(left, BATCH)):
        if at < 0 or at + _RING_HEADER > end:
            stop = stops.RING
            break
        following, seconds, nanoseconds_, captured, wire, status, mac = unpack(view, at)
        if mac < _VIRTIO_BYTES or at + mac + captured > end:
            stop = stops.RING
            break
        (hardware,) = struct.unpack_from("=H", view, at + 56)
        link = Link.RAW if hardware in RAW_HARDWARE else Link.ETHERNET
        wire += 4 if status & _VLAN_VALID else 0
        segment = _segment(view, at + mac - _VIRTIO_BYTES) if virtio else 0
        time_ns = seconds * SECOND_NS + nanoseconds_
        rows.append((at + mac, captured, wire, time_ns, link, 0, segment))
        at += following
    columns = np.array(rows, dtype=np.int64).reshape(-1, 7).T
    return Walk(Frames(*columns), at, stop)


def _segment(view: memoryview, at: int) -> int:
    kind, size = struct.unpack_from("=xB2xH", view, at)
    return int(size) if kind else 0
