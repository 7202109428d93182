"""A solver for replays: exact where VMs are few, else a descent that takes milliseconds and no random choice.

A replay asks the planner thousands of times. From home, single VMs and sets of VMs that belong together (that
a constraint names, or that talk mostly to each other) are moved wherever that lowers penalties first and
dollars second; the best per VM goes first, until nothing is left to gain. What it finds is feasible and never
worse than staying put, but it isn't proved to be the best, and it never swaps two VMs of full clouds.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.plan import ExactSolver, Problem, Solution
from transhume.plan.constraints import Constraint
from transhume.plan.problem import crossing_dollars

SWEEPS = 6
LEAST_DOLLARS = 1e-9
LARGEST_SET = 64
"""More VMs than that aren't moved as one."""
STRONG = 0.5
"""A pair is one set where this share of what either end says to all is said to the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplaySolver:
    """Solves the canonical problem in milliseconds."""

    most_exact_vms: int = 16
    seconds: float = 20.0
    """Of the exact solver: far more than it takes for so few VMs, so that results don't depend on it."""

    def solve(self, problem: Problem) -> Solution:
        """Return the best assignment found; never one that is worse than staying put."""
        if len(problem.vms) <= self.most_exact_vms:
            return ExactSolver(seconds=self.seconds).solve(problem)
        if not problem.movable.any():
            return Solution.of(problem, problem.home, optimal=True)
        return Solution.of(problem, _Descent(problem).best(), optimal=False)


