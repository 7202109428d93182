"""Frames in, traffic windows out: the one place where frames are added up, for files and for live capture.

Owns the time bins, which are whole multiples of the window's length since the epoch, counted in integers so
that no frame at a border falls on the wrong side. It has no clock: whoever feeds it says when a bin is over.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from transhume.errors import UsageError
from transhume.knowledge.model import PairTraffic, TrafficWindow
from transhume.monitor.capture.frames import Addresses, addresses, endpoints

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHORTEST_WINDOW_SECONDS = 0.001
NOBODY: Addresses = (b"", b"")
"""Between whom the bytes of unreadable frames went, so that they are in the sum all the same."""


@dataclass(slots=True)
class _Bin:
    """What was counted in one bin so far."""

    bytes: dict[Addresses, int] = field(default_factory=dict)
    frames: dict[Addresses, int] = field(default_factory=dict)
    unreadable: int = 0
    dropped: int = 0


class Accumulator:
    """Adds frames of one capture point up, by time bin and pair of addresses.

    Raises:
        UsageError: the window is too short to be told apart by the clocks of captures.
    """

    def __init__(self, seconds: float, capture_point: str) -> None:
        if not SHORTEST_WINDOW_SECONDS <= seconds <= timedelta(days=366).total_seconds():
            raise UsageError(
                f"a window of {seconds:g} s can't be used; take one from 1ms to a year"
            )
        self._width_us = round(seconds * 1e6)
        self._capture_point = capture_point
        self._bins: dict[int, _Bin] = {}

    @property
    def open_bins(self) -> int:
        """How many bins hold something that was not handed out yet."""
        return len(self._bins)

    def bin_at(self, at_ns: int) -> int:
        """Return the number of the bin that an instant (nanoseconds since the epoch) is in."""
        return at_ns // 1000 // self._width_us

    def add(self, at_ns: int, frame: bytes, length: int, link: int) -> None:
        """Count a frame of `length` bytes on the wire, of which `frame` was captured."""
        number = at_ns // 1000 // self._width_us
        counted = self._bins.get(number) or self._bins.setdefault(number, _Bin())
        pair = addresses(frame, link)
        if pair is None:
            counted.unreadable += 1
            pair = NOBODY
        counted.bytes[pair] = counted.bytes.get(pair, 0) + length
        counted.frames[pair] = counted.frames.get(pair, 0) + 1

    def add_dropped(self, number: int, frames: int) -> None:
        """Count frames that the kernel could not hand over."""
        self.touch(number)
        self._bins[number].dropped += frames

    def touch(self, number: int) -> None:
        """Open a bin, so that a silence gives a window too."""
        self._bins.setdefault(number, _Bin())

    def take_before(self, number: int) -> Iterator[TrafficWindow]:
        """Hand out and forget the bins before `number`, the oldest first."""
        for old in sorted(n for n in self._bins if n < number):
            yield self._window(old, self._bins.pop(old))

    def take_oldest(self) -> TrafficWindow:
        """Hand out and forget the oldest bin."""
        oldest = min(self._bins)
        return self._window(oldest, self._bins.pop(oldest))

    def take_all(self) -> Iterator[TrafficWindow]:
        """Hand out and forget everything, the oldest first."""
        while self._bins:
            yield self.take_oldest()

    def _window(self, number: int, counted: _Bin) -> TrafficWindow:
        return TrafficWindow(
            start=instant(number * self._width_us),
            seconds=self._width_us / 1e6,
            capture_point=self._capture_point,
            pairs=tuple(_pairs(counted)),
            dropped_frames=counted.dropped,
            unreadable_frames=counted.unreadable,
        )


def instant(microseconds: int) -> datetime:
    """Return an instant given in microseconds since the epoch."""
    return EPOCH + timedelta(microseconds=microseconds)


def _pairs(counted: _Bin) -> Iterator[PairTraffic]:
    for pair, total in counted.bytes.items():
        source, destination = endpoints(pair)
        yield PairTraffic(
            source=source, destination=destination, bytes=total, frames=counted.frames[pair]
        )
