"""A plan, or the absence of one, as lines of text for a person. Faces print them; nobody parses them.

Tells of each VM that moves in short, and of what stays though moving it would pay; `explain_vm` tells all.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace

from transhume.knowledge.model import (
    CAUSES,
    Conflict,
    CostRate,
    Explanation,
    MoveKind,
    NoPlan,
    Plan,
    Step,
    VmName,
)
from transhume.plan.standing import standing
from transhume.plan.vm_lines import in_short, limit_lines, wrapped
from transhume.quantities import format_bytes, format_dollars_per_hour, format_duration

MOST_HELD_BACK = 5
"""Of the reasons why VMs stay though moving them would pay, as many are told."""
MOST_NAMES = 12
NOT_CONVERGING = (
    "if the guest is slowed or starts there early: it rewrites its memory faster than it is sent"
)
LEAST_DOLLARS = 0.00005
"""Less isn't worth a word."""


def explain_plan(plan: Plan) -> list[str]:
    """Return what a plan does, why, what it costs and what it brings."""
    lines = [
        *wrapped(f"{plan.id}: {_count(len(plan.steps), 'move')} because {plan.trigger}", ""),
        *wrapped(f"policies: {', '.join(plan.policies)}", ""),
        _verdict(plan),
        "",
    ]
    told, reason = "", ""
    for step in plan.steps:
        same = step.reason == reason and step.group is not None
        lines += explain_step(replace(step, reason="for the same reason") if same else step)
        reason = step.reason
        known = plan.explanations.get(step.vm)
        short = in_short(known) if known is not None else ""
        if short and short != told:
            lines += wrapped(short, "   ")
        told = short
    if len(plan.steps) > 1:
        lines += wrapped(_in_all(plan), "   ")
    lines += ["", *_bills(plan.before, plan.after, plan.horizon_seconds)]
    return lines + _unplaced(plan.unplaced) + _conflict(plan.conflict) + _held_back(plan)


def explain_no_plan(no_plan: NoPlan) -> list[str]:
    """Return why nothing is done, and what the best alternative would bring."""
    policies = ", ".join(no_plan.policies) or "none"
    lines = [
        *wrapped(f"nothing to do: {no_plan.reason}", ""),
        *wrapped(f"asked because {no_plan.trigger}; policies: {policies}", ""),
        *wrapped(f"the bill now: {_by_cause(no_plan.before)}", ""),
    ]
    if no_plan.best_alternative is not None:
        lines += wrapped(f"the best alternative: {_by_cause(no_plan.best_alternative)}", "")
    return lines + _unplaced(no_plan.unplaced) + _conflict(no_plan.conflict) + _held_back(no_plan)


def _held_back(decision: Plan | NoPlan) -> list[str]:
    """Return which VMs stay though moving them would pay, and what binds the whole decision."""
    found: dict[str, list[Explanation]] = {}
    for each in decision.explanations.values():
        if each.destination is None and any(each.hindered) and each.vm not in decision.unplaced:
            found.setdefault(each.reason, []).append(each)
    lines = ["", "not moved, though it would pay:"] if found else []
    for reason, those in list(found.items())[:MOST_HELD_BACK]:
        names = ", ".join(each.vm for each in those[:MOST_NAMES])
        more = f" and {len(those) - MOST_NAMES} more" if len(those) > MOST_NAMES else ""
        lines += wrapped(f"{names}{more}: {reason}")
    if len(found) > MOST_HELD_BACK:
        lines.append(f"  and {_count(len(found) - MOST_HELD_BACK, 'other reason')}, for other VMs")
    if decision.limits:
        lines += ["", *limit_lines(decision.limits)]
    return lines


def _verdict(plan: Plan) -> str:
    saving = plan.saving_dollars_per_hour
    if saving >= 0:
        share = f" ({saving / plan.before.total:.0%})" if plan.before.total > 0 else ""
        brings = f"saves {format_dollars_per_hour(saving)}{share}, what the moves cost included"
    else:
        sake = f"and takes {plan.undoes} back" if plan.undoes else "for the rules' sake"
        brings = f"costs {format_dollars_per_hour(-saving)} more, {sake}"
    return f"{brings}; {standing(plan)}"


def explain_step(step: Step) -> list[str]:
    """Return what a step does, why, what it takes and what it brings."""
    kind = "must" if step.kind is MoveKind.MANDATORY else "it pays"
    prediction = step.prediction
    numbers = [
        format_bytes(prediction.bytes),
        format_duration(prediction.seconds),
        f"paused for about {format_duration(prediction.downtime_seconds)}",
        f"${prediction.dollars:.4f} once",
    ]
    if step.split_dollars >= LEAST_DOLLARS:
        numbers.append(f"${step.split_dollars:.4f} more while its group is split")
    if step.saving_dollars_per_hour >= 0:
        numbers.append(f"saves {format_dollars_per_hour(step.saving_dollars_per_hour)}")
    else:
        numbers.append(f"costs {format_dollars_per_hour(-step.saving_dollars_per_hour)} more")
    if step.starts_after_seconds > 0:
        numbers.append(f"begins after {format_duration(step.starts_after_seconds)}")
    if step.payback_seconds is not None:
        numbers.append(f"paid for after {format_duration(step.payback_seconds)}")
    if step.deadline is not None:
        numbers.append(f"by {step.deadline:%H:%M:%S} UTC")
    if not prediction.converges:
        numbers.append(f"ends only {NOT_CONVERGING}")
    start = f"{step.stage + 1}. "
    way = (
        f"{step.vm}: {step.source} ({step.source_cloud}) to {step.destination} "
        f"({step.destination_cloud}), {kind}: {step.reason}"
    )
    return [*wrapped(way, start), *wrapped(", ".join(numbers), " " * len(start))]


def _in_all(plan: Plan) -> str:
    bytes_sent = sum(step.prediction.bytes for step in plan.steps)
    dollars = sum(step.prediction.dollars + step.split_dollars for step in plan.steps)
    return f"in all: {format_bytes(bytes_sent)}, ${dollars:.4f} once"


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
    told = (line for vm, why in unplaced.items() for line in wrapped(f"{vm}: {why}"))
    return ["", "not as it should be:", *told]


def _conflict(conflict: Conflict | None) -> list[str]:
    return ["", *wrapped(conflict.sentence, "")] if conflict is not None else []


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"
