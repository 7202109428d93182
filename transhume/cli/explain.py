"""`transhume explain`: why a plan is as it is, or why there is none; and the same of one VM."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from transhume.cli.connection import knowledge_options, with_store

if TYPE_CHECKING:
    from transhume.errors import UsageError
    from transhume.knowledge.model import Explanation, NoPlan, Plan, Snapshot, Step
    from transhume.knowledge.store import Store

LATEST = "latest"


@click.command("explain")
@click.argument("plan", required=False)
@click.argument("vm", required=False)
@click.option(
    "--json", "as_json", is_flag=True, help="Print the decision, or the VM's explanation, as JSON."
)
@knowledge_options
def command(
    *, plan: str | None, vm: str | None, as_json: bool, config: Path, url: str | None
) -> None:
    """Explain a decision: why these moves, or why none.

    Each move comes with its reason, cost and gain. With a VM: what its move changes, or why it stays; where
    else it could be and what that would cost; what stands in the way, and what would change the answer. Where
    no PLAN is named, or `latest` is, the latest decision is meant.

    \b
    Examples:
      transhume explain
      transhume explain plan-4f2a
      transhume explain plan-4f2a vm3
      transhume explain latest vm3 --json | jq .turning_points
    """
    from transhume.cli.views.harmless import harmless
    from transhume.errors import UsageError
    from transhume.knowledge.codec import encode
    from transhume.knowledge.model import PlanId

    async def read(store: "Store") -> "tuple[Plan | NoPlan, Snapshot | None]":
        named = plan is not None and plan != LATEST
        stored = await (store.plan(PlanId(plan)) if plan and named else store.latest_plan())
        if stored is None:
            raise UsageError("nothing was decided yet; see `transhume status`")
        told = vm is None or vm in stored.plan.explanations
        return stored.plan, None if told else await store.snapshot()

    decision, snapshot = with_store(config, url, read)
    explanation = None if vm is None else _of_one(decision, vm, snapshot)
    if as_json:
        click.echo(encode(explanation or decision))
        return
    for line in _of_all(decision) if explanation is None else _lines(decision, explanation):
        click.echo(harmless(line))


def _of_all(decision: "Plan | NoPlan") -> list[str]:
    from transhume.knowledge.model import NoPlan
    from transhume.plan import explain_no_plan, explain_plan

    if isinstance(decision, NoPlan):
        return explain_no_plan(decision)
    return explain_plan(decision)


def _of_one(decision: "Plan | NoPlan", name: str, snapshot: "Snapshot | None") -> "Explanation":
    """Return the explanation of a VM, or the little that can be said of one that the decision doesn't explain.

    Raises:
        UsageError: there is no such VM; says which names are like it.
    """
    from transhume.errors import UsageError
    from transhume.knowledge.model import Explanation, VmName

    vm = VmName(name)
    if vm in decision.explanations:
        return decision.explanations[vm]
    for step in _steps(decision):
        if step.vm == vm:
            there = step.destination_cloud
            return Explanation(
                vm=vm, cloud=step.source_cloud, destination=there, reason=step.reason
            )
    if snapshot is None or vm not in snapshot.vms:
        raise _unknown(name, {*decision.explanations, *(snapshot.vms if snapshot else ())})
    if snapshot.placement.host_of.get(vm) not in snapshot.hosts:
        raise UsageError(f"{name} runs on no host that we know of: nothing is decided about it")
    return Explanation(vm=vm, cloud=snapshot.cloud_of(vm), reason=_silence(decision))


def _silence(decision: "Plan | NoPlan") -> str:
    """Return why a decision doesn't say a word about a VM."""
    from transhume.knowledge.model import NoPlan

    count = len(decision.explanations)
    if isinstance(decision, NoPlan) and not count:
        return decision.reason
    if not count:
        return "the decision doesn't move it, and was made without explanations"
    return f"the decision doesn't move it, and explains {count} other VMs that weigh more"


def _unknown(name: str, known: Iterable[str]) -> "UsageError":
    from difflib import get_close_matches

    from transhume.errors import UsageError

    like = get_close_matches(name, sorted(known), n=3)
    hint = f"; did you mean {' or '.join(like)}?" if like else ""
    return UsageError(f"there is no VM {name}{hint}")


def _lines(decision: "Plan | NoPlan", explanation: "Explanation") -> list[str]:
    from transhume.knowledge.model import NoPlan
    from transhume.plan import explain_step, explain_vm

    steps = [step for step in _steps(decision) if step.vm == explanation.vm]
    lines = [line for step in steps for line in explain_step(step)]
    horizon = None if isinstance(decision, NoPlan) else decision.horizon_seconds
    return [*lines, *([""] if lines else []), *explain_vm(explanation, decision.limits, horizon)]


def _steps(decision: "Plan | NoPlan") -> "tuple[Step, ...]":
    from transhume.knowledge.model import Plan

    return decision.steps if isinstance(decision, Plan) else ()
