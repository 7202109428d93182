"""Where all nodes are, and what it would cost to have each of them elsewhere, kept up to date move by move.

The gain table tells for each node and cloud what the node and its pairs would cost if it were there, so that
the change in cost that a move makes takes two look-ups, and only moves that are made cost time: for each
neighbour, one row. All compiled; exact, because costs are whole numbers below 2^53.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from transhume.plan.scale.compiling import kernel, part_of_kernel
from transhume.plan.scale.instance import Integers
from transhume.plan.scale.level import Level, Reals

FORBIDDEN = 1 << 30


class State(NamedTuple):
    """An assignment and what follows from it; only `move` may change it."""

    assignment: Integers
    held: Reals
    """By node and cloud: what it and its pairs would cost if it were there."""
    barred: NDArray[np.int32]
    """By node and cloud: how many are there from which it must be apart; `FORBIDDEN` more where it may not be.

    Small numbers, because what is looked up at random is to fit the processor's caches."""
    used: Reals
    """By cloud and resource."""
    moved: Integers
    """One number: how many machines aren't at home."""


def state_of(level: Level, assignment: Integers) -> State:
    """Return the state that an assignment makes."""
    state = State(
        assignment.copy(),
        level.unary.copy(),
        np.where(level.allowed, 0, FORBIDDEN).astype(np.int32),
        np.zeros(level.capacity.shape),
        np.zeros(1, np.int64),
    )
    _fill(level, state)
    return state


@kernel
def _fill(level: Level, state: State) -> None:
    nodes, clouds = level.unary.shape
    for node in range(nodes):
        here = state.assignment[node]
        state.moved[0] += level.moved[node, here]
        for r in range(state.used.shape[1]):
            state.used[here, r] += level.size[node, r]
        for slot in range(level.start[node], level.start[node + 1]):
            there = state.assignment[level.other[slot]]
            state.barred[node, there] += level.apart[slot]
            for k in range(clouds):
                state.held[node, k] += (
                    level.sent[slot] * level.price_back[there, k]
                    + level.received[slot] * level.price[there, k]
                )


@part_of_kernel
def move(level: Level, state: State, node: int, cloud: int) -> None:
    """Put a node into another cloud."""
    here = state.assignment[node]
    clouds = level.unary.shape[1]
    old, new = level.price[here], level.price[cloud]
    old_back, new_back = level.price_back[here], level.price_back[cloud]
    for slot in range(level.start[node], level.start[node + 1]):
        row = state.held[level.other[slot]]
        sent, received = level.sent[slot], level.received[slot]
        for k in range(clouds):
            row[k] += sent * (new[k] - old[k]) + received * (new_back[k] - old_back[k])
        if level.apart[slot]:
            state.barred[level.other[slot], here] -= 1
            state.barred[level.other[slot], cloud] += 1
    for r in range(state.used.shape[1]):
        state.used[here, r] -= level.size[node, r]
        state.used[cloud, r] += level.size[node, r]
    state.moved[0] += level.moved[node, cloud] - level.moved[node, here]
    state.assignment[node] = cloud


@part_of_kernel
def relocation_cost(state: State, node: int, cloud: int) -> float:
    """Return by how much the cost rises when a node goes to another cloud."""
    here = state.assignment[node]
    change: float = state.held[node, cloud] - state.held[node, here]
    return change


@part_of_kernel
def swap_cost(level: Level, state: State, one: int, other: int) -> float:
    """Return by how much the cost rises when two nodes of different clouds change places."""
    here, there = state.assignment[one], state.assignment[other]
    change = relocation_cost(state, one, there) + relocation_cost(state, other, here)
    for slot in range(level.start[one], level.start[one + 1]):
        if level.other[slot] == other:  # the table takes each for staying while the other goes
            both = level.sent[slot] + level.received[slot]
            change += both * (level.price[here, there] + level.price[there, here])
    return change


@part_of_kernel
def may_go(level: Level, state: State, node: int, cloud: int, leaving: int) -> bool:
    """Say whether a node may be in a cloud, once another (-1: nobody) has left; room aside."""
    reasons = state.barred[node, cloud]
    if reasons and leaving >= 0:
        for slot in range(level.start[node], level.start[node + 1]):
            if level.other[slot] == leaving:
                reasons -= level.apart[slot]
    return bool(reasons == 0)


@part_of_kernel
def fits(level: Level, state: State, node: int, cloud: int) -> bool:
    """Say whether a node has room in another cloud, and its machines may move there."""
    for r in range(state.used.shape[1]):
        if state.used[cloud, r] + level.size[node, r] > level.capacity[cloud, r]:
            return False
    here = state.assignment[node]
    more = level.moved[node, cloud] - level.moved[node, here]
    return bool(more <= 0 or state.moved[0] + more <= level.move_limit)


@kernel
def total_cost(level: Level, state: State) -> float:
    """Return what the assignment costs."""
    total = 0.0
    for node in range(len(state.assignment)):
        here = state.assignment[node]
        total += 0.5 * (level.unary[node, here] + state.held[node, here])
    return total
