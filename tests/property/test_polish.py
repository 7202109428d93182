"""What CP-SAT makes of random schedules in tight clouds: as sound as before, never longer, always the same."""

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, given, settings

from tests.effort import examples
from tests.property.moving_day import MovingDay, as_plan, assert_sound, moving_days
from transhume.plan.check_meanwhile import overfull, sure_before
from transhume.plan.schedule import Schedule, schedule
from transhume.plan.schedule.polish import Polish, better_of
from transhume.plan.schedule.puzzle import Order, Puzzle
from transhume.plan.schedule.puzzling import Riddle
from transhume.plan.schedule.splitting import split_dollars

cp_sat = pytest.importorskip("transhume.plan.schedule.cp_sat", reason="the extra [prove]")

UNHURRIED = settings(
    max_examples=examples(100),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def solved(puzzle: Puzzle) -> list[Order]:
    """Solve a puzzle in this process: hundreds of processes would take minutes to start."""
    found: list[Order] = []
    cp_sat.solve_puzzle(Puzzle.from_bytes(puzzle.to_bytes()), found.append)
    return [Order.from_line(order.to_line()) for order in found]


def polished(day: MovingDay, found: Schedule) -> Schedule:
    riddle = Riddle.of(found, day.moves, day.terms, effort=0.02)
    return better_of(found, solved(riddle.puzzle), riddle, day.terms)


@UNHURRIED
@given(moving_days(most=10))
def test_a_polished_schedule_passes_the_checkers_and_keeps_links_hosts_and_deadlines(
    day: MovingDay,
) -> None:
    listed = schedule(day.moves, day.terms)
    assume(listed.legs and not listed.stuck)

    found = polished(day, listed)

    assert_sound(day, found.legs)


@UNHURRIED
@given(moving_days(most=10))
def test_it_brings_everybody_there_no_later_and_for_no_more(day: MovingDay) -> None:
    listed = schedule(day.moves, day.terms)
    assume(listed.legs and not listed.stuck)

    found = polished(day, listed)

    arrived = {leg.move.vm: leg.move.destination for leg in found.legs}
    assert arrived == {move.vm: move.destination for move in day.moves}
    assert found.makespan <= listed.makespan + 1e-6
    assert _split(day, found) <= _split(day, listed) * (1 + 1e-6)
    parked = [{leg.move.vm for leg in s.legs if leg.makes_room_for} for s in (found, listed)]
    assert parked[0] <= parked[1]
    for leg in listed.legs:
        if leg.move.ends_within < float("inf"):
            leaves = min(other.end for other in found.legs if other.move.vm == leg.move.vm)
            assert leaves <= leg.end + 1e-6


@UNHURRIED
@given(moving_days(most=10))
def test_those_of_a_lesser_rank_end_no_later_for_the_others_sake(day: MovingDay) -> None:
    listed = schedule(day.moves, day.terms)
    assume(listed.legs and not listed.stuck)

    found = polished(day, listed)

    for rank in {move.rank for move in day.moves}:
        ends = [max(leg.end for leg in s.legs if leg.move.rank == rank) for s in (found, listed)]
        assert ends[0] <= ends[1] + 1e-6


@settings(UNHURRIED, max_examples=examples(50))
@given(moving_days(most=10))
def test_the_same_schedule_gets_the_same_polish(day: MovingDay) -> None:
    listed = schedule(day.moves, day.terms)
    assume(listed.legs and not listed.stuck)

    assert polished(day, listed) == polished(day, listed)


@settings(UNHURRIED, max_examples=examples(40))
@given(moving_days(most=10))
def test_an_answer_that_breaks_something_is_not_believed(day: MovingDay) -> None:
    """Everybody at once is what a solver would answer that has lost the constraints."""
    listed = schedule(day.moves, day.terms)
    assume(listed.legs and not listed.stuck)
    riddle = Riddle.of(listed, day.moves, day.terms, effort=0.02)
    wild = Order(begins=((0,),) * len(riddle.moves))

    found = better_of(listed, [wild], riddle, day.terms)

    assert (
        list(
            overfull(
                as_plan(found.legs).steps,
                sure_before(as_plan(found.legs).steps),
                day.terms.free,
                day.needs,
            )
        )
        == []
    )
    assert found is listed or found.makespan <= listed.makespan + 1e-6


@settings(UNHURRIED, max_examples=examples(40))
@given(moving_days(most=6))
def test_without_a_solver_or_time_or_with_too_many_moves_the_schedule_stays(day: MovingDay) -> None:
    listed = schedule(day.moves, day.terms)

    for spare in (Polish(most_moves=50, effort=0.0), Polish(most_moves=0, effort=1.0)):
        assert spare.better(listed, day.moves, day.terms) is listed
    stuck = replace(listed, stuck={move.vm: "it is" for move in day.moves})
    assert Polish(most_moves=50, effort=1.0).better(stuck, day.moves, day.terms) is stuck


def _split(day: MovingDay, found: Schedule) -> float:
    return sum(split_dollars(found.legs, day.terms.chatter, day.terms.cloud_of).values())
