"""Makes a puzzle of a schedule, and a schedule of an answer.

Seconds become ticks: the known schedule takes some hundred thousand, and each duration is rounded up, so that
what fits in ticks fits in seconds. In ticks too, the known schedule waits for what it waits for in seconds.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from transhume.knowledge.model import VmName
from transhume.plan.schedule.moves import Leg, Link, Move, Schedule, Terms
from transhume.plan.schedule.puzzle import Event, Mover, Order, Pair, Puzzle, Trip

TICKS = 100_000
"""How many the known schedule takes, about."""
PRECISION = 10_000
"""What the dearest pair pays for a tick."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Riddle:
    """A puzzle, and whom and what its numbers stand for."""

    puzzle: Puzzle
    moves: tuple[Move, ...]
    """By mover."""
    ways: tuple[tuple[Leg, ...], ...]
    """By mover: its legs in the known schedule."""
    tick_seconds: float

    @classmethod
    def of(cls, known: Schedule, moves: Sequence[Move], terms: Terms, effort: float) -> "Riddle":
        """Ask how the moves could be made better than in the known schedule."""
        return _Asking(known, moves, terms).riddle(effort)

    def legs(self, order: Order) -> list[Leg]:
        """Return an answer's legs in the order of their beginning; what they wait for is left open."""
        found = []
        for number, begins in enumerate(order.begins):
            way = self.ways[number]
            if len(begins) == len(way):
                made = [(leg.move, leg.makes_room_for) for leg in way]
            else:
                made = [(self.moves[number], None)]
            for (move, makes_room_for), begin in zip(made, begins, strict=True):
                start = begin * self.tick_seconds
                end = start + move.seconds
                leg = Leg(move=move, start=start, end=end, makes_room_for=makes_room_for)
                found.append(leg)
        known = {leg.move: n for n, leg in enumerate(leg for way in self.ways for leg in way)}
        return sorted(found, key=lambda leg: (leg.start, known.get(leg.move, -1), leg.move.vm))


class _Asking:
    """Puts one schedule into numbers."""

    def __init__(self, known: Schedule, moves: Sequence[Move], terms: Terms) -> None:
        self._legs, self._terms = known.legs, terms
        self._moves = sorted(moves, key=lambda move: move.vm)
        self._number = {move.vm: number for number, move in enumerate(self._moves)}
        self._tick = known.makespan / TICKS
        self._hosts = {host: number for number, host in enumerate(sorted(terms.free))}
        self._links: dict[Link, int] = {}
        self._way: dict[VmName, list[int]] = defaultdict(list)
        for number, leg in enumerate(self._legs):
            self._way[leg.move.vm].append(number)
        self._begins = self._in_ticks()

    def riddle(self, effort: float) -> Riddle:
        """Return the puzzle with what it stands for."""
        terms = self._terms
        puzzle = Puzzle(
            movers=tuple(map(self._mover, self._moves)),
            free=tuple(
                (terms.free[host].vcpus, terms.free[host].memory_bytes) for host in self._hosts
            ),
            per_link=terms.moves_per_link,
            per_host=terms.moves_per_host,
            orders=tuple(self._orders()),
            pairs=tuple(self._pairs()),
            effort=effort,
        )
        return Riddle(
            puzzle=puzzle,
            moves=tuple(self._moves),
            ways=tuple(tuple(self._legs[n] for n in self._way[move.vm]) for move in self._moves),
            tick_seconds=self._tick,
        )

    def _ticks(self, move: Move) -> int:
        return math.ceil(move.seconds / self._tick)

    def _in_ticks(self) -> list[int]:
        """Return when each leg begins in ticks: no earlier than those of a lesser rank."""
        begins: list[int] = []
        ends: list[int] = []
        for leg in self._legs:
            before = [
                b
                for b, other in zip(begins, self._legs, strict=False)
                if other.move.rank < leg.move.rank
            ]
            begins.append(max([*(ends[n] for n in leg.waits_for), *before], default=0))
            ends.append(begins[-1] + self._ticks(leg.move))
        return begins

    def _mover(self, move: Move) -> Mover:
        way = self._way[move.vm]
        trips = [self._trip(self._legs[number].move) for number in way]
        begins = tuple(self._begins[number] for number in way)
        return Mover(
            direct=self._trip(move),
            detour=(trips[0], trips[1]) if len(trips) > 1 else None,
            needs=(move.needs.vcpus, move.needs.memory_bytes),
            rank=self._ranks[move.rank],
            latest=None if math.isinf(move.ends_within) else begins[0] + trips[0].ticks,
            known=begins,
        )

    @property
    def _ranks(self) -> Mapping[float, int]:
        return {rank: n for n, rank in enumerate(sorted({move.rank for move in self._moves}))}

    def _trip(self, move: Move) -> Trip:
        return Trip(
            source=self._hosts[move.source],
            destination=self._hosts[move.destination],
            link=self._links.setdefault(move.link, len(self._links)),
            ticks=self._ticks(move),
        )

    def _orders(self) -> Iterator[tuple[Event, ...]]:
        """Yield what keeps each spread that its other members don't: the order that is known to."""
        moving = self._number.keys()
        for rule in self._terms.spreads:
            cloud_of = self._terms.cloud_of
            wanted = min(rule.minimum, len({cloud_of[vm] for vm in rule.vms}))
            if len({cloud_of[vm] for vm in rule.vms - moving}) >= wanted:
                continue
            events = []
            for number, leg in enumerate(self._legs):
                if leg.move.vm in rule.vms:
                    trip = self._way[leg.move.vm].index(number)
                    who, begin = self._number[leg.move.vm], self._begins[number]
                    end = begin + self._ticks(leg.move)
                    events += [
                        (begin, 1, number, (who, trip, True)),
                        (end, 0, number, (who, trip, False)),
                    ]
            yield tuple(event for *_, event in sorted(events))

    def _pairs(self) -> Iterator[Pair]:
        """Yield those that pay for being apart while both go the same way."""
        rates: dict[tuple[int, int], tuple[float, float]] = {}
        chatter = self._terms.chatter
        for talk in chatter.talks:
            if talk.one not in self._number or talk.other not in self._number:
                continue
            one, other = (self._moves[self._number[vm]] for vm in (talk.one, talk.other))
            here, there = one.source_cloud, one.destination_cloud
            if (here, there) == (other.source_cloud, other.destination_cloud):
                rates[self._number[talk.one], self._number[talk.other]] = (
                    chatter.dollars_per_second(talk, there, here),
                    chatter.dollars_per_second(talk, here, there),
                )
        dearest = max((max(each) for each in rates.values()), default=0.0)
        for (first, second), each in rates.items() if dearest > 0 else ():
            one_first, other_first = (round(PRECISION * rate / dearest) for rate in each)
            yield Pair(one=first, other=second, one_first=one_first, other_first=other_first)
