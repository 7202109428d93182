"""Records as bytes and back: what Redis holds is JSON that a person can read with `redis-cli`.

Owns the written form and nothing of where it is kept. Two promises that the store builds on: the same record
is always the same bytes (sets are sorted), and whatever `decode` returns is well-formed, down to time zones,
so that no foreign or damaged value reaches the planner. Unknown fields are passed over: an older reader can
read what a newer writer wrote.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError
from pydantic_core import SchemaValidator

from transhume.errors import PermanentError
from transhume.knowledge.model import CommunicationMatrix, VmName

T = TypeVar("T")

MOST_VMS_IN_A_MATRIX = 10_000
"""A damaged list of names must not make us reserve terabytes."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class _SparseMatrix:
    """A communication matrix as lists: only pairs that talked, as row, column, bytes, frames."""

    start: datetime
    seconds: float
    vms: tuple[VmName, ...]
    pairs: tuple[tuple[int, int, int, int], ...]
    to_outside: tuple[int, ...]
    from_outside: tuple[int, ...]
    multicast_bytes: int = 0
    unattributed_bytes: int = 0
    dropped_frames: int = 0


def encode(record: object) -> bytes:
    """Write a record down; equal records give equal bytes."""
    if isinstance(record, CommunicationMatrix):
        record = _sparse(record)
    cls: Any = type(record)
    plain = _adapter(cls).dump_python(record, warnings=False)
    return json.dumps(plain, default=_leaf, separators=(",", ":")).encode()


def decode(cls: type[T], data: bytes | str) -> T:
    """Read a record of type `cls`.

    Raises:
        UnreadableRecord: the bytes are no such record; says which field, and what was seen.
    """
    written_as: Any = _SparseMatrix if cls is CommunicationMatrix else cls
    try:
        record = _validator(written_as).validate_json(data)
        return cast("T", _dense(record) if isinstance(record, _SparseMatrix) else record)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        raise UnreadableRecord(cls.__name__, f"{where}: {first['msg']}") from error
    except (ValueError, OverflowError, RecursionError) as error:
        raise UnreadableRecord(cls.__name__, str(error)) from error


def _leaf(value: object) -> object:
    match value:
        case datetime():
            return value.isoformat()
        case frozenset():
            return sorted(value)
        case Mapping():
            return dict(value)
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
    return SchemaValidator(_aware(_adapter(cls).core_schema))


def _aware(schema: Any) -> Any:
    if isinstance(schema, dict):
        aware = {key: _aware(value) for key, value in schema.items()}
        return aware | {"tz_constraint": "aware"} if schema.get("type") == "datetime" else aware
    if isinstance(schema, list):
        return [_aware(value) for value in schema]
    return schema


def _sparse(matrix: CommunicationMatrix) -> _SparseMatrix:
    rows, columns = np.nonzero(matrix.bytes | matrix.frames)
    return _SparseMatrix(
        start=matrix.start,
        seconds=matrix.seconds,
        vms=matrix.vms,
        pairs=tuple(
            zip(
                rows.tolist(),
                columns.tolist(),
                matrix.bytes[rows, columns].tolist(),
                matrix.frames[rows, columns].tolist(),
                strict=True,
            )
        ),
        to_outside=tuple(matrix.to_outside.tolist()),
        from_outside=tuple(matrix.from_outside.tolist()),
        multicast_bytes=matrix.multicast_bytes,
        unattributed_bytes=matrix.unattributed_bytes,
        dropped_frames=matrix.dropped_frames,
    )


def _dense(sparse: _SparseMatrix) -> CommunicationMatrix:
    n = len(sparse.vms)
    if n > MOST_VMS_IN_A_MATRIX:
        raise ValueError(f"{n} VMs in one matrix; {MOST_VMS_IN_A_MATRIX} are the most")
    size = np.zeros((n, n), dtype=np.int64)
    frames = np.zeros((n, n), dtype=np.int64)
    for row, column, sent, count in sparse.pairs:
        if not (0 <= row < n and 0 <= column < n):
            raise ValueError(f"pair {row}, {column} is outside of {n} VMs")
        size[row, column], frames[row, column] = sent, count
    return CommunicationMatrix(
        start=sparse.start,
        seconds=sparse.seconds,
        vms=sparse.vms,
        bytes=size,
        frames=frames,
        to_outside=_vector(sparse.to_outside, n),
        from_outside=_vector(sparse.from_outside, n),
        multicast_bytes=sparse.multicast_bytes,
        unattributed_bytes=sparse.unattributed_bytes,
        dropped_frames=sparse.dropped_frames,
    )


def _vector(values: Iterable[int], n: int) -> NDArray[np.int64]:
    vector = np.array(tuple(values), dtype=np.int64)
    if vector.shape != (n,):
        raise ValueError(f"{vector.size} values for {n} VMs")
    return vector
