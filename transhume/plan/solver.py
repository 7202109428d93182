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

    @classmethod
    def of(cls, problem: Problem, assignment: Assignment, *, optimal: bool) -> "Solution":
        """Return the solution that an assignment is."""
        return cls(
            assignment=assignment,
            cost=problem.cost(assignment),
            violation=problem.violation(assignment),
            optimal=optimal,
        )


class Solver(Protocol):
    """Finds a good assignment: least violation first, then least cost. Deterministic."""

    def solve(self, problem: Problem) -> Solution:
        """Return the best feasible assignment that was found; staying put is always one."""
        ...
