"""The explanation of one VM as lines of text for a person, and the sentences that those of a plan share.

Every line fits `WIDTH` columns. Numbers past which the answer changes are rounded away from what is now, so
that what the text says is true of the rounded number too.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from textwrap import wrap

from transhume.knowledge.model import (
    BYTES_PER_GIB,
    Alternative,
    BillLine,
    Explanation,
    Hindrance,
    Limit,
    Parameter,
    TurningPoint,
)
from transhume.plan.explaining.words import SAME_DOLLARS
from transhume.quantities import format_dollars_per_hour, format_duration, format_rate

WIDTH = 100
FIGURES = 4
"""Of a number past which the answer changes."""
RATE_FIGURES = 3
"""As rates are written."""

NAMES = {
    "compute": "running it",
    "egress": "traffic with",
    "migration": "the move",
    "risk": "the risk of losing it",
    "lateness": "its job's being late",
    "latency": "the way to those it talks to",
}


def explain_vm(
    explanation: Explanation, limits: Sequence[Limit] = (), horizon_seconds: float | None = None
) -> list[str]:
    """Return why a VM goes where it goes, or stays.

    Args:
        explanation: the VM's.
        limits: the decision's; those that concern the VM are told.
        horizon_seconds: what the cost of a move is spread over in the bill.
    """
    lines = [*wrapped(_headline(explanation), "")]
    if explanation.reason:
        lines += ["", "why", *wrapped(explanation.reason)]
    for demand in explanation.demands:
        lines += wrapped(f"it must leave: {demand}")
    if explanation.bill:
        lines += ["", "what it changes, an hour", *_bill(explanation, horizon_seconds)]
    if explanation.alternatives:
        lines += ["", "where else it could be, and how the bill of all VMs would differ"]
        lines += _alternatives(explanation)
        lines += ["", "the next best", *wrapped(runner_up(explanation))]
    changes = turning_points(explanation)
    if changes:
        lines += ["", "what would change the answer"]
        lines += [line for change in changes for line in wrapped(change, "  - ")]
        if explanation.least_gain_dollars_per_hour >= SAME_DOLLARS and not explanation.demands:
            least = format_dollars_per_hour(explanation.least_gain_dollars_per_hour)
            lines += wrapped(
                f"To be made, all moves that aren't needed must save {least} together."
            )
    concerned = [limit for limit in limits if _concerns(limit, explanation)]
    if concerned:
        lines += ["", *limit_lines(concerned)]
    return lines


def runner_up(explanation: Explanation) -> str:
    """Return the best alternative that could be had, and by how much it's worse."""
    other = explanation.runner_up
    if other is None:
        return "there is none: something stands against every other place"
    what = _going(explanation, other)
    dollars = other.dollars_per_hour
    if dollars is None:
        return f"{what}; what that would cost isn't known"
    if abs(dollars) < SAME_DOLLARS:
        return f"{what}, which costs the same"
    return f"{what}, for {format_dollars_per_hour(dollars)} more"


def turning_points(explanation: Explanation) -> list[str]:
    """Return the changes each of which would turn the answer by itself."""
    points = explanation.turning_points
    rooms: dict[str, list[TurningPoint]] = {}
    lines = []
    for point in points:
        if point.parameter in (Parameter.VCPUS, Parameter.MEMORY):
            rooms.setdefault(point.about, []).append(point)
        else:
            lines.append(f"{_condition(point)}: {_then(explanation, point)}")
    for cloud, lacking in rooms.items():
        more = " and ".join(_more_room(point) for point in lacking)
        lines.append(f"{cloud} has {more} free: {_then(explanation, lacking[0])}")
    for other in explanation.hindered:
        undone = _UNDONE.get(other.hindrances[0]) if len(other.hindrances) == 1 else None
        if undone is not None:
            saved = format_dollars_per_hour(-(other.dollars_per_hour or 0.0))
            whom = _for_whom(explanation, alone=other.alone)
            lines.append(f"{undone}: {other.cloud} would save {saved}{whom}")
    return list(dict.fromkeys(lines))


def limit_lines(limits: Iterable[Limit]) -> Iterator[str]:
    """Return what holds a decision back, and what loosening it a little would be worth."""
    yield "what holds it back, and what a little more would be worth"
    for limit in limits:
        yield from wrapped(_limit(limit), "  - ")


