"""The snapshot and the policies, read for planning: who is governed by what, which places there are.

Owns the numbering of VMs and places that the arrays of the planner share, what is free on each host, and what
notices take away. A VM that runs on no known host has no number: it can't be moved.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import (
    NOTHING,
    CloudName,
    GroupId,
    Host,
    HostName,
    Resources,
    Snapshot,
    StepResult,
    VirtualNetworkName,
    VmName,
    total,
)
from transhume.plan.constraints import Assignment, Indices
from transhume.plan.problem import Place
from transhume.plan.settings import PlannerSettings
from transhume.plan.user_rules import Heard, hear
from transhume.policies.model import Policy, Selector


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What the planner plans from. Build it with `read`."""

    snapshot: Snapshot
    policies: tuple[Policy, ...]
    """Those that govern at least one VM."""
    settings: PlannerSettings
    vms: tuple[VmName, ...]
    clouds: tuple[CloudName, ...]
    places: tuple[Place, ...]
    governing: Mapping[VmName, tuple[Policy, ...]]
    deadlines: Mapping[HostName, datetime]
    """When each host under a notice will be gone."""
    free: Mapping[HostName, Resources]
    """What each host could still take; below zero where it's overcommitted."""

    @classmethod
    def read(
        cls, snapshot: Snapshot, policies: Sequence[Policy], settings: PlannerSettings
    ) -> "Situation":
        """Number what there is to place, and settle what each host can take."""
        vms = tuple(
            sorted(
                name
                for name in snapshot.vms
                if snapshot.placement.host_of.get(name) in snapshot.hosts
            )
        )
        governing = {vm: tuple(p for p in policies if p.governs(snapshot.vms[vm])) for vm in vms}
        deadlines = snapshot.host_deadlines()
        return cls(
            snapshot=snapshot,
            policies=tuple(p for p in policies if any(p in those for those in governing.values())),
            settings=settings,
            vms=vms,
            clouds=tuple(sorted({host.cloud for host in snapshot.hosts.values()})),
            places=_places(snapshot.hosts.values(), deadlines),
            governing=governing,
            deadlines=deadlines,
            free={host: _free(snapshot, host) for host in snapshot.hosts},
        )

    @cached_property
    def number(self) -> Mapping[VmName, int]:
        """The index of each VM."""
        return {vm: n for n, vm in enumerate(self.vms)}

    @cached_property
    def home(self) -> Assignment:
        """The place of each VM now."""
        hosts = (self.snapshot.hosts[self.snapshot.placement.host_of[vm]] for vm in self.vms)
        index = {place: k for k, place in enumerate(self.places)}
        return np.array(
            [index[Place(cloud=h.cloud, doomed=h.name in self.deadlines)] for h in hosts],
            dtype=np.int64,
        )

    @cached_property
    def cloud(self) -> NDArray[np.int64]:
        """The index of each place's cloud."""
        return np.array([self.clouds.index(place.cloud) for place in self.places], dtype=np.int64)

    @cached_property
    def missing_networks(self) -> Mapping[tuple[int, CloudName], tuple[VirtualNetworkName, ...]]:
        """The networks that governed VMs are on and other clouds than theirs lack, where any are."""
        told = [each for each in self.snapshot.clouds.values() if each.networks is not None]
        lacking = (
            ((vm, cloud.name), cloud.lacks(self.snapshot.vms[self.vms[vm]]))
            for vm in (self.governed if told else ())
            for cloud in told
            if cloud.name != self.places[self.home[vm]].cloud
        )
        return {at: networks for at, networks in lacking if networks}

    @cached_property
    def heard(self) -> Heard:
        """What the policies' rules in Python say."""
        return hear(self.snapshot, self.policies, self.governing)

    @cached_property
    def governed(self) -> Indices:
        """The VMs that some policy is about."""
        return tuple(n for n, vm in enumerate(self.vms) if self.governing[vm])

    def governed_by(self, policy: Policy, who: Selector | None = None) -> Indices:
        """Return the VMs of a policy, or those of them that a selector means."""
        return tuple(
            n
            for n, vm in enumerate(self.vms)
            if policy in self.governing[vm] and (who is None or who.matches(self.snapshot.vms[vm]))
        )

    def needs(self, vm: int) -> Resources:
        """Return what a VM needs."""
        return self.snapshot.vms[self.vms[vm]].needs

    def hosts_in(self, place: int) -> tuple[Host, ...]:
        """Return the hosts that a place is made of, by name."""
        return self._hosts[self.places[place]]

    @cached_property
    def _hosts(self) -> Mapping[Place, tuple[Host, ...]]:
        found: dict[Place, tuple[Host, ...]] = dict.fromkeys(self.places, ())
        for host in sorted(self.snapshot.hosts.values(), key=lambda each: each.name):
            found[Place(cloud=host.cloud, doomed=host.name in self.deadlines)] += (host,)
        return found

    def deadline(self, vm: int) -> datetime | None:
        """Return when the VM's host will be gone, where a notice says so."""
        return self.deadlines.get(self.snapshot.placement.host_of[self.vms[vm]])

    def seconds_left(self, vm: int) -> float:
        """Return the time that the VM's host still has: without end where no notice was given."""
        deadline = self.deadline(vm)
        if deadline is None:
            return float("inf")
        return (deadline - self.snapshot.at).total_seconds()

    @cached_property
    def out_of_reach(self) -> Indices:
        """The VMs that we govern on hosts that give no answer: only need makes us try to move them."""
        silent, host_of = self.snapshot.silent_hosts(), self.snapshot.placement.host_of
        return tuple(n for n in self.governed if host_of[self.vms[n]] in silent)

    def evacuates(self, vm: int) -> bool:
        """Say whether a notice makes the VM leave: one policy that says so is enough."""
        return self.deadline(vm) is not None and any(
            policy.availability.evacuate_on_notice for policy in self.governing[self.vms[vm]]
        )

    def cooling_until(self, vm: int) -> datetime | None:
        """Return when the VM may make an elective move again, where it moved not long ago."""
        policies = self.governing[self.vms[vm]]
        cooldown = max((p.elective.cooldown_seconds for p in policies), default=0.0)
        moved = self._last_moves.get(self.vms[vm])
        until = moved + timedelta(seconds=cooldown) if moved else None
        return until if until is not None and until > self.snapshot.at else None

    @cached_property
    def _last_moves(self) -> Mapping[VmName, datetime]:
        """When the last move of each VM ended, as far as that's remembered."""
        ended: dict[VmName, datetime] = {}
        for outcome in self.snapshot.outcomes:
            if outcome.result is StepResult.DONE:
                ended[outcome.vm] = max(outcome.ended_at, ended.get(outcome.vm, outcome.ended_at))
        return ended

    def payback_limit(self, vms: Iterable[int]) -> float:
        """Return how soon moves of these VMs must have paid, in seconds: the strictest policy's word."""
        asked = (
            policy.price.payback_seconds
            for vm in vms
            for policy in self.governing[self.vms[vm]]
            if policy.price and policy.price.payback_seconds is not None
        )
        return min(self.settings.horizon_seconds, *asked, float("inf"))

    def payback_asker(self, vms: Iterable[int]) -> str:
        """Return whose word `payback_limit` is, for a person."""
        known = tuple(vms)
        limit = self.payback_limit(known)
        names = (
            f"policy {policy.name}"
            for vm in known
            for policy in self.governing[self.vms[vm]]
            if policy.price and policy.price.payback_seconds == limit
        )
        return next(names, "the planner's horizon")

    def latency_asker(self, vm: int) -> str:
        """Return which policy says most of what a millisecond weighs for a VM, for a person."""
        asking = (p for p in self.governing[self.vms[vm]] if p.latency is not None)
        most = max(
            asking, key=lambda p: p.latency.dollars_per_gb_ms if p.latency else 0.0, default=None
        )
        return f"policy {most.name}" if most else "the policy of the other end"

    def cooldown_asker(self, vm: int) -> str:
        """Return which policy wants the longest cool-down of a VM, for a person."""
        policies = self.governing[self.vms[vm]]
        longest = max(policies, key=lambda p: p.elective.cooldown_seconds, default=None)
        return f"policy {longest.name}" if longest else "nobody"

    @cached_property
    def groups(self) -> Mapping[GroupId, Indices]:
        """The groups that have two or more of our VMs."""
        found = {
            group.id: tuple(self.number[vm] for vm in group.vms if vm in self.number)
            for group in self.snapshot.groups
        }
        return {name: members for name, members in found.items() if len(members) > 1}

    @cached_property
    def group_of(self) -> Mapping[int, GroupId]:
        """The group of each VM that is in one."""
        found: dict[int, GroupId] = {}
        for group, members in self.groups.items():
            for vm in members:
                found.setdefault(vm, group)
        return found


def _places(hosts: Iterable[Host], deadlines: Mapping[HostName, datetime]) -> tuple[Place, ...]:
    found = {Place(cloud=host.cloud, doomed=host.name in deadlines) for host in hosts}
    return tuple(sorted(found, key=lambda place: (place.cloud, place.doomed)))


def _free(snapshot: Snapshot, host: HostName) -> Resources:
    """Return what the host says is free, but no more than what the VMs that we know of leave.

    A report may be older than the last moves, and a VM on its way isn't in it yet. A host that gives no answer
    takes nobody, not even in the place of one that leaves.
    """
    report = snapshot.capacity.get(host)
    if report is None:
        return NOTHING
    there = (vm for vm, where in snapshot.placement.host_of.items() if where == host)
    used = total(snapshot.vms[vm].needs for vm in there if vm in snapshot.vms)
    if report.silent:
        return NOTHING - used
    left = report.total - used
    return Resources(
        vcpus=min(report.free.vcpus, left.vcpus),
        memory_bytes=min(report.free.memory_bytes, left.memory_bytes),
    )
