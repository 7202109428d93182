"""Explains a decision: for each VM what it changes, what else there was, and what would turn the answer.

VMs that move are explained first, then those that should move and can't, then those whose moving would bring
most. Numbers are reckoned for all VMs at once (`weighing`), words are found only for those that are explained.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

from transhume.knowledge.model import (
    Explanation,
    Hindrance,
    HostName,
    Limit,
    NoPlan,
    Parameter,
    Plan,
    Resources,
    TurningPoint,
    VmName,
)
from transhume.plan.constraints import Assignment, Indices
from transhume.plan.decide import Decider, Decision
from transhume.plan.explaining.limits import LEAST_SAVING, Bargain, Limits
from transhume.plan.explaining.options import Option, Options
from transhume.plan.explaining.shares import Shares
from transhume.plan.explaining.turning import Rival, Turning
from transhume.plan.explaining.weighing import Weighing
from transhume.plan.explaining.words import OF_NO_POLICY, not_in_time, why_it_stays
from transhume.plan.judge import Judge, over_budget
from transhume.plan.situation import Situation

MOST_NAMES = 20
"""Of a bundle's VMs."""


@dataclass(frozen=True, kw_only=True)
class Explainer:
    """Explains what a decider decided."""

    decider: Decider
    judge: Judge

    def explained(
        self, result: Plan | NoPlan, decision: Decision, better: Assignment | None = None
    ) -> Plan | NoPlan:
        """Return a plan, or the absence of one, with its explanations.

        Args:
            result: what came of the decision.
            decision: where the VMs go.
            better: a placement that a limit forbids; its moves are weighed too.
        """
        formulator = self.decider.formulator
        situation = formulator.situation
        if not situation.settings.most_explained_vms:
            return result
        decision = _as_it_came(situation, result, decision)
        weighing = Weighing.of(formulator, decision)
        options = Options(
            formulator=formulator,
            judge=self.judge,
            decision=decision,
            weighing=weighing,
            free=_free_then(situation, result),
            better=better if better is not None else decision.alternative,
        )
        case = _Case(
            decider=self.decider,
            decision=decision,
            result=result,
            weighing=weighing,
            options=options,
        )
        return replace(result, explanations=dict(case.explanations()), limits=case.limits())


