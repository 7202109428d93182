"""The geometry of the report's bars: traffic over time with its phases, and what a placement costs.

Owns numbers only, in the units of each picture's own view box; see `report_figures`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from transhume.cli.views.report_figures import HUES
from transhume.knowledge.model import CAUSES, CostRate, PatternKind, TrafficPhase
from transhume.quantities import format_dollars_per_hour, format_duration, format_rate

TimeLinePoint = tuple[datetime, float]
"""An instant, and the bytes per second from then until the next point."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle with something to say."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLine:
    """Bytes per second over time, and below it the phases."""

    width: float
    height: float
    bars: tuple[Bar, ...]
    phases: tuple[Bar, ...]
    most: str
    first: str
    last: str


TIME_LINE = (1000.0, 110.0)
PHASES_HEIGHT = 8.0


def time_line(points: Sequence[TimeLinePoint], phases: Sequence[TrafficPhase] = ()) -> TimeLine:
    """Draw rates over time, each bar as wide as its stretch."""
    width, height = TIME_LINE
    most = max((rate for _, rate in points), default=0.0)
    step = width / max(len(points), 1)
    return TimeLine(
        width=width,
        height=height + (PHASES_HEIGHT + 4.0 if phases else 0.0),
        bars=tuple(
            Bar(
                x=place * step,
                y=height * (1 - rate / most),
                width=step - (1.0 if step > 4.0 else 0.0),
                height=height * rate / most,
                kind="rate",
                tip=f"{_clock(at)}: {format_rate(rate)}",
            )
            for place, (at, rate) in enumerate(points)
            if rate > 0.0
        ),
        phases=tuple(_phases(points, phases, step)),
        most=format_rate(most),
        first=_clock(points[0][0]) if points else "",
        last=_clock(points[-1][0]) if points else "",
    )


def _phases(
    points: Sequence[TimeLinePoint], phases: Sequence[TrafficPhase], step: float
) -> Iterator[Bar]:
    """Yield a strip for each phase, below the bars of its time."""
    if len(points) < 2:
        return
    first = points[0][0]
    seconds = (points[1][0] - first).total_seconds()
    end = step * len(points)
    for number, phase in enumerate(phases):
        x = (phase.start - first).total_seconds() / seconds * step
        x, after = max(x, 0.0), x + phase.seconds / seconds * step
        yield Bar(
            x=x,
            y=TIME_LINE[1] + 4.0,
            width=max(min(after, end) - x, 0.5),
            height=PHASES_HEIGHT,
            kind=f"g{number % HUES}",
            tip=f"{_shape(phase)} for {format_duration(phase.seconds)}:"
            f" {format_rate(phase.bytes_per_second)} between VMs",
        )


def _shape(phase: TrafficPhase) -> str:
    kind = phase.pattern.kind
    return "no known pattern" if kind is PatternKind.NONE else kind.value


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


BILL_WIDTH = 1000.0


def bill_bar(bill: CostRate, largest: float) -> tuple[Bar, ...]:
    """Draw a bill as one bar, a part for each cause; `largest` is the total that fills the width."""
    bars, x = [], 0.0
    for cause in CAUSES:
        dollars: float = getattr(bill, cause)
        wide = BILL_WIDTH * dollars / largest if largest > 0 else 0.0
        if wide > 0:
            tip = f"{cause}: {format_dollars_per_hour(dollars)}"
            bars.append(Bar(x=x, y=0.0, width=wide, height=30.0, kind=cause, tip=tip))
        x += max(wide, 0.0)
    return tuple(bars)
