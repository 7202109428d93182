"""Says a problem of the planner as a large instance, where that's possible, and says why where it isn't.

A large instance knows rooms (see `rooms`), one limit on moves, and VMs that stay together (merged into one). It
knows no lateness, and a millisecond between two VMs must weigh as much for each byte of any pair, or nothing
for all. Where being somewhere breaks a rule, that weighs more than all money together. Constraints that may be
broken for a penalty are left out: an assignment that keeps them all the same is as good as it's said to be.

Here, and nowhere else, dollars become whole numbers, as fine as the sums allow: what searches, provers and
checks of large instances reckon with is exact from here on. By how much rounding can shift the cost of an
assignment is part of the translation. Prices of traffic stay what they are where they are whole micro-dollars
for 10^9 bytes, as those that people write; where they aren't (the mean over a tariff's hours ahead), they are
rounded to a four-millionth of the dearest.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from transhume.knowledge.model import BYTES_PER_GB, SECONDS_PER_HOUR
from transhume.plan.constraints import Assignment, Constraint, CutLimit, MoveLimit, SameCloud
from transhume.plan.problem import Problem
from transhume.plan.scale.instance import Instance, Integers
from transhume.plan.scale.level import Reals
from transhume.plan.scale.rooms import MOST_ROOMS, rooms, why_no_room

LARGEST = 2.0**51
"""What all costs may add up to in whole units: an eighth of what is exact in floating point."""
LARGEST_PRICE = 2.0**22
"""What the dearest egress becomes at most; the rest of the precision is the traffic's: there is more of it."""
MICRODOLLARS_PER_GB = 1e6 * BYTES_PER_GB / SECONDS_PER_HOUR
"""What a dollar per hour for each byte per second is."""
NOTICEABLE = 1e-6
"""Micro-dollars per GB that a whole number may be missed by: what floating point does to one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Translation:
    """A problem as a large instance."""

    instance: Instance
    group: Integers
    """Which VM of the instance each VM of the problem belongs to."""
    units_per_dollar: float
    error: float
    """By how many dollars per hour the instance's cost can differ from the problem's."""
    least_violation: float
    """No assignment breaks less; of those that break no more, the instance's cost is the problem's."""

    def back(self, assignment: Integers) -> Assignment:
        """Return the problem's assignment."""
        return assignment[self.group]


def why_not(problem: Problem) -> str:
    """Return what a large instance can't say of a problem; nothing where it can say all."""
    if len(_millisecond_prices(problem)) > 1:
        return "a millisecond weighs more for some pairs than for others"
    if problem.delays:
        return "jobs can be late"
    hard = [each for each in problem.constraints if math.isinf(each.penalty)]
    if len({each.members for each in hard if isinstance(each, MoveLimit)}) > 1:
        return "several limits on moves"
    if rooms(problem)[0].shape[1] > MOST_ROOMS:
        return f"more than {MOST_ROOMS} limits"
    return next(filter(None, (_why_unknown(problem, each) for each in hard)), "")


def translate(problem: Problem) -> Translation:
    """Return the instance that a problem is; `why_not` must have nothing against it."""
    group = _groups(problem)
    groups = int(group.max(initial=-1)) + 1
    asked = _byte_prices(problem)
    highest = float(asked.max(initial=0.0)) or 1.0
    traffic_dollars = float(problem.rates.sum()) * highest
    broken, least = _broken(problem)
    dollars = np.where(problem.allowed, problem.dollars, 0.0)
    dollars += broken * 2 * (_dearest(dollars) + traffic_dollars)
    units = LARGEST / max(_dearest(dollars) + traffic_dollars, 1e-9)
    pairs, rates = _merged_pairs(problem, group, groups)
    per_price = _units_of_price(asked, highest)
    prices = np.rint(asked * per_price)
    traffic = np.rint(rates * units / per_price)
    # traffic x price, less what it should be, is what each of the two is off by, times the other.
    by_traffic = np.abs(traffic * per_price / units - rates).sum() * highest
    by_price = traffic.sum() / units * np.abs(prices - asked * per_price).max(initial=0.0)
    return Translation(
        instance=_instance(problem, group, dollars * units, (pairs, traffic, prices)),
        group=group,
        least_violation=least,
        units_per_dollar=units,
        error=float(by_traffic + by_price) + groups / units,
    )


def _millisecond_prices(problem: Problem) -> Reals:
    """Return the dollars per hour that a millisecond adds to a byte per second, each that some pair has."""
    if not (len(problem.nearness) and problem.latency.any()):
        return np.zeros(0)
    both = problem.rates.sum(axis=1)
    talks = (both > 0) | (problem.nearness > 0)
    found = problem.nearness[talks] / np.maximum(both[talks], 1e-300)
    alike = len(found) == 0 or np.allclose(found, found[0], rtol=1e-12, atol=0.0)
    return found[:1] if alike else np.unique(found)


def _byte_prices(problem: Problem) -> Reals:
    """Return what a byte per second costs an hour from cloud to cloud, with what the way weighs."""
    a_millisecond = _millisecond_prices(problem)
    if not len(a_millisecond):
        return problem.egress
    return np.asarray(problem.egress + float(a_millisecond[0]) * problem.latency)


def _units_of_price(asked: Reals, highest: float) -> float:
    """Return what a price is to be multiplied with to become a whole number."""
    in_micro = asked * MICRODOLLARS_PER_GB
    whole = np.rint(in_micro)
    if (
        np.abs(in_micro - whole).max(initial=0.0) > NOTICEABLE
        or not 0 < whole.max() <= LARGEST_PRICE
    ):
        return LARGEST_PRICE / highest
    return MICRODOLLARS_PER_GB / float(np.gcd.reduce(whole.astype(np.int64).ravel()))


