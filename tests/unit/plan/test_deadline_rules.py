"""Each rule of Uniform Progress, the safety net, and the policies it is compared with."""

from dataclasses import replace

import pytest

from transhume.plan.deadline import (
    Greedy,
    Idle,
    Job,
    Market,
    OnDemand,
    OnDemandOnly,
    Situation,
    Spot,
    UniformProgress,
    Whereabouts,
    Zone,
    ZoneName,
    keeps_deadline,
)
from transhume.plan.deadline.outlook import Expectation, solve

HOUR = 3600.0
A, B = ZoneName("a"), ZoneName("b")
NONE: frozenset[ZoneName] = frozenset()
BOTH = frozenset({A, B})
JOB = Job(work_seconds=48 * HOUR, deadline_seconds=60 * HOUR, changeover_seconds=720)
MARKET = Market(
    zones=(
        Zone(name=A, spot_dollars_per_hour=1.0),
        Zone(name=B, spot_dollars_per_hour=0.9),
    ),
    on_demand_dollars_per_hour=3.0,
)
START = Situation(
    job=JOB,
    market=MARKET,
    work_left_seconds=48 * HOUR,
    time_left_seconds=60 * HOUR,
    tick_seconds=600,
    running=Idle(),
    changeover_left_seconds=0,
    available=NONE,
)


def at(elapsed_hours: float, done_hours: float, **changes: object) -> Situation:
    """Return the situation after so many hours, with so many hours of work done."""
    situation = replace(
        START,
        work_left_seconds=(48 - done_hours) * HOUR,
        time_left_seconds=(60 - elapsed_hours) * HOUR,
    )
    return replace(situation, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        pytest.param(at(10, 48, available=BOTH), Idle(), id="done: idle"),
        pytest.param(at(0, 0), Idle(), id="idle, in step, no spot: waits"),
        pytest.param(at(10, 7.9), OnDemand(), id="idle and behind: on demand"),
        pytest.param(at(10, 8.1), Idle(), id="idle and ahead: waits"),
        pytest.param(at(10, 7.9, available=BOTH), Spot(B), id="idle: spot, even when behind"),
        pytest.param(at(10, 9, available=frozenset({A})), Spot(A), id="idle: any zone there is"),
        pytest.param(
            at(10, 7, running=Spot(A), available=BOTH), Spot(A), id="on spot: stays until revoked"
        ),
        pytest.param(
            at(10, 8.1, running=OnDemand(), available=BOTH),
            OnDemand(),
            id="on demand: stays until two changeovers ahead, even if spot is there",
        ),
        pytest.param(
            at(10, 8.33, running=OnDemand(), available=BOTH),
            Spot(B),
            id="on demand: leaves for spot when two changeovers ahead",
        ),
        pytest.param(
            at(10, 9, running=OnDemand()), OnDemand(), id="on demand: doesn't leave for nothing"
        ),
        pytest.param(
            at(50, 38.35, available=BOTH), OnDemand(), id="idle, under two changeovers of slack"
        ),
        pytest.param(
            at(59, 47.4, running=OnDemand(), available=BOTH),
            OnDemand(),
            id="on demand with little slack: to the end",
        ),
        pytest.param(
            at(50, 38.3, tick_seconds=2000), OnDemand(), id="a tick that the slack can't bear"
        ),
    ],
)
def test_uniform_progress_follows_its_rules(situation: Situation, expected: Whereabouts) -> None:
    assert UniformProgress().decide(situation) == expected


@pytest.mark.parametrize(
    ("situation", "expected"),
    [
        pytest.param(at(10, 2, available=BOTH), Spot(B), id="spot where it is there"),
        pytest.param(at(10, 2), Idle(), id="waits, however far behind"),
        pytest.param(at(50, 38.25), OnDemand(), id="until only on demand is in time"),
        pytest.param(
            at(50, 45, running=OnDemand(), available=BOTH), OnDemand(), id="and then for good"
        ),
        pytest.param(at(50, 48), Idle(), id="done"),
    ],
)
def test_greedy_waits_for_spot_until_the_net(situation: Situation, expected: Whereabouts) -> None:
    assert Greedy().decide(situation) == expected


def test_on_demand_only_takes_no_spot() -> None:
    assert OnDemandOnly().decide(at(0, 0, available=BOTH)) == OnDemand()
    assert OnDemandOnly().decide(at(50, 48)) == Idle()


@pytest.mark.parametrize(
    ("situation", "decision", "kept"),
    [
        pytest.param(at(50, 38.41), Spot(A), True, id="slack for a changeover there and one back"),
        pytest.param(at(50, 38.39), Spot(A), False, id="no slack for the second"),
        pytest.param(at(50, 38.21), Spot(A), False, id="nor here"),
        pytest.param(
            at(50, 38.21, running=Spot(A)), Spot(A), True, id="staying where it works loses nothing"
        ),
        pytest.param(
            at(50, 38.21, running=Spot(A), changeover_left_seconds=300),
            Spot(A),
            False,
            id="staying loses what is left of its changeover",
        ),
        pytest.param(at(50, 38.37), Idle(), True, id="a tick of waiting"),
        pytest.param(at(50, 38.36), Idle(), False, id="a tick too long"),
        pytest.param(at(50, 37), OnDemand(), True, id="on demand is as early as can be"),
        pytest.param(
            at(59.7, 47.95, running=Spot(A)), Spot(A), True, id="done within the tick: no risk"
        ),
    ],
)
def test_the_net_lets_through_what_can_be_made_up_for(
    situation: Situation, decision: Whereabouts, kept: bool
) -> None:
    assert keeps_deadline(situation, decision) is kept


def test_a_job_is_feasible_when_on_demand_alone_is_in_time() -> None:
    assert JOB.feasible
    assert Job(work_seconds=10, deadline_seconds=12, changeover_seconds=2).feasible
    assert not Job(work_seconds=10, deadline_seconds=11, changeover_seconds=2).feasible


@pytest.mark.parametrize(
    ("zones", "told"),
    [
        pytest.param((), "at least one zone", id="none"),
        pytest.param((Zone(name=A, spot_dollars_per_hour=4.0),), "no more than", id="dearer"),
        pytest.param((Zone(name=A, spot_dollars_per_hour=1.0),) * 2, "same name", id="twice"),
    ],
)
def test_a_market_that_makes_no_sense_is_refused(zones: tuple[Zone, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        Market(zones=zones, on_demand_dollars_per_hour=3.0)


def test_tables_for_prices_that_move_on_take_little_memory() -> None:
    """A daemon asks for another with each price; a thousand of them would be most of a gigabyte."""
    rates = dict.fromkeys(("losses_per_second", "returns_per_second", "moves_per_second"), 1e-4)
    tables = [
        solve(
            Expectation(
                work_seconds=1e4,
                deadline_seconds=2e4,
                changeover_seconds=60.0,
                spot_dollars_per_hour=0.1 + cents / 100,
                on_demand_dollars_per_hour=3.0,
                **rates,
            )
        )
        for cents in range(100)
    ]

    assert solve.cache_info().currsize * tables[0].dollars.nbytes < 64e6
