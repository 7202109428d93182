"""At which value of one number another place is the cheaper one: the answer's turning points.

What a placement costs is linear in each price and in each pair's traffic, so that the break-even of two
placements is exact: with `D` dollars per hour between them and a slope of `g` for each unit of the number, it's
at `now - D / g`. All other numbers, and everybody else's place, are as they are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import (
    SECONDS_PER_HOUR,
    CloudName,
    Parameter,
    PriceTick,
    TurningPoint,
)
from transhume.plan.constraints import Indices
from transhume.plan.explaining.weighing import Weighing
from transhume.plan.situation import Situation

LEAST_SLOPE = 1e-15
LEAST_SHARE = 1e-6
"""Of what it is now: below, a break-even is where rounding puts it."""
OUTSIDE = "outside"
ALL_OTHERS = ""
MOST_PEERS = 2
"""Of the peers whose traffic would turn the answer, as many are named: those that need to change least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rival:
    """A unit's other place, and by how much it's dearer than the one decided."""

    unit: Indices
    decided: int
    place: int
    dollars_per_hour: float


@dataclass(frozen=True, kw_only=True)
class Turning:
    """Finds the turning points round a decision."""

    situation: Situation
    weighing: Weighing

    def points(self, rival: Rival) -> Iterator[TurningPoint]:
        """Return the values of prices and traffic past which the rival is the cheaper one."""
        yield from self._prices(rival)
        yield from self._traffic(rival)

    def payback(self, rival: Rival) -> Iterator[TurningPoint]:
        """Return how long a move would have to be given to pay, where that's longer than a policy gives it."""
        once = float(self.weighing.bill.move[list(rival.unit), rival.place].sum())
        saving = self.weighing.moving(rival.unit, rival.place) - rival.dollars_per_hour
        limit = self.situation.payback_limit(rival.unit)
        if saving > 0 and once > 0:
            needed = once / saving * SECONDS_PER_HOUR
            if limit < needed <= self.situation.settings.horizon_seconds:
                yield self._point(rival, Parameter.PAYBACK, "", limit, needed)

    def _prices(self, rival: Rival) -> Iterator[TurningPoint]:
        known, clouds = self.situation.snapshot.prices, self._clouds(rival)
        if not all(cloud in known for cloud in clouds):
            return
        for cloud in clouds:
            tick = known[cloud]
            for parameter, now, dearer in (
                (
                    Parameter.VCPU_PRICE,
                    tick.dollars_per_vcpu_hour,
                    replace(tick, dollars_per_vcpu_hour=tick.dollars_per_vcpu_hour + 1),
                ),
                (
                    Parameter.GIB_PRICE,
                    tick.dollars_per_gib_hour,
                    replace(tick, dollars_per_gib_hour=tick.dollars_per_gib_hour + 1),
                ),
            ):
                slope = sum(
                    sign * (self._asked(vm, place, dearer) - self._asked(vm, place, tick))
                    for sign, place in ((1, rival.place), (-1, rival.decided))
                    if self.situation.places[place].cloud == cloud
                    for vm in rival.unit
                )
                yield from self._break_even(rival, parameter, cloud, now, slope)

    def _traffic(self, rival: Rival) -> Iterator[TurningPoint]:
        """Scale the traffic with one peer, both ways alike; where no single one suffices, with all."""
        peers, rates, slopes = self._peers(rival)
        found: list[TurningPoint] = []
        for peer, rate, slope in zip(peers, rates, slopes, strict=True):
            found += self._break_even(rival, Parameter.TRAFFIC, peer, rate, slope / rate)
        if not found and len(peers) > 1:
            whole = float(rates.sum())
            mean = float(slopes.sum()) / whole
            found += self._break_even(rival, Parameter.TRAFFIC, ALL_OTHERS, whole, mean)
        found.sort(
            key=lambda point: (abs(np.log(max(point.threshold, 1e-9) / point.now)), point.about)
        )
        yield from found[:MOST_PEERS]

    def _peers(self, rival: Rival) -> tuple[list[str], NDArray[np.float64], NDArray[np.float64]]:
        """Return who the unit talks to, how much, and what that would cost more in the rival's place."""
        weighing, bill, unit = self.weighing, self.weighing.bill, list(rival.unit)
        pairs = weighing.pairs_of(rival.unit)
        ends = bill.pairs[pairs]
        ours = weighing.inside(rival.unit, pairs)
        across = ours.sum(axis=1) == 1
        pairs, ends, ours = pairs[across], ends[across], ours[across]
        dearer = weighing.crossing(rival.unit, pairs, rival.place)
        dearer = dearer - weighing.crossing(rival.unit, pairs, rival.decided)
        peer = np.where(ours[:, 0], ends[:, 1], ends[:, 0])
        who, at = np.unique(peer, return_inverse=True)
        counted = np.bincount(at, weights=bill.rates[pairs].sum(axis=1), minlength=len(who))
        charged = np.bincount(at, weights=dearer, minlength=len(who))
        rates, slopes = counted.astype(np.float64), charged.astype(np.float64)
        names = [str(self.situation.vms[vm]) for vm in who]
        outside = float((bill.outside[unit, rival.place] - bill.outside[unit, rival.decided]).sum())
        if outside:
            names.append(OUTSIDE)
            rates = np.append(rates, self.outside_rate(rival.unit))
            slopes = np.append(slopes, outside)
        some = (rates > 0) & (np.abs(slopes) > LEAST_SLOPE)
        return (
            [name for name, kept in zip(names, some, strict=True) if kept],
            rates[some],
            slopes[some],
        )

    def outside_rate(self, unit: Indices) -> float:
        """Return what a unit sends to outside, in bytes per second."""
        matrix = self.situation.snapshot.matrix
        if matrix is None:
            return 0.0
        names = {self.situation.vms[vm] for vm in unit}
        rows = [row for row, name in enumerate(matrix.vms) if name in names]
        return float(matrix.to_outside[rows].sum()) / max(matrix.seconds, 1e-9)

    def _break_even(
        self, rival: Rival, parameter: Parameter, about: str, now: float, slope: float
    ) -> Iterator[TurningPoint]:
        if abs(slope) <= LEAST_SLOPE or now <= 0:
            return
        threshold = now - rival.dollars_per_hour / slope
        if threshold > LEAST_SHARE * now and threshold != now and np.isfinite(threshold):
            yield self._point(rival, parameter, about, now, threshold)

    def _point(
        self, rival: Rival, parameter: Parameter, about: str, now: float, threshold: float
    ) -> TurningPoint:
        place = self.situation.places[rival.place]
        return TurningPoint(
            parameter=parameter,
            about=about,
            now=float(now),
            threshold=float(threshold),
            cloud=place.cloud,
            stays=bool((self.situation.home[list(rival.unit)] == rival.place).all()),
            alone=len(rival.unit) == 1,
        )

    def _clouds(self, rival: Rival) -> list[CloudName]:
        places = (self.situation.places[place] for place in (rival.decided, rival.place))
        return list(dict.fromkeys(place.cloud for place in places))

    def _asked(self, vm: int, place: int, tick: PriceTick) -> float:
        """Return what depends on a cloud's price of compute: running there, and twice while it comes."""
        situation, bill = self.situation, self.weighing.bill
        name = situation.vms[vm]
        asked = tick.compute_dollars_per_hour(situation.snapshot.vms[name].needs)
        if place != situation.home[vm]:
            source = situation.places[situation.home[vm]].cloud
            move = bill.estimator.predict(
                situation.snapshot.vms[name],
                source,
                tick.cloud,
                tick,
                bill.tariff.dollars_per_gb(source, tick.cloud),
            )
            asked += move.dollars / float(self.weighing.hours[vm])
        return asked
