"""List scheduling in continuous time: whenever a link is free, the first move in its queue that may begin does.

Each link has a queue of its own, in the order of `order.units_in_order`, so that an event looks only at the
links that it concerns. Links are served by how much is still to be done on their way (the critical link
first). A unit begins where all of it has room, and that room is then kept for it; where a link would be idle
otherwise, others begin too, unless the traffic of a unit that stops halfway would be paid for meanwhile. When
nothing runs and nothing may begin, a VM is parked (`parking`); when that can't be either, the rest is stuck.

The source: Graham's list scheduling, the longest remaining work first, with links for machines.
"""

import heapq
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from transhume.knowledge.model import HostName, VmName
from transhume.plan.schedule.ground import Ground
from transhume.plan.schedule.moves import Leg, Link, Move, Terms
from transhume.plan.schedule.order import Load, Unit, units_in_order
from transhume.plan.schedule.parking import Parking, find_parking
from transhume.quantities import format_duration

IN_TIME = 1e-6
"""Seconds that a deadline may be missed by rounding."""


@dataclass(slots=True)
class _Waiting:
    """A move in the queue of its link."""

    move: Move
    unit: int
    makes_room_for: VmName | None = None
    parked: bool = False
    """It goes on from a berth: it can't be parked again."""


class Dispatcher:
    """Makes one schedule; used once.

    Args:
        moves: at most one a VM.
        terms: what they have to do with each other.
    """

    def __init__(self, moves: Sequence[Move], terms: Terms) -> None:
        self._terms = terms
        self._ground = Ground.of(terms)
        self._units = units_in_order(moves, terms)
        self._promised = [False] * len(self._units)
        self._load = Load(moves, terms)
        self._queues: dict[Link, list[_Waiting]] = defaultdict(list)
        self._into: dict[HostName, set[Link]] = defaultdict(set)
        self._at: dict[HostName, set[Link]] = defaultdict(set)
        self._dirty: set[Link] = set()
        self._waiting = 0
        """Moves, and second legs, that haven't begun."""
        self._coming: dict[int, _Waiting] = {}
        """The second leg of each VM that is on its way to a berth, by its first."""
        self._running: list[tuple[float, int]] = []
        self._now = 0.0
        self.legs: list[Leg] = []
        self.stuck: dict[VmName, str] = {}

    def run(self) -> None:
        """Put every move into `legs`, or into `stuck`."""
        for units in self._by_rank():
            for number in units:
                for move in self._units[number].moves:
                    self._enqueue(_Waiting(move, number))
                    self._waiting += 1
            while self._begin_what_may() or self._unblock():
                pass
        self._give_up()

    def _unblock(self) -> bool:
        """Go on to when something has changed for those that wait; say whether there is such a time."""
        return bool(self._waiting) and (self._advance() or self._begin_anyway() or self._park())

    def _by_rank(self) -> Iterator[list[int]]:
        ranks: dict[float, list[int]] = defaultdict(list)
        for number, unit in enumerate(self._units):
            ranks[unit.moves[0].rank].append(number)
        yield from (ranks[rank] for rank in sorted(ranks))

    def _enqueue(self, waiting: _Waiting, *, first: bool = False) -> None:
        move = waiting.move
        self._queues[move.link].insert(0 if first else len(self._queues[move.link]), waiting)
        self._into[move.destination].add(move.link)
        for host in (move.source, move.destination):
            self._at[host].add(move.link)
        self._dirty.add(move.link)

    # what happens at one instant

    def _begin_what_may(self) -> bool:
        """Begin moves until no link that something changed for can take another; say whether any began."""
        begun = len(self.legs)
        while self._dirty:
            idle: set[Link] = set()
            while self._dirty:
                links, self._dirty = self._dirty, set()
                idle |= links
                for link in sorted(links, key=self._urgency_of):
                    self._serve(link, whole=True)
            for link in sorted(idle, key=self._urgency_of):
                self._serve(link, whole=False)
        return len(self.legs) > begun

    def _urgency_of(self, link: Link) -> tuple[float, list[str]]:
        queue = self._queues[link]
        return (-self._load.of(queue[0].move) if queue else 0.0), sorted(link)

    def _serve(self, link: Link, *, whole: bool) -> None:
        """Begin what the queue holds, as long as the link is free."""
        queue = self._queues[link]
        place = 0
        while place < len(queue) and self._ground.link_is_free(link):
            waiting = queue[place]
            if self._is_late(waiting.move):
                self._drop(queue.pop(place).move)
            elif (self._as_a_whole if whole else self._in_part)(waiting):
                self._begin(queue.pop(place))
            else:
                place += 1

    def _as_a_whole(self, waiting: _Waiting) -> bool:
        """Say whether a move may begin with the rest of its unit sure to follow."""
        unit = self._units[waiting.unit]
        promised = self._promised[waiting.unit] and not waiting.parked
        if len(unit.moves) == 1 or promised or waiting.parked:
            return self._ground.may_begin(waiting.move, promised=promised)
        if not self._ground.may_begin(waiting.move) or not self._has_room(unit):
            return False
        self._promised[waiting.unit] = True
        for move in unit.moves:
            self._ground.yards[move.destination].keep(move.needs)
        return True

    def _in_part(self, waiting: _Waiting) -> bool:
        """Say whether a move may begin though its unit will have to wait halfway."""
        hurried = waiting.move.ends_within != float("inf")
        if self._units[waiting.unit].costly and not hurried:
            return False
        return self._ground.may_begin(waiting.move)

    def _has_room(self, unit: Unit) -> bool:
        """Say whether a unit has room without anybody's leaving but its own and those on their way."""
        room: dict[HostName, list[int]] = {}
        yards = self._ground.yards
        for move in unit.moves:
            for host in (move.source, move.destination):
                yard = yards[host]
                room.setdefault(
                    host,
                    [
                        yard.vcpus + yard.leaving_vcpus - yard.kept_vcpus,
                        yard.memory_bytes + yard.leaving_memory_bytes - yard.kept_memory_bytes,
                    ],
                )
            for host, sign in ((move.source, 1), (move.destination, -1)):
                room[host][0] += sign * move.needs.vcpus
                room[host][1] += sign * move.needs.memory_bytes
        return all(min(room[move.destination]) >= 0 for move in unit.moves)

    def _begin(self, waiting: _Waiting) -> None:
        move = waiting.move
        if self._promised[waiting.unit] and not waiting.parked and not waiting.makes_room_for:
            self._ground.yards[move.destination].keep(move.needs, -1)
        after = self._ground.begin(move)
        end = self._now + move.seconds
        heapq.heappush(self._running, (end, len(self.legs)))
        self.legs.append(
            Leg(
                move=move,
                start=self._now,
                end=end,
                makes_room_for=waiting.makes_room_for,
                after=after,
            )
        )
        self._load.add(move, -1)
        self._waiting -= 1
        self._dirty |= self._into[move.source]

    def _is_late(self, move: Move) -> bool:
        return self._now + move.seconds > move.ends_within + IN_TIME

    def _drop(self, move: Move) -> None:
        self.stuck[move.vm] = (
            f"with those before it, its move ends after {format_duration(self._now + move.seconds)}, "
            f"and the notice leaves {format_duration(max(0.0, move.ends_within))}"
        )
        self._load.add(move, -1)
        self._waiting -= 1

    def _advance(self) -> bool:
        """Go to the next instant at which something ends; say whether there is one."""
        if not self._running:
            return False
        self._now = self._running[0][0]
        while self._running and self._running[0][0] <= self._now:
            _, number = heapq.heappop(self._running)
            move = self.legs[number].move
            self._ground.end(move, number)
            if number in self._coming:
                self._enqueue(self._coming.pop(number), first=True)
            self._dirty |= self._into[move.source] | {move.link}
            if self._terms.moves_per_host is not None:
                self._dirty |= self._at[move.source] | self._at[move.destination]
            if move.vm in self._ground.watches:
                self._dirty |= self._queues.keys()
        return True

    # when nothing runs and nothing may begin

    def _all_waiting(self) -> Iterator[tuple[Link, int, _Waiting]]:
        for link in sorted(self._queues, key=sorted):
            for place, waiting in enumerate(self._queues[link]):
                yield link, place, waiting

    def _begin_anyway(self) -> bool:
        """Begin a move though its unit has to wait halfway, or others were promised the room."""
        could = (
            (waiting.unit, place, link)
            for link, place, waiting in self._all_waiting()
            if self._ground.may_begin(waiting.move, kept=False)
        )
        chosen = min(could, key=lambda found: (*found[:2], sorted(found[2])), default=None)
        if chosen is None:
            return False
        _, place, link = chosen
        self._begin(self._queues[link].pop(place))
        return True

    def _park(self) -> bool:
        """Send a VM to a berth, that others find room."""
        waiting = [each for _, _, each in self._all_waiting()]
        parking = find_parking(
            [each.move for each in waiting],
            {each.move.vm for each in waiting if not each.parked},
            self._ground,
            self._terms,
            self._now,
        )
        if parking is None:
            return False
        link, place, parked = next(
            found for found in self._all_waiting() if found[2].move.vm == parking.move.vm
        )
        self._queues[link].pop(place)
        self._load.add(parked.move, -1)
        if self._promised[parked.unit] and not parked.parked:
            self._ground.yards[parked.move.destination].keep(parked.move.needs, -1)
        self._send_round(parked, parking)
        return True

    def _send_round(self, parked: _Waiting, parking: Parking) -> None:
        """Begin the first leg; the second waits in its queue, before all others."""
        berth, move = parking.berth, parked.move
        there = replace(
            move, destination=berth.host, destination_cloud=berth.cloud, seconds=berth.seconds_in
        )
        back = replace(
            move,
            source=berth.host,
            source_cloud=berth.cloud,
            seconds=berth.seconds_out,
            ends_within=float("inf"),
        )
        for leg in (there, back):
            self._load.add(leg)
        first = _Waiting(there, parked.unit, makes_room_for=parking.makes_room_for)
        self._waiting += 1
        self._coming[len(self.legs)] = _Waiting(back, parked.unit, parked=True)
        self._begin(first)

    def _give_up(self) -> None:
        for _, _, waiting in self._all_waiting():
            self.stuck[waiting.move.vm] = self._ground.why_not(waiting.move)
        self._queues.clear()
        self._waiting = 0
