"""Symptoms: what changed between two looks at the knowledge that is a reason to think again.

Pure and edge-triggered: what was so at the last look, too, is no symptom a second time. At the first look there
is nothing to compare with, and what stands (a notice, a split group, a late job) counts as new.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta

from transhume.analyze.deadlines import standing
from transhume.knowledge.model import (
    CloudName,
    GroupId,
    HostName,
    PriceTick,
    Resources,
    RevocationNotice,
    Snapshot,
    Symptom,
    SymptomKind,
    VmName,
    total,
)
from transhume.policies.model import Policy
from transhume.quantities import format_bytes, format_duration, format_rate

PRICE_CHANGE = 0.01
"""Relative change from which on a price has changed."""
SETTLING = timedelta(seconds=60)
"""How long after a move of ours the free capacity of the hosts is not read as theirs to give."""


def find_symptoms(
    before: Snapshot | None, now: Snapshot, policies: Iterable[Policy]
) -> tuple[Symptom, ...]:
    """Return what has become a reason to think again since `before` (None: the first look)."""
    return (
        *_notices(before, now),
        *_lost_vms(before, now),
        *_deadlines(before, now, policies),
        *_prices(before, now),
        *_capacity_back(before, now),
        *_splits(before, now),
    )


# --- prices ------------------------------------------------------------------------------------------


def _prices(before: Snapshot | None, now: Snapshot) -> Iterator[Symptom]:
    for cloud in sorted(now.prices):
        old = before.prices.get(cloud) if before else None
        if old is not None:
            changes = list(_changes(old, now.prices[cloud]))
            if changes:
                detail = f"{cloud}'s price changed: {', '.join(changes)}"
                yield _symptom(SymptomKind.PRICE_CHANGED, cloud, now, detail)


def _changes(old: PriceTick, new: PriceTick) -> Iterator[str]:
    for what, one, other in (
        ("vCPU hour", old.dollars_per_vcpu_hour, new.dollars_per_vcpu_hour),
        ("GiB hour", old.dollars_per_gib_hour, new.dollars_per_gib_hour),
        ("GB of egress", old.egress_dollars_per_gb, new.egress_dollars_per_gb),
    ):
        if abs(other - one) > PRICE_CHANGE * max(abs(one), abs(other)):
            relative = f" ({(other - one) / one:+.0%})" if one else ""
            yield f"{what} ${one:g} to ${other:g}{relative}"


# --- notices and capacity ----------------------------------------------------------------------------


def _notices(before: Snapshot | None, now: Snapshot) -> Iterator[Symptom]:
    known = {_what(notice) for notice in before.notices} if before else set()
    for notice in now.notices:
        if _what(notice) not in known and not notice.withdrawn:
            left = format_duration((notice.deadline - now.at).total_seconds())
            detail = f"{_place(notice)} will be gone in {left}"
            yield _symptom(SymptomKind.NOTICE, _place(notice), now, detail)


def _capacity_back(before: Snapshot | None, now: Snapshot) -> Iterator[Symptom]:
    if before is None:
        return
    in_force = {(notice.cloud, notice.host) for notice in now.notices if not notice.withdrawn}
    for notice in before.notices:
        if (notice.cloud, notice.host) not in in_force and now.at < notice.deadline:
            detail = f"{_place(notice)} took its notice back"
            yield _symptom(SymptomKind.CAPACITY_BACK, notice.cloud, now, detail)
    ours = _hosts_we_emptied(before, now)
    for host in sorted(now.capacity.keys() - ours):
        gained = _gained(host, before, now)
        if gained is not None and _holds_a_vm(gained, now):
            what = f"{gained.vcpus} vCPUs and {format_bytes(gained.memory_bytes)}"
            cloud = now.hosts[host].cloud if host in now.hosts else host
            detail = f"host {host} of {cloud} has {what} more to give"
            yield _symptom(SymptomKind.CAPACITY_BACK, cloud, now, detail)


def _gained(host: HostName, before: Snapshot, now: Snapshot) -> Resources | None:
    """Return the room that a host has gained, but for what VMs of ours that left it or came explain."""
    new, old = now.capacity[host], before.capacity.get(host)
    if old is None:
        return new.free
    if before.moving or now.moving:
        return None
    return new.free + _used(host, now) - (old.free + _used(host, before))


def _used(host: HostName, snapshot: Snapshot) -> Resources:
    placed = snapshot.placement.host_of
    return total(vm.needs for name, vm in snapshot.vms.items() if placed.get(name) == host)


def _hosts_we_emptied(before: Snapshot, now: Snapshot) -> set[HostName]:
    """Return the hosts that VMs left by a move of ours so lately that their reports may lag behind."""
    return {outcome.source for outcome in now.outcomes if outcome.ended_at >= before.at - SETTLING}


def _holds_a_vm(room: Resources, snapshot: Snapshot) -> bool:
    return any(room.covers(vm.needs) for vm in snapshot.vms.values())


# --- groups and VMs ----------------------------------------------------------------------------------


def _splits(before: Snapshot | None, now: Snapshot) -> Iterator[Symptom]:
    known = _split_groups(before) if before else {}
    for group, clouds in _split_groups(now).items():
        if known.get(group) != clouds:
            shares = ", ".join(f"{len(vms)} in {cloud}" for cloud, vms in sorted(clouds.items()))
            crossing = format_rate(_crossing(now, clouds))
            detail = f"group {group} is split: {shares}; {crossing} cross between them"
            yield _symptom(SymptomKind.GROUP_SPLIT, group, now, detail)


def _split_groups(snapshot: Snapshot) -> dict[GroupId, dict[CloudName, frozenset[VmName]]]:
    found = {}
    for group in snapshot.groups:
        clouds: dict[CloudName, frozenset[VmName]] = {}
        for vm in group.vms:
            host = snapshot.hosts.get(snapshot.placement.host_of.get(vm, HostName("")))
            if host is not None:
                clouds[host.cloud] = clouds.get(host.cloud, frozenset()) | {vm}
        if len(clouds) > 1:
            found[group.id] = clouds
    return found


def _crossing(snapshot: Snapshot, clouds: Mapping[CloudName, frozenset[VmName]]) -> float:
    if snapshot.matrix is None:
        return 0.0
    cloud_of = {vm: cloud for cloud, vms in clouds.items() for vm in vms}
    rows = [(row, cloud_of[vm]) for row, vm in enumerate(snapshot.matrix.vms) if vm in cloud_of]
    rate = snapshot.matrix.rate()
    return float(sum(rate[i, j] for i, one in rows for j, other in rows if one != other))


def _lost_vms(before: Snapshot | None, now: Snapshot) -> Iterator[Symptom]:
    if before is None:
        return
    placed = before.placement.host_of
    for vm in sorted(placed.keys() - now.placement.host_of.keys() - now.moving):
        detail = f"{vm} was on {placed[vm]} and is nowhere now"
        yield _symptom(SymptomKind.VM_LOST, vm, now, detail)


# --- deadlines ---------------------------------------------------------------------------------------


def _deadlines(
    before: Snapshot | None, now: Snapshot, policies: Iterable[Policy]
) -> Iterator[Symptom]:
    for policy in policies:
        goal = policy.deadline
        if goal is None:
            continue
        stands = standing(goal, now)
        if stands.at_risk and not (before and standing(goal, before).at_risk):
            detail = (
                f"{goal.progress_job or policy.name} is at risk: {format_duration(stands.work_left)} of work"
                f" and two changeovers of {format_duration(stands.changeover)}"
                f" in {format_duration(stands.time_left)}"
            )
            subject = goal.progress_job or policy.name
            yield _symptom(SymptomKind.DEADLINE_AT_RISK, subject, now, detail)


def _what(notice: RevocationNotice) -> tuple[object, ...]:
    return notice.cloud, notice.host, notice.deadline


def _place(notice: RevocationNotice) -> str:
    return f"host {notice.host} of {notice.cloud}" if notice.host else notice.cloud


def _symptom(kind: SymptomKind, subject: str, now: Snapshot, detail: str) -> Symptom:
    return Symptom(kind=kind, subject=subject, at=now.at, detail=detail)
