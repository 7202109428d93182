"""What became of a plan's promise: whether the effect that it predicted has come about, and is worth keeping.

Pure, and without a memory: what was executed, found and undone is read from the stored plans, so that it
outlives the daemon. Owns `after` in a policy: what is looked at, when, and what follows. The way back itself
is `planner.make_undo`.

Looked at is what the moves are worth now: what the VMs would cost where they were, at today's prices and with
today's traffic, minus what they cost where they are. A price that rises everywhere is no plan's fault, and a
plan is not undone for it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from transhume.knowledge.model import (
    CostRate,
    MoveKind,
    Plan,
    PlanId,
    PlanStatus,
    Snapshot,
    Step,
    StepResult,
)
from transhume.knowledge.records import BEGUN, Effect, StoredPlan
from transhume.plan.money import Bill
from transhume.plan.problem import Place
from transhume.plan.settings import PlannerSettings
from transhume.plan.situation import Situation
from transhume.policies.model import Expectation, Otherwise, Policy
from transhume.quantities import format_dollars_per_hour, format_duration

TOLERANCE = 0.5
"""The share of what was predicted that may be lacking."""
MOST_LOOKED_AT = 50
"""As many of the latest plans may have their effect looked at."""
SHORTEST_GRACE = timedelta(minutes=10)
"""How long after its time a plan is looked at, at least: a daemon may have been down then."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Executed:
    """A plan of elective moves that was carried out."""

    plan: Plan
    ended_at: datetime
    effect: Effect | None = None
    """What was found when its effect was looked at."""
    undone_at: datetime | None = None
    """When the plan that takes it back was begun or had ended; there is but one."""

    @property
    def open(self) -> bool:
        """Say whether something may still follow from the plan."""
        return self.effect is None or (self.effect is Effect.MISSED and self.undone_at is None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a look at a plan's effect came to."""

    executed: Executed
    effect: Effect
    text: str
    """What was expected and what was seen, for a person."""


def executed_plans(stored: Iterable[StoredPlan]) -> tuple[Executed, ...]:
    """Return the elective plans that were carried out, with what became of each."""
    kept = tuple(stored)
    undone: dict[PlanId, datetime | None] = {
        each.plan.undoes: each.since
        for each in kept
        if isinstance(each.plan, Plan) and each.plan.undoes and each.status in BEGUN
    }
    return tuple(
        Executed(
            plan=each.plan,
            ended_at=each.since,
            effect=each.effect,
            undone_at=undone.get(each.plan.id),
        )
        for each in kept
        if isinstance(each.plan, Plan)
        and each.since is not None
        and each.status is PlanStatus.DONE
        and each.plan.undoes is None
        and all(step.kind is MoveKind.ELECTIVE for step in each.plan.steps)
    )


def terms_for(plan: Plan, snapshot: Snapshot, policies: Iterable[Policy]) -> Expectation | None:
    """Return what the policies of a plan's VMs expect of it: all that any expects, the soonest."""
    vms = [snapshot.vms[step.vm] for step in plan.steps if step.vm in snapshot.vms]
    asked = [p.after for p in policies if p.after and any(p.governs(vm) for vm in vms)]
    if not asked:
        return None
    return Expectation(
        expect=tuple(dict.fromkeys(what for terms in asked for what in terms.expect)),
        within_seconds=min(terms.within_seconds for terms in asked),
        otherwise=Otherwise.UNDO
        if any(terms.otherwise is Otherwise.UNDO for terms in asked)
        else Otherwise.KEEP,
    )


def is_due(executed: Executed, terms: Expectation, now: datetime) -> bool:
    """Say whether it's time for a look at a plan's effect, or for its undoing."""
    within = timedelta(seconds=terms.within_seconds)
    due = executed.ended_at + within
    return due <= now <= due + max(within, SHORTEST_GRACE)


def look_at_effect(
    executed: Executed,
    terms: Expectation,
    snapshot: Snapshot,
    policies: Sequence[Policy],
    settings: PlannerSettings,
) -> Finding | None:
    """Return what became of a plan's promise; None where prices are missing to tell."""
    plan = executed.plan
    last_steps = {step.vm: step for step in plan.steps}
    if any(not _stands(snapshot, step) for step in last_steps.values()):
        text = f"{plan.id}: its VMs have moved on"
        return Finding(executed=executed, effect=Effect.OVERTAKEN, text=text)
    clouds = {c for step in plan.steps for c in (step.source_cloud, step.destination_cloud)}
    if not clouds <= snapshot.prices.keys():
        return None
    here, back = _bills(plan, snapshot, policies, settings)
    missed, lost = [], False
    for what in terms.expect:
        worth = _PARTS[what]
        predicted = worth(plan.before) - worth(plan.after)
        seen = worth(back) - worth(here)
        if seen < predicted - TOLERANCE * abs(predicted) - 1e-6:
            missed.append(_missed(what, predicted, seen))
            lost |= seen <= 1e-6
    if not missed:
        return Finding(executed=executed, effect=Effect.AS_EXPECTED, text=f"{plan.id}: as expected")
    when = f"{format_duration(terms.within_seconds)} after it"
    text = f"{plan.id} {' and '.join(missed)}, {when}"
    if terms.otherwise is Otherwise.KEEP:
        return Finding(executed=executed, effect=Effect.KEPT, text=f"{text}; it is kept")
    if not lost:
        text = f"{text}; it is kept, since going back would be worse"
        return Finding(executed=executed, effect=Effect.KEPT, text=text)
    return Finding(executed=executed, effect=Effect.MISSED, text=text)


def _stands(snapshot: Snapshot, step: Step) -> bool:
    """Say whether a step's move was the VM's last one, and the VM is where it went."""
    moves = (o for o in snapshot.outcomes if o.vm == step.vm and o.result is StepResult.DONE)
    last = max(moves, key=lambda outcome: outcome.ended_at, default=None)
    return (
        last is not None
        and last.step == step.id
        and step.vm not in snapshot.moving
        and step.vm in snapshot.vms
        and snapshot.placement.host_of.get(step.vm) in snapshot.hosts
        and snapshot.cloud_of(step.vm) == step.destination_cloud
    )


def _bills(
    plan: Plan, snapshot: Snapshot, policies: Sequence[Policy], settings: PlannerSettings
) -> tuple[CostRate, CostRate]:
    """Return the bill of today, and what it would be had the plan's VMs stayed where they were."""
    situation = Situation.read(snapshot, policies, settings)
    bill = Bill.of(situation)
    back = situation.home.copy()
    for vm, (origin, _) in plan.ways.items():
        place = Place(cloud=origin)
        if place not in situation.places:
            place = Place(cloud=origin, doomed=True)
        if place in situation.places:
            back[situation.number[vm]] = situation.places.index(place)
    return bill.of_assignment(situation.home), bill.of_assignment(back)


def _missed(what: str, predicted: float, seen: float) -> str:
    if what == "cut":
        return (
            f"was to take {format_dollars_per_hour(predicted)} of egress off the bill and takes "
            f"{format_dollars_per_hour(seen)} off"
        )
    return f"was to save {format_dollars_per_hour(predicted)} and saves {format_dollars_per_hour(seen)}"


def _price(bill: CostRate) -> float:
    return bill.compute + bill.egress


def _cut(bill: CostRate) -> float:
    return bill.egress


_PARTS = {"price": _price, "cut": _cut}
