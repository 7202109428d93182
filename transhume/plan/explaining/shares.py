"""What a decision changes of each VM's part of the bill, by cause and by the VM at the traffic's other end.

The parts add up: over the lines of all VMs that move, each cause sums up to the difference of the whole bill.
So a pair that both move shares what it pays by halves, and a job's lateness is shared by those that hold it up.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import SECONDS_PER_HOUR, BillLine
from transhume.plan.explaining.weighing import Weighing
from transhume.plan.situation import Situation

MOST_PEERS = 5
"""As many VMs at the other end are named, those whose traffic makes the largest difference."""


@dataclass(frozen=True, kw_only=True)
class Shares:
    """Shares the bill's difference out. Build it with `of`: it reckons once for all VMs."""

    situation: Situation
    weighing: Weighing
    crossing_now: NDArray[np.float64]
    crossing_then: NDArray[np.float64]
    distance_now: NDArray[np.float64]
    distance_then: NDArray[np.float64]

    @classmethod
    def of(cls, situation: Situation, weighing: Weighing) -> "Shares":
        """Reckon what each pair pays, now and then."""
        bill = weighing.bill
        return cls(
            situation=situation,
            weighing=weighing,
            crossing_now=bill.crossing(weighing.home),
            crossing_then=bill.crossing(weighing.chosen),
            distance_now=bill.distance(weighing.home),
            distance_then=bill.distance(weighing.chosen),
        )

    def lines(self, vm: int) -> tuple[BillLine, ...]:
        """Return the parts of a VM that moves; those that are nothing before and after are left out."""
        bill = self.weighing.bill
        here, there = int(self.weighing.home[vm]), int(self.weighing.chosen[vm])
        hours = self.situation.settings.horizon_seconds / SECONDS_PER_HOUR
        late_now, late_then = self._lateness(vm)
        lines = (
            _line("compute", bill.compute[vm, here], bill.compute[vm, there]),
            *self._egress(vm),
            _line("egress", bill.outside[vm, here], bill.outside[vm, there], "outside"),
            _line("migration", 0.0, bill.move[vm, there] / hours),
            _line("risk", bill.risk[vm, here], bill.risk[vm, there]),
            _line("lateness", late_now, late_then),
            _line("preference", bill.preference[vm, here], bill.preference[vm, there]),
            _line("latency", *self._latency(vm)),
        )
        return tuple(line for line in lines if line.now or line.then)

    def _talk(self, vm: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Return a VM's pairs, the VM at the other end of each, and the part of each that is this VM's."""
        home, chosen = self.weighing.home, self.weighing.chosen
        pairs = self.weighing.pairs_of((vm,))
        ends = self.weighing.bill.pairs[pairs]
        peers = np.where(ends[:, 0] == vm, ends[:, 1], ends[:, 0])
        return pairs, peers, np.where(home[peers] != chosen[peers], 0.5, 1.0)

    def _latency(self, vm: int) -> tuple[float, float]:
        """Return the VM's part of what the way to those it talks to weighs, now and then."""
        pairs, _, share = self._talk(vm)
        now, then = self.distance_now[pairs], self.distance_then[pairs]
        return float((now * share).sum()), float((then * share).sum())

    def _egress(self, vm: int) -> Iterable[BillLine]:
        pairs, peers, share = self._talk(vm)
        now, then = self.crossing_now[pairs] * share, self.crossing_then[pairs] * share
        order = np.lexsort((peers, -np.maximum(now, then), -np.abs(then - now)))
        first, rest = order[:MOST_PEERS], order[MOST_PEERS:]
        for at in first:
            yield _line("egress", now[at], then[at], self.situation.vms[peers[at]])
        if len(rest):
            about = f"{len(rest)} others" if len(rest) > 1 else "1 other"
            yield _line("egress", now[rest].sum(), then[rest].sum(), about)

    def _lateness(self, vm: int) -> tuple[float, float]:
        """Return the VM's part of what jobs' being late costs, now and then."""
        home, chosen = self.weighing.home, self.weighing.chosen
        now = then = 0.0
        for delay in self.weighing.bill.delays:
            if vm in delay.members:
                movers = [each for each in delay.members if home[each] != chosen[each]]
                now += delay.dollars_per_hour(home, home) / max(len(movers), 1)
                then += delay.dollars_per_hour(home, chosen) / max(len(movers), 1)
        return now, then


def _line(cause: str, now: float, then: float, about: str = "") -> BillLine:
    return BillLine(cause=cause, about=about, now=float(now), then=float(then))
