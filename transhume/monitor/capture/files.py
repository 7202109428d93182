"""Capture files as traffic windows: pcap and pcapng, whole or cut short, plain or gzipped.

Owns the one pass over a file, in bounded memory: windows are handed out as their time passes, and a frame that
comes later than the few windows kept open gets a window of its own, which adds to the first one's. A damaged
file gives what could be read, and its summary says where that ended. Leaves framing to `framing`, and addresses
to `frames`.
"""

import gzip
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import BinaryIO, cast

from transhume.errors import UnreadableCapture
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.accumulate import Accumulator, instant
from transhume.monitor.capture.framing import Bytes, CutOff, framing_of

OPEN_WINDOWS = 4
"""How many windows are kept open for frames that come out of order."""
_GZIP = b"\x1f\x8b"
_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSummary:
    """What a file held, all in all."""

    path: str
    frames: int
    bytes: int
    """By their length on the wire."""
    first: datetime | None
    last: datetime | None
    unreadable_frames: int
    """Frames whose addresses couldn't be told; their bytes are counted as nobody's."""
    stopped: str | None
    """Where and why reading ended before the file's proper end; None where it didn't."""


class CaptureReading:
    """One pass over a capture file: iterate over it once for the windows, then ask for the summary.

    Raises:
        UnreadableCapture: while iterating, when the file can't be opened or is no capture.
        UsageError: at once, when the window's length makes no sense.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self._path = path
        self._open_windows = Accumulator(seconds, str(path))
        self._file: BinaryIO | None = None
        self._frames = self._bytes = self._unreadable = self._position = 0
        self._first_ns: int | None = None
        self._last_ns: int | None = None
        self._stopped: str | None = None

    def __iter__(self) -> Iterator[TrafficWindow]:
        try:
            with self._path.open("rb", buffering=_BUFFER_BYTES) as self._file:
                for window in self._windows(self._file):
                    self._unreadable += window.unreadable_frames
                    yield window
                self._position = self.position
        except OSError as error:
            raise UnreadableCapture(str(self._path), error.strerror or str(error)) from error
        finally:
            self._file = None

    @property
    def position(self) -> int:
        """How many bytes of the file, as it is on disk, were read."""
        if self._file is not None and self._file.seekable():
            return self._file.tell()
        return self._position

    @property
    def summary(self) -> CaptureSummary:
        """What was read until now."""
        return CaptureSummary(
            path=str(self._path),
            frames=self._frames,
            bytes=self._bytes,
            first=None if self._first_ns is None else instant(self._first_ns // 1000),
            last=None if self._last_ns is None else instant(self._last_ns // 1000),
            unreadable_frames=self._unreadable,
            stopped=self._stopped,
        )

    def _windows(self, file: BinaryIO) -> Iterator[TrafficWindow]:
        stream = self._unpacked(file)
        try:
            yield from self._read(stream)
        except CutOff as cut:
            self._stopped = str(cut)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            self._stopped = f"byte {file.tell()} of the gzip file: {error}"
        yield from self._open_windows.take_all()

    def _unpacked(self, file: BinaryIO) -> BinaryIO:
        if _peek(file, 2) != _GZIP:
            return file
        return cast("BinaryIO", gzip.GzipFile(fileobj=file))

    def _read(self, stream: BinaryIO) -> Iterator[TrafficWindow]:
        magic = _peek(stream, 4)
        framing = framing_of(magic)
        if framing is None:
            seen = f"begins with {magic.hex(' ')}" if magic else "is empty"
            raise UnreadableCapture(
                str(self._path), f"is no pcap or pcapng file (it {seen}); tcpdump -w writes one"
            )
        add, windows = self._open_windows.add, self._open_windows
        for at_ns, data, length, link in framing(Bytes(stream)):
            self._note(at_ns, length)
            add(at_ns, data, length, link)
            if windows.open_bins > OPEN_WINDOWS:
                yield windows.take_oldest()

    def _note(self, at_ns: int, length: int) -> None:
        self._frames += 1
        self._bytes += length
        if self._first_ns is None or self._last_ns is None:
            self._first_ns = self._last_ns = at_ns
        elif at_ns > self._last_ns:
            self._last_ns = at_ns
        elif at_ns < self._first_ns:
            self._first_ns = at_ns


def read_windows(path: Path, seconds: float) -> tuple[tuple[TrafficWindow, ...], CaptureSummary]:
    """Read a whole file at once; for files whose windows fit into memory."""
    reading = CaptureReading(path, seconds)
    return tuple(reading), reading.summary


def _peek(stream: BinaryIO, count: int) -> bytes:
    """Return what comes next in a buffered stream, and leave it there."""
    return bytes(stream.peek(count)[:count])  # type: ignore[attr-defined]
