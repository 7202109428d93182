"""Asking the daemon to carry a plan out, and watching it until it has: what `approve` and `apply` share."""

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import with_store
from transhume.errors import PermanentError, UsageError
from transhume.knowledge.model import Outcome, Plan, PlanId, PlanStatus

if TYPE_CHECKING:
    from transhume.knowledge.records import CommandKind
    from transhume.knowledge.store import Store

PATIENCE_SECONDS = 30.0
POLL_SECONDS = 0.2
STANDING = (PlanStatus.RECOMMENDED, PlanStatus.AWAITING_APPROVAL)


def carry_out(
    plan_id: str | None, kind: "CommandKind", config: Path, url: str | None, *, as_json: bool
) -> None:
    """Have the daemon carry a plan out (the latest where none is named), and show how its moves ended.

    The exit status is 1 unless all of it was done.

    Raises:
        UsageError: there is no such plan, or it doesn't stand for approval.
        PermanentError: the daemon doesn't take it up.
    """
    from transhume.cli.views.plans import show_outcomes

    status, outcomes = with_store(config, url, lambda store: _ask(store, plan_id, kind))
    show_outcomes(outcomes, as_json=as_json)
    if status is not PlanStatus.DONE:
        click.echo(f"transhume: the plan is {status}", err=True)
        sys.exit(1)


async def _ask(
    store: "Store", plan_id: str | None, kind: "CommandKind"
) -> tuple[PlanStatus, tuple[Outcome, ...]]:
    from rich.console import Console

    from transhume.cli.following import follow, outcomes_of
    from transhume.knowledge.records import Command
    from transhume.knowledge.store import utc_now

    plan = await _standing(store, plan_id)
    await store.send_command(Command(kind=kind, at=utc_now(), subject=plan.id))
    await _taken_up(store, plan)
    status = await follow(store, plan, Console(stderr=True))
    return status, await outcomes_of(store, plan)


async def _standing(store: "Store", plan_id: str | None) -> Plan:
    stored = await (store.plan(PlanId(plan_id)) if plan_id else store.latest_plan())
    if stored is None or not isinstance(stored.plan, Plan):
        raise UsageError("there is no plan to carry out; see `transhume plan`")
    if stored.status not in STANDING:
        raise UsageError(f"plan {stored.plan.id} is {stored.status}: it can't be carried out")
    return stored.plan


async def _taken_up(store: "Store", plan: Plan) -> None:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while (status := (await store.plan(plan.id)).status) in STANDING:
                await asyncio.sleep(POLL_SECONDS)
    except TimeoutError:
        raise PermanentError(
            f"no daemon has taken plan {plan.id} up for {PATIENCE_SECONDS:.0f} s (see `transhume status`); one "
            "that does within a day still carries it out, if it's the best then"
        ) from None
    if status is PlanStatus.SUPERSEDED:
        raise UsageError(
            f"plan {plan.id} is out of date; see `transhume plan` for what is best now"
        )
