"""What a job has seen of its zones so far: how soon each loses its spot machines, and has one again.

Rates of exponential stretches, with little weight of a guess at first, and with what is long past forgotten by
degrees. Only looks that were taken are counted: nothing here looks ahead.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from transhume.plan.deadline.situation import ZoneName

MEMORY_SECONDS = 48 * 3600.0
"""What is so long past counts 1/e of what is new."""
GUESSED_STAY_SECONDS = 1.5 * 3600.0
GUESSED_ABSENCE_SECONDS = 1.5 * 3600.0
GUESS_WEIGHT = 1.0
"""The guess counts as so many stretches that were seen from start to end."""


@dataclass(slots=True)
class Stretches:
    """How often something that comes and goes has gone and come, and how long it was there and away."""

    guessed_stay_seconds: float = GUESSED_STAY_SECONDS
    guessed_absence_seconds: float = GUESSED_ABSENCE_SECONDS
    there: bool | None = None
    there_seconds: float = 0.0
    away_seconds: float = 0.0
    losses: float = 0.0
    returns: float = 0.0

    def add(self, there: bool, before_seconds: float, faded: float) -> None:
        """Count a look; what was seen at the one before has lasted until it."""
        self.there_seconds *= faded
        self.away_seconds *= faded
        self.losses *= faded
        self.returns *= faded
        if self.there is True:
            self.there_seconds += before_seconds
            self.losses += not there
        elif self.there is False:
            self.away_seconds += before_seconds
            self.returns += there
        self.there = there

    @property
    def losses_per_second(self) -> float:
        """How often it is lost, while it is there."""
        return (self.losses + GUESS_WEIGHT) / (
            self.there_seconds + GUESS_WEIGHT * self.guessed_stay_seconds
        )

    @property
    def returns_per_second(self) -> float:
        """How often it comes back, while it is away."""
        return (self.returns + GUESS_WEIGHT) / (
            self.away_seconds + GUESS_WEIGHT * self.guessed_absence_seconds
        )


@dataclass(slots=True)
class Seen:
    """The stretches of each zone, and those of having a zone at all."""

    zones: dict[ZoneName, Stretches]
    any_zone: Stretches
    looked_at_seconds: float | None = None
    """When the last look was, on the clock that the looks are told."""

    @classmethod
    def of(cls, zones: Iterable[ZoneName]) -> "Seen":
        """Begin to watch, with nothing seen."""
        known = {zone: Stretches() for zone in zones}
        # The more zones there are, the more seldom all are without a machine, and the sooner one has one again.
        any_zone = Stretches(
            guessed_stay_seconds=GUESSED_STAY_SECONDS * len(known),
            guessed_absence_seconds=GUESSED_ABSENCE_SECONDS / len(known),
        )
        return cls(known, any_zone)

    def look(self, available: frozenset[ZoneName], now_seconds: float) -> None:
        """Count what is there at an instant; what was there at the last look has lasted until now."""
        before = self.looked_at_seconds
        lasted_seconds = 0.0 if before is None else max(0.0, now_seconds - before)
        faded = math.exp(-lasted_seconds / MEMORY_SECONDS)
        for zone, stretches in self.zones.items():
            stretches.add(zone in available, lasted_seconds, faded)
        self.any_zone.add(bool(available), lasted_seconds, faded)
        self.looked_at_seconds = now_seconds

    def check_invariants(self) -> None:
        """Raise AssertionError where a count is none."""
        for each in (*self.zones.values(), self.any_zone):
            counts = (each.there_seconds, each.away_seconds, each.losses, each.returns)
            assert all(count >= 0 for count in counts), counts
