"""A screen before the planner: whether it is certain that no elective move can be worth it.

The planner refuses moves that don't pay within the payback, and elective moves that together save less than a
policy's minimum gain. What any placement could save is bounded from above, in milliseconds:

- Each VM is looked at in each cloud by itself. Traffic that crosses clouds now is credited as saved: all of it
  to a VM that goes to where its peer is, half to each of two that would both have to move; or, where either
  could go to the other, once to nobody.
- Two VMs of one cloud that talk go together or pay for being apart: so what one would gain may be set against
  what the other would lose, up to the price of being apart (a flow, found greedily).
- Payback is a condition on the sum; a multiplier on it makes bounds that know of both.
- Room is a condition on each cloud; multipliers on vCPUs and memory (the Lagrangian bound) make bounds that
  know of it. A budget lets only so many of the best count.

Where even that is too little, the planner would find nothing, and isn't asked. Where anything is unusual (a VM
on a host that is about to go, a price that nobody told) the screen says nothing. A property test holds it
against the planner.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import (
    BYTES_PER_GB,
    BYTES_PER_GIB,
    SECONDS_PER_HOUR,
    CloudName,
    HostName,
    Outcome,
    PriceTick,
    StepResult,
    VmName,
)
from transhume.policies.model import Policy
from transhume.replaying.migration import MigrationModel
from transhume.replaying.trace import Facts, Traffic

Table = NDArray[np.float64]
WEIGHTS = (0.0, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0, 2.0, 4.0)
"""Of the condition that moves pay, against what they save."""
ROUNDS = 40
"""Of the ascent to the Lagrangian bound."""
SPECK = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What a decision would be taken on."""

    at: datetime
    facts: Facts
    host_of: Mapping[VmName, HostName]
    placement_version: int
    outcomes: Sequence[Outcome]


@dataclass(frozen=True, kw_only=True)
class _Ground:
    """What depends on where the VMs are, and on nothing that changes by the hour."""

    key: tuple[object, ...]
    vms: tuple[VmName, ...]
    clouds: tuple[CloudName, ...]
    home: NDArray[np.int64]
    vcpus: Table
    gib: Table
    governed: NDArray[np.bool_]
    members: tuple[NDArray[np.bool_], ...]
    number: Mapping[VmName, int]
    cooldown_seconds: Table
    payback_hours: Table
    move_gb: Table
    """By VM and cloud; what a move sends, 0 at home."""
    move_hours: Table
    capacity: Table
    """By cloud: vCPUs and GiB for the VMs that are here."""


@dataclass(frozen=True, kw_only=True)
class _Talk:
    """What VMs say, by the numbering of a ground."""

    key: tuple[object, ...]
    outside: Table
    """Bytes per second, by VM."""
    crossing: Table
    """By VM, cloud of its peer, and cloud of the sender: bytes per second that cross clouds now."""
    near: "_Pairs"
    """The pairs that are in one cloud now."""
    far: "_Pairs"
    """Those that cross clouds now."""


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    """Pairs of VMs, the most talkative first, with what they say to each other in bytes per second."""

    one: NDArray[np.int64]
    other: NDArray[np.int64]
    forth: Table
    back: Table


