"""Says limits on how many VMs go somewhere as rooms: resources of which VMs take some and places have some.

A quota, a spread, and the time that a link has before a notice's deadline are knapsacks like vCPUs and memory.
`why_no_room` says which of them aren't; limits on the same VMs share a resource where each place has one limit.
"""

import math
from collections.abc import Iterator

import numpy as np

from transhume.plan.constraints import (
    NEGLIGIBLE_SECONDS,
    AtLeastClouds,
    AtMost,
    Constraint,
    Indices,
    LinkTime,
)
from transhume.plan.problem import Problem
from transhume.plan.scale.instance import Integers

MOST_ROOMS = 64
"""Each is looked at whenever a VM is moved."""

Room = tuple[tuple[int, ...], dict[int, int]]
"""What each VM takes, and what places have; all others have enough."""


def why_no_room(problem: Problem, constraint: Constraint) -> str:
    """Return why a constraint can't be said as rooms; nothing where it can."""
    match constraint:
        case AtMost(members=members, cloud=cloud):
            several = len(_places(problem, members, cloud)) > 1
            return "a quota counts several places" if several else ""
        case AtLeastClouds(members=members, minimum=minimum):
            clouds = range(int(problem.cloud.max(initial=-1)) + 1)
            if any(len(_places(problem, members, cloud)) > 1 for cloud in clouds):
                return "a spread counts several places as one cloud"
            return "" if minimum in (0, 1, 2, len(members)) else f"a spread over {minimum} clouds"
        case LinkTime():
            return ""
        case _:
            return f"a {type(constraint).__name__}"


def rooms(problem: Problem) -> tuple[Integers, Integers]:
    """Return what each VM takes, by VM and room, and what each place has, by place and room."""
    merged: dict[tuple[int, ...], dict[int, int]] = {}
    columns: list[Room] = []
    for takes, limits in _rooms(problem):
        known = merged.setdefault(takes, {})
        if not known:
            columns.append((takes, known))
        for place, limit in limits.items():
            known[place] = min(limit, known.get(place, limit))
    takes_each = np.array([takes for takes, _ in columns], dtype=np.int64)
    size = takes_each.reshape(len(columns), len(problem.vms)).T
    capacity = np.tile(size.sum(axis=0), (len(problem.places), 1))
    for column, (_, limits) in enumerate(columns):
        for place, limit in limits.items():
            capacity[place, column] = limit
    return size, capacity


def _rooms(problem: Problem) -> Iterator[Room]:
    for constraint in problem.constraints:
        if math.isinf(constraint.penalty):
            match constraint:
                case AtMost(members=members, cloud=cloud, limit=limit):
                    for place in _places(problem, members, cloud):
                        yield _each_takes_one(problem, members), {place: limit}
                case AtLeastClouds(members=members, minimum=minimum) if minimum > 1:
                    most = 1 if minimum == len(members) else len(members) - 1
                    limits = dict.fromkeys(range(len(problem.places)), most)
                    yield _each_takes_one(problem, members), limits
                case LinkTime():
                    yield _link(problem, constraint)
                case _:
                    pass


def _each_takes_one(problem: Problem, members: Indices) -> tuple[int, ...]:
    takes = np.zeros(len(problem.vms), dtype=np.int64)
    takes[list(members)] = 1
    return tuple(takes.tolist())


def _link(problem: Problem, link: LinkTime) -> Room:
    """Count seconds in parts so small that rounding each move down is negligible for all together."""
    part = NEGLIGIBLE_SECONDS / (len(link.members) + 1)
    takes = np.zeros(len(problem.vms), dtype=np.int64)
    limit = _parts(link.limit, part)
    np.add.at(takes, list(link.members), [min(_parts(s, part), limit + 1) for s in link.seconds])
    return tuple(takes.tolist()), {link.place: limit}


def _parts(seconds: float, part: float) -> int:
    return math.floor(seconds / part + 1e-6)


def _places(problem: Problem, members: Indices, cloud: int) -> list[int]:
    """Return the places of a cloud in which any of the VMs may be."""
    found = problem.allowed[list(members)].any(axis=0) & (problem.cloud == cloud)
    return [int(place) for place in np.flatnonzero(found)]
