"""The order in which a matrix is shown: group by group, so that groups are blocks on the diagonal.

Shared by the terminal and the report, so that both show the same picture. A matrix with too many VMs to be read
is shown by group.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import CommunicationMatrix, Group, GroupId

MOST_VMS = 40
DECADES = 3.0
"""A colour scale spans this many powers of ten below the largest value."""


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
    rate: NDArray[np.float64]
    """Bytes per second by row and column, as they are shown."""
    blocks: tuple[Block, ...]
    by_group: bool
    """True where the rows are groups, because there were too many VMs."""


def arrange(
    matrix: CommunicationMatrix, groups: Sequence[Group], *, most: int = MOST_VMS
) -> Arrangement:
    """Order a matrix by group: the busiest group first, and the VMs of no group at the end.

    Within a group each VM is followed by the one that it talks to most among those left, so that a ring or a
    chain shows as a line beside the diagonal.
    """
    row_of = {vm: row for row, vm in enumerate(matrix.vms)}
    grouped = [[row_of[vm] for vm in group.vms if vm in row_of] for group in groups]
    taken = {row for rows in grouped for row in rows}
    alone = [row for row in range(len(matrix.vms)) if row not in taken]
    names: list[GroupId | None] = [group.id for group in groups]
    parts = list(zip([*names, None], [*grouped, alone], strict=True))
    ties = matrix.rate() + matrix.rate().T
    parts = [(name, _in_a_row(ties, rows) if name else rows) for name, rows in parts if rows]
    if len(matrix.vms) > most:
        return _by_group(matrix, parts)
    order = [row for _, rows in parts for row in rows]
    return Arrangement(
        labels=tuple(matrix.vms[row] for row in order),
        rate=matrix.rate()[np.ix_(order, order)],
        blocks=_blocks([(name, len(rows)) for name, rows in parts]),
        by_group=False,
    )


def levels(rate: NDArray[np.float64], count: int) -> NDArray[np.int_]:
    """Return 0 for nothing and 1 to `count` for the rest, by powers of ten below the largest."""
    largest = rate.max(initial=0.0)
    found = np.zeros(rate.shape, dtype=np.int_)
    if largest > 0.0:
        some = rate > 0.0
        height = 1.0 + np.log10(rate[some] / largest) / DECADES
        found[some] = np.clip(np.ceil(height * count), 1, count).astype(np.int_)
    return found


def _in_a_row(ties: NDArray[np.float64], rows: list[int]) -> list[int]:
    left = list(rows)
    ordered = [left.pop(0)]
    while left:
        following = max(left, key=lambda row: ties[ordered[-1], row])
        left.remove(following)
        ordered.append(following)
    return ordered


def _by_group(
    matrix: CommunicationMatrix, parts: Sequence[tuple[GroupId | None, list[int]]]
) -> Arrangement:
    member = np.zeros((len(parts), len(matrix.vms)))
    for place, (_, rows) in enumerate(parts):
        member[place, rows] = 1.0
    return Arrangement(
        labels=tuple(f"{name or 'no group'} ({len(rows)} VMs)" for name, rows in parts),
        rate=member @ matrix.rate() @ member.T,
        blocks=_blocks([(name, 1) for name, _ in parts]),
        by_group=True,
    )


def _blocks(parts: Sequence[tuple[GroupId | None, int]]) -> tuple[Block, ...]:
    found, first = [], 0
    for group, count in parts:
        found.append(Block(group=group, first=first, count=count))
        first += count
    return tuple(found)