class Screen:
    """Keeps what doesn't change from look to look."""

    def __init__(self, policies: Sequence[Policy], model: MigrationModel) -> None:
        self._policies = tuple(policies)
        self._latency_weighs = any(policy.latency is not None for policy in policies)
        self._model = model
        self._horizon_hours = model.settings.horizon_seconds / SECONDS_PER_HOUR
        self._ground: _Ground | None = None
        self._talk: _Talk | None = None
        self._shadow_prices: dict[str, Table] = {}

    def nothing_pays(self, look: Look) -> bool:
        """Say whether it is certain that no elective move would be made now."""
        facts, prices = look.facts, look.facts.prices
        ground = self._ground_of(look)
        if any(cloud not in prices for cloud in ground.clouds):
            return False
        if any(_has_classes(prices[cloud]) for cloud in ground.clouds) or self._latency_weighs:
            return False  # the sums below take it that a GB costs the same wherever it goes
        if facts.notices and any(facts.deadline_of(look.host_of[vm]) for vm in ground.vms):
            return False
        movable = ground.governed & ~self._cooling(look, ground)
        if not movable.any():
            return True
        bill = _Bill(ground, self._talk_of(look, ground), prices)
        pays = bill.gains(ground.payback_hours)
        once, single = bill.together(pays, movable)
        if once + float(single.sum()) < SPECK:
            return True
        gains = bill.gains(np.full(len(ground.vms), self._horizon_hours))
        return self._too_little(look, ground, bill, (gains, pays), movable)

    def _too_little(
        self,
        look: Look,
        ground: _Ground,
        bill: "_Bill",
        savings: tuple[Table, Table],
        movable: NDArray[np.bool_],
    ) -> bool:
        """Say whether no policy's minimum gain can be reached by moves that pay."""
        for policy, members in zip(self._policies, ground.members, strict=True):
            cost = float(bill.home_cost[members].sum())
            budget = policy.price.budget_dollars_per_hour if policy.price else None
            if budget is not None and cost + bill.crossing_dollars > budget:
                return False
            least = policy.elective.min_gain * cost - 2 * SPECK
            most_moves = self._moves_left(policy, look, ground, members)
            ours = members & movable

            def worth_at(weight: float) -> Table:
                return savings[0] + weight * savings[1]

            worths = savings[0] + np.array(WEIGHTS)[:, None, None] * savings[1]
            best = np.sort(worths.max(axis=2)[:, ours], axis=1)[:, ::-1]
            bounds = best[:, :most_moves].sum(axis=1)
            if float(bounds.min()) < least:
                continue
            weight = WEIGHTS[int(np.argmin(bounds))]
            worth = worth_at(weight)
            if any(
                once + _most(single[ours], most_moves) < least
                for more in (weight, 3 * weight, 0.5)
                for once, single in [bill.together(worth_at(more), movable, more)]
            ):
                continue
            alone = len(self._policies) == 1
            if not (alone and self._no_room(policy.name, worth, ground, movable, least)):
                return False
        return True

    def _moves_left(
        self, policy: Policy, look: Look, ground: _Ground, members: NDArray[np.bool_]
    ) -> int:
        left = len(ground.vms)
        for budget in policy.elective.budgets:
            since = budget.counts_since(look.at)
            if since is None or budget.moves is None:
                continue
            spent = set()  # parked on its way, a VM made one move in two steps
            for outcome in look.outcomes:  # the latest first
                if outcome.ended_at <= since:
                    break
                n = ground.number.get(outcome.vm)
                if n is not None and members[n] and outcome.result is not StepResult.SKIPPED:
                    spent.add((outcome.plan, n))
            left = min(left, max(0, budget.moves - len(spent)))
        return left

    def _no_room(
        self, name: str, worth: Table, ground: _Ground, movable: NDArray[np.bool_], least: float
    ) -> bool:
        """Say whether less than something can be saved because clouds have too little room."""
        open_to = np.where(movable[:, None], worth, -np.inf)
        open_to[np.arange(len(worth)), ground.home] = 0.0
        size = np.stack((ground.vcpus, ground.gib), axis=1)
        prices = self._shadow_prices.get(name)
        if prices is None or prices.shape != ground.capacity.shape:
            prices = np.zeros_like(ground.capacity)
        lowest = np.inf
        for _ in range(ROUNDS):
            found = open_to - size @ prices.T
            chosen = found.argmax(axis=1)
            bound = float(found.max(axis=1).sum()) + float((prices * ground.capacity).sum())
            if bound < lowest:
                lowest, self._shadow_prices[name] = bound, prices
            if bound < least:
                return True
            slope = ground.capacity.copy()
            np.subtract.at(slope, chosen, size)
            slope = np.where((prices <= 0) & (slope > 0), 0.0, slope)
            steep = float((slope**2).sum())
            if steep <= 0:
                break
            prices = np.maximum(0.0, prices - slope * (1.1 * (bound - least) / steep))
        return False

    def _cooling(self, look: Look, ground: _Ground) -> NDArray[np.bool_]:
        cooling = np.zeros(len(ground.vms), dtype=np.bool_)
        longest = float(ground.cooldown_seconds.max(initial=0.0))
        for outcome in look.outcomes:  # the latest first
            seconds = (look.at - outcome.ended_at).total_seconds()
            if seconds >= longest:
                break
            n = ground.number.get(outcome.vm)
            if n is not None and outcome.result is StepResult.DONE:
                cooling[n] |= seconds < ground.cooldown_seconds[n]
        return cooling

    # --- what is kept ----------------------------------------------------------------------------

    def _ground_of(self, look: Look) -> _Ground:
        facts = look.facts
        key = (look.placement_version, facts.vms, facts.hosts, facts.room, facts.notices)
        if self._ground is None or not _same(self._ground.key, key):
            self._ground = self._survey(look, key)
        return self._ground

    def _survey(self, look: Look, key: tuple[object, ...]) -> _Ground:
        facts = look.facts
        vms = tuple(sorted(vm for vm in look.host_of if vm in facts.vms))
        clouds = tuple(sorted({host.cloud for host in facts.hosts.values()}))
        records = [facts.vms[vm] for vm in vms]
        home = np.array([clouds.index(facts.hosts[look.host_of[vm]].cloud) for vm in vms])
        members = tuple(np.array([p.governs(vm) for vm in records]) for p in self._policies)
        shape = (len(vms), len(clouds))
        move_gb, move_hours = np.zeros(shape), np.zeros(shape)
        for n, vm in enumerate(records):
            for k, cloud in enumerate(clouds):
                if k != home[n]:
                    found = self._model.predict(vm, clouds[home[n]], cloud, {})
                    move_gb[n, k] = found.bytes / BYTES_PER_GB
                    move_hours[n, k] = found.seconds / SECONDS_PER_HOUR
        return _Ground(
            key=key,
            vms=vms,
            clouds=clouds,
            home=home.astype(np.int64),
            vcpus=np.array([vm.needs.vcpus for vm in records], dtype=np.float64),
            gib=np.array([vm.needs.memory_bytes / BYTES_PER_GIB for vm in records]),
            governed=np.any(members, axis=0) if members else np.zeros(len(vms), dtype=np.bool_),
            members=members,
            number={vm: n for n, vm in enumerate(vms)},
            cooldown_seconds=np.array([self._cooldown(n, members) for n in range(len(vms))]),
            payback_hours=np.array([self._payback_hours(n, members) for n in range(len(vms))]),
            move_gb=move_gb,
            move_hours=move_hours,
            capacity=self._capacity(look, clouds),
        )

    def _payback_hours(self, vm: int, members: tuple[NDArray[np.bool_], ...]) -> float:
        limits = [
            policy.price.payback_seconds / SECONDS_PER_HOUR
            for policy, ours in zip(self._policies, members, strict=True)
            if ours[vm] and policy.price and policy.price.payback_seconds is not None
        ]
        return max(min([self._horizon_hours, *limits]), 1 / SECONDS_PER_HOUR)

    def _cooldown(self, vm: int, members: tuple[NDArray[np.bool_], ...]) -> float:
        return max(
            (
                policy.elective.cooldown_seconds
                for policy, ours in zip(self._policies, members, strict=True)
                if ours[vm]
            ),
            default=0.0,
        )

    @staticmethod
    def _capacity(look: Look, clouds: tuple[CloudName, ...]) -> Table:
        """Return what each cloud has, or what our VMs there take where that is more."""
        facts = look.facts
        there, used = np.zeros((len(clouds), 2)), np.zeros((len(facts.hosts), 2))
        number = {host: n for n, host in enumerate(facts.hosts)}
        for vm, host in look.host_of.items():
            needs = facts.vms[vm].needs
            used[number[host]] += (needs.vcpus, needs.memory_bytes / BYTES_PER_GIB)
        for host, n in number.items():
            room = facts.room_of(host, look.at)
            whole = (room.vcpus, room.memory_bytes / BYTES_PER_GIB)
            there[clouds.index(facts.hosts[host].cloud)] += np.maximum(whole, used[n])
        return there

    def _talk_of(self, look: Look, ground: _Ground) -> _Talk:
        key = (look.facts.traffic, ground)
        if self._talk is None or not _same(self._talk.key, key):
            self._talk = _talk(look.facts.traffic, ground, key)
        return self._talk


