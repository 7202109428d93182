"""Watching a plan being carried out, from outside the daemon: bars for its moves, until it has ended."""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from transhume.cli.views.harmless import harmless
from transhume.errors import PermanentError
from transhume.knowledge.model import Outcome, Plan, PlanId, PlanStatus, StepId

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

    from transhume.knowledge.store import Store

POLL_SECONDS = 0.1
SILENCE_SECONDS = 60.0
"""A daemon whose heart hasn't beaten for so long carries nothing out; one that is begun anew is sooner back."""
ENDED = (PlanStatus.DONE, PlanStatus.UNDONE, PlanStatus.FAILED, PlanStatus.SUPERSEDED)


async def outcomes_of(store: "Store", plan: Plan) -> tuple[Outcome, ...]:
    """Return how the steps of a plan ended, the first one first."""
    return tuple(reversed(await store.outcomes_of(plan)))


async def follow(store: "Store", plan: Plan, console: "Console") -> PlanStatus:
    """Show the moves of a plan until it has ended; return how.

    Raises:
        PermanentError: nobody carries it on.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
    )
    with Progress(*columns, console=console) as bars:
        tasks = {
            step.id: bars.add_task(
                harmless(f"{step.vm} {step.source_cloud} → {step.destination_cloud}"),
                total=step.prediction.bytes,
            )
            for step in plan.steps
        }
        clock = asyncio.get_running_loop().time
        beat, heard = None, clock()
        while (status := (await store.plan(PlanId(plan.id))).status) not in ENDED:
            if (latest := await store.status()) != beat:
                beat, heard = latest, clock()
            elif clock() - heard > SILENCE_SECONDS:
                raise PermanentError(
                    f"the daemon that carries plan {plan.id} out is gone; the next one goes on with it: start "
                    "it (transhume run)"
                )
            await _update(store, bars, tasks)
            await asyncio.sleep(POLL_SECONDS)
        for outcome in await outcomes_of(store, plan):
            task = tasks.get(outcome.step)
            if outcome.measured is not None and task is not None:
                sent = outcome.measured.bytes
                bars.update(task, completed=sent, total=sent)
    assert status is not None
    return status


async def _update(store: "Store", bars: "Progress", tasks: "Mapping[StepId, TaskID]") -> None:
    for move in await store.move_progress():
        task = tasks.get(move.step)
        if task is not None:
            total = move.bytes_sent + move.bytes_remaining
            bars.update(task, completed=move.bytes_sent, total=total)
