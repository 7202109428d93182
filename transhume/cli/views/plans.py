"""How plans, bills and outcomes look in a terminal."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import click
from rich import box
from rich.console import Console, RenderableType
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from transhume.knowledge.codec import encode
from transhume.knowledge.model import CostRate, NoPlan, Outcome, Plan, StepResult
from transhume.quantities import format_bytes, format_dollars_per_hour, format_duration

CAUSES = ("compute", "egress", "migration", "risk", "lateness")
COLOURS = {
    StepResult.DONE: "green",
    StepResult.UNDONE: "yellow",
    StepResult.SKIPPED: "dim",
    StepResult.FAILED: "bold red",
}


def decision(result: Plan | NoPlan) -> RenderableType:
    """Show a plan with its reasons and its bill, or why there is none."""
    parts: list[RenderableType] = [Text(f"because: {result.trigger}", style="dim")]
    if isinstance(result, Plan):
        parts += [moves(result), reasons(result), bill(result.before, result.after)]
        parts.append(_verdict(result))
    else:
        parts.append(Text(f"Nothing is worth doing: {result.reason}"))
        parts.append(bill(result.before, result.best_alternative))
    parts += [
        Text(f"{vm} can't be placed: {why}", style="bold red")
        for vm, why in result.unplaced.items()
    ]
    return Lines(*parts)


def moves(plan: Plan) -> Table:
    """List a plan's moves in their order; those of one stage run at the same time."""
    table = _table("stage", "move", "kind")
    _add_numbers(table, "bytes", "time", "pause", "saves", "payback")
    for step in plan.steps:
        table.add_row(
            str(step.stage + 1),
            f"{step.vm} {step.source_cloud} → {step.destination_cloud}",
            step.kind,
            format_bytes(step.prediction.bytes),
            format_duration(step.prediction.seconds),
            format_duration(step.prediction.downtime_seconds),
            format_dollars_per_hour(step.saving_dollars_per_hour),
            "–" if step.payback_seconds is None else format_duration(step.payback_seconds),
        )
    return table


def reasons(plan: Plan) -> Lines:
    """Give each reason once, with the VMs that it moves."""
    moved: dict[str, list[str]] = {}
    for step in plan.steps:
        moved.setdefault(step.reason, []).append(step.vm)
    return Lines(*(Text(f"{', '.join(vms)}: {reason}") for reason, vms in moved.items()))


def bill(before: CostRate, after: CostRate | None) -> Table:
    """Show what is paid an hour, by cause, before and after."""
    table = _table("dollars an hour")
    _add_numbers(table, "now", *(["then"] if after is not None else []))
    for cause in (*CAUSES, "total"):
        amounts = [getattr(rate, cause) for rate in (before, after) if rate is not None]
        if cause == "total" or any(amounts):
            style = "bold" if cause == "total" else ""
            table.add_row(cause, *map(format_dollars_per_hour, amounts), style=style)
    return table


def _verdict(plan: Plan) -> Text:
    proof = "proven optimal" if plan.optimal else "the best found in the time given, not proven"
    saves = format_dollars_per_hour(plan.saving_dollars_per_hour)
    return Text(
        f"plan {plan.id}: saves {saves} over {format_duration(plan.horizon_seconds)}; {proof}"
    )


def outcomes(found: Iterable[Outcome]) -> RenderableType:
    """Show how moves ended, predicted beside measured."""
    table = _table("ended", "move", "result")
    _add_numbers(table, "bytes", "time", "pause")
    table.caption = "predicted→measured"
    notes = []
    for outcome in found:
        predicted, measured = outcome.predicted, outcome.measured
        table.add_row(
            _when(outcome.ended_at.astimezone()),
            f"{outcome.vm} {outcome.source} → {outcome.destination}",
            Text(outcome.result, style=COLOURS[outcome.result]),
            _both(predicted.bytes, measured.bytes if measured else None, format_bytes),
            _both(predicted.seconds, measured.seconds if measured else None, format_duration),
            _both(
                predicted.downtime_seconds,
                measured.downtime_seconds if measured else None,
                format_duration,
            ),
        )
        if outcome.why:
            notes.append(Text(f"{outcome.vm} {outcome.result}: {outcome.why}"))
    return Lines(table, *notes)


def _when(at: datetime) -> str:
    return f"{at:%H:%M}" if at.date() == datetime.now(at.tzinfo).date() else f"{at:%d %b %H:%M}"


def _both(predicted: float, measured: float | None, written: Callable[[float], str]) -> str:
    return f"{written(predicted)}→{'–' if measured is None else written(measured)}"


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), caption_justify="left")
    for name in columns:
        table.add_column(name, no_wrap=True)
    return table


def _add_numbers(table: Table, *columns: str) -> None:
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)


def show_outcomes(found: Sequence[Outcome], *, as_json: bool) -> None:
    """Print outcomes, for a person or for a program."""
    if as_json:
        click.echo(b"[" + b",".join(map(encode, found)) + b"]")
    elif found:
        Console().print(outcomes(found))
    else:
        click.echo("no VM was moved yet")
