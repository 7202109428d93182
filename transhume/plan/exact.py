"""The exact solver: the canonical problem as a mixed-integer program, solved by HiGHS through SciPy.

One 0/1 variable says that a VM is in a place. Where what a pair's crossing costs depends on the sender's cloud
only, one continuous variable for each pair and cloud suffices: "the first is in this cloud and the second
isn't", which is at least the difference of their presences; the reverse follows from it. Where it matters too
who receives (nearer clouds cost less, or latency counts), a pair has a variable for each two clouds that its
ends may be in. Penalties come first: where there are any, a first run finds their least sum, and a second one
the least cost at that sum.

Proves optimality for some tens of VMs. SciPy is imported at the first use: it takes longer to load than
most problems take to solve.
"""

import math
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from transhume.plan.constraints import (
    NEGLIGIBLE_SECONDS,
    AllOrNone,
    Assignment,
    AtLeastClouds,
    AtMost,
    CutLimit,
    Indices,
    LinkTime,
    MoveLimit,
    SameCloud,
    SpendLimit,
)
from transhume.plan.problem import Problem, pair_dollars
from transhume.plan.solver import Solution

PENALTY_TOLERANCE = 1e-5
"""Ten times the tolerance of HiGHS, which fails on a bound that is met no more exactly than that."""

