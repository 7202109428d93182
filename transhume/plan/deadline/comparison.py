"""Policies beside each other: the same job at the same starts under each, and averages of what it came to."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from transhume.knowledge.model import SECONDS_PER_HOUR
from transhume.plan.deadline.availability import Availability
from transhume.plan.deadline.bound import lower_bound_dollars
from transhume.plan.deadline.foresight import Foresight
from transhume.plan.deadline.replay import Outcome, replay
from transhume.plan.deadline.simple import Greedy, OnDemandOnly, UniformProgress
from transhume.plan.deadline.situation import DeadlinePolicy, Job, Market, Zone, ZoneName

POLICIES: Mapping[str, Callable[[Market], DeadlinePolicy]] = {
    "foresight": Foresight,
    "uniform-progress": lambda _: UniformProgress(),
    "greedy": lambda _: Greedy(),
    "on-demand": lambda _: OnDemandOnly(),
}
"""What makes a policy for a job, by the name that users give."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A market, when it had what, and where in that the job begins."""

    market: Market
    availability: Availability
    start_tick: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Average:
    """What a policy came to, on average over all cases."""

    policy: str
    cost_dollars: float
    share_of_on_demand: float
    """The cost, over that of running on demand only."""
    on_demand_hours: float
    spot_hours: float
    on_demand_work_hours: float
    spot_work_hours: float
    moves: float
    missed: int
    """In how many cases the deadline was missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Policies over the same cases, and what none of them could undercut."""

    cases: int
    averages: tuple[Average, ...]
    bound_dollars: float
    bound_share_of_on_demand: float


def cases_of(
    availability: Availability,
    job: Job,
    *,
    spot_dollars_per_hour: float | Mapping[ZoneName, float],
    on_demand_dollars_per_hour: float,
    starts: int,
    seed: int,
    alone: bool = False,
) -> tuple[Case, ...]:
    """Return cases at random starts; `alone`: each zone is a market by itself, with as many starts.

    Raises:
        ValueError: the availability is shorter than the deadline.
    """
    places = availability.starts_for(job.deadline_seconds)
    if not places:
        raise ValueError("the availability is shorter than the deadline")
    chance = np.random.default_rng(seed)
    views = [availability.alone(zone) for zone in availability.zones] if alone else [availability]
    found = []
    for view in views:
        zones = tuple(
            Zone(name=name, spot_dollars_per_hour=_price(spot_dollars_per_hour, name))
            for name in view.zones
        )
        market = Market(zones=zones, on_demand_dollars_per_hour=on_demand_dollars_per_hour)
        found += [
            Case(market=market, availability=view, start_tick=int(tick))
            for tick in chance.integers(places, size=starts)
        ]
    return tuple(found)


def _price(prices: float | Mapping[ZoneName, float], zone: ZoneName) -> float:
    return prices[zone] if isinstance(prices, Mapping) else prices


def compare_policies(job: Job, cases: Sequence[Case], policies: Sequence[str]) -> Comparison:
    """Replay a job in each case under each policy, by name."""
    on_demand = _mean(_on_demand_dollars(job, case.market) for case in cases)
    bound = _mean(
        lower_bound_dollars(job, case.market, case.availability, start_tick=case.start_tick)
        for case in cases
    )
    return Comparison(
        cases=len(cases),
        averages=tuple(
            _average(name, [_run(name, job, case) for case in cases], on_demand)
            for name in policies
        ),
        bound_dollars=bound,
        bound_share_of_on_demand=bound / on_demand,
    )


def _run(policy: str, job: Job, case: Case) -> Outcome:
    decider = POLICIES[policy](case.market)
    return replay(decider, job, case.market, case.availability, start_tick=case.start_tick)


def _average(policy: str, outcomes: Sequence[Outcome], on_demand_dollars: float) -> Average:
    cost = _mean(each.cost_dollars for each in outcomes)
    return Average(
        policy=policy,
        cost_dollars=cost,
        share_of_on_demand=cost / on_demand_dollars,
        on_demand_hours=_hours(each.on_demand_seconds for each in outcomes),
        spot_hours=_hours(each.all_spot_seconds for each in outcomes),
        on_demand_work_hours=_hours(each.on_demand_work_seconds for each in outcomes),
        spot_work_hours=_hours(each.spot_work_seconds for each in outcomes),
        moves=_mean(each.moves for each in outcomes),
        missed=sum(each.missed for each in outcomes),
    )


def _on_demand_dollars(job: Job, market: Market) -> float:
    seconds = min(job.work_seconds + job.changeover_seconds, job.deadline_seconds)
    return seconds / SECONDS_PER_HOUR * market.on_demand_dollars_per_hour


def _hours(seconds: Iterator[float]) -> float:
    return _mean(seconds) / SECONDS_PER_HOUR


def _mean(amounts: Iterator[float]) -> float:
    return float(np.mean(list(amounts)))
