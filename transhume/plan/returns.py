"""What is sent of a VM that goes a way which it went before: the gateways of both ends know what it had then.

    share = what such moves sent / what they would have sent the first time, on the average

How much a VM changes meanwhile grows with the time. So the share holds for VMs that went that way lately: not
longer ago than twice the longest time after which one was seen to go it again. As long as none was, a move
is reckoned as if it were the first.
"""

import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from transhume.knowledge.model import CloudName, VmName
from transhume.plan.past_moves import Past, Way


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
        cls, past: Sequence[Past], shares: Iterable[tuple[timedelta, float]], now: datetime
    ) -> "Returns":
        """Learn from moves that were made.

        Args:
            past: all of them, the latest first.
            shares: how long VMs had been away, and what they sent of what they'd have sent the first time.
            now: when the next may begin.
        """
        found = list(shares)
        if not found:
            return cls()
        return cls(
            share=min(1.0, statistics.fmean(share for _, share in found)),
            not_before=now - 2 * max(away for away, _ in found),
            last={
                (move.vm.name, move.way): move.ended_at
                for move in reversed(past)
                if move.crosses and move.measured.transfer is not None
            },
        )

    def unknown(self, vm: VmName, source: CloudName, destination: CloudName) -> float:
        """Return which share of what a VM would send the first time is sent from one cloud to another."""
        last = self.last.get((vm, frozenset((source, destination))))
        if last is None or self.not_before is None or last < self.not_before:
            return 1.0
        return self.share
