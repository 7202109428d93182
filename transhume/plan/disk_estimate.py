"""What disks add to moves, learnt from past ones.

    bytes = what they hold x factor x the share that the destination doesn't know

Only disks that policies have copied go along, and of them those that the destination doesn't see anyway. Nobody
tells that beforehand; the last move of the same VM between the same clouds does. The factor is the geometric
mean of what past moves between clouds took over what the disks hold; within a cloud it's 1. Nothing is learnt
from moves that found most of the disk there: ahead of them it was sent, or they went back. What was counted by
hypervisors themselves has holes in it, and counts for no more than the disk holds.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from transhume.knowledge.model import CloudName, Snapshot, Vm, VmName
from transhume.plan.past_moves import Past
from transhume.plan.settings import PlannerSettings
from transhume.policies.composition import terms_for
from transhume.policies.model import Policy

Way = frozenset[CloudName]
"""The clouds of both ends, or the one of both."""

LEAST_UNKNOWN = 0.02
"""Of what a VM holds, what is sent however much is known of it: it changes, and references take bytes, too."""


class Copied(NamedTuple):
    """What of a VM's disks goes along."""

    read_bytes: float = 0.0
    sent_bytes: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskEstimate:
    """Predicts what is copied of disks. Build it with `learnt_from`."""

    held_bytes: Mapping[VmName, int] = field(default_factory=dict)
    """Of the VMs whose disks may go along."""
    factor: float = 1.0
    common: frozenset[tuple[VmName, Way]] = frozenset()
    """Whose disks both ends see."""
    known_bytes: Mapping[tuple[VmName, CloudName], int] = field(default_factory=dict)

    @classmethod
    def learnt_from(
        cls,
        snapshot: Snapshot,
        policies: Sequence[Policy],
        past: Sequence[Past],
        settings: PlannerSettings,
    ) -> "DiskEstimate":
        """Learn from moves that were made, the latest first; until they tell, the settings hold."""
        factors = list(_factors(past))
        return cls(
            held_bytes={
                vm.name: vm.disk_bytes
                for vm in snapshot.vms.values()
                if vm.disk_bytes and terms_for(policies, vm).copy_disks
            },
            factor=statistics.geometric_mean(factors) if factors else settings.disk_factor,
            common=_in_common(past, settings.common_disks),
            known_bytes={
                (each.vm, each.cloud): each.known_disk_bytes
                for each in snapshot.warmth
                if each.known_disk_bytes
            },
        )

    def copied(self, vm: Vm, source: CloudName, destination: CloudName) -> Copied:
        """Return what goes along from one cloud to another."""
        held = self.held_bytes.get(vm.name, 0)
        if not held or (vm.name, frozenset((source, destination))) in self.common:
            return Copied()
        known = self.known_bytes.get((vm.name, destination), 0)
        unknown = max(LEAST_UNKNOWN * held, held - known)
        return Copied(held, unknown * (self.factor if source != destination else 1.0))


def _factors(past: Sequence[Past]) -> Iterator[float]:
    """Yield, for each move that tells it, which part of what the disks hold went over the wire."""
    left = set()
    for move in reversed(past):
        vm, measured = move.vm, move.measured
        goes_back = (vm.name, move.destination) in left
        left.add((vm.name, move.source))
        sent, disks = measured.disk_bytes or 0, measured.disks
        if not move.crosses or goes_back or vm.disk_bytes <= 0:
            continue
        if sent <= 0 or not math.isfinite(sent):
            continue
        if disks is None:
            yield min(1.0, sent / vm.disk_bytes)
        elif not disks.mostly_sent_before:
            yield sent / vm.disk_bytes


def _in_common(
    past: Sequence[Past], assumed: Iterable[tuple[VmName, Way]]
) -> frozenset[tuple[VmName, Way]]:
    """Return whose disks stayed where they were when it last went a way."""
    last = {
        (vm.name, frozenset((source, destination))): measured.disk_bytes
        for vm, source, destination, measured in reversed(past)
        if measured.disk_bytes is not None
    }
    return frozenset(way for way in {*assumed, *last} if not last.get(way))
