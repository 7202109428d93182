"""Whether elective moves are worth their trouble: payback and minimum gain, as the policies ask for.

Moves are judged by *bundle*: VMs that change place and talk to each other (or must be together) go for one
reason, and pay back as one. A policy's minimum gain is asked of all its elective moves at once.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from transhume.knowledge.model import SECONDS_PER_HOUR
from transhume.plan.constraints import Assignment, Indices, SameCloud
from transhume.plan.money import Bill
from transhume.plan.rules import Ruling, named
from transhume.plan.situation import Situation
from transhume.policies.model import Policy
from transhume.quantities import format_dollars_per_hour, format_duration

NOTHING_BESIDE: Mapping[int, float] = {}
CENTS_OF_NOTHING = 1e-9
"""Savings below this, in dollars per hour, are rounding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Moves that go for one reason."""

    vms: Indices
    saving: float
    """What the running bill falls by, in dollars per hour."""
    dollars: float
    """What the moves cost once."""

    @property
    def payback_seconds(self) -> float | None:
        """Time after which the moves have earned their cost; None where they save nothing."""
        if self.saving <= CENTS_OF_NOTHING:
            return None
        return max(0.0, self.dollars) / self.saving * SECONDS_PER_HOUR


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Elective moves that a limit forbids."""

    vms: frozenset[int]
    why: str


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Weighs assignments against each other."""

    situation: Situation
    bill: Bill
    ruling: Ruling

    def bundles(
        self, before: Assignment, after: Assignment, beside: Mapping[int, float] = NOTHING_BESIDE
    ) -> list[Bundle]:
        """Return the bundles of the moves that lead from one assignment to the other.

        Args:
            before: where the VMs are.
            after: where they go.
            beside: what each VM's move costs once beside the move itself (a group split meanwhile, a detour).
        """
        changed = [int(vm) for vm in np.flatnonzero(before != after)]
        everyone = np.arange(len(before))
        saved = self.bill.savings(before, after)
        once = self.bill.move[everyone, after] - self.bill.move[everyone, before]
        return [
            Bundle(
                vms=members,
                saving=float(saved[list(members)].sum()),
                dollars=float(once[list(members)].sum())
                + sum(beside.get(vm, 0.0) for vm in members),
            )
            for members in self._connected(changed)
        ]

    def refuse(
        self, base: Assignment, chosen: Assignment, beside: Mapping[int, float] = NOTHING_BESIDE
    ) -> list[Refusal]:
        """Return which of the elective moves (those that `base` doesn't make) are not worth it."""
        return list(self._too_slow(base, chosen, beside)) or list(
            self._too_little(base, chosen, beside)
        )

    def elective(self, base: Assignment, chosen: Assignment) -> Indices:
        """Return the VMs that move though `base` leaves them where they are."""
        home = self.situation.home
        return tuple(int(vm) for vm in np.flatnonzero((chosen != home) & (base == home)))

    def overdrawn(self) -> Iterator[str]:
        """Yield which policies' VMs cost more now than they may, for a person."""
        situation = self.situation
        for policy in situation.policies:
            cost = self.bill.running_share(situation.governed_by(policy), situation.home)
            if policy.price and over_budget(policy, cost):
                budget = format_dollars_per_hour(policy.price.budget_dollars_per_hour or 0.0)
                yield f"the VMs of policy {policy.name} cost more than its budget of {budget}"

    def _too_slow(
        self, base: Assignment, chosen: Assignment, beside: Mapping[int, float]
    ) -> Iterator[Refusal]:
        elective = frozenset(self.elective(base, chosen))
        for bundle in self.bundles(base, chosen, beside):
            ours = elective.intersection(bundle.vms)
            if not ours:
                continue
            limit, payback = self.situation.payback_limit(sorted(ours)), bundle.payback_seconds
            who = f"moving {named(self.situation, tuple(sorted(ours)))}"
            if payback is None:
                yield Refusal(vms=ours, why=f"{who} saves nothing by itself")
            elif payback > limit * (1 + 1e-9):
                yield Refusal(
                    vms=ours,
                    why=f"{who} would save {format_dollars_per_hour(bundle.saving)}, but has paid for "
                    f"itself only after {format_duration(payback)}; the limit is "
                    f"{format_duration(limit)} ({self.situation.payback_asker(ours)})",
                )

    def _too_little(
        self, base: Assignment, chosen: Assignment, beside: Mapping[int, float]
    ) -> Iterator[Refusal]:
        situation, bill = self.situation, self.bill
        hours = situation.settings.horizon_seconds / SECONDS_PER_HOUR
        saved = bill.savings(base, chosen)
        elective = self.elective(base, chosen)
        for policy in situation.policies:
            members = situation.governed_by(policy)
            ours = tuple(vm for vm in elective if vm in members)
            if not ours:
                continue
            once = sum(float(bill.move[vm, chosen[vm]]) + beside.get(vm, 0.0) for vm in ours)
            gain = float(saved[list(ours)].sum()) - once / hours
            cost = bill.running_share(members, situation.home)
            if gain < policy.elective.min_gain * cost - CENTS_OF_NOTHING and not over_budget(
                policy, cost
            ):
                theirs = f"the VMs of policy {policy.name} cost"
                share = f"{gain / cost:.1%} of what {theirs}" if cost > 0 else f"{theirs} nothing"
                yield Refusal(
                    vms=frozenset(members),
                    why=f"moving {named(situation, ours)} would save "
                    f"{format_dollars_per_hour(gain)}, {share}; it asks for at least "
                    f"{policy.elective.min_gain:.0%}",
                )

    def _connected(self, changed: list[int]) -> list[Indices]:
        """Return the VMs that changed place, those together that have to do with each other."""
        neighbours: dict[int, set[int]] = {vm: set() for vm in changed}
        for one, other in self.bill.pairs.tolist():
            if one in neighbours and other in neighbours:
                neighbours[one].add(other)
                neighbours[other].add(one)
        for rule in self.ruling.shared:
            if isinstance(rule.constraint, SameCloud):
                members = [vm for vm in rule.constraint.members if vm in neighbours]
                for vm in members:
                    neighbours[vm].update(members)
        bundles: list[Indices] = []
        while neighbours:
            reached, frontier = set(), {min(neighbours)}
            while frontier:
                reached |= frontier
                frontier = set().union(*(neighbours.pop(vm) for vm in frontier)) - reached
            bundles.append(tuple(sorted(reached)))
        return bundles


def over_budget(policy: Policy, dollars_per_hour: float) -> bool:
    """Say whether the policy's VMs cost more than they may: then any saving is worth having."""
    budget = policy.price.budget_dollars_per_hour if policy.price else None
    return budget is not None and dollars_per_hour > budget
