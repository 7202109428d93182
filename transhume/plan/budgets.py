"""Budgets of elective moves, as constraints: what a policy still allows at this instant, and which one binds.

What was spent is read from the outcomes of moves that were begun, whatever became of them; mandatory moves are
spent too. Hours in which nothing may move have an edge before them as well: no plan is begun whose elective
moves, one after the other, would still run when they begin.
"""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime

import numpy as np

from transhume.knowledge.model import StepResult
from transhume.plan.constraints import (
    NEGLIGIBLE_SHARE,
    Assignment,
    Constraint,
    Indices,
    MoveLimit,
    SpendLimit,
    Terrain,
)
from transhume.plan.money import Bill
from transhume.plan.situation import Situation
from transhume.policies.model import MoveBudget, Policy
from transhume.policies.summary import budget_text


def budget_limits(
    situation: Situation, bill: Bill, elective: Iterable[int]
) -> Iterator[tuple[Policy, MoveBudget, Constraint]]:
    """Yield what each policy's budgets say of the moves of these VMs."""
    able = frozenset(elective)
    for policy in situation.policies:
        members = tuple(vm for vm in situation.governed_by(policy) if vm in able)
        if members:
            for budget in policy.elective.budgets:
                for limit in _limits(situation, bill, policy, budget, members):
                    yield policy, budget, limit


def binding_budget(situation: Situation, bill: Bill, chosen: Assignment, movers: Indices) -> str:
    """Return which budget leaves no room for moves, for a person."""
    for policy in situation.policies:
        ours = tuple(vm for vm in situation.governed_by(policy) if vm in movers)
        for budget in policy.elective.budgets:
            limits = _limits(situation, bill, policy, budget, ours) if ours else ()
            if any(limit.excess(_terrain(bill), chosen) for limit in limits):
                return f"the budget of policy {policy.name}, {budget_text(budget)}"
    return "a budget"


def _limits(
    situation: Situation, bill: Bill, policy: Policy, budget: MoveBudget, members: Indices
) -> Iterator[Constraint]:
    since = budget.counts_since(situation.snapshot.at)
    if since is None:
        yield from _edge(situation, bill, budget, members)
        return
    moves, sent, dollars = _spent(situation, policy, since)
    if budget.moves is not None:
        yield MoveLimit(members=members, limit=max(0, budget.moves - moves))
    if budget.bytes is not None:
        counts = [[bill.prediction(vm, k).bytes for k in _places(situation)] for vm in members]
        yield _spending(situation, members, counts, budget.bytes - sent)
    if budget.dollars is not None:
        costs = [bill.move[vm].tolist() for vm in members]
        yield _spending(situation, members, costs, budget.dollars - dollars)


def _edge(
    situation: Situation, bill: Bill, budget: MoveBudget, members: Indices
) -> Iterator[Constraint]:
    now = situation.snapshot.at
    opening = budget.hours.next_opening(now) if budget.hours and budget.frozen else None
    if opening is not None:
        left = (opening.start - now).total_seconds()
        takes = [bill.seconds[vm].tolist() for vm in members]
        if sum(max(row) for row in takes) > left:
            yield _spending(situation, members, takes, left)


def _spending(
    situation: Situation, members: Indices, amounts: Sequence[Sequence[float]], left: float
) -> SpendLimit:
    home, limit = situation.home, max(0.0, left)
    # What is too much by itself is no more than that: beside it, a small limit would be lost in rounding.
    too_much = 2 * limit or 1.0
    return SpendLimit(
        members=members,
        amounts=tuple(
            tuple(
                0.0
                if k == home[vm]
                else float(amount)
                if amount <= limit * (1 + NEGLIGIBLE_SHARE)
                else too_much
                for k, amount in enumerate(row)
            )
            for vm, row in zip(members, amounts, strict=True)
        ),
        limit=limit,
    )


def _spent(situation: Situation, policy: Policy, since: datetime) -> tuple[int, float, float]:
    """Return the moves, bytes and dollars that a policy's VMs took since an instant."""
    names = {name for name, vm in situation.snapshot.vms.items() if policy.governs(vm)}
    made = [
        outcome
        for outcome in situation.snapshot.outcomes
        if outcome.vm in names
        and outcome.result is not StepResult.SKIPPED
        and outcome.ended_at > since
    ]
    return (
        len({(o.plan, o.vm) for o in made}),  # parked on its way, a VM made one move in two steps
        float(sum((o.measured or o.predicted).bytes for o in made)),
        sum(o.predicted.dollars for o in made),
    )


def _places(situation: Situation) -> range:
    return range(len(situation.places))


def _terrain(bill: Bill) -> Terrain:
    situation = bill.situation
    return Terrain(
        home=situation.home,
        cloud=situation.cloud,
        pairs=np.zeros((0, 2), dtype=np.int64),
        rates=np.zeros((0, 2)),
    )
