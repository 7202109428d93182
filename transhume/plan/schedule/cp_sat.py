"""Solves the puzzle of a schedule with Google's CP-SAT. Imported only by a process that does nothing else.

A trip is an interval that may be absent. Links and hosts carry so many at a time: no overlap, or a cumulative.
A VM occupies its new host from the beginning of its trip and its old one until the end: these are intervals
too, and a host's room is a cumulative of them. First the last end of each rank becomes as early as possible;
then, with that held, what is paid for groups that are split becomes as little as possible.

The same puzzle gets the same answer: the limit is CP-SAT's count of its own work, and it has one thread. Its
default mostly ends with what a second improved; strategies that take turns are ten times as slow. Without a
linear relaxation, and with all that cumulatives can infer, a proof within a second or two is the rule.
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from math import gcd

from ortools.sat.python import cp_model

from transhume.plan.schedule.puzzle import Event, Mover, Order, Puzzle, Trip

GOOD_ENOUGH = 0.001
"""The share of the aim that may be missed: a thousandth of a schedule isn't worth a proof."""
SPLIT_SHARE = 0.3
"""Of the effort, what may be spent on the second aim."""


def solve_puzzle(puzzle: Puzzle, report: Callable[[Order], None]) -> None:
    """Report the best order that is found for the first aim, and then for the second."""
    model = _Model(puzzle)
    share = SPLIT_SHARE if puzzle.pairs else 0.0
    found = model.least(sum(model.rank_ends), puzzle.effort * (1 - share))
    if found is None:
        return
    report(found)
    if puzzle.pairs:
        model.keep_rank_ends()
        found = model.least(model.split, puzzle.effort * share)
        if found is not None:
            report(found)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ride:
    """A trip in the model."""

    trip: Trip
    begin: cp_model.IntVar
    end: cp_model.LinearExpr
    interval: cp_model.IntervalVar


