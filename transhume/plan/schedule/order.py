"""Who goes first where several could: the urgent, then who is on the busiest way, then by what splitting costs.

Within a unit, the order is the one in which its traffic crosses clouds most cheaply while some of its VMs have
moved and some have not: by dynamic programming over subsets for up to ten VMs (Held and Karp's way), beyond
that by always taking the VM after whose move the least crosses.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from transhume.knowledge.model import HostName, VmName
from transhume.plan.schedule.moves import Chatter, Link, Move, Terms

MOST_TRIED = 10
"""Units of so many VMs are put in the best order; larger ones in a good one."""


class Load:
    """What links and hosts still have to do, in seconds of one slot of theirs."""

    def __init__(self, moves: Iterable[Move], terms: Terms) -> None:
        self._per_link, self._per_host = terms.moves_per_link, terms.moves_per_host
        self._links: dict[Link, float] = defaultdict(float)
        self._hosts: dict[HostName, float] = defaultdict(float)
        for move in moves:
            self.add(move)

    def add(self, move: Move, sign: int = 1) -> None:
        """Add a move, or with -1 take it away: it has begun."""
        self._links[move.link] += sign * move.seconds
        if self._per_host is not None:
            self._hosts[move.source] += sign * move.seconds
            self._hosts[move.destination] += sign * move.seconds

    def of(self, move: Move) -> float:
        """Return how long the busiest of a move's link and hosts is busy from now on."""
        load = self._links[move.link] / self._per_link
        if self._per_host is not None:
            hosts = max(self._hosts[move.source], self._hosts[move.destination])
            load = max(load, hosts / self._per_host)
        return load


@dataclass(frozen=True, slots=True)
class Unit:
    """Moves that follow one another, in their order."""

    moves: tuple[Move, ...]
    costly: bool
    """Its VMs pay for talking to each other while some have moved and some have not."""


def units_in_order(moves: Sequence[Move], terms: Terms) -> list[Unit]:
    """Return the units, those first that are to go first."""
    load = Load(moves, terms)
    members: dict[tuple[tuple[float, ...], str], list[Move]] = defaultdict(list)
    for move in moves:
        members[move.urgency, move.unit].append(move)
    rates = _rates(moves, terms.chatter)

    def key(named: tuple[tuple[float, ...], str]) -> tuple[tuple[float, ...], float, str]:
        urgency, unit = named
        return urgency, -max(map(load.of, members[named])), unit

    return [_unit(members[named], rates) for named in sorted(members, key=key)]


Rates = dict[VmName, dict[VmName, float]]
"""Dollars per second that two VMs cost while one has moved and the other hasn't."""


def _rates(moves: Sequence[Move], chatter: Chatter) -> Rates:
    move_of = {move.vm: move for move in moves}
    rates: Rates = defaultdict(dict)
    for talk in chatter.talks:
        one, other = move_of.get(talk.one), move_of.get(talk.other)
        if one is None or other is None or one.unit != other.unit:
            continue
        if (
            one.source_cloud == other.source_cloud
            and one.destination_cloud == other.destination_cloud
        ):
            rate = chatter.dollars_per_second(talk, one.source_cloud, one.destination_cloud)
            back = chatter.dollars_per_second(talk, one.destination_cloud, one.source_cloud)
            rates[one.vm][other.vm] = rates[other.vm][one.vm] = max(rate, back)
    return rates


def _unit(members: list[Move], rates: Rates) -> Unit:
    members = sorted(members, key=lambda move: (-move.seconds, move.vm))
    names = {move.vm for move in members}
    costly = any(
        rate > 0
        for move in members
        for mate, rate in rates.get(move.vm, {}).items()
        if mate in names
    )
    if costly:
        members = (_best if len(members) <= MOST_TRIED else _good)(members, rates)
    return Unit(moves=tuple(members), costly=costly)


def _best(members: list[Move], rates: Rates) -> list[Move]:
    """Try all orders: the cheapest way to each set of moved VMs goes over the cheapest to one fewer."""
    count = len(members)
    crossing = [0.0] * (1 << count)
    cheapest: list[tuple[float, tuple[int, ...]]] = [(0.0, ())] * (1 << count)
    for moved in range(1, 1 << count):
        last = moved.bit_length() - 1
        before = moved ^ (1 << last)
        crossing[moved] = crossing[before] + sum(
            rates.get(members[last].vm, {}).get(mate.vm, 0.0) * (-1 if moved >> n & 1 else 1)
            for n, mate in enumerate(members)
            if n != last
        )
        cheapest[moved] = min(
            (
                cheapest[rest][0] + crossing[rest] * members[n].seconds,
                (*cheapest[rest][1], n),
            )
            for n in range(count)
            if moved >> n & 1
            for rest in [moved ^ (1 << n)]
        )
    return [members[n] for n in cheapest[-1][1]]


def _good(members: list[Move], rates: Rates) -> list[Move]:
    """Take the VM, over and over, after whose move the least traffic crosses."""
    left = {move.vm: move for move in members}
    more = {vm: sum(rates.get(vm, {}).get(mate, 0.0) for mate in left) for vm in left}
    order = []
    while left:
        vm = min(left, key=lambda name: (more[name], -left[name].seconds, name))
        order.append(left.pop(vm))
        for mate, rate in rates.get(vm, {}).items():
            if mate in left:
                more[mate] -= 2 * rate
    return order
