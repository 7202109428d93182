"""Frames in, traffic windows out: what files and live capture both feed, and take windows from.

Owns the bins, which are whole multiples of the window's length since the epoch, counted in integers so that no
frame at a border falls on the wrong side. It has no clock and reads no file: whoever feeds it says when a bin
is over, and brings the bytes.
"""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import numpy as np

from transhume.errors import UsageError
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.scan import stops
from transhume.monitor.capture.scan.clocks import COLUMNS, Clocks, clocks_of
from transhume.monitor.capture.scan.counts import (
    BORROWED,
    BYTES,
    FIRST_NS,
    FRAMES,
    LAST_FRAME_NS,
    NO_FIRST,
    SIMPLE_NS,
    UNREADABLE,
    BinCounts,
    Counts,
)
from transhume.monitor.capture.scan.engine import Engine, counting
from transhume.monitor.capture.scan.head import BlockReader, CutOff, FileHead, Form, Octets

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHORTEST_WINDOW_SECONDS = 0.001


class Scanner:
    """Counts the frames of one capture, by bin of time and pair of addresses.

    Args:
        head: what `read_head` told of the capture; None where frames come from a packet socket's ring.
        window_seconds: the length of a bin.
        capture_point: what windows are said to be captured at. Where the capture tells interfaces apart, it
            gets the interface's name or number behind a colon; a callable is given the number and names all.
        engine: who counts; both give the same.
        inner: look into tunnels, and count the frames inside.
        captured_length: count the bytes that were captured, and not those that the frame had on the wire.
        simple_ns: the time of the frame before the first that is fed; simple packet blocks take it over.

    Raises:
        UsageError: the window is too short to be told apart by the clocks of captures.
    """

    def __init__(
        self,
        head: FileHead | None,
        *,
        window_seconds: float,
        capture_point: str | Callable[[int], str],
        engine: Engine = Engine.NUMPY,
        inner: bool = False,
        captured_length: bool = False,
        simple_ns: int | None = None,
    ) -> None:
        check_window(window_seconds)
        self.engine = engine
        self._width_us = round(window_seconds * 1e6)
        self._capture_point = capture_point
        self._head = head
        self._counts = Counts(self._width_us * 1000)
        self._counting = counting(
            engine, self._counts, inner=inner, captured_length=captured_length
        )
        if simple_ns is not None:
            self._counts.state[SIMPLE_NS] = simple_ns
        self._touched: dict[int, int] = {}
        self._blocks = BlockReader(head) if head is not None and head.form is Form.PCAPNG else None
        self._clock_room: Clocks = np.zeros((0, COLUMNS), dtype=np.uint64)
        self._clocks = self._clock_room
        self._learn_interfaces()

    # --- what was seen -------------------------------------------------------------------------------

    @property
    def head(self) -> FileHead | None:
        """What is known of the capture by now; interfaces are added on the way."""
        return self._head if self._blocks is None else self._blocks.head

    @property
    def head_changes(self) -> int:
        """How many section headers and interface descriptions were fed."""
        return 0 if self._blocks is None else self._blocks.changes

    @property
    def borrowed_times(self) -> int:
        """How many frames would have the time of one before the first that was fed.

        Simple packet blocks have no time and take that of the frame before them; here these have the epoch's.
        """
        return self._number(BORROWED)

    @property
    def simple_ns(self) -> int | None:
        """The time that a simple packet block would have that came next."""
        found = self._number(SIMPLE_NS)
        return None if found < 0 else found

    @property
    def frames(self) -> int:
        """All frames."""
        return self._number(FRAMES)

    @property
    def bytes(self) -> int:
        """All bytes, as they are counted in the windows."""
        return self._number(BYTES)

    @property
    def unreadable_frames(self) -> int:
        """Frames whose addresses couldn't be told."""
        return self._number(UNREADABLE)

    @property
    def first_ns(self) -> int | None:
        """The time of the earliest frame."""
        first = self._number(FIRST_NS)
        return None if first == NO_FIRST else first

    @property
    def last_ns(self) -> int | None:
        """The time of the latest frame."""
        return None if self.first_ns is None else self._number(LAST_FRAME_NS)

    def _number(self, which: int) -> int:
        return int(self._counts.state[which])

    # --- feeding -------------------------------------------------------------------------------------

    def feed(self, data: Octets, base: int = 0) -> int:
        """Count the whole records at the front of `data`, and return how many bytes they are.

        Args:
            data: bytes of the capture, in one piece; the first stands where a record begins.
            base: how far into the capture that is.

        Raises:
            CutOff: there is damage; all frames before it are counted, and none after it can be.
        """
        assert self._head is not None
        if self._blocks is None:
            at, stop, seen = self._counting.pcap(data, 0, self._head)
        else:
            at, stop, seen = self._feed_blocks(data, base, self._blocks)
        if stop > stops.BLOCK:
            raise CutOff(base + at, stops.reason(stop, seen))
        return at

    def _feed_blocks(self, data: Octets, base: int, blocks: BlockReader) -> tuple[int, int, int]:
        at = 0
        while True:
            at, stop, seen = self._counting.pcapng(
                data, at, blocks.order, self._clocks, blocks.section_first
            )
            if stop != stops.BLOCK:
                return at, stop, seen
            taken = blocks.take(data, at, base)
            if not taken:
                return at, stops.MORE, 0
            self._learn_interfaces()
            at += taken

    def _learn_interfaces(self) -> None:
        if self._blocks is None:
            return
        known, new = len(self._clocks), self._blocks.interfaces[len(self._clocks) :]
        if known + len(new) > len(self._clock_room):
            larger = np.zeros((2 * (known + len(new)), COLUMNS), dtype=np.uint64)
            larger[:known] = self._clocks
            self._clock_room = larger
        if new:
            self._clock_room[known : known + len(new)] = clocks_of(new)
            self._clocks = self._clock_room[: known + len(new)]

    def finish(self, rest: Octets, base: int = 0) -> None:
        """Take leave of the capture, of which `rest` was fed and not used.

        Raises:
            CutOff: the capture ends within a record.
        """
        if not len(rest):
            return
        if self._blocks is not None:
            raise CutOff(base, self._blocks.missing(bytes(rest[:12]), len(rest)))
        assert self._head is not None
        header, order = self._head.record_header, self._head.order
        if len(rest) < header:
            raise CutOff(base, f"the file ends {len(rest)} bytes into a record's header")
        captured = int(rest[8:12].view(f"{order}u4")[0])
        missing = header + captured - len(rest)
        raise CutOff(base, f"the file ends {missing} bytes before its last record does")

    def feed_block(self, ring: Octets, at: int, frames: int, *, virtio: bool = False) -> None:
        """Count the frames of a block of a packet socket's ring (TPACKET_V3).

        Args:
            ring: the memory that is shared with the kernel.
            at: where in it the block's first frame's header is.
            frames: how many frames the block holds.
            virtio: whether the socket has PACKET_VNET_HDR; super-frames then are counted by their segments.

        Raises:
            CutOff: the block holds something else.
        """
        at, stop, seen = self._counting.ring(ring, at, frames, virtio=virtio)
        if stop > stops.BLOCK:
            raise CutOff(at, stops.reason(stop, seen))

    # --- bins ----------------------------------------------------------------------------------------

    @property
    def open_bins(self) -> int:
        """How many bins hold something that was not handed out yet."""
        return len(self._bins())

    @property
    def crowded(self) -> bool:
        """Whether there are more pairs than memory should hold: take everything soon.

        What comes later for a bin that was taken then is in another window, which adds to the first.
        """
        return self._counts.crowded

    def bin_at(self, at_ns: int) -> int:
        """Return the number of the bin that an instant (nanoseconds since the epoch) is in."""
        return at_ns // 1000 // self._width_us

    def touch(self, number: int) -> None:
        """Open a bin, so that a silence gives a window too."""
        self._touched.setdefault(number, 0)

    def add_dropped(self, number: int, frames: int) -> None:
        """Count frames that the kernel could not hand over."""
        self._touched[number] = self._touched.get(number, 0) + frames

    def take_before(self, number: int) -> Iterator[TrafficWindow]:
        """Hand out and forget the bins before `number`, the oldest first."""
        for old in list(self._bins()):
            if old < number:
                yield from self._take(old)

    def take_oldest(self) -> Iterator[TrafficWindow]:
        """Hand out and forget the oldest bin: one window for each interface."""
        bins = self._bins()
        if bins:
            yield from self._take(bins[0])

    def take_all(self) -> Iterator[TrafficWindow]:
        """Hand out and forget everything, the oldest first."""
        for number in list(self._bins()):
            yield from self._take(number)

    def _bins(self) -> list[int]:
        counted = self._counts.bins()
        return sorted({*counted, *self._touched}) if self._touched else counted

    def _take(self, number: int) -> list[TrafficWindow]:
        dropped = self._touched.pop(number, 0)
        found = self._counts.take(number)
        windows = [
            self._window(part, interface, dropped if first == 0 else 0)
            for first, (interface, part) in enumerate(self._by_interface(found))
        ]
        if self._counts.forget_pairs():
            self._counting.renumber()
        return windows

    def _by_interface(self, found: BinCounts) -> list[tuple[int, BinCounts]]:
        if not len(found.pair):
            return [(0, found)]
        head = self.head
        if head is None or not head.tells_interfaces_apart:
            return [(0, found)]
        interfaces = self._counts.addresses["interface"][found.pair]
        numbers = np.unique(interfaces).tolist()
        if len(numbers) == 1:
            return [(numbers[0], found)]
        return [(number, found.only(interfaces == number)) for number in numbers]

    def _window(self, counted: BinCounts, interface: int, dropped: int) -> TrafficWindow:
        return TrafficWindow(
            start=instant(counted.number * self._width_us),
            seconds=self._width_us / 1e6,
            capture_point=self._point(interface),
            addresses=self._counts.addresses,
            pair=counted.pair,
            bytes=counted.bytes,
            payload_bytes=counted.payload_bytes,
            frames=counted.frames,
            dropped_frames=dropped,
            unreadable_frames=self._counts.unreadable(counted),
        )

    def _point(self, interface: int) -> str:
        if not isinstance(self._capture_point, str):
            return self._capture_point(interface)
        head = self.head
        if head is None or not head.tells_interfaces_apart:
            return self._capture_point
        return f"{self._capture_point}:{head.interface_name(interface)}"


def check_window(seconds: float) -> None:
    """Refuse a window that no capture can be cut into.

    Raises:
        UsageError: it is too short to be told apart by the clocks of captures, or no length of time.
    """
    if not SHORTEST_WINDOW_SECONDS <= seconds <= timedelta(days=366).total_seconds():
        raise UsageError(f"a window of {seconds:g} s can't be used; take one from 1ms to a year")


def instant(microseconds: int) -> datetime:
    """Return an instant given in microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=microseconds)
