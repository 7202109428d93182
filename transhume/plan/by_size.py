"""Chooses who solves a problem: whom it suits in size, and who knows its constraints.

Of a handful of VMs HiGHS makes short work, in this process. Up to a few hundred, a quick search is followed by
provers (`transhume.plan.prove`); beyond, the search has all the time. Where a problem has what a large instance
can't say, or (for the thousands) Numba isn't there, HiGHS does what it can in its time.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

from transhume.plan.constraints import Assignment
from transhume.plan.exact import ExactSolver
from transhume.plan.problem import Problem
from transhume.plan.scale.translate import Translation, translate, why_not
from transhume.plan.solver import Solution

PROVED_DOLLARS_PER_HOUR = 1e-6
PROVED_SHARE = 1e-6
"""A plan that is dearer than the proved bound by less, or by less than this share of it, is optimal: so much is
lost where dollars become whole numbers."""
NEGLIGIBLE_VIOLATION = 1e-9
A_HANDFUL = 10
"""VMs with a choice that are solved before another process would have begun."""
Found = tuple[Assignment, int]
"""An assignment of a large instance, and a cost that none is below."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeSolver:
    """The dual and the search of `transhume.plan.scale`; does the same each time, however long that takes."""

    seconds: float = 20.0
    """About what it may take on an idle processor."""
    seed: int = 1

    def solve(self, problem: Problem) -> Solution:
        """Return the best assignment found; never one that is dearer than staying put.

        Raises:
            ValueError: a large instance can't say this problem.
        """
        return _solved(problem, self._search)

    def _search(self, said: Translation) -> Found:
        from transhume.plan.scale.solving import effort_within, solve

        effort = effort_within(said.instance, self.seconds)
        tolerance = max(1, int(PROVED_DOLLARS_PER_HOUR * said.units_per_dollar / 4))
        outcome = solve(said.instance, seed=self.seed, effort=effort, tolerance=tolerance)
        return outcome.assignment, outcome.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvingSolver:
    """A quick search, then provers: the best there is, where a proof is found in time."""

    seconds: float = 20.0
    seed: int = 1

    def solve(self, problem: Problem) -> Solution:
        """Return the best assignment found; never one that is dearer than staying put.

        Raises:
            ValueError: a large instance can't say this problem.
        """
        return _solved(problem, self._prove)

    def _prove(self, said: Translation) -> Found:
        from transhume.plan.prove.proving import prove

        proof = prove(said.instance, seconds=self.seconds, seed=self.seed)
        return proof.assignment, proof.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverBySize:
    """The solver that suits the number of VMs with a choice."""

    seconds: float = 20.0
    most_proved_vms: int = 200

    def solve(self, problem: Problem) -> Solution:
        """Return what the solver that suits the problem finds."""
        free = int(problem.movable.sum())
        if free <= A_HANDFUL or why_not(problem):
            return ExactSolver(seconds=self.seconds).solve(problem)
        if free <= self.most_proved_vms or not _has_numba():
            found = ProvingSolver(seconds=self.seconds).solve(problem)
        else:
            found = LargeSolver(seconds=self.seconds).solve(problem)
        if found.bound is not None:
            return found
        other = ExactSolver(seconds=self.seconds).solve(problem)
        return min(other, found, key=lambda each: (each.violation, each.cost))


def _solved(problem: Problem, ask: Callable[[Translation], Found]) -> Solution:
    """Return what somebody answers who is asked in the words of a large instance."""
    obstacle = why_not(problem)
    if obstacle:
        raise ValueError(f"too large a problem for this solver's words: {obstacle}")
    if not problem.movable.any():
        return Solution.of(problem, problem.home, optimal=True)
    said = translate(problem)
    return _meant(problem, said, *ask(said))


def _meant(problem: Problem, said: Translation, assignment: Assignment, least: int) -> Solution:
    """Return what was found for the instance as a solution of the problem."""
    found = said.back(assignment)
    if not problem.feasible(found) or _rank(problem, found) > _rank(problem, problem.home):
        found = problem.home
    if problem.violation(found) > said.least_violation + NEGLIGIBLE_VIOLATION:
        return Solution.of(problem, found, optimal=False)
    bound = least / said.units_per_dollar - said.error
    cost = problem.cost(found)
    proved = cost - bound < max(PROVED_DOLLARS_PER_HOUR, PROVED_SHARE * abs(cost))
    return Solution.of(problem, found, optimal=proved, bound=bound)


def _rank(problem: Problem, assignment: Assignment) -> tuple[float, float]:
    return problem.violation(assignment), problem.cost(assignment)


def _has_numba() -> bool:
    return find_spec("numba") is not None
