"""Availability made up from a seed, for tests and benchmarks in every clone: zones and their outages.

Each zone is a two-state semi-Markov chain: stretches with and without a spot machine follow each other, of
random lengths whose means are the zone's. Lengths are Weibull with a shape below 1, so that many are short and
some very long, as recorded ones are. Zones of a region also share outages, in which none of them has a machine.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.plan.deadline.availability import Availability
from transhume.plan.deadline.situation import ZoneName

WEIBULL_SHAPE = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class ZoneRates:
    """How long a zone has machines, and how long it has none, on average."""

    name: ZoneName
    region: str
    there_seconds: float
    away_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outages:
    """How long a region is well, and how long an outage of all of its zones takes, on average."""

    well_seconds: float
    outage_seconds: float


FOUR_ZONES = (
    ZoneRates(name=ZoneName("east-a"), region="east", there_seconds=4e3, away_seconds=16e3),
    ZoneRates(name=ZoneName("east-b"), region="east", there_seconds=6e3, away_seconds=6e3),
    ZoneRates(name=ZoneName("west-a"), region="west", there_seconds=20e3, away_seconds=6e3),
    ZoneRates(name=ZoneName("west-b"), region="west", there_seconds=12e3, away_seconds=8e3),
)
"""Two regions: one where spot is rare, one where it is common."""
USUAL_OUTAGES = Outages(well_seconds=40 * 3600.0, outage_seconds=5 * 3600.0)


def generate(
    zones: Sequence[ZoneRates] = FOUR_ZONES,
    outages: Outages = USUAL_OUTAGES,
    *,
    ticks: int,
    tick_seconds: float,
    seed: int,
) -> Availability:
    """Return the availability that a seed stands for."""
    regions = sorted({zone.region for zone in zones})
    chances = [np.random.default_rng(each) for each in np.random.SeedSequence(seed).spawn(99)]
    well = {
        region: _there(
            chances.pop(), outages.well_seconds, outages.outage_seconds, ticks, tick_seconds
        )
        for region in regions
    }
    columns = [
        _there(chances.pop(), zone.there_seconds, zone.away_seconds, ticks, tick_seconds)
        & well[zone.region]
        for zone in zones
    ]
    return Availability(
        tick_seconds=tick_seconds,
        zones=tuple(zone.name for zone in zones),
        there=np.stack(columns, axis=1),
    )


def _there(
    chance: np.random.Generator, there: float, away: float, ticks: int, tick_seconds: float
) -> NDArray[np.bool_]:
    """Return at which ticks something is there that comes and goes."""
    found = np.zeros(ticks, dtype=np.bool_)
    state = bool(chance.random() < there / (there + away))
    at, end = 0.0, ticks * tick_seconds
    while at < end:
        mean = there if state else away
        until = at + mean / math.gamma(1 + 1 / WEIBULL_SHAPE) * chance.weibull(WEIBULL_SHAPE)
        found[math.ceil(at / tick_seconds) : math.ceil(until / tick_seconds)] = state
        at, state = until, not state
    return found
