"""Simulated annealing over the gain table: relocations and swaps, with limits that may be broken at a price.

Room and moves are not walls but penalties that grow while they're broken and shrink while they aren't: tight
instances can't be crossed otherwise. Only assignments that keep all limits are remembered. Where VMs may be and
who must be apart is never broken.
"""

from typing import NamedTuple

import numpy as np

from transhume.plan.scale.chance import Words, chance_of, draw, lower, share, upper
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
from transhume.plan.scale.lanes import fetch
from transhume.plan.scale.level import Level, Reals

BATCH = 256
"""Steps between two changes of temperature and penalties."""
RELOCATIONS = 0.75
TO_NEIGHBOURS = 0.4
"""Shares of all steps: moves, and moves to the cloud of someone the node talks to."""
KINDS = 1 << 16
"""Into so many parts those shares are counted."""
AHEAD, NEAR = 8, 1 << 15
"""Steps drawn before they're made, and so many entries as are in the processor's cache anyway."""
TOLLS, RAREST = 1 << 10, 1e-15
"""How many chances of accepting a step are told apart, but for the rarest."""
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
    """Where the node goes."""


class _Spare(NamedTuple):
    """What a kernel needs besides."""

    chance: Words
    words: Words
    """By step ahead: two words, from which it is drawn."""
    tolls: Reals
    """By chance: how many temperatures a step may raise the cost by."""
    since: Integers
    """Who was moved since the best was written down, and at the end how many were."""


def anneal(level: Level, start: Integers, schedule: Schedule) -> tuple[Integers, bool]:
    """Return the best assignment met that keeps all limits, and whether there was one (else the last).

    The start may break limits on room and moves, nothing else.
    """
    state = state_of(level, start)
    best = start.copy()
    chance = chance_of(schedule.seed)
    words = np.array([draw(chance) for _ in range(2 * AHEAD)], dtype=np.uint64)
    spare = _Spare(
        chance,
        words.reshape(AHEAD, 2),
        -np.log((np.arange(TOLLS) + 0.5) / TOLLS),
        np.zeros(len(start) + 1, dtype=np.int64),
    )
    kept = _anneal(level, state, best, schedule, spare)
    return best, bool(kept)


@kernel
def _anneal(level: Level, state: State, best: Integers, schedule: Schedule, spare: _Spare) -> bool:
    """Do the steps; leave the best assignment in `best`, and say whether it keeps all limits."""
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
        word, second = _next_words(level, state, spare, number % AHEAD)
        most = temperature * _toll(word, spare)
        fines = hardness * (fine + schedule.move_penalty * over)
        step = _propose(level, state, word, second)
        # Of a hundred steps one is made: of the others as little as possible is looked up.
        if (
            step.cloud == state.assignment[step.node]
            or _base_rise(level, state, step) > most + fines
        ):
            continue
        rise = _rise(level, state, step)
        if rise > most + fines or not _may_be_made(level, state, step):
            continue
        too_many = max(0, state.moved[0] + _more_moves(level, state, step) - level.move_limit)
        lacking, fined = _overflow_change(level, state, schedule.room_penalty, step)
        if rise + hardness * (fined + schedule.move_penalty * (too_many - over)) > most:
            continue
        kept = missing + lacking == 0 and too_many == 0
        if fresh and not (
            kept and rise <= 0
        ):  # copied only now: most that's cheaper is soon beaten
            _follow(state.assignment, best, spare.since)
            fresh = False
        _make(level, state, step)
        _note(spare.since, step.node)
        if step.other >= 0:
            _note(spare.since, step.other)
        cost += rise
        missing += lacking
        fine = fine + fined if missing else 0.0
        if kept and cost < best_cost:
            best_cost, fresh = cost, True
    if fresh or best_cost == np.inf:
        _follow(state.assignment, best, spare.since)
    return bool(best_cost < np.inf)


@part_of_kernel
def _next_words(level: Level, state: State, spare: _Spare, at: int) -> tuple[np.uint64, np.uint64]:
    """Return what a step is drawn from; where that takes long, have fetched what a later step looks up."""
    if state.held.size <= NEAR:
        return draw(spare.chance), draw(spare.chance)
    word, second = spare.words[at, 0], spare.words[at, 1]
    later = draw(spare.chance), draw(spare.chance)
    spare.words[at, 0], spare.words[at, 1] = later
    step = _propose(level, state, later[0], later[1])
    here = state.assignment[step.node]
    fetch(state.held, step.node, here)
    fetch(state.held, step.node, step.cloud)
    if step.other >= 0:
        fetch(state.held, step.other, here)
        fetch(state.held, step.other, step.cloud)
    return word, second


@part_of_kernel
def _toll(word: np.uint64, spare: _Spare) -> float:
    """Return by how many temperatures a step may raise the cost: Metropolis's rule, its chance taken first."""
    at = np.int64(word & np.uint64(TOLLS - 1))
    if at:
        return float(spare.tolls[at])
    return float(np.log(TOLLS) - np.log(max(share(draw(spare.chance)), RAREST)))


@part_of_kernel
def _propose(level: Level, state: State, word: np.uint64, second: np.uint64) -> _Step:
    nodes, clouds = level.unary.shape
    node, kind = upper(word, nodes), lower(word, KINDS)
    if kind >= RELOCATIONS * KINDS:
        other = upper(second, nodes)
        return _Step(node, other, int(state.assignment[other]))
    begin = level.start[node]
    slots = level.start[node + 1] - begin
    if kind < TO_NEIGHBOURS * KINDS and slots:
        return _Step(node, -1, int(state.assignment[level.other[begin + upper(second, slots)]]))
    return _Step(node, -1, upper(second, clouds))


@part_of_kernel
def _base_rise(level: Level, state: State, step: _Step) -> float:
    """Return no more than what a step raises the cost by."""
    here, node, other, cloud = state.assignment[step.node], step.node, step.other, step.cloud
    rise = relocation_cost(state, node, cloud)
    if other >= 0:
        rise += relocation_cost(state, other, here)
        between = level.price[here, cloud] + level.price[cloud, here]
        rise = rise if between >= 0 else -np.inf
    return float(rise)


@part_of_kernel
def _rise(level: Level, state: State, step: _Step) -> float:
    if step.other < 0:
        return float(relocation_cost(state, step.node, step.cloud))
    return float(swap_cost(level, state, step.node, step.other))


@part_of_kernel
def _may_be_made(level: Level, state: State, step: _Step) -> bool:
    """Say whether a step leads only where nodes may be; limits aside."""
    here = state.assignment[step.node]
    return bool(
        may_go(level, state, step.node, step.cloud, step.other)
        and (step.other < 0 or may_go(level, state, step.other, here, step.node))
    )


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
def _note(since: Integers, node: int) -> None:
    """Note that a node was moved; the last number is how many were."""
    if since[-1] < len(since) - 1:
        since[since[-1]] = node
    since[-1] += 1


@part_of_kernel
def _follow(source: Integers, target: Integers, since: Integers) -> None:
    """Make the target what the source is, by those moved since it was; all where more were than are noted."""
    if since[-1] < len(since):
        for at in range(since[-1]):
            target[since[at]] = source[since[at]]
    else:
        for at in range(len(source)):
            target[at] = source[at]
    since[-1] = 0


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
