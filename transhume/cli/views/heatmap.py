"""Who talks to whom, on a terminal: the matrix as a heat map, and tables of groups and pairs."""

from collections.abc import Iterator, Mapping, Sequence

from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from transhume.cli.views.arrangement import DECADES, Arrangement, arrange, levels
from transhume.cli.views.harmless import harmless, text
from transhume.cli.views.pairs import top_pairs
from transhume.knowledge.model import (
    CommunicationMatrix,
    Group,
    GroupId,
    Pattern,
    PatternKind,
    VmName,
)
from transhume.quantities import format_rate

RAMP = ("#2d1e5f", "#3b3a8c", "#2f5f9e", "#23829e", "#1fa38f", "#4cc270", "#a3da4a", "#f6e755")
"""From little to much, each step as much lighter than the one before as the eye can tell."""
SHADES = "░░▒▒▓▓██"
"""The same steps where there are no colours: in a pipe, in a log."""
LONGEST_LABEL = 28
MOST_MEMBERS = 24


def heat_map(matrix: CommunicationMatrix, groups: Sequence[Group]) -> RenderableType:
    """Return the heat map: rows send, columns receive, in the order of groups."""
    shown = arrange(matrix, groups)
    if not shown.labels:
        return Text("no VM was seen")
    labels = [_clipped(harmless(label)) for label in shown.labels]
    width = max(map(len, labels))
    level = levels(shown.rate, len(RAMP))
    starts = {block.first for block in shown.blocks}
    lines = list(_header(shown, width, starts))
    for row, label in enumerate(labels):
        if row and row in starts:
            lines.append(Text())
        lines.append(_row(row, label.rjust(width), level[row], starts))
    return Lines(*lines, Text(), _scale(shown))


def groups_table(
    groups: Sequence[Group], patterns: Mapping[GroupId, Pattern] | None = None
) -> RenderableType:
    """Return the groups with their members, traffic and cohesion; with their patterns where those are given."""
    if patterns is None:
        table = _table("group", "VMs", "inside", "with other VMs", "cohesion")
        for group in groups:
            outside = format_rate(group.external_bytes_per_second)
            table.add_row(*_about(group), outside, f"{group.cohesion:.0%}")
        return table
    table = _table("group", "VMs", "inside", "cohesion", "confidence", "pattern")
    for group in groups:
        pattern = patterns.get(group.id)
        table.add_row(
            *_about(group),
            f"{group.cohesion:.0%}",
            f"{group.confidence:.0%}",
            "–" if pattern is None or pattern.kind is PatternKind.NONE else pattern.kind.value,
        )
    return table


def _about(group: Group) -> tuple[Text, Text, str]:
    return (
        text(group.id),
        text(members(group.vms)),
        format_rate(group.internal_bytes_per_second),
    )


def members(vms: Sequence[VmName], most: int = MOST_MEMBERS) -> str:
    """Return the VMs' names, the first of them where they are many."""
    named = ", ".join(vms[:most])
    return named if len(vms) <= most else f"{named} and {len(vms) - most:,} more"


def pattern_words(pattern: Pattern | None) -> str:
    """Return a pattern's name, and how sure we are of it."""
    if pattern is None or pattern.kind is PatternKind.NONE:
        return "–"
    return f"{pattern.kind} ({pattern.score:.0%})"


def pairs_table(matrix: CommunicationMatrix, count: int = 10) -> RenderableType:
    """Return the pairs of VMs that exchange most."""
    table = _table("between", "and", "there", "back")
    for pair in top_pairs(matrix, count):
        table.add_row(
            text(pair.one), text(pair.other), format_rate(pair.there), format_rate(pair.back)
        )
    return table


def _header(shown: Arrangement, width: int, starts: set[int]) -> Iterator[Text]:
    """Number the columns as the rows are numbered, tens above ones."""
    count = len(shown.labels)
    for digit in (10, 1):
        if digit == 10 and count < 10:
            continue
        line = Text(" " * (width + 4), style="dim")
        for column in range(count):
            figure = (column + 1) // digit % 10
            shown_figure = "" if digit == 10 and figure == 0 else str(figure)
            line.append((" " if column and column in starts else "") + shown_figure.rjust(2))
        yield line


def _row(row: int, label: str, level: Sequence[int], starts: set[int]) -> Text:
    line = Text(f"{label} ", no_wrap=True)
    line.append(f"{row + 1:>2} ", style="dim")
    for column, height in enumerate(level):
        if column and column in starts:
            line.append(" ")
        if height == 0:
            line.append(" ·" if row != column else "  ", style="dim")
        else:
            colour = RAMP[height - 1]
            line.append(SHADES[height - 1] * 2, style=f"{colour} on {colour}")
    return line


def _scale(shown: Arrangement) -> Text:
    largest = float(shown.rate.max(initial=0.0))
    line = Text("rows send, columns receive   ", style="dim")
    line.append(f"{format_rate(largest / 10**DECADES)} ")
    for colour, shade in zip(RAMP, SHADES, strict=True):
        line.append(shade * 2, style=f"{colour} on {colour}")
    line.append(f" {format_rate(largest)}")
    return line


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for place, column in enumerate(columns):
        words = column in ("group", "VMs", "between", "and", "pattern")
        table.add_column(
            column,
            justify="left" if words else "right",
            no_wrap=column != "VMs",
            ratio=1 if column == "VMs" and place else None,
        )
    return table


def _clipped(label: str) -> str:
    return label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
