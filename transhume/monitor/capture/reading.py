"""Many captures as one stream of windows, file after file, in this process.

Owns what the readings of several files have in common: their order, their summaries, how far they are, and what
a person should know about them. `spread` reads the same with several processes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.files import CaptureReading, CaptureSummary, knowing_frames
from transhume.monitor.capture.rings import CapturePoint, overlaps
from transhume.monitor.capture.scan import check_window


class CapturesReading(Protocol):
    """A reading of captures: iterate over it once for the windows, then ask for the summaries.

    Windows of one capture point and time bin may come several times: they add up.
    """

    def __iter__(self) -> Iterator[TrafficWindow]:
        """Yield the windows, file by file."""

    def stop(self) -> None:
        """End the wait for more of a pipe or of a file that grows."""

    @property
    def summaries(self) -> tuple[CaptureSummary, ...]:
        """Of the files begun until now, in their order."""

    @property
    def position(self) -> int:
        """How many bytes of all files were read, as they are on the disk."""

    @property
    def total_bytes(self) -> int | None:
        """How many there are; None where a pipe keeps that to itself, or a file grows."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps the windows from being the whole truth, for a person."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Readings:
    """What was found out about files until now."""

    points: Sequence[CapturePoint]
    summaries: list[CaptureSummary] = field(default_factory=list)

    @property
    def files(self) -> tuple[Path, ...]:
        """All files, in their order."""
        return tuple(path for point in self.points for path in point.files)

    @property
    def total_bytes(self) -> int | None:
        """The size of all files; None where one isn't a file."""
        if not all(path.is_file() for path in self.files):
            return None
        return sum(path.stat().st_size for path in self.files)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps the windows from being the whole truth."""
        found = [text for summary in self.summaries for text in _doubts(summary)]
        by_path = {summary.path: (summary.first, summary.last) for summary in self.summaries}
        for point in self.points:
            times = [by_path.get(str(path), (None, None)) for path in point.files]
            found.extend(overlaps(point, times))
        return tuple(found)


def _doubts(summary: CaptureSummary) -> Iterator[str]:
    if summary.stopped is not None:
        yield (
            f"{summary.path}: reading stopped at {summary.stopped};"
            f" the {summary.frames} frames before that are counted"
        )
    if summary.unreadable_frames:
        yield (
            f"{summary.path}: {summary.unreadable_frames} of {summary.frames} frames have no"
            " addresses that we can read; they count as nobody's"
        )


class OneByOne:
    """Reads captures file by file.

    Args:
        points: the capture points.
        options: how to read them.
        follow: read on as the last file of the last capture point grows; see `CaptureReading`.
        idle_seconds: how long to wait for it to grow; for ever unless given.

    Raises:
        UnreadableCapture: while iterating, when a file can't be opened or is no capture.
        UsageError: at once, when the window's length makes no sense.
    """

    def __init__(
        self,
        points: Sequence[CapturePoint],
        options: ReadingOptions,
        *,
        follow: bool = False,
        idle_seconds: float | None = None,
    ) -> None:
        check_window(options.window_seconds)
        self._known = Readings(points=points)
        self._options = knowing_frames(options, self._known.files)
        self._follow, self._idle_seconds = follow, idle_seconds
        self._now: CaptureReading | None = None
        self._read_before = 0
        self._is_stopped = False

    def __iter__(self) -> Iterator[TrafficWindow]:
        for point in self._known.points:
            for path in point.files:
                self._now = self._reading(point, path)
                if self._is_stopped:
                    self._now.stop()
                yield from self._now
                self._read_before += self._now.position
                self._known.summaries.append(self._now.summary)
                self._now = None

    def stop(self) -> None:
        """End the wait for more of a pipe or of a file that grows."""
        self._is_stopped = True
        if self._now is not None:
            self._now.stop()

    @property
    def summaries(self) -> tuple[CaptureSummary, ...]:
        """Of the files begun until now, in their order."""
        now = () if self._now is None else (self._now.summary,)
        return (*self._known.summaries, *now)

    @property
    def position(self) -> int:
        """How many bytes of all files were read, as they are on the disk."""
        return self._read_before + (0 if self._now is None else self._now.position)

    @property
    def total_bytes(self) -> int | None:
        """How many there are; None where a pipe keeps that to itself, or a file grows."""
        return None if self._follow else self._known.total_bytes

    @property
    def warnings(self) -> tuple[str, ...]:
        """What keeps the windows from being the whole truth, for a person."""
        return self._known.warnings

    def _reading(self, point: CapturePoint, path: Path) -> CaptureReading:
        return CaptureReading(
            path,
            self._options,
            capture_point=point.name,
            follow=self._follow and path == self._known.files[-1],
            idle_seconds=self._idle_seconds,
        )
