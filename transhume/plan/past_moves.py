"""The moves that were made by VMs that are still known: what estimates are learnt from."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from transhume.knowledge.model import CloudName, Measurement, Outcome, Snapshot, StepResult, Vm

LEARNT_FROM = 50
"""How many of the latest moves are learnt from."""

Way = frozenset[CloudName]
"""The clouds of both ends, or the one of both."""


class Past(NamedTuple):
    """A move that was made, from cloud to cloud or within one."""

    vm: Vm
    source: CloudName
    destination: CloudName
    measured: Measurement
    started_at: datetime
    ended_at: datetime

    @property
    def crosses(self) -> bool:
        """Whether it was one between clouds."""
        return self.source != self.destination

    @property
    def way(self) -> Way:
        """The clouds between which it was."""
        return frozenset((self.source, self.destination))


def past_moves(snapshot: Snapshot, outcomes: Iterable[Outcome]) -> Iterator[Past]:
    """Yield those whose VM and hosts are still known, in the order of the outcomes."""
    for outcome in outcomes:
        vm, measured = snapshot.vms.get(outcome.vm), outcome.measured
        source, destination = map(snapshot.hosts.get, (outcome.source, outcome.destination))
        if outcome.result is not StepResult.DONE or vm is None or measured is None:
            continue
        if source is not None and destination is not None:
            yield Past(
                vm,
                source.cloud,
                destination.cloud,
                measured,
                outcome.started_at,
                outcome.ended_at,
            )
