"""Decides where VMs go: first what must be mended, then what pays, then why nothing else is done.

1. *Mend*: the least violation of rules and notices, with as few and as cheap moves as that takes. Other VMs
   move only to make room. What a notice leaves no time for stays, unless the time is a guess, because nobody
   told what the way carries: then it's tried, last of all.
2. *Improve*: from there, the cheapest assignment; the moves that it adds are elective. Those that a limit
   (payback, minimum gain) forbids are ruled out and the rest is solved again, until all that's left is allowed.
3. *Explain nothing*: where no move came of it, the limits are lifted one by one until something would pay.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from transhume.plan.constraints import Assignment, MoveLimit, SpendLimit
from transhume.plan.formulate import Formulator, Freedom
from transhume.plan.judge import CENTS_OF_NOTHING, Judge, Refusal
from transhume.plan.problem import Problem
from transhume.plan.solver import Solution, Solver

Bans = Mapping[tuple[int, int], str]

ROUNDING_DOLLARS = 1e-9
"""An hour: by less, two sums of the same costs differ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """Where the VMs are to go."""

    mended: Assignment
    """What rules and notices demand, and no more."""
    chosen: Assignment
    late: frozenset[int]
    """VMs that are sent though they can't be expected to be in time."""
    optimal: bool
    above_best: float | None
    """By how many dollars per hour the choice can be dearer than the best; None where nothing was proved."""
    refusals: tuple[Refusal, ...]
    freedom: Freedom
    """What the mending was free to do."""
    alternative: Assignment | None = None
    """The best placement that a minimum gain or a payback ruled out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Obstacle:
    """What keeps a better placement from being chosen."""

    limit: str
    """`payback`, `cool-down`, `budget`, `capacity` or `rule`."""
    better: Assignment


@dataclass(frozen=True, kw_only=True)
class Decider:
    """Asks the solver one question after the other."""

    formulator: Formulator
    judge: Judge
    solver: Solver

    def decide(self, bans: Bans) -> Decision:
        """Return where VMs go, given what turned out to be impossible so far."""
        situation, ruling = self.formulator.situation, self.formulator.ruling
        everyone = frozenset(situation.governed) - self._moving()
        freedom = Freedom(movable=everyone, bans=bans, reluctant=True)
        mended, optimal, late = situation.home, True, frozenset[int]()
        if ruling.broken:
            solution = self.solver.solve(self.formulator.problem(freedom))
            mended, optimal = solution.assignment, solution.optimal
            mended, late = self._hopefuls(mended, freedom)
        decision = Decision(
            mended=mended,
            chosen=mended,
            late=late,
            optimal=optimal and not bans,
            above_best=0.0 if optimal and not bans else None,
            refusals=(),
            freedom=freedom,
        )
        return self._improve(decision, bans)

    def obstacles(self, decision: Decision) -> Iterator[Obstacle]:
        """Lift the limits on elective moves one after the other; tell which lifting makes a move pay."""
        everyone = self._within_reach() - self._stranded(decision.mended)
        freedom = replace(self.elective_freedom(decision, {}), payback=False)
        liftings = [("payback", freedom)]
        liftings.append(("cool-down", replace(freedom, movable=everyone)))
        liftings.append(("budget", replace(liftings[-1][1], budgets=False)))
        liftings.append(("capacity", replace(liftings[-1][1], capacity=False)))
        liftings.append(("rule", replace(liftings[-1][1], rules=False)))
        seen: Problem | None = None
        for limit, lifted in liftings:
            problem = self.formulator.problem(lifted)
            if seen is not None and _same(seen, problem):
                continue
            seen = problem
            better = self.solver.solve(problem).assignment
            if self.saving(decision.mended, better) > 1e-6:
                yield Obstacle(limit=limit, better=better)

    def saving(self, before: Assignment, after: Assignment) -> float:
        """Return what the bill falls by, moves included, in dollars per hour."""
        bill = self.formulator.bill
        return bill.of_assignment(before).total - bill.of_assignment(after).total

    def _hopefuls(self, mended: Assignment, freedom: Freedom) -> tuple[Assignment, frozenset[int]]:
        """Add the evacuations that only a guess at a way's rate forbids: not trying may cost the VM."""
        situation = self.formulator.situation
        guessed = {
            vm: self._guessed_ways(vm)
            for vm in self._stranded(mended)
            if situation.evacuates(vm) and self._guessed_ways(vm)
        }
        left = frozenset(guessed)
        known = {
            (vm, k): "the way there takes longer than the notice leaves"
            for vm, guesses in guessed.items()
            for k in range(len(situation.places))
            if k not in guesses
        }
        if not left:
            return mended, frozenset()
        going = {int(vm): int(mended[vm]) for vm in np.flatnonzero(mended != situation.home)}
        hopeful = replace(
            freedom,
            movable=left | frozenset(going),
            fixed=going,
            in_time=False,
            budgets=False,
            bans={**freedom.bans, **known},
        )
        solution = self.solver.solve(self.formulator.problem(hopeful))
        if any(solution.assignment[vm] != place for vm, place in going.items()):
            return mended, frozenset()
        late = frozenset(vm for vm in left if solution.assignment[vm] != situation.home[vm])
        return solution.assignment, late

    def _guessed_ways(self, vm: int) -> frozenset[int]:
        """Return the places to which nobody told what the way carries."""
        situation, estimator = self.formulator.situation, self.formulator.bill.estimator
        here = situation.places[situation.home[vm]].cloud
        return frozenset(
            k
            for k, place in enumerate(situation.places)
            if k != situation.home[vm] and estimator.is_guess(here, place.cloud)
        )

    def _improve(self, decision: Decision, bans: Bans) -> Decision:
        mended = decision.mended
        freedom = self.elective_freedom(decision, bans)
        refusals: list[Refusal] = []
        alternative: Assignment | None = None
        least: float | None = None
        while freedom.movable - freedom.required:
            problem = self.formulator.problem(freedom)
            solution = self.solver.solve(problem)
            chosen = solution.assignment
            # The first question leaves the most freedom: what none of its answers is below holds for all.
            least = solution.bound if not refusals else least
            better = (solution.violation, solution.cost) < (
                problem.violation(mended) + 1e-6,
                problem.cost(mended) - CENTS_OF_NOTHING,
            )
            if not better or not self.judge.elective(mended, chosen):
                decision = _measured(decision, solution, problem.cost(mended), least)
                break
            refused = self.judge.refuse(mended, chosen)
            if not refused:
                decision = _measured(decision, solution, solution.cost, least)
                return replace(
                    decision,
                    chosen=chosen,
                    optimal=decision.optimal and not refusals,
                    refusals=tuple(refusals),
                    alternative=alternative,
                )
            alternative = chosen if alternative is None else alternative
            refusals += refused
            out = frozenset().union(*(refusal.vms for refusal in refused)) - freedom.required
            freedom = replace(freedom, movable=freedom.movable - out)
        return replace(decision, refusals=tuple(refusals), alternative=alternative)

    def elective_freedom(self, decision: Decision, bans: Bans) -> Freedom:
        """Return what elective moves are free to do once the mending is decided."""
        situation = self.formulator.situation
        mended = decision.mended
        required = frozenset(int(vm) for vm in np.flatnonzero(mended != situation.home))
        resting = frozenset(vm for vm in situation.governed if situation.cooling_until(vm))
        elective = self._within_reach() - self._stranded(mended)
        return Freedom(
            movable=(elective - resting) | required,
            required=required,
            # What was squeezed into a notice's time isn't touched again.
            fixed={vm: int(mended[vm]) for vm in required} if decision.late else {},
            in_time=not decision.late,
            bans=bans,
            headroom_over=tuple(mended.tolist()),
        )

    def _stranded(self, mended: Assignment) -> frozenset[int]:
        """Return the VMs that must leave and can't."""
        home = self.formulator.situation.home
        return frozenset(vm for vm in self.formulator.ruling.must_leave if mended[vm] == home[vm])

    def _within_reach(self) -> frozenset[int]:
        """Return the VMs that can be moved for money."""
        situation = self.formulator.situation
        return frozenset(situation.governed) - self._moving() - frozenset(situation.out_of_reach)

    def _moving(self) -> frozenset[int]:
        situation = self.formulator.situation
        on_their_way = situation.snapshot.moving
        return frozenset(situation.number[vm] for vm in on_their_way if vm in situation.number)


def _measured(decision: Decision, solution: Solution, cost: float, least: float | None) -> Decision:
    """Return the decision with what a solution proves of a choice that costs so much."""
    if decision.above_best is None or least is None:
        return replace(decision, optimal=False, above_best=None)
    above = cost - least if cost - least > ROUNDING_DOLLARS else 0.0
    optimal = decision.optimal and solution.optimal and not above
    return replace(decision, optimal=optimal, above_best=above)


def _same(one: Problem, other: Problem) -> bool:
    """Say whether lifting a limit left the problem as it was."""
    limits = [
        [c for c in p.constraints if isinstance(c, MoveLimit | SpendLimit)] for p in (one, other)
    ]
    return (
        bool((one.allowed == other.allowed).all())
        and bool((one.capacity == other.capacity).all())
        and len(one.constraints) == len(other.constraints)
        and limits[0] == limits[1]
    )