def _dearest(dollars: Reals) -> float:
    return float(np.abs(dollars).max(axis=1, initial=0.0).sum())


def _broken(problem: Problem) -> tuple[Reals, float]:
    """Return by VM and place what breaks rules needlessly, the smallest as 1; and what must be broken."""
    penalty = np.where(problem.allowed, problem.penalty, math.inf)
    least = penalty.min(axis=1, initial=math.inf)
    more = np.where(problem.allowed, problem.penalty - least[:, None], 0.0)
    return more / more[more > 0].min(initial=math.inf), float(least.sum())


def _why_unknown(problem: Problem, constraint: Constraint) -> str:
    match constraint:
        case MoveLimit():
            return ""
        case SameCloud(members=members):
            return _why_not_one(problem, members)
        case CutLimit():
            heavy, light = _by_weight(problem, constraint)
            if light > constraint.bytes_per_second:
                return "many small flows that mustn't be cut"
            pairs = problem.pairs[heavy].tolist()
            return next(filter(None, (_why_not_one(problem, pair) for pair in pairs)), "")
        case _:
            return why_no_room(problem, constraint)


def _why_not_one(problem: Problem, members: Sequence[int]) -> str:
    """Return why VMs that must share a cloud can't be merged into one; nothing where they can."""
    if len(set(problem.home[list(members)].tolist())) > 1:
        return "what belongs together is in several places"
    clouds = problem.cloud[problem.allowed[list(members)].any(axis=0)]
    return "one cloud has several places" if len(set(clouds.tolist())) < len(clouds) else ""


def _by_weight(problem: Problem, limit: CutLimit) -> tuple[Integers, float]:
    """Return the pairs that are too much for a limit by themselves, and what all others send."""
    pairs = np.array(limit.pairs, dtype=np.int64)
    sent = problem.rates[pairs].sum(axis=1)
    heavy = sent > limit.bytes_per_second * (1 + 1e-9) + 1e-6
    return pairs[heavy], float(sent[~heavy].sum())


def _sets(problem: Problem) -> Iterator[Sequence[int]]:
    """Return sets of VMs that must stay together."""
    for constraint in problem.constraints:
        if math.isinf(constraint.penalty):
            if isinstance(constraint, SameCloud):
                yield constraint.members
            elif isinstance(constraint, CutLimit):
                yield from problem.pairs[_by_weight(problem, constraint)[0]].tolist()


def _groups(problem: Problem) -> Integers:
    """Number the sets of VMs that must stay together."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    vms = len(problem.vms)
    joined = [(members[0], vm) for members in _sets(problem) for vm in members[1:]]
    one, other = np.array(joined, dtype=np.int64).reshape(-1, 2).T
    graph = coo_array((np.ones(len(one)), (one, other)), shape=(vms, vms))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.int64)


def _merged_pairs(problem: Problem, group: Integers, groups: int) -> tuple[Integers, Reals]:
    """Return pairs of groups, the lower number first, and what they send each other."""
    ends = group[problem.pairs.reshape(-1, 2)]
    rates = problem.rates.reshape(-1, 2).astype(np.float64)
    swapped = ends[:, 0] > ends[:, 1]
    ends[swapped], rates[swapped] = ends[swapped][:, ::-1], rates[swapped][:, ::-1]
    between = ends[:, 0] != ends[:, 1]
    keys, at = np.unique(ends[between] @ np.array([groups, 1]), return_inverse=True)
    total = np.zeros((len(keys), 2))
    np.add.at(total, at, rates[between])
    return np.stack([keys // groups, keys % groups], 1), total


def _instance(
    problem: Problem, group: Integers, costs: Reals, talk: tuple[Integers, Reals, Reals]
) -> Instance:
    pairs, traffic, prices = talk
    groups, clouds = int(group.max()) + 1, len(problem.places)
    unary = np.zeros((groups, clouds))
    np.add.at(unary, group, costs)
    limited, limits = rooms(problem)
    needs = np.hstack([problem.needs, limited])
    size = np.zeros((groups, needs.shape[1]), dtype=np.int64)
    np.add.at(size, group, needs)
    barred = np.zeros((groups, clouds), dtype=np.bool_)
    np.logical_or.at(barred, group, ~problem.allowed)
    home = np.zeros(groups, dtype=np.int64)
    home[group] = problem.home
    unit = np.maximum(1, np.gcd.reduce(size, axis=0))  # bytes of memory: most are whole gibibytes
    counted, move_limit = _move_limit(problem)
    capacity = np.hstack([problem.capacity, limits])
    return Instance(
        unary=np.rint(unary).astype(np.int64),
        allowed=~barred,
        pairs=pairs,
        traffic=traffic.astype(np.int64),
        apart=np.zeros(len(pairs), dtype=np.bool_),
        price=prices[np.ix_(problem.cloud, problem.cloud)].astype(np.int64),
        size=size // unit,
        capacity=np.minimum(capacity, size.sum(axis=0)) // unit,
        home=home,
        machines=np.bincount(group, weights=counted, minlength=groups).astype(np.int64),
        move_limit=move_limit,
    )


def _move_limit(problem: Problem) -> tuple[Integers, int]:
    """Return which VMs' moves count, as 1 and 0, and how many may be made."""
    limits = [
        each
        for each in problem.constraints
        if isinstance(each, MoveLimit) and math.isinf(each.penalty)
    ]
    counted = np.zeros(len(problem.vms), dtype=np.int64)
    counted[list(limits[0].members) if limits else slice(None)] = 1
    return counted, min([len(problem.vms), *(each.limit for each in limits)])
