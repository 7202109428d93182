"""What is sent of a VM that goes a way which it went before: the gateways of both ends know what it had then.

    share = what such moves sent / what they would have sent the first time, on the average

How much a VM changes meanwhile grows with the time. So the share holds for VMs that went that way lately: not
longer ago than twice the longest time after which one was seen to go it again. As long as none was, a move
is reckoned as if it were the first. Memory and disks are learnt apart.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from transhume.knowledge.model import CloudName, VmName
from transhume.plan.past_moves import LEARNT_FROM, Past, Way


@dataclass(frozen=True, slots=True, kw_only=True)
class Carried:
    """What gateways carried between clouds: memory, or disks."""

    latest: tuple[tuple[Past, timedelta | None], ...]
    """The moves that are learnt from, and how long before each they had carried the same VM's the same way, in
    either direction; None where they never had, or where they had no part in it."""
    last: Mapping[tuple[VmName, Way], datetime]
    """When they last did."""

    @classmethod
    def of(cls, past: Sequence[Past], by_gateways: Callable[[Past], bool]) -> "Carried":
        """Look through moves that were made, the latest first."""
        last: dict[tuple[VmName, Way], datetime] = {}
        found: list[tuple[Past, timedelta | None]] = []
        for move in reversed(past):
            before = None
            if move.crosses and by_gateways(move):
                before = last.get((move.vm.name, move.way))
                last[move.vm.name, move.way] = move.ended_at
            found.append((move, None if before is None else move.started_at - before))
        return cls(latest=tuple(islice(reversed(found), LEARNT_FROM)), last=last)


@dataclass(frozen=True, slots=True, kw_only=True)
class Returns:
    """What VMs send of what they would send the first time. Build it with `learnt_from`."""

    share: float = 1.0
    not_before: datetime | None = None
    """VMs that went a way before then count as those that never did; None where all do."""
    last: Mapping[tuple[VmName, Way], datetime] = field(default_factory=dict)
    """When VMs last went ways by gateways."""

    @classmethod
    def learnt_from(
        cls,
        carried: Carried,
        factor_of: Callable[[Past], float | None],
        first_factor: float,
        now: datetime,
    ) -> "Returns":
        """Learn from moves that were made.

        Args:
            carried: which ways VMs went.
            factor_of: tells what a move sent of what there was; None where nobody can tell.
            first_factor: the same of VMs that go a way for the first time.
            now: when the next may begin.
        """
        found = [
            (since, factor / first_factor)
            for move, since in carried.latest
            if since is not None and (factor := factor_of(move)) is not None and first_factor > 0
        ]
        if not found:
            return cls()
        return cls(
            share=min(1.0, statistics.fmean(share for _, share in found)),
            not_before=now - 2 * max(away for away, _ in found),
            last=carried.last,
        )

    def unknown(self, vm: VmName, source: CloudName, destination: CloudName) -> float:
        """Return which share of what a VM would send the first time is sent from one cloud to another."""
        last = self.last.get((vm, frozenset((source, destination))))
        if last is None or self.not_before is None or last < self.not_before:
            return 1.0
        return self.share
