"""A comparison of policies in the terminal: a row a run for money and moves, and how long rules were broken."""

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from transhume.cli.views.harmless import text
from transhume.cli.views.tables import add_numbers, table
from transhume.quantities import format_bytes, format_duration, format_rate
from transhume.replaying import Comparison, Run

CAUSES = ("compute", "egress", "migration", "paid")
WEIGHTS = ("loss", "lateness")
"""What the planner holds something bad to be worth."""


def comparison(found: Comparison) -> RenderableType:
    """Show what each run came to."""
    parts: list[RenderableType] = [
        text(_heading(found)),
        Text(),
        _money(found),
        Text(),
        _moves(found),
    ]
    violations = _violations(found)
    if violations is not None:
        parts += [Text(), violations]
    parts += [Text(), *map(text, notes(found))]
    return Group(*parts)


def _heading(found: Comparison) -> str:
    lasted = format_duration((found.end - found.start).total_seconds())
    return (
        f"{found.vms} VMs in {found.clouds} clouds, {lasted} from {found.start:%Y-%m-%d %H:%M} UTC"
    )


def notes(found: Comparison) -> Iterator[str]:
    """Yield what one has to know of the numbers."""
    basis = (
        f"calibrated on {found.learnt_from} recorded moves"
        if found.learnt_from
        else "assumed, for no recorded move tells"
    )
    yield f"moves send {found.memory_factor:.2f} bytes for each byte of memory ({basis})"
    for run in found.runs:
        for missed in run.missed:
            yield (
                f"{run.name}: {missed.job} missed {missed.deadline:%Y-%m-%d %H:%M} UTC by "
                f"{format_duration(missed.late_seconds)} ({missed.done:.0%} done in the end)"
            )
    if found.unjudged:
        yield f"not judged: {', '.join(found.unjudged)}"


def _money(found: Comparison) -> Table:
    shown = table("policy", gap=1)
    columns = columns_of(found)
    add_numbers(shown, *columns)
    for run in found.runs:
        shown.add_row(text(run.name), *(f"${dollars(run, cause):,.2f}" for cause in columns))
    if set(columns) & set(WEIGHTS):
        shown.caption = "loss, lateness: what the planner weighs them with, paid to nobody"
    return shown


def columns_of(found: Comparison) -> list[str]:
    """Return the causes to show: what was paid, and the weights that aren't nothing."""
    weights = [each for each in WEIGHTS if any(dollars(run, each) for run in found.runs)]
    return [*CAUSES, *weights]


def dollars(run: Run, cause: str) -> float:
    """Return what a cause came to."""
    return float(getattr(run, f"{cause}_dollars"))


def _moves(found: Comparison) -> Table:
    shown = table("policy", gap=1)
    add_numbers(shown, "missed", "must", "may", "early", "bytes", "cut", "lost", "down")
    for run in found.runs:
        shown.add_row(
            text(run.name),
            f"{len(run.missed)}/{run.deadlines}",
            f"{run.mandatory_moves:,}",
            f"{run.elective_moves:,}",
            f"{run.moves_within_cooldown}",
            format_bytes(run.moved_bytes),
            format_rate(run.mean_cut_bytes_per_second),
            f"{run.lost_vms:,}",
            format_duration(run.down_vm_seconds),
        )
    shown.caption = (
        "must, may: mandatory and elective moves\nearly: elective within a cool-down\n"
        "cut: mean traffic between clouds\nlost, down: VMs lost with their hosts, their time"
    )
    return shown


def _violations(found: Comparison) -> Table | None:
    rules = list(dict.fromkeys(rule for run in found.runs for rule in run.violation_seconds))
    if not rules:
        return None
    shown = table("time in violation of", gap=1)
    add_numbers(shown, *(run.name for run in found.runs))
    for rule in rules:
        times = (format_duration(run.violation_seconds.get(rule, 0.0)) for run in found.runs)
        shown.add_row(text(rule), *times)
    return shown
