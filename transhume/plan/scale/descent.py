"""Going downhill over the gain table: to a local optimum, and back within limits that are broken."""

import numpy as np

from transhume.plan.scale.compiling import kernel
from transhume.plan.scale.gain_table import State, fits, may_go, move, relocation_cost, state_of
from transhume.plan.scale.instance import Integers
from transhume.plan.scale.level import Level


def descend(level: Level, start: Integers, sweeps: int, order: Integers) -> Integers:
    """Give every node in turn the cloud that saves most, within all limits, until nothing saves anything."""
    state = state_of(level, start)
    _descend(level, state, sweeps, order)
    return state.assignment


@kernel
def _descend(level: Level, state: State, sweeps: int, order: Integers) -> None:
    clouds = level.unary.shape[1]
    for _ in range(sweeps):
        changed = False
        for node in order:
            best, least = -1, -0.5  # costs are whole: less than that is rounding
            for cloud in range(clouds):
                if cloud == state.assignment[node] or not may_go(level, state, node, cloud, -1):
                    continue
                change = relocation_cost(state, node, cloud)
                if change < least and fits(level, state, node, cloud):
                    best, least = cloud, change
            if best >= 0:
                move(level, state, node, best)
                changed = True
        if not changed:
            break


def repair(level: Level, start: Integers, home: Integers) -> Integers:
    """Bring an assignment within its limits where that's cheaply done: first on moves, then on room.

    What comes out may still break limits; whoever asks checks.
    """
    state = state_of(level, start)
    _repair(level, state, home)
    return state.assignment


@kernel
def _repair(level: Level, state: State, home: Integers) -> None:
    nodes = len(home)
    for _ in range(nodes):
        if state.moved[0] <= level.move_limit or not _send_home(level, state, home):
            break
    for _ in range(2 * nodes):
        full = _overfull(level, state)
        if full < 0 or not _make_room(level, state, full):
            break


@kernel
def _send_home(level: Level, state: State, home: Integers) -> bool:
    """Send the node home for which that costs least a machine; say whether there was one."""
    chosen, least = -1, np.inf
    for node in range(len(home)):
        back = level.moved[node, state.assignment[node]]
        if back and may_go(level, state, node, home[node], -1):
            change = relocation_cost(state, node, home[node]) / back
            if change < least:
                chosen, least = node, change
    if chosen >= 0:
        move(level, state, chosen, home[chosen])
    return chosen >= 0


@kernel
def _overfull(level: Level, state: State) -> int:
    """Return a cloud that holds more than it can, -1 where there's none."""
    for k in range(state.used.shape[0]):
        for r in range(state.used.shape[1]):
            if state.used[k, r] > level.capacity[k, r]:
                return k
    return -1


@kernel
def _make_room(level: Level, state: State, full: int) -> bool:
    """Move the node out of a cloud for which that costs least; say whether there was one."""
    chosen, target, least = -1, -1, np.inf
    for node in range(len(state.assignment)):
        if state.assignment[node] != full:
            continue
        for cloud in range(level.unary.shape[1]):
            if cloud == full or not may_go(level, state, node, cloud, -1):
                continue
            if fits(level, state, node, cloud):
                change = relocation_cost(state, node, cloud)
                if change < least:
                    chosen, target, least = node, cloud, change
    if chosen >= 0:
        move(level, state, chosen, target)
    return chosen >= 0
