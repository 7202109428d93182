"""Which rules of policies don't hold, given where VMs run: for the time in violation.

Read anew from the rules' meaning, as the checker does; shares nothing with the planner. A VM that is down
breaks no rule. Rules of a kind that isn't known here are named by `unjudged`, so that a report can say so.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from transhume.knowledge.model import CloudName, Vm, VmName
from transhume.policies.model import (
    AnyOf,
    Forbid,
    Pin,
    Policy,
    Quota,
    Selector,
    Spread,
    Together,
)

KNOWN = (AnyOf, Forbid, Pin, Quota, Spread, Together)
KEYS: Mapping[type, str] = {AnyOf: "any_of"}
"""What a kind of rule is called in a policy file, where that isn't its name here in small letters."""


def label(policy: Policy, number: int) -> str:
    """Return what a rule is called in a report: its policy, its place there and its kind."""
    kind = type(policy.rules[number])
    return f"{policy.name}: rule {number + 1} ({KEYS.get(kind, kind.__name__.lower())})"


def rule_labels(policies: Sequence[Policy]) -> list[str]:
    """Return the names of all rules that are judged."""
    return [
        label(policy, number)
        for policy in policies
        for number, rule in enumerate(policy.rules)
        if isinstance(rule, KNOWN)
    ]


def unjudged(policies: Sequence[Policy]) -> list[str]:
    """Return the names of the rules that aren't judged."""
    return [
        label(policy, number)
        for policy in policies
        for number, rule in enumerate(policy.rules)
        if not isinstance(rule, KNOWN)
    ]


def broken_rules(
    policies: Sequence[Policy], vms: Mapping[VmName, Vm], cloud_of: Mapping[VmName, CloudName]
) -> frozenset[str]:
    """Return the names of the rules that don't hold where these VMs run."""
    return frozenset(_broken(policies, vms, cloud_of))


def _broken(
    policies: Sequence[Policy], vms: Mapping[VmName, Vm], cloud_of: Mapping[VmName, CloudName]
) -> Iterator[str]:
    for policy in policies:
        ours = {vm: cloud for vm, cloud in cloud_of.items() if policy.governs(vms[vm])}

        def those(who: Selector, ours: Mapping[VmName, CloudName] = ours) -> list[CloudName]:
            return [cloud for vm, cloud in ours.items() if who.matches(vms[vm])]

        for number, rule in enumerate(policy.rules):
            fails = False  # so of a kind that came later: see `unjudged`
            match rule:
                case Pin():
                    fails = any(cloud != rule.cloud for cloud in those(rule.who))
                case AnyOf():
                    fails = any(cloud not in rule.clouds for cloud in those(rule.who))
                case Forbid():
                    fails = any(cloud in rule.clouds for cloud in those(rule.who))
                case Together():
                    fails = len(set(those(rule.who))) > 1
                case Spread():
                    members = those(rule.who)
                    fails = bool(members) and len(set(members)) < rule.minimum
                case Quota():
                    fails = Counter(ours.values())[rule.cloud] > rule.vms
            if fails:
                yield label(policy, number)