_UNDONE = {
    Hindrance.RULE: "the rule is lifted",
    Hindrance.NETWORK: "the cloud gets the network",
    Hindrance.QUOTA: "the quota is raised",
    Hindrance.SPREAD: "the rule is lifted",
    Hindrance.TOGETHER: "the rule is lifted",
    Hindrance.KEEP_TOGETHER: "the rule is lifted",
    Hindrance.BUDGET: "the budget of moves is raised, or renewed by time",
    Hindrance.REST: "the rest is over",
    Hindrance.GAIN: "the policy asks for less",
}
"""By hindrance: what would have to happen to it."""


def _headline(explanation: Explanation) -> str:
    policies = ", ".join(explanation.policies)
    whose = (
        (f"policy {policies}" if len(explanation.policies) == 1 else f"policies {policies}")
        if policies
        else "no policy selects it"
    )
    if explanation.destination is None:
        return f"{explanation.vm} stays in {explanation.cloud} ({whose})."
    mates = [name for name in explanation.bundle if name != explanation.vm]
    more = explanation.bundle_size - 1 - len(mates)
    names = ", ".join(mates) + (f" and {more} more" if more else "")
    with_whom = f", together with {names}" if mates else ""
    way = f"from {explanation.cloud} to {explanation.destination}"
    if explanation.destination == explanation.cloud:
        way = f"to another host of {explanation.cloud}"
    return f"{explanation.vm} moves {way}{with_whom} ({whose})."


def _bill(explanation: Explanation, horizon_seconds: float | None) -> Iterator[str]:
    rows = [
        (_label(line, horizon_seconds), line.now, line.then)
        for line in explanation.bill
        if max(abs(line.now), abs(line.then)) >= SAME_DOLLARS
    ]
    now = sum(line.now for line in explanation.bill)
    then = sum(line.then for line in explanation.bill)
    rows.append(("in all", now, then))
    width = min(max(len(label) for label, _, _ in rows), WIDTH - 30)
    yield f"  {'':<{width}}  {'now':>11}  {'then':>11}"
    for label, was, will in rows:
        shown = label if len(label) <= width else f"{label[: width - 1]}…"
        yield (
            f"  {shown:<{width}}  {format_dollars_per_hour(was):>11}  "
            f"{format_dollars_per_hour(will):>11}"
        )


def _label(line: BillLine, horizon_seconds: float | None) -> str:
    name = NAMES.get(line.cause, line.cause)
    if line.cause == "egress":
        return f"{name} {line.about}"
    if line.cause == "migration" and horizon_seconds:
        return f"{name}, once, spread over {format_duration(horizon_seconds)}"
    return name


def _alternatives(explanation: Explanation) -> Iterator[str]:
    others = explanation.alternatives
    places = [_place(explanation, other) for other in others]
    amounts = [_dearer(other) for other in others]
    width, numbers = (min(40, max(map(len, column))) for column in (places, amounts))
    for other, place, amount in zip(others, places, amounts, strict=True):
        start = f"  {place:<{width}}  {amount:>{numbers}}"
        barred = f"  but {other.barred}" if other.barred else ""
        yield from _broken(f"{start}{barred}", width + numbers + 6)


def _place(explanation: Explanation, other: Alternative) -> str:
    where = str(other.cloud)
    if not other.stays and other.cloud == explanation.cloud:
        where = f"another host of {other.cloud}"
    if explanation.bundle_size == 1:
        return f"{where} (as now)" if other.stays else where
    if other.alone:
        return f"{where}: only {explanation.vm}{' stays' if other.stays else ''}"
    return f"{where}: {_who(explanation, alone=False)}{' stay' if other.stays else ''}"


def _for_whom(explanation: Explanation, *, alone: bool) -> str:
    return f" for {_who(explanation, alone=alone)}" if explanation.bundle_size > 1 else ""


def _who(explanation: Explanation, *, alone: bool) -> str:
    if alone:
        return f"{explanation.vm} alone" if explanation.bundle_size > 1 else str(explanation.vm)
    return "both" if explanation.bundle_size == 2 else f"all {explanation.bundle_size}"


def _dearer(other: Alternative) -> str:
    if other.dollars_per_hour is None:
        return "not known"
    if abs(other.dollars_per_hour) < SAME_DOLLARS:
        return "the same"
    sign = "more" if other.dollars_per_hour > 0 else "less"
    return f"{format_dollars_per_hour(abs(other.dollars_per_hour))} {sign}"


def _going(explanation: Explanation, other: Alternative) -> str:
    who = _who(explanation, alone=other.alone)
    if other.stays:
        return f"leave {who} in {other.cloud}"
    if other.cloud == explanation.cloud:
        return f"move {who} to another host of {other.cloud}"
    return f"move {who} to {other.cloud}"


