"""Makes canonical problems from a situation: the same VMs and places, with more or less freedom.

The planner asks several questions of one situation (what must be mended, what would pay, what would pay but
for a limit), and each question is a problem that differs in its `Freedom` only.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import SECONDS_PER_HOUR, total
from transhume.plan.budgets import budget_limits
from transhume.plan.constraints import Constraint, CutLimit, Indices, LinkTime
from transhume.plan.money import Bill
from transhume.plan.problem import Problem
from transhume.plan.rules import Ruling, weight
from transhume.plan.situation import Situation
from transhume.policies.model import MoveBudget, Policy

BOUNDLESS = 1 << 50
"""Room for every VM there is, where capacity isn't asked about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Freedom:
    """Which VMs may move where, and which limits count."""

    movable: frozenset[int]
    required: frozenset[int] = frozenset()
    """VMs whose moves are mandatory: limits on elective moves aren't about them."""
    fixed: Mapping[int, int] = field(default_factory=dict)
    """VMs that go to this place if they go at all."""
    bans: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """Places that turned out to be impossible for a VM, with why."""
    reluctant: bool = False
    """Moves that mend nothing are dear: they are made only to make room for those that do."""
    payback: bool = True
    """A move must pay within what the policies say, rather than within the horizon."""
    budgets: bool = True
    capacity: bool = True
    rules: bool = True
    in_time: bool = True
    """What can't be done before a notice's deadline isn't to be begun."""
    headroom_over: Indices | None = None
    """Leave room for moves on their way in each place that has it once the VMs are there, by VM."""


