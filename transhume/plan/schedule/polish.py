"""Lets CP-SAT look for a better order of few moves, and believes it only after a look of its own.

List scheduling is near the best where links are what is scarce. In full clouds it isn't: which VM leaves first
decides who can follow, and on parking. Up to some fifty moves an exact solver does better within seconds.

Asked is only where a schedule is longer than its lower bound, and nobody is stuck. What comes back is when each
leg begins. They're made to begin in that order on the same `Ground` that every schedule is made on, and are
promised what every schedule is. It's taken where no rank of the moves ends later than it did, no VM that a
notice hurries leaves later, groups pay no more for being split, nobody is parked that wasn't, and something is
better; else the old one stays.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec

from transhume.knowledge.model import VmName
from transhume.plan.processes import ask_apart
from transhume.plan.schedule.bound import lower_bound
from transhume.plan.schedule.dispatch import IN_TIME
from transhume.plan.schedule.ground import Ground
from transhume.plan.schedule.moves import Leg, Move, Schedule, Terms
from transhume.plan.schedule.promises import with_promises
from transhume.plan.schedule.puzzle import Order, Puzzle
from transhume.plan.schedule.puzzling import Riddle
from transhume.plan.schedule.splitting import split_dollars

WORKER = "transhume.plan.schedule.worker"
WORTH_IT = 1.01
"""Only a schedule that is longer than its lower bound by this factor is worth a process."""
PATIENCE, START_SECONDS = 10.0, 30.0
"""CP-SAT is waited for so many times its effort, on a busy machine, and so long for it to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Polish:
    """How much may be spent on a schedule."""

    most_moves: int
    effort: float
    """In seconds as CP-SAT counts them: by its work, so that the same schedule gets the same polish."""

    def worth_it(self, found: Schedule, moves: Sequence[Move], terms: Terms) -> bool:
        """Say whether a schedule could become better, and somebody is there to make it so."""
        return (
            not found.stuck
            and 1 < len(found.legs) <= self.most_moves
            and self.effort > 0
            and found.makespan > WORTH_IT * lower_bound(moves, terms)
            and find_spec("ortools") is not None
        )

    def better(self, found: Schedule, moves: Sequence[Move], terms: Terms) -> Schedule:
        """Return a better schedule of the same moves, or the one that was found."""
        if not self.worth_it(found, moves, terms):
            return found
        riddle = Riddle.of(found, moves, terms, self.effort)
        return better_of(found, _answers(riddle.puzzle), riddle, terms)


def better_of(found: Schedule, orders: Sequence[Order], riddle: Riddle, terms: Terms) -> Schedule:
    """Return the best of a schedule and of those that answers to its riddle mean."""
    best = found
    for order in orders:
        tried = _believed(riddle, order, terms)
        if tried is not None and _is_better(tried, best, terms):
            best = tried
    return best


def _answers(puzzle: Puzzle) -> list[Order]:
    told = ask_apart(
        WORKER, ["cp-sat"], puzzle.to_bytes(), START_SECONDS + PATIENCE * puzzle.effort
    )
    return [Order.from_line(line) for lines in told.values() for line in lines]


def _believed(riddle: Riddle, order: Order, terms: Terms) -> Schedule | None:
    """Return the schedule that an answer means, None where it breaks something."""
    ground = Ground.of(terms)
    begun: list[Leg] = []
    running: list[int] = []
    for leg in riddle.legs(order):
        for number in sorted(running, key=lambda n: (begun[n].end, n)):
            if begun[number].end <= leg.start + IN_TIME:
                running.remove(number)
                ground.end(begun[number].move, number)
        if not ground.link_is_free(leg.move.link) or not ground.may_begin(leg.move):
            return None
        running.append(len(begun))
        begun.append(replace(leg, after=ground.begin(leg.move)))
    legs = with_promises(begun, terms)
    if any(leg.end > leg.move.ends_within + IN_TIME for leg in legs):
        return None
    return Schedule(legs=legs, stuck={})


def _is_better(tried: Schedule, known: Schedule, terms: Terms) -> bool:
    """Say whether a schedule is better in something, and worse in nothing that matters."""
    new, old = _Merits.of(tried, terms), _Merits.of(known, terms)
    worse = (
        any(new.ends[rank] > end + IN_TIME for rank, end in old.ends.items())
        or any(new.escapes[vm] > at + IN_TIME for vm, at in old.escapes.items())
        or new.dollars > old.dollars * (1 + IN_TIME)
    )
    shorter = any(new.ends[rank] < end - IN_TIME for rank, end in old.ends.items())
    return not worse and (shorter or new.dollars < old.dollars * (1 - IN_TIME))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Merits:
    """What one schedule is compared with another by."""

    ends: Mapping[float, float]
    """When each rank has ended."""
    escapes: Mapping[VmName, float]
    """When those whom a notice hurries have left."""
    dollars: float
    """What groups pay for being split."""

    @classmethod
    def of(cls, schedule: Schedule, terms: Terms) -> "_Merits":
        ends: dict[float, float] = {}
        for leg in schedule.legs:
            ends[leg.move.rank] = max(ends.get(leg.move.rank, 0.0), leg.end)
        hurried = (leg for leg in schedule.legs if math.isfinite(leg.move.ends_within))
        split = split_dollars(schedule.legs, terms.chatter, terms.cloud_of)
        return cls(
            ends=ends,
            escapes={leg.move.vm: leg.end for leg in hurried},
            dollars=sum(split.values()),
        )