def _has_classes(tick: PriceTick) -> bool:
    nearer = tick.within_region_dollars_per_gb, tick.within_provider_dollars_per_gb
    return any(dollars != tick.egress_dollars_per_gb for dollars in nearer)


def _talk(traffic: Traffic | None, ground: _Ground, key: tuple[object, ...]) -> _Talk:
    clouds, count = len(ground.clouds), len(ground.vms)
    outside, crossing = np.zeros(count), np.zeros((count, clouds, clouds))
    one = other = np.zeros(0, dtype=np.int64)
    rate = np.zeros(0)
    if traffic is not None:
        matrix = traffic.matrix
        number = {vm: n for n, vm in enumerate(ground.vms)}
        rows = np.array([number.get(vm, -1) for vm in matrix.vms], dtype=np.int64)
        ours = rows >= 0
        outside[rows[ours]] = matrix.to_outside[ours] / max(matrix.seconds, 1e-9)
        one, other = rows[matrix.source], rows[matrix.destination]
        kept = (one >= 0) & (other >= 0) & (one != other)
        one, other, rate = one[kept], other[kept], matrix.bytes_per_second[kept]
    apart = ground.home[one] != ground.home[other]
    sender = ground.home[one[apart]]
    np.add.at(crossing, (one[apart], ground.home[other[apart]], sender), rate[apart])
    np.add.at(crossing, (other[apart], sender, sender), rate[apart])
    return _Talk(
        key=key,
        outside=outside,
        crossing=crossing,
        near=_pairs(one[~apart], other[~apart], rate[~apart], count),
        far=_pairs(one[apart], other[apart], rate[apart], count),
    )


