"""Stretches of the week by the clock on a wall somewhere: `08:00` to `18:00`, Monday to Friday, in Rome.

Owns the arithmetic of time zones. What is between two readings of the clock lasts an hour less or more on the
nights that change it; a reading that is skipped counts as the instant at which it would have been, had the
clock not been changed; of one that comes twice, the first is meant.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from enum import StrEnum

MINUTES_A_DAY = 24 * 60


class Weekday(StrEnum):
    """A day of the week, from Monday."""

    MON = "mon"
    TUE = "tue"
    WED = "wed"
    THU = "thu"
    FRI = "fri"
    SAT = "sat"
    SUN = "sun"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """The hours of one day: from an instant until before another."""

    start: datetime
    end: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Hours:
    """From one time of day until another, on some days; ends that come before beginnings are the next day's."""

    begins_minute: int
    """Minutes after midnight, on the wall."""
    ends_minute: int
    days: tuple[Weekday, ...] = tuple(Weekday)
    """The days on which they begin."""
    timezone: tzinfo = UTC

    def opening_at(self, instant: datetime) -> Opening | None:
        """Return the opening that an instant is in, or None where they are closed."""
        return next((o for o in self._openings(instant) if o.start <= instant < o.end), None)

    def next_opening(self, instant: datetime) -> Opening | None:
        """Return the first opening that begins after an instant, if it is within a week or so."""
        return next((o for o in self._openings(instant) if o.start > instant), None)

    def __str__(self) -> str:
        """Say it as a person would."""
        some = "" if len(self.days) == len(Weekday) else f" on {', '.join(self.days)}"
        return f"{_clock(self.begins_minute)} to {_clock(self.ends_minute)}{some} ({self.timezone})"

    def _openings(self, instant: datetime) -> Iterator[Opening]:
        """Yield the openings from two days before an instant until nine days after it."""
        today = instant.astimezone(self.timezone).date()
        for offset in range(-2, 10):
            day = today + timedelta(days=offset)
            if tuple(Weekday)[day.weekday()] in self.days:
                later = day + timedelta(days=int(self.ends_minute <= self.begins_minute))
                yield Opening(
                    start=self._on_the_wall(day, self.begins_minute),
                    end=self._on_the_wall(later, self.ends_minute),
                )

    def _on_the_wall(self, day: date, minute: int) -> datetime:
        days, rest = divmod(minute, MINUTES_A_DAY)
        wall = datetime.combine(day + timedelta(days=days), datetime.min.time(), self.timezone)
        return wall.replace(hour=rest // 60, minute=rest % 60).astimezone(UTC)


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
