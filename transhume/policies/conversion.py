"""From what a user wrote (`schema`) to what the planner weighs (`model`)."""

from typing import assert_never

from transhume.knowledge.model import CloudName, ClusterName, JobName
from transhume.policies.model import (
    EVERYTHING,
    AvailabilityGoal,
    DeadlineGoal,
    DeadlineStrategy,
    ElectiveLimits,
    Expectation,
    Forbid,
    Hold,
    KeepTogether,
    Mode,
    MoveBudget,
    Pin,
    Policy,
    PriceGoal,
    Quota,
    Rule,
    Selector,
    Spread,
    Together,
)
from transhume.policies.schema import (
    AfterSchema,
    AvailabilitySchema,
    DeadlineSchema,
    ElectiveSchema,
    ForbidSchema,
    KeepTogetherSchema,
    PinSchema,
    PolicySchema,
    PriceSchema,
    QuotaSchema,
    RuleSchema,
    SelectorSchema,
    SpreadSchema,
    TogetherSchema,
)


def to_policy(written: PolicySchema, source: str) -> Policy:
    """Return the policy that was written in the file `source`."""
    applies_to, elective = written.applies_to, written.elective
    return Policy(
        name=written.policy,
        source=source,
        applies_to=to_selector(applies_to) if applies_to else EVERYTHING,
        mode=Mode(written.mode),
        rules=tuple(to_rule(rule) for rule in written.rules),
        keep_together=_to_keep_together(written.keep_together),
        price=_to_price(written.price) if written.price else None,
        availability=_to_availability(written.availability),
        deadline=_to_deadline(written.deadline) if written.deadline else None,
        elective=_to_limits(elective) if elective else ElectiveLimits(),
        after=_to_expectation(written.after) if written.after else None,
    )


def to_rule(written: RuleSchema) -> Rule:
    """Return the one rule of an entry."""
    kind = written.spread or written.together or written.pin or written.forbid or written.quota
    match kind:
        case SpreadSchema():
            return Spread(who=to_selector(kind), minimum=kind.min, hold=Hold(kind.hold))
        case TogetherSchema():
            return Together(who=to_selector(kind))
        case PinSchema():
            return Pin(who=to_selector(kind), cloud=CloudName(kind.cloud))
        case ForbidSchema():
            clouds = tuple(map(CloudName, kind.clouds))
            return Forbid(who=to_selector(kind), clouds=clouds, hold=Hold(kind.hold))
        case QuotaSchema():
            return Quota(cloud=CloudName(kind.cloud), vms=kind.vms)
        case None:
            raise TypeError("the schema lets no entry without a rule through")
    assert_never(kind)


def to_selector(written: SelectorSchema) -> Selector:
    """Return the VMs that were meant; singular and plural keys add up."""
    return Selector(
        vms=_all(written.vm, written.vms),
        tags=_all(written.tag, written.tags),
        clusters=tuple(map(ClusterName, _all(written.cluster, written.clusters))),
    )


def _all(one: str | None, several: list[str] | None) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*((one,) if one else ()), *(several or ()))))


def _to_keep_together(written: KeepTogetherSchema | None) -> KeepTogether | None:
    if written is None or not written.measured:
        return None
    return KeepTogether(cut_above_bytes_per_second=written.cut_above)


def _to_price(written: PriceSchema) -> PriceGoal:
    return PriceGoal(
        budget_dollars_per_hour=written.budget,
        payback_seconds=written.payback,
    )


def _to_availability(written: AvailabilitySchema | None) -> AvailabilityGoal:
    if written is None:
        return AvailabilityGoal()
    return AvailabilityGoal(
        prefer=tuple(map(CloudName, written.prefer)),
        evacuate_on_notice=written.evacuate_on_notice,
    )


def _to_expectation(written: AfterSchema) -> Expectation:
    return Expectation(expect=tuple(written.expect), within_seconds=written.within)


def _to_deadline(written: DeadlineSchema) -> DeadlineGoal:
    progress = written.progress
    job = (progress.redis or progress.job) if progress else None
    return DeadlineGoal(
        at=written.at,
        work_seconds=written.work,
        progress_job=JobName(job) if job else None,
        changeover_seconds=written.changeover,
        strategy=DeadlineStrategy(written.strategy),
    )


def _to_limits(written: ElectiveSchema) -> ElectiveLimits:
    return ElectiveLimits(
        min_gain=written.min_gain,
        hold_seconds=written.hold,
        cooldown_seconds=written.cooldown,
        budgets=tuple(MoveBudget(moves=b.moves, per_seconds=b.per) for b in written.budget),
    )
