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

from transhume.errors import InvalidFile, Mistake
from transhume.knowledge.model import PriceTick
from transhume.located_yaml import (
    KeyPath,
    Located,
    Place,
    Value,
    decode,
    read,
    read_bytes,
    validate,
)
from transhume.monitor.clouds.price_feed import HttpPriceFeed
from transhume.monitor.clouds.price_rows import PriceRow

__all__ = ["HttpPriceFeed", "PriceSchedule", "ScheduleSchema", "load_prices"]

MAX_CSV_BYTES = 16 << 20
_HEADER = "cloud,at,vcpu,memory,egress"


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
        located = _read_csv(decode(read_bytes(path, at_most=MAX_CSV_BYTES), file), file)
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


def _read_csv(text: str, file: str) -> Located:
    """Return a table as the data that the same schedule would be in YAML. An empty cell says nothing."""
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise InvalidFile((Mistake(file, 1, 1, f"the file is empty; begin it with {_HEADER}"),))
    header = _header(*lines[0], file)
    keys: dict[KeyPath, Place] = {}
    values: dict[KeyPath, Place] = {(): Place(1, 1), ("prices",): Place(1, 1)}
    rows: list[Value] = []
    mistakes: list[Mistake] = []
    for number, line in lines[1:]:
        path = ("prices", len(rows))
        values[path] = Place(number, 1)
        cells = list(_cells(number, line))
        if len(cells) > len(header):
            place = cells[len(header)]
            message = f"{len(cells)} cells under {len(header)} columns; remove those beyond"
            mistakes.append(Mistake(file, place.line, place.column, message))
        row = {name: cell for name, cell in zip(header, cells, strict=False) if cell.text}
        values |= {(*path, name): cell for name, cell in row.items()}
        rows.append({name: cell.text for name, cell in row.items()})
    return Located(
        file=file, data={"prices": rows}, keys=keys, values=values, mistakes=tuple(mistakes)
    )


def _header(number: int, line: str, file: str) -> list[str]:
    cells = list(_cells(number, line))
    names = [cell.text for cell in cells]
    mistakes = [
        Mistake(file, cell.line, cell.column, f"{cell.text!r} is no new column; write {_HEADER}")
        for i, cell in enumerate(cells)
        if cell.text not in PriceRow.model_fields or cell.text in names[:i]
    ]
    if mistakes:
        raise InvalidFile(tuple(mistakes))
    return names


def _cells(number: int, line: str) -> Iterator[Place]:
    """Cut a line at its commas: no price and no name of a cloud needs a quoted one."""
    column = 1
    for cell in line.split(","):
        blanks = len(cell) - len(cell.lstrip())
        yield Place(number, column + blanks, cell.strip().strip('"'))
        column += len(cell) + 1
