"""Says a problem of the planner as a large instance, where that's possible, and says why where it isn't.

A large instance knows rooms, one limit on all moves, and VMs that stay together (merged into one). It knows no
other constraint, no lateness and no penalties; each cloud must be one place, and a millisecond between two VMs
must weigh as much for each byte of any pair, or nothing for all.

Here, and nowhere else, dollars become whole numbers, as fine as the sums allow: what searches, provers and
checks of large instances reckon with is exact from here on. By how much rounding can shift the cost of an
assignment is part of the translation. Prices of traffic stay what they are where they are whole micro-dollars
for 10^9 bytes, as those that people write; where they aren't (the mean over a tariff's hours ahead), they are
rounded to a four-millionth of the dearest.
"""

import math
from dataclasses import dataclass

import numpy as np

from transhume.knowledge.model import BYTES_PER_GB, SECONDS_PER_HOUR
from transhume.plan.constraints import Assignment, Constraint, MoveLimit, SameCloud
from transhume.plan.problem import Problem
from transhume.plan.scale.instance import Instance, Integers
from transhume.plan.scale.level import Reals

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

    def back(self, assignment: Integers) -> Assignment:
        """Return the problem's assignment."""
        return assignment[self.group]


def why_not(problem: Problem) -> str:
    """Return what a large instance can't say of a problem; nothing where it can say all."""
    if len(problem.egress) != len(problem.places) or any(p.doomed for p in problem.places):
        return "a cloud is several places"
    if len(_millisecond_prices(problem)) > 1:
        return "a millisecond weighs more for some pairs than for others"
    if problem.delays:
        return "jobs can be late"
    if np.where(problem.allowed, problem.penalty, 0.0).any():
        return "being somewhere breaks a rule"
    strange = (each for each in problem.constraints if not _known(problem, each))
    return next((f"no {type(each).__name__} there" for each in strange), "")


def translate(problem: Problem) -> Translation:
    """Return the instance that a problem is; `why_not` must have nothing against it."""
    group = _groups(problem)
    groups = int(group.max(initial=-1)) + 1
    dollars = np.where(problem.allowed, problem.dollars, 0.0)
    dearest = float(np.abs(dollars).max(axis=1, initial=0.0).sum())
    asked = _byte_prices(problem)
    highest = float(asked.max(initial=0.0)) or 1.0
    dearest += float(problem.rates.sum()) * highest
    units = LARGEST / max(dearest, 1e-9)
    pairs, rates = _merged_pairs(problem, group, groups)
    per_price = _units_of_price(asked, highest)
    prices = np.rint(asked * per_price)
    traffic = np.rint(rates * units / per_price)
    # traffic x price, less what it should be, is what each of the two is off by, times the other.
    by_traffic = np.abs(traffic * per_price / units - rates).sum() * highest
    by_price = traffic.sum() / units * np.abs(prices - asked * per_price).max(initial=0.0)
    return Translation(
        instance=_instance(problem, group, units, (pairs, traffic.astype(np.int64), prices)),
        group=group,
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


def _known(problem: Problem, constraint: Constraint) -> bool:
    match constraint:
        case MoveLimit(members=members):
            return math.isinf(constraint.penalty) and bool(
                set(np.flatnonzero(problem.movable).tolist()) <= set(members)
            )
        case SameCloud(members=members):
            hard = math.isinf(constraint.penalty)
            return hard and len(set(problem.home[list(members)].tolist())) <= 1
        case _:
            return False


def _groups(problem: Problem) -> Integers:
    """Number the sets of VMs that must stay together."""
    leader = np.arange(len(problem.vms))
    for constraint in problem.constraints:
        if isinstance(constraint, SameCloud):
            joined = np.isin(leader, leader[list(constraint.members)])
            leader[joined] = leader[joined].min(initial=len(leader))
    return np.unique(leader, return_inverse=True)[1].astype(np.int64)


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
    problem: Problem, group: Integers, units: float, talk: tuple[Integers, Integers, Integers]
) -> Instance:
    pairs, traffic, prices = talk
    groups, clouds = int(group.max()) + 1, len(problem.places)
    unary, size = np.zeros((groups, clouds)), np.zeros((groups, 2), dtype=np.int64)
    np.add.at(unary, group, np.where(problem.allowed, problem.dollars, 0.0))
    np.add.at(size, group, problem.needs)
    barred = np.zeros((groups, clouds), dtype=np.bool_)
    np.logical_or.at(barred, group, ~problem.allowed)
    home = np.zeros(groups, dtype=np.int64)
    home[group] = problem.home
    price = prices.astype(np.int64)
    unit = np.maximum(1, np.gcd.reduce(size, axis=0))  # bytes of memory: most are whole gibibytes
    limits = [c.limit for c in problem.constraints if isinstance(c, MoveLimit)]
    return Instance(
        unary=np.rint(unary * units).astype(np.int64),
        allowed=~barred,
        pairs=pairs,
        traffic=traffic,
        apart=np.zeros(len(pairs), dtype=np.bool_),
        price=price,
        size=size // unit,
        capacity=np.minimum(problem.capacity, size.sum(axis=0)) // unit,
        home=home,
        machines=np.bincount(group, minlength=groups),
        move_limit=min([len(problem.vms), *limits]),
    )
