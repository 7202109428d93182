"""Makes a plan out of a snapshot and the policies: the one door to this package.

Decides where VMs go, gives each a host, puts the moves in order, and lets nothing out that the independent
checker finds fault with. What can't be packed or put in order is ruled out, and the decision taken again.
The same snapshot gives the same plan, its name included.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2s

import numpy as np

from transhume.knowledge.model import (
    CostRate,
    GroupId,
    HostName,
    MoveKind,
    NoPlan,
    Plan,
    PlanId,
    Snapshot,
    Step,
    StepId,
    VmName,
)
from transhume.plan.by_size import SolverBySize
from transhume.plan.check import find_faults
from transhume.plan.constraints import Assignment
from transhume.plan.decide import Decider, Decision
from transhume.plan.formulate import Formulator, Freedom
from transhume.plan.judge import Bundle, Judge
from transhume.plan.money import Bill
from transhume.plan.packing import pack
from transhume.plan.problem import Place
from transhume.plan.reasons import Narrator
from transhume.plan.rules import read_rules
from transhume.plan.schedule import AlwaysSpread, Move, Schedule, schedule
from transhume.plan.settings import PlannerSettings
from transhume.plan.situation import Situation
from transhume.plan.solver import Solver
from transhume.policies.model import Hold, Policy, Spread

DEFAULTS = PlannerSettings()


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
                seconds=settings.solver_seconds, most_exact_vms=settings.most_exact_vms
            ),
        ),
        trigger=trigger,
    )


@dataclass(frozen=True, kw_only=True)
class _Planner:
    situation: Situation
    bill: Bill
    judge: Judge
    narrator: Narrator
    decider: Decider
    trigger: str

    def plan(self) -> Plan | NoPlan:
        if not self.situation.governed:
            return self._nothing("no policy applies to any VM that runs on a known host", {})
        bans: dict[tuple[int, int], str] = {}
        for _ in range(self.situation.settings.rounds):
            decision = self.decider.decide(bans)
            if not (decision.chosen != self.situation.home).any():
                return self._stay(decision)
            order, impossible = self._arrange(decision)
            if not impossible:
                return self._checked(decision, order)
            bans |= impossible
        return self._nothing("no way was found to carry out what would be better", {})

    def undo(self, done: Plan) -> Plan | str:
        """Return the plan that takes a plan back, or what is in the way."""
        target = self.situation.home.copy()
        for step in done.steps:
            place = Place(cloud=step.source_cloud)
            if step.vm not in self.situation.number or place not in self.situation.places:
                return f"{step.vm} can't go back to {step.source_cloud}"
            vm, k = self.situation.number[step.vm], self.situation.places.index(place)
            if why := self.narrator.formulator.ruling.barred.get((vm, k)):
                return f"{step.vm} can't go back: {why}"
            target[vm] = k
        if full := self._overfull(target):
            return f"{full} has no room for them any more"
        home, nobody = self.situation.home, frozenset[int]()
        decision = Decision(
            mended=home,
            chosen=target,
            late=nobody,
            optimal=False,
            refusals=(),
            freedom=Freedom(movable=nobody),
        )
        order, impossible = self._arrange(decision)
        if impossible:
            return "; ".join(impossible.values())
        plan = self._as_plan(decision, order)
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

    def _arrange(self, decision: Decision) -> tuple[Schedule, Mapping[tuple[int, int], str]]:
        """Return the order of the moves, or what can't be done: VM, place and why."""
        chosen = decision.chosen
        packing = pack(self.situation, chosen)
        order = schedule(
            [self._move(decision, vm, host) for vm, host in packing.host_of.items()],
            free=self.situation.free,
            cloud_of={vm: self.situation.snapshot.cloud_of(vm) for vm in self.situation.vms},
            spreads=self._always_spread(),
            moves_per_link=self.situation.settings.moves_per_link,
        )
        impossible = {
            (vm, int(chosen[vm])): "it has room in all, but on no single host "
            f"of {self.situation.places[chosen[vm]].cloud}"
            for vm in packing.homeless
        }
        for name, why in order.stuck.items() if not impossible else ():
            vm = self.situation.number[name]
            impossible[vm, int(chosen[vm])] = why
        return order, impossible

    def _move(self, decision: Decision, vm: int, host: HostName) -> Move:
        situation = self.situation
        name = situation.vms[vm]
        hosts = situation.snapshot.hosts
        source = situation.snapshot.placement.host_of[name]
        place = int(decision.chosen[vm])
        group = next((g for g, members in situation.groups().items() if vm in members), None)
        mandatory = decision.mended[vm] != situation.home[vm]
        left = situation.seconds_left(vm) if mandatory and situation.evacuates(vm) else float("inf")
        split = any(
            mate in decision.late or decision.chosen[mate] != place
            for mate in situation.groups().get(group or GroupId(""), ())
        )
        return Move(
            vm=name,
            source=source,
            destination=host,
            source_cloud=hosts[source].cloud,
            destination_cloud=hosts[host].cloud,
            needs=situation.needs(vm),
            seconds=float(self.bill.seconds[vm, place]),
            unit=f"group {group}" if group is not None else f"vm {name}",
            urgency=(float(not mandatory), float(vm in decision.late), left, float(split)),
        )

    def _always_spread(self) -> list[AlwaysSpread]:
        found = []
        for policy in self.situation.policies:
            for rule in policy.rules:
                if isinstance(rule, Spread) and rule.hold is Hold.ALWAYS:
                    members = self.situation.governed_by(policy, rule.who)
                    if not any(self.situation.evacuates(vm) for vm in members):
                        names = frozenset(self.situation.vms[vm] for vm in members)
                        found.append(AlwaysSpread(vms=names, minimum=rule.minimum))
        return found

    # what comes out

    def _checked(self, decision: Decision, order: Schedule) -> Plan | NoPlan:
        plan = self._as_plan(decision, order)
        faults = find_faults(self.situation.snapshot, self.situation.policies, plan.steps)
        if faults:
            return self._nothing(
                f"the plan that was made would break something: {'; '.join(faults)}",
                plan.unplaced,
                plan.after,
            )
        return plan

    def _as_plan(self, decision: Decision, order: Schedule) -> Plan:
        snapshot, home = self.situation.snapshot, self.situation.home
        steps = self._steps(decision, order)
        identity = blake2s(repr((snapshot.version, steps)).encode(), digest_size=6).hexdigest()
        return Plan(
            id=PlanId(f"plan-{identity}"),
            made_at=snapshot.at,
            made_from_version=snapshot.version,
            policies=self._names(),
            trigger=self.trigger,
            steps=tuple(
                replace(step, id=StepId(f"plan-{identity}-{n}"))
                for n, step in enumerate(steps, start=1)
            ),
            before=self.bill.of_assignment(home),
            after=self.bill.of_assignment(decision.chosen),
            horizon_seconds=self.situation.settings.horizon_seconds,
            optimal=decision.optimal,
            unplaced=self._unplaced(decision, order),
        )

    def _steps(self, decision: Decision, order: Schedule) -> list[Step]:
        situation, chosen = self.situation, decision.chosen
        saved = self.bill.savings(situation.home, chosen)
        bundles = {
            vm: bundle
            for bundle in self.judge.bundles(decision.mended, chosen)
            for vm in bundle.vms
        }
        steps = []
        for stage, moves in enumerate(order.stages):
            for move in moves:
                vm = situation.number[move.vm]
                steps.append(self._step(decision, move, stage, bundles.get(vm), float(saved[vm])))
        return steps

    def _step(
        self, decision: Decision, move: Move, stage: int, bundle: Bundle | None, saved: float
    ) -> Step:
        vm = self.situation.number[move.vm]
        prediction = self.bill.prediction(vm, int(decision.chosen[vm]))
        mandatory = bool(decision.mended[vm] != self.situation.home[vm])
        own = Bundle(vms=(vm,), saving=saved, dollars=prediction.dollars)
        if mandatory or bundle is None:
            reason = self.narrator.mandatory(vm, decision.chosen)
        else:
            reason = self.narrator.elective(vm, bundle.vms, decision.mended, decision.chosen)
        groups = self.situation.groups()
        return Step(
            id=StepId(""),
            vm=move.vm,
            source=move.source,
            destination=move.destination,
            source_cloud=move.source_cloud,
            destination_cloud=move.destination_cloud,
            kind=MoveKind.MANDATORY if mandatory else MoveKind.ELECTIVE,
            reason=reason,
            prediction=prediction,
            saving_dollars_per_hour=saved,
            payback_seconds=(own if mandatory else bundle or own).payback_seconds,
            stage=stage,
            group=next((g for g, members in groups.items() if vm in members), None),
            deadline=self.situation.deadline(vm) if mandatory else None,
        )

    def _stay(self, decision: Decision) -> NoPlan:
        unplaced = self._unplaced(decision)
        if failures := self.situation.heard.failures:
            return self._nothing(f"{'; '.join(failures)}; its VMs stay where they are", unplaced)
        if unplaced:
            return self._nothing(self.narrator.nobody_can(unplaced), unplaced)
        if decision.alternative is not None:
            better = self.bill.of_assignment(decision.alternative)
            return self._nothing(decision.refusals[0].why, {}, better)
        obstacle = next(self.decider.obstacles(decision), None)
        if obstacle is None:
            return self._nothing(self.narrator.nothing_pays(), {})
        saving = self.decider.saving(decision.mended, obstacle.better)
        why = self.narrator.obstacle(obstacle, decision.mended, saving)
        return self._nothing(why, {}, self.bill.of_assignment(obstacle.better))

    def _nothing(
        self, reason: str, unplaced: Mapping[VmName, str], better: CostRate | None = None
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
        )

    def _unplaced(self, decision: Decision, order: Schedule | None = None) -> dict[VmName, str]:
        found = dict(self.narrator.unplaced(decision))
        for name, seconds in order.finished_after().items() if order else ():
            vm = self.situation.number[name]
            if (
                self.situation.evacuates(vm)
                and vm not in found
                and seconds > self.situation.seconds_left(vm)
            ):
                found[vm] = self.narrator.behind_others(vm, seconds)
        for name, why in self.situation.heard.stuck.items():
            found.setdefault(self.situation.number[name], f"{why}; it stays where it is")
        return {self.situation.vms[vm]: why for vm, why in sorted(found.items())}

    def _names(self) -> tuple[str, ...]:
        return tuple(policy.name for policy in self.situation.policies)
