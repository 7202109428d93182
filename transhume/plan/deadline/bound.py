"""What no policy can undercut, even one that knows the future: a lower bound on a job's cost.

A job pays for its work and for at least one changeover, and in each tick it pays at least what the cheapest
zone that is there asks. So the cheapest ticks before the deadline, as many as that takes, are a bound: a
schedule that needs no second changeover and always finds the cheapest machine would cost that much.
"""

import numpy as np

from transhume.knowledge.model import SECONDS_PER_HOUR
from transhume.plan.deadline.availability import Availability
from transhume.plan.deadline.situation import Job, Market


def lower_bound_dollars(
    job: Job, market: Market, availability: Availability, *, start_tick: int = 0
) -> float:
    """Return an amount that no schedule of the job, from that tick on, can cost less than."""
    price_of = {zone.name: zone.spot_dollars_per_hour for zone in market.zones}
    prices = np.array([price_of[name] for name in availability.zones])
    ticks = availability.ticks_for(job.deadline_seconds)
    there = availability.there[start_tick : start_tick + ticks]
    cheapest = np.where(there, prices, market.on_demand_dollars_per_hour).min(axis=1)
    seconds = np.full(ticks, availability.tick_seconds)
    seconds[-1] = job.deadline_seconds - availability.tick_seconds * (ticks - 1)
    order = np.argsort(cheapest, kind="stable")
    before = np.cumsum(seconds[order]) - seconds[order]
    paid = np.clip(job.work_seconds + job.changeover_seconds - before, 0.0, seconds[order])
    return float(paid @ cheapest[order]) / SECONDS_PER_HOUR
