"""What a replay may take for granted of a policy, so that it needn't ask the planner at every tick.

A judgement that depends on time in ways that aren't known here is asked for at every tick, which is always
right and merely slow. So it is with deadlines that are to come while their job isn't done, with `after`, and
with whatever policies learn to say later: a field or a rule that isn't in these lists counts as unknown unless
it says nothing.
"""

from dataclasses import MISSING, Field, fields, is_dataclass
from typing import Any

from transhume.policies.model import (
    AnyOf,
    AvailabilityGoal,
    ElectiveLimits,
    Forbid,
    KeepTogether,
    LatencyGoal,
    MoveBudget,
    Pin,
    Policy,
    PriceGoal,
    Quota,
    Selector,
    Spread,
    Together,
)

_KNOWN: dict[type, frozenset[str]] = {
    Policy: frozenset(
        (
            "name",
            "source",
            "applies_to",
            "mode",
            "rules",
            "keep_together",
            "price",
            "latency",
            "availability",
            "elective",
        )
    ),
    PriceGoal: frozenset(("budget_dollars_per_hour", "payback_seconds")),
    AvailabilityGoal: frozenset(("prefer", "evacuate_on_notice")),
    ElectiveLimits: frozenset(("min_gain", "hold_seconds", "cooldown_seconds", "budgets")),
    MoveBudget: frozenset(("moves", "per_seconds")),
    LatencyGoal: frozenset(("dollars_per_gb_ms",)),
    KeepTogether: frozenset(("cut_above_bytes_per_second",)),
    Selector: frozenset(("vms", "tags", "clusters")),
    Spread: frozenset(("who", "minimum", "hold")),
    Together: frozenset(("who",)),
    Pin: frozenset(("who", "cloud")),
    AnyOf: frozenset(("who", "clouds")),
    Forbid: frozenset(("who", "clouds", "hold")),
    Quota: frozenset(("cloud", "vms")),
}


def is_understood(said: object) -> bool:
    """Say whether all that a policy says is known here; a deadline and `after` are not."""
    if isinstance(said, tuple):
        return all(map(is_understood, said))
    if not is_dataclass(said):
        return True
    known = _KNOWN.get(type(said), frozenset())
    return all(
        is_understood(getattr(said, field.name))
        if field.name in known
        else _says_nothing(said, field)
        for field in fields(said)
    )


def _says_nothing(said: object, field: "Field[Any]") -> bool:
    value = getattr(said, field.name)
    if field.default is not MISSING:
        return bool(value == field.default)
    return field.default_factory is not MISSING and bool(value == field.default_factory())
