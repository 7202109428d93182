"""What the kernels read: an instance, or a coarser one whose nodes are groups of VMs, as plain arrays.

Each node has a row of *slots*, one for each neighbour in ascending order (compressed sparse rows); a pair has
two slots, one with each of its ends, and each knows the other. Money is in floating point here: below 2^53 its
sums are exact all the same. Merging nodes of a level gives the next coarser one.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transhume.plan.scale.instance import Booleans, Instance, Integers

Reals = NDArray[np.float64]


class Level(NamedTuple):
    """A named tuple, because kernels take those as they are."""

    unary: Reals
    """By node and cloud."""
    allowed: Booleans
    moved: NDArray[np.int32]
    """How many machines have left home when the node is in the cloud."""
    size: Reals
    capacity: Reals
    move_limit: int
    price: Reals
    price_back: Reals
    """The same, turned round: kernels read rows."""
    start: Integers
    """Where each node's slots begin; one more entry than nodes."""
    other: Integers
    """By slot: the neighbour."""
    sent: Reals
    """By slot: traffic from the node to the neighbour."""
    received: Reals
    apart: Booleans
    reverse: Integers
    """By slot: the pair's slot with the neighbour."""


def level_of(instance: Instance) -> Level:
    """Return the finest level: a node for each VM."""
    away = np.arange(instance.cloud_count) != instance.home[:, None]
    return _level(
        instance.pairs,
        instance.traffic.astype(np.float64),
        instance.apart,
        unary=instance.unary.astype(np.float64),
        allowed=instance.allowed.copy(),
        moved=(away * instance.machines[:, None]).astype(np.int32),
        size=instance.size.astype(np.float64),
        capacity=instance.capacity.astype(np.float64),
        move_limit=instance.move_limit,
        price=instance.price.astype(np.float64),
    )


def merged(level: Level, group: Integers, groups: int) -> Level:
    """Return the level whose nodes are groups of this one's; what they say among themselves costs nothing."""
    row = group[np.repeat(np.arange(len(level.unary)), np.diff(level.start))]
    other = group[level.other]
    once = row < other
    keys, pair = np.unique(row[once] * groups + other[once], return_inverse=True)
    traffic = np.zeros((len(keys), 2))
    np.add.at(traffic, pair, np.stack([level.sent[once], level.received[once]], 1))
    return _level(
        np.stack([keys // groups, keys % groups], 1),
        traffic,
        np.bincount(pair, level.apart[once], len(keys)) > 0,
        unary=_summed(level.unary, group, groups),
        allowed=~(_summed(~level.allowed, group, groups) > 0),
        moved=_summed(level.moved, group, groups).astype(np.int32),
        size=_summed(level.size, group, groups),
        capacity=level.capacity,
        move_limit=level.move_limit,
        price=level.price,
    )


def _summed(rows: NDArray[np.generic], group: Integers, groups: int) -> Reals:
    total = np.zeros((groups, rows.shape[1]))
    np.add.at(total, group, rows)
    return total


def _level(
    pairs: Integers,
    traffic: Reals,
    apart: Booleans,
    *,
    unary: Reals,
    allowed: Booleans,
    moved: NDArray[np.int32],
    size: Reals,
    capacity: Reals,
    move_limit: int,
    price: Reals,
) -> Level:
    node, other = np.r_[pairs[:, 0], pairs[:, 1]], np.r_[pairs[:, 1], pairs[:, 0]]
    order = np.lexsort((other, node))
    slot = np.empty_like(order)
    slot[order] = np.arange(len(order))
    return Level(
        unary=unary,
        allowed=allowed,
        moved=moved,
        size=size,
        capacity=capacity,
        move_limit=move_limit,
        price=price,
        price_back=np.ascontiguousarray(price.T),
        start=np.r_[0, np.cumsum(np.bincount(node, minlength=len(unary)))].astype(np.int64),
        other=other[order],
        sent=np.r_[traffic[:, 0], traffic[:, 1]][order],
        received=np.r_[traffic[:, 1], traffic[:, 0]][order],
        apart=np.r_[apart, apart][order],
        reverse=np.roll(slot, len(pairs))[order],
    )
