"""Chooses who solves a problem: the exact solver where it can prove its plan, the one for thousands beyond.

Where Numba (the extra `[fast]`) isn't installed, or a problem has what a large instance can't say, the exact
solver does what it can in its time, as it does for all small problems.
"""

from dataclasses import dataclass
from importlib.util import find_spec

from transhume.plan.exact import ExactSolver
from transhume.plan.problem import Problem
from transhume.plan.scale.translate import translate, why_not
from transhume.plan.solver import Solution

PROVED_DOLLARS_PER_HOUR = 1e-6
"""A plan that is dearer than the proved bound by less is optimal."""


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
        obstacle = why_not(problem)
        if obstacle:
            raise ValueError(f"too large a problem for this solver's words: {obstacle}")
        stay = Solution.of(problem, problem.home, optimal=not problem.movable.any())
        if stay.optimal:
            return stay
        from transhume.plan.scale.solving import effort_within, solve

        said = translate(problem)
        effort = effort_within(said.instance, self.seconds)
        tolerance = max(1, int(PROVED_DOLLARS_PER_HOUR * said.units_per_dollar / 4))
        outcome = solve(said.instance, seed=self.seed, effort=effort, tolerance=tolerance)
        found = said.back(outcome.assignment)
        if not problem.feasible(found) or problem.cost(found) > stay.cost:
            found = problem.home
        bound = outcome.bound / said.units_per_dollar - said.error
        proved = problem.cost(found) - bound < PROVED_DOLLARS_PER_HOUR
        return Solution.of(problem, found, optimal=proved)


@dataclass(frozen=True, slots=True, kw_only=True)
class SolverBySize:
    """The exact solver for so many VMs with a choice, the large one for more."""

    seconds: float = 20.0
    most_exact_vms: int = 60

    def solve(self, problem: Problem) -> Solution:
        """Return what the solver that suits the problem finds."""
        large = (
            int(problem.movable.sum()) > self.most_exact_vms
            and not why_not(problem)
            and _has_numba()
        )
        solver = LargeSolver if large else ExactSolver
        return solver(seconds=self.seconds).solve(problem)


def _has_numba() -> bool:
    return find_spec("numba") is not None
