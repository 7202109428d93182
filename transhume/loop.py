"""The loop's judgement: given what is known, what to do now.

Owns the pace of planning: the hold (a reason must have lasted), the mode (recommend, approve, auto), the
memory of what was recommended already, the patience after a failure, and the look back at what a plan promised
(`after` in a policy). It is level-triggered: a round looks
at what is, so that a missed event costs a moment and nothing else. No I/O and no clock: the time comes with
each call.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from transhume.analyze import (
    Accounts,
    SymptomMemory,
    find_groups,
    find_patterns,
    sightings_of,
    watch,
)
from transhume.knowledge.model import (
    CloudName,
    MacAddress,
    MoveKind,
    NoPlan,
    Plan,
    PlanId,
    PlanStatus,
    Snapshot,
    Symptom,
    TrafficWindow,
    VmName,
)
from transhume.knowledge.records import Effect
from transhume.plan import PlannerSettings, Solver, make_plan
from transhume.plan.aftermath import look_back
from transhume.plan.deadline.keeping import DeadlineKeeper
from transhume.plan.expectation import Executed, terms_for
from transhume.policies.composition import mode_for, strictest
from transhume.policies.model import Mode, MoveBudget, Policy

Moves = frozenset[tuple[VmName, CloudName]]
Attempt = tuple[bool, bool, Moves]
"""Moves, whether they are made in need, and whether against time: a notice must not wait because the same moves
failed to pay, or to mend a rule."""

FIRST_PATIENCE = timedelta(minutes=1)
FIRST_PATIENCE_IN_NEED = timedelta(seconds=5)
"""A move that a notice or rule demands is tried again sooner: its deadline doesn't wait."""
LONGEST_PATIENCE = timedelta(hours=6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What one round came to."""

    snapshot: Snapshot
    symptoms: tuple[Symptom, ...]
    result: Plan | NoPlan
    status: PlanStatus | None
    """How the plan enters the knowledge; None where there is nothing new to record."""
    waiting: str = ""
    """Why a plan that exists isn't acted upon yet, for a person."""
    effects: tuple[tuple[PlanId, Effect], ...] = ()
    """What was found of plans whose effect was looked at, to be kept before the plan is."""

    @property
    def to_execute(self) -> Plan | None:
        """The plan to carry out at once, if there is one."""
        go = self.status is PlanStatus.EXECUTING and isinstance(self.result, Plan)
        return self.result if go and isinstance(self.result, Plan) else None


@dataclass(slots=True)
class _Patience:
    until: datetime
    delay: timedelta

    def lasts(self, now: datetime) -> bool:
        """Say whether it isn't over; nor begins later, because the clock was set back since."""
        return self.until - self.delay <= now < self.until


def perceive(
    snapshot: Snapshot, windows: Sequence[TrafficWindow], *, horizon_seconds: float
) -> Snapshot:
    """Return the snapshot with what the recent windows show in it: the matrix, the groups, their patterns.

    Windows stamped with a time to come aren't recent: those of a host whose clock is ahead would pile up.
    """
    windows = [window for window in windows if window.start <= snapshot.at]
    if not windows:
        return snapshot
    sightings = sightings_of(windows)
    accounts = Accounts(sightings, snapshot.vms.values(), taps=_taps(snapshot))
    matrix = accounts.matrix(seconds=min(horizon_seconds, sightings.covered_seconds))
    groups = find_groups(matrix, accounts.series(), previous=snapshot.groups)
    return replace(snapshot, matrix=matrix, groups=groups, patterns=find_patterns(matrix, groups))


def _taps(snapshot: Snapshot) -> dict[str, MacAddress]:
    """Return the MAC address at the end of each capture point that the inventory knows to be a tap.

    Of a VM on its way, the inventory knows the device at the host that it leaves.
    """
    return {
        f"{host}/{interface.device}": interface.mac
        for vm, host in snapshot.placement.host_of.items()
        if vm not in snapshot.moving
        for interface in snapshot.vms[vm].interfaces
        if interface.device
    }


class Loop:
    """The state of the judgement between rounds.

    Args:
        settings: the planner's.
        observation_seconds: how much traffic must have been seen before an elective move is considered.
        traffic_horizon_seconds: how long ago the last of that may have been.
        solver: who solves the planner's problems; the one that suits their size where none is given.
    """

    def __init__(
        self,
        settings: PlannerSettings,
        *,
        observation_seconds: float = 10.0,
        traffic_horizon_seconds: float = math.inf,
        solver: Solver | None = None,
    ) -> None:
        self._settings = settings
        self._deadlines = DeadlineKeeper(settings)
        self._solver = solver
        self._observation_seconds = observation_seconds
        self._traffic_horizon_seconds = traffic_horizon_seconds
        self._told: SymptomMemory | None = None
        self._trigger = "first look"
        self._since: dict[Moves, datetime] = {}
        self._lasting: dict[Moves, datetime] = {}
        """Since when the reason lasts for those that were looked at in this round."""
        self._recorded: tuple[PlanStatus, Moves] | str | None = None
        self._patience: dict[Attempt, _Patience] = {}
        self._taken_back: dict[Moves, datetime] = {}

    def consider(
        self, snapshot: Snapshot, policies: Sequence[Policy], executed: Sequence[Executed] = ()
    ) -> Decision:
        """Look at what is known and decide; `executed` are the plans that may have kept their promise."""
        symptoms, self._told = watch(self._told, snapshot, policies)
        if symptoms:
            self._trigger = "; ".join(symptom.detail for symptom in symptoms)
        policies = self._deadlines.heed(snapshot, policies)
        self._settle(snapshot, policies, executed)
        back = look_back(snapshot, policies, executed, self._settings)
        symptoms += back.symptoms
        self._lasting.clear()
        result = self._result(snapshot, policies, back.undo)
        decision = self._decide(result, snapshot, policies, symptoms)
        if self._lasting:
            self._since = dict(self._lasting)
        return replace(decision, effects=back.effects)

    def _decide(
        self,
        result: Plan | NoPlan,
        snapshot: Snapshot,
        policies: Sequence[Policy],
        symptoms: tuple[Symptom, ...],
    ) -> Decision:
        if isinstance(result, NoPlan):
            self._since.clear()
            new = self._recorded != result.reason or bool(symptoms)
            self._recorded = result.reason
            status = PlanStatus.RECOMMENDED if new else None
            return Decision(snapshot=snapshot, symptoms=symptoms, result=result, status=status)
        status, waiting = self._judge(result, snapshot, policies)
        new = status is PlanStatus.EXECUTING or self._recorded != (status, result.moves)
        self._recorded = (status, result.moves)
        return Decision(
            snapshot=snapshot,
            symptoms=symptoms,
            result=result,
            status=status if new else None,
            waiting=waiting,
        )

    def rethink(
        self, snapshot: Snapshot, policies: Sequence[Policy], executed: Sequence[Executed] = ()
    ) -> Plan | NoPlan:
        """Return what is best now, for comparison with a plan that a person approved; nothing is noted."""
        policies = self._deadlines.heed(snapshot, policies)
        undo = look_back(snapshot, policies, executed, self._settings).undo
        return self._result(snapshot, policies, undo)

    def forget(self) -> None:
        """Take note that what was recorded may not stand any more: the next round records what is best anew."""
        self._recorded = None

    def ended(self, plan: Plan, status: PlanStatus, now: datetime) -> None:
        """Take note of how a plan ended: one that came to nothing is not tried again at once."""
        attempt = _attempt(plan)
        self._since.pop(plan.moves, None)
        self._recorded = None
        if status is PlanStatus.DONE:
            self._patience.pop(attempt, None)
            return
        known = self._patience.get(attempt)
        first = FIRST_PATIENCE_IN_NEED if _in_need(plan) else FIRST_PATIENCE
        delay = min(known.delay * 2, LONGEST_PATIENCE) if known else first
        self._patience[attempt] = _Patience(until=now + delay, delay=delay)

    def _result(
        self, snapshot: Snapshot, policies: Sequence[Policy], undo: Plan | None
    ) -> Plan | NoPlan:
        """Return what is best; where some VMs would have others wait in vain, what is best for those."""
        best = self._plan(snapshot, policies)
        if isinstance(best, NoPlan):
            return _first_of(best, undo)
        if undo is not None and not _hurried(best):
            goes = [self._judge(each, snapshot, policies)[0] for each in (undo, best)]
            if goes[0] is PlanStatus.EXECUTING is not goes[1]:
                return undo
        for plan in self._options(best, frozenset(), snapshot, policies):
            waits = self._why_wait(plan, snapshot, _governing(plan, snapshot, policies))
            # While moves are made, none that must be made in time could be begun, or be approved.
            hinders = _hurried(best) and not _hurried(plan)
            if not waits and not hinders and _first_of(plan, undo) is plan:
                return plan
        return _first_of(best, undo)

    def _options(
        self, best: Plan, held: frozenset[VmName], snapshot: Snapshot, policies: Sequence[Policy]
    ) -> Iterator[Plan]:
        """Yield the best plan, those for VMs of bolder policies before it, and those for others after it.

        The others come where moves that must be made have failed, and wait. VMs that a plan isn't for are held:
        they stay where they are, and so does the room that they take there.
        """
        governing = _governing(best, snapshot, policies)
        timid = strictest(policy.mode for policy in governing)
        modes = {
            name: mode_for(policies, vm)
            for name, vm in snapshot.vms.items()
            if any(policy.governs(vm) for policy in policies)
        }
        tried = {held}
        for mode in (Mode.AUTO, Mode.APPROVE):
            if mode is timid:
                break
            more = held | {n for n, each in modes.items() if strictest((each, mode)) is not mode}
            if more not in tried and not more.issuperset(modes):
                tried.add(more)
                yield from self._holding(more, snapshot, policies)
        yield best
        if _in_need(best) and self._why_wait(best, snapshot, governing):
            waiting = frozenset(step.vm for step in best.steps)
            yield from self._holding(held | waiting, snapshot, policies)

    def _holding(
        self, held: frozenset[VmName], snapshot: Snapshot, policies: Sequence[Policy]
    ) -> Iterator[Plan]:
        """Yield the plans there are, the best one first, that leave some VMs where they are."""
        plan = self._plan(replace(snapshot, moving=snapshot.moving | held), policies)
        if isinstance(plan, Plan):
            told = {vm: each for vm, each in plan.explanations.items() if vm not in held}
            yield from self._options(replace(plan, explanations=told), held, snapshot, policies)

    def _plan(self, snapshot: Snapshot, policies: Sequence[Policy]) -> Plan | NoPlan:
        """Plan; where moves that must be made can't wait, leave out the others that would have to."""
        result = self._best(snapshot, policies)
        if isinstance(result, NoPlan) or not _in_need(result):
            return result
        holds = any(policy.elective.hold_seconds > 0 for policy in policies)
        if _only_mandatory(result) or not (holds or self._unseen(snapshot)):
            return result
        return self._best(snapshot, [_without_electives(policy) for policy in policies])

    def _best(self, snapshot: Snapshot, policies: Sequence[Policy]) -> Plan | NoPlan:
        return make_plan(
            snapshot,
            policies,
            trigger=self._trigger,
            settings=self._settings,
            solver=self._solver,
        )

    def _unseen(self, snapshot: Snapshot) -> str:
        """Say how much traffic is still to be seen before an elective move; empty where it's enough."""
        matrix = snapshot.matrix
        seen = matrix.seconds if matrix is not None else 0.0
        if matrix is not None:
            last = matrix.start + timedelta(seconds=seen)
            if (snapshot.at - last).total_seconds() > self._traffic_horizon_seconds:
                return f"no traffic seen since {last:%Y-%m-%d %H:%M:%S}"
        if seen >= self._observation_seconds:
            return ""
        return f"traffic seen for {seen:.0f} s of the {self._observation_seconds:.0f} s needed"

    def _judge(
        self, plan: Plan, snapshot: Snapshot, policies: Sequence[Policy]
    ) -> tuple[PlanStatus, str]:
        governing = _governing(plan, snapshot, policies)
        waiting = self._why_wait(plan, snapshot, governing)
        mode = strictest(policy.mode for policy in governing)
        if waiting or mode is Mode.RECOMMEND:
            return PlanStatus.RECOMMENDED, waiting
        if mode is Mode.APPROVE:
            return PlanStatus.AWAITING_APPROVAL, f"transhume approve {plan.id}"
        return PlanStatus.EXECUTING, ""

    def _settle(
        self, snapshot: Snapshot, policies: Sequence[Policy], executed: Sequence[Executed]
    ) -> None:
        """Note until when moves that were taken back aren't made again: each time for twice as long."""
        self._taken_back = {}
        for each in sorted(executed, key=lambda e: e.ended_at):
            terms = terms_for(each.plan, snapshot, policies)
            if each.undone_at is None or terms is None:
                continue
            times = sum(
                e.undone_at is not None and e.plan.moves == each.plan.moves for e in executed
            )
            delay = timedelta(seconds=terms.within_seconds) * 2 ** min(times - 1, 10)
            self._taken_back[each.plan.moves] = each.undone_at + min(delay, LONGEST_PATIENCE)

    def _why_wait(self, plan: Plan, snapshot: Snapshot, governing: Sequence[Policy]) -> str:
        now, moves = snapshot.at, plan.moves
        if plan.undoes is not None:
            return ""
        patience = self._patience.get(_attempt(plan))
        if patience is not None and patience.lasts(now):
            return f"the same moves came to nothing; next try at {patience.until:%H:%M:%S}"
        if _in_need(plan):
            return ""
        for taken_back, until in self._taken_back.items():
            if now < until and moves & taken_back:
                return f"the same moves were taken back; next try at {until:%H:%M:%S}"
        unseen = self._unseen(snapshot)
        if unseen:
            return unseen
        since = self._lasting.setdefault(moves, min(self._since.get(moves, now), now))
        slowest = max(governing, key=lambda policy: policy.elective.hold_seconds, default=None)
        hold = slowest.elective.hold_seconds if slowest else 0.0
        lasted = (now - since).total_seconds()
        if slowest and lasted < hold:
            return f"held by policy {slowest.name}: its reason has lasted {lasted:.0f} s of {hold:.0f} s"
        return ""


def _first_of(result: Plan | NoPlan, undo: Plan | None) -> Plan | NoPlan:
    """Return what comes first: moves that must be made, then a plan's undoing, then what else is best."""
    if undo is None or (isinstance(result, Plan) and _in_need(result)):
        return result
    return undo


def _governing(plan: Plan, snapshot: Snapshot, policies: Sequence[Policy]) -> list[Policy]:
    """Return the policies that have a say in a plan."""
    return [
        policy
        for policy in policies
        if any(policy.governs(snapshot.vms[step.vm]) for step in plan.steps)
    ]


def _only_mandatory(plan: Plan) -> bool:
    return all(step.kind is MoveKind.MANDATORY for step in plan.steps)


def _without_electives(policy: Policy) -> Policy:
    none = replace(policy.elective, budgets=(MoveBudget(moves=0, per_seconds=3600.0),))
    return replace(policy, elective=none)


def _attempt(plan: Plan) -> Attempt:
    return _in_need(plan), _hurried(plan), plan.moves


def _hurried(plan: Plan) -> bool:
    return any(step.deadline is not None for step in plan.steps)


def _in_need(plan: Plan) -> bool:
    return any(step.kind is MoveKind.MANDATORY for step in plan.steps)
