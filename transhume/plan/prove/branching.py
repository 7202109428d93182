"""The proof by toulbar2: nothing is cheaper than what is known, told in whole numbers and thus exactly.

An instance is a weighted constraint network: a variable for each VM, whose values are the clouds that it may be
in; costs of one and of two variables; knapsacks for room and moves. Two things make it quick:

* Costs are handed out beforehand as the dual problem's certificate says, so that it starts from that bound
  rather than from next to nothing. Where room (or a move) has a price, each VM pays it, and a *slack* variable
  pays it for what is left over: together they always pay the same, but the least of each is a better bound.
* Costs are told as differences to the known assignment's, rounded down to a coarse unit: then propagation takes
  few steps where it would take thousands. Rounding down never hides a cheaper assignment, so to find none is an
  exact proof. One that is found, and seems cheaper but isn't, is forbidden; after some of them the unit becomes
  finer: of a whole unit nothing is rounded, and nothing misleads.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytoulbar2
from numpy.typing import NDArray

from transhume.plan.prove.job import Answer, Job
from transhume.plan.scale.instance import Integers

FINENESS = 10_000
"""Units between the bound and what the known assignment costs, at first: coarser misleads, finer is slow."""
FINER = 10
MOST_FORBIDDEN = 3
"""Assignments that mislead in one unit."""
FEW = 64
"""Up to so much room, the slack is one variable; beyond, one for each of its binary digits."""

Terms = list[tuple[int, int, int]]
"""Variable, value (its index!), coefficient."""


def prove_by_branching(job: Job, report: Callable[[Answer], None]) -> None:
    """Report each cheaper assignment that is found, and the last of them as proved to be the best."""
    best, cost = job.known, job.cost
    unit = max(1, (cost - job.bound) // FINENESS)
    misled: list[Integers] = []
    while True:
        found = _Network(job=job, anchor=best, unit=unit, forbidden=misled).cheaper()
        if found is None:
            report(Answer(assignment=tuple(best.tolist()), bound=cost, proved=True))
            return
        assert unit > 1 or job.instance.cost(found) < cost, "whole units can't mislead"
        if job.instance.cost(found) < cost:
            best, cost = found, job.instance.cost(found)
            report(Answer(assignment=tuple(best.tolist()), bound=job.bound, proved=False))
        else:
            misled.append(found)
            if len(misled) % MOST_FORBIDDEN == 0:
                unit = max(1, unit // FINER)


@dataclass(kw_only=True)
class _Network:
    """toulbar2's network, of cost differences to an assignment, in some unit."""

    job: Job
    anchor: Integers
    unit: int
    forbidden: Sequence[Integers] = ()
    """Assignments that are known not to be cheaper."""
    values: list[Integers] = field(init=False)
    """By VM: the clouds that its variable's values stand for."""
    at: list[int] = field(init=False)
    """By VM: the value that stands for its cloud in the anchor."""
    own: list[Integers] = field(init=False)
    """By VM and value: what it costs by itself, after costs were handed out."""

    def __post_init__(self) -> None:
        self.network = pytoulbar2.CFN(ubinit=0, seed=1, verbose=-1)
        self.values = [np.flatnonzero(row) for row in self.job.instance.allowed]
        self.at = [
            int(np.searchsorted(values, cloud))
            for values, cloud in zip(self.values, self.anchor, strict=True)
        ]
        for vm, values in enumerate(self.values):
            self.network.AddVariable(f"vm{vm}", list(range(len(values))))
        priced = self._priced()
        self.own = [priced[vm, values] for vm, values in enumerate(self.values)]
        self._add_pairs()
        for vm, costs in enumerate(self.own):
            self.network.AddFunction([vm], self._coarse(costs - costs[self.at[vm]]).tolist())
        self._add_limits()
        for assignment in self.forbidden:
            self._forbid(assignment)

    def cheaper(self) -> Integers | None:
        """Return the assignment that seems cheapest if it seems cheaper than the anchor."""
        solved = self.network.Solve()
        if solved is None:
            return None
        chosen = zip(self.values, solved[0], strict=False)  # slack variables come last
        return np.array([values[value] for values, value in chosen], dtype=np.int64)

    def _priced(self) -> Integers:
        job, instance = self.job, self.job.instance
        away = np.arange(instance.cloud_count) != instance.home[:, None]
        priced: Integers = instance.unary + instance.size @ job.room_price.T
        priced = priced + away * instance.machines[:, None] * job.move_price
        for end in (0, 1):
            np.add.at(priced, instance.pairs[:, end], job.messages[:, end])
        return priced

    def _add_pairs(self) -> None:
        instance, network = self.job.instance, self.network
        for pair, (one, other) in enumerate(instance.pairs.tolist()):
            forth, back = instance.traffic[pair].tolist()
            given = self.job.messages[pair]
            costs = forth * instance.price + back * instance.price.T
            costs = costs - given[0][:, None] - given[1]
            costs = costs[np.ix_(self.values[one], self.values[other])]
            told = self._coarse(costs - costs[self.at[one], self.at[other]])
            if instance.apart[pair]:
                told[self.values[one][:, None] == self.values[other]] = network.Top
            if len(self.values[one]) == 1 and not instance.apart[pair]:
                self.own[other] = self.own[other] + costs[0]
            elif len(self.values[other]) == 1 and not instance.apart[pair]:
                self.own[one] = self.own[one] + costs[:, 0]
            else:
                network.AddFunction([one, other], told.ravel().tolist())

    def _add_limits(self) -> None:
        job, instance = self.job, self.job.instance
        for cloud, resource in np.ndindex(instance.capacity.shape):
            sizes = instance.size[:, resource]
            terms = [
                (vm, int(np.searchsorted(values, cloud)), int(sizes[vm]))
                for vm, values in enumerate(self.values)
                if instance.allowed[vm, cloud] and sizes[vm]
            ]
            used = int(sizes[self.anchor == cloud].sum())
            price = int(job.room_price[cloud, resource])
            self._add_limit(terms, int(instance.capacity[cloud, resource]), used, price)
        moves = [
            (vm, value, int(instance.machines[vm]))
            for vm, values in enumerate(self.values)
            for value in np.flatnonzero(values != instance.home[vm]).tolist()
        ]
        moved = int(instance.machines[self.anchor != instance.home].sum())
        self._add_limit(moves, instance.move_limit, moved, job.move_price)

    def _add_limit(self, terms: Terms, limit: int, used: int, price: int) -> None:
        if sum({vm: amount for vm, _, amount in terms}.values()) > limit:
            self.network.AddGeneralizedLinearConstraint(terms, "<=", limit)
        if price and terms:
            slack = list(self._slack(limit, limit - used, price))
            self.network.AddGeneralizedLinearConstraint([*terms, *slack], ">=", limit)

    def _forbid(self, assignment: Integers) -> None:
        terms = [
            (vm, int(np.searchsorted(values, assignment[vm])), 1)
            for vm, values in enumerate(self.values)
        ]
        self.network.AddGeneralizedLinearConstraint(terms, "<=", len(terms) - 1)

    def _slack(self, limit: int, left: int, price: int) -> Iterator[tuple[int, int, int]]:
        """Make the variables that pay for what is left over, of which the anchor leaves some."""
        network = self.network
        if limit <= FEW:
            name = f"slack{network.GetNbVars()}"
            variable = network.AddVariable(name, list(range(limit + 1)))
            amounts = np.arange(limit + 1)
            self.network.AddFunction([variable], self._coarse(price * (amounts - left)).tolist())
            yield from ((variable, amount, amount) for amount in range(1, limit + 1))
            return
        for digit in range(limit.bit_length()):
            variable = network.AddVariable(f"slack{network.GetNbVars()}", [0, 1])
            weight, on = 1 << digit, left >> digit & 1
            costs = np.array([-on, 1 - on], dtype=np.int64) * weight * price
            network.AddFunction([variable], self._coarse(costs).tolist())
            yield variable, 1, weight

    def _coarse(self, costs: Integers) -> NDArray[np.float64]:
        return np.floor_divide(costs, self.unit).astype(np.float64)
