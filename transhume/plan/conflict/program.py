"""Whether wishes can all hold, asked of HiGHS as a mixed-integer program without an objective.

A whole number for each kind of VM and place says how many are there. An arrangement that HiGHS finds is
recounted in whole numbers; that there is none is HiGHS's word, to its tolerances.
"""

import math
from enum import Enum

import numpy as np

from transhume.plan.conflict.question import (
    Arrangement,
    Bar,
    Crossing,
    Integers,
    InTime,
    Most,
    OneCloud,
    Part,
    Question,
    Reals,
    Room,
    SeveralClouds,
)
from transhume.plan.constraints import NEGLIGIBLE_SECONDS

MOST_NODES = 2000
MOST_SECONDS = 2.0
"""A stop for programs of which a node alone takes long; those that count end by their nodes."""


class Answer(Enum):
    """What is known of a set of wishes."""

    HOLDS = "holds"
    CONTRADICTS = "contradicts"
    UNKNOWN = "unknown"


def search(question: Question) -> tuple[Answer, Arrangement | None]:
    """Look for an arrangement that keeps all wishes; return it where there is one."""
    answer, values = _Program(question).solve()
    if values is None:
        return answer, None
    shape = question.free.shape
    found = np.rint(values[: question.free.size].reshape(shape)).astype(np.int64)
    right = (found.sum(axis=1) == question.count).all() and not found[~question.free].any()
    if right and question.kept(found).all():
        return Answer.HOLDS, found
    return Answer.UNKNOWN, None


class _Program:
    """A mixed-integer program under construction."""

    def __init__(self, question: Question) -> None:
        self.question = question
        kinds, places = question.free.shape
        everything = range(len(question.wishes))
        allowed = question.allowed(everything)
        self.at = np.arange(kinds * places).reshape(kinds, places)
        self.upper = (allowed * question.count[:, None]).ravel().astype(np.float64).tolist()
        self.integral = [1] * (kinds * places)
        self._rows: list[tuple[Integers, np.ndarray, float, float]] = []
        for kind in range(kinds):
            many = float(question.count[kind])
            self.add(self.at[kind], np.ones(places), many, many)
        for part in question.parts(everything):
            self._heed(part)

    @property
    def size(self) -> int:
        """How many variables there are."""
        return len(self.upper)

    def new(self, many: int, *, integral: bool) -> Integers:
        """Return new variables between 0 and 1."""
        first = self.size
        self.upper += [1.0] * many
        self.integral += [int(integral)] * many
        return np.arange(first, first + many)

    def add(self, columns: Integers, values: np.ndarray, lower: float, upper: float) -> None:
        """Demand that a sum of variables be within limits."""
        self._rows.append((columns.ravel(), np.asarray(values, dtype=np.float64), lower, upper))

    def solve(self) -> tuple[Answer, Reals | None]:
        """Return the values of the variables where HiGHS finds any, and what it says."""
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        start = np.cumsum([0, *(len(row[0]) for row in self._rows)])
        columns = np.concatenate([row[0] for row in self._rows])
        values = np.concatenate([row[1] for row in self._rows])
        matrix = csr_array((values, columns, start), shape=(len(self._rows), self.size))
        lower, upper = ([row[side] for row in self._rows] for side in (2, 3))
        result = milp(
            np.zeros(self.size),
            integrality=np.array(self.integral),
            bounds=Bounds(0, np.array(self.upper)),
            constraints=LinearConstraint(matrix, lower, upper),
            options={"node_limit": MOST_NODES, "time_limit": MOST_SECONDS},
        )
        if result.status == 2:
            return Answer.CONTRADICTS, None
        return Answer.UNKNOWN, result.x

    def _inside(self, members: Integers, cloud: int) -> Integers:
        """Return the variables that count members in a cloud."""
        return np.asarray(self.at[np.ix_(members, self.question.cloud == cloud)])

    def _heed(self, part: Part) -> None:
        match part:
            case Bar():  # the variables' upper bounds say so
                pass
            case Room(place=place, resource=resource, limit=limit):
                needs = self.question.needs[:, resource]
                unit = math.gcd(*needs.tolist()) or 1
                self.add(self.at[:, place], needs // unit, -math.inf, limit // unit)
            case OneCloud(members=members):
                self._keep_in_one_cloud(members)
            case SeveralClouds(members=members, minimum=minimum):
                self._spread(members, minimum)
            case Most(members=members, places=places, limit=limit):
                there = self.at[np.ix_(members, places)].ravel()
                self.add(there, np.ones(len(there)), -math.inf, limit)
            case InTime(members=members, place=place, seconds=seconds, limit=limit):
                self.add(self.at[members, place], seconds, -math.inf, limit + NEGLIGIBLE_SECONDS)
            case Crossing():
                self._limit_crossing(part)

    def _keep_in_one_cloud(self, members: Integers) -> None:
        clouds = np.unique(self.question.cloud)
        chosen = self.new(len(clouds), integral=True)
        self.add(chosen, np.ones(len(clouds)), 1, 1)
        for which, cloud in zip(chosen, clouds, strict=True):
            for member in members:
                there = self._inside(np.array([member]), int(cloud)).ravel()
                values = np.r_[np.ones(len(there)), -float(self.question.count[member])]
                self.add(np.r_[there, which], values, 0, 0)

    def _spread(self, members: Integers, minimum: int) -> None:
        clouds = np.unique(self.question.cloud)
        used = self.new(len(clouds), integral=False)
        self.add(used, np.ones(len(clouds)), minimum, math.inf)
        for which, cloud in zip(used, clouds, strict=True):
            there = self._inside(members, int(cloud)).ravel()
            self.add(np.r_[there, which], np.r_[np.ones(len(there)), -1.0], 0, math.inf)

    def _limit_crossing(self, part: Crossing) -> None:
        """Let a variable be 1 where a pair is split: the first is in a cloud that the other isn't in."""
        split = self.new(len(part.pairs), integral=False)
        whole = float(part.rates.sum()) or 1.0
        self.add(split, part.rates / whole, -math.inf, part.limit / whole)
        for pair, (one, other) in zip(split, part.pairs, strict=True):
            for cloud in np.unique(self.question.cloud):
                here = self._inside(np.array([one]), int(cloud)).ravel()
                there = self._inside(np.array([other]), int(cloud)).ravel()
                values = np.r_[1.0, -np.ones(len(here)), np.ones(len(there))]
                self.add(np.r_[pair, here, there], values, 0, math.inf)
