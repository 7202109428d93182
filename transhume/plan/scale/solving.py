"""Solves a large instance: first the dual, then the search, which starts where the dual ends.

Time is the caller's: `spent` tells which share of it is gone, 0 to 1. Without it the effort decides, and the
same seed gives the same result.
"""

from collections.abc import Callable
from dataclasses import dataclass

from transhume.plan.scale.certificate import Certificate, certified_bound, is_feasible
from transhume.plan.scale.dual import Dual, find_bound
from transhume.plan.scale.instance import Instance, Integers
from transhume.plan.scale.level import level_of
from transhume.plan.scale.search import Search, improve

DUAL_SHARE = 0.35
"""Of the time, what goes into the bound."""
ROUND_STEP, CYCLE_STEP = 6e-9, 150e-9
"""Seconds: for a pair and two clouds in a round of the dual, for a step of the annealing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much to do at most."""

    rounds: int = 1000
    """Of the dual."""
    cycles: int = 30
    """Of the search."""


def effort_within(instance: Instance, seconds: float) -> Effort:
    """Return about what a processor does in so many seconds: reckoned, so that results can be reproduced."""
    vms, clouds = instance.vm_count, instance.cloud_count
    round_seconds = 1e-4 + ROUND_STEP * len(instance.pairs) * clouds**2
    cycle_seconds = CYCLE_STEP * (1000 * vms + 400_000)
    return Effort(
        rounds=max(1, min(1000, int(DUAL_SHARE * seconds / round_seconds))),
        cycles=max(1, min(60, int((1 - DUAL_SHARE) * seconds / cycle_seconds))),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A feasible assignment, and how far it can be from the best."""

    assignment: Integers
    cost: int
    bound: int
    """No feasible assignment costs less: proved by the certificate."""
    certificate: Certificate
    optimal: bool
    """True only where that's proved."""
    rounds: int
    cycles: int

    @property
    def gap(self) -> float:
        """By which share of the bound the cost is above it, at most; infinite where that says nothing."""
        above = self.cost - self.bound
        return above / self.bound if self.bound > 0 else (float("inf") if above else 0.0)


def never() -> float:
    """Say that no time was spent."""
    return 0.0


def solve(
    instance: Instance,
    *,
    seed: int = 0,
    effort: Effort | None = None,
    spent: Callable[[], float] = never,
    tolerance: int = 1,
) -> Outcome:
    """Return the best assignment found, with a proof of how good it is.

    Args:
        instance: what there is to decide.
        seed: of all random numbers.
        effort: what to do at most; by default what a minute or less is enough for.
        spent: the share of the time that is gone; past 1, what was found is returned.
        tolerance: a cost less than this above the bound counts as optimal; costs are whole numbers.
    """
    effort = effort or Effort()
    level = level_of(instance)
    search = Search.from_home(instance, level, seed=seed)
    dual = find_bound(
        instance,
        level,
        known=search.cost,
        rounds=effort.rounds,
        enough=lambda: spent() >= DUAL_SHARE,
    )

    def proved() -> bool:
        return search.cost - dual.bound < tolerance

    if not proved():
        search.follow(dual)
    cycles = improve(search, cycles=effort.cycles, enough=lambda: proved() or spent() >= 1)
    return _outcome(instance, search, dual, cycles, optimal=proved())


def _outcome(
    instance: Instance, search: Search, dual: Dual, cycles: int, *, optimal: bool
) -> Outcome:
    assert is_feasible(instance, search.best)
    assert certified_bound(instance, dual.certificate) == dual.bound <= search.cost
    return Outcome(
        assignment=search.best,
        cost=search.cost,
        bound=dual.bound,
        certificate=dual.certificate,
        optimal=optimal,
        rounds=dual.rounds,
        cycles=cycles,
    )
