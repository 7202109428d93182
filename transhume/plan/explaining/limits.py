"""What keeps a decision from being cheaper, and what loosening it by one unit would save: shadow prices.

A placement that would be cheaper, and that one thing alone stands against, says what that thing costs: at
least that, since several VMs might go elsewhere at once. Where few VMs have a choice the solver is asked anew
with the limit loosened, and the price is exact.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import repeat

import numpy as np

from transhume.knowledge.model import BYTES_PER_GIB, Hindrance, Limit, Resources
from transhume.plan.constraints import AtMost, Constraint, Indices, MoveLimit
from transhume.plan.decide import Decider, Decision
from transhume.plan.explaining.objections import Objection, budget_name
from transhume.plan.explaining.weighing import Weighing
from transhume.plan.formulate import Freedom
from transhume.plan.problem import Problem
from transhume.plan.reasons import amount_text, memory_text
from transhume.plan.rules import named

PRICED = frozenset(
    {
        Hindrance.RULE,
        Hindrance.NETWORK,
        Hindrance.ROOM,
        Hindrance.QUOTA,
        Hindrance.SPREAD,
        Hindrance.TOGETHER,
        Hindrance.KEEP_TOGETHER,
        Hindrance.BUDGET,
    }
)
LEAST_SAVING = 1e-6
"""In dollars per hour; less is rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bargain:
    """A cheaper placement of a unit that one thing alone stands against."""

    unit: Indices
    place: int
    saving: float
    objection: Objection


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Prices what binds a decision."""

    decider: Decider
    decision: Decision
    weighing: Weighing

    def priced(self, bargains: Iterable[Bargain]) -> tuple[Limit, ...]:
        """Return what binds, the dearest first."""
        settings = self.decider.formulator.situation.settings
        best: dict[tuple[Hindrance, str], Bargain] = {}
        for bargain in bargains:
            key = bargain.objection.kind, bargain.objection.about
            known = best.get(key)
            if key[0] in PRICED and (known is None or bargain.saving > known.saving + 1e-12):
                best[key] = bargain
        dearest = sorted(best.values(), key=lambda each: (-each.saving, each.objection.about))
        shown = dearest[: settings.most_limits]
        problem = (
            self.decider.formulator.problem(self._freedom)
            if shown and settings.most_resolved
            else None
        )
        exact = problem is not None and problem.movable.sum() <= settings.most_resolved_vms
        limits = [
            self._resolved(problem, bargain)
            if problem is not None and exact and number < settings.most_resolved
            else self._limit(bargain, bargain.saving, least=True)
            for number, bargain in enumerate(shown)
        ]
        return tuple(sorted(limits, key=lambda each: (-each.saves_dollars_per_hour, each.about)))

    def _limit(
        self, bargain: Bargain, saving: float, *, least: bool, vms: Indices | None = None
    ) -> Limit:
        situation, objection = self.decider.formulator.situation, bargain.objection
        lacking = objection.lacking
        return Limit(
            kind=objection.kind,
            about=objection.about,
            looser=self._looser(bargain),
            saves_dollars_per_hour=saving,
            dollars_per_vcpu_hour=(
                saving / lacking.vcpus if lacking.vcpus and not lacking.memory_bytes else None
            ),
            dollars_per_gib_hour=(
                saving / (lacking.memory_bytes / BYTES_PER_GIB)
                if lacking.memory_bytes and not lacking.vcpus
                else None
            ),
            least=least,
            vms=tuple(situation.vms[vm] for vm in (vms or bargain.unit)),
        )

    def _looser(self, bargain: Bargain) -> str:
        situation, unit = self.decider.formulator.situation, bargain.unit
        match bargain.objection.kind:
            case Hindrance.ROOM:
                return f"{_lacking(bargain.objection.lacking)}, for {named(situation, unit)}"
            case Hindrance.BUDGET:
                return "one more move" if len(unit) == 1 else f"{len(unit)} more moves"
            case Hindrance.NETWORK:
                return "with it"
            case Hindrance.QUOTA:
                return "one more VM" if len(unit) == 1 else f"{len(unit)} more VMs"
            case _:
                return "without it"

    # asking anew

    @cached_property
    def _freedom(self) -> Freedom:
        """The question that the decision answers: those that must go have gone, others may."""
        freedom = self.decider.elective_freedom(self.decision, self.decision.freedom.bans)
        out = frozenset().union(*(refusal.vms for refusal in self.decision.refusals))
        return replace(freedom, movable=freedom.movable - (out - freedom.required))

    def _resolved(self, problem: Problem, bargain: Bargain) -> Limit:
        solution = self.decider.solver.solve(self._loosened(problem, bargain))
        now = self.weighing.total(self.decision.chosen)
        saving = now - self.weighing.total(solution.assignment)
        if saving < bargain.saving - LEAST_SAVING:
            return self._limit(bargain, bargain.saving, least=True)
        changed = np.flatnonzero(solution.assignment != self.decision.chosen)
        return self._limit(
            bargain,
            max(saving, bargain.saving),
            least=not solution.optimal,
            vms=tuple(int(vm) for vm in changed),
        )

    def _loosened(self, problem: Problem, bargain: Bargain) -> Problem:
        """Return the problem with the limit loosened by what the bargain needs."""
        objection, unit = bargain.objection, bargain.unit
        match objection.kind:
            case Hindrance.ROOM:
                capacity = problem.capacity.copy()
                lacking = objection.lacking
                capacity[bargain.place] += (lacking.vcpus, lacking.memory_bytes)
                return replace(problem, capacity=capacity)
            case Hindrance.RULE | Hindrance.NETWORK:
                allowed = problem.allowed.copy()
                allowed[list(unit), bargain.place] = True
                return replace(problem, allowed=allowed)
            case _:
                named_limits = zip(problem.constraints, self._names(), strict=False)
                constraints = (
                    each if name != objection.about else _looser(each, len(unit))
                    for each, name in named_limits
                )
                return replace(problem, constraints=tuple(c for c in constraints if c is not None))

    def _names(self) -> Iterator[str]:
        """Return what each of the problem's constraints is called, in their order."""
        formulator = self.decider.formulator
        yield from (rule.text for rule in formulator.ruling.shared)
        yield from (
            budget_name(policy, budget)
            for policy, budget, _ in formulator.budget_limits(self._freedom)
        )
        yield from repeat("")


def _lacking(amount: Resources) -> str:
    """Return how much room more it takes."""
    if not amount.memory_bytes:
        return f"{amount.vcpus} more vCPU{'' if amount.vcpus == 1 else 's'}"
    if not amount.vcpus:
        return f"{memory_text(amount.memory_bytes)} more memory"
    return f"{amount_text(amount)} more"


def _looser(constraint: Constraint, units: int) -> Constraint | None:
    """Return a constraint loosened; None: without it."""
    if isinstance(constraint, MoveLimit | AtMost):
        return replace(constraint, limit=constraint.limit + units)
    return None
