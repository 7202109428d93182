"""A plan, or the absence of one, as lines of text for a person. Faces print them; nobody parses them."""

from collections.abc import Iterator, Mapping

from transhume.knowledge.model import (
    CAUSES,
    Conflict,
    CostRate,
    MoveKind,
    NoPlan,
    Plan,
    Step,
    VmName,
)
from transhume.quantities import format_bytes, format_dollars_per_hour, format_duration


def explain_plan(plan: Plan) -> list[str]:
    """Return what a plan does, why, what it costs and what it brings."""
    lines = [
        f"{plan.id}: {_count(len(plan.steps), 'move')} because {plan.trigger}",
        f"policies: {', '.join(plan.policies)}",
        _verdict(plan),
        "",
    ]
    for step in plan.steps:
        lines += _step(step)
    lines += ["", *_bills(plan.before, plan.after, plan.horizon_seconds)]
    return lines + _unplaced(plan.unplaced) + _conflict(plan.conflict)


def explain_no_plan(no_plan: NoPlan) -> list[str]:
    """Return why nothing is done, and what the best alternative would bring."""
    lines = [
        f"nothing to do: {no_plan.reason}",
        f"asked because {no_plan.trigger}; policies: {', '.join(no_plan.policies) or 'none'}",
        f"the bill now: {_by_cause(no_plan.before)}",
    ]
    if no_plan.best_alternative is not None:
        lines.append(f"the best alternative: {_by_cause(no_plan.best_alternative)}")
    return lines + _unplaced(no_plan.unplaced) + _conflict(no_plan.conflict)


def _verdict(plan: Plan) -> str:
    saving = plan.saving_dollars_per_hour
    if saving >= 0:
        brings = f"saves {format_dollars_per_hour(saving)}"
        brings += f" ({saving / plan.before.total:.0%})" if plan.before.total > 0 else ""
    else:
        sake = f"and takes {plan.undoes} back" if plan.undoes else "for the rules' sake"
        brings = f"costs {format_dollars_per_hour(-saving)} more, {sake}"
    proof = "proved to be the best" if plan.optimal else "not proved to be the best"
    return f"{brings}, {proof}"


def _step(step: Step) -> list[str]:
    kind = "must" if step.kind is MoveKind.MANDATORY else "pays"
    prediction = step.prediction
    numbers = [
        format_bytes(prediction.bytes),
        format_duration(prediction.seconds),
        f"paused for {format_duration(prediction.downtime_seconds)}",
        f"${prediction.dollars:.4f} once",
    ]
    if step.saving_dollars_per_hour >= 0:
        numbers.append(f"saves {format_dollars_per_hour(step.saving_dollars_per_hour)}")
    else:
        numbers.append(f"costs {format_dollars_per_hour(-step.saving_dollars_per_hour)} more")
    if step.payback_seconds is not None:
        numbers.append(f"paid for after {format_duration(step.payback_seconds)}")
    if step.deadline is not None:
        numbers.append(f"by {step.deadline:%H:%M:%S} UTC")
    return [
        f"{step.stage + 1}. {step.vm}: {step.source} ({step.source_cloud}) to {step.destination} "
        f"({step.destination_cloud}), {kind}: {step.reason}",
        f"   {', '.join(numbers)}",
    ]


def _bills(before: CostRate, after: CostRate, horizon_seconds: float) -> Iterator[str]:
    """Return the bill before and after, one line a cause that matters."""
    for cause in CAUSES:
        was, will = getattr(before, cause), getattr(after, cause)
        if was or will:
            note = (
                f" (once, spread over {format_duration(horizon_seconds)})"
                if cause == "migration"
                else ""
            )
            yield (
                f"{cause:>10}: {format_dollars_per_hour(was)} now, "
                f"{format_dollars_per_hour(will)} then{note}"
            )
    yield (
        f"{'total':>10}: {format_dollars_per_hour(before.total)} now, "
        f"{format_dollars_per_hour(after.total)} then"
    )


def _by_cause(cost: CostRate) -> str:
    parts = [
        f"{cause} {format_dollars_per_hour(getattr(cost, cause))}"
        for cause in CAUSES
        if getattr(cost, cause)
    ]
    whole = format_dollars_per_hour(cost.total)
    return f"{whole} ({', '.join(parts)})" if parts else whole


def _unplaced(unplaced: Mapping[VmName, str]) -> list[str]:
    if not unplaced:
        return []
    return ["", "not as it should be:", *(f"  {vm}: {why}" for vm, why in unplaced.items())]


def _conflict(conflict: Conflict | None) -> list[str]:
    return ["", conflict.sentence] if conflict is not None else []


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
