"""From capture files to what they hold: the one way in which commands read captures and think about them.

Owns which reading fits what was asked for (one process, several, files that grow), that windows are added up as
they come and none is kept, and which questions are asked of the sums. The answers are `transhume.analyze`'s.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from transhume.analyze import (
    NO_NETWORKS,
    Accounts,
    Networks,
    Sightings,
    find_groups,
    find_pattern,
    find_patterns,
    find_phases,
    forecast,
    vms_from_sightings,
)
from transhume.cli.analysis import Analysis
from transhume.errors import UnreadableCapture, UsageError
from transhume.knowledge.model import Forecast, MatrixSeries, TrafficWindow, Vm
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.files import CaptureSummary
from transhume.monitor.capture.reading import CapturesReading, OneByOne
from transhume.monitor.capture.rings import capture_points
from transhume.monitor.capture.scan import Engine

MOST_STRANGERS = 20
"""How many pairs of addresses that belong to no VM are named."""
FORECAST_SLICES = 3
"""How many slices ahead the forecast looks."""
LEAST_SLICES = 4
"""From fewer than these, nothing can be told of the time after them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What captures to read, and how."""

    files: tuple[str, ...]
    window_seconds: float = 1.0
    inner: bool = False
    captured_length: bool = False
    engine: Engine | None = None
    workers: int | None = None
    scheduler: str | None = None
    follow: bool = False

    def check(self) -> None:
        """Refuse what can't be done together.

        Raises:
            UsageError: says what.
        """
        if self.workers and self.scheduler:
            raise UsageError("--workers starts processes here, and --dask uses others: give one")
        if self.follow and (self.workers or self.scheduler):
            raise UsageError("files that grow are read by one process: leave --workers and --dask")

    def readings(self) -> tuple[CapturesReading, ...]:
        """Return what reads them: one reading for all or, where they are followed, for each capture point.

        Raises:
            UnreadableCapture: something isn't there, or is no capture.
            UsageError: the window's length makes no sense, or the options don't go together.
        """
        self.check()
        points = capture_points(self.files)
        if self.follow:
            return tuple(OneByOne([point], self._options, follow=True) for point in points)
        if self.workers or self.scheduler:
            from transhume.monitor.capture.spread import Spread

            return (Spread(points, self._options, workers=self.workers, scheduler=self.scheduler),)
        return (OneByOne(points, self._options),)

    @property
    def _options(self) -> ReadingOptions:
        return ReadingOptions(
            window_seconds=self.window_seconds,
            inner=self.inner,
            captured_length=self.captured_length,
            engine=self.engine,
        )


class Captures:
    """Captures being read: what came until now can be asked about at any time.

    Args:
        request: what to read.
        vms: the VMs; guessed from the addresses unless given.
        networks: what parts of the outside are called.

    Raises:
        UnreadableCapture: something isn't there, or is no capture.
        UsageError: the request makes no sense.
    """

    def __init__(
        self, request: Request, vms: Sequence[Vm] | None = None, networks: Networks = NO_NETWORKS
    ) -> None:
        self.readings = request.readings()
        self._window_seconds = request.window_seconds
        self._vms = None if vms is None else tuple(vms)
        self._networks = networks
        self._sightings = Sightings(request.window_seconds)

    def add(self, window: TrafficWindow) -> None:
        """Add a window of one of the readings."""
        self._sightings.add(window)

    def read(self) -> None:
        """Read all to the end."""
        for reading in self.readings:
            for window in reading:
                self.add(window)

    @property
    def position(self) -> int:
        """How many bytes of the files were read, as they are on the disk; may be asked from any thread."""
        return sum(reading.position for reading in self.readings)

    @property
    def total_bytes(self) -> int | None:
        """How many bytes there are to read; None where nobody knows."""
        sizes = [reading.total_bytes for reading in self.readings]
        return None if None in sizes else sum(size or 0 for size in sizes)

    @property
    def summaries(self) -> tuple[CaptureSummary, ...]:
        """Of the files begun until now."""
        return tuple(summary for reading in self.readings for summary in reading.summaries)

    def analysis(self) -> Analysis:
        """Find out what was read until now means.

        Raises:
            UnreadableCapture: there is no frame.
        """
        summaries = self.summaries
        start, seconds = _stretch(summaries, self._window_seconds)
        seen = self._sightings
        vms = self._vms if self._vms is not None else vms_from_sightings(seen)
        accounts = Accounts(seen, vms, networks=self._networks)
        matrix, series = accounts.matrix(start=start, seconds=seconds), accounts.series()
        groups = find_groups(matrix, series)
        patterns = find_patterns(matrix, groups)
        return Analysis(
            summaries=summaries,
            vms=vms,
            matrix=matrix,
            series=series,
            unattributed=accounts.unattributed(MOST_STRANGERS).pairs,
            groups=groups,
            patterns={group.id: pattern for group, pattern in zip(groups, patterns, strict=True)},
            pattern=find_pattern(matrix),
            phases=find_phases(series),
            forecast=_forecast(series),
            doubts=tuple(doubt for reading in self.readings for doubt in reading.warnings),
        )


def _forecast(series: MatrixSeries) -> Forecast | None:
    """Return what is expected next, where there was enough to try it on."""
    if len(series.matrices) < LEAST_SLICES:
        return None
    found = forecast(series, FORECAST_SLICES)
    return found if math.isfinite(found.error) else None


def _stretch(summaries: Sequence[CaptureSummary], window_seconds: float) -> tuple[datetime, float]:
    """Return the time from the first frame to the last, and at least one window."""
    firsts = [summary.first for summary in summaries if summary.first is not None]
    lasts = [summary.last for summary in summaries if summary.last is not None]
    if not firsts:
        names = ", ".join(summary.path for summary in summaries)
        stops = [
            f" (reading stopped at {summary.stopped})" for summary in summaries if summary.stopped
        ]
        raise UnreadableCapture(
            names, f"no frame was captured{''.join(stops)}; capture where the VMs' traffic passes"
        )
    lasted: timedelta = max(lasts) - min(firsts)
    return min(firsts), max(lasted.total_seconds(), window_seconds)
