"""Groups of VMs that talk much and are together, to be moved as one: the way to coarser levels.

Heavy-edge matching, as in multilevel graph partitioning (Karypis and Kumar, 1998), restricted to nodes that
are in one cloud, so that an assignment of the finer level is one of the coarser level too.
"""

import numpy as np

from transhume.plan.scale.compiling import kernel, part_of_kernel
from transhume.plan.scale.instance import Integers
from transhume.plan.scale.level import Level, Reals


def match(
    level: Level, assignment: Integers, largest: Reals, order: Integers
) -> tuple[Integers, int]:
    """Pair each node with the one of its cloud that it talks to most, and number the groups.

    Args:
        level: the finer level.
        assignment: where its nodes are.
        largest: by resource, what a group may take at most.
        order: in which nodes choose.
    """
    mate, group = np.full((2, len(assignment)), -1)
    _mate(level, assignment, largest, order, mate)
    return group, int(_number(mate, group))


@kernel
def _mate(
    level: Level, assignment: Integers, largest: Reals, order: Integers, mate: Integers
) -> None:
    for node in order:
        if mate[node] >= 0:
            continue
        chosen = node
        heaviest = 0.0
        for slot in range(level.start[node], level.start[node + 1]):
            other = level.other[slot]
            weight = level.sent[slot] + level.received[slot]
            if (
                weight > heaviest
                and mate[other] < 0
                and assignment[other] == assignment[node]
                and not level.apart[slot]
                and _fit_together(level, node, other, largest)
            ):
                chosen, heaviest = other, weight
        mate[node], mate[chosen] = chosen, node


@kernel
def _number(mate: Integers, group: Integers) -> int:
    groups = 0
    for node in range(len(mate)):
        if group[node] < 0:
            group[node] = group[mate[node]] = groups
            groups += 1
    return groups


@part_of_kernel
def _fit_together(level: Level, one: int, other: int, largest: Reals) -> bool:
    fit = True
    for r in range(len(largest)):
        fit &= level.size[one, r] + level.size[other, r] <= largest[r]
    return fit
