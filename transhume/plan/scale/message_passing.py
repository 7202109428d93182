"""Sequential tree-reweighted message passing (TRW-S) as compiled kernels.

V. Kolmogorov, "Convergent Tree-Reweighted Message Passing for Energy Minimization", IEEE Transactions on
Pattern Analysis and Machine Intelligence 28(10), 2006. Nodes are visited in ascending order, then in descending
order; each shares out what it has gathered among the chains that run through it and sends it on, so that the
sum of what is normalised away on the way back is a lower bound that never falls while costs stay as they are.

Messages are kept where they're read, so that what a node gathers is in one piece: processors wait for what they
read, not for what they write. A message takes O(clouds + classes²) steps, where clouds of a class have the same
prices. Rows by cloud are as long as a multiple of what the processor adds at a time: there, unary costs are
endless and messages 0.
"""

from typing import Any, NamedTuple

import numpy as np

from transhume.plan.scale.compiling import reordering_kernel, reordering_part
from transhume.plan.scale.instance import Integers
from transhume.plan.scale.lanes import LANES, Rows, add_row, least_sums, left_over, padded
from transhume.plan.scale.level import Level, Reals
from transhume.plan.scale.price_classes import Prices, prices_by_class

ENDLESS = 1e30
"""More than anything costs, and added up still a number."""


class Field(NamedTuple):
    """A Markov random field, and what was said about it so far."""

    level: Level
    """Who talks to whom, and the unary costs without the prices below."""
    prices: Prices
    room_price: Reals
    """By cloud and resource: what a node pays for what it takes. To be changed by whoever passes messages."""
    move_price: Reals
    """One number: what a machine that moves pays. To be changed likewise."""
    forbidding: float
    """What a pair costs that must be apart and isn't, and a node where it may not be."""
    messages: Rows
    """By slot and cloud of the node: what the neighbour tells it. Changed."""
    decoded: Integers
    """An assignment, read off on the way out. Changed."""
    used: Reals
    """By cloud and resource, and then the number of moves in a row of its own: what that takes. Changed."""
    price_of: Reals
    """By resource and cloud: the price of room, as it's read."""
    spare: Rows
    """Rows for intermediate results."""


def field_of(level: Level, forbidding: float, decoded: Integers, *, short: bool = False) -> Field:
    """Return a field in which nothing was said and nothing is priced.

    With `short`, messages are in numbers half as long, right to a ten millionth: then twice as many fit into
    a register and into the cache.
    """
    kind: Any = np.float32 if short else np.float64
    clouds, resources = level.capacity.shape
    row = padded(clouds)
    return Field(
        level,
        prices_by_class(level.price),
        np.zeros((clouds, resources)),
        np.zeros(1),
        forbidding,
        np.zeros((len(level.other), row), kind),
        decoded.copy(),
        np.zeros((clouds + 1, resources)),
        np.zeros((resources, clouds)),
        np.zeros((4, row), kind),
    )


def lengthened(field: Field) -> Field:
    """Return a field that says the same, and goes on in long numbers; the same field if it does."""
    if field.messages.dtype == np.float64:
        return field
    return field._replace(
        messages=field.messages.astype(np.float64), spare=field.spare.astype(np.float64)
    )


def pass_messages(field: Field) -> float:
    """Pass messages to and fro, read an assignment off on the way out, and return the bound of the way back."""
    return float(_pass(field))


@reordering_kernel
def _pass(field: Field) -> float:
    clouds, resources = field.level.capacity.shape
    for row in range(clouds + 1):
        for r in range(resources):
            field.used[row, r] = 0.0
    for k in range(clouds):
        for r in range(resources):
            field.price_of[r, k] = field.room_price[k, r]
    for node in range(field.level.unary.shape[0]):
        _charge(field, node, field.spare[0])
        _decode(field, node, field.spare[0], field.spare[1])
        _visit(field, node, True)
    bound = 0.0
    for node in range(field.level.unary.shape[0] - 1, -1, -1):
        _charge(field, node, field.spare[0])
        bound += _visit(field, node, False)
    return bound


