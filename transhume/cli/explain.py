"""`transhume explain`: why a plan is as it is, or why there is none."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import knowledge_options, with_store

if TYPE_CHECKING:
    from transhume.knowledge.model import NoPlan, Plan
    from transhume.knowledge.records import StoredPlan
    from transhume.knowledge.store import Store


@click.command("explain")
@click.argument("plan", required=False)
@click.argument("vm", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print the whole decision as JSON.")
@knowledge_options
def command(
    *, plan: str | None, vm: str | None, as_json: bool, config: Path, url: str | None
) -> None:
    """Explain a decision: why these moves, or why none.

    Each move comes with its reason, cost and gain. Where no PLAN is named, the latest decision is meant. With
    a VM, only its moves are explained.

    \b
    Examples:
      transhume explain
      transhume explain plan-4f2a
      transhume explain plan-4f2a vm3
    """
    from transhume.cli.views.harmless import harmless
    from transhume.errors import UsageError
    from transhume.knowledge.codec import encode
    from transhume.knowledge.model import PlanId

    async def read(store: "Store") -> "StoredPlan | None":
        return await (store.plan(PlanId(plan)) if plan else store.latest_plan())

    stored = with_store(config, url, read)
    if stored is None:
        raise UsageError("nothing was decided yet; see `transhume status`")
    if as_json:
        click.echo(encode(stored.plan))
        return
    for line in _lines(stored.plan, vm):
        click.echo(harmless(line))


def _lines(decision: "Plan | NoPlan", vm: str | None) -> list[str]:
    from dataclasses import replace

    from transhume.errors import UsageError
    from transhume.knowledge.model import NoPlan
    from transhume.plan import explain_no_plan, explain_plan

    if isinstance(decision, NoPlan):
        return explain_no_plan(decision)
    if vm is None:
        return explain_plan(decision)
    steps = tuple(step for step in decision.steps if step.vm == vm)
    if not steps:
        raise UsageError(f"plan {decision.id} doesn't move {vm}")
    return explain_plan(replace(decision, steps=steps))
