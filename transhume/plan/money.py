"""The bill: what a placement costs in dollars per hour, by cause, and whose move changes it by how much.

Counted are the VMs that a policy governs, and traffic with at least one governed end:

    compute    price of the cloud x vCPUs and memory
    egress     bytes per second to VMs in other clouds, and to outside, x what the sender's cloud asks for that
    migration  one-time dollars of the moves / horizon in hours
    risk       VMs on hosts that will be gone within the horizon: what losing them costs / horizon in hours
    lateness   seconds that a job with a deadline will be late x what one costs / horizon in hours
    preference what policies would rather have (`preferences`), in dollars that nobody is billed for
    latency    bytes per second to and from VMs in other clouds x round trip x what policies say that weighs:
               the most that any policy of either VM says, in dollars that nobody is billed for

Where prices to come are certain, each price is its mean over the horizon.
A cloud that tells no price is reckoned at the dearest price of the others, and a round trip that nobody told
at the longest that is known: not knowing is no bargain.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import (
    BYTES_PER_GB,
    SECONDS_PER_HOUR,
    CloudName,
    CommunicationMatrix,
    CostRate,
    EgressTariff,
    Prediction,
    PriceTick,
)
from transhume.plan.constraints import Assignment, Delay
from transhume.plan.estimate import Estimator
from transhume.plan.preferences import preferences
from transhume.plan.price_ahead import mean_price
from transhume.plan.problem import billed_between
from transhume.plan.situation import Situation

Table = NDArray[np.float64]
"""Numbers by VM and place."""


@dataclass(frozen=True, kw_only=True)
class Bill:
    """Everything that costs, as arrays over the situation's VMs, places and clouds."""

    situation: Situation
    estimator: Estimator
    prices: dict[CloudName, PriceTick]
    tariff: EgressTariff
    compute: Table
    outside: Table
    """What traffic to outside costs."""
    risk: Table
    preference: Table
    move: Table
    """One-time dollars of going there from home."""
    seconds: Table
    """How long going there takes."""
    pairs: NDArray[np.int64]
    rates: NDArray[np.float64]
    egress: NDArray[np.float64]
    """By sending and receiving cloud: dollars per hour for each byte per second; 0 within a cloud."""
    latency: NDArray[np.float64]
    """By cloud and cloud: the round trip in milliseconds; 0 within a cloud."""
    nearness: NDArray[np.float64]
    """By pair: what a millisecond between its ends weighs, in dollars per hour."""
    delays: tuple[Delay, ...]

    @classmethod
    def of(cls, situation: Situation) -> "Bill":
        """Price everything in a situation."""
        estimator = Estimator.learnt_from(
            situation.snapshot, situation.settings, situation.policies
        )
        prices = _prices(situation)
        tariff = EgressTariff(clouds=situation.snapshot.clouds, prices=prices)
        shape = (len(situation.vms), len(situation.places))
        compute, outside, risk, move, seconds = (np.zeros(shape) for _ in range(5))
        to_outside = _outside(situation)
        hours = situation.settings.horizon_seconds / SECONDS_PER_HOUR
        for n in situation.governed:
            vm = situation.snapshot.vms[situation.vms[n]]
            source = situation.places[situation.home[n]].cloud
            for k, place in enumerate(situation.places):
                price = prices[place.cloud]
                compute[n, k] = price.compute_dollars_per_hour(vm.needs)
                outside[n, k] = tariff.dollars_per_hour(place.cloud, None, to_outside[n])
                if place.doomed and _gone_within_horizon(situation, n, k):
                    risk[n, k] = vm.needs.vcpus * situation.settings.loss_dollars_per_vcpu / hours
                if k != situation.home[n]:
                    egress = tariff.dollars_per_gb(source, place.cloud)
                    prediction = estimator.predict(vm, source, place.cloud, price, egress)
                    move[n, k], seconds[n, k] = prediction.dollars, prediction.seconds
        pairs, rates = _pairs(situation)
        return cls(
            situation=situation,
            estimator=estimator,
            prices=prices,
            tariff=tariff,
            compute=compute,
            outside=outside,
            risk=risk,
            preference=preferences(situation),
            move=move,
            seconds=seconds,
            pairs=pairs,
            rates=rates,
            egress=np.array(
                [
                    [tariff.dollars_per_hour(a, b, 1.0) for b in situation.clouds]
                    for a in situation.clouds
                ]
            ).reshape(2 * (len(situation.clouds),)),
            latency=_latency(situation),
            nearness=_nearness(situation, pairs, rates),
            delays=_delays(situation, seconds),
        )

    def of_assignment(self, assignment: Assignment) -> CostRate:
        """Return what an assignment costs, by cause."""
        everyone, home = np.arange(len(assignment)), self.situation.home
        hours = self.situation.settings.horizon_seconds / SECONDS_PER_HOUR
        return CostRate(
            compute=float(self.compute[everyone, assignment].sum()),
            egress=float(self.outside[everyone, assignment].sum())
            + float(self.crossing(assignment).sum()),
            migration=float(self.move[everyone, assignment].sum()) / hours,
            risk=float(self.risk[everyone, assignment].sum()),
            lateness=sum(delay.dollars_per_hour(home, assignment) for delay in self.delays),
            preference=float(self.preference[everyone, assignment].sum()),
            latency=float(self.distance(assignment).sum()),
        )

    def crossing(self, assignment: Assignment) -> NDArray[np.float64]:
        """Return what each pair's traffic is billed for crossing clouds, in dollars per hour."""
        clouds = self.situation.cloud[assignment[self.pairs]]
        return billed_between(self.rates, self.egress, clouds)

    def distance(self, assignment: Assignment) -> NDArray[np.float64]:
        """Return what the way between each pair's ends weighs, in dollars per hour."""
        clouds = self.situation.cloud[assignment[self.pairs]]
        return np.asarray(self.nearness * self.latency[clouds[:, 0], clouds[:, 1]])

    def apart_between(
        self, pairs: NDArray[np.int64], clouds: NDArray[np.int64]
    ) -> NDArray[np.float64]:
        """Return what these pairs cost with their ends in these clouds (a row each), in dollars per hour.

        The way between the ends is in it.
        """
        way = self.nearness[pairs] * self.latency[clouds[:, 0], clouds[:, 1]]
        return np.asarray(billed_between(self.rates[pairs], self.egress, clouds) + way)

    def savings(self, before: Assignment, after: Assignment) -> NDArray[np.float64]:
        """Return by how much each VM's move lowers the running bill, given the others' moves.

        What a pair saves belongs to the one that moved, or to both by half. The parts add up to the
        whole.
        """
        everyone, moved = np.arange(len(before)), before != after
        own = self.compute + self.outside + self.risk + self.preference
        saved = own[everyone, before] - own[everyone, after]
        pair_saved = self.crossing(before) - self.crossing(after)
        pair_saved += self.distance(before) - self.distance(after)
        movers = moved[self.pairs].sum(axis=1)
        for end in (0, 1):
            share = np.where(moved[self.pairs[:, end]], pair_saved / np.maximum(movers, 1), 0.0)
            np.add.at(saved, self.pairs[:, end], share)
        for delay in self.delays:
            self._share_delay(saved, delay, before, after)
        return np.asarray(saved)

    def running_share(self, vms: tuple[int, ...], assignment: Assignment) -> float:
        """Return what these VMs cost an hour: their own part, and half of what each of their pairs does."""
        own = self.compute + self.outside + self.risk
        members = list(vms)
        ends = np.isin(self.pairs, members).sum(axis=1) / 2
        return float(own[members, assignment[members]].sum()) + float(
            (ends * self.crossing(assignment)).sum()
        )

    def prediction(self, vm: int, place: int) -> Prediction:
        """Return what moving a VM to a place takes."""
        situation = self.situation
        source, cloud = situation.places[situation.home[vm]].cloud, situation.places[place].cloud
        return self.prediction_between(vm, source, cloud)

    def prediction_between(self, vm: int, source: CloudName, destination: CloudName) -> Prediction:
        """Return what moving a VM from one cloud to another takes, wherever it is now."""
        return self.estimator.predict(
            self.situation.snapshot.vms[self.situation.vms[vm]],
            source,
            destination,
            self.prices[destination],
            self.tariff.dollars_per_gb(source, destination),
        )

    def _share_delay(
        self, saved: NDArray[np.float64], delay: Delay, before: Assignment, after: Assignment
    ) -> None:
        home = self.situation.home
        change = delay.dollars_per_hour(home, before) - delay.dollars_per_hour(home, after)
        movers = [vm for vm in delay.members if before[vm] != after[vm]]
        for vm in movers:
            saved[vm] += change / len(movers)


