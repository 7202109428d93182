"""Says a problem of the planner as a large instance, where that's possible, and says why where it isn't.

A large instance knows rooms, one limit on all moves, and VMs that stay together (merged into one). It knows no
other constraint, no lateness and no penalties, and each cloud must be one place. Dollars become whole numbers
as fine as the sums allow; by how much rounding can shift a cost is part of the translation.
"""

import math
from dataclasses import dataclass

import numpy as np

from transhume.plan.constraints import Assignment, Constraint, MoveLimit, SameCloud
from transhume.plan.problem import Problem
from transhume.plan.scale.instance import Instance, Integers
from transhume.plan.scale.level import Reals

LARGEST = 2.0**51
"""What all costs may add up to in whole units: an eighth of what is exact in floating point."""
LARGEST_PRICE = 2.0**22
"""What the dearest egress becomes; the rest of the precision is the traffic's, of which there are many."""


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
    highest = float(problem.egress.max(initial=0.0)) or 1.0
    dearest += float(problem.rates.sum()) * highest
    units = LARGEST / max(dearest, 1e-9)
    pairs, rates = _merged_pairs(problem, group, groups)
    per_price = LARGEST_PRICE / highest
    prices = np.rint(problem.egress * per_price)
    traffic = np.rint(rates * units / per_price)
    off = np.abs(traffic[:, :, None] * prices / units - rates[:, :, None] * problem.egress)
    return Translation(
        instance=_instance(problem, group, units, (pairs, traffic.astype(np.int64), prices)),
        group=group,
        units_per_dollar=units,
        error=float(off.max(axis=2, initial=0.0).sum()) + groups / units,
    )


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
    price = np.tile(prices[:, None], (1, clouds)).astype(np.int64)
    np.fill_diagonal(price, 0)
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