@dataclass(frozen=True, kw_only=True)
class Formulator:
    """Makes the problems of one situation."""

    situation: Situation
    bill: Bill
    ruling: Ruling

    def problem(self, freedom: Freedom) -> Problem:
        """Return the problem with this freedom."""
        situation = self.situation
        allowed = self._allowed(freedom)
        shared = [rule.constraint for rule in self.ruling.shared] if freedom.rules else []
        kept, shared = self._chatty(shared)
        far = bool(self.bill.nearness.any() and self.bill.latency.any())
        return Problem(
            vms=situation.vms,
            places=situation.places,
            cloud=situation.cloud,
            home=situation.home,
            allowed=allowed,
            penalty=self._penalty(),
            dollars=self._dollars(freedom, allowed),
            pairs=self.bill.pairs[kept],
            rates=self.bill.rates[kept],
            egress=self.bill.egress,
            needs=self._needs(),
            capacity=self._capacity(freedom),
            constraints=(*shared, *self._limits(freedom)),
            delays=self.bill.delays,
            nearness=self.bill.nearness[kept] if far else np.zeros(0),
            latency=self.bill.latency if far else np.zeros((0, 0)),
        )

    def _allowed(self, freedom: Freedom) -> NDArray[np.bool_]:
        situation = self.situation
        allowed = np.zeros((len(situation.vms), len(situation.places)), dtype=np.bool_)
        allowed[np.arange(len(situation.vms)), situation.home] = True
        for vm in freedom.movable:
            for k in range(len(situation.places)):
                allowed[vm, k] |= not self.why_not(vm, k, freedom)
        return allowed

    def why_not(self, vm: int, place: int, freedom: Freedom) -> str:
        """Return why a VM can't go to a place, whatever the others do; nothing where it can."""
        situation = self.situation
        cloud = situation.places[place].cloud
        barred = self.ruling.barred.get((vm, place), "")
        if barred and (freedom.rules or situation.places[place].doomed):
            return barred
        if (vm, place) in freedom.bans:
            return freedom.bans[vm, place]
        if freedom.fixed.get(vm, place) != place:
            return "it goes elsewhere"
        return self._priceless(vm, place, freedom) or (
            f"the way to {cloud} takes longer than the notice leaves"
            if freedom.in_time and self.bill.seconds[vm, place] > situation.seconds_left(vm)
            else ""
        )

    def _priceless(self, vm: int, place: int, freedom: Freedom) -> str:
        """Say that a cloud tells no price, where that matters: for moves made for money."""
        mends = freedom.reluctant and vm in self.ruling.involved
        if vm in freedom.required or mends:
            return ""
        situation = self.situation
        for cloud in (situation.places[place].cloud, situation.places[situation.home[vm]].cloud):
            if cloud not in situation.snapshot.prices:
                return f"{cloud} tells no price"
        return ""

    def _penalty(self) -> NDArray[np.float64]:
        penalty = np.zeros((len(self.situation.vms), len(self.situation.places)))
        for vm in self.ruling.must_leave:
            penalty[vm, self.situation.home[vm]] = weight(self.situation.needs(vm))
        return penalty

    def _dollars(self, freedom: Freedom, allowed: NDArray[np.bool_]) -> NDArray[np.float64]:
        situation, bill = self.situation, self.bill
        dollars = bill.compute + bill.outside + bill.risk + bill.preference + self.preference()
        for vm in situation.governed:
            dollars[vm] += bill.move[vm] / self._hours(vm, freedom)
        if freedom.reluctant:
            spread = float(np.where(allowed, np.abs(dollars), 0.0).max(axis=1, initial=0.0).sum())
            most = spread + float(self._most_apart().sum())
            for vm in freedom.movable - frozenset(self.ruling.must_leave):
                stays = dollars[vm, situation.home[vm]]
                dollars[vm] += 1.0 + 2 * most
                dollars[vm, situation.home[vm]] = stays
        return dollars

    def _hours(self, vm: int, freedom: Freedom) -> float:
        """Return the hours that the one-time cost of a VM's move is spread over."""
        mandatory = vm in freedom.required or freedom.reluctant or not freedom.payback
        seconds = self.situation.settings.horizon_seconds
        if not mandatory:
            seconds = self.situation.payback_limit((vm,))
        return max(seconds, 1.0) / SECONDS_PER_HOUR

    def preference(self) -> NDArray[np.float64]:
        """Return what being outside the preferred clouds weighs: the more, the later in the list."""
        situation = self.situation
        taste = np.zeros((len(situation.vms), len(situation.places)))
        for policy in situation.policies:
            prefer = policy.availability.prefer
            for k, place in enumerate(situation.places):
                rank = prefer.index(place.cloud) if place.cloud in prefer else len(prefer)
                worth = situation.settings.preference_dollars_per_hour
                taste[list(situation.governed_by(policy)), k] += worth * rank / max(len(prefer), 1)
        return taste

    def _needs(self) -> NDArray[np.int64]:
        needs = [self.situation.needs(vm) for vm in range(len(self.situation.vms))]
        return np.array([(n.vcpus, n.memory_bytes) for n in needs], dtype=np.int64).reshape(-1, 2)

    def _capacity(self, freedom: Freedom) -> NDArray[np.int64]:
        """Return what each place can hold: what is free on its hosts, and what our VMs there occupy."""
        situation = self.situation
        capacity = np.zeros((len(situation.places), 2), dtype=np.int64)
        np.add.at(capacity, situation.home, self._needs())
        for k, place in enumerate(situation.places):
            if not freedom.capacity:
                capacity[k] = BOUNDLESS
            elif not place.doomed:
                for host in situation.hosts_in(k):
                    free = situation.free[host.name]
                    capacity[k] += (max(0, free.vcpus), max(0, free.memory_bytes))
        if freedom.capacity and freedom.headroom_over is not None:
            self._leave_headroom(capacity, np.array(freedom.headroom_over, dtype=np.int64))
        return capacity

    def _leave_headroom(self, capacity: NDArray[np.int64], base: NDArray[np.int64]) -> None:
        """Keep a share of each place free, where that holds a VM at least; never what is taken already."""
        situation, needs = self.situation, self._needs()
        at_home, at_base = np.zeros_like(capacity), np.zeros_like(capacity)
        np.add.at(at_home, situation.home, needs)
        np.add.at(at_base, base, needs)
        smallest = needs.min(axis=0, initial=BOUNDLESS)
        for k in range(len(situation.places)):
            reports = (situation.snapshot.capacity.get(h.name) for h in situation.hosts_in(k))
            whole = total(report.total for report in reports if report is not None)
            spare = (
                np.array((whole.vcpus, whole.memory_bytes)) * situation.settings.transit_headroom
            )
            if (spare >= smallest).all():
                left = capacity[k] - np.floor(spare).astype(np.int64)
                capacity[k] = np.maximum(left, np.maximum(at_home[k], at_base[k]))

    def _chatty(self, shared: list[Constraint]) -> tuple[NDArray[np.int64], list[Constraint]]:
        """Return the pairs worth looking at, and the constraints with those pairs renumbered."""
        chatty = self._most_apart() > self.situation.settings.negligible_dollars_per_hour
        for constraint in shared:
            if isinstance(constraint, CutLimit):
                chatty[list(constraint.pairs)] = True
        kept = np.flatnonzero(chatty)
        number = {int(pair): n for n, pair in enumerate(kept)}
        renumbered = [
            replace(c, pairs=tuple(number[pair] for pair in c.pairs))
            if isinstance(c, CutLimit)
            else c
            for c in shared
        ]
        return kept, renumbered

    def _most_apart(self) -> NDArray[np.float64]:
        """Return more than any two clouds make of each pair, in dollars per hour."""
        bill = self.bill
        billed = bill.rates.sum(axis=1) * bill.egress.max(initial=0.0)
        return np.asarray(billed + bill.nearness * bill.latency.max(initial=0.0))

    def _limits(self, freedom: Freedom) -> Iterator[Constraint]:
        if freedom.budgets and not freedom.reluctant:
            yield from (limit for _, _, limit in self.budget_limits(freedom))
        if freedom.in_time:
            yield from self._links(freedom)

    def budget_limits(self, freedom: Freedom) -> Iterator[tuple[Policy, MoveBudget, Constraint]]:
        """Return what each policy's budgets leave for elective moves."""
        return budget_limits(self.situation, self.bill, freedom.movable - freedom.required)

    def _links(self, freedom: Freedom) -> Iterator[Constraint]:
        """Let no more go over a link than it carries before each deadline."""
        situation = self.situation
        hurried: dict[tuple[int, int, float], list[int]] = defaultdict(list)
        for vm in sorted(frozenset(self.ruling.must_leave) & freedom.movable):
            left = situation.seconds_left(vm)
            if left < situation.settings.horizon_seconds and situation.evacuates(vm):
                for k in range(len(situation.places)):
                    if k != situation.home[vm]:
                        hurried[int(situation.home[vm]), k, left].append(vm)
        for (_, place, left), members in hurried.items():
            yield LinkTime(
                members=tuple(members),
                place=place,
                seconds=tuple(
                    float(self.bill.seconds[vm, place]) / situation.settings.moves_per_link
                    for vm in members
                ),
                limit=max(0.0, left),
            )
