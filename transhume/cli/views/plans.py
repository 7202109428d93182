"""How plans, bills and outcomes look in a terminal."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

import click
from rich.console import Console, RenderableType
from rich.console import Group as Lines
from rich.table import Table
from rich.text import Text

from transhume.cli.views.harmless import text
from transhume.cli.views.reasons import reasons
from transhume.cli.views.tables import add_numbers, table
from transhume.cli.views.transfers import saved
from transhume.knowledge.codec import encode
from transhume.knowledge.model import (
    CAUSES,
    CostRate,
    Measurement,
    NoPlan,
    Outcome,
    Plan,
    Prediction,
    StepResult,
)
from transhume.plan.explain import NOT_CONVERGING
from transhume.plan.standing import standing
from transhume.quantities import (
    format_bytes,
    format_count,
    format_dollars_per_hour,
    format_duration,
)

COLOURS = {
    StepResult.DONE: "green",
    StepResult.UNDONE: "yellow",
    StepResult.SKIPPED: "dim",
    StepResult.FAILED: "bold red",
}


def decision(result: Plan | NoPlan) -> RenderableType:
    """Show a plan with its reasons and its bill, or why there is none."""
    parts: list[RenderableType] = [text((f"because: {result.trigger}", "dim")), ""]
    if isinstance(result, Plan):
        parts += [moves(result), "", *_why(result), "", bill(result.before, result.after), ""]
        parts.append(_verdict(result))
    else:
        parts += [text(f"Nothing is worth doing: {result.reason}"), ""]
        parts.append(bill(result.before, result.best_alternative))
    parts += [
        text((f"{vm} can't be placed: {why}", "bold red")) for vm, why in result.unplaced.items()
    ]
    if result.conflict is not None:
        parts.append(text((result.conflict.sentence, "red")))
    return Lines(*parts)


def moves(plan: Plan) -> Table:
    """List a plan's moves in their order; those of one stage don't wait for each other."""
    shown = table("stage", "move", "kind", gap=1)
    add_numbers(shown, "bytes", "begins", "time", "pause", "saves", "payback")
    for step in plan.steps:
        shown.add_row(
            str(step.stage + 1),
            text(f"{step.vm} {step.source_cloud} → {step.destination_cloud}"),
            step.kind,
            format_bytes(step.prediction.bytes),
            format_duration(step.starts_after_seconds),
            format_duration(step.prediction.seconds),
            format_duration(step.prediction.downtime_seconds),
            format_dollars_per_hour(step.saving_dollars_per_hour),
            "–" if step.payback_seconds is None else format_duration(step.payback_seconds),
        )
    return shown


def _why(plan: Plan) -> list[Text]:
    lines = [text(f"{', '.join(vms)}: {reason}") for reason, vms in reasons(plan).items()]
    busy = dict.fromkeys(step.vm for step in plan.steps if not step.prediction.converges)
    if busy:
        lines.append(text((f"{', '.join(busy)}: ends only {NOT_CONVERGING}", "yellow")))
    return lines


def bill(before: CostRate, after: CostRate | None) -> Table:
    """Show what is paid an hour, by cause, before and after."""
    shown = table("dollars an hour", gap=1)
    add_numbers(shown, "now", *(["then"] if after is not None else []))
    for cause in (*CAUSES, "total"):
        amounts = [getattr(rate, cause) for rate in (before, after) if rate is not None]
        if cause == "total" or any(amounts):
            style = "bold" if cause == "total" else ""
            shown.add_row(cause, *map(format_dollars_per_hour, amounts), style=style)
    return shown


def _verdict(plan: Plan) -> Text:
    saving = plan.saving_dollars_per_hour
    brings = f"saves {format_dollars_per_hour(saving)}"
    if saving < 0:
        sake = f"and takes {plan.undoes} back" if plan.undoes else "for the rules' sake"
        brings = f"costs {format_dollars_per_hour(-saving)} more, {sake}"
    over = format_duration(plan.horizon_seconds)
    return text(f"{plan.id}: {brings}, over {over}; {standing(plan)}")


def outcomes(found: Iterable[Outcome]) -> RenderableType:
    """Show how moves ended, predicted beside measured."""
    shown = table("ended", "move", "result", gap=1)
    add_numbers(shown, "bytes", "time", "pause")
    shown.caption = "predicted→measured"
    notes = []
    for outcome in found:
        predicted, measured = outcome.predicted, outcome.measured
        shown.add_row(
            _when(outcome.ended_at.astimezone()),
            text(f"{outcome.vm} {outcome.source} → {outcome.destination}"),
            text((outcome.result, COLOURS[outcome.result])),
            _both(predicted.bytes, measured.bytes if measured else None, format_bytes),
            _both(predicted.seconds, measured.seconds if measured else None, format_duration),
            _both(
                predicted.downtime_seconds,
                measured.downtime_seconds if measured else None,
                format_duration,
            ),
        )
        if outcome.why:
            notes.append(text(f"{outcome.vm} {outcome.result}: {outcome.why}"))
        if told := _told(predicted, measured):
            notes.append(text(f"{outcome.vm}: {'; '.join(told)}"))
    return Lines(shown, *notes)


def _told(predicted: Prediction, measured: Measurement | None) -> list[str]:
    """Say what only some moves can tell: rounds, processor time, and what was saved."""
    if measured is None:
        return []
    told = []
    if measured.disk_bytes or predicted.disk_bytes:
        told.append(f"disks {_both(predicted.disk_bytes, measured.disk_bytes, format_bytes)}")
    if measured.rounds is not None:
        told.append(f"{_from(predicted.rounds, str)}{format_count(measured.rounds, 'round')}")
    if measured.transfer is not None:
        spent = measured.transfer.cpu_seconds
        if spent:
            told.append(
                f"{_from(predicted.cpu_seconds, format_duration)}{format_duration(spent)} CPU"
            )
        told.append(saved(measured.transfer))
    return told


def _from(predicted: float | None, written: Callable[[float], str]) -> str:
    return "" if predicted is None else f"{written(predicted)}→"


def _when(at: datetime) -> str:
    return f"{at:%H:%M}" if at.date() == datetime.now(at.tzinfo).date() else f"{at:%d %b %H:%M}"


def _both(predicted: float, measured: float | None, written: Callable[[float], str]) -> str:
    return f"{written(predicted)}→{'–' if measured is None else written(measured)}"


def show_outcomes(found: Sequence[Outcome], *, as_json: bool) -> None:
    """Print outcomes, for a person or for a program."""
    if as_json:
        click.echo(b"[" + b",".join(map(encode, found)) + b"]")
    elif found:
        Console().print(outcomes(found))
    else:
        click.echo("no VM was moved yet")