def _prices(situation: Situation) -> dict[CloudName, PriceTick]:
    snapshot, horizon = situation.snapshot, situation.settings.horizon_seconds
    known = {
        cloud: mean_price(tick, snapshot.prices_ahead, at=snapshot.at, seconds=horizon)
        for cloud, tick in snapshot.prices.items()
    }
    ticks = [known[cloud] for cloud in situation.clouds if cloud in known]

    def dearest(cloud: CloudName) -> PriceTick:
        return PriceTick(
            cloud=cloud,
            at=situation.snapshot.at,
            dollars_per_vcpu_hour=max((t.dollars_per_vcpu_hour for t in ticks), default=0.0),
            dollars_per_gib_hour=max((t.dollars_per_gib_hour for t in ticks), default=0.0),
            egress_dollars_per_gb=max((t.egress_dollars_per_gb for t in ticks), default=0.0),
        )

    return {cloud: known.get(cloud) or dearest(cloud) for cloud in situation.clouds}


def _latency(situation: Situation) -> NDArray[np.float64]:
    """Return the round trips between clouds in milliseconds; one that nobody told is the longest known."""
    known = {
        link.clouds: link.latency_seconds * 1000
        for link in situation.snapshot.links
        if link.latency_seconds is not None
    }
    longest = max(known.values(), default=0.0)
    clouds = situation.clouds
    found = np.array([[known.get(frozenset((a, b)), longest) for b in clouds] for a in clouds])
    found = found.reshape(len(clouds), len(clouds))
    np.fill_diagonal(found, 0.0)
    return found