def in_short(explanation: Explanation) -> str:
    """Return the next best and the first change that would turn the answer, in one line; "" for neither."""
    best = f"next best: {runner_up(explanation)}" if explanation.runner_up is not None else ""
    changes = turning_points(explanation)
    condition, _, then = changes[0].partition(": ") if changes else ("", "", "")
    change = f"if {condition}, {then}" if changes else ""
    return "; ".join(part for part in (best, change) if part)


def _then(explanation: Explanation, point: TurningPoint) -> str:
    whom = _for_whom(explanation, alone=point.alone)
    what = f"staying in {point.cloud}" if point.stays else str(point.cloud)
    return f"{what} is cheaper{whom}"


def _condition(point: TurningPoint) -> str:
    direction = "more" if point.above else "less"
    edge = beyond(point.threshold, point.now)
    match point.parameter:
        case Parameter.VCPU_PRICE:
            now = f"(now {_dollars(point.now)})"
            return f"{point.about} asks {direction} than {_dollars(edge)} per vCPU-hour {now}"
        case Parameter.GIB_PRICE:
            now = f"(now {_dollars(point.now)})"
            return f"{point.about} asks {direction} than {_dollars(edge)} per GiB-hour {now}"
        case Parameter.TRAFFIC:
            peer = point.about or "all others together"
            now = f"(now {format_rate(point.now)})"
            edge = beyond(point.threshold, point.now, RATE_FIGURES)
            return f"traffic with {peer} is {direction} than {format_rate(edge)} {now}"
        case Parameter.PAYBACK:
            limit, needed = format_duration(point.now), format_duration(math.ceil(edge / 60) * 60)
            return f"a move may take {needed} to pay for itself (the limit is {limit})"
        case _:
            return f"{point.about} has {_more_room(point)} free"


def _more_room(point: TurningPoint) -> str:
    more = point.threshold - point.now
    if point.parameter is Parameter.VCPUS:
        return f"{more:.0f} more vCPU{'' if more == 1 else 's'}"
    gib = beyond(more / BYTES_PER_GIB, 0.0)
    mib = math.ceil(more / (1 << 20) - 1e-9)
    return f"{gib:g} GiB more memory" if gib >= 1 else f"{mib} MiB more memory"


def beyond(threshold: float, now: float, figures: int = FIGURES) -> float:
    """Round a number to a few figures, away from another one: what is past it is past the number itself."""
    if threshold == 0 or not math.isfinite(threshold):
        return threshold
    exact = Decimal(threshold)
    step = Decimal(1).scaleb(exact.adjusted() - figures + 1)
    up = ROUND_CEILING if threshold > now else ROUND_FLOOR
    return float((exact / step).to_integral_value(up) * step)


def _limit(limit: Limit) -> str:
    least = "at least " if limit.least else ""
    saved = f"{least}{format_dollars_per_hour(limit.saves_dollars_per_hour)}"
    by_unit = ""
    if limit.dollars_per_vcpu_hour is not None:
        by_unit = f" ({format_dollars_per_hour(limit.dollars_per_vcpu_hour)} a vCPU)"
    if limit.dollars_per_gib_hour is not None:
        by_unit = f" ({format_dollars_per_hour(limit.dollars_per_gib_hour)} a GiB)"
    match limit.kind:
        case Hindrance.ROOM:
            return f"room in {limit.about}: {limit.looser}, would save {saved}{by_unit}"
        case Hindrance.BUDGET:
            return f"the budget of {limit.about}: {limit.looser} would save {saved}"
        case _:
            return f"{limit.about}: {limit.looser}, {saved} would be saved"


def _concerns(limit: Limit, explanation: Explanation) -> bool:
    barred = any(
        limit.about == other.cloud if limit.kind is Hindrance.ROOM else limit.about in other.barred
        for other in explanation.hindered
    )
    return barred or explanation.vm in limit.vms


def _dollars(amount: float) -> str:
    text = f"{Decimal(f'{amount:.6g}'):f}"
    whole, _, fraction = text.partition(".")
    return f"${whole}.{fraction:0<2}"


def wrapped(text: str, bullet: str = "  ") -> list[str]:
    """Return a text as lines that fit, all but the first indented by what stands before it."""
    return _broken(bullet + text, len(bullet)) if text else [""]


def _broken(line: str, indent: int) -> list[str]:
    return wrap(line, WIDTH, subsequent_indent=" " * indent, break_on_hyphens=False)
