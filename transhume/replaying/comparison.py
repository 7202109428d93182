"""The comparison of policies on one trace: each replayed by itself, and staying put beside them.

The same trace and policies give the same comparison, to the last digit. Rules and deadlines of all
alternatives are judged in every run, so that the numbers of a row can be held against another's.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import MappingProxyType
from typing import Protocol

from transhume.knowledge.model import JobName, MoveKind, VmName
from transhume.loop import Loop
from transhume.plan import PlannerSettings, Solver
from transhume.policies.model import Policy
from transhume.replaying.broken import rule_labels, unjudged
from transhume.replaying.descent import ReplaySolver
from transhume.replaying.jobs import JobState
from transhume.replaying.migration import MigrationModel
from transhume.replaying.tally import Point
from transhume.replaying.trace import Facts, Trace
from transhume.replaying.undertaking import Moved
from transhume.replaying.world import Setting, World

STAY = "stay"
"""The name of the run in which nothing is done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """A policy, or several that act together, under a name for the report."""

    name: str
    policies: tuple[Policy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Missed:
    """A deadline that was not kept."""

    job: str
    deadline: datetime
    late_seconds: float
    """Up to when the job was done, or to the end where it wasn't."""
    done: float
    """The share of the job that was done in the end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one alternative came to. Dollars are sums over the whole time."""

    name: str
    compute_dollars: float
    egress_dollars: float
    migration_dollars: float
    paid_dollars: float
    """The sum of the three."""
    loss_dollars: float
    """What the planner holds losing the VMs that were lost to be worth: paid to nobody."""
    lateness_dollars: float
    """The same, of jobs' being late."""
    deadlines: int
    missed: tuple[Missed, ...]
    mandatory_moves: int
    elective_moves: int
    undone_moves: int
    moves_within_cooldown: int
    moved_bytes: int
    mean_cut_bytes_per_second: float
    lost_vms: int
    down_vm_seconds: float
    violation_seconds: Mapping[str, float]
    asked: int
    """How often the planner was asked."""
    points: tuple[Point, ...]
    moves: tuple[Moved, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The runs of one trace."""

    start: datetime
    end: datetime
    vms: int
    clouds: int
    learnt_from: int
    """How many recorded moves the model of migration was calibrated on."""
    memory_factor: float
    """Bytes that a move sends for each byte of memory, before what is dirtied meanwhile."""
    runs: tuple[Run, ...]
    unjudged: tuple[str, ...] = ()
    """Rules whose violation isn't counted."""


class Watcher(Protocol):
    """Is told how far a comparison is."""

    def __call__(self, run: str, share: float) -> None:
        """Take note of a run's name and the share of it that is done."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Manner:
    """How a replay is done: quickly, and thousands of times."""

    settings: PlannerSettings = field(
        default_factory=lambda: PlannerSettings(most_polished_moves=0)
    )
    solver: Solver | None = field(default_factory=ReplaySolver)
    """Who solves the planner's problems; None: whoever does in a daemon."""
    every_tick: bool = False
    """Ask at each tick, needed or not: the same moves, and slow."""


def compare(
    trace: Trace,
    alternatives: Sequence[Alternative],
    *,
    manner: Manner = Manner(),
    watcher: Watcher | None = None,
) -> Comparison:
    """Replay each alternative, and staying put before them."""
    judged = _judged(alternatives)
    facts = trace.at_start()
    model = MigrationModel.calibrated(
        facts,
        trace.outcomes,
        at=trace.start,
        settings=manner.settings,
        deduplication=trace.deduplication,
    )
    batches = tuple(trace.batches())
    runs = []
    for each in (Alternative(name=STAY, policies=()), *alternatives):
        world = world_of(trace, facts, each, judged, model, manner=manner)
        for number, (at, now) in enumerate(batches):
            world.tell(now, at)
            if watcher and not number % 64:
                watcher(each.name, number / len(batches))
        world.run_to(trace.end)
        runs.append(summary(each.name, world, model.settings, trace.end))
        if watcher:
            watcher(each.name, 1.0)
    return Comparison(
        start=trace.start,
        end=trace.end,
        vms=len(facts.vms),
        clouds=len(facts.clouds),
        learnt_from=model.learnt_from,
        memory_factor=model.settings.memory_factor,
        runs=tuple(runs),
        unjudged=tuple(dict.fromkeys(unjudged(judged))),
    )


def world_of(
    trace: Trace,
    facts: Facts,
    alternative: Alternative,
    judged: Sequence[Policy],
    model: MigrationModel,
    *,
    manner: Manner,
) -> World:
    """Return a world at the trace's start in which an alternative is to act."""
    return World(
        Setting(
            start=trace.start,
            end=trace.end,
            facts=facts,
            host_of=trace.host_of,
            policies=alternative.policies,
            judged=tuple(judged),
            jobs=jobs_of(judged, facts, trace.done),
            model=model.under(alternative.policies),
            loop=Loop(replace(model.settings, most_explained_vms=0), solver=manner.solver),
            tick_seconds=trace.tick_seconds,
            restart_seconds=trace.restart_seconds,
            every_tick=manner.every_tick,
        )
    )


def _judged(alternatives: Sequence[Alternative]) -> tuple[Policy, ...]:
    """Return all policies; of two with one name and other rules, the later is named with its alternative."""
    found: list[Policy] = []
    for each in alternatives:
        for policy in each.policies:
            namesakes = [known for known in found if known.name == policy.name]
            same = all(
                (known.applies_to, known.rules) == (policy.applies_to, policy.rules)
                for known in namesakes
            )
            found.append(policy if same else replace(policy, name=f"{each.name}: {policy.name}"))
    return tuple(found)


def jobs_of(
    policies: Sequence[Policy], facts: Facts, done: Mapping[JobName, float] = MappingProxyType({})
) -> tuple[JobState, ...]:
    """Return the jobs that the policies set deadlines for; equal ones are one.

    `done` has the share of them that is done already, where that isn't nothing.
    """
    found: dict[object, JobState] = {}
    for policy in policies:
        goal = policy.deadline
        if goal is None:
            continue
        members: frozenset[VmName] = frozenset(
            vm.name for vm in facts.vms.values() if policy.governs(vm)
        )
        name = str(goal.progress_job or policy.name)
        share = done.get(goal.progress_job, 0.0) if goal.progress_job else 0.0
        state = JobState(name=name, goal=goal, members=members, done=share)
        found.setdefault((goal, members), state)
    return tuple(found.values())


def summary(name: str, world: World, settings: PlannerSettings, end: datetime) -> Run:
    """Return what a world's run has come to at an instant."""
    tally, seconds = world.tally, max((end - world.tally.start).total_seconds(), 1e-9)
    due = [job for job in world.jobs if tally.start < job.goal.at <= end]
    missed = tuple(
        Missed(
            job=job.name,
            deadline=job.goal.at,
            late_seconds=job.late_seconds(end),
            done=job.done,
        )
        for job in due
        if job.finished_at is None or job.finished_at > job.goal.at
    )
    lateness = sum(each.late_seconds for each in missed) * settings.late_dollars_per_second
    labels = rule_labels(world.judged)
    return Run(
        name=name,
        compute_dollars=tally.compute,
        egress_dollars=tally.egress,
        migration_dollars=tally.migration,
        paid_dollars=tally.dollars,
        loss_dollars=tally.loss,
        lateness_dollars=lateness,
        deadlines=len(due),
        missed=missed,
        mandatory_moves=tally.moves[MoveKind.MANDATORY],
        elective_moves=tally.moves[MoveKind.ELECTIVE],
        undone_moves=tally.undone,
        moves_within_cooldown=tally.moves_too_soon,
        moved_bytes=tally.moved_bytes,
        mean_cut_bytes_per_second=tally.cut_bytes / seconds,
        lost_vms=tally.lost,
        down_vm_seconds=tally.down_vm_seconds,
        violation_seconds={each: float(tally.violation_seconds[each]) for each in labels},
        asked=world.asked,
        points=tuple(tally.points),
        moves=tuple(world.moves),
    )


def without_details(run: Run) -> Run:
    """Return a run without its curves and its single moves."""
    return replace(run, points=(), moves=())
