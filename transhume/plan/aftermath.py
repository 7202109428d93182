"""What follows from plans that were carried out: whose effect is looked at, what is told, what goes back."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from transhume.knowledge.model import Plan, PlanId, Snapshot, Symptom, SymptomKind
from transhume.knowledge.records import Effect
from transhume.plan.expectation import Executed, Finding, is_due, look_at_effect, terms_for
from transhume.plan.planner import make_undo
from transhume.plan.settings import PlannerSettings
from transhume.policies.model import Policy

WAITS = "it's taken back as soon as hosts answer that don't now"


@dataclass(frozen=True, slots=True, kw_only=True)
class LookBack:
    """What has become of the promises of plans that were carried out."""

    effects: tuple[tuple[PlanId, Effect], ...] = ()
    """What is found now, and wasn't before."""
    symptoms: tuple[Symptom, ...] = ()
    undo: Plan | None = None
    """The moves of the first plan that is to be taken back, the other way."""


def look_back(
    snapshot: Snapshot,
    policies: Sequence[Policy],
    executed: Sequence[Executed],
    settings: PlannerSettings,
) -> LookBack:
    """Look at the effect of each plan whose time has come; say how to take back what came to nothing.

    A plan is looked at once. One that is to be undone is looked at until that has begun, or its time is over:
    for want of hosts that give an answer it may have to wait.
    """
    looked = tuple(_looks(snapshot, policies, executed, settings))
    news = [found for found, _ in looked if found.effect is not found.executed.effect]
    return LookBack(
        effects=tuple((found.executed.plan.id, found.effect) for found in news),
        symptoms=tuple(
            Symptom(
                kind=SymptomKind.EFFECT_MISSED,
                subject=found.executed.plan.id,
                at=snapshot.at,
                detail=found.text,
            )
            for found in news
            if found.effect in (Effect.MISSED, Effect.KEPT)
        ),
        undo=next((undo for _, undo in looked if undo is not None), None),
    )


def _looks(
    snapshot: Snapshot,
    policies: Sequence[Policy],
    executed: Sequence[Executed],
    settings: PlannerSettings,
) -> Iterator[tuple[Finding, Plan | None]]:
    for each in executed:
        terms = terms_for(each.plan, snapshot, policies)
        if terms is None or not each.open or not is_due(each, terms, snapshot.at):
            continue
        found = look_at_effect(each, terms, snapshot, policies, settings)
        if found is None:
            continue
        if found.effect is not Effect.MISSED:
            yield found, None
            continue
        out_of_reach = _are_out_of_reach(snapshot, each.plan)
        undo = make_undo(snapshot, policies, each.plan, trigger=found.text, settings=settings)
        if isinstance(undo, Plan) and not out_of_reach:
            yield found, undo
            continue
        if snapshot.silent_hosts():
            later = _as_if_all_answered(snapshot)
            undo = make_undo(later, policies, each.plan, trigger=found.text, settings=settings)
        if isinstance(undo, Plan):
            yield replace(found, text=f"{found.text}; {WAITS}"), None
        else:
            text = f"{found.text}; it can't be taken back: {undo}"
            yield replace(found, effect=Effect.KEPT, text=text), None


def _are_out_of_reach(snapshot: Snapshot, plan: Plan) -> bool:
    """Say whether a host gives no answer that a plan's VMs are at."""
    at = {snapshot.placement.host_of[vm] for vm in plan.ways if vm in snapshot.vms}
    return not at.isdisjoint(snapshot.silent_hosts())


def _as_if_all_answered(snapshot: Snapshot) -> Snapshot:
    reports = snapshot.capacity.items()
    answered = {host: replace(report, silent=False) for host, report in reports}
    return replace(snapshot, capacity=answered)