def _pairs(one: NDArray[np.int64], other: NDArray[np.int64], rate: Table, count: int) -> _Pairs:
    lower, higher = np.minimum(one, other), np.maximum(one, other)
    keys, at = np.unique(lower * count + higher, return_inverse=True)
    rates = np.zeros((len(keys), 2))
    np.add.at(rates, (at, (one != lower).astype(np.int64)), rate)
    order = np.argsort(-rates.sum(axis=1), kind="stable")
    return _Pairs(
        one=keys[order] // max(count, 1),
        other=keys[order] % max(count, 1),
        forth=rates[order, 0],
        back=rates[order, 1],
    )


class _Bill:
    """A ground at the prices of an instant."""

    def __init__(self, ground: _Ground, talk: _Talk, prices: Mapping[CloudName, PriceTick]) -> None:
        self.ground = ground
        ticks = [prices[cloud] for cloud in ground.clouds]
        vcpu = np.array([tick.dollars_per_vcpu_hour for tick in ticks])
        gib = np.array([tick.dollars_per_gib_hour for tick in ticks])
        self._gb = np.array([tick.egress_dollars_per_gb for tick in ticks])
        an_hour = self._gb * SECONDS_PER_HOUR / BYTES_PER_GB
        self._runs = np.outer(ground.vcpus, vcpu) + np.outer(ground.gib, gib)
        self._own = self._runs + np.outer(talk.outside, an_hour)
        by_peer = talk.crossing @ an_hour
        self._credit = (by_peer.sum(axis=1)[:, None] + by_peer) / 2
        self.crossing_dollars = float(by_peer.sum()) / 2
        self._talk, self._an_hour = talk, an_hour
        self.home_cost = self._own[np.arange(len(ground.vms)), ground.home]

    def gains(self, hours: Table) -> Table:
        """Return the most that each VM can save in each cloud, its move's cost spread over so many hours."""
        ground = self.ground
        move = ground.move_gb * self._gb[ground.home][:, None] + ground.move_hours * self._runs
        saved = self.home_cost[:, None] - self._own - move / hours[:, None] + self._credit
        saved[np.arange(len(saved)), ground.home] = 0.0
        return np.asarray(saved)

    def together(
        self, worth: Table, movable: NDArray[np.bool_], weight: float = 0.0
    ) -> tuple[float, Table]:
        """Return what VMs could save, once those that talk are looked at together.

        What any VMs save by moving is at most the first number and the sum of theirs. `weight` says how many
        times over traffic is credited in `worth`, besides once.
        """
        away = worth.copy()
        away[np.arange(len(worth)), self.ground.home] = -np.inf
        away[~movable] = -np.inf
        once, table = self._shared_credit(away.tolist(), 1.0 + weight)
        return once, np.maximum(0.0, np.array(self._set_off([max(row) for row in table])))

    def _shared_credit(
        self, table: list[list[float]], times: float
    ) -> tuple[float, list[list[float]]]:
        """Credit a pair's traffic once, to nobody, where it's credited to both ends and that's more."""
        pairs, home, once = self._talk.far, self.ground.home.tolist(), 0.0
        dollars = pairs.forth * self._an_hour[self.ground.home[pairs.one]]
        dollars = (dollars + pairs.back * self._an_hour[self.ground.home[pairs.other]]) * times
        ends = zip(pairs.one.tolist(), pairs.other.tolist(), dollars.tolist(), strict=True)
        for one, other, worth in ends:
            before = [max(0.0, *table[vm]) for vm in (one, other)]
            if not (before[0] > 0.0 and before[1] > 0.0):
                continue
            without = [
                [
                    saved - (worth if k == home[peer] else worth / 2)
                    for k, saved in enumerate(table[vm])
                ]
                for vm, peer in ((one, other), (other, one))
            ]
            if worth + sum(max(0.0, *row) for row in without) < sum(before):
                table[one], table[other] = without
                once += worth
        return once, table

    def _set_off(self, gain: list[float]) -> list[float]:
        """Set gains against losses of VMs that are in one cloud and talk, up to the price of being apart."""
        pairs, least = self._talk.near, float(self._an_hour.min(initial=np.inf))
        here = self._an_hour[self.ground.home[pairs.one]]
        prices = (pairs.back * here + pairs.forth * least, pairs.forth * here + pairs.back * least)
        for one, other, first, second in zip(
            pairs.one.tolist(),
            pairs.other.tolist(),
            prices[0].tolist(),
            prices[1].tolist(),
            strict=True,
        ):
            if gain[one] > 0.0 > gain[other]:
                given = min(first, gain[one], -gain[other])
                gain[one], gain[other] = gain[one] - given, gain[other] + given
            elif gain[other] > 0.0 > gain[one]:
                given = min(second, gain[other], -gain[one])
                gain[other], gain[one] = gain[other] - given, gain[one] + given
        return gain


def _most(worth: Table, count: int) -> float:
    """Return the sum of the largest."""
    return float(np.sort(worth)[::-1][:count].sum())


def _same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    return all(a is b or (isinstance(a, int) and a == b) for a, b in zip(one, other, strict=True))
