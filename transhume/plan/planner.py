"""Makes a plan out of a snapshot and the policies: the one door to this package.

Decides where VMs go, gives each a host, puts the moves in order, and lets nothing out that the independent
checker finds fault with. What can't be packed or put in order is ruled out, and the decision taken again.
The same snapshot gives the same plan, its name included.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from hashlib import blake2s

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import (
    SECONDS_PER_HOUR,
    Conflict,
    CostRate,
    MoveKind,
    NoPlan,
    Plan,
    PlanId,
    Snapshot,
    Step,
    StepId,
    VmName,
)
from transhume.plan.arrange import Arrangement, Arranger
from transhume.plan.by_size import SolverBySize
from transhume.plan.check import find_faults
from transhume.plan.conflict import find_conflict
from transhume.plan.constraints import Assignment
from transhume.plan.decide import Decider, Decision
from transhume.plan.explaining import Explainer
from transhume.plan.formulate import Formulator, Freedom
from transhume.plan.judge import Bundle, Judge
from transhume.plan.money import Bill
from transhume.plan.problem import Place
from transhume.plan.reasons import Narrator
from transhume.plan.rules import read_rules
from transhume.plan.schedule import Leg
from transhume.plan.settings import PlannerSettings
from transhume.plan.situation import Situation
from transhume.plan.solver import Solver
from transhume.policies.model import Policy

DEFAULTS = PlannerSettings()
THINKING_SHARE, LEAST_SECONDS = 0.05, 1.0
"""Of the time that the shortest notice leaves, what one problem may take: who flees it can't begin before; and
what it may take in any case."""


def make_plan(
    snapshot: Snapshot,
    policies: Sequence[Policy],
    *,
    trigger: str,
    settings: PlannerSettings = DEFAULTS,
    solver: Solver | None = None,
) -> Plan | NoPlan:
    """Return the moves that rules and notices demand and those that pay, or why there are none.

    Args:
        snapshot: what is known.
        policies: what is wanted; VMs that none of them governs stay where they are.
        trigger: the symptom that made us think, for a person.
        settings: what to assume where nothing was measured.
        solver: who solves the canonical problems; the one that suits their size where none is given.
    """
    return _planner(snapshot, policies, trigger, settings, solver).plan()


def make_undo(
    snapshot: Snapshot,
    policies: Sequence[Policy],
    done: Plan,
    *,
    trigger: str,
    settings: PlannerSettings = DEFAULTS,
) -> Plan | str:
    """Return the plan that takes all moves of a plan back, or why that is impossible by now.

    Args:
        snapshot: what is known; the plan's VMs are where it brought them.
        policies: what is wanted. Their rules and frozen hours are kept, cool-downs and other budgets aren't
            asked: it's the end of one decision, not a new one.
        done: what to take back.
        trigger: what was expected and what was seen, for a person.
        settings: what to assume where nothing was measured.
    """
    return _planner(snapshot, policies, trigger, settings, None).undo(done)


def _planner(
    snapshot: Snapshot,
    policies: Sequence[Policy],
    trigger: str,
    settings: PlannerSettings,
    solver: Solver | None,
) -> "_Planner":
    situation = Situation.read(snapshot, policies, settings)
    bill = Bill.of(situation)
    ruling = read_rules(situation, bill)
    formulator = Formulator(situation=situation, bill=bill, ruling=ruling)
    judge = Judge(situation=situation, bill=bill, ruling=ruling)
    return _Planner(
        situation=situation,
        bill=bill,
        judge=judge,
        narrator=Narrator(formulator=formulator),
        decider=Decider(
            formulator=formulator,
            judge=judge,
            solver=solver
            or SolverBySize(
                seconds=_seconds_to_think(situation), most_proved_vms=settings.most_proved_vms
            ),
        ),
        arranger=Arranger(situation=situation, bill=bill),
        trigger=trigger,
    )


def _seconds_to_think(situation: Situation) -> float:
    """Return how long the solver may look at one problem."""
    left = (situation.seconds_left(vm) for vm in situation.governed if situation.evacuates(vm))
    share = THINKING_SHARE * min((each for each in left if each > 0), default=math.inf)
    return min(situation.settings.solver_seconds, max(LEAST_SECONDS, share))


@dataclass(frozen=True, kw_only=True)
class _Planner:
    situation: Situation
    bill: Bill
    judge: Judge
    narrator: Narrator
    decider: Decider
    arranger: Arranger
    trigger: str

    def plan(self) -> Plan | NoPlan:
        if not self.situation.governed:
            return self._nothing("no policy applies to any VM that runs on a known host", {})
        bans: dict[tuple[int, int], str] = {}
        for _ in range(self.situation.settings.rounds):
            decision = self.decider.decide(bans)
            if not (decision.chosen != self.situation.home).any():
                return self._stay(decision)
            arrangement = self.arranger.arrange(decision)
            impossible = arrangement.impossible or self._too_dear(decision, arrangement)
            if not impossible:
                return self._explained(self._polished(decision, arrangement), decision)
            bans |= impossible
        return self._needed(decision, bans)

    def _needed(self, decision: Decision, bans: Mapping[tuple[int, int], str]) -> Plan | NoPlan:
        """Return what can be done of the moves that must be made, where not all that is best can be."""
        home = self.situation.home
        while (decision.mended != home).any():
            decision = replace(
                decision,
                chosen=decision.mended,
                optimal=False,
                above_best=None,
                freedom=replace(decision.freedom, bans=bans),
            )
            arrangement = self.arranger.arrange(decision)
            if not arrangement.impossible:
                return self._explained(self._polished(decision, arrangement), decision)
            bans = {**bans, **arrangement.impossible}
            left, mended = [vm for vm, _ in arrangement.impossible], decision.mended.copy()
            mended[left] = home[left]
            decision = replace(decision, mended=mended, late=decision.late.difference(left))
        unplaced = self._unplaced(replace(decision, chosen=home))
        return self._nothing("no way was found to carry out what would be better", unplaced)

    def undo(self, done: Plan) -> Plan | str:
        """Return the plan that takes a plan back, or what is in the way."""
        target = self.situation.home.copy()
        for name, (origin, _) in done.ways.items():
            place = Place(cloud=origin)
            if name not in self.situation.number or place not in self.situation.places:
                return f"{name} can't go back to {origin}"
            vm, k = self.situation.number[name], self.situation.places.index(place)
            if why := self.narrator.formulator.ruling.barred.get((vm, k)):
                return f"{name} can't go back: {why}"
            target[vm] = k
        if full := self._overfull(target):
            return f"{full} has no room for them any more"
        home, nobody = self.situation.home, frozenset[int]()
        decision = Decision(
            mended=home,
            chosen=target,
            late=nobody,
            optimal=False,
            above_best=None,
            refusals=(),
            freedom=Freedom(movable=nobody),
        )
        arrangement = self.arranger.arrange(decision)
        if arrangement.impossible:
            return "; ".join(dict.fromkeys(arrangement.impossible.values()))
        plan = self._as_plan(decision, arrangement)
        back = tuple(replace(step, reason=f"goes back: {self.trigger}") for step in plan.steps)
        snapshot, policies = self.situation.snapshot, self.situation.policies
        faults = find_faults(snapshot, policies, back, undoes=done.id)
        return "; ".join(faults) or replace(plan, steps=back, undoes=done.id)

    def _overfull(self, target: Assignment) -> str:
        """Return the first cloud that lacks the room for an assignment."""
        problem = self.narrator.formulator.problem(Freedom(movable=frozenset()))
        used = np.zeros_like(problem.capacity)
        np.add.at(used, target, problem.needs)
        lacking = np.flatnonzero((used > problem.capacity).any(axis=1))
        return self.situation.places[lacking[0]].cloud if len(lacking) else ""

    def _too_dear(
        self, decision: Decision, arrangement: Arrangement
    ) -> Mapping[tuple[int, int], str]:
        """Return the elective moves that don't pay once the way there is on the bill, each with why."""
        beside = self._beside(arrangement)
        refusals = self.judge.refuse(decision.mended, decision.chosen, beside) if beside else []
        elective = set(self.judge.elective(decision.mended, decision.chosen))
        return {
            (vm, int(decision.chosen[vm])): refusal.why
            for refusal in refusals
            for vm in elective & refusal.vms
        }

    def _beside(self, arrangement: Arrangement) -> dict[int, float]:
        found = {self.situation.number[vm]: arrangement.beside(vm) for vm in arrangement.ways}
        return {vm: dollars for vm, dollars in found.items() if dollars > 0}

    # what comes out

    def _polished(self, decision: Decision, arrangement: Arrangement) -> Plan | NoPlan:
        """Return the plan in its better order, if that passes all that any plan has to; else as it was."""
        polished = self.arranger.polished(decision, arrangement)
        if polished is not arrangement and not self._too_dear(decision, polished):
            plan = self._checked(decision, polished)
            if isinstance(plan, Plan):
                return plan
        return self._checked(decision, arrangement)

    def _checked(self, decision: Decision, arrangement: Arrangement) -> Plan | NoPlan:
        plan = self._as_plan(decision, arrangement)
        faults = find_faults(self.situation.snapshot, self.situation.policies, plan.steps)
        if faults:
            return self._nothing(
                f"the plan that was made would break something: {'; '.join(faults)}",
                plan.unplaced,
                plan.after,
                plan.conflict,
            )
        return plan

    def _as_plan(self, decision: Decision, arrangement: Arrangement) -> Plan:
        snapshot, home = self.situation.snapshot, self.situation.home
        steps = self._steps(decision, arrangement)
        unplaced = self._unplaced(decision)
        identity = blake2s(repr((snapshot.version, steps)).encode(), digest_size=6).hexdigest()

        def named(number: StepId) -> StepId:
            return StepId(f"plan-{identity}-{number}")

        placed = self.bill.of_assignment(decision.chosen)
        hours = self.situation.settings.horizon_seconds / SECONDS_PER_HOUR
        beside = sum(arrangement.beside(vm) for vm in arrangement.ways)
        after = replace(placed, migration=placed.migration + beside / hours)
        return Plan(
            id=PlanId(f"plan-{identity}"),
            made_at=snapshot.at,
            made_from_version=snapshot.version,
            policies=self._names(),
            trigger=self.trigger,
            steps=tuple(
                replace(
                    step,
                    id=named(step.id),
                    after=tuple(map(named, step.after)),
                    relies_on=tuple(map(named, step.relies_on)),
                )
                for step in steps
            ),
            before=self.bill.of_assignment(home),
            after=after,
            horizon_seconds=self.situation.settings.horizon_seconds,
            optimal=decision.optimal,
            bound_dollars_per_hour=(
                None if decision.above_best is None else after.total - decision.above_best
            ),
            unplaced=unplaced,
            conflict=self._conflict(decision, unplaced),
        )

    def _steps(self, decision: Decision, arrangement: Arrangement) -> list[Step]:
        """Return the steps, numbered from 1: names come later, for they are made from the steps."""
        beside = self._beside(arrangement)
        bundles = {
            vm: bundle
            for bundle in self.judge.bundles(decision.mended, decision.chosen, beside)
            for vm in bundle.vms
        }
        saved = self.bill.savings(self.situation.home, decision.chosen)
        return [
            self._step(decision, arrangement, number, bundles, saved)
            for number in range(len(arrangement.schedule.legs))
        ]

    def _step(
        self,
        decision: Decision,
        arrangement: Arrangement,
        number: int,
        bundles: Mapping[int, Bundle],
        savings: NDArray[np.float64],
    ) -> Step:
        leg = arrangement.schedule.legs[number]
        move, vm = leg.move, self.situation.number[leg.move.vm]
        mandatory = bool(decision.mended[vm] != self.situation.home[vm])
        parks, bundle = leg.makes_room_for is not None, bundles.get(vm)
        saved = 0.0 if parks else float(savings[vm])
        own = Bundle(
            vms=(vm,),
            saving=saved,
            dollars=float(self.bill.move[vm, decision.chosen[vm]]) + arrangement.beside(move.vm),
        )
        return Step(
            id=_numbered(number),
            vm=move.vm,
            source=move.source,
            destination=move.destination,
            source_cloud=move.source_cloud,
            destination_cloud=move.destination_cloud,
            kind=MoveKind.MANDATORY if mandatory else MoveKind.ELECTIVE,
            reason=self._reason(decision, leg, None if mandatory else bundle),
            prediction=arrangement.predictions[number],
            saving_dollars_per_hour=saved,
            payback_seconds=(own if mandatory else bundle or own).payback_seconds,
            stage=leg.stage,
            group=self.situation.group_of.get(vm),
            deadline=self._deadline(leg) if mandatory else None,
            after=tuple(map(_numbered, leg.after)),
            relies_on=tuple(map(_numbered, leg.relies_on)),
            starts_after_seconds=leg.start,
            bytes_per_second=self.bill.estimator.share(move.source_cloud, move.destination_cloud),
            split_dollars=0.0 if parks else arrangement.split.get(move.vm, 0.0),
        )

    def _deadline(self, leg: Leg) -> datetime | None:
        """Return when the host that a leg leaves will be gone."""
        return self.situation.deadlines.get(leg.move.source)

    def _reason(self, decision: Decision, leg: Leg, bundle: Bundle | None) -> str:
        vm = self.situation.number[leg.move.vm]
        if leg.makes_room_for is not None:
            there = self.situation.places[decision.chosen[vm]].cloud
            return f"steps aside to make room for {leg.makes_room_for}, then goes on to {there}"
        if bundle is None:
            return self.narrator.mandatory(vm, decision.chosen)
        return self.narrator.elective(vm, bundle.vms, decision.mended, decision.chosen)

    def _stay(self, decision: Decision) -> Plan | NoPlan:
        unplaced = self._unplaced(decision)
        if failures := self.situation.heard.failures:
            why = f"{'; '.join(failures)}; its VMs stay where they are"
            return self._explained(self._nothing(why, unplaced), decision)
        if unplaced:
            conflict = self._conflict(decision, unplaced)
            why = self.narrator.nobody_can(unplaced)
            nothing = self._nothing(why, unplaced, conflict=conflict)
            return self._explained(nothing, decision)
        if decision.alternative is not None:
            better = self.bill.of_assignment(decision.alternative)
            return self._explained(self._nothing(decision.refusals[0].why, {}, better), decision)
        obstacle = next(self.decider.obstacles(decision), None)
        if obstacle is None:
            return self._explained(self._nothing(self.narrator.nothing_pays(), {}), decision)
        saving = self.decider.saving(decision.mended, obstacle.better)
        why = self.narrator.obstacle(obstacle, decision.mended, saving)
        nothing = self._nothing(why, {}, self.bill.of_assignment(obstacle.better))
        return self._explained(nothing, decision, obstacle.better)

    def _explained(
        self, result: Plan | NoPlan, decision: Decision, better: Assignment | None = None
    ) -> Plan | NoPlan:
        explainer = Explainer(decider=self.decider, judge=self.judge)
        return explainer.explained(result, decision, better)

    def _nothing(
        self,
        reason: str,
        unplaced: Mapping[VmName, str],
        better: CostRate | None = None,
        conflict: Conflict | None = None,
    ) -> NoPlan:
        snapshot = self.situation.snapshot
        return NoPlan(
            made_at=snapshot.at,
            made_from_version=snapshot.version,
            policies=self._names(),
            trigger=self.trigger,
            reason="; ".join((reason, *self.judge.overdrawn())),
            before=self.bill.of_assignment(self.situation.home),
            best_alternative=better,
            unplaced=unplaced,
            conflict=conflict,
        )

    def _conflict(self, decision: Decision, unplaced: Mapping[VmName, str]) -> Conflict | None:
        """Return what can't all hold, where something is left as it shouldn't be."""
        if not unplaced:
            return None
        return find_conflict(
            self.situation,
            self.bill,
            self.judge.ruling,
            bans=decision.freedom.bans,
            tried=(decision.mended, decision.chosen),
        )

    def _unplaced(self, decision: Decision) -> dict[VmName, str]:
        found = dict(self.narrator.unplaced(decision))
        for name, why in self.situation.heard.stuck.items():
            found.setdefault(self.situation.number[name], f"{why}; it stays where it is")
        return {self.situation.vms[vm]: why for vm, why in sorted(found.items())}

    def _names(self) -> tuple[str, ...]:
        return tuple(policy.name for policy in self.situation.policies)


def _numbered(leg: int) -> StepId:
    return StepId(str(leg + 1))
