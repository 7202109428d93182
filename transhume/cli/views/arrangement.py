"""The order in which a matrix is shown: group by group, so that groups are blocks on the diagonal.

Shared by the terminal and the report, so that both show the same picture. A matrix with too many VMs to be read
is shown by group; what is too many groups, by the busiest of them and one row for all others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import CommunicationMatrix, Group, GroupId

MOST_VMS = 40
DECADES = 3.0
"""A colour scale spans this many powers of ten below the largest value."""

Rates = NDArray[np.float64]
Places = NDArray[np.intp]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Rows (and columns) from `first` on that belong together."""

    group: GroupId | None
    first: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What to show: one row and column for each label."""

    labels: tuple[str, ...]
    rate: Rates
    """Bytes per second by row and column, as they are shown."""
    blocks: tuple[Block, ...]
    by_group: bool
    """True where a row is several VMs, because there were too many."""


@dataclass(frozen=True, slots=True)
class _Part:
    """Rows of the matrix that are shown together."""

    group: GroupId | None
    name: str
    rows: list[int]


def arrange(
    matrix: CommunicationMatrix, groups: Sequence[Group], *, most: int = MOST_VMS
) -> Arrangement:
    """Order a matrix by group: the busiest group first, and the VMs of no group at the end.

    Within a group each VM is followed by the one that it talks to most among those left, so that a ring or a
    chain shows as a line beside the diagonal.
    """
    parts = _parts(matrix, groups)
    if len(matrix.vms) > most:
        return _by_part(matrix, _few(parts, most))
    rate = matrix.rate()
    ties = rate + rate.T
    ordered = [(part, _in_a_row(ties, part.rows) if part.group else part.rows) for part in parts]
    order = [row for _, rows in ordered for row in rows]
    return Arrangement(
        labels=tuple(matrix.vms[row] for row in order),
        rate=rate[np.ix_(order, order)],
        blocks=_blocks([(part.group, len(rows)) for part, rows in ordered]),
        by_group=False,
    )


def levels(rate: Rates, count: int) -> NDArray[np.int_]:
    """Return 0 for nothing and 1 to `count` for the rest, by powers of ten below the largest."""
    largest = rate.max(initial=0.0)
    found = np.zeros(rate.shape, dtype=np.int_)
    if largest > 0.0:
        some = rate > 0.0
        height = 1.0 + np.log10(rate[some] / largest) / DECADES
        found[some] = np.clip(np.ceil(height * count), 1, count).astype(np.int_)
    return found


def _parts(matrix: CommunicationMatrix, groups: Sequence[Group]) -> list[_Part]:
    row_of = {vm: row for row, vm in enumerate(matrix.vms)}
    parts = [
        _Part(group.id, group.id, [row_of[vm] for vm in group.vms if vm in row_of])
        for group in groups
    ]
    taken = {row for part in parts for row in part.rows}
    alone = [row for row in range(len(matrix.vms)) if row not in taken]
    parts.append(_Part(None, "no group", alone))
    return [part for part in parts if part.rows]


def _in_a_row(ties: Rates, rows: list[int]) -> list[int]:
    left = list(rows)
    ordered = [left.pop(0)]
    while left:
        following = max(left, key=lambda row: ties[ordered[-1], row])
        left.remove(following)
        ordered.append(following)
    return ordered


def _few(parts: list[_Part], most: int) -> list[_Part]:
    """Return no more parts than can be read; a single one is shown piece by piece."""
    if len(parts) == 1:
        (whole,) = parts
        size = -(-len(whole.rows) // most)
        pieces = [whole.rows[at : at + size] for at in range(0, len(whole.rows), size)]
        return [
            _Part(whole.group, f"{whole.name}, part {number}", rows)
            for number, rows in enumerate(pieces, 1)
        ]
    if len(parts) <= most:
        return parts
    kept, rest = parts[: most - 1], parts[most - 1 :]
    others = [row for part in rest for row in part.rows]
    return [*kept, _Part(None, f"{len(rest)} other groups", others)]


def _by_part(matrix: CommunicationMatrix, parts: Sequence[_Part]) -> Arrangement:
    place = np.zeros(len(matrix.vms), dtype=np.intp)
    for number, part in enumerate(parts):
        place[part.rows] = number
    return Arrangement(
        labels=tuple(f"{part.name} ({len(part.rows)} VMs)" for part in parts),
        rate=_added(matrix, place, len(parts)),
        blocks=_blocks([(part.group, 1) for part in parts]),
        by_group=True,
    )


def _added(matrix: CommunicationMatrix, place: Places, count: int) -> Rates:
    """Return what each place sends to each, in bytes per second."""
    cell = place[matrix.source] * count + place[matrix.destination]
    total = np.bincount(cell, weights=matrix.bytes_per_second, minlength=count * count)
    return total.astype(np.float64).reshape(count, count)


def _blocks(parts: Sequence[tuple[GroupId | None, int]]) -> tuple[Block, ...]:
    """Return where each group's rows are; rows of one group that follow each other are one block."""
    found: list[Block] = []
    first = 0
    for group, count in parts:
        if found and group is not None and found[-1].group == group:
            before = found.pop()
            found.append(Block(group=group, first=before.first, count=before.count + count))
        else:
            found.append(Block(group=group, first=first, count=count))
        first += count
    return tuple(found)
