"""How plans, bills and outcomes look in a terminal."""

from collections.abc import Iterable

from rich import box
from rich.console import Group as Lines
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

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
        parts += [moves(result), bill(result.before, result.after), _verdict(result)]
    else:
        parts.append(Text(f"Nothing is worth doing: {result.reason}"))
        parts.append(bill(result.before, result.best_alternative))
    parts += [
        Text(f"{vm} can't be placed: {why}", style="bold red")
        for vm, why in result.unplaced.items()
    ]
    return Lines(*parts)


def moves(plan: Plan) -> Table:
    """List a plan's moves in their order."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("stage", "VM", "from", "to", "kind"):
        table.add_column(name, no_wrap=True)
    for name in ("bytes", "time", "pause", "saves", "payback"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", ratio=1)
    for step in plan.steps:
        table.add_row(
            str(step.stage + 1),
            step.vm,
            step.source_cloud,
            step.destination_cloud,
            step.kind,
            format_bytes(step.prediction.bytes),
            format_duration(step.prediction.seconds),
            format_duration(step.prediction.downtime_seconds),
            format_dollars_per_hour(step.saving_dollars_per_hour),
            "–" if step.payback_seconds is None else format_duration(step.payback_seconds),
            step.reason,
        )
    return table


def bill(before: CostRate, after: CostRate | None) -> Table:
    """Show what is paid an hour, by cause, before and after."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("dollars an hour")
    table.add_column("now", justify="right")
    if after is not None:
        table.add_column("then", justify="right")
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


def outcomes(found: Iterable[Outcome]) -> Table:
    """Show how moves ended, predicted beside measured."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("ended", "VM", "from", "to", "result"):
        table.add_column(name, no_wrap=True)
    for name in ("bytes\npredicted", "\nmeasured", "time\npredicted", "\nmeasured"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("pause\npredicted", "\nmeasured"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("why", ratio=1)
    for outcome in found:
        predicted, measured = outcome.predicted, outcome.measured
        pause = measured.downtime_seconds if measured else None
        table.add_row(
            f"{outcome.ended_at.astimezone():%d %b %H:%M:%S}",
            outcome.vm,
            outcome.source,
            outcome.destination,
            Text(outcome.result, style=COLOURS[outcome.result]),
            format_bytes(predicted.bytes),
            format_bytes(measured.bytes) if measured else "–",
            format_duration(predicted.seconds),
            format_duration(measured.seconds) if measured else "–",
            format_duration(predicted.downtime_seconds),
            "–" if pause is None else format_duration(pause),
            outcome.why,
        )
    return table
