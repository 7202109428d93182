"""A federation in which one policy acts: the real judgement, with a model in the place of the hypervisors.

It is told facts as they change, and asked to go on to an instant. The loop is asked at whole ticks, and only
where its answer can differ from the last one: when facts or the placement have changed, when a hold, a
cool-down or a budget's window ends, when a notice comes within the planner's horizon, and at every tick while
a policy's judgement depends on time in other ways (see `understood`). What pays for certain nothing (`screen`)
isn't asked about. `every_tick` asks always; a property test holds that it makes the same moves.

What happens to VMs: a move takes what the model says, and its VM is at the source until it ends. A host that is
gone takes its VMs with it; they come back `restart_seconds` after it does. A move from a host that goes loses
the VM, a move to one is undone.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from transhume.knowledge.model import (
    CapacityReport,
    HostName,
    JobName,
    Measurement,
    MoveKind,
    Outcome,
    Placement,
    Plan,
    PlanStatus,
    Prediction,
    Progress,
    Resources,
    Snapshot,
    Step,
    StepResult,
    Transfer,
    VmName,
    total,
)
from transhume.knowledge.model.snapshot import LEAST_OUTCOMES
from transhume.loop import Decision, Loop, Moves
from transhume.policies.model import Mode, Policy, moves_reach
from transhume.replaying.agenda import Agenda
from transhume.replaying.jobs import JobState
from transhume.replaying.migration import MigrationModel
from transhume.replaying.promises import Promises
from transhume.replaying.screen import Look, Screen
from transhume.replaying.tally import Tally, whole_ticks
from transhume.replaying.trace import Facts
from transhume.replaying.understood import is_understood
from transhume.replaying.undertaking import Flight, Moved, Undertaking
from transhume.replaying.whereabouts import Whereabouts

NO_ROOM_PAUSE = timedelta(minutes=10)
"""Between attempts to restart a lost VM where others have taken its place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What a world is put together from."""

    start: datetime
    end: datetime
    facts: Facts
    host_of: Mapping[VmName, HostName]
    policies: tuple[Policy, ...]
    """Those that act; none: all stays where it is."""
    judged: tuple[Policy, ...]
    """Those whose rules are looked at."""
    jobs: tuple[JobState, ...]
    model: MigrationModel
    loop: Loop
    tick_seconds: float = 60.0
    restart_seconds: float = 300.0
    every_tick: bool = False


class World:
    """Runs from a start to an end; told of facts in between."""

    def __init__(self, setting: Setting) -> None:
        self._set = setting
        self._policies = tuple(replace(each, mode=Mode.AUTO) for each in setting.policies)
        self._understood = is_understood(self._policies)
        self._tick = timedelta(seconds=setting.tick_seconds)
        self._model, self._loop = setting.model, setting.loop
        self._screen = Screen(self._policies, setting.model)
        self._agenda, self._promises = Agenda(), Promises()
        self._facts = setting.facts
        self._there = Whereabouts(setting.host_of)
        self._lost: dict[VmName, HostName] = {}
        self._gone: set[HostName] = set()
        self._outcomes: deque[Outcome] = deque()
        self._undertaking: Undertaking | None = None
        self._held: tuple[Moves, datetime] | None = None
        self._in_vain: set[Moves] = set()
        self._calm: tuple[object, ...] | None = None
        self.now = setting.start
        self.tally = Tally(start=setting.start, end=setting.end)
        self.jobs = setting.jobs
        self.moves: list[Moved] = []
        self.asked = 0
        """How often the planner was."""
        self._look_at_facts(before=None)

    # --- time ------------------------------------------------------------------------------------

    def tell(self, facts: Facts, at: datetime) -> None:
        """Go on to an instant, and let other facts hold from then on."""
        self._run(at, decisions=False)
        before, self._facts = self._facts, facts
        self._look_at_facts(before)

    @property
    def judged(self) -> tuple[Policy, ...]:
        """The policies whose rules are looked at."""
        return self._set.judged

    def run_to(self, end: datetime) -> None:
        """Go on to an instant; decisions that are due then are taken."""
        self._run(end, decisions=True)

    def _run(self, until: datetime, *, decisions: bool) -> None:
        while (due := self._agenda.before(until, decisions=decisions)) is not None:
            at, action = due
            self._pass_time(at)
            action(at)
        self._pass_time(until)

    def _pass_time(self, until: datetime) -> None:
        if until <= self.now:
            return
        rates = self._there.rates(self._facts)
        broken = self._there.broken(self._set.judged, self._facts)
        self.tally.pass_time(self.now, until, rates, broken, len(self._lost))
        for job in self.jobs:
            job.pass_time(self.now, until, self._facts.paces)
        self.now = until

    def _ask_at(self, at: datetime) -> None:
        if self._policies:
            self._agenda.decide(whole_ticks(self._set.start, at, self._tick), self._decide)

    def check_invariants(self) -> None:
        """Raise where a VM is in two states, or none; for tests."""
        everybody = set(self._facts.vms)
        assert set(self._there.host_of).isdisjoint(self._lost), "a VM is both up and down"
        assert set(self._there.host_of) | set(self._lost) == everybody, "a VM is nowhere"
        assert self._gone.isdisjoint(self._there.host_of.values()), (
            "a VM runs at a host that is gone"
        )
        if self._undertaking:
            for vm, flight in self._undertaking.flights.items():
                assert self._there.host_of.get(vm) == flight.step.source, (
                    "a VM moves from elsewhere"
                )

    # --- facts -----------------------------------------------------------------------------------

    def _look_at_facts(self, before: Facts | None) -> None:
        facts = self._facts
        if before is None or before.notices is not facts.notices:
            known = before.notices if before else ()
            for notice in facts.notices:
                if notice not in known:
                    self._foresee(notice.deadline)
            if self._undertaking:
                self._undertaking.shun(facts.host_deadlines)
        if before is None or before.notices is not facts.notices or before.room is not facts.room:
            self._look_at_hosts(self.now)
        self._ask_at(self.now)

    def _foresee(self, deadline: datetime) -> None:
        """A notice came in: a plan makes way for what it demands."""
        self._agenda.happens(max(deadline, self.now), self._look_at_hosts)
        horizon = timedelta(seconds=self._model.settings.horizon_seconds)
        if deadline - horizon > self.now:
            self._ask_at(deadline - horizon)
        if self._undertaking:
            self._undertaking.make_way()

    def _look_at_hosts(self, at: datetime) -> None:
        gone = {host for host in self._facts.hosts if self._facts.is_gone(host, at)}
        for host in sorted(gone - self._gone):
            self._lose(host, at)
        back = self._gone - gone
        self._gone = gone
        for vm in sorted(vm for vm, host in self._lost.items() if host in back):
            self._restart_at(at + timedelta(seconds=self._set.restart_seconds), vm)
        self._ask_at(at)

    def _lose(self, host: HostName, at: datetime) -> None:
        self._gone.add(host)
        if self._undertaking:
            for vm in self._undertaking.arriving_at(host):
                flight = self._undertaking.flights[vm]
                self._end(flight, StepResult.UNDONE, at, f"{host} is gone")
        for vm in sorted(vm for vm, where in self._there.host_of.items() if where == host):
            flight_of = self._undertaking.flights.get(vm) if self._undertaking else None
            del self._there.host_of[vm]
            self._lost[vm] = host
            self.tally.lost += 1
            vcpus = self._facts.vms[vm].needs.vcpus
            self.tally.loss += vcpus * self._model.settings.loss_dollars_per_vcpu
            for job in self.jobs:
                job.down.add(vm)
            if flight_of is not None:
                self._end(flight_of, StepResult.FAILED, at, f"{host} is gone, and {vm} with it")
        self._there.changed()
        self._go_on(at)

    def _restart_at(self, at: datetime, vm: VmName) -> None:
        self._agenda.happens(at, lambda now: self._restart(vm, now))

    def _restart(self, vm: VmName, at: datetime) -> None:
        host = self._lost.get(vm)
        if host is None or host in self._gone:
            return
        if not self._room_at(host, at).covers(self._facts.vms[vm].needs):
            self._restart_at(at + NO_ROOM_PAUSE, vm)
            return
        del self._lost[vm]
        self._there.host_of[vm] = host
        for job in self.jobs:
            job.down.discard(vm)
        self._there.changed()
        self._ask_at(at)

    # --- decisions -------------------------------------------------------------------------------

    def _decide(self, at: datetime) -> None:
        if self._set.every_tick or self._depends_on_time():
            self._ask_at(at + self._tick)
        if self._undertaking is not None:
            return
        if not self._set.every_tick and self._is_calm(at):
            return
        self.asked += 1
        decision = self._loop.consider(self.snapshot(at), self._policies, self._promises.executed)
        self._promises.heed(decision, at)
        if decision.to_execute is not None:
            self._calm = self._held = None
            self._undertaking = Undertaking(decision.to_execute)
            self._undertaking.shun(self._facts.host_deadlines)
            self._go_on(at)
        elif isinstance(decision.result, Plan):
            self._calm = None
            self._wait_for(decision, decision.result, at)
        else:
            self._held = None
            self._calm = None if decision.result.unplaced else self._calmness()

    def _depends_on_time(self) -> bool:
        """Say whether the loop's answer may change by itself, in ways that have no instant of their own."""
        if self._understood:
            return False
        unfinished = any(
            job.finished_at is None and self.now < job.goal.at for job in self._own_jobs()
        )
        beyond_deadlines = is_understood(tuple(replace(p, deadline=None) for p in self._policies))
        return unfinished or not beyond_deadlines

    def _own_jobs(self) -> Iterable[JobState]:
        goals = [policy.deadline for policy in self._policies]
        return (job for job in self.jobs if job.goal in goals)

    def _is_calm(self, at: datetime) -> bool:
        """Say whether the planner found nothing to mend here, and can have found nothing that pays since."""
        if not self._understood or self._calm is None:
            return False
        now = self._calmness()
        if any(one is not other for one, other in zip(self._calm, now, strict=True)):
            return False
        look = Look(
            at=at,
            facts=self._facts,
            host_of=self._there.host_of,
            placement_version=self._there.version,
            outcomes=self._outcomes,
        )
        return self._screen.nothing_pays(look)

    def _calmness(self) -> tuple[object, ...]:
        return (self._there.version, self._facts.notices, self._facts.room, self._facts.vms)

    def _wait_for(self, decision: Decision, plan: Plan, at: datetime) -> None:
        """Ask again when the hold is over; at the next tick where something else is waited for."""
        moves = plan.moves
        if self._held is None or self._held[0] != moves:
            self._held = (moves, at)
        hold = max(
            (
                policy.elective.hold_seconds
                for policy in self._policies
                if any(policy.governs(self._facts.vms[step.vm]) for step in plan.steps)
            ),
            default=0.0,
        )
        due = self._held[1] + timedelta(seconds=hold)
        waits_for_hold = moves not in self._in_vain and due > at and self._understood
        if decision.snapshot.notices and self._facts.notices:
            waits_for_hold = False
        self._ask_at(due if waits_for_hold else at + self._tick)

    def snapshot(self, at: datetime) -> Snapshot:
        """Return what a daemon would know."""
        facts = self._facts
        used = {
            host: total(facts.vms[vm].needs for vm in there)
            for host, there in self._there.by_host().items()
        }
        capacity = {}
        for host in facts.hosts:
            whole = facts.room_of(host, at)
            free = whole - used[host] if host in used else whole
            capacity[host] = CapacityReport(host=host, at=at, total=whole, free=free)
        return Snapshot(
            version=self._there.version,
            at=at,
            clouds=facts.clouds,
            hosts=facts.hosts,
            links=facts.links,
            vms=facts.vms,
            placement=Placement(host_of=dict(self._there.host_of)),
            capacity=capacity,
            prices=facts.prices,
            notices=facts.notices,
            progress=self._progress(at),
            matrix=facts.traffic.matrix if facts.traffic else None,
            groups=facts.traffic.groups if facts.traffic else (),
            outcomes=tuple(self._outcomes),
        )

    def _progress(self, at: datetime) -> dict[JobName, Progress]:
        return {
            job.goal.progress_job: Progress(
                job=job.goal.progress_job, at=at, done=job.done, total=1.0
            )
            for job in self.jobs
            if job.goal.progress_job
        }

    # --- moves -----------------------------------------------------------------------------------

    def _go_on(self, at: datetime) -> None:
        """Begin what of the plan is ready; where it has ended, tell the loop, and think again."""
        under_way = self._undertaking
        if under_way is None:
            return
        for step, found in under_way.begin_ready(at, self._predict, self._obstacle):
            if isinstance(found, Flight):
                self._begin(found, at)
            else:
                self._note(step, at, at, found, StepResult.SKIPPED, step.prediction, None)
        if under_way.status is PlanStatus.EXECUTING:
            return
        self._undertaking = None
        if under_way.status is PlanStatus.DONE:
            self._in_vain.discard(under_way.plan.moves)
        else:
            self._in_vain.add(under_way.plan.moves)
        self._loop.ended(under_way.plan, under_way.status, at)
        self._promises.ended(under_way.plan, under_way.status, at)
        self._ask_at(at)

    def _begin(self, flight: Flight, at: datetime) -> None:
        step, seconds = flight.step, flight.takes.seconds
        self.tally.moves_too_soon += self._is_too_soon(step, at)
        for job in self.jobs:
            job.move_begins(step.vm, at, seconds)
        self._agenda.happens(at + timedelta(seconds=seconds), lambda now: self._arrive(flight, now))

    def _arrive(self, flight: Flight, at: datetime) -> None:
        under_way = self._undertaking
        if under_way is None or under_way.flights.get(flight.step.vm) is not flight:
            return
        self._there.host_of[flight.step.vm] = flight.step.destination
        self._there.changed()
        self._end(flight, StepResult.DONE, at, "")
        self._go_on(at)

    def _end(self, flight: Flight, result: StepResult, at: datetime, why: str) -> None:
        step, takes = flight.step, flight.takes
        if self._undertaking is not None:
            self._undertaking.ended(flight, result)
        share = (at - flight.began).total_seconds() / max(takes.seconds, 1e-9)
        share = 1.0 if result is StepResult.DONE else min(1.0, share)
        measured = None
        if result is StepResult.DONE:
            measured = Measurement(
                bytes=takes.bytes,
                seconds=takes.seconds,
                downtime_seconds=takes.downtime_seconds,
                disk_bytes=takes.disk_bytes,
                disks=Transfer(wire_bytes=takes.disk_bytes),
            )
            self.tally.moves[step.kind] += 1
        else:
            self.tally.undone += 1
        sent, dollars = round(takes.bytes * share), takes.dollars * share
        self.tally.moved_bytes += sent
        self.tally.migration += dollars
        self.moves.append(
            Moved(
                vm=step.vm,
                source=step.source,
                destination=step.destination,
                kind=step.kind,
                began=flight.began,
                ended=at,
                bytes=sent,
                dollars=dollars,
                result=result,
                reason=step.reason,
            )
        )
        self._note(step, flight.began, at, why, result, step.prediction, measured)

    def _note(  # noqa: PLR0917
        self,
        step: Step,
        began: datetime,
        at: datetime,
        why: str,
        result: StepResult,
        predicted: Prediction,
        measured: Measurement | None,
    ) -> None:
        assert self._undertaking is not None, "a step without its plan"
        self._outcomes.appendleft(
            Outcome(
                plan=self._undertaking.plan.id,
                step=step.id,
                vm=step.vm,
                source=step.source,
                destination=step.destination,
                result=result,
                why=why,
                started_at=began,
                ended_at=at,
                predicted=predicted,
                measured=measured,
            )
        )
        self._forget_outcomes(at - moves_reach(self._policies))
        if result is not StepResult.SKIPPED:
            for policy in self._governing(step.vm):
                self._ask_at(at + timedelta(seconds=policy.elective.cooldown_seconds))
                for budget in policy.elective.budgets:
                    self._ask_at(at + timedelta(seconds=budget.per_seconds or 0.0))

    def _forget_outcomes(self, before: datetime) -> None:
        kept = self._outcomes
        while len(kept) > LEAST_OUTCOMES and kept[-1].ended_at < before:
            kept.pop()

    def _predict(self, step: Step) -> Prediction:
        vm, prices = self._facts.vms[step.vm], self._facts.prices
        return self._model.predict(vm, step.source_cloud, step.destination_cloud, prices)

    def _obstacle(self, step: Step) -> str:
        """Return what keeps a step from being begun."""
        if self._there.host_of.get(step.vm) != step.source:
            return f"{step.vm} isn't on {step.source}"
        if step.destination in self._gone:
            return f"{step.destination} is gone"
        if not self._room_at(step.destination, self.now).covers(self._facts.vms[step.vm].needs):
            return f"{step.destination} has no room for {step.vm}"
        return ""

    def _is_too_soon(self, step: Step, at: datetime) -> bool:
        under_way = self._undertaking
        if step.kind is not MoveKind.ELECTIVE or (under_way and under_way.plan.undoes):
            return False
        seconds = max((p.elective.cooldown_seconds for p in self._governing(step.vm)), default=0.0)
        since = at - timedelta(seconds=seconds)
        return any(
            o.vm == step.vm and o.result is StepResult.DONE and o.ended_at > since
            for o in self._outcomes
        )

    def _governing(self, vm: VmName) -> Sequence[Policy]:
        record = self._facts.vms[vm]
        return [policy for policy in self._policies if policy.governs(record)]

    # --- what holds ------------------------------------------------------------------------------

    def _room_at(self, host: HostName, at: datetime) -> Resources:
        arriving = self._undertaking.arriving_at(host) if self._undertaking else []
        there = [vm for vm, where in self._there.host_of.items() if where == host]
        used = total(self._facts.vms[vm].needs for vm in (*there, *arriving))
        return self._facts.room_of(host, at) - used
