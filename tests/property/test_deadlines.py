"""No availability makes a feasible job late, and the replay's books balance."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from transhume.plan.deadline import (
    POLICIES,
    Availability,
    DeadlinePolicy,
    Foresight,
    Idle,
    Job,
    Market,
    OnDemand,
    Outcome,
    Situation,
    Spot,
    Whereabouts,
    Zone,
    ZoneName,
    lower_bound_dollars,
    replay,
)
from transhume.plan.deadline.safety import or_on_demand

ZONES = (ZoneName("a"), ZoneName("b"))


@st.composite
def worlds(draw: st.DrawFn) -> tuple[Job, Market, Availability]:
    """Draw a feasible job, down to one without any slack, and ticks shorter or longer than its changeover."""
    tick = draw(st.sampled_from([60.0, 195.0, 600.0, 3600.0]))
    count = draw(st.integers(1, 40))
    changeover = draw(st.sampled_from([0.0, 18.0, 72.0, 720.0, 1800.0]))
    work = draw(st.floats(30.0, count * tick))
    slack = draw(st.one_of(st.just(0.0), st.floats(0.0, 4 * changeover + tick), st.floats(0, work)))
    job = Job(
        work_seconds=work, deadline_seconds=work + changeover + slack, changeover_seconds=changeover
    )
    ticks = int(np.ceil(job.deadline_seconds / tick)) + 1
    rows = draw(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=ticks, max_size=ticks))
    market = Market(
        zones=tuple(
            Zone(name=name, spot_dollars_per_hour=draw(st.sampled_from([0.0, 0.5, 1.0, 3.0])))
            for name in ZONES
        ),
        on_demand_dollars_per_hour=3.0,
    )
    there = np.array(rows, dtype=np.bool_)
    return job, market, Availability(tick_seconds=tick, zones=ZONES, there=there)


@pytest.mark.parametrize("name", ["greedy", "on-demand", "uniform-progress"])
@given(world=worlds())
def test_no_availability_makes_a_feasible_job_late(
    name: str, world: tuple[Job, Market, Availability]
) -> None:
    """And it costs its hours times their prices, no less than the bound, and does all of its work."""
    check(POLICIES[name](world[1]), *world)


@settings(max_examples=examples(15))
@given(world=worlds())
def test_nor_one_that_foresight_decides_for(world: tuple[Job, Market, Availability]) -> None:
    """Few examples: each job has tables of its own to be solved."""
    check(Foresight(world[1]), *world)


class Whimsical:
    """Wants anything at all, and stands on the net."""

    def __init__(self, whims: random.Random) -> None:
        self.whims = whims

    def decide(self, situation: Situation) -> Whereabouts:
        wishes: list[Whereabouts] = [Idle(), OnDemand(), *map(Spot, sorted(situation.available))]
        return or_on_demand(situation, self.whims.choice(wishes))


@given(world=worlds(), whims=st.randoms(use_true_random=False))
def test_nor_one_of_any_policy_that_stands_on_the_net(
    world: tuple[Job, Market, Availability], whims: random.Random
) -> None:
    """The guarantee is the net's, not that of the policies that are here today."""
    check(Whimsical(whims), *world)


def check(policy: DeadlinePolicy, job: Job, market: Market, availability: Availability) -> None:
    found = replay(policy, job, market, availability)
    assert not found.missed
    assert found.took_seconds <= job.deadline_seconds + 1e-5
    check_books(found, job, market)
    assert found.cost_dollars >= lower_bound_dollars(job, market, availability) - 1e-6


def check_books(found: Outcome, job: Job, market: Market) -> None:
    paid = found.on_demand_seconds + found.all_spot_seconds
    worked = found.on_demand_work_seconds + found.spot_work_seconds
    assert paid + found.idle_seconds == pytest.approx(found.took_seconds)
    assert worked == pytest.approx(job.work_seconds)
    assert paid >= worked - 1e-6
    assert paid - worked <= found.moves * job.changeover_seconds + 1e-6
    dollars = found.on_demand_seconds * market.on_demand_dollars_per_hour + sum(
        found.spot_seconds[zone.name] * zone.spot_dollars_per_hour for zone in market.zones
    )
    assert found.cost_dollars == pytest.approx(dollars / 3600)


class Spiteful:
    """Makes the ticks as it goes: takes away whatever the job runs on, and offers what it doesn't."""

    def __init__(self, policy: DeadlinePolicy, patience: int) -> None:
        self.policy, self.patience = policy, patience
        self.stayed = 0

    def available(self, running: Whereabouts) -> frozenset[ZoneName]:
        if not isinstance(running, Spot):
            self.stayed = 0
            return frozenset(ZONES)
        self.stayed += 1
        if self.stayed <= self.patience:
            return frozenset(ZONES)
        self.stayed = 0
        return frozenset(ZONES) - {running.zone} if self.patience % 2 else frozenset()


@pytest.mark.parametrize("name", ["greedy", "uniform-progress"])
@given(
    patience=st.integers(0, 4),
    tick=st.sampled_from([60.0, 195.0, 600.0]),
    changeover=st.sampled_from([1.0, 72.0, 720.0]),
    slack=st.floats(0.0, 7200.0),
)
def test_an_adversary_that_sees_each_decision_does_no_better(
    name: str, patience: int, tick: float, changeover: float, slack: float
) -> None:
    """It revokes each machine right after its changeover, or during it; the invariant holds at each tick."""
    fight(name, patience, tick, changeover, slack)


@pytest.mark.parametrize("patience", [0, 1, 3, 4])
@pytest.mark.parametrize("changeover", [72.0, 720.0])
def test_an_adversary_does_no_better_against_foresight(patience: int, changeover: float) -> None:
    fight("foresight", patience, 195.0, changeover, 3600.0)


def fight(name: str, patience: int, tick: float, changeover: float, slack: float) -> None:
    market = Market(
        zones=tuple(Zone(name=zone, spot_dollars_per_hour=1.0) for zone in ZONES),
        on_demand_dollars_per_hour=3.0,
    )
    work = 4 * 3600.0
    job = Job(
        work_seconds=work, deadline_seconds=work + changeover + slack, changeover_seconds=changeover
    )
    policy = POLICIES[name](market)
    adversary = Spiteful(policy, patience)
    running: Whereabouts = Idle()
    left, time_left, changing = work, job.deadline_seconds, 0.0
    while left > 1e-6:
        assert time_left > 1e-6, "late"
        on_way = isinstance(running, OnDemand) and time_left >= left + changing - 1e-5
        assert on_way or time_left >= left + changeover - 1e-5
        available = adversary.available(running)
        if isinstance(running, Spot) and running.zone not in available:
            running, changing = Idle(), 0.0
        step = min(tick, time_left)
        decision = policy.decide(
            Situation(
                job=job,
                market=market,
                work_left_seconds=left,
                time_left_seconds=time_left,
                tick_seconds=step,
                running=running,
                changeover_left_seconds=changing,
                available=available,
            )
        )
        if decision != running:
            running = decision
            changing = 0.0 if isinstance(decision, Idle) else changeover
        time_left -= step
        if not isinstance(running, Idle):
            lost = min(changing, step)
            changing -= lost
            left -= min(left, step - lost)
