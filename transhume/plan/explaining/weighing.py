"""What it would cost if some VMs went elsewhere and all others kept to the decision: all at once, as arrays.

A *unit* is VMs that go together: one, or a bundle. Weighs as the planner does: what a move costs once is spread
over the time within which it must have paid, and a preferred cloud breaks ties.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import SECONDS_PER_HOUR
from transhume.plan.constraints import Assignment, Delay, Indices
from transhume.plan.decide import Decision
from transhume.plan.formulate import Formulator
from transhume.plan.money import Bill, Table


@dataclass(frozen=True, kw_only=True)
class Weighing:
    """The costs round a decision. Build it with `of`."""

    bill: Bill
    home: Assignment
    chosen: Assignment
    cloud: NDArray[np.int64]
    hours: NDArray[np.float64]
    """By VM: what the cost of its move is spread over."""
    own: Table
    """What a VM costs by itself, its move included."""

    @classmethod
    def of(cls, formulator: Formulator, decision: Decision) -> "Weighing":
        """Weigh round a decision."""
        situation, bill = formulator.situation, formulator.bill
        seconds = np.full(len(situation.vms), situation.settings.horizon_seconds)
        for vm in situation.governed:
            if decision.mended[vm] == situation.home[vm]:
                seconds[vm] = situation.payback_limit((vm,))
        hours = np.maximum(seconds, 1.0) / SECONDS_PER_HOUR
        own = bill.compute + bill.outside + bill.risk + bill.preference + formulator.preference()
        return cls(
            bill=bill,
            home=situation.home,
            chosen=decision.chosen,
            cloud=situation.cloud,
            hours=hours,
            own=own + bill.move / hours[:, None],
        )

    def changes(self, units: Sequence[Indices]) -> Table:
        """Return by how many dollars per hour it's dearer to have a unit elsewhere, by unit and place."""
        found = np.zeros((len(units), self.own.shape[1]))
        if not units:
            return found
        members = np.array([vm for unit in units for vm in unit], dtype=np.int64)
        unit_of = np.repeat(np.arange(len(units)), [len(unit) for unit in units])
        here = self.own[members, self.chosen[members]]
        np.add.at(found, unit_of, self.own[members] - here[:, None])
        self._cross(found, unit_of, members)
        for delay in self.bill.delays:
            self._hold_up(found, units, delay)
        return found

    def total(self, assignment: Assignment) -> float:
        """Return what an assignment weighs in all."""
        return (
            float(self.own[np.arange(len(assignment)), assignment].sum())
            + float((self.bill.crossing(assignment) + self.bill.distance(assignment)).sum())
            + sum(delay.dollars_per_hour(self.home, assignment) for delay in self.bill.delays)
        )

    def moving(self, unit: Indices, place: int) -> float:
        """Return what the moves of a unit to a place weigh."""
        members = list(unit)
        return float((self.bill.move[members, place] / self.hours[members]).sum())

    def pairs_of(self, unit: Indices) -> NDArray[np.int64]:
        """Return the pairs with an end in the unit."""
        starts, pairs = self._incidence
        if len(unit) == 1:
            return pairs[starts[unit[0]] : starts[unit[0] + 1]]
        return np.unique(np.concatenate([pairs[starts[v] : starts[v + 1]] for v in unit]))

    def inside(self, unit: Indices, pairs: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say of both ends of each pair whether they are in the unit."""
        member = np.zeros(len(self.home), dtype=np.bool_)
        member[list(unit)] = True
        return np.asarray(member[self.bill.pairs[pairs]])

    def crossing(self, unit: Indices, pairs: NDArray[np.int64], place: int) -> NDArray[np.float64]:
        """Return what each of the pairs costs for being apart with the unit in a place."""
        ends = self.bill.pairs[pairs]
        ours = self.inside(unit, pairs)
        clouds = np.where(ours, self.cloud[place], self.cloud[self.chosen[ends]])
        return self.bill.apart_between(pairs, clouds)

    @cached_property
    def _incidence(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The pairs of each VM: those of VM v are at `starts[v]` to `starts[v + 1]`."""
        ends = self.bill.pairs.T.ravel()
        order = np.argsort(ends, kind="stable")
        starts = np.searchsorted(ends[order], np.arange(len(self.home) + 1))
        return starts, order % max(len(self.bill.pairs), 1)

    def _cross(self, found: Table, unit_of: NDArray[np.int64], members: NDArray[np.int64]) -> None:
        """Add what the units' traffic costs more elsewhere: one gather over their pairs for each place."""
        starts, pairs = self._incidence
        counts = starts[members + 1] - starts[members]
        if not counts.sum():
            return
        offset = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        pair = pairs[np.repeat(starts[members], counts) + offset]
        keys = np.unique(np.repeat(unit_of, counts) * len(self.bill.pairs) + pair)
        unit, pair = keys // len(self.bill.pairs), keys % len(self.bill.pairs)
        ends = self.bill.pairs[pair]
        ours = np.isin(unit[:, None] * len(self.home) + ends, unit_of * len(self.home) + members)
        clouds = self.cloud[self.chosen[ends]]
        now = self.bill.apart_between(pair, clouds)
        for k, cloud in enumerate(self.cloud):
            then = self.bill.apart_between(pair, np.where(ours, cloud, clouds))
            found[:, k] += np.bincount(unit, weights=then - now, minlength=len(found))

    def _hold_up(self, found: Table, units: Sequence[Indices], delay: Delay) -> None:
        now, members = delay.dollars_per_hour(self.home, self.chosen), frozenset(delay.members)
        for number, unit in enumerate(units):
            if members.isdisjoint(unit):
                continue
            trial = self.chosen.copy()
            for k in range(found.shape[1]):
                trial[list(unit)] = k
                found[number, k] += delay.dollars_per_hour(self.home, trial) - now