@dataclass(frozen=True, kw_only=True)
class _Case:
    decider: Decider
    decision: Decision
    result: Plan | NoPlan
    weighing: Weighing
    options: Options

    def explanations(self) -> Iterator[tuple[VmName, Explanation]]:
        situation = self._situation
        for vm in self._options:
            yield situation.vms[vm], self._explanation(vm)
        left = situation.settings.most_explained_vms - len(self._options)
        strangers = (name for name in situation.vms if not situation.governing[name])
        for name in islice(strangers, left):
            cloud = situation.snapshot.cloud_of(name)
            yield name, Explanation(vm=name, cloud=cloud, reason=OF_NO_POLICY)

    def limits(self) -> tuple[Limit, ...]:
        limits = Limits(decider=self.decider, decision=self.decision, weighing=self.weighing)
        return limits.priced(
            Bargain(
                unit=option.unit,
                place=option.place,
                saving=-option.dollars_per_hour,
                objection=option.objections[0],
            )
            for options in self._options.values()
            for option in options
            if len(option.objections) == 1 and option.dollars_per_hour < -LEAST_SAVING
        )

    def _explanation(self, vm: int) -> Explanation:
        situation, options, unit = self._situation, self._options[vm], self.options.unit_of[vm]
        name, home, chosen = situation.vms[vm], situation.home[vm], self.decision.chosen[vm]
        runner_up = next((each for each in options if not each.objections), None)
        return Explanation(
            vm=name,
            cloud=situation.places[home].cloud,
            destination=situation.places[chosen].cloud if chosen != home else None,
            policies=tuple(policy.name for policy in situation.governing[name]),
            reason=self._reasons.get(name) or self._why_it_stays(vm),
            demands=tuple(self._demands(vm)),
            bundle=tuple(situation.vms[v] for v in unit[:MOST_NAMES]) if len(unit) > 1 else (),
            bundle_size=len(unit),
            bill=self._shares.lines(vm) if chosen != home else (),
            alternatives=tuple(
                each.alternative for each in options[: situation.settings.most_alternatives]
            ),
            runner_up=runner_up.alternative if runner_up else None,
            turning_points=tuple(self._turning_points(options, runner_up)),
            least_gain_dollars_per_hour=max(
                (self._least_gains[policy.name] for policy in situation.governing[name]),
                default=0.0,
            ),
        )

    def _why_it_stays(self, vm: int) -> str:
        unplaced = self.result.unplaced.get(self._situation.vms[vm])
        if unplaced:
            return unplaced
        options = self._options[vm]
        for option in options[:1]:
            saving = self.weighing.moving(option.unit, option.place) - option.dollars_per_hour
            dollars = option.alternative.dollars_per_hour
            if not option.objections and saving > LEAST_SAVING and dollars is not None:
                once = float(self.weighing.bill.move[list(option.unit), option.place].sum())
                limit = self._situation.payback_limit(option.unit)
                return not_in_time(option.alternative, saving, once, limit)
        return why_it_stays([o.alternative for o in options], len(self.options.unit_of[vm]))

    def _demands(self, vm: int) -> Iterator[str]:
        """Return what wants a VM gone from where it is, each with the policy that says so."""
        situation, ruling = self._situation, self.decider.formulator.ruling
        if vm in ruling.must_leave:
            policies = situation.governing[situation.vms[vm]]
            asking = [p.name for p in policies if p.availability.evacuate_on_notice]
            evacuated = situation.evacuates(vm)
            by = f" (policy {', '.join(asking)} evacuates on notice)" if evacuated else ""
            yield ruling.must_leave[vm] + by
        for rule in ruling.shared:
            if rule.broken and vm in rule.members:
                yield rule.text

    def _turning_points(
        self, options: list[Option], runner_up: Option | None
    ) -> Iterator[TurningPoint]:
        staying = next((o for o in options if o.alternative.stays and not o.objections), None)
        rivals = [runner_up] if staying in (None, runner_up) else [runner_up, staying]
        for option in rivals:
            if (
                option is not None
                and option.alternative.dollars_per_hour is not None
                and option.dollars_per_hour > 0
            ):
                yield from self._points(option)
        for option in options:
            if not option.objections and option.dollars_per_hour > 0:
                yield from self._turning.payback(self._rival(option))
            elif option.dollars_per_hour < -LEAST_SAVING:
                yield from self._room_points(option)

    def _points(self, option: Option) -> tuple[TurningPoint, ...]:
        """Return what would make an option the cheaper one: the same for all of a bundle."""
        key = option.unit, option.place
        if key not in self._known_points:
            self._known_points[key] = tuple(self._turning.points(self._rival(option)))
        return self._known_points[key]

    def _room_points(self, option: Option) -> Iterator[TurningPoint]:
        """Return how much more room would do, where nothing else is in the way."""
        if {objection.kind for objection in option.objections} != {Hindrance.ROOM}:
            return
        situation, lacking = self._situation, option.objections[0].lacking
        free = [self.options.free[host.name] for host in situation.hosts_in(option.place)]
        vcpus = sum(max(0, left.vcpus) for left in free)
        memory_bytes = sum(max(0, left.memory_bytes) for left in free)
        for parameter, now, more in (
            (Parameter.VCPUS, vcpus, lacking.vcpus),
            (Parameter.MEMORY, memory_bytes, lacking.memory_bytes),
        ):
            if more:
                yield TurningPoint(
                    parameter=parameter,
                    about=situation.places[option.place].cloud,
                    now=float(now),
                    threshold=float(now + more),
                    cloud=situation.places[option.place].cloud,
                    stays=option.alternative.stays,
                    alone=option.alternative.alone,
                )

    def _rival(self, option: Option) -> Rival:
        return Rival(
            unit=option.unit,
            decided=int(self.decision.chosen[option.unit[0]]),
            place=option.place,
            dollars_per_hour=option.dollars_per_hour,
        )

    @property
    def _situation(self) -> Situation:
        return self.decider.formulator.situation

    @cached_property
    def _options(self) -> Mapping[int, list[Option]]:
        """The other places of each VM that is explained, in the order of what is worth telling."""
        situation, must_leave = self._situation, self.decider.formulator.ruling.must_leave
        movers = dict.fromkeys(situation.number[name] for name in self._reasons)
        others = sorted(
            (vm for vm in situation.governed if vm not in movers),
            key=lambda vm: (vm not in must_leave, self.options.cheapest(vm), vm),
        )
        explained = islice((*movers, *others), situation.settings.most_explained_vms)
        return {vm: self.options.of(vm) for vm in explained}

    @cached_property
    def _reasons(self) -> Mapping[VmName, str]:
        steps = self.result.steps if isinstance(self.result, Plan) else ()
        return {step.vm: step.reason for step in steps}

    @cached_property
    def _least_gains(self) -> Mapping[str, float]:
        """By policy: what its elective moves must save together."""
        situation, found = self._situation, {}
        for policy in situation.policies:
            members = situation.governed_by(policy)
            cost = self.weighing.bill.running_share(members, situation.home)
            asked = 0.0 if over_budget(policy, cost) else policy.elective.min_gain * cost
            found[policy.name] = asked
        return found

    @cached_property
    def _shares(self) -> Shares:
        return Shares.of(self._situation, self.weighing)

    @cached_property
    def _turning(self) -> Turning:
        return Turning(situation=self._situation, weighing=self.weighing)

    @cached_property
    def _known_points(self) -> dict[tuple[Indices, int], tuple[TurningPoint, ...]]:
        return {}


def _as_it_came(situation: Situation, result: Plan | NoPlan, decision: Decision) -> Decision:
    """Return the decision as it is carried out: where nothing is done, everybody stays."""
    if isinstance(result, Plan):
        return decision
    return replace(decision, mended=situation.home, chosen=situation.home)


def _free_then(situation: Situation, result: Plan | NoPlan) -> Mapping[HostName, Resources]:
    """Return what each host can take once a plan is carried out."""
    free = dict(situation.free)
    for step in result.steps if isinstance(result, Plan) else ():
        need = situation.snapshot.vms[step.vm].needs
        free[step.source] += need
        free[step.destination] -= need
    return free
