"""The HTML report: one file that needs nothing but a browser, not even a network.

Owns what goes into a report and its order on the page. Parts of which nothing is known (a plan, a bill) are
left out. Everything that comes from outside, names included, is escaped by the template engine.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from transhume import __version__
from transhume.cli.views.arrangement import Arrangement, arrange
from transhume.cli.views.bar_figures import Bar, TimeLine, TimeLinePoint, bill_bar, time_line
from transhume.cli.views.findings import end_words, forecast_words, networks
from transhume.cli.views.heatmap import members, pattern_words
from transhume.cli.views.pairs import top_pairs
from transhume.cli.views.reasons import reasons
from transhume.cli.views.report_figures import graph, heat_map, hues
from transhume.cli.views.what_if import what_if
from transhume.knowledge.model import (
    CAUSES,
    CloudName,
    CommunicationMatrix,
    CostRate,
    Cut,
    Endpoint,
    Forecast,
    Group,
    GroupId,
    MatrixSeries,
    NoPlan,
    Outcome,
    Pattern,
    Plan,
    TrafficPhase,
    TrafficWindow,
    UnattributedTraffic,
    VmName,
)
from transhume.plan.standing import standing
from transhume.quantities import (
    format_bytes,
    format_dollars_per_hour,
    format_duration,
    format_rate,
)

if TYPE_CHECKING:
    from jinja2 import Environment

MOST_VMS = 64
MOST_POINTS = 240
MOST_PAIRS = 12
MOST_GROUPS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportData:
    """What a report tells; what is None or empty has no part in it."""

    title: str
    subtitle: str
    matrix: CommunicationMatrix
    groups: tuple[Group, ...] = ()
    patterns: Mapping[GroupId, Pattern] | None = None
    """The groups' patterns; None where nobody looked for them."""
    phases: tuple[TrafficPhase, ...] = ()
    forecast: Forecast | None = None
    unattributed: tuple[UnattributedTraffic, ...] = ()
    timeline: tuple[TimeLinePoint, ...] = ()
    cloud_of: Mapping[VmName, CloudName] | None = None
    """Where the VMs were while they were listened to."""
    cut: Cut | None = None
    cut_is_billed: bool = True
    """False where no price was given to bill the cut by."""
    egress_dollars_per_gb: Mapping[CloudName, float] | None = None
    """What the reader's own placements are billed by."""
    plan: Plan | NoPlan | None = None
    outcomes: tuple[Outcome, ...] = ()
    bill_before: CostRate | None = None
    bill_after: CostRate | None = None
    warnings: tuple[str, ...] = field(default_factory=tuple)


def render_report(data: ReportData) -> str:
    """Return the report as HTML. The same data gives the same text."""
    shown = arrange(data.matrix, data.groups, most=MOST_VMS)
    return (
        _environment()
        .get_template("report.html.j2")
        .render(
            data=data,
            version=__version__,
            tiles=_tiles(data),
            heat=heat_map(shown),
            graph=graph(shown, data.cloud_of) if shown.labels else None,
            by_group=shown.by_group,
            hue_of={block.group: hues(shown.blocks)[block.first] for block in shown.blocks},
            time=_time_line(data),
            forecast=forecast_words(data.forecast) if data.forecast else "",
            groups=data.groups[:MOST_GROUPS],
            more_groups=len(data.groups) - MOST_GROUPS,
            pairs=top_pairs(data.matrix, MOST_PAIRS),
            networks=list(networks(data.matrix)) if data.matrix.networks else (),
            what_if=_what_if(data, shown),
            steps=data.plan.steps if isinstance(data.plan, Plan) else (),
            reasons=reasons(data.plan) if isinstance(data.plan, Plan) else {},
            bills=_bills(data),
            causes=CAUSES,
        )
    )


def _environment() -> "Environment":
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("transhume.cli", "views"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        rate=format_rate,
        bytes=format_bytes,
        duration=format_duration,
        money=format_dollars_per_hour,
        pattern=pattern_words,
        members=members,
        end=end_words,
        standing=standing,
    )
    return environment


def _what_if(data: ReportData, shown: Arrangement) -> dict[str, object] | None:
    """Return the page's own numbers; the VMs in the order of the picture, so that its lines can follow."""
    order = data.matrix.vms if shown.by_group else tuple(map(VmName, shown.labels))
    numbers = what_if(data.matrix, data.groups, order, data.cloud_of, data.egress_dollars_per_gb)
    return None if numbers is None else {**numbers, "drawn": not shown.by_group}


def _time_line(data: ReportData) -> TimeLine | None:
    if len(data.timeline) < 2:
        return None
    return time_line(data.timeline, data.phases)


def timeline_of_series(series: MatrixSeries) -> tuple[TimeLinePoint, ...]:
    """Return the bytes per second of all that the matrices account for, in as many points as can be drawn."""
    count = len(series.matrices)
    together = -(-count // MOST_POINTS) if count else 1
    totals = [matrix.total_bytes for matrix in series.matrices]
    return tuple(
        (
            series.matrices[at].start,
            sum(totals[at : at + together]) / (series.seconds * together),
        )
        for at in range(0, count, together)
    )


def timeline_of(windows: Iterable[TrafficWindow]) -> tuple[TimeLinePoint, ...]:
    """Return the bytes per second of all frames over time; one seen at several capture points counts once."""
    largest: dict[tuple[datetime, Endpoint, Endpoint], int] = {}
    width = 0.0
    for window in windows:
        width = max(width, window.seconds)
        for pair in window.pairs:
            key = (window.start, pair.source, pair.destination)
            largest[key] = max(largest.get(key, 0), pair.bytes)
    if not largest:
        return ()
    first, last = min(key[0] for key in largest), max(key[0] for key in largest)
    bins = round((last - first).total_seconds() / width) + 1
    step = timedelta(seconds=width * -(-bins // MOST_POINTS))
    counts = [0] * ((last - first) // step + 1)
    for (start, _, _), count in largest.items():
        counts[(start - first) // step] += count
    seconds = step.total_seconds()
    return tuple((first + place * step, count / seconds) for place, count in enumerate(counts))


def _tiles(data: ReportData) -> list[tuple[str, str, str]]:
    """Return the figures at the top: a number, what it is, and a word more."""
    matrix = data.matrix
    seconds = max(matrix.seconds, 1e-9)
    between = int(matrix.bytes.sum()) / seconds
    outside = int(matrix.to_outside.sum() + matrix.from_outside.sum()) / seconds
    grouped = sum(len(group.vms) for group in data.groups)
    tiles = [
        (str(len(matrix.vms)), _named(len(matrix.vms), "VM"), f"{grouped} in groups"),
        (str(len(data.groups)), _named(len(data.groups), "group"), "found from packets alone"),
        (format_rate(between), "between VMs", f"over {format_duration(matrix.seconds)}"),
        (format_rate(outside), "with the outside", "both directions"),
    ]
    if data.cut is not None:
        cost = "no prices were given"
        if data.cut_is_billed:
            cost = f"{format_dollars_per_hour(data.cut.dollars_per_hour)} of egress"
        tiles.append((format_rate(data.cut.total_bytes_per_second), "cross clouds", cost))
    return tiles


def _named(count: int, what: str) -> str:
    return what if count == 1 else f"{what}s"


def _bills(data: ReportData) -> list[tuple[str, CostRate, tuple[Bar, ...]]]:
    named = (("before", data.bill_before), ("after", data.bill_after))
    bills = [(name, bill) for name, bill in named if bill is not None]
    largest = max((bill.total for _, bill in bills), default=0.0)
    return [(name, bill, bill_bar(bill, largest)) for name, bill in bills]
