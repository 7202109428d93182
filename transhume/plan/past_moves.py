"""The moves that were made by VMs that are still known: what estimates are learnt from."""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import NamedTuple

from transhume.knowledge.model import (
    CloudName,
    Measurement,
    Outcome,
    Snapshot,
    StepResult,
    Vm,
    VmName,
)

Way = frozenset[CloudName]
"""The clouds of both ends, or the one of both."""


class Past(NamedTuple):
    """A move that was made, from cloud to cloud or within one."""

    vm: Vm
    source: CloudName
    destination: CloudName
    measured: Measurement
    ended_at: datetime
    since: timedelta | None
    """How long ago gateways had carried the VM the same way, in either direction; None where they never had."""

    @property
    def crosses(self) -> bool:
        """Whether it was one between clouds."""
        return self.source != self.destination

    @property
    def way(self) -> Way:
        """The clouds between which it was."""
        return frozenset((self.source, self.destination))


def past_moves(snapshot: Snapshot, outcomes: Iterable[Outcome]) -> tuple[Past, ...]:
    """Return those whose VM and hosts are still known, in the order of the outcomes: the latest first."""
    found: list[Past] = []
    last: dict[tuple[VmName, Way], datetime] = {}
    for outcome, move in reversed(list(_made(snapshot, outcomes))):
        before = last.get((outcome.vm, move.way))
        found.append(move._replace(since=outcome.started_at - before if before else None))
        if move.measured.transfer is not None and move.crosses:
            last[outcome.vm, move.way] = outcome.ended_at
    return tuple(reversed(found))


def _made(snapshot: Snapshot, outcomes: Iterable[Outcome]) -> Iterator[tuple[Outcome, Past]]:
    for outcome in outcomes:
        vm, measured = snapshot.vms.get(outcome.vm), outcome.measured
        source, destination = map(snapshot.hosts.get, (outcome.source, outcome.destination))
        if outcome.result is not StepResult.DONE or vm is None or measured is None:
            continue
        if source is not None and destination is not None:
            yield (
                outcome,
                Past(vm, source.cloud, destination.cloud, measured, outcome.ended_at, None),
            )
