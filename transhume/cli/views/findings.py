"""What a capture holds beside the matrix, on a terminal: outside, strangers, phases, a forecast, the cut."""

from collections.abc import Iterator, Sequence

import numpy as np
from rich.console import RenderableType
from rich.text import Text

from transhume.cli.views.harmless import text
from transhume.cli.views.heatmap import pattern_words
from transhume.cli.views.tables import add_numbers, table
from transhume.knowledge.model import (
    CommunicationMatrix,
    Cut,
    Endpoint,
    Forecast,
    TrafficPhase,
    UnattributedTraffic,
)
from transhume.quantities import (
    format_bytes,
    format_dollars_per_hour,
    format_duration,
    format_rate,
)

MOST_PHASES = 12
UNREADABLE = "unreadable"
"""The address of a frame that has none that we can read."""


def rest_of(matrix: CommunicationMatrix) -> Text:
    """Say what isn't between VMs."""
    return text(
        f"to the outside {format_bytes(int(matrix.to_outside.sum()))}, from it"
        f" {format_bytes(int(matrix.from_outside.sum()))}, broadcast and multicast"
        f" {format_bytes(matrix.multicast_bytes)}, of no VM {format_bytes(matrix.unattributed_bytes)}"
    )


def networks_table(matrix: CommunicationMatrix) -> RenderableType:
    """Return what was exchanged with each named network, and with the outside that has no name."""
    shown = table("network")
    add_numbers(shown, "to it", "from it")
    for name, to, from_ in networks(matrix):
        shown.add_row(text(name), format_bytes(to), format_bytes(from_))
    return shown


def networks(matrix: CommunicationMatrix) -> Iterator[tuple[str, int, int]]:
    """Yield each named network with the bytes to it and from it, the busiest first, then the rest."""
    to, from_ = int(matrix.to_outside.sum()), int(matrix.from_outside.sum())
    named = [(part.name, int(part.to.sum()), int(part.from_.sum())) for part in matrix.networks]
    yield from sorted(named, key=lambda each: (-each[1] - each[2], each[0]))
    yield (
        "outside, unnamed",
        to - sum(each[1] for each in named),
        from_ - sum(each[2] for each in named),
    )


def unattributed_table(traffic: Sequence[UnattributedTraffic]) -> RenderableType:
    """Return who exchanged what belongs to no VM."""
    shown = table("from", "to")
    add_numbers(shown, "bytes", "frames")
    for each in traffic:
        shown.add_row(
            text(each.source.ip or each.source.mac or UNREADABLE),
            text(each.destination.ip or each.destination.mac or UNREADABLE),
            format_bytes(each.bytes),
            f"{each.frames:,}",
        )
    return shown


def end_words(end: Endpoint) -> str:
    """Return an end of a frame as people write it."""
    known = [word for word in (end.ip, end.mac) if word]
    return " at ".join(known) if known else UNREADABLE


def phases_table(phases: Sequence[TrafficPhase]) -> RenderableType:
    """Return the stretches of time that differ, the first of them where they are many."""
    shown = table("from", "for", "pattern")
    add_numbers(shown, "between VMs")
    for phase in phases[:MOST_PHASES]:
        shown.add_row(
            f"{phase.start:%H:%M:%S}",
            format_duration(phase.seconds),
            pattern_words(phase.pattern),
            format_rate(phase.bytes_per_second),
        )
    if len(phases) > MOST_PHASES:
        shown.caption = f"and {len(phases) - MOST_PHASES:,} more"
    return shown


def forecast_words(forecast: Forecast) -> str:
    """Say what is expected next, how that was found, and how wrong it has been so far."""
    rates = [float(matrix.bytes_per_second.sum()) for matrix in forecast.matrices]
    seconds = sum(matrix.seconds for matrix in forecast.matrices)
    return (
        f"The next {format_duration(seconds)}: {format_rate(float(np.mean(rates)))} between VMs"
        f" ({forecast.method}; error so far {forecast.error:.0%})"
    )


def cut_lines(cut: Cut, *, billed: bool) -> Iterator[str]:
    """Yield what crosses clouds; what it costs where prices are known."""
    cost = f", {format_dollars_per_hour(cut.dollars_per_hour)} of egress" if billed else ""
    yield f"cut: {format_rate(cut.total_bytes_per_second)} between clouds{cost}"
    for (source, destination), rate in sorted(cut.bytes_per_second.items()):
        yield f"  {source} to {destination}: {format_rate(rate)}"
