"""Two captures compared, on a terminal: how alike they are in numbers and words, and what changed most."""

import math
from collections.abc import Iterator, Sequence

from rich.console import RenderableType
from rich.text import Text

from transhume.analyze import Comparison
from transhume.cli.changed_pairs import ChangedPair
from transhume.cli.views.harmless import text
from transhume.cli.views.heatmap import members
from transhume.cli.views.tables import add_numbers, table
from transhume.knowledge.model import VmName
from transhume.quantities import format_rate

MOST_COMPANY = 8
"""So many VMs of a group are named."""
MOST_CHANGED = 20


def shown(found: Comparison, pairs: Sequence[ChangedPair]) -> Iterator[RenderableType]:
    """Yield what there is to see, from top to bottom."""
    yield _likeness(found)
    for name, vms in (("A", found.only_in_first), ("B", found.only_in_second)):
        if vms:
            yield text(f"\nonly in {name}: {members(vms)}")
    if found.changed:
        yield Text("\nChanged company", style="bold")
        yield _changed(found)
    if pairs:
        yield Text("\nWhat changed most", style="bold")
        yield _pairs(pairs)


def _likeness(found: Comparison) -> RenderableType:
    shown = table("measure")
    add_numbers(shown, "value")
    shown.add_column("what it says", overflow="fold")
    distance = f"{found.distance:.3f}" if math.isfinite(found.distance) else "–"
    shown.add_row("cosine", f"{found.cosine:.3f}", "of the shapes: 1 the same, 0 nothing in common")
    shown.add_row("distance", distance, "Frobenius, relative to A: 0 the same in amount too")
    shown.add_row(
        "rank correlation",
        f"{found.rank_correlation:.3f}",
        "Kendall's tau of the pairs: 1 the same order, -1 the reverse",
    )
    shown.add_row(
        "groups", f"{found.group_agreement:.3f}", "adjusted Rand index: 1 the same, 0 by chance"
    )
    before, after = (
        format_rate(rate) for rate in (found.first_bytes_per_second, found.second_bytes_per_second)
    )
    shown.add_row("between VMs", after, f"{before} in A; {found.shared_vms:,} VMs are in both")
    return shown


def _changed(found: Comparison) -> RenderableType:
    shown = table("VM", "was with", "is with")
    for each in found.changed[:MOST_CHANGED]:
        shown.add_row(
            text(each.vm),
            text(_others(each.before, each.vm)),
            text(_others(each.after, each.vm)),
        )
    if len(found.changed) > MOST_CHANGED:
        shown.caption = f"and {len(found.changed) - MOST_CHANGED:,} more"
    return shown


def _others(vms: Sequence[VmName], itself: VmName) -> str:
    others = [vm for vm in vms if vm != itself]
    return members(others, MOST_COMPANY) if others else "nobody"


def _pairs(pairs: Sequence[ChangedPair]) -> RenderableType:
    shown = table("from", "to")
    add_numbers(shown, "A", "B", "change")
    for pair in pairs:
        change = pair.after - pair.before
        shown.add_row(
            text(pair.source),
            text(pair.destination),
            format_rate(pair.before),
            format_rate(pair.after),
            ("+" if change > 0 else "") + format_rate(change),
        )
    return shown
