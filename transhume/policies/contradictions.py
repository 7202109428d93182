"""Rules of one policy that can't both hold, found before any VM is looked at.

Only what is certain from the words: two selectors meet when they name the same VM, tag or cluster. Whether
the rules of several policies can hold on the clouds as they are is for the planner to say.
"""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from itertools import combinations

from transhume.policies.model import (
    EVERYTHING,
    AnyOf,
    Forbid,
    Pin,
    Rule,
    Selector,
    Spread,
    Together,
)


def contradictions(rules: Sequence[Rule]) -> Iterator[tuple[int, int, str]]:
    """Yield, for each contradiction, the places of the earlier and the later rule, and what clashes."""
    for (i, earlier), (j, later) in combinations(enumerate(rules), 2):
        clash = _clash(earlier, later) or _clash(later, earlier)
        if clash:
            yield i, j, clash


def _clash(one: Rule, other: Rule) -> str:
    match one, other:
        case Pin(), Pin() if one.cloud != other.cloud and _meet(one.who, other.who):
            return f"the same VMs are pinned to {one.cloud} and to {other.cloud}"
        case Pin(), Forbid() if one.cloud in other.clouds and _meet(one.who, other.who):
            return f"the same VMs are pinned to {one.cloud} and forbidden there"
        case Spread(), Together() if _within(one.who, other.who):
            return f"the same VMs are in {one.minimum} clouds and together in one"
        case Spread(), Pin() if _within(one.who, other.who):
            return f"the same VMs are in {one.minimum} clouds and all pinned to {other.cloud}"
        case Pin(), AnyOf() if one.cloud not in other.clouds and _meet(one.who, other.who):
            return f"the same VMs are pinned to {one.cloud}, which isn't among their clouds"
        case AnyOf(), AnyOf() if _apart(one, other) and _meet(one.who, other.who):
            return "no cloud is in both lists of the same VMs"
        case AnyOf(), Forbid() if set(one.clouds) <= set(other.clouds) and _meet(
            one.who, other.who
        ):
            return "all clouds that the same VMs may be in are forbidden to them"
        case Spread(), AnyOf() if len(set(other.clouds)) < one.minimum and _within(
            one.who, other.who
        ):
            return f"the same VMs are in {one.minimum} clouds and may be in fewer"
    return ""


def _apart(one: AnyOf, other: AnyOf) -> bool:
    return set(one.clouds).isdisjoint(other.clouds)


def _meet(one: Selector, other: Selector) -> bool:
    """Say whether some VM is surely meant by both, provided that any VM is meant by them."""
    if EVERYTHING in (one, other):
        return True
    return (
        any(_same(a, b) for a in one.vms for b in other.vms)
        or not set(one.tags).isdisjoint(other.tags)
        or not set(one.clusters).isdisjoint(other.clusters)
    )


def _same(one: str, other: str) -> bool:
    return fnmatchcase(one, other) or fnmatchcase(other, one)


def _within(part: Selector, whole: Selector) -> bool:
    if whole == EVERYTHING:
        return True
    return part != EVERYTHING and (
        all(any(fnmatchcase(a, b) for b in whole.vms) for a in part.vms)
        and set(part.tags) <= set(whole.tags)
        and set(part.clusters) <= set(whole.clusters)
    )
