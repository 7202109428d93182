"""What disks add to moves, learnt from past ones.

    bytes = what they hold x factor x the share that the destination doesn't know

Only disks that policies have copied go along, and of them those that the destination doesn't see anyway. Nobody
tells that beforehand; the last move of the same VM between the same clouds does. The factor is the geometric
mean of what past moves between clouds took over what the disks hold; within a cloud it's 1. It isn't learnt
from moves that found most of the disk there because it was sent ahead, nor from VMs that went the same way
before, which send less (see `returns`). What was counted by hypervisors themselves has holes in it, and counts
for no more than the disk holds.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from transhume.knowledge.model import CloudName, Snapshot, Vm, VmName
from transhume.plan.past_moves import Past, Way
from transhume.plan.returns import Carried, Returns
from transhume.plan.settings import PlannerSettings
from transhume.policies.composition import terms_for
from transhume.policies.model import Policy

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
    returns: Returns = field(default_factory=Returns)

    @classmethod
    def learnt_from(
        cls,
        snapshot: Snapshot,
        policies: Sequence[Policy],
        past: Sequence[Past],
        settings: PlannerSettings,
    ) -> "DiskEstimate":
        """Learn from moves that were made, the latest first; until they tell, the settings hold."""
        carried = Carried.of(past, _by_gateways)
        factors = list(_factors(carried))
        factor = statistics.geometric_mean(factors) if factors else settings.disk_factor
        return cls(
            held_bytes={
                vm.name: vm.disk_bytes
                for vm in snapshot.vms.values()
                if vm.disk_bytes and terms_for(policies, vm).copy_disks
            },
            factor=factor,
            common=_in_common(past, settings.common_disks),
            known_bytes={
                (each.vm, each.cloud): each.known_disk_bytes
                for each in snapshot.warmth
                if each.known_disk_bytes
            },
            returns=Returns.learnt_from(carried, _factor_of, factor, snapshot.at),
        )

    def copied(self, vm: Vm, source: CloudName, destination: CloudName) -> Copied:
        """Return what goes along from one cloud to another."""
        held = self.held_bytes.get(vm.name, 0)
        if not held or (vm.name, frozenset((source, destination))) in self.common:
            return Copied()
        known = self.known_bytes.get((vm.name, destination), 0)
        share = self.returns.unknown(vm.name, source, destination)
        unknown = max(LEAST_UNKNOWN * held, min(share * held, held - known))
        return Copied(held, unknown * (self.factor if source != destination else 1.0))


def _by_gateways(move: Past) -> bool:
    return move.measured.disks is not None and bool(move.measured.disk_bytes)


def _factors(carried: Carried) -> Iterator[float]:
    """Yield, for each move that tells it, which part of what the disks hold went over the wire."""
    for move, since in carried.latest:
        factor, disks = _factor_of(move), move.measured.disks
        if factor is None or since is not None:
            continue
        if disks is None:
            yield min(1.0, factor)
        elif not disks.mostly_sent_before:
            yield factor


def _factor_of(move: Past) -> float | None:
    """Return what a move between clouds sent of what the disks hold; None where nobody can tell."""
    sent, held = move.measured.disk_bytes or 0, move.vm.disk_bytes
    if not move.crosses or held <= 0 or sent <= 0 or not math.isfinite(sent):
        return None
    return sent / held


def _in_common(
    past: Sequence[Past], assumed: Iterable[tuple[VmName, Way]]
) -> frozenset[tuple[VmName, Way]]:
    """Return whose disks stayed where they were when it last went a way."""
    last = {
        (move.vm.name, move.way): move.measured.disk_bytes
        for move in reversed(past)
        if move.measured.disk_bytes is not None
    }
    return frozenset(way for way in {*assumed, *last} if not last.get(way))
