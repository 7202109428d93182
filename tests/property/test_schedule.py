"""Schedules of random moves in tight clouds: rules hold at every instant, and nobody is stuck for nothing."""

from dataclasses import replace
from itertools import permutations
from random import Random

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.property.moving_day import (
    NOW,
    MovingDay,
    a_move,
    as_plan,
    assert_sound,
    berths_on,
    cloud,
    moving_days,
    sized,
    used,
)
from transhume.execute.plan_transaction import PlanTransaction
from transhume.knowledge.model import (
    GroupId,
    HostName,
    MoveKind,
    Plan,
    PlanStatus,
    Step,
    StepResult,
    VmName,
)
from transhume.knowledge.model.undoing import UNDO_SUFFIX
from transhume.plan.schedule import AlwaysSpread, Move, Terms, lower_bound, schedule

UNHURRIED = settings(
    max_examples=examples(150),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@UNHURRIED
@given(moving_days())
def test_every_schedule_passes_the_checker_and_keeps_links_hosts_and_deadlines(
    day: MovingDay,
) -> None:
    found = schedule(day.moves, day.terms)

    assert_sound(day, found.legs)


@UNHURRIED
@given(moving_days())
def test_every_move_is_made_or_told_to_be_stuck_and_takes_the_time_it_must(day: MovingDay) -> None:
    found = schedule(day.moves, day.terms)

    arrived = {leg.move.vm: leg.move.destination for leg in found.legs}
    for move in day.moves:
        assert (arrived.get(move.vm) == move.destination) != (move.vm in found.stuck)
    if not found.stuck:
        bound = lower_bound((leg.move for leg in found.legs), day.terms)
        assert found.makespan >= bound - 1e-6


@UNHURRIED
@given(moving_days(), st.randoms(use_true_random=False))
def test_the_same_moves_give_the_same_schedule_however_they_are_listed(
    day: MovingDay, chance: Random
) -> None:
    shuffled = list(day.moves)
    chance.shuffle(shuffled)

    assert schedule(shuffled, day.terms) == schedule(day.moves, day.terms)


@UNHURRIED
@given(moving_days(spreads=False, deadlines=False))
def test_nobody_is_stuck_where_there_is_a_place_to_park(day: MovingDay) -> None:
    yard = HostName("z1")
    everybody = sum(move.needs.vcpus for move in day.moves)
    terms = replace(
        day.terms, free={**day.terms.free, yard: sized(everybody)}, berths=berths_on(["z1"])
    )

    assert schedule(day.moves, terms).stuck == {}


@UNHURRIED
@given(st.lists(st.integers(1, 3), min_size=2, max_size=5), st.data())
def test_a_planted_cycle_is_always_resolved_by_parking_one_vm(
    sizes: list[int], data: st.DataObject
) -> None:
    """Full clouds in a ring, each VM of which wants to go to the next one; one place is free elsewhere."""
    hosts = [f"{name}1" for name in "abcde"[: len(sizes)]]
    ring = [
        a_move(f"v{n}", host, hosts[(n + 1) % len(hosts)], units=sizes[n])
        for n, host in enumerate(hosts)
    ]
    spare = data.draw(st.integers(min(sizes), 3))
    free = {
        HostName(host): sized(max(sizes[n], sizes[n - 1]) - sizes[n])
        for n, host in enumerate(hosts)
    }
    can_start = any(free[move.destination].covers(move.needs) for move in ring)
    terms = Terms(
        free={**free, HostName("z1"): sized(max(spare, *sizes))},
        cloud_of={move.vm: move.source_cloud for move in ring},
        berths=berths_on(["z1"]),
    )

    found = schedule(ring, terms)

    assert found.stuck == {}
    parked = [leg for leg in found.legs if leg.makes_room_for is not None]
    assert len(parked) == (0 if can_start else 1)
    if parked:
        assert parked[0].move.needs.vcpus == min(sizes), "the cheapest"


def test_who_would_join_the_other_in_a_swap_is_parked_for_the_spreads_sake() -> None:
    moves = (a_move("v1", "a1", "b1"), a_move("v2", "b2", "a2"))
    terms = Terms(
        free={HostName(h): sized(1) for h in ("a1", "a2", "b1", "b2", "c1")},
        cloud_of={move.vm: move.source_cloud for move in moves},
        spreads=(AlwaysSpread(vms=frozenset(m.vm for m in moves), minimum=2),),
        berths=berths_on(["c1"]),
    )

    found = schedule(moves, terms)

    assert found.stuck == {}
    assert [leg.move.destination for leg in found.legs] in (
        ["c1", "a2", "b1"],
        ["c1", "b1", "a2"],
    )


def shortest(day: MovingDay) -> float:
    """Return the least makespan without parking, by trying every order in which the moves can begin."""
    best = float("inf")
    for order in permutations(day.moves):
        best = min(best, _makespan(order, day.terms, best))
    return best


def _makespan(order: tuple[Move, ...], terms: Terms, best: float) -> float:
    begun: list[tuple[float, float, Move]] = []
    now = 0.0
    for move in order:
        instants = [now, *sorted(end for _, end, _ in begun if end > now)]
        at = next((t for t in instants if _fits(move, t, begun, terms)), None)
        if at is None or at + move.seconds >= best:
            return float("inf")
        begun.append((at, at + move.seconds, move))
        now = at
    return max((end for _, end, _ in begun), default=0.0)


def _fits(move: Move, at: float, begun: list[tuple[float, float, Move]], terms: Terms) -> bool:
    beside = [other for _, end, other in begun if end > at]
    room = terms.free[move.destination]
    for _, end, other in begun:
        room -= other.needs if other.destination == move.destination else sized(0)
        room += other.needs if other.source == move.destination and end <= at else sized(0)
    link = sum(other.link == move.link for other in beside) < terms.moves_per_link
    ends = (move.source, move.destination)
    cards = terms.moves_per_host is None or all(
        sum(host in (m.source, m.destination) for m in beside) < terms.moves_per_host
        for host in ends
    )
    return room.covers(move.needs) and link and cards


@settings(UNHURRIED, max_examples=examples(100))
@given(moving_days(most=5, spreads=False, deadlines=False))
def test_no_schedule_of_few_moves_is_much_longer_than_the_shortest_there_is(day: MovingDay) -> None:
    moves = tuple(replace(move, unit=move.vm, urgency=()) for move in day.moves)
    calm = replace(day, moves=moves, terms=replace(day.terms, berths=lambda _move: ()))

    found = schedule(calm.moves, calm.terms)

    if not found.stuck and moves:
        best = shortest(calm)
        assert best - 1e-6 <= found.makespan <= 2 * best


# carried out, however long moves take and whichever fail


class Drive:
    """Carries a plan out as the executor would, in a world of hosts whose room is looked at."""

    def __init__(self, day: MovingDay, transaction: PlanTransaction, chance: Random) -> None:
        self.day, self.transaction, self.chance = day, transaction, chance
        self.there = {vm: {host} for vm, host in day.host_of.items()}
        self.running: list[Step] = []
        self.failing = 0.0

    def run(self, stop_after: int | None) -> None:
        for turn in range(10_000):
            if turn == stop_after:
                stop = self.chance.choice((self.transaction.stop, self.transaction.make_way))
                stop("a notice came in")
            ready = self.transaction.ready()
            for step in ready:
                self._begin(step)
            if not self.running:
                return
            self._end(self.running.pop(self.chance.randrange(len(self.running))))
        raise AssertionError("it doesn't end")

    def _begin(self, step: Step) -> None:
        self.transaction.begin(step)
        assert self.there[step.vm] == {step.source}, "it begins where it is"
        self.there[step.vm] = {step.source, step.destination}
        for host, load in used(self.there, self.day).items():
            assert self.day.terms.free[host].covers(load), f"{host} is overfull at {step.id}"
        self.running.append(step)

    def _end(self, step: Step) -> None:
        fails = self.chance.random() < self.failing and not step.id.endswith(UNDO_SUFFIX)
        self.there[step.vm] = {step.source if fails else step.destination}
        self.transaction.finished(step, StepResult.UNDONE if fails else StepResult.DONE)


@UNHURRIED
@given(
    moving_days(spreads=False, deadlines=False),
    st.randoms(use_true_random=False),
    st.sampled_from([0.0, 0.1, 0.5]),
    st.none() | st.integers(0, 8),
    st.sampled_from([None, MoveKind.ELECTIVE, MoveKind.MANDATORY]),
)
def test_whatever_fails_no_host_is_overfull_and_nobody_elective_stays_parked(
    day: MovingDay,
    chance: Random,
    failing: float,
    stop_after: int | None,
    kind: MoveKind | None,
) -> None:
    found = schedule(day.moves, day.terms)
    assume(not found.stuck)
    plan = as_plan(found.legs, kind=kind) if kind else _mixed(as_plan(found.legs))
    transaction = PlanTransaction(plan)
    drive = Drive(day, transaction, chance)
    drive.failing = failing

    drive.run(stop_after)

    assert transaction.status() is not PlanStatus.EXECUTING
    going = {move.vm: move for move in day.moves}
    for step in plan.steps:
        if kind is MoveKind.ELECTIVE:
            move = going[step.vm]
            assert drive.there[step.vm] in ({move.source}, {move.destination})
    if not failing and stop_after is None:
        assert {vm: {host} for vm, host in _ends(day, plan.steps).items()} == drive.there


def _mixed(plan: Plan) -> Plan:
    """Have the moves of some VMs be elective, all of one group, and some of the others flee."""

    def mixed(step: Step) -> Step:
        number = int(step.vm[1:])
        if number % 3:
            return replace(step, kind=MoveKind.ELECTIVE, group=GroupId("g"))
        return step if number % 2 else replace(step, deadline=NOW)

    return replace(plan, steps=tuple(map(mixed, plan.steps)))


def _ends(day: MovingDay, steps: tuple[Step, ...]) -> dict[VmName, HostName]:
    return {**day.host_of, **{step.vm: step.destination for step in steps}}


@pytest.mark.parametrize("vm", ["v0"])
def test_a_day_without_moves_has_no_schedule(vm: str) -> None:
    terms = Terms(free={HostName("a1"): sized(1)}, cloud_of={VmName(vm): cloud("a1")})

    assert schedule((), terms).legs == ()