@reordering_part
def _visit(field: Field, node: int, ascending: bool) -> float:
    """Gather what neighbours told a node, and tell those ahead; return what is normalised away."""
    level, messages = field.level, field.messages
    gathered, told = field.spare[0], field.spare[1]
    begin, end, below = level.start[node], level.start[node + 1], 0
    for slot in range(begin, end):
        below += level.other[slot] < node
        add_row(gathered, messages[slot])
    bound = _normalise(gathered)
    share = 1.0 / max(1, below, end - begin - below)
    # Neighbours are in ascending order: those ahead are the last or the first.
    first, last = (begin + below, end) if ascending else (begin, begin + below)
    for slot in range(first, last):
        least = left_over(told, gathered, share, messages[slot])
        if level.apart[slot]:
            least = _tell_apart(field, slot, told)
        elif len(field.prices.group):
            _tell_by_class(field, slot, told, least)
        else:
            weights = (level.sent[slot], level.received[slot])
            least_sums(told, field.prices.tables, weights, least, messages[level.reverse[slot]])
        bound += least
    return float(bound)


@reordering_part
def _charge(field: Field, node: int, costs: Rows) -> None:
    """Set a row to what the node costs by cloud, with what room and moves cost."""
    level, move_price, forbidding = field.level, field.move_price[0], field.forbidding
    clouds, resources = level.capacity.shape
    unary, moved, allowed = level.unary[node], level.moved[node], level.allowed[node]
    for k in range(clouds):
        costs[k] = unary[k] + move_price * moved[k]
    for r in range(resources):
        takes, price = level.size[node, r], field.price_of[r]
        if takes:
            for k in range(clouds):
                costs[k] += takes * price[k]
    for k in range(clouds):
        costs[k] = costs[k] if allowed[k] else forbidding
    for k in range(clouds, len(costs)):
        costs[k] = ENDLESS


@reordering_part
def _tell_by_class(field: Field, slot: int, told: Rows, lowest: float) -> None:
    """The least from another cloud is found by class; what remains is to stay where one is."""
    level, group, tables = field.level, field.prices.group, field.prices.tables
    row = tables.shape[0] * LANES
    by_class, least, message = (
        field.spare[2, :row],
        field.spare[3, :row],
        field.messages[level.reverse[slot]],
    )
    for c in range(row):
        by_class[c] = ENDLESS
    for k in range(len(group)):
        by_class[group[k]] = min(by_class[group[k]], told[k])
    least_sums(by_class, tables, (level.sent[slot], level.received[slot]), lowest, least)
    for k in range(len(group)):
        message[k] = min(told[k] - lowest, least[group[k]])


@reordering_part
def _tell_apart(field: Field, slot: int, told: Rows) -> float:
    """Tell a neighbour from which a node must be apart what's the least by cloud; return the least of all."""
    level, message = field.level, field.messages[field.level.reverse[slot]]
    sent, received, clouds = level.sent[slot], level.received[slot], level.unary.shape[1]
    lowest = ENDLESS
    for b in range(clouds):
        cost = told[b] + field.forbidding
        for a in range(clouds):
            if a != b:
                between = sent * level.price[a, b] + received * level.price_back[a, b]
                cost = min(cost, told[a] + between)
        message[b] = cost
        lowest = min(lowest, cost)
    for b in range(clouds):
        message[b] -= lowest
    return float(lowest)


@reordering_part
def _normalise(costs: Rows) -> float:
    least = costs[0]
    for k in range(1, len(costs)):
        least = min(least, costs[k])
    for k in range(len(costs)):
        costs[k] -= least
    return float(least)


@reordering_part
def _decode(field: Field, node: int, charged: Rows, costs: Rows) -> None:
    """Put a node where it's cheapest, given where those before it are and what those after it told."""
    level, decoded = field.level, field.decoded
    clouds = level.unary.shape[1]
    for k in range(len(costs)):
        costs[k] = charged[k]
    for slot in range(level.start[node], level.start[node + 1]):
        if level.other[slot] < node:
            there = decoded[level.other[slot]]
            sent, received = level.sent[slot], level.received[slot]
            price, back = level.price[there], level.price_back[there]
            for k in range(clouds):
                costs[k] += sent * back[k] + received * price[k]
            if level.apart[slot]:
                costs[there] += field.forbidding
        else:
            add_row(costs, field.messages[slot])
    best = 0
    for k in range(1, clouds):
        if costs[k] < costs[best]:
            best = k
    decoded[node] = best
    for r in range(level.size.shape[1]):
        field.used[best, r] += level.size[node, r]
    field.used[clouds, 0] += level.moved[node, best]
