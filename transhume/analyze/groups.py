"""Groups: the VMs that talk mostly to each other, found in the matrix alone.

Owns the records; what a group is, is said in `grouping.halving`, whose rule is asked first. How it chooses:
the groups of the whole are compared with those of parts of the time (adjusted Rand index). While they agree by
0.9 or more, or each connected part is one group, the rule has the word. Where they don't, Leiden is asked and,
while none reaches 0.75, hierarchical and spectral clustering; the most stable one is taken that explains the
traffic about as well.
Nothing depends on chance or on the clock: the same traffic gives the same groups.
"""

import re
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from transhume.analyze.grouping.stability import (
    Division,
    as_before,
    is_large,
    most_stable,
    samples_of,
)
from transhume.analyze.ties import Members, Ties, members_of
from transhume.knowledge.model import (
    CommunicationMatrix,
    Group,
    GroupId,
    MatrixSeries,
    VmName,
)


def find_groups(
    matrix: CommunicationMatrix,
    series: MatrixSeries | None = None,
    *,
    previous: Sequence[Group] = (),
) -> tuple[Group, ...]:
    """Return the groups, the busiest first. A VM that talks to no other VM is in none.

    A group is named after its first member by name, so that it keeps its name while that VM stays.

    Args:
        matrix: the traffic to find groups in.
        series: the same traffic by windows, over the same VMs, in whose parts the groups are found again;
            without one, the matrix itself with each tie made some louder or quieter stands in.
        previous: the groups of the last time, where this is one of many looks. Among thousands of VMs, what
            still holds together as it did is not tested for cuts again, and a group's confidence is how much
            of it was there before.
    """
    ties = Ties.of_matrix(matrix)
    if previous and is_large(ties):
        division = as_before(ties, _labels_of(previous, matrix.vms))
    else:
        division = most_stable(ties, samples_of(ties, series))
    groups = _groups(matrix, ties, division)
    return tuple(sorted(groups, key=lambda g: (-g.internal_bytes_per_second, g.id)))


def _labels_of(groups: Sequence[Group], vms: tuple[VmName, ...]) -> Members:
    """Return the number of each VM's group, -1 where it was in none."""
    number = {vm: at for at, group in enumerate(groups) for vm in group.vms}
    return np.array([number.get(vm, -1) for vm in vms], dtype=np.intp)


def _groups(matrix: CommunicationMatrix, ties: Ties, division: Division) -> list[Group]:
    label = division.label
    parts = [part for part in members_of(label) if label[part[0]] >= 0 and len(part) > 1]
    number = np.full(len(label), -1, dtype=np.intp)
    for at, part in enumerate(parts):
        number[part] = at
    together = (number[ties.one] == number[ties.other]) & (number[ties.one] >= 0)
    inside = np.bincount(number[ties.one[together]], ties.weight[together], len(parts))
    said = np.bincount(number + 1, ties.strength(), len(parts) + 1)[1:]
    return [
        _group(
            matrix,
            part,
            internal,
            total - 2 * internal,
            division.confidence.get(int(label[part[0]]), 0.0),
        )
        for part, internal, total in zip(parts, inside.tolist(), said.tolist(), strict=True)
    ]


def _group(
    matrix: CommunicationMatrix, part: Members, inside: float, leaving: float, confidence: float
) -> Group:
    names = tuple(sorted((matrix.vms[row] for row in part.tolist()), key=_by_number))
    return Group(
        id=GroupId(f"g-{names[0]}"),
        vms=names,
        internal_bytes_per_second=inside,
        external_bytes_per_second=max(0.0, leaving),
        confidence=confidence,
    )


@lru_cache(maxsize=1 << 16)
def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort `vm10` behind `vm9`, as people do."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]