def _nearness(
    situation: Situation, pairs: NDArray[np.int64], rates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return what a millisecond between the ends of each pair weighs: the strictest policy's word."""
    worth = np.zeros(len(situation.vms))
    for policy in situation.policies:
        if policy.latency is not None:
            members = list(situation.governed_by(policy))
            worth[members] = np.maximum(worth[members], policy.latency.dollars_per_gb_ms)
    gb_per_hour = rates.sum(axis=1) * SECONDS_PER_HOUR / BYTES_PER_GB
    return np.asarray(worth[pairs].max(axis=1, initial=0.0) * gb_per_hour)


def _outside(situation: Situation) -> NDArray[np.float64]:
    """Return what each VM sends to outside, in bytes per second."""
    found = np.zeros(len(situation.vms))
    matrix = situation.snapshot.matrix
    if matrix is not None:
        number = _numbers(situation, matrix)
        ours = number >= 0
        found[number[ours]] = matrix.to_outside[ours] / max(matrix.seconds, 1e-9)
    return found


def _pairs(situation: Situation) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pairs that talk and have a governed end, with both rates in bytes per second."""
    matrix = situation.snapshot.matrix
    if matrix is None:
        return np.zeros((0, 2), dtype=np.int64), np.zeros((0, 2))
    number = _numbers(situation, matrix)
    governed = np.zeros(len(matrix.vms), dtype=bool)
    governed[np.isin(number, situation.governed)] = True
    source, destination = matrix.source.astype(np.int64), matrix.destination.astype(np.int64)
    kept = (source != destination) & (matrix.bytes > 0)
    kept &= (number[source] >= 0) & (number[destination] >= 0)
    kept &= governed[source] | governed[destination]
    ends = np.stack((source[kept], destination[kept]), axis=1)
    backward = (ends[:, 0] > ends[:, 1]).astype(np.int64)
    ends.sort(axis=1)
    keys, at = np.unique(ends[:, 0] * len(number) + ends[:, 1], return_inverse=True)
    rates = np.zeros((len(keys), 2))
    rates[at, backward] = matrix.bytes_per_second[kept]
    return np.stack((number[keys // len(number)], number[keys % len(number)]), axis=1), rates


def _numbers(situation: Situation, matrix: CommunicationMatrix) -> NDArray[np.int64]:
    """Return the number of the VM of each row of a matrix, -1 where it can't be moved."""
    return np.array([situation.number.get(vm, -1) for vm in matrix.vms], dtype=np.int64)


def _gone_within_horizon(situation: Situation, vm: int, place: int) -> bool:
    """Say whether the VM would be lost there; only its own host can take it away."""
    return (
        place == situation.home[vm]
        and situation.seconds_left(vm) < situation.settings.horizon_seconds
    )


def _delays(situation: Situation, seconds: Table) -> tuple[Delay, ...]:
    found = []
    hours = situation.settings.horizon_seconds / SECONDS_PER_HOUR
    measured = situation.snapshot.changeover_seconds()
    for policy in situation.policies:
        goal = policy.deadline
        if goal is None:
            continue
        members = situation.governed_by(policy)
        longest = seconds.max(axis=1, initial=0.0)
        changeover = measured if goal.changeover_seconds is None else goal.changeover_seconds
        held_up = [float(longest[vm]) if changeover is None else changeover for vm in members]
        left = goal.work_seconds * (1 - situation.snapshot.share_done(goal.progress_job))
        if left <= 0:
            continue  # it's done, also where its deadline is over
        found.append(
            Delay(
                members=members,
                seconds=tuple(held_up),
                slack_seconds=(goal.at - situation.snapshot.at).total_seconds() - left,
                dollars_per_hour_per_second=situation.settings.late_dollars_per_second / hours,
            )
        )
    return tuple(found)
