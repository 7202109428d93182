"""Price schedules: what each cloud asks, and from when on, as a file says.

Owns the two spellings of a schedule (YAML for people, CSV for what was recorded) and the question which
prices changed since the last look. Prices that a server tells are read in `price_feed`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from transhume.errors import Mistake
from transhume.knowledge.model import PriceTick
from transhume.located_yaml import (
    Located,
    decode,
    read,
    read_bytes,
    read_table,
    validate,
)
from transhume.monitor.clouds.price_feed import HttpPriceFeed
from transhume.monitor.clouds.price_rows import PriceRow

__all__ = ["HttpPriceFeed", "PriceSchedule", "ScheduleSchema", "load_prices"]

MAX_CSV_BYTES = 16 << 20
_COLUMNS = tuple(PriceRow.model_fields)


class ScheduleSchema(BaseModel):
    """A price schedule."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, title="Price schedule")

    prices: Annotated[list[PriceRow], Field(min_length=1)] = Field(
        description="prices, in any order"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceSchedule:
    """Prices over time. The offsets in it count from a start that whoever asks gives."""

    rows: tuple[PriceRow, ...]

    def ticks_between(
        self, start: datetime, since: datetime, until: datetime
    ) -> tuple[PriceTick, ...]:
        """Return the prices that begin after `since` and not after `until`, the earliest first.

        Consecutive looks see each price once. The first look takes a `since` before `start`.
        """
        found = (row.tick(start) for row in self.rows if since < row.begins(start) <= until)
        return tuple(sorted(found, key=lambda tick: (tick.at, tick.cloud)))


def load_prices(path: Path) -> PriceSchedule:
    """Return the schedule in a file: CSV where its name ends in `.csv`, else YAML.

    Raises:
        InvalidFile: with every mistake in the file.
    """
    file = str(path)
    if path.suffix.lower() == ".csv":
        text = decode(read_bytes(path, at_most=MAX_CSV_BYTES), file)
        located = read_table(text, file, key="prices", columns=_COLUMNS)
    else:
        located = read(decode(read_bytes(path), file), file)
    return PriceSchedule(rows=tuple(validate(ScheduleSchema, located, _same_moments).prices))


def _same_moments(located: Located) -> Iterator[Mistake]:
    line_of: dict[tuple[str, str], int] = {}
    for i, _ in enumerate(located.entries("prices")):
        row = located.mapping("prices", i)
        cloud, at = row.get("cloud"), row.get("at")
        if not isinstance(cloud, str) or not isinstance(at, str):
            continue
        line = located.value_at(("prices", i)).line
        if (cloud, at) in line_of:
            message = f"line {line_of[cloud, at]} has a price of {cloud} at {at} too; keep one"
            yield located.mistake(("prices", i), message)
        line_of.setdefault((cloud, at), line)
