"""What a running daemon sees and does, as one record: `transhume status` prints it, or writes it as JSON.

Owns the choice of what matters at a glance and the joining of facts that the knowledge keeps apart; reads, and
never writes. How it looks is in `views.status`.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np

from transhume.analyze import find_cut
from transhume.errors import UsageError
from transhume.knowledge.model import (
    CloudName,
    CommunicationMatrix,
    Conflict,
    Cut,
    Group,
    GroupId,
    HostName,
    JournalRecord,
    MoveProgress,
    NoPlan,
    Phase,
    Plan,
    PlanId,
    PlanStatus,
    PriceTick,
    Progress,
    Resources,
    RevocationNotice,
    Snapshot,
    Step,
    StepId,
    Symptom,
    VmName,
)
from transhume.knowledge.records import (
    DaemonStatus,
    PoliciesStatus,
    RecordingStatus,
    ShadowStatus,
    StoredPlan,
)
from transhume.knowledge.store import Store, utc_now
from transhume.plan.standing import standing

"""A daemon's heart beats every few seconds; after this long it isn't running."""
SYMPTOMS_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class HostSight:
    """A host, and how much of it is used; nothing is known of it before its hypervisor has answered."""

    name: HostName
    used: Resources | None = None
    total: Resources | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CloudSight:
    """A cloud: what it asks, what it has, which VMs are in it (or on their way to it)."""

    name: CloudName
    price: PriceTick | None
    hosts: tuple[HostSight, ...]
    vms: tuple[VmName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupSight:
    """A group, where its members are, and what crosses clouds between them."""

    id: GroupId
    vms: tuple[VmName, ...]
    clouds: tuple[CloudName, ...]
    internal_bytes_per_second: float
    cut_bytes_per_second: float
    cut_dollars_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionSight:
    """The latest decision in a line: a plan with its status, or why there is none."""

    at: datetime
    plan: PlanId | None
    status: PlanStatus | None
    moves: int
    saving_dollars_per_hour: float
    why: str
    """The trigger of a plan, or the reason for doing nothing."""
    unplaced: tuple[VmName, ...]
    conflict: Conflict | None = None
    """What can't all hold, where that is why something is not as it should be."""
    standing: str = ""
    """How good the plan is, as far as that is proved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveSight:
    """A step that is being carried out, or was left open by a daemon that died."""

    plan: PlanId
    step: StepId
    vm: VmName
    source: HostName | None
    destination: HostName | None
    phase: Phase
    since: datetime
    progress: MoveProgress | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """All that `transhume status` tells."""

    at: datetime
    running: bool
    daemon: DaemonStatus | None
    """The last heartbeat of any daemon."""
    policies: PoliciesStatus | None
    clouds: tuple[CloudSight, ...]
    homeless: tuple[VmName, ...]
    """VMs that are known and run on no host."""
    notices: tuple[RevocationNotice, ...]
    jobs: tuple[Progress, ...]
    groups: tuple[GroupSight, ...]
    decision: DecisionSight | None
    moves: tuple[MoveSight, ...]
    symptoms: tuple[Symptom, ...]
    """The newest first."""
    recording: RecordingStatus | None = None
    """Where this daemon records what it knows."""
    shadow: ShadowStatus | None = None
    """What this daemon last compared; the report itself is left to `transhume shadow`."""


async def look(store: Store) -> Sight:
    """Read what there is to tell now."""
    snapshot = await store.snapshot()
    daemon = await store.status()
    latest = await store.latest_plan()
    return Sight(
        at=snapshot.at,
        # Whose clock is right can't be seen from here; a lease runs out by the server's.
        running=daemon is not None and await store.has_holder(),
        daemon=daemon,
        policies=await store.policies(),
        clouds=_clouds(snapshot),
        homeless=tuple(sorted(snapshot.vms.keys() - snapshot.placement.host_of.keys())),
        notices=snapshot.notices,
        jobs=tuple(snapshot.progress.values()),
        groups=tuple(_group(group, snapshot) for group in snapshot.groups),
        decision=_decision(latest) if latest else None,
        moves=await _moves(store),
        symptoms=await store.symptoms(limit=SYMPTOMS_SHOWN),
        recording=await _recording(store, daemon),
        shadow=await _shadow(store, daemon),
    )


async def _recording(store: Store, daemon: DaemonStatus | None) -> RecordingStatus | None:
    found = await store.recording()
    return found if found and daemon and found.since >= daemon.started_at else None


async def _shadow(store: Store, daemon: DaemonStatus | None) -> ShadowStatus | None:
    found = await store.shadow()
    ours = found is not None and daemon is not None and found.at >= daemon.started_at
    return replace(found, report="") if found is not None and ours else None


def nothing() -> Sight:
    """Return what there is to see where no daemon keeps a knowledge."""
    return Sight(
        at=utc_now(),
        running=False,
        daemon=None,
        policies=None,
        clouds=(),
        homeless=(),
        notices=(),
        jobs=(),
        groups=(),
        decision=None,
        moves=(),
        symptoms=(),
    )


def _clouds(snapshot: Snapshot) -> tuple[CloudSight, ...]:
    vms_in: dict[CloudName, list[VmName]] = {}
    for vm in sorted(snapshot.placement.host_of):
        vms_in.setdefault(snapshot.cloud_of(vm), []).append(vm)
    return tuple(
        CloudSight(
            name=cloud,
            price=snapshot.prices.get(cloud),
            hosts=tuple(_host(host.name, snapshot) for host in snapshot.hosts_of(cloud)),
            vms=tuple(vms_in.get(cloud, ())),
        )
        for cloud in sorted(snapshot.clouds)
    )


def _host(name: HostName, snapshot: Snapshot) -> HostSight:
    report = snapshot.capacity.get(name)
    if report is None:
        return HostSight(name=name)
    return HostSight(name=name, used=report.total - report.free, total=report.total)


def _group(group: Group, snapshot: Snapshot) -> GroupSight:
    placed = [vm for vm in group.vms if vm in snapshot.placement.host_of]
    cut = _cut_within(placed, snapshot)
    return GroupSight(
        id=group.id,
        vms=group.vms,
        clouds=tuple(sorted({snapshot.cloud_of(vm) for vm in placed})),
        internal_bytes_per_second=group.internal_bytes_per_second,
        cut_bytes_per_second=cut.total_bytes_per_second if cut else 0.0,
        cut_dollars_per_hour=cut.dollars_per_hour if cut else 0.0,
    )


def _cut_within(vms: Iterable[VmName], snapshot: Snapshot) -> Cut | None:
    """Return what crosses clouds between these VMs, or None before any traffic was seen."""
    if snapshot.matrix is None:
        return None
    return find_cut(
        _among(snapshot.matrix, vms), snapshot.cloud_of, snapshot.prices, snapshot.clouds
    )


def _among(matrix: CommunicationMatrix, vms: Iterable[VmName]) -> CommunicationMatrix:
    """Return the bytes of a matrix that some VMs sent to each other."""
    members = frozenset(vms)
    inside = np.array([vm in members for vm in matrix.vms], dtype=bool)
    row = np.cumsum(inside) - 1
    kept = inside[matrix.source] & inside[matrix.destination]
    return CommunicationMatrix.of_pairs(
        start=matrix.start,
        seconds=matrix.seconds,
        vms=tuple(vm for vm in matrix.vms if vm in members),
        source=row[matrix.source[kept]],
        destination=row[matrix.destination[kept]],
        bytes=matrix.bytes[kept],
    )


def _decision(stored: StoredPlan) -> DecisionSight:
    decision = stored.plan
    unplaced = tuple(sorted(decision.unplaced))
    match decision:
        case NoPlan():
            return DecisionSight(
                at=decision.made_at,
                plan=None,
                status=None,
                moves=0,
                saving_dollars_per_hour=0.0,
                why=decision.reason,
                unplaced=unplaced,
                conflict=decision.conflict,
            )
        case Plan():
            return DecisionSight(
                at=decision.made_at,
                plan=decision.id,
                status=stored.status,
                moves=len(decision.steps),
                saving_dollars_per_hour=decision.saving_dollars_per_hour,
                why=decision.trigger,
                unplaced=unplaced,
                conflict=decision.conflict,
                standing=standing(decision),
            )


async def _moves(store: Store) -> tuple[MoveSight, ...]:
    records = await store.open_steps()
    progress = {(move.plan, move.step): move for move in await store.move_progress()}
    steps = {plan: await _steps_of(plan, store) for plan in {record.plan for record in records}}
    return tuple(
        _move(record, steps[record.plan].get(record.step), progress.get((record.plan, record.step)))
        for record in records
    )


async def _steps_of(plan: PlanId, store: Store) -> dict[StepId, Step]:
    """Return a plan's steps; none where it was forgotten, and its journal says all there is to tell."""
    try:
        stored = await store.plan(plan)
    except UsageError:
        return {}
    return {step.id: step for step in stored.plan.steps} if isinstance(stored.plan, Plan) else {}


def _move(record: JournalRecord, step: Step | None, progress: MoveProgress | None) -> MoveSight:
    return MoveSight(
        plan=record.plan,
        step=record.step,
        vm=record.vm,
        source=step.source if step else None,
        destination=step.destination if step else None,
        phase=record.phase,
        since=record.at,
        progress=progress,
    )
