"""What every solver of the canonical problem promises."""

from dataclasses import dataclass
from typing import Protocol

from transhume.plan.constraints import Assignment
from transhume.plan.problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class Solution:
    """A feasible assignment, with what it is worth."""

    assignment: Assignment
    cost: float
    """Dollars per hour, as the problem counts."""
    violation: float
    optimal: bool
    """True only where no better assignment exists, and that is proved."""
    bound: float | None = None
    """Dollars per hour, proved: no assignment of so little violation costs less. None where nothing is."""

    @classmethod
    def of(
        cls,
        problem: Problem,
        assignment: Assignment,
        *,
        optimal: bool,
        bound: float | None = None,
    ) -> "Solution":
        """Return the solution that an assignment is; an optimal one is its own bound."""
        cost = problem.cost(assignment)
        if optimal:
            bound = cost
        return cls(
            assignment=assignment,
            cost=cost,
            bound=None if bound is None else min(bound, cost),
            violation=problem.violation(assignment),
            optimal=optimal,
        )


class Solver(Protocol):
    """Finds a good assignment: least violation first, then least cost. Deterministic."""

    def solve(self, problem: Problem) -> Solution:
        """Return the best feasible assignment that was found; staying put is always one."""
        ...