class _Descent:
    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._at = problem.home.copy()
        self._used = np.zeros_like(problem.capacity)
        np.add.at(self._used, self._at, problem.needs)
        self._within: dict[tuple[int, ...], NDArray[np.int64]] = {}
        self._limits = [_Limit.of(problem, constraint) for constraint in problem.constraints]
        self._excess = [each.excess(self._at) for each in self._limits]
        self._sets = list(dict.fromkeys([*self._singles(), *self._kin()]))
        self._open = [
            np.flatnonzero(problem.allowed[list(members)].all(axis=0)).tolist()
            for members in self._sets
        ]
        """By set: where all of it may be."""
        self._touching = [
            [n for n, limit in enumerate(self._limits) if limit.touches(members)]
            for members in self._sets
        ]

    def best(self) -> NDArray[np.int64]:
        """Return where the descent ends."""
        for _ in range(SWEEPS):
            if not sum(self._go(number, place) for number, place in self._promising()):
                break
        feasible = self._problem.feasible(self._at)
        return self._at if feasible else self._problem.home

    def _go(self, number: int, place: int) -> bool:
        """Move a set, where that is still better than not; say whether it was."""
        members = list(self._sets[number])
        if not self._moved(members, place) or not self._fits(members, place):
            return False
        trial = self._at.copy()
        trial[members] = place
        excess = self._excess_of(number, trial)
        dollars = self._problem.cost(self._at) - self._problem.cost(trial)
        if excess is None or not _better(self._mended(members, place, excess), dollars):
            return False
        self._excess = [excess.get(n, before) for n, before in enumerate(self._excess)]
        needs = self._problem.needs
        np.subtract.at(self._used, self._at[members], needs[members])
        self._at = trial
        np.add.at(self._used, self._at[members], needs[members])
        return True

    # limits

    def _excess_of(self, number: int, trial: NDArray[np.int64]) -> dict[int, float] | None:
        """Return by how much the limits that a set touches would be broken; None where one may not be."""
        found = {}
        for n in self._touching[number]:
            limit = self._limits[n]
            found[n] = limit.excess(trial)
            if limit.hard and found[n] > 0:
                return None
        return found

    def _mended(self, members: list[int], place: int, excess: dict[int, float]) -> float:
        """Return by how much the penalties fall."""
        penalty = self._problem.penalty
        own = penalty[members, self._at[members]].sum() - penalty[members, place].sum()
        soft = sum(
            self._limits[n].penalty * (self._excess[n] - after)
            for n, after in excess.items()
            if not self._limits[n].hard
        )
        return float(own) + soft

    def _moved(self, members: list[int], place: int) -> int:
        return int((self._at[members] != place).sum())

    def _fits(self, members: list[int], place: int) -> bool:
        coming = [vm for vm in members if self._at[vm] != place]
        more = self._used[place] + self._problem.needs[coming].sum(axis=0)
        return bool((more <= self._problem.capacity[place]).all())

    # sets of VMs that may move as one

    def _singles(self) -> Iterator[tuple[int, ...]]:
        yield from ((int(vm),) for vm in np.flatnonzero(self._problem.movable))

    def _kin(self) -> Iterator[tuple[int, ...]]:
        """Yield sets of VMs that a constraint names, or that talk mostly to each other."""
        movable = self._problem.movable
        named = (limit.vms for limit in self._limits if limit.vms is not None)
        for members in (*named, *self._mates()):
            kept = tuple(vm for vm in sorted(members) if movable[vm])
            if 1 < len(kept) <= LARGEST_SET:
                yield kept

    def _mates(self) -> Iterator[frozenset[int]]:
        problem = self._problem
        if not len(problem.pairs):
            return
        both = problem.rates.sum(axis=1)
        says, loudest = np.zeros(len(problem.vms)), np.zeros(len(problem.vms))
        np.add.at(says, problem.pairs, both[:, None])
        np.maximum.at(loudest, problem.pairs, both[:, None])
        strong = both >= STRONG * says[problem.pairs].max(axis=1)
        strong |= both >= loudest[problem.pairs].min(axis=1)
        of: dict[int, set[int]] = {}
        for one, other in problem.pairs[strong].tolist():
            joined = of.get(one, {one}) | of.get(other, {other})
            of.update(dict.fromkeys(joined, joined))
        yield from dict.fromkeys(frozenset(members) for members in of.values())

    # what pays

    def _promising(self) -> list[tuple[int, int]]:
        """Return sets with a place that promises something, the most promising for each VM first."""
        found: list[tuple[float, float, int, int]] = []
        crossing, at = self._crossing(), self._at.tolist()
        alone = self._saved_alone(crossing).tolist()
        penalised = self._problem.penalty.max(axis=1, initial=0.0) > 0
        for number, members in enumerate(self._sets):
            single = len(members) == 1
            dollars = alone[members[0]] if single else self._dollars_saved(members, crossing)
            may_mend = bool(penalised[list(members)].any()) or self._has_broken(number)
            for place in self._open[number]:
                if not (may_mend or dollars[place] > LEAST_DOLLARS):
                    continue
                moved = sum(at[vm] != place for vm in members)
                if not moved or not self._fits(list(members), place):
                    continue
                mended = self._promise(number, list(members), place) if may_mend else 0.0
                if mended is not None and _better(mended, dollars[place]):
                    found.append((-mended / moved, -dollars[place] / moved, number, place))
        return [(number, place) for _, _, number, place in sorted(found)]

    def _has_broken(self, number: int) -> bool:
        """Say whether a soft limit that a set touches is broken now; else its moving mends nothing."""
        return any(self._excess[n] > 0 and not self._limits[n].hard for n in self._touching[number])

    def _promise(self, number: int, members: list[int], place: int) -> float | None:
        """Return by how much penalties fall when a set goes to a place; None where it may not."""
        trial = self._at.copy()
        trial[members] = place
        excess = self._excess_of(number, trial)
        return None if excess is None else self._mended(members, place, excess)

    def _saved_alone(self, crossing: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return what each VM saves by going to each place while all others stay."""
        problem, everyone = self._problem, np.arange(len(self._at))
        now = problem.dollars[everyone, self._at] + crossing[everyone, problem.cloud[self._at]]
        return np.asarray(now[:, None] - problem.dollars - crossing[:, problem.cloud])

    def _crossing(self) -> NDArray[np.float64]:
        """Return what each VM's pairs would cost with it in each cloud, all others where they are."""
        problem, price = self._problem, self._problem.egress
        shape = (len(problem.vms), len(price))
        sent, received, weight = np.zeros(shape), np.zeros(shape), np.zeros(shape)
        ends, rates = problem.pairs.reshape(-1, 2), problem.rates.reshape(-1, 2)
        for first, second in ((0, 1), (1, 0)):
            peer = ends[:, first], problem.cloud[self._at[ends[:, second]]]
            np.add.at(sent, peer, rates[:, first])
            np.add.at(received, peer, rates[:, second])
            if len(problem.nearness):
                np.add.at(weight, peer, problem.nearness)
        found = sent @ price.T + received @ price
        return np.asarray(found + weight @ problem.latency if len(problem.nearness) else found)

    def _dollars_saved(
        self, members: tuple[int, ...], crossing: NDArray[np.float64]
    ) -> list[float]:
        """Return what a set's going to each place saves; lateness isn't looked at here."""
        problem, at = self._problem, self._at
        inside = np.array(members)
        now = problem.dollars[inside, at[inside]].sum()
        now += crossing[inside, problem.cloud[at[inside]]].sum()
        then = crossing[inside].sum(axis=0)
        both, doubly = self._inner_crossing(members)
        found = now - doubly - problem.dollars[inside].sum(axis=0) - (then - both)[problem.cloud]
        return list(found.tolist())

    def _inner_crossing(self, members: tuple[int, ...]) -> tuple[NDArray[np.float64], float]:
        """Return what a set's own pairs add to its VMs' crossing in each cloud, and what they cost now."""
        problem, price = self._problem, self._problem.egress
        own = self._pairs_within(members)
        both, doubly = np.zeros(len(price)), 0.0
        if len(own):
            rates, clouds = problem.rates[own], problem.cloud[self._at[problem.pairs[own]]]
            for first, second in ((0, 1), (1, 0)):
                peer = clouds[:, second]
                both += rates[:, first] @ price.T[peer] + rates[:, second] @ price[peer]
                if len(problem.nearness):
                    both += problem.nearness[own] @ problem.latency[peer]
            doubly = float(crossing_dollars(problem, self._at)[own].sum())
        return both, doubly

    def _pairs_within(self, members: tuple[int, ...]) -> NDArray[np.int64]:
        if members not in self._within:
            inside = np.zeros(len(self._problem.vms), dtype=np.bool_)
            inside[list(members)] = True
            self._within[members] = np.flatnonzero(inside[self._problem.pairs].all(axis=1))
        return self._within[members]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Limit:
    """A constraint of a problem, with the VMs that it is about."""

    problem: Problem
    constraint: Constraint
    vms: frozenset[int] | None
    """None: it doesn't say."""

    @classmethod
    def of(cls, problem: Problem, constraint: Constraint) -> "_Limit":
        members = getattr(constraint, "members", None)
        pairs = getattr(constraint, "pairs", None)
        if pairs is not None:
            members = problem.pairs[list(pairs)].ravel().tolist()
        vms = None if members is None else frozenset(int(vm) for vm in members)
        return cls(problem=problem, constraint=constraint, vms=vms)

    @property
    def penalty(self) -> float:
        return self.constraint.penalty

    @property
    def hard(self) -> bool:
        return math.isinf(self.penalty)

    def touches(self, members: tuple[int, ...]) -> bool:
        return self.vms is None or not self.vms.isdisjoint(members)

    def excess(self, assignment: NDArray[np.int64]) -> float:
        return float(self.constraint.excess(self.problem.terrain, assignment))


def _better(mended: float, dollars: float) -> bool:
    """Say whether so much less penalty, and so many dollars saved, are better than nothing."""
    return mended > 1e-6 or (mended >= -1e-9 and dollars > LEAST_DOLLARS)
