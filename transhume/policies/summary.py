"""A policy in plain English: what it will do, for a person who wants to know before it does it."""

from collections.abc import Iterable, Iterator
from typing import assert_never

from transhume.policies.model import (
    EVERYTHING,
    AnyOf,
    DeadlineGoal,
    ElectiveLimits,
    Forbid,
    Hold,
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
from transhume.quantities import format_bytes, format_dollars_per_hour, format_duration, format_rate

_MODES = {
    Mode.RECOMMEND: "plans are only shown",
    Mode.APPROVE: "plans wait for a person's approval",
    Mode.AUTO: "plans are carried out without asking",
}
_EVACUATES = {
    Mode.RECOMMEND: "On a revocation notice it only shows how its VMs would leave that cloud.",
    Mode.APPROVE: "On a revocation notice its VMs leave that cloud once a person has approved it.",
    Mode.AUTO: "A revocation notice moves its VMs out of that cloud in time.",
}
_HOLDS = {Hold.AT_END: "when a plan has ended", Hold.ALWAYS: "at every instant"}


def summarize(policy: Policy) -> str:
    """Return one paragraph on what the policy does."""
    return " ".join(sentence for sentence in _sentences(policy) if sentence)


def _sentences(policy: Policy) -> Iterator[str]:
    yield f"{policy.name} governs {_who(policy.applies_to)}; {_MODES[policy.mode]}."
    if must := [rule for rule in policy.rules if not isinstance(rule, Ordered | Python)]:
        yield f"It moves VMs at any price where a rule is broken: {_rules(must)}."
    if rather := [rule for rule in policy.rules if isinstance(rule, Ordered)]:
        yield f"It has {_rules(rather)}."
    if own := [rule for rule in policy.rules if isinstance(rule, Python)]:
        yield f"Where its VMs may be is also for rules in Python to say: {_rules(own)}."
    yield _notice(policy)
    if policy.deadline:
        yield _deadline(policy.deadline)
    yield _elective(policy.elective, policy.price or PriceGoal())
    if policy.keep_together:
        rate = format_rate(policy.keep_together.cut_above_bytes_per_second)
        yield (
            f"Groups seen in the traffic are not split where more than {rate} would cross clouds."
        )
    if policy.price and policy.price.budget_dollars_per_hour is not None:
        budget = format_dollars_per_hour(policy.price.budget_dollars_per_hour)
        yield f"All its VMs together should cost at most {budget}."
    if policy.latency:
        worth = f"${policy.latency.dollars_per_gb_ms:g}"
        yield f"A millisecond between VMs that talk weighs {worth} for each GB that they exchange."
    if policy.availability.prefer:
        yield f"Where the price is equal it prefers {_or(policy.availability.prefer)}."
    if policy.migration:
        yield from _terms(policy.migration)
    if policy.after:
        within = format_duration(policy.after.within_seconds)
        expected = " and ".join(policy.after.expect)
        if policy.after.otherwise is Otherwise.UNDO:
            yield f"A plan is undone unless its effect on {expected} is there {within} after it."
        else:
            yield f"It is told where a plan's effect on {expected} isn't there {within} after it."


def _terms(terms: MigrationTerms) -> Iterator[str]:
    if terms.pause_seconds is not None:
        yield f"A move may stop a guest for {format_duration(terms.pause_seconds)}."
    if terms.at_most_seconds is not None:
        most = format_duration(terms.at_most_seconds)
        yield f"A migration that takes longer than {most} is broken off."
    if terms.post_copy_after_seconds is not None:
        after = format_duration(terms.post_copy_after_seconds)
        yield f"After {after} a guest goes on at the destination before all of its memory is there."
    if terms.copy_disks:
        yield "Disks that only the source has go along."


def _notice(policy: Policy) -> str:
    if policy.availability.evacuate_on_notice:
        return _EVACUATES[policy.mode]
    return "A revocation notice moves nothing."


def _deadline(deadline: DeadlineGoal) -> str:
    job, changeover = deadline.progress_job, deadline.changeover_seconds
    told = f", of which {job} tells how much is done" if job else ""
    slowed = (
        "as long as past moves did" if changeover is None else f"for {format_duration(changeover)}"
    )
    return (
        f"By {deadline.at:%Y-%m-%d %H:%M} UTC {format_duration(deadline.work_seconds)} of work "
        f"must be done{told}; a move is expected to slow it {slowed}. In revocable clouds it is by "
        f"{deadline.strategy}."
    )


def _elective(limits: ElectiveLimits, price: PriceGoal) -> str:
    if any(budget.frozen and budget.hours is None for budget in limits.budgets):
        return "It makes no other moves."
    conditions = [f"if a plan saves at least {limits.min_gain * 100:g}% of the cost"]
    if price.payback_seconds:
        conditions.append(
            f"if that pays for the moves within {format_duration(price.payback_seconds)}"
        )
    if limits.hold_seconds:
        conditions.append(f"once the reason has lasted {format_duration(limits.hold_seconds)}")
    conditions += [
        f"with {'' if budget.frozen else 'at most '}{budget_text(budget)}"
        for budget in limits.budgets
    ]
    cooldown = format_duration(limits.cooldown_seconds)
    return f"It makes other moves only {', '.join(conditions)}, and no VM again within {cooldown}."


def budget_text(budget: MoveBudget) -> str:
    """Return a budget as a person says it: `10 moves per 1h`, `no moves 08:00 to 18:00 (UTC)`."""
    amounts = []
    if budget.moves is not None:
        amounts.append(f"{budget.moves or 'no'} move{'' if budget.moves == 1 else 's'}")
    if budget.bytes is not None:
        amounts.append(format_bytes(budget.bytes))
    if budget.dollars is not None:
        amounts.append(f"${budget.dollars:.2f}")
    when = (
        f"from {budget.hours}"
        if budget.hours
        else f"per {format_duration(budget.per_seconds or 0)}"
    )
    return f"{' and '.join(amounts)} {when}"


def _rules(rules: Iterable[Rule]) -> str:
    return "; ".join(map(_rule, rules))


def _rule(rule: Rule) -> str:
    match rule:
        case Spread():
            return f"{_who(rule.who)} in at least {rule.minimum} clouds, {_HOLDS[rule.hold]}"
        case Together():
            return f"{_who(rule.who)} in one cloud"
        case Pin():
            return f"{_who(rule.who)} in {rule.cloud} only"
        case Forbid():
            return f"{_who(rule.who)} never in {_or(rule.clouds)}, {_HOLDS[rule.hold]}"
        case Quota():
            return f"at most {rule.vms} of its VMs in {rule.cloud}"
        case AnyOf():
            return f"{_who(rule.who)} only in {_or(rule.clouds)}"
        case Ordered():
            worth = format_dollars_per_hour(rule.worth_dollars_per_hour)
            return (
                f"{_who(rule.who)} in the first of {', '.join(rule.clouds)} that has room, unless a "
                f"later one is cheaper by more than {worth} a place"
            )
        case Python():
            return rule.name
    assert_never(rule)


def _who(who: Selector) -> str:
    if who == EVERYTHING:
        return "all VMs"
    kinds = (("VM", who.vms), ("tag", who.tags), ("cluster", who.clusters))
    return " or ".join(f"{kind} {_or(names)}" for kind, names in kinds if names)


def _or(names: Iterable[str]) -> str:
    return " or ".join(names)
