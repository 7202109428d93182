"""Sequential tree-reweighted message passing (TRW-S) as compiled kernels.

V. Kolmogorov, "Convergent Tree-Reweighted Message Passing for Energy Minimization", IEEE Transactions on
Pattern Analysis and Machine Intelligence 28(10), 2006. Nodes are visited in ascending order, then in descending
order; each shares out what it has gathered among the chains that run through it and sends it on, so that the
sum of what is normalised away on the way back is a lower bound that never falls.

A message takes O(clouds²) steps, row by row, which the processor does several at a time.
"""

from typing import NamedTuple

import numpy as np

from transhume.plan.scale.compiling import reordering_kernel
from transhume.plan.scale.instance import Integers
from transhume.plan.scale.level import Level, Reals

ENDLESS = 1e300


class Field(NamedTuple):
    """A Markov random field, and what was said about it so far."""

    level: Level
    """Who talks to whom; its unary costs are not read."""
    unary: Reals
    """By node and cloud: with prices of room and moves, and `forbidding` where a node may not be."""
    forbidding: float
    """What a pair costs that must be apart and isn't."""
    messages: Reals
    """By slot and cloud of the neighbour: what the node tells it. Changed."""
    decoded: Integers
    """An assignment, read off on the way out. Changed."""


def pass_messages(field: Field) -> float:
    """Pass messages to and fro, read an assignment off on the way out, and return the bound of the way back."""
    spare = np.empty((2, field.unary.shape[1]))
    _sweep(field, spare, True)
    return float(_sweep(field, spare, False))


@reordering_kernel
def _sweep(field: Field, spare: Reals, ascending: bool) -> float:
    level, unary, messages = field.level, field.unary, field.messages
    nodes, clouds = unary.shape
    gathered, told = spare[0], spare[1]
    bound = 0.0
    for step in range(nodes):
        node = step if ascending else nodes - 1 - step
        if ascending:
            _decode(field, node, gathered)
        slots = range(level.start[node], level.start[node + 1])
        below = 0
        for k in range(clouds):
            gathered[k] = unary[node, k]
        for slot in slots:
            below += level.other[slot] < node
            back = level.reverse[slot]
            for k in range(clouds):
                gathered[k] += messages[back, k]
        bound += _normalise(gathered)
        share = 1.0 / max(1, below, len(slots) - below)
        for slot in slots:
            if (level.other[slot] > node) == ascending:
                back = level.reverse[slot]
                for k in range(clouds):
                    told[k] = share * gathered[k] - messages[back, k]
                bound += _send(field, slot, told)
    return bound


@reordering_kernel
def _send(field: Field, slot: int, told: Reals) -> float:
    """Tell a neighbour, for each cloud it could be in, the least that the node and their pair then cost."""
    level, clouds = field.level, len(told)
    sent, received = level.sent[slot], level.received[slot]
    least = field.messages[slot]
    for k in range(clouds):
        least[k] = ENDLESS
    for a in range(clouds):
        price, back, own = level.price[a], level.price_back[a], told[a]
        kept = least[a]
        for b in range(clouds):
            least[b] = min(least[b], own + sent * price[b] + received * back[b])
        if level.apart[slot]:
            least[a] = min(kept, own + field.forbidding)
    return float(_normalise(least))


@reordering_kernel
def _normalise(costs: Reals) -> float:
    least = costs[0]
    for k in range(1, len(costs)):
        least = min(least, costs[k])
    for k in range(len(costs)):
        costs[k] -= least
    return float(least)


@reordering_kernel
def _decode(field: Field, node: int, costs: Reals) -> None:
    """Put a node where it's cheapest, given where those before it are and what those after it told."""
    level, decoded, clouds = field.level, field.decoded, len(costs)
    for k in range(clouds):
        costs[k] = field.unary[node, k]
    for slot in range(level.start[node], level.start[node + 1]):
        if level.other[slot] < node:
            there = decoded[level.other[slot]]
            for k in range(clouds):
                costs[k] += (
                    level.sent[slot] * level.price_back[there, k]
                    + level.received[slot] * level.price[there, k]
                )
            if level.apart[slot]:
                costs[there] += field.forbidding
        else:
            back = level.reverse[slot]
            for k in range(clouds):
                costs[k] += field.messages[back, k]
    best = 0
    for k in range(1, clouds):
        if costs[k] < costs[best]:
            best = k
    decoded[node] = best
