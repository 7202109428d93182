"""Records as bytes and back: what Redis holds is JSON that a person can read with `redis-cli`.

Owns the written form and nothing of where it is kept; how arrays are written is in `columns`. Two promises that
the store builds on: the same record is always the same bytes (sets are sorted), and whatever `decode` returns
is well-formed, down to time zones and to numbers that are none, so that no foreign or damaged value reaches the
planner. Unknown fields are passed over: an older reader can read what a newer writer wrote.
"""

import json
from collections.abc import Mapping
from dataclasses import is_dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from transhume.errors import PermanentError
from transhume.knowledge.columns import (
    WrittenMatrix,
    WrittenWindow,
    read_matrix,
    read_window,
    written_matrix,
    written_window,
)
from transhume.knowledge.model import (
    CommunicationMatrix,
    DirtyRate,
    Link,
    PriceTick,
    Progress,
    TrafficWindow,
    Warmth,
)

T = TypeVar("T")

_WRITTEN_AS: Mapping[type, type] = {
    TrafficWindow: WrittenWindow,
    CommunicationMatrix: WrittenMatrix,
}
_FINITE = frozenset({DirtyRate, Link, PriceTick, Progress, Warmth})
"""Facts that plans are reckoned from: one price that is no number, or without end, would leave none."""


class UnreadableRecord(PermanentError):
    """A value in the knowledge is not the record it should be."""

    code = "TRANSHUME-E033"
    exit_status = 65

    def __init__(self, kind: str, seen: str) -> None:
        self.kind, self.seen = kind, seen
        super().__init__(
            f"a {kind} in the knowledge can't be read ({seen}); "
            "was it written by another program or version?"
        )


def encode(record: object) -> bytes:
    """Write a record down; equal records give equal bytes."""
    match record:
        case TrafficWindow():
            record = written_window(record)
        case CommunicationMatrix():
            record = written_matrix(record)
    cls: Any = type(record)
    plain = _adapter(cls).dump_python(record, warnings=False)
    return json.dumps(plain, default=_leaf, separators=(",", ":")).encode()


def decode(cls: type[T], data: bytes | str) -> T:
    """Read a record of type `cls`.

    Raises:
        UnreadableRecord: the bytes are no such record; says which field, and what was seen.
    """
    written_as: Any = _WRITTEN_AS.get(cls, cls)
    try:
        return cast("T", _read(_validator(written_as).validate_json(data)))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UnreadableRecord(cls.__name__, f"{where}: {first['msg']}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnreadableRecord(cls.__name__, str(error)) from error


def _read(record: object) -> object:
    match record:
        case WrittenWindow():
            return read_window(record)
        case WrittenMatrix():
            return read_matrix(record)
        case _:
            return record


def _leaf(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case frozenset():
            return sorted(value)
        case Mapping():
            return dict(value)
        case _ if is_dataclass(
            value
        ):  # within a mapping that is no dict, which pydantic leaves alone
            cls: Any = type(value)
            return _adapter(cls).dump_python(value, warnings=False)
        case np.integer() | np.floating():
            return value.item()
        case _:
            raise TypeError(f"a {type(value).__name__} has no written form")


@cache
def _adapter(cls: Any) -> TypeAdapter[Any]:
    return TypeAdapter(cls)


@cache
def _validator(cls: Any) -> SchemaValidator:
    """Return pydantic's validator for a record, made to refuse times without a zone.

    The model's plain `datetime` lets naive times in, and the first comparison with an aware one would end
    the daemon.
    """
    demands: dict[str, dict[str, object]] = {"datetime": {"tz_constraint": "aware"}}
    if cls in _FINITE:
        demands["float"] = {"allow_inf_nan": False}
    return SchemaValidator(_demanding(_adapter(cls).core_schema, demands))


def _demanding(schema: Any, demands: Mapping[str, Mapping[str, object]]) -> Any:
    """Return a schema in which each part also demands what its type does."""
    if isinstance(schema, dict):
        demanding = {key: _demanding(value, demands) for key, value in schema.items()}
        kind = schema.get("type")
        return {**demanding, **demands.get(kind, {})} if isinstance(kind, str) else demanding
    if isinstance(schema, list):
        return [_demanding(value, demands) for value in schema]
    return schema
