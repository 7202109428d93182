"""The search for a cheap assignment: annealing from what the dual suggests, then cycles through coarser levels.

A cycle merges VMs that talk and are together, several times over, anneals the few groups that remain, and
undoes the merging level by level with some annealing at each: whole communities move that way, which no move of
a single VM would lead to. The dual's prices set the penalties. Reproducible by its seed; starts from a feasible
assignment and never returns a worse one, or one that isn't feasible.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transhume.plan.scale.annealing import Schedule, anneal
from transhume.plan.scale.descent import descend, repair
from transhume.plan.scale.dual import Suggestion
from transhume.plan.scale.grouping import match
from transhume.plan.scale.instance import Instance, Integers
from transhume.plan.scale.level import Level, Reals, merged

SMALL = 2000
"""Up to so many VMs, more steps are affordable for each."""
SWEEPS = 30
FIRST_HEATS = {True: (0.1, 3.0, 10.0), False: (0.03, 0.1)}
CYCLE_HEATS = {True: (0.03, 0.1, 0.3, 1.0, 3.0), False: (0.01, 0.02, 0.05, 0.1)}
"""By whether the instance is small: starting temperatures, as shares of what a VM costs. Hot ones forget what
the dual suggested, which helps where it couldn't be made to fit: tight instances with large communities."""
COLD = 1e-3
LEAST_STEPS = 100_000
DEEPEST, DEEP = 12, 0.5
"""Mergings in a row, and the share of cycles that do all of them; others stop at a random depth, up to half."""
GROUP_SHARES = (0.1, 0.25, 0.5)
"""How much of the largest cloud a group may fill."""
TOO_FEW_MERGED = 0.95


@dataclass(frozen=True, slots=True)
class Penalties:
    """What breaking a limit weighs in the annealing."""

    room: Reals
    moves: float


@dataclass(slots=True)
class Search:
    """Looks for ever cheaper assignments, and remembers the cheapest."""

    instance: Instance
    level: Level
    chance: np.random.Generator
    best: Integers
    cost: int
    penalties: Penalties
    worth: float
    """What a VM costs where it's cheapest, in the middle: the scale of temperatures."""

    @classmethod
    def from_home(cls, instance: Instance, level: Level, *, seed: int, stream: int = 0) -> "Search":
        """Begin with what going downhill from home leads to; each stream has random numbers of its own."""
        chance = np.random.default_rng([seed, stream])
        cheapest = np.where(level.allowed, level.unary, np.inf).min(axis=1)
        worth = max(1.0, float(np.median(np.abs(cheapest))))
        size = np.maximum(1, instance.size)
        room = np.median(np.abs(cheapest)[:, None] / size, axis=0)
        search = cls(
            instance=instance,
            level=level,
            chance=chance,
            best=instance.home,
            cost=instance.cost(instance.home),
            penalties=Penalties(np.tile(0.3 * room, (instance.cloud_count, 1)), 0.3 * worth),
            worth=worth,
        )
        search.offer(descend(level, instance.home, SWEEPS, search.order(level)))
        return search

    def seed(self) -> int:
        """Return the next seed for a kernel."""
        return int(self.chance.integers(1 << 31))

    def order(self, level: Level) -> Integers:
        """Return the nodes of a level in random order."""
        return np.asarray(self.chance.permutation(len(level.unary)))

    def offer(self, assignment: Integers) -> bool:
        """Take an assignment if it's feasible and cheaper; say whether it was."""
        if not self.instance.feasible(assignment):
            return False
        cost = self.instance.cost(assignment)
        if cost >= self.cost:
            return False
        self.best, self.cost = assignment.copy(), cost
        return True

    def follow(self, dual: Suggestion) -> None:
        """Anneal what the dual suggests, with its prices as penalties."""
        self.penalties = Penalties(
            np.maximum(self.penalties.room, 1.2 * dual.room_price),
            max(self.penalties.moves, 1.2 * dual.move_price),
        )
        start = self._permitted(dual.decoded)
        steps = (3000 if self._small else 250) * self.instance.vm_count
        for heat in FIRST_HEATS[self._small]:
            found, kept = self._anneal(self.level, start, steps, heat)
            self._polish(found if kept else repair(self.level, found, self.instance.home))

    def cycle(self) -> None:
        """Merge, anneal, undo the merging; keep the result if it's cheaper."""
        deep = self.chance.random() < DEEP
        depth = DEEPEST if deep else int(self.chance.integers(DEEPEST // 2 + 1))
        levels, groups, assignment = self._coarsen(depth)
        heat = float(self.chance.choice(CYCLE_HEATS[self._small]))
        steps = int(self.chance.choice((100, 300)))
        if self._small and len(levels) == 1:
            steps = 3000
        for depth in reversed(range(len(levels))):
            level = levels[depth]
            spread = (self.instance.vm_count / len(level.unary)) ** 0.5
            warmth = heat * spread * (1.0 if depth == len(levels) - 1 else 0.5)
            count = max(steps * len(level.unary), LEAST_STEPS)
            found, kept = self._anneal(level, assignment, count, warmth)
            assignment = found if kept else assignment
            if depth:
                assignment = assignment[groups[depth - 1]]
        self._polish(assignment)

    @property
    def _small(self) -> bool:
        return self.instance.vm_count <= SMALL

    def _anneal(
        self, level: Level, start: Integers, steps: int, heat: float
    ) -> tuple[Integers, bool]:
        schedule = Schedule(
            room_penalty=self.penalties.room,
            move_penalty=self.penalties.moves,
            steps=steps,
            hot=heat * self.worth,
            cold=min(COLD, heat) * self.worth,
            seed=self.seed(),
        )
        return anneal(level, start, schedule)

    def _polish(self, assignment: Integers) -> None:
        if self.instance.feasible(assignment):
            self.offer(descend(self.level, assignment, SWEEPS, self.order(self.level)))

    def _permitted(self, suggested: Integers) -> Integers:
        """Return a suggestion without the VMs that may not be there or next to each other: those stay home."""
        instance = self.instance
        permitted = suggested.copy()
        wrong = ~instance.allowed[np.arange(instance.vm_count), permitted]
        permitted[wrong] = instance.home[wrong]
        strict = instance.pairs[instance.apart]
        while True:
            one, other = permitted[strict].T
            clashing = np.unique(strict[one == other])
            if not len(clashing):
                return permitted
            # At home nobody clashes with anybody who is at home: each round sends someone there.
            permitted[clashing] = instance.home[clashing]

    def _coarsen(self, depth: int) -> tuple[list[Level], list[Integers], Integers]:
        largest = self.level.capacity.max(axis=0) * self.chance.choice(GROUP_SHARES)
        levels, groups, assignment = [self.level], list[Integers](), self.best
        few = max(40, 2 * self.instance.cloud_count)
        while len(levels) <= depth and len(levels[-1].unary) > few:
            group, count = match(levels[-1], assignment, largest, self.order(levels[-1]))
            if count > TOO_FEW_MERGED * len(group):
                break
            levels.append(merged(levels[-1], group, count))
            groups.append(group)
            coarse = np.zeros(count, dtype=np.int64)
            coarse[group] = assignment
            assignment = coarse
        return levels, groups, assignment


def improve(search: Search, *, cycles: int, enough: Callable[[], bool] = lambda: False) -> int:
    """Go through cycles, as many as said or until it's enough; return how many were done."""
    for done in range(cycles):
        if enough():
            return done
        search.cycle()
    return cycles
