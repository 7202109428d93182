"""From what a user wrote (`schema`) to what the planner weighs (`model`)."""

from collections.abc import Mapping
from datetime import UTC
from types import MappingProxyType
from typing import TypeAlias, assert_never, cast

from transhume.knowledge.model import CloudName, ClusterName, JobName
from transhume.policies.calendar import Hours, Weekday
from transhume.policies.extension import PlannerRule, Verdict, View
from transhume.policies.model import (
    EVERYTHING,
    AnyOf,
    AvailabilityGoal,
    DeadlineGoal,
    DeadlineStrategy,
    ElectiveLimits,
    Expectation,
    Forbid,
    Hold,
    KeepTogether,
    LatencyGoal,
    MigrationTerms,
    Mode,
    MoveBudget,
    Ordered,
    Otherwise,
    Pin,
    Policy,
    PriceGoal,
    Python,
    Quota,
    Rule,
    Selector,
    Spread,
    Together,
)
from transhume.policies.schema import (
    AfterSchema,
    AnyOfSchema,
    AvailabilitySchema,
    BudgetSchema,
    DeadlineSchema,
    ElectiveSchema,
    ForbidSchema,
    KeepTogetherSchema,
    LatencySchema,
    MigrationSchema,
    OrderedSchema,
    PinSchema,
    PolicySchema,
    PriceSchema,
    PythonSchema,
    QuotaSchema,
    RuleSchema,
    SelectorSchema,
    SpreadSchema,
    TogetherSchema,
)

_Kind: TypeAlias = (
    SpreadSchema
    | TogetherSchema
    | PinSchema
    | ForbidSchema
    | QuotaSchema
    | AnyOfSchema
    | OrderedSchema
    | PythonSchema
)


class NotMade:
    """Stands for a rule in Python while only the words of a policy are looked at."""

    def judge(self, view: View) -> Verdict:
        """Say that there is nobody to ask."""
        raise LookupError("it was never made")


def to_policy(
    written: PolicySchema, source: str, made: Mapping[int, PlannerRule] = MappingProxyType({})
) -> Policy:
    """Return the policy that was written in the file `source`; `made` are its rules in Python, by place."""
    applies_to, elective = written.applies_to, written.elective
    return Policy(
        name=written.policy,
        source=source,
        applies_to=to_selector(applies_to) if applies_to else EVERYTHING,
        mode=Mode(written.mode),
        rules=tuple(to_rule(rule, made.get(n)) for n, rule in enumerate(written.rules)),
        keep_together=_to_keep_together(written.keep_together),
        price=_to_price(written.price) if written.price else None,
        latency=_to_latency(written.latency) if written.latency else None,
        availability=_to_availability(written.availability),
        deadline=_to_deadline(written.deadline) if written.deadline else None,
        elective=_to_limits(elective) if elective else ElectiveLimits(),
        after=_to_expectation(written.after) if written.after else None,
        migration=_to_terms(written.migration) if written.migration else None,
    )


def to_rule(written: RuleSchema, rule: PlannerRule | None = None) -> Rule:
    """Return the one rule of an entry; `rule` is what a rule in Python has come to."""
    match _kind(written):
        case SpreadSchema() as kind:
            return Spread(who=to_selector(kind), minimum=kind.min, hold=Hold(kind.hold))
        case TogetherSchema() as kind:
            return Together(who=to_selector(kind))
        case PinSchema() as kind:
            return Pin(who=to_selector(kind), cloud=CloudName(kind.cloud))
        case ForbidSchema() as kind:
            clouds = tuple(map(CloudName, kind.clouds))
            return Forbid(who=to_selector(kind), clouds=clouds, hold=Hold(kind.hold))
        case QuotaSchema() as kind:
            return Quota(cloud=CloudName(kind.cloud), vms=kind.vms)
        case AnyOfSchema() as kind:
            return AnyOf(who=to_selector(kind), clouds=tuple(map(CloudName, kind.clouds)))
        case OrderedSchema() as kind:
            return Ordered(
                who=to_selector(kind),
                clouds=tuple(map(CloudName, kind.clouds)),
                worth_dollars_per_hour=kind.worth,
            )
        case PythonSchema() as kind:
            parameters = dict(kind.model_extra or {})
            return Python(name=kind.name, parameters=parameters, rule=rule or NotMade())
        case kind:
            assert_never(kind)


def _kind(written: RuleSchema) -> _Kind:
    found = next((kind for _, kind in written if kind is not None), None)
    if found is None:
        raise TypeError("the schema lets no entry without a rule through")
    return cast("_Kind", found)


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


def _to_latency(written: LatencySchema) -> LatencyGoal:
    return LatencyGoal(dollars_per_gb_ms=written.worth)


def _to_availability(written: AvailabilitySchema | None) -> AvailabilityGoal:
    if written is None:
        return AvailabilityGoal()
    return AvailabilityGoal(
        prefer=tuple(map(CloudName, written.prefer)),
        evacuate_on_notice=written.evacuate_on_notice,
    )


def _to_terms(written: MigrationSchema) -> MigrationTerms:
    return MigrationTerms(
        pause_seconds=written.pause,
        at_most_seconds=written.at_most,
        post_copy_after_seconds=written.post_copy_after,
        copy_disks=written.disks == "copy",
    )


def _to_expectation(written: AfterSchema) -> Expectation:
    return Expectation(
        expect=tuple(written.expect),
        within_seconds=written.within,
        otherwise=Otherwise(written.otherwise),
    )


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
        budgets=tuple(map(_to_budget, written.budget)),
    )


def _to_budget(written: BudgetSchema) -> MoveBudget:
    return MoveBudget(
        moves=written.moves,
        bytes=written.bytes,
        dollars=written.dollars,
        per_seconds=written.per,
        hours=_to_hours(written) if written.between else None,
    )


def _to_hours(written: BudgetSchema) -> Hours:
    begins, ends = written.between or (0, 0)
    return Hours(
        begins_minute=begins,
        ends_minute=ends,
        days=tuple(day for day in Weekday if written.days is None or day in written.days),
        timezone=written.timezone or UTC,
    )
