"""How plans and the journal are laid out in Redis: what is written together, and how it is read back.

Owns where a VM counts as being while a step is open: the journal's phase and the plan's step say it, and it is
written in the same transaction as the journal record. Leaves out when to write (`execute`) and the fencing
(`transaction`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, assert_never

from redis.asyncio import Redis

from transhume.errors import UsageError
from transhume.knowledge import keys
from transhume.knowledge.codec import UnreadableRecord, decode, encode
from transhume.knowledge.model import (
    JournalRecord,
    NoPlan,
    Phase,
    Plan,
    PlanId,
    PlanStatus,
    Step,
)
from transhume.knowledge.records import BEGUN, Effect, StoredPlan
from transhume.knowledge.transaction import Transaction, milliseconds
from transhume.knowledge.wire import reaching, text


@dataclass(frozen=True, slots=True, kw_only=True)
class LatestDecision:
    """The last thing decided: a plan, which is kept among the plans, or to do nothing."""

    plan: PlanId | None = None
    no_plan: NoPlan | None = None


def write_plan(writing: Transaction, plan: Plan, status: PlanStatus, at: datetime) -> None:
    """Add what keeps a plan."""
    writing.merge(keys.PLANS, {plan.id: encode(plan)})
    writing.rank(keys.PLANS_ORDER, plan.made_at, plan.id)
    write_status(writing, plan.id, status, at)


def write_status(writing: Transaction, plan: PlanId, status: PlanStatus, at: datetime) -> None:
    """Add what notes that a plan reached a status."""
    writing.merge(keys.PLANS_STATUS, {plan: status.encode()})
    writing.merge(keys.PLANS_SINCE, {plan: at.isoformat().encode()})


def write_effect(writing: Transaction, plan: PlanId, effect: Effect) -> None:
    """Add what notes what became of a plan's promise."""
    writing.merge(keys.PLANS_EFFECT, {plan: effect.encode()})


def forget_plan(writing: Transaction, plan: PlanId) -> None:
    """Add what removes a plan and its journal."""
    for key in (keys.PLANS, keys.PLANS_STATUS, keys.PLANS_SINCE, keys.PLANS_EFFECT):
        writing.remove(key, plan)
    writing.unrank(keys.PLANS_ORDER, plan).drop(keys.journal_of(plan))


def write_journal(writing: Transaction, record: JournalRecord, step: Step | None) -> None:
    """Add a journal record, and where the VM counts as being from now on.

    Without the step (its plan was never stored) the VM is known to be moving, and nothing more.
    """
    written = encode(record)
    field = f"{record.plan} {record.step}"
    writing.push(keys.journal_of(record.plan), written)
    if not record.phase.final:
        writing.merge(keys.OPEN_STEPS, {field: written})
        heading_for = _heading_for(record.phase, step) if step else ""
        writing.merge(keys.GOING, {record.vm: heading_for.encode()})
        return
    writing.remove(keys.OPEN_STEPS, field).remove(keys.GOING, record.vm).remove(keys.MOVES, field)
    # Until the hypervisors are asked again, the inventory would show the VM where it was.
    if step and (host := _ended_on(record.phase, step)):
        writing.merge(keys.ARRIVED, {record.vm: f"{field} {host}".encode()})


def hosts_arrived_at(arrivals: Mapping[str, str]) -> dict[str, str]:
    """Return the host of each VM, of what `write_journal` keeps of steps that are over."""
    return {vm: arrival.split(" ", 2)[-1] for vm, arrival in arrivals.items()}


def _heading_for(phase: Phase, step: Step) -> str:
    return step.source if phase is Phase.UNDOING else step.destination


def _ended_on(phase: Phase, step: Step) -> str | None:
    match phase:
        case Phase.COMMITTED:
            return step.destination
        case Phase.UNDONE:
            return step.source
        case Phase.SKIPPED | Phase.FAILED:
            return None
        case Phase.INTENDED | Phase.MOVED | Phase.VERIFIED | Phase.REPOINTED | Phase.UNDOING:
            raise ValueError(f"a step that is {phase} isn't over")
    assert_never(phase)


async def read_plan(client: Redis, plan: PlanId) -> StoredPlan:
    """Return a plan with its status.

    Raises:
        UsageError: there is none with this id.
        UnreadableRecord: there is, but damaged.
    """
    async with client.pipeline(transaction=True) as pipe:
        for key in (keys.PLANS, keys.PLANS_STATUS, keys.PLANS_SINCE, keys.PLANS_EFFECT):
            pipe.hget(key, plan)
        async with reaching():
            written, status, since, effect = await pipe.execute()
    if written is None:
        raise _no_such_plan(plan)
    try:
        return StoredPlan(
            id=plan,
            plan=decode(Plan, written),
            status=PlanStatus(text(status or b"")),
            since=datetime.fromisoformat(text(since or b"")),
            effect=Effect(text(effect)) if effect else None,
        )
    except ValueError as error:
        raise UnreadableRecord("plan's status", str(error)) from error


async def plans_before(client: Redis, instant: datetime) -> Sequence[PlanId]:
    """Return the plans made before an instant, but for one that is being executed."""
    async with reaching():
        names: Any = await client.zrangebyscore(keys.PLANS_ORDER, "-inf", milliseconds(instant) - 1)
        statuses = await client.hgetall(keys.PLANS_STATUS) if names else {}
    executing = PlanStatus.EXECUTING.encode()
    return [PlanId(text(name)) for name in names if statuses.get(name) != executing]


async def begun_since(client: Redis, instant: datetime) -> Sequence[PlanId]:
    """Return the plans made at or after an instant that were ever begun, the newest first."""
    least = max(milliseconds(instant), 0)
    async with reaching():
        names: Any = await client.zrevrangebyscore(keys.PLANS_ORDER, "+inf", least)
        statuses = await client.hmget(keys.PLANS_STATUS, names) if names else []
    told = zip(names, statuses, strict=True)
    return [PlanId(text(name)) for name, status in told if text(status or b"") in BEGUN]


def _no_such_plan(plan: PlanId) -> UsageError:
    return UsageError(
        f"there is no plan {plan}; `transhume explain` without an id shows the latest"
    )
