"""The proof by HiGHS, through SciPy: the instance as a mixed-integer program over the local polytope.

A 0/1 variable for each VM and cloud; for each pair a variable for each two clouds, which sum up to the ends'
variables. Where one end of a pair has no choice, what the pair costs is the other end's. The bound is as exact
as HiGHS's tolerances: a millionth of its objective's unit, which is scaled so that this is below one of money.
For micro-dollars, that is: an instance of finer units is proved to about 1e-11 of what it costs.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from transhume.plan.prove.job import Answer, Job
from transhume.plan.scale.instance import Instance, Integers

REPORTING_SECONDS = 0.7
"""HiGHS gives up this long before the deadline, so that its bound isn't lost."""
LARGEST_OBJECTIVE = 1e5
"""Beyond, HiGHS's tolerances aren't kept; below, a unit of money may be a smaller part of them."""


def prove_by_relaxing(job: Job, report: Callable[[Answer], None]) -> None:
    """Report the best assignment that HiGHS finds in its time, with its bound."""
    from scipy.optimize import Bounds, LinearConstraint, milp
    from scipy.sparse import csr_array

    program = LocalPolytope(job.instance)
    least = int(job.bound)
    scale = 1 / max(1.0, (abs(job.cost) + 1) / LARGEST_OBJECTIVE)
    shape = (len(program.limits), len(program.costs))
    result = milp(
        np.array(program.costs, dtype=np.float64) * scale,
        integrality=np.arange(shape[1]) < program.placed,
        bounds=Bounds(0, 1),
        constraints=LinearConstraint(
            csr_array((program.coefficients, (program.rows, program.columns)), shape=shape),
            *np.array(program.limits, dtype=np.float64).reshape(-1, 2).T,
        ),
        options={
            "time_limit": max(0.1, job.seconds - REPORTING_SECONDS),
            "mip_rel_gap": 0.0,
        },
    )
    best, cost = job.known, job.cost
    if result.x is not None:
        found = program.assignment(result.x)
        if job.instance.feasible(found) and job.instance.cost(found) < cost:
            best, cost = found, job.instance.cost(found)
    if result.mip_dual_bound is not None and np.isfinite(result.mip_dual_bound):
        least = max(least, int(np.floor(result.mip_dual_bound / scale)))
    proved = result.status == 0 and cost - least <= max(1, round(1e-5 / scale))
    told = cost if proved else min(least, cost)
    report(Answer(assignment=tuple(best.tolist()), bound=told, proved=proved))


@dataclass(slots=True)
class LocalPolytope:
    """The program under construction: a matrix by rows, columns and coefficients."""

    instance: Instance
    costs: list[int] = field(default_factory=list)
    """By variable; first those that say where a VM is."""
    rows: list[int] = field(default_factory=list)
    columns: list[int] = field(default_factory=list)
    coefficients: list[float] = field(default_factory=list)
    limits: list[tuple[float, float]] = field(default_factory=list)
    variable: Integers = field(init=False)
    """By VM and cloud; -1 where it may not be."""
    placed: int = field(init=False)

    def __post_init__(self) -> None:
        instance = self.instance
        self.placed = int(instance.allowed.sum())
        self.variable = np.full(instance.allowed.shape, -1)
        self.variable[instance.allowed] = np.arange(self.placed)
        self.costs += instance.unary[instance.allowed].tolist()
        for vm in range(instance.vm_count):
            here = self.variable[vm][instance.allowed[vm]]
            self._row(here, np.ones(len(here)), 1, 1)
        self._limit()
        for pair in range(len(instance.pairs)):
            self._charge(pair)

    def assignment(self, values: NDArray[np.float64]) -> Integers:
        """Read the assignment off the values of the variables."""
        presence = np.where(self.variable >= 0, values[self.variable], -1.0)
        return np.asarray(presence.argmax(axis=1), dtype=np.int64)

    def _row(
        self, columns: Integers, coefficients: NDArray[np.float64], least: float, most: float
    ) -> None:
        self.rows += [len(self.limits)] * len(columns)
        self.columns += columns.tolist()
        self.coefficients += coefficients.tolist()
        self.limits.append((least, most))

    def _limit(self) -> None:
        instance = self.instance
        for cloud, resource in np.ndindex(instance.capacity.shape):
            there = np.flatnonzero(instance.allowed[:, cloud])
            sizes, most = instance.size[there, resource], int(instance.capacity[cloud, resource])
            if sizes.sum() > most:
                # Scaled: HiGHS wants coefficients of like size, and memory may be in bytes.
                unit = max(1, int(sizes.max()) // 64)
                self._row(self.variable[there, cloud], sizes / unit, -np.inf, most / unit)
        away = instance.allowed & (np.arange(instance.cloud_count) != instance.home[:, None])
        vms, _ = np.nonzero(away)
        machines = instance.machines[vms].astype(np.float64)
        self._row(self.variable[away], machines, -np.inf, instance.move_limit)

    def _charge(self, pair: int) -> None:
        instance = self.instance
        one, other = instance.pairs[pair].tolist()
        forth, back = instance.traffic[pair].tolist()
        ones, others = (np.flatnonzero(instance.allowed[vm]) for vm in (one, other))
        costs = (forth * instance.price + back * instance.price.T)[np.ix_(ones, others)]
        here, there = self.variable[one, ones], self.variable[other, others]
        for cloud in np.intersect1d(ones, others).tolist() if instance.apart[pair] else ():
            both = self.variable[[one, other], cloud]
            self._row(both, np.ones(2), -np.inf, 1)
        if len(ones) == 1 or len(others) == 1:
            ends = there if len(ones) == 1 else here
            for column, cost in zip(ends.tolist(), costs.ravel().tolist(), strict=True):
                self.costs[column] += cost
        elif costs.any():
            split = len(self.costs) + np.arange(costs.size).reshape(costs.shape)
            self.costs += costs.ravel().tolist()
            for ends, sums in ((here, split), (there, split.T)):
                for end, parts in zip(ends, sums, strict=True):
                    signs = np.r_[-1.0, np.ones(len(parts))]
                    self._row(np.r_[end, parts], signs, 0, 0)
