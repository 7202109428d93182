"""The large instance: VMs that talk, clouds with prices and room, all in whole numbers.

What an assignment of VMs to clouds costs is a sum of unary costs (a VM in a cloud) and of pairwise costs (what
two VMs send each other, at the price of a unit of traffic from cloud to cloud); room in clouds and a number of
moves are knapsacks. That is the energy of a Markov random field, which is why bounds for it are known.

Money is counted in whole units so small that rounding doesn't matter (micro-dollars, unless whoever builds an
instance says otherwise): then costs are exact, and two plans that cost the same are told to cost the same.
Staying at home is always feasible. This is the narrower and faster sibling of `transhume.plan.problem`.
"""

from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]
Booleans = NDArray[np.bool_]

LARGEST_TOTAL = 2**53
"""Costs stay below this, so that sums of them are exact in floating point too."""


@dataclass(frozen=True, kw_only=True)
class Instance:
    """What there is to decide, as arrays that nobody may write to."""

    unary: Integers
    """What a VM costs in a cloud, by VM and cloud, in units of money."""
    allowed: Booleans
    """Where each VM may be, by VM and cloud; home is always allowed."""
    pairs: Integers
    """VMs that talk or keep apart: two by two, the lower number first, in ascending order, each once."""
    traffic: Integers
    """For each pair, the units of traffic from the first to the second, and back."""
    apart: Booleans
    """Which pairs must not share a cloud."""
    price: Integers
    """What a unit of traffic costs from a cloud to a cloud, in units of money; nothing within one."""
    size: Integers
    """What a VM takes, by VM and resource."""
    capacity: Integers
    """What a cloud has, by cloud and resource."""
    home: Integers
    """The cloud of each VM now."""
    machines: Integers
    """How many machines each VM stands for: more than one where VMs that must stay together were merged."""
    move_limit: int
    """How many machines may leave home."""

    def __post_init__(self) -> None:
        for each in fields(self):
            if each.name != "move_limit":
                getattr(self, each.name).setflags(write=False)
        self._check()

    @property
    def vm_count(self) -> int:
        """How many VMs there are."""
        return len(self.home)

    @property
    def cloud_count(self) -> int:
        """How many clouds there are."""
        return len(self.capacity)

    @cached_property
    def dearest(self) -> int:
        """No assignment costs more than this, nor less than this below zero."""
        traffic = int(np.abs(self.traffic).sum()) * int(np.abs(self.price).max(initial=0))
        return int(np.abs(self.unary).max(axis=1, initial=0).sum()) + traffic

    def cost(self, assignment: Integers) -> int:
        """Return what an assignment costs, exactly."""
        one, other = assignment[self.pairs].T
        forth, back = self.traffic.T
        crossing = forth * self.price[one, other] + back * self.price[other, one]
        return int(self.unary[np.arange(self.vm_count), assignment].sum()) + int(crossing.sum())

    def feasible(self, assignment: Integers) -> bool:
        """Say whether every VM may be where it is, fits, is apart from whom it must, and few enough move."""
        if not self.allowed[np.arange(self.vm_count), assignment].all():
            return False
        used = np.zeros_like(self.capacity)
        np.add.at(used, assignment, self.size)
        one, other = assignment[self.pairs[self.apart]].T
        return bool(
            (used <= self.capacity).all()
            and (one != other).all()
            and self.machines[assignment != self.home].sum() <= self.move_limit
        )

    def _check(self) -> None:
        one, other = self.pairs.T
        keys = one * self.vm_count + other
        if (one >= other).any() or (np.diff(keys) <= 0).any():
            raise ValueError("pairs must be ascending, the lower number first, each once")
        if np.diagonal(self.price).any():
            raise ValueError("traffic within a cloud must cost nothing")
        if (self.size < 0).any() or (self.traffic < 0).any():
            raise ValueError("sizes and traffic must not be negative")
        if self.dearest >= LARGEST_TOTAL:
            raise ValueError(f"costs may add up to {self.dearest}; count in larger units of money")
        if not self.feasible(self.home):
            raise ValueError("staying at home must be feasible")
