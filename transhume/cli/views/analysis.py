"""An analysis as a whole, on a terminal: what is worth most first, and nothing of which there is none."""

from collections.abc import Iterator

from rich.console import RenderableType
from rich.text import Text

from transhume.cli.analysis import Analysis
from transhume.cli.views.findings import (
    cut_lines,
    forecast_words,
    networks_table,
    phases_table,
    rest_of,
    unattributed_table,
)
from transhume.cli.views.harmless import text
from transhume.cli.views.heatmap import groups_table, heat_map, pairs_table, pattern_words
from transhume.knowledge.model import PatternKind

MOST_GROUPS = 20
MOST_STRANGERS = 5


def shown(analysis: Analysis) -> Iterator[RenderableType]:
    """Yield what there is to see, from top to bottom."""
    yield text(f"{analysis.headline}\n")
    yield heat_map(analysis.matrix, analysis.groups)
    if analysis.groups:
        yield from _groups(analysis)
        yield _heading("Who exchanges most")
        yield pairs_table(analysis.matrix)
    yield from _over_time(analysis)
    yield from _not_between_vms(analysis)
    if analysis.cut is not None:
        yield Text()
        yield from map(text, cut_lines(analysis.cut, billed=analysis.cut_is_billed))


def _groups(analysis: Analysis) -> Iterator[RenderableType]:
    yield _heading("Groups, the busiest first")
    yield groups_table(analysis.groups[:MOST_GROUPS], analysis.patterns)
    if len(analysis.groups) > MOST_GROUPS:
        yield text(f"and {len(analysis.groups) - MOST_GROUPS:,} more")
    whole = analysis.pattern
    if whole is not None and whole.kind is not PatternKind.NONE and len(analysis.groups) > 1:
        yield text(f"all VMs together: {pattern_words(whole)}")


def _over_time(analysis: Analysis) -> Iterator[RenderableType]:
    if len(analysis.phases) > 1:
        yield _heading("Phases")
        yield phases_table(analysis.phases)
    if analysis.forecast is not None:
        yield text(f"\n{forecast_words(analysis.forecast)}")


def _not_between_vms(analysis: Analysis) -> Iterator[RenderableType]:
    yield text("\n", rest_of(analysis.matrix).plain)
    if analysis.matrix.networks:
        yield _heading("Outside")
        yield networks_table(analysis.matrix)
    if analysis.unattributed:
        yield _heading("Of no VM, the most first")
        yield unattributed_table(analysis.unattributed[:MOST_STRANGERS])


def _heading(words: str) -> Text:
    return Text(f"\n{words}", style="bold")
