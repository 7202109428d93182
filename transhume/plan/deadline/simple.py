"""The policies that others are compared with: on demand only, greedy, and Uniform Progress.

Uniform Progress is that of Zhanghao Wu et al., "Can't Be Late: Optimizing Spot Instance Savings under
Deadlines", NSDI 2024. It keeps the work done in step with the time gone, and takes on-demand machines only when
it falls behind. Each policy here stands on the net of `safety`. With several zones, all take the cheapest that
is available, the first named among equals, and stay in it until it is revoked: to them spot is spot.
"""

from typing import assert_never

from transhume.plan.deadline.safety import or_on_demand
from transhume.plan.deadline.situation import (
    IDLE,
    ON_DEMAND,
    Idle,
    OnDemand,
    Situation,
    Spot,
    Whereabouts,
)


class OnDemandOnly:
    """Run on demand from start to end."""

    def decide(self, situation: Situation) -> Whereabouts:
        """Return on demand while there is work."""
        return ON_DEMAND if situation.work_left_seconds > 0 else IDLE


class Greedy:
    """Take spot whenever it is there and wait otherwise, until only on demand is in time."""

    def decide(self, situation: Situation) -> Whereabouts:
        """Return the spot machine that there is, and on demand for good once the net has caught the job."""
        if situation.work_left_seconds <= 0:
            return IDLE
        if isinstance(situation.running, OnDemand | Spot):
            return or_on_demand(situation, situation.running)
        return or_on_demand(situation, cheapest_spot(situation) or IDLE)


class UniformProgress:
    """Let progress keep up with time, by spot where it is there and by on demand where it must be."""

    def decide(self, situation: Situation) -> Whereabouts:
        """Return what the rules say; in ticks longer than a changeover the net closes a tick earlier."""
        if situation.work_left_seconds <= 0:
            return IDLE
        return or_on_demand(situation, self._wanted(situation))

    def _wanted(self, situation: Situation) -> Whereabouts:
        two_changeovers = 2 * situation.job.changeover_seconds
        last_moment = situation.slack_seconds < two_changeovers
        match situation.running:
            case Spot():
                return situation.running
            case OnDemand() if last_moment or is_behind(situation, ahead_seconds=two_changeovers):
                return (
                    ON_DEMAND  # even where spot is available: a changeover has to be earned first
                )
            case OnDemand():
                # Ahead, but without spot: it works on, since going idle would soon cost a changeover more. So
                # read, the rules give the hours of the paper's third table; going idle gives 1.4 h more.
                return cheapest_spot(situation) or ON_DEMAND
            case Idle() if last_moment:
                return ON_DEMAND
            case Idle():
                behind = is_behind(situation)
                return cheapest_spot(situation) or (ON_DEMAND if behind else IDLE)
            case _:
                assert_never(situation.running)


def is_behind(situation: Situation, *, ahead_seconds: float = 0.0) -> bool:
    """Say whether less is done than would be at an even pace by now, or so many seconds from now."""
    job = situation.job
    elapsed = situation.elapsed_seconds + ahead_seconds
    return situation.done_seconds < elapsed * job.work_seconds / job.deadline_seconds


def cheapest_spot(situation: Situation) -> Spot | None:
    """Return the cheapest zone that is available, or None where none is."""
    there = (zone for zone in situation.market.zones if zone.name in situation.available)
    cheapest = min(there, key=lambda zone: zone.spot_dollars_per_hour, default=None)
    return None if cheapest is None else Spot(cheapest.name)
