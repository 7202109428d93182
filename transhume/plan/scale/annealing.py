"""Simulated annealing over the gain table: relocations and swaps, with limits that may be broken at a price.

Room and moves are not walls but penalties that grow while they're broken and shrink while they aren't: tight
instances can't be crossed otherwise. Only assignments that keep all limits are remembered. Where VMs may be and
who must be apart is never broken.
"""

from typing import NamedTuple

import numpy as np

from transhume.plan.scale.compiling import kernel, part_of_kernel
from transhume.plan.scale.gain_table import (
    State,
    may_go,
    move,
    relocation_cost,
    state_of,
    swap_cost,
    total_cost,
)
from transhume.plan.scale.instance import Integers
from transhume.plan.scale.level import Level, Reals

BATCH = 256
"""Steps between two changes of temperature and penalties."""
RELOCATIONS = 0.75
TO_NEIGHBOURS = 0.4
"""Shares of all steps: moves, and moves to the cloud of someone the node talks to."""
HOPELESS = 40.0
"""A rise of the cost by so many temperatures isn't looked at."""
SOFTER, HARDER, SOFTEST, HARDEST = 0.97, 1.03, 0.05, 200.0


class Schedule(NamedTuple):
    """How to anneal."""

    room_penalty: Reals
    """By cloud and resource, for a unit that is missing."""
    move_penalty: float
    """For a machine too many that moves."""
    steps: int
    """How many moves to try."""
    hot: float
    """The temperature to begin with, in units of money."""
    cold: float
    """The temperature to end with."""
    seed: int


class _Step(NamedTuple):
    node: int
    other: int
    """Who takes its place; -1 where nobody does."""
    cloud: int
    """Where the node goes; -1 where it can't."""


def anneal(level: Level, start: Integers, schedule: Schedule) -> tuple[Integers, bool]:
    """Return the best assignment met that keeps all limits, and whether there was one (else the last).

    The start may break limits on room and moves, nothing else.
    """
    state = state_of(level, start)
    best = start.copy()
    kept = _anneal(level, state, best, schedule)
    return best, bool(kept)


@kernel
def _anneal(level: Level, state: State, best: Integers, schedule: Schedule) -> bool:
    """Do the steps; leave the best assignment in `best`, and say whether it keeps all limits."""
    np.random.seed(schedule.seed)
    cost = total_cost(level, state)
    missing, fine = _overflow(level, state, schedule.room_penalty)
    best_cost, fresh = np.inf, False
    if missing == 0 and state.moved[0] <= level.move_limit:
        best_cost = cost
    temperature, hardness = schedule.hot, 1.0
    cooling = (schedule.cold / schedule.hot) ** (1.0 / max(1, schedule.steps // BATCH))
    for number in range(schedule.steps):
        over = max(0, state.moved[0] - level.move_limit)
        if number % BATCH == 0 and number:
            temperature *= cooling
            hardness *= SOFTER if missing == 0 and over == 0 else HARDER
            hardness = min(HARDEST, max(SOFTEST, hardness))
        step = _propose(level, state)
        if step.cloud < 0:
            continue
        rise = _rise(level, state, step)
        if rise > HOPELESS * temperature + hardness * (fine + schedule.move_penalty * over):
            continue
        too_many = max(0, state.moved[0] + _more_moves(level, state, step) - level.move_limit)
        lacking, fined = _overflow_change(level, state, schedule.room_penalty, step)
        worse = rise + hardness * (fined + schedule.move_penalty * (too_many - over))
        if worse > 0 and np.random.random() >= np.exp(-worse / temperature):
            continue
        kept = missing + lacking == 0 and too_many == 0
        if fresh and not (
            kept and rise <= 0
        ):  # copied only now: most that's cheaper is soon beaten
            _copy(state.assignment, best)
            fresh = False
        _make(level, state, step)
        cost += rise
        missing += lacking
        fine = fine + fined if missing else 0.0
        if kept and cost < best_cost:
            best_cost, fresh = cost, True
    if fresh or best_cost == np.inf:
        _copy(state.assignment, best)
    return bool(best_cost < np.inf)


@part_of_kernel
def _propose(level: Level, state: State) -> _Step:
    nodes, clouds = level.unary.shape
    node, other = np.random.randint(nodes), -1
    kind = np.random.random()
    if kind >= RELOCATIONS:
        other = np.random.randint(nodes)
        cloud = state.assignment[other]
    else:
        cloud = _destination(level, state, node, kind < TO_NEIGHBOURS, clouds)
    here = state.assignment[node]
    if (
        cloud == here
        or not may_go(level, state, node, cloud, other)
        or (other >= 0 and not may_go(level, state, other, here, node))
    ):
        cloud = -1
    return _Step(node, other, cloud)


@part_of_kernel
def _rise(level: Level, state: State, step: _Step) -> float:
    if step.other < 0:
        return float(relocation_cost(level, state, step.node, step.cloud))
    return float(swap_cost(level, state, step.node, step.other))


@part_of_kernel
def _more_moves(level: Level, state: State, step: _Step) -> int:
    here = state.assignment[step.node]
    more = level.moved[step.node, step.cloud] - level.moved[step.node, here]
    if step.other >= 0:
        more += level.moved[step.other, here] - level.moved[step.other, step.cloud]
    return int(more)


@part_of_kernel
def _make(level: Level, state: State, step: _Step) -> None:
    here = state.assignment[step.node]
    move(level, state, step.node, step.cloud)
    if step.other >= 0:
        move(level, state, step.other, here)


@part_of_kernel
def _copy(source: Integers, target: Integers) -> None:
    for at in range(len(source)):
        target[at] = source[at]


@part_of_kernel
def _destination(level: Level, state: State, node: int, to_neighbour: bool, clouds: int) -> int:
    slots = level.start[node + 1] - level.start[node]
    if to_neighbour and slots:
        slot = level.start[node] + np.random.randint(slots)
        return int(state.assignment[level.other[slot]])
    return int(np.random.randint(clouds))


@kernel
def _overflow(level: Level, state: State, room_penalty: Reals) -> tuple[float, float]:
    """Return the room that is missing: as it is, and at what it's penalised."""
    missing, fine = 0.0, 0.0
    for k in range(state.used.shape[0]):
        for r in range(state.used.shape[1]):
            over = max(0.0, state.used[k, r] - level.capacity[k, r])
            missing += over
            fine += over * room_penalty[k, r]
    return missing, fine


@part_of_kernel
def _overflow_change(
    level: Level, state: State, room_penalty: Reals, step: _Step
) -> tuple[float, float]:
    """Return by how much that changes with a step."""
    node, other, cloud = step.node, step.other, step.cloud
    here = state.assignment[node]
    missing, fine = 0.0, 0.0
    for r in range(state.used.shape[1]):
        amount = level.size[node, r]
        if other >= 0:
            amount -= level.size[other, r]
        there = state.used[cloud, r] - level.capacity[cloud, r]
        more = max(0.0, there + amount) - max(0.0, there)
        left = state.used[here, r] - level.capacity[here, r]
        less = max(0.0, left - amount) - max(0.0, left)
        missing += more + less
        fine += more * room_penalty[cloud, r] + less * room_penalty[here, r]
    return missing, fine
