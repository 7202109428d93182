"""When which zone had a spot machine: a table of ticks, cut and generated, never read from files here."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.plan.deadline.situation import ZoneName


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """A row for each tick and a column for each zone: whether the zone had a spot machine throughout."""

    tick_seconds: float
    zones: tuple[ZoneName, ...]
    there: NDArray[np.bool_]

    def __post_init__(self) -> None:
        if self.tick_seconds <= 0:
            raise ValueError("a tick takes some time")
        if self.there.ndim != 2 or self.there.shape[1] != len(self.zones):
            raise ValueError(f"{self.there.shape} is no table of ticks by {len(self.zones)} zones")

    def __len__(self) -> int:
        return len(self.there)

    def first(self, seconds: float) -> "Availability":
        """Return the ticks that begin within the first seconds."""
        ticks = int(np.ceil(seconds / self.tick_seconds))
        return self._with(self.there[:ticks], self.zones)

    def alone(self, zone: ZoneName) -> "Availability":
        """Return one zone by itself."""
        column = self.zones.index(zone)
        return self._with(self.there[:, column : column + 1], (zone,))

    def ticks_for(self, seconds: float) -> int:
        """Return how many ticks cover so long a time."""
        return int(np.ceil(round(seconds / self.tick_seconds, 9)))

    def starts_for(self, seconds: float) -> int:
        """Return how many ticks have so long a time behind them: the places a job can begin at."""
        return max(0, len(self) - self.ticks_for(seconds) + 1)

    def _with(self, there: NDArray[np.bool_], zones: tuple[ZoneName, ...]) -> "Availability":
        return Availability(tick_seconds=self.tick_seconds, zones=zones, there=there)
