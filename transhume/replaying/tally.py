"""What a replay adds up: dollars by cause, time in violation, bytes and moves, and the curves of a report.

Owns sums over time of what holds between two instants. What holds is said by the world, which knows the
placement; prices and traffic are the facts'.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import numpy as np

from transhume.knowledge.model import (
    BYTES_PER_GIB,
    SECONDS_PER_HOUR,
    CloudName,
    EgressTariff,
    MoveKind,
    Resources,
    VmName,
    total,
)
from transhume.replaying.trace import Traffic

Outflow = Mapping[tuple[CloudName, CloudName | None], float]
"""Bytes per second from cloud to cloud, and (None) to outside."""
POINTS = 240
"""In a curve."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """How far the sums had come at an instant."""

    at: datetime
    dollars: float
    """Paid since the start."""
    moves: int


@dataclass(frozen=True, slots=True)
class Rates:
    """What holds between two instants."""

    compute_dollars_per_hour: float = 0.0
    egress_dollars_per_hour: float = 0.0
    cut_bytes_per_second: float = 0.0


@dataclass(slots=True, kw_only=True)
class Tally:
    """The sums of one replay."""

    start: datetime
    end: datetime
    compute: float = 0.0
    egress: float = 0.0
    migration: float = 0.0
    loss: float = 0.0
    cut_bytes: float = 0.0
    moves: Counter[MoveKind] = field(default_factory=Counter)
    undone: int = 0
    moved_bytes: int = 0
    moves_too_soon: int = 0
    lost: int = 0
    down_vm_seconds: float = 0.0
    violation_seconds: Counter[str] = field(default_factory=Counter)
    points: list[Point] = field(default_factory=list)

    @property
    def dollars(self) -> float:
        """All that was paid."""
        return self.compute + self.egress + self.migration

    def pass_time(
        self, since: datetime, until: datetime, rates: Rates, broken: Iterable[str], down: int
    ) -> None:
        """Add what holds from one instant to another."""
        seconds = (until - since).total_seconds()
        hours = seconds / SECONDS_PER_HOUR
        self._draw(since, until, rates)
        self.compute += rates.compute_dollars_per_hour * hours
        self.egress += rates.egress_dollars_per_hour * hours
        self.cut_bytes += rates.cut_bytes_per_second * seconds
        self.down_vm_seconds += down * seconds
        for rule in broken:
            self.violation_seconds[rule] += seconds  # type: ignore[assignment]

    def _draw(self, since: datetime, until: datetime, rates: Rates) -> None:
        an_hour = rates.compute_dollars_per_hour + rates.egress_dollars_per_hour
        step = (self.end - self.start) / POINTS
        while len(self.points) <= POINTS and self.start + len(self.points) * step <= until:
            at = self.start + len(self.points) * step
            hours = (at - since).total_seconds() / SECONDS_PER_HOUR
            dollars = self.dollars + an_hour * max(0.0, hours)
            self.points.append(Point(at=at, dollars=dollars, moves=self.moves.total()))


def rates_of(
    by_cloud: Mapping[CloudName, Resources],
    outflow: Outflow,
    cut: float,
    tariff: EgressTariff,
) -> Rates:
    """Return what VMs and their traffic cost at these prices; a cloud without a price costs nothing."""
    prices = tariff.prices
    compute = sum(
        prices[cloud].dollars_per_vcpu_hour * used.vcpus
        + prices[cloud].dollars_per_gib_hour * used.memory_bytes / BYTES_PER_GIB
        for cloud, used in by_cloud.items()
        if cloud in prices
    )
    egress = sum(
        tariff.dollars_per_hour(source, destination, rate)
        for (source, destination), rate in outflow.items()
    )
    return Rates(compute, egress, cut)


def used_by_cloud(
    needs: Mapping[VmName, Resources], cloud_of: Mapping[VmName, CloudName]
) -> dict[CloudName, Resources]:
    """Return what the VMs in each cloud take."""
    there: dict[CloudName, list[Resources]] = {}
    for vm, cloud in cloud_of.items():
        there.setdefault(cloud, []).append(needs[vm])
    return {cloud: total(amounts) for cloud, amounts in there.items()}


def outflow_of(
    traffic: Traffic | None, cloud_of: Mapping[VmName, CloudName], clouds: Sequence[CloudName]
) -> tuple[Outflow, float]:
    """Return what leaves each cloud for where, and the cut, in bytes per second.

    VMs that are down say nothing.
    """
    if traffic is None:
        return {}, 0.0
    matrix = traffic.matrix
    number = {cloud: n for n, cloud in enumerate(clouds)}
    where = np.array(
        [number[cloud_of[vm]] if vm in cloud_of else -1 for vm in matrix.vms], dtype=np.int64
    )
    source, destination = where[matrix.source], where[matrix.destination]
    crosses = (source != destination) & (source >= 0) & (destination >= 0)
    # bincount counts in whole numbers where there is nothing to count
    out = np.zeros((len(clouds), len(clouds) + 1))
    ways = source[crosses], destination[crosses]
    np.add.at(out, ways, matrix.bytes_per_second[crosses])
    cut = float(out.sum())
    up = where >= 0
    np.add.at(out[:, -1], where[up], matrix.to_outside[up] / max(matrix.seconds, 1e-9))
    ends = (*clouds, None)
    return {(clouds[a], ends[b]): float(out[a, b]) for a, b in np.argwhere(out)}, cut


def whole_ticks(start: datetime, at: datetime, tick: timedelta) -> datetime:
    """Return the first tick that is not before an instant."""
    return start + -((start - at) // tick) * tick
