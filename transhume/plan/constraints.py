"""What a placement may not do, over several VMs at once, in the terms of the canonical problem.

Each record says by how much an assignment breaks it (`excess`, 0 where it holds). A hard constraint has an
infinite `penalty`; a soft one is already broken where the VMs are now, or gives way to an evacuation, and
its penalty is what breaking it weighs against leaving a VM behind. Penalties are compared before money.

VMs, places, clouds and pairs are indices into the problem's arrays.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Indices = tuple[int, ...]
Assignment = NDArray[np.int64]
"""The index of a place by index of VM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terrain:
    """What constraints need to know of the problem around them."""

    home: Assignment
    cloud: NDArray[np.int64]
    """The index of the cloud by index of place."""
    pairs: NDArray[np.int64]
    rates: NDArray[np.float64]

    def clouds(self, assignment: Assignment, members: Indices) -> NDArray[np.int64]:
        """Return the cloud of each of the members."""
        return self.cloud[assignment[list(members)]]


@dataclass(frozen=True, slots=True, kw_only=True)
class SameCloud:
    """The members are in one cloud."""

    members: Indices
    penalty: float = math.inf

    def excess(self, terrain: Terrain, assignment: Assignment) -> float:
        """Return 1 where the members are in several clouds."""
        return float(len(set(terrain.clouds(assignment, self.members))) > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AtLeastClouds:
    """The members are in at least `minimum` clouds."""

    members: Indices
    minimum: int
    penalty: float = math.inf

    def excess(self, terrain: Terrain, assignment: Assignment) -> float:
        """Return the number of clouds that are missing."""
        return float(max(0, self.minimum - len(set(terrain.clouds(assignment, self.members)))))


@dataclass(frozen=True, slots=True, kw_only=True)
class AtMost:
    """At most `limit` of the members are in the cloud."""

    members: Indices
    cloud: int
    limit: int
    penalty: float = math.inf

    def excess(self, terrain: Terrain, assignment: Assignment) -> float:
        """Return the number of VMs that are too many."""
        there = int((terrain.clouds(assignment, self.members) == self.cloud).sum())
        return float(max(0, there - self.limit))


@dataclass(frozen=True, slots=True, kw_only=True)
class AllOrNone:
    """The members leave their places together, or none of them does."""

    members: Indices
    penalty: float = math.inf

    def excess(self, terrain: Terrain, assignment: Assignment) -> float:
        """Return 1 where some go and some stay."""
        members = list(self.members)
        return float(len(set(assignment[members] != terrain.home[members])) > 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class CutLimit:
    """The traffic of these pairs that crosses clouds stays at or below a rate."""

    pairs: Indices
    bytes_per_second: float
    penalty: float = math.inf

    def excess(self, terrain: Terrain, assignment: Assignment) -> float:
        """Return 1 where more crosses."""
        ends = terrain.cloud[assignment[terrain.pairs[list(self.pairs)]]]
        rates = terrain.rates[list(self.pairs)].sum(axis=1)
        crossing = float(rates[ends[:, 0] != ends[:, 1]].sum())
        return float(crossing > self.bytes_per_second * (1 + 1e-9) + 1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveLimit:
    """At most `limit` of the members move."""

    members: Indices
    limit: int
    penalty: float = math.inf

    def excess(self, terrain: Terrain, assignment: Assignment) -> float:
        """Return the number of moves that are too many."""
        members = list(self.members)
        moved = int((assignment[members] != terrain.home[members]).sum())
        return float(max(0, moved - self.limit))


NEGLIGIBLE_SECONDS = 1e-3


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkTime:
    """The members that go to the place, one after the other over one link, are there within `limit`."""

    members: Indices
    place: int
    seconds: tuple[float, ...]
    """What the move of each member takes."""
    limit: float
    penalty: float = math.inf

    def excess(self, terrain: Terrain, assignment: Assignment) -> float:
        """Return the seconds that are missing."""
        going = assignment[list(self.members)] == self.place
        return max(
            0.0, float(np.asarray(self.seconds)[going].sum()) - self.limit - NEGLIGIBLE_SECONDS
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendLimit:
    """What moving the members takes (bytes, dollars or seconds) stays at or below a limit."""

    members: Indices
    amounts: tuple[tuple[float, ...], ...]
    """What going to each place takes, by member; 0 at home."""
    limit: float
    penalty: float = math.inf

    def excess(self, terrain: Terrain, assignment: Assignment) -> float:
        """Return what is too much."""
        rows = zip(self.members, self.amounts, strict=True)
        taken = float(sum(row[assignment[vm]] for vm, row in rows))
        return max(0.0, taken - self.limit - NEGLIGIBLE_SHARE * self.largest)

    @property
    def largest(self) -> float:
        """The most that one move takes."""
        return max((max(row) for row in self.amounts), default=0.0) or 1.0


NEGLIGIBLE_SHARE = 1e-5

Constraint = (
    SameCloud | AtLeastClouds | AtMost | AllOrNone | CutLimit | MoveLimit | LinkTime | SpendLimit
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delay:
    """A job that moves hold up: each second past its slack costs. Not a constraint but a part of the bill."""

    members: Indices
    seconds: tuple[float, ...]
    """What moving each member holds the job up for."""
    slack_seconds: float
    """How long the job can be held up and still be in time; negative where it's late already."""
    dollars_per_hour_per_second: float

    def dollars_per_hour(self, home: Assignment, assignment: Assignment) -> float:
        """Return what the job's being late costs."""
        members = list(self.members)
        moved = assignment[members] != home[members]
        held_up = float(np.asarray(self.seconds)[moved].sum())
        return max(0.0, held_up - self.slack_seconds) * self.dollars_per_hour_per_second
