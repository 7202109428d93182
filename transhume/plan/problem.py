"""The canonical problem: VMs to be put into places, as arrays. The seam between planner and solvers.

A *place* is a cloud, or the hosts of a cloud that are about to go. Every VM is in exactly one place. An
assignment is worth, in dollars per hour over the horizon,

    sum over VMs of dollars[vm, place]                       compute, outside traffic, moves, risk, taste
  + sum over pairs in different clouds of what each end
    sends to the other at what its cloud asks for that       the cut
  + sum over pairs in different clouds of the round trip
    x what a millisecond weighs                              latency
  + sum over jobs of what their delay costs                  lateness

Penalties come before money: a solver first finds the least sum of penalties (VMs left where a rule or a
notice wants them gone, broken soft constraints), and of the assignments that reach it the cheapest one.

Staying put is always feasible: hard constraints hold at home by construction, whoever builds a problem.
Knows nothing of snapshots and policies; `formulate` makes problems from those.
"""

import math
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import CloudName, VmName
from transhume.plan.constraints import Assignment, Constraint, Delay, Terrain


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A cloud, or (doomed) those of its hosts that a notice takes away."""

    cloud: CloudName
    doomed: bool = False


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What there is to decide. Arrays are indexed by VM, place and cloud in the order of the tuples."""

    vms: tuple[VmName, ...]
    places: tuple[Place, ...]
    cloud: NDArray[np.int64]
    """The index of a place's cloud."""
    home: Assignment
    allowed: NDArray[np.bool_]
    """Where each VM may be, by VM and place; home is always allowed."""
    penalty: NDArray[np.float64]
    """What a VM's being in a place breaks, by VM and place."""
    dollars: NDArray[np.float64]
    """Dollars per hour, by VM and place."""
    pairs: NDArray[np.int64]
    """VMs that talk to each other, two by two."""
    rates: NDArray[np.float64]
    """For each pair, the bytes per second from the first to the second, and back."""
    egress: NDArray[np.float64]
    """By sending and receiving cloud: dollars per hour for each byte per second; 0 within a cloud."""
    needs: NDArray[np.int64]
    """By VM: vCPUs, bytes of memory."""
    capacity: NDArray[np.int64]
    """By place: vCPUs, bytes of memory, for all VMs of the problem that are in it."""
    constraints: tuple[Constraint, ...] = ()
    delays: tuple[Delay, ...] = ()
    nearness: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """By pair: dollars per hour for a millisecond between its ends; empty where the way costs nothing."""
    latency: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 0)))
    """By cloud and cloud, alike both ways: milliseconds of round trip, 0 within a cloud; empty as that."""

    @cached_property
    def terrain(self) -> Terrain:
        """What the constraints need to know."""
        return Terrain(home=self.home, cloud=self.cloud, pairs=self.pairs, rates=self.rates)

    @property
    def movable(self) -> NDArray[np.bool_]:
        """Which VMs have a choice."""
        return np.asarray(self.allowed.sum(axis=1) > 1)

    def cost(self, assignment: Assignment) -> float:
        """Return what an assignment is worth, in dollars per hour."""
        everyone = np.arange(len(self.vms))
        return (
            float(self.dollars[everyone, assignment].sum())
            + float(crossing_dollars(self, assignment).sum())
            + sum(delay.dollars_per_hour(self.home, assignment) for delay in self.delays)
        )

    def violation(self, assignment: Assignment) -> float:
        """Return the sum of the penalties of an assignment."""
        everyone = np.arange(len(self.vms))
        soft = (c for c in self.constraints if math.isfinite(c.penalty))
        return float(self.penalty[everyone, assignment].sum()) + sum(
            c.penalty * c.excess(self.terrain, assignment) for c in soft
        )

    def feasible(self, assignment: Assignment) -> bool:
        """Say whether every VM is where it may be, fits, and no hard constraint is broken."""
        everyone = np.arange(len(self.vms))
        if not self.allowed[everyone, assignment].all():
            return False
        used = np.zeros_like(self.capacity)
        np.add.at(used, assignment, self.needs)
        return bool((used <= self.capacity).all()) and not any(
            math.isinf(c.penalty) and c.excess(self.terrain, assignment) for c in self.constraints
        )


def crossing_dollars(problem: Problem, assignment: Assignment) -> NDArray[np.float64]:
    """Return what each pair costs for being in different clouds, in dollars per hour."""
    ends = problem.cloud[assignment[problem.pairs]].reshape(-1, 2)
    dollars = billed_between(problem.rates, problem.egress, ends)
    if len(problem.nearness):
        dollars += problem.nearness * problem.latency[ends[:, 0], ends[:, 1]]
    return dollars


def billed_between(
    rates: NDArray[np.float64], egress: NDArray[np.float64], clouds: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return what pairs' traffic costs with their ends in these clouds (a row each), in dollars per hour."""
    one, other = clouds[:, 0], clouds[:, 1]
    return np.asarray(rates[:, 0] * egress[one, other] + rates[:, 1] * egress[other, one])


def pair_dollars(problem: Problem, pair: int) -> NDArray[np.float64]:
    """Return what a pair costs by the cloud of its first VM and that of its second, in dollars per hour."""
    forth, back = problem.rates[pair]
    dollars = forth * problem.egress + back * problem.egress.T
    if len(problem.nearness):
        dollars = dollars + problem.nearness[pair] * problem.latency
    return np.asarray(dollars)
