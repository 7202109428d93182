"""Files of spot availability: `{"metadata": {"gap_seconds": 600}, "data": [1, 0, …]}`, a zone each.

Owns their reading. At each tick of so many seconds, that many spot machines could be had: above 0 means that
one was there. The zone is named by its file. Beware: other collections of such series write 1 for *not*
available; nothing in a file tells, so they have to be turned round before.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from transhume.errors import InvalidFile, Mistake, UsageError
from transhume.located_yaml import read_bytes
from transhume.plan.deadline import Availability, ZoneName

MAX_BYTES = 64 << 20


class MetadataSchema(BaseModel):
    """What holds for a whole series."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    gap_seconds: float = Field(gt=0, allow_inf_nan=False, description="the length of a tick")


class SeriesSchema(BaseModel):
    """The series of one zone."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)

    metadata: MetadataSchema
    data: list[int] = Field(min_length=1, description="machines that could be had, by tick")


def load_availability(folder: Path) -> Availability:
    """Return the zones whose series lie in a folder, cut to the shortest.

    Raises:
        UsageError: the folder isn't there, or has no such file, or the ticks of two files differ.
        InvalidFile: a file is no series.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; name one that holds a .json file for each zone")
    paths = sorted(folder.glob("*.json"))
    if not paths:
        raise UsageError(f"{folder} holds no .json file; name a folder with one for each zone")
    series = [_read(path) for path in paths]
    _refuse_unequal_ticks(paths, series)
    ticks = min(len(each.data) for each in series)
    return Availability(
        tick_seconds=series[0].metadata.gap_seconds,
        zones=tuple(ZoneName(path.stem) for path in paths),
        there=np.array([each.data[:ticks] for each in series]).T > 0,
    )


def _refuse_unequal_ticks(paths: Sequence[Path], series: Sequence[SeriesSchema]) -> None:
    first = series[0].metadata.gap_seconds
    for path, each in zip(paths, series, strict=True):
        gap = each.metadata.gap_seconds
        if gap != first:
            raise UsageError(
                f"{path}: gap_seconds is {gap:g}, but {first:g} in {paths[0].name}; "
                "keep series with different ticks in folders of their own"
            )


def _read(path: Path) -> SeriesSchema:
    try:
        return SeriesSchema.model_validate(json.loads(read_bytes(path, at_most=MAX_BYTES)))
    except json.JSONDecodeError as error:
        raise _mistake(path, f"{error.msg}; it must be JSON", error.lineno, error.colno) from error
    except (UnicodeDecodeError, RecursionError) as error:
        raise _mistake(path, "this is no JSON; write the series as JSON in UTF-8") from error
    except ValidationError as error:
        found = error.errors(include_url=False)[0]
        where = ".".join(map(str, found["loc"])) or "the whole"
        seen = repr(found["input"])
        shown = seen if len(seen) <= 40 else f"{seen[:40]}…"
        raise _mistake(
            path,
            f"{where}: {found['msg']}, but {shown} was seen; write it as in "
            '{"metadata": {"gap_seconds": 600}, "data": [1, 0, 1]}',
        ) from error


def _mistake(path: Path, message: str, line: int = 1, column: int = 1) -> InvalidFile:
    return InvalidFile((Mistake(str(path), line, column, message),))