class _Model:
    """The puzzle as constraints, with the known schedule as a hint."""

    def __init__(self, puzzle: Puzzle) -> None:
        self._puzzle = puzzle
        self._model = cp_model.CpModel()
        self._horizon = max(_end(mover, mover.known) for mover in puzzle.movers)
        self._hints: list[tuple[cp_model.IntVar, int]] = []
        self._direct: list[_Ride] = []
        self._round: list[tuple[_Ride, _Ride] | None] = []
        self._parked: list[cp_model.IntVar | None] = []
        self._arrival: list[cp_model.IntVar] = []
        for mover in puzzle.movers:
            self._add_mover(mover)
        self._add_carriers()
        self._add_room()
        self.rank_ends = self._add_ranks()
        for order in puzzle.orders:
            self._add_order(order)
        self.split = self._add_pairs()
        self._solver = cp_model.CpSolver()

    # the solver

    def least(self, aim: cp_model.LinearExprT, effort: float) -> Order | None:
        """Return the order that makes an expression least, of those that are found with so much effort."""
        model = self._model
        model.minimize(aim)
        model.clear_hints()  # type: ignore[no-untyped-call]
        for variable, value in self._hints:
            model.add_hint(variable, value)
        parameters = self._solver.parameters
        parameters.random_seed = 1
        parameters.num_workers = 1
        parameters.linearization_level = 0
        parameters.use_timetable_edge_finding_in_cumulative = True
        parameters.use_overload_checker_in_cumulative = True
        parameters.use_strong_propagation_in_disjunctive = True
        parameters.relative_gap_limit = GOOD_ENOUGH
        parameters.max_deterministic_time = effort
        if self._solver.solve(model) not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
            return None
        self._hints = [(variable, self._solver.value(variable)) for variable, _ in self._hints]
        return Order(begins=tuple(map(self._begins, range(len(self._direct)))))

    def keep_rank_ends(self) -> None:
        """Let no rank end later than it does in the last order that was found."""
        for end in self.rank_ends:
            self._model.add(end <= self._solver.value(end))

    def _begins(self, number: int) -> tuple[int, ...]:
        parked, rides = self._parked[number], self._round[number]
        if rides is not None and parked is not None and self._solver.value(parked):
            return tuple(self._solver.value(ride.begin) for ride in rides)
        return (self._solver.value(self._direct[number].begin),)

    # the model

    def _new(self, least: int, most: int, known: int) -> cp_model.IntVar:
        variable = self._model.new_int_var(least, most, "")
        self._hints.append((variable, known))
        return variable

    def _add_mover(self, mover: Mover) -> None:
        model = self._model
        arrival = self._new(0, self._horizon, _end(mover, mover.known))
        self._arrival.append(arrival)
        if mover.detour is None:
            self._direct.append(self._ride(mover.direct, mover.known[0], None))
            self._round.append(None)
            self._parked.append(None)
        else:
            parked = model.new_bool_var("")
            self._hints.append((parked, 1))
            self._direct.append(self._ride(mover.direct, mover.known[0], ~parked))
            first, second = (
                self._ride(trip, known, parked)
                for trip, known in zip(mover.detour, mover.known, strict=True)
            )
            model.add(first.end <= second.begin).only_enforce_if(parked)
            model.add(arrival == second.end).only_enforce_if(parked)
            self._round.append((first, second))
            self._parked.append(parked)
        self._when(self._direct[-1].end == arrival, len(self._direct) - 1, parked=False)
        if mover.latest is not None:
            self._when(self._direct[-1].end <= mover.latest, len(self._direct) - 1, parked=False)
            if self._round[-1] is not None:
                first, _ = self._round[-1]
                self._when(first.end <= mover.latest, len(self._direct) - 1, parked=True)

    def _when(
        self, what: cp_model.BoundedLinearExpression | bool, number: int, *, parked: bool
    ) -> None:
        """Ask for something if a mover is parked, or else if it isn't."""
        literal = self._parked[number]
        constraint = self._model.add(what)
        if literal is not None:
            constraint.only_enforce_if(literal if parked else ~literal)

    def _ride(self, trip: Trip, known: int, taken: cp_model.LiteralT | None) -> _Ride:
        begin = self._new(0, self._horizon - trip.ticks, min(known, self._horizon - trip.ticks))
        if taken is None:
            interval = self._model.new_fixed_size_interval_var(begin, trip.ticks, "")
        else:
            interval = self._model.new_optional_fixed_size_interval_var(
                begin, trip.ticks, taken, ""
            )
        return _Ride(trip=trip, begin=begin, end=begin + trip.ticks, interval=interval)

    def _rides(self, number: int) -> list[_Ride]:
        return [self._direct[number], *(self._round[number] or ())]

    def _add_carriers(self) -> None:
        """Let links and hosts carry no more than they can at a time."""
        links: dict[int, list[cp_model.IntervalVar]] = defaultdict(list)
        cards: dict[int, list[cp_model.IntervalVar]] = defaultdict(list)
        for number in range(len(self._direct)):
            for ride in self._rides(number):
                links[ride.trip.link].append(ride.interval)
                cards[ride.trip.source].append(ride.interval)
                cards[ride.trip.destination].append(ride.interval)
        for carried in links.values():
            self._carry(carried, self._puzzle.per_link)
        if (per_host := self._puzzle.per_host) is not None:
            for carried in cards.values():
                self._carry(carried, per_host)

    def _carry(self, carried: list[cp_model.IntervalVar], most: int) -> None:
        if most == 1:
            self._model.add_no_overlap(carried)
        elif len(carried) > most:
            self._model.add_cumulative(carried, [1] * len(carried), most)

    def _add_room(self) -> None:
        """Let a VM that comes find room beside all that haven't left."""
        stays: dict[int, list[tuple[cp_model.IntervalVar, tuple[int, ...]]]] = defaultdict(list)
        room = [list(free) for free in self._puzzle.free]
        for number, mover in enumerate(self._puzzle.movers):
            home = mover.direct.source
            room[home] = [sum(each) for each in zip(room[home], mover.needs, strict=True)]
            stays[home].append((self._until_gone(number), mover.needs))
            for host, stay in self._comings(number):
                stays[host].append((stay, mover.needs))
        for host, those in stays.items():
            for resource, most in enumerate(room[host]):
                sizes = [needs[resource] for _, needs in those]
                if sum(sizes) > most:
                    unit = reduce(gcd, sizes)
                    self._model.add_cumulative(
                        [stay for stay, _ in those], [size // unit for size in sizes], most // unit
                    )

    def _until_gone(self, number: int) -> cp_model.IntervalVar:
        model, rides = self._model, self._round[number]
        if rides is None:
            end = self._direct[number].end
        else:
            end = self._new(0, self._horizon, 0)
            self._when(end == self._direct[number].end, number, parked=False)
            self._when(end == rides[0].end, number, parked=True)
        return model.new_interval_var(0, end, end, "")

    def _comings(self, number: int) -> list[tuple[int, cp_model.IntervalVar]]:
        model, rides, horizon = self._model, self._round[number], self._horizon
        direct = self._direct[number]
        if rides is None:
            stay = model.new_interval_var(direct.begin, horizon - direct.begin, horizon, "")
            return [(direct.trip.destination, stay)]
        first, second = rides
        begin, there = self._new(0, horizon, 0), self._new(0, horizon, 0)
        self._when(begin == direct.begin, number, parked=False)
        self._when(begin == second.begin, number, parked=True)
        self._when(there == second.end - first.begin, number, parked=True)
        parked = self._parked[number]
        assert parked is not None
        return [
            (direct.trip.destination, model.new_interval_var(begin, horizon - begin, horizon, "")),
            (
                first.trip.destination,
                model.new_optional_interval_var(first.begin, there, second.end, parked, ""),
            ),
        ]

    def _add_ranks(self) -> list[cp_model.IntVar]:
        """Let no rank begin before those above it have, nor end later than it's known to."""
        model, movers = self._model, self._puzzle.movers
        ends, opened = [], None
        for rank in sorted({mover.rank for mover in movers}):
            ours = [n for n, mover in enumerate(movers) if mover.rank == rank]
            known = max(_end(movers[n], movers[n].known) for n in ours)
            end = self._new(0, known, known)
            model.add_max_equality(end, [self._arrival[n] for n in ours])
            ends.append(end)
            begun = max(max(movers[n].known) for n in ours)
            last = self._new(0, self._horizon, begun)
            for number in ours:
                for ride, parked in zip(self._rides(number), (False, True, True), strict=False):
                    if opened is not None:
                        self._when(ride.begin >= opened, number, parked=parked)
                    self._when(ride.begin <= last, number, parked=parked)
            opened = last
        return ends

    def _add_order(self, order: tuple[Event, ...]) -> None:
        instants = []
        for number, trip, begins in order:
            parked, rides = self._parked[number], self._round[number]
            if parked is not None:
                self._model.add(parked == 1)
            ride = self._direct[number] if rides is None else rides[trip]
            instants.append(ride.begin if begins else ride.end)
        for before, then in pairwise(instants):
            self._model.add(before <= then)

    def _add_pairs(self) -> cp_model.LinearExprT:
        """Return what splitting costs, which isn't more than it's known to be."""
        costs, known = [], 0
        for pair in self._puzzle.pairs:
            ends = [
                _end(self._puzzle.movers[n], self._puzzle.movers[n].known)
                for n in (pair.one, pair.other)
            ]
            for before, then, rate in ((0, 1, pair.one_first), (1, 0, pair.other_first)):
                apart = max(0, ends[then] - ends[before])
                wait = self._new(0, self._horizon, apart)
                arrivals = [self._arrival[n] for n in (pair.one, pair.other)]
                self._model.add(wait >= arrivals[then] - arrivals[before])
                costs.append(rate * wait)
                known += rate * apart
        if costs:
            self._model.add(sum(costs) <= known)
        return sum(costs)


def _end(mover: Mover, begins: tuple[int, ...]) -> int:
    trips = (mover.direct,) if len(begins) == 1 else mover.detour
    assert trips is not None
    return begins[-1] + trips[-1].ticks