Terms = dict[int, float]
"""A linear expression: coefficient by variable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExactSolver:
    """HiGHS, until it has a proof or the time is up."""

    seconds: float = 20.0

    def solve(self, problem: Problem) -> Solution:
        """Return the best assignment; where the time ran out before any was found, staying put."""
        if not problem.movable.any():
            return Solution.of(problem, problem.home, optimal=True)
        program = Program(problem)
        proved = True
        if program.penalties:
            values, proved, _ = program.minimise(program.penalties, self.seconds)
            if values is None:
                return Solution.of(problem, problem.home, optimal=False)
            broken = sum(weight * values[at] for at, weight in program.penalties.items())
            program.add_row(program.penalties, upper=broken + PENALTY_TOLERANCE)
        values, cheapest, least = program.minimise(program.dollars, self.seconds)
        bound = least if proved else None
        # Staying may break more than the least, of which the bound is.
        bound_at_home = None if program.penalties else bound
        if values is None:
            return Solution.of(problem, problem.home, optimal=False, bound=bound_at_home)
        assignment = program.assignment(values)
        if not problem.feasible(assignment):  # rounding within the solver's tolerance went wrong
            return Solution.of(problem, problem.home, optimal=False, bound=bound_at_home)
        return Solution.of(problem, assignment, optimal=proved and cheapest, bound=bound)


@dataclass(slots=True)
class Program:
    """A mixed-integer program under construction."""

    problem: Problem
    dollars: Terms = field(default_factory=dict)
    penalties: Terms = field(default_factory=dict)
    upper_bounds: list[float] = field(default_factory=list)
    integral: list[int] = field(default_factory=list)
    rows: list[tuple[Terms, float, float]] = field(default_factory=list)
    crossings: dict[int, Terms] = field(default_factory=dict)
    """By pair: the expression that is 1 where the pair is split, 0 where it isn't."""

    def __post_init__(self) -> None:
        self._place_vms()
        self._fit_capacities()
        for pair in range(len(self.problem.pairs)):
            self._charge_crossing(pair)
        for constraint in self.problem.constraints:
            self._constrain(constraint)
        self._charge_delays()

    # variables and rows

    def new(self, upper: float = 1.0, *, integral: bool = False) -> int:
        """Return a new variable between 0 and `upper`."""
        self.upper_bounds.append(upper)
        self.integral.append(int(integral))
        return len(self.upper_bounds) - 1

    def add_row(self, terms: Terms, *, lower: float = -math.inf, upper: float = math.inf) -> None:
        """Demand that an expression stays between two bounds."""
        self.rows.append((terms, lower, upper))

    def at(self, vm: int, place: int) -> int:
        """Return the variable that says that the VM is in the place."""
        return vm * len(self.problem.places) + place

    def inside(self, vm: int, cloud: int) -> Terms:
        """Return the expression that says that the VM is in the cloud."""
        return {self.at(vm, int(k)): 1.0 for k in np.flatnonzero(self.problem.cloud == cloud)}

    def slack(self, penalty: float, upper: float = 1.0) -> Terms:
        """Return what a soft constraint may be broken by, charged with its penalty; nothing if hard."""
        if math.isinf(penalty):
            return {}
        variable = self.new(upper, integral=upper == 1.0)
        self.penalties[variable] = penalty
        return {variable: 1.0}

    # the problem's parts

    def _place_vms(self) -> None:
        problem = self.problem
        for vm in range(len(problem.vms)):
            for place in range(len(problem.places)):
                variable = self.new(float(problem.allowed[vm, place]), integral=True)
                self.dollars[variable] = float(problem.dollars[vm, place])
                if problem.allowed[vm, place] and problem.penalty[vm, place] > 0:
                    self.penalties[variable] = float(problem.penalty[vm, place])
            self.add_row(
                {self.at(vm, place): 1.0 for place in range(len(problem.places))}, lower=1, upper=1
            )

    def _fit_capacities(self) -> None:
        problem = self.problem
        for place, resource in np.ndindex(problem.capacity.shape):
            # Memory in GiB: HiGHS wants coefficients of like size.
            unit = 1.0 if resource == 0 else float(1 << 30)
            terms = {
                self.at(vm, place): float(problem.needs[vm, resource]) / unit
                for vm in range(len(problem.vms))
                if problem.allowed[vm, place]
            }
            self.add_row(terms, upper=float(problem.capacity[place, resource]) / unit)

    def _charge_crossing(self, pair: int) -> None:
        problem = self.problem
        one, other = (int(vm) for vm in problem.pairs[pair])
        if not (problem.movable[one] or problem.movable[other]):
            split = problem.cloud[problem.home[one]] != problem.cloud[problem.home[other]]
            always = self.new()
            self.add_row({always: 1.0}, lower=float(split), upper=float(split))
            self.crossings[pair] = {always: 1.0}
            return
        by_sender = _by_sender(problem, pair)
        if by_sender is None:
            dollars = pair_dollars(problem, pair)
            self.crossings[pair] = self._charge_each_way(one, other, dollars)
            return
        forth, back = (float(rate) for rate in problem.rates[pair])
        split_terms: Terms = {}
        for cloud, price in enumerate(by_sender):
            leaves = self.new()
            present, also = self.inside(one, cloud), self.inside(other, cloud)
            self.add_row({leaves: 1.0} | _times(-1, present) | also, lower=0)
            # The other end leaves the cloud alone where `leaves - present + also` is 1.
            self.dollars[leaves] = (forth + back) * float(price)
            for terms, sign in ((present, -1.0), (also, 1.0)):
                for variable in terms:
                    self.dollars[variable] += sign * back * float(price)
            split_terms[leaves] = 1.0
        self.crossings[pair] = split_terms

    def _charge_each_way(self, one: int, other: int, dollars: NDArray[np.float64]) -> Terms:
        """Charge a pair by the clouds of both ends; return the expression that says that it's split."""
        clouds = range(len(dollars))
        homes = [
            {c: self.inside(vm, c) for c in clouds if self._may_be(vm, c)} for vm in (one, other)
        ]
        ways = {(a, b): self.new() for a, b in product(*homes)}
        for (a, b), variable in ways.items():
            self.dollars[variable] = float(dollars[a, b])
        for end, inside in enumerate(homes):
            for cloud, present in inside.items():
                these = {variable: 1.0 for way, variable in ways.items() if way[end] == cloud}
                self.add_row(these | _times(-1, present), lower=0, upper=0)
        return {variable: 1.0 for (a, b), variable in ways.items() if a != b}

    def _may_be(self, vm: int, cloud: int) -> bool:
        problem = self.problem
        return bool(problem.allowed[vm, problem.cloud == cloud].any())

    def _constrain(self, constraint: object) -> None:
        match constraint:
            case SameCloud(members=members, penalty=penalty):
                self._keep_in_one_cloud(members, penalty)
            case AtLeastClouds():
                self._spread(constraint)
            case AtMost(members=members, cloud=cloud, limit=limit, penalty=penalty):
                excess = self.slack(penalty, upper=float(len(members)))
                there: Terms = {}
                for vm in members:
                    there |= self.inside(vm, cloud)
                self.add_row(there | _times(-1, excess), upper=limit)
            case AllOrNone(members=members, penalty=penalty):
                broken = self.slack(penalty)
                for vm, following in _round(members):
                    self.add_row(
                        {self._stays(vm): 1.0, self._stays(following): -1.0} | _times(-1, broken),
                        upper=0,
                    )
            case CutLimit():
                self._limit_cut(constraint)
            case MoveLimit(members=members, limit=limit):
                stays = {self._stays(vm): 1.0 for vm in members}
                self.add_row(stays, lower=len(members) - limit)
            case LinkTime(members=members, place=place, seconds=seconds, limit=limit):
                busy = {self.at(vm, place): s for vm, s in zip(members, seconds, strict=True)}
                self.add_row(busy, upper=limit + NEGLIGIBLE_SECONDS)
            case SpendLimit(members=members, amounts=amounts, limit=limit):
                taken: Terms = {}
                for vm, row in zip(members, amounts, strict=True):
                    taken |= {
                        self.at(vm, k): amount / constraint.largest for k, amount in enumerate(row)
                    }
                self.add_row(taken, upper=limit / constraint.largest)
            case _:
                raise NotImplementedError(f"no rows for {constraint!r}")

    def _stays(self, vm: int) -> int:
        return self.at(vm, int(self.problem.home[vm]))

    def _keep_in_one_cloud(self, members: Indices, penalty: float) -> None:
        broken = self.slack(penalty)
        for vm, following in _round(members):
            for cloud in range(len(self.problem.egress)):
                apart = self.inside(vm, cloud) | _times(-1, self.inside(following, cloud))
                self.add_row(apart | _times(-1, broken), upper=0)

    def _spread(self, rule: AtLeastClouds) -> None:
        occupied: Terms = {}
        for cloud in range(len(self.problem.egress)):
            some = self.new()
            occupied[some] = 1.0
            members: Terms = {}
            for vm in rule.members:
                members |= self.inside(vm, cloud)
            self.add_row({some: 1.0} | _times(-1, members), upper=0)
        missing = self.slack(rule.penalty, upper=float(rule.minimum))
        self.add_row(occupied | missing, lower=rule.minimum)

    def _limit_cut(self, rule: CutLimit) -> None:
        rates = self.problem.rates.sum(axis=1)
        whole = float(rates[list(rule.pairs)].sum()) or 1.0
        crossing: Terms = {}
        for pair in rule.pairs:
            crossing |= _times(float(rates[pair]) / whole, self.crossings[pair])
        self.add_row(
            crossing | _times(-1, self.slack(rule.penalty)), upper=rule.bytes_per_second / whole
        )

    def _charge_delays(self) -> None:
        for delay in self.problem.delays:
            late = self.new(math.inf)
            self.dollars[late] = delay.dollars_per_hour_per_second
            stays = {
                self._stays(vm): seconds
                for vm, seconds in zip(delay.members, delay.seconds, strict=True)
            }
            self.add_row({late: 1.0} | stays, lower=sum(delay.seconds) - delay.slack_seconds)

    # solving

    def minimise(
        self, objective: Terms, seconds: float
    ) -> tuple[NDArray[np.float64] | None, bool, float | None]:
        """Return the values of all variables, whether they are proved to be the best, and the bound.

        There are no values where none were found, and there is no bound where none was proved.
        """
        from scipy.optimize import Bounds, LinearConstraint, milp
        from scipy.sparse import csr_array

        size = len(self.upper_bounds)
        entries = [(r, c, v) for r, row in enumerate(self.rows) for c, v in row[0].items()]
        at_row, at_column, value = (np.array(part) for part in zip(*entries, strict=True))
        matrix = csr_array((value, (at_row, at_column)), shape=(len(self.rows), size))
        result = milp(
            _dense(objective, size),
            integrality=np.array(self.integral),
            bounds=Bounds(0, np.array(self.upper_bounds)),
            constraints=LinearConstraint(
                matrix, [row[1] for row in self.rows], [row[2] for row in self.rows]
            ),
            options={"time_limit": seconds, "mip_rel_gap": 0.0},
        )
        least = result.mip_dual_bound
        known = least is not None and math.isfinite(least)
        return result.x, result.status == 0, float(least) if known else None

    def assignment(self, values: NDArray[np.float64]) -> Assignment:
        """Read the assignment off the values of the variables."""
        shape = (len(self.problem.vms), len(self.problem.places))
        presence = values[: shape[0] * shape[1]].reshape(shape)
        return np.asarray(presence.argmax(axis=1), dtype=np.int64)


def _by_sender(problem: Problem, pair: int) -> NDArray[np.float64] | None:
    """Return what each cloud asks for what it sends, where nothing else counts for a pair."""
    if len(problem.nearness) and problem.nearness[pair] and problem.latency.any():
        return None
    clouds = len(problem.egress)
    if clouds < 2:
        return np.zeros(clouds)
    elsewhere = problem.egress[~np.eye(clouds, dtype=np.bool_)].reshape(clouds, clouds - 1)
    return elsewhere[:, 0] if (elsewhere == elsewhere[:, :1]).all() else None


def _times(factor: float, terms: Terms) -> Terms:
    return {variable: factor * value for variable, value in terms.items()}


def _round(members: Indices) -> list[tuple[int, int]]:
    """Return each member with the next one, the last with the first."""
    return list(zip(members, members[1:] + members[:1], strict=True))


def _dense(terms: Terms, size: int) -> NDArray[np.float64]:
    vector = np.zeros(size)
    for variable, value in terms.items():
        vector[variable] = value
    return vector
