"""Capture files as traffic windows: pcap and pcapng, whole or cut short, packed or not, or still growing.

Owns what a reading of one file looks like from outside: iterate for the windows, then ask for the summary. A
damaged file gives what could be read, and its summary says where that ended. Leaves the bytes to `sources`, and
what they mean to `counting`.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from threading import Event

from transhume.errors import UnreadableCapture
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.counting import (
    Counting,
    NoCapture,
    ReadingOptions,
    Totals,
)
from transhume.monitor.capture.glimpse import expected_frames
from transhume.monitor.capture.scan import (
    CutOff,
    Engine,
    FileHead,
    Link,
    check_window,
    instant,
)
from transhume.monitor.capture.sources import STANDARD_INPUT, Source, open_source


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptureSummary:
    """What a file held, all in all."""

    path: str
    capture_point: str
    frames: int
    bytes: int
    """By their length on the wire, unless something else was asked for."""
    first: datetime | None
    last: datetime | None
    unreadable_frames: int
    """Frames whose addresses couldn't be told; their bytes are counted as nobody's."""
    stopped: str | None
    """Where and why reading ended before the file's proper end; None where it didn't."""
    interfaces: tuple[str, ...] = ()
    """Of what interfaces the file has frames: their names where it has them, and their link layers."""
    engine: Engine | None = None
    """Who counted last; None where there was nothing to count."""
    stored_bytes: int = 0
    """What was read of the file, as it lies on the disk."""
    parts_read_again: int = 0
    """Parts of the file that were read twice, because a part did not end where the next was begun."""


class CaptureReading:
    """One pass over a capture file: iterate over it once for the windows, then ask for the summary.

    Args:
        path: a file, a pipe, or `-` for standard input.
        options: how to read it, or only the length of a time bin in seconds.
        capture_point: what its windows call the capture point; the path unless given.
        follow: read on as the file grows, until `stop` is called or nothing came for `idle_seconds`.
        idle_seconds: how long to wait for a file to grow; for ever unless given.

    Raises:
        UnreadableCapture: while iterating, when the file can't be opened or is no capture.
        UsageError: at once, when the window's length makes no sense.
    """

    def __init__(
        self,
        path: Path,
        options: ReadingOptions | float,
        *,
        capture_point: str | None = None,
        follow: bool = False,
        idle_seconds: float | None = None,
    ) -> None:
        if not isinstance(options, ReadingOptions):
            options = ReadingOptions(window_seconds=options)
        check_window(options.window_seconds)
        self._path = path
        self._name = "standard input" if path == STANDARD_INPUT else str(path)
        self._point = capture_point or self._name
        self._follow, self._idle_seconds = follow, idle_seconds
        self._counting = Counting(self._point, knowing_frames(options, [path]))
        self._stop = Event()
        self._source: Source | None = None
        self._position = 0
        self._stopped: str | None = None

    def __iter__(self) -> Iterator[TrafficWindow]:
        try:
            source = open_source(
                self._path, stop=self._stop, follow=self._follow, idle_seconds=self._idle_seconds
            )
            with closing(source) as self._source:
                yield from self._windows(source)
        except OSError as error:
            raise UnreadableCapture(self._name, error.strerror or str(error)) from error
        finally:
            self._position, self._source = self.position, None

    def stop(self) -> None:
        """End the wait for more of a pipe or of a file that grows: what came until now is all."""
        self._stop.set()

    @property
    def position(self) -> int:
        """How many bytes of the file, as it is on disk, were read."""
        return self._position if self._source is None else self._source.position

    @property
    def summary(self) -> CaptureSummary:
        """What was read until now."""
        return summary_of(
            self._name,
            self._point,
            self._counting.totals,
            head=self._counting.head,
            engine=self._counting.engine,
            stopped=self._stopped,
            stored_bytes=self.position,
        )

    def _windows(self, source: Source) -> Iterator[TrafficWindow]:
        try:
            yield from self._counting.windows(source)
        except NoCapture as error:
            if error.first or source.stopped is None:
                raise UnreadableCapture(self._name, str(error)) from None
        self._stopped = source.stopped or self._cut(self._counting.stopped, packed=source.packed)

    def _cut(self, cut: CutOff | None, *, packed: bool) -> str | None:
        if cut is None:
            return None
        return f"byte {cut.at} of what it unpacks to: {cut.why}" if packed else str(cut)


def knowing_frames(options: ReadingOptions, paths: Iterable[Path]) -> ReadingOptions:
    """Return options that tell how many frames there may be in some files in all."""
    if options.expected_frames is not None or options.engine is not None:
        return options
    return replace(options, expected_frames=expected_frames(paths))


def summary_of(
    path: str,
    capture_point: str,
    totals: Totals,
    *,
    head: FileHead | None,
    engine: Engine | None,
    stopped: str | None,
    stored_bytes: int,
    parts_read_again: int = 0,
) -> CaptureSummary:
    """Return the summary of what was counted."""
    return CaptureSummary(
        path=path,
        capture_point=capture_point,
        frames=totals.frames,
        bytes=totals.bytes,
        first=None if totals.first_ns is None else instant(totals.first_ns // 1000),
        last=None if totals.last_ns is None else instant(totals.last_ns // 1000),
        unreadable_frames=totals.unreadable_frames,
        stopped=stopped,
        interfaces=tuple(_interfaces(head)),
        engine=engine,
        stored_bytes=stored_bytes,
        parts_read_again=parts_read_again,
    )


def _interfaces(head: FileHead | None) -> Iterator[str]:
    for one in head.interfaces if head else ():
        link = _LINKS.get(one.link, f"link type {one.link}")
        yield f"{one.name}: {link}" if one.name else link


_LINKS: Mapping[int, str] = {
    Link.NULL: "loopback",
    Link.LOOP: "loopback",
    Link.ETHERNET: "Ethernet",
    Link.RAW_OLD: "IP",
    Link.RAW: "IP",
    Link.IPV4: "IPv4",
    Link.IPV6: "IPv6",
    Link.LINUX_SLL: "Linux cooked",
    Link.LINUX_SLL2: "Linux cooked v2",
}
"""What people call link types."""


def read_windows(
    path: Path, options: ReadingOptions | float
) -> tuple[tuple[TrafficWindow, ...], CaptureSummary]:
    """Read a whole file at once; for files whose windows fit into memory."""
    reading = CaptureReading(path, options)
    return tuple(reading), reading.summary
