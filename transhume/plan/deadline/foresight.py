"""Our policy: of what the safety net allows, the choice whose rest is expected to cost least.

It differs from Uniform Progress in three ways. It waits without spot while the zones have shown that spot comes
back in time, and works on demand early where they haven't, by the table of `outlook`. It prefers zones that are
lost seldom, as each loss is a changeover. And it leaves a zone for a better one where the difference, over the
stay that can be expected there, is worth more than the changeover that the move takes.
"""

import math

from transhume.knowledge.model import SECONDS_PER_HOUR
from transhume.plan.deadline.outlook import Expectation, Outlook, solve
from transhume.plan.deadline.safety import keeps_deadline, or_on_demand
from transhume.plan.deadline.seen import Seen
from transhume.plan.deadline.situation import (
    IDLE,
    ON_DEMAND,
    Market,
    OnDemand,
    Situation,
    Spot,
    Whereabouts,
    Zone,
)

RATE_GRAIN = 1.5
"""Rates are rounded to powers of this: finer, and each tick would ask for a table of its own."""


class Foresight:
    """Take the choice with the least expected cost, by what was seen so far."""

    def __init__(self, market: Market) -> None:
        self._seen = Seen.of(zone.name for zone in market.zones)

    def decide(self, situation: Situation) -> Whereabouts:
        """Return where the rest is expected to cost least; what is seen is remembered for later ticks."""
        self._seen.look(situation.available, situation.elapsed_seconds)
        if situation.work_left_seconds <= 0:
            return IDLE
        return or_on_demand(situation, self._wanted(situation))

    def _wanted(self, situation: Situation) -> Whereabouts:
        if isinstance(situation.running, Spot) and len(situation.available) == 1:
            return situation.running
        outlook = self._outlook(situation)
        if isinstance(situation.running, Spot):
            return self._best_zone(situation, outlook)
        choices = outlook.choices(
            situation.time_left_seconds,
            situation.slack_seconds,
            there=bool(situation.available),
            on_demand_now=isinstance(situation.running, OnDemand),
        )
        allowed: list[tuple[float, Whereabouts]] = [(choices.on_demand, ON_DEMAND)]
        if situation.available:
            allowed.append((choices.spot, self._best_zone(situation, outlook)))
        allowed.append((choices.idle, IDLE))
        safe = (each for each in allowed if keeps_deadline(situation, each[1]))
        return min(safe, key=lambda each: each[0])[1]

    def _outlook(self, situation: Situation) -> Outlook:
        zones = situation.market.zones
        best = min(zones, key=lambda zone: self._dollars_per_hour(zone, situation, 0.0))
        job = situation.job
        return solve(
            Expectation(
                work_seconds=job.work_seconds,
                deadline_seconds=job.deadline_seconds,
                changeover_seconds=job.changeover_seconds,
                spot_dollars_per_hour=best.spot_dollars_per_hour,
                on_demand_dollars_per_hour=situation.market.on_demand_dollars_per_hour,
                losses_per_second=_rounded(self._seen.any_zone.losses_per_second),
                returns_per_second=_rounded(self._seen.any_zone.returns_per_second),
                moves_per_second=_rounded(self._seen.zones[best.name].losses_per_second),
            )
        )

    def _best_zone(self, situation: Situation, outlook: Outlook) -> Spot:
        """Return the zone to be in: where it is, unless another pays for the move."""
        slack_worth = outlook.dollars_per_slack_second(
            situation.time_left_seconds, situation.slack_seconds
        )
        there = [zone for zone in situation.market.zones if zone.name in situation.available]
        rates = {zone: self._dollars_per_hour(zone, situation, slack_worth) for zone in there}
        best = min(there, key=lambda zone: rates[zone])
        now = next((zone for zone in there if Spot(zone.name) == situation.running), None)
        if now is None or now == best:
            return Spot(best.name)
        stay_hours = (
            min(
                1 / self._seen.zones[best.name].losses_per_second,
                1 / self._seen.zones[now.name].losses_per_second,
                situation.work_left_seconds,
            )
            / SECONDS_PER_HOUR
        )
        gained = (rates[now] - rates[best]) * stay_hours
        move = Spot(best.name)
        pays = gained > _changeover_dollars(best, situation, slack_worth)
        return move if pays and keeps_deadline(situation, move) else Spot(now.name)

    def _dollars_per_hour(self, zone: Zone, situation: Situation, slack_worth: float) -> float:
        """Return what an hour in a zone costs, with the changeovers that its losses cause."""
        losses_per_hour = self._seen.zones[zone.name].losses_per_second * SECONDS_PER_HOUR
        return zone.spot_dollars_per_hour + losses_per_hour * _changeover_dollars(
            zone, situation, slack_worth
        )


def _changeover_dollars(zone: Zone, situation: Situation, slack_worth: float) -> float:
    seconds = situation.job.changeover_seconds
    return seconds * (zone.spot_dollars_per_hour / SECONDS_PER_HOUR + slack_worth)


def _rounded(rate: float) -> float:
    """Round a rate to a power of the grain."""
    return float(RATE_GRAIN ** round(math.log(rate, RATE_GRAIN)))
