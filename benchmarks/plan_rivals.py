"""Other ways to plan the same instances: CP-SAT, HiGHS, and METIS's partition, alone and as our search's start.

Each runs in a process of its own (`python -m benchmarks.plan_rivals cp-sat 100 6 1 30`), because OR-Tools and
SciPy each bring a copy of HiGHS, and because one that needs too much memory must not end the benchmark. It
prints one line of JSON: the assignment that it found, if any, what it took, and a word on it.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from benchmarks.instances import make_instance
from transhume.plan.prove.job import Answer, Job
from transhume.plan.prove.proving import empty_certificate
from transhume.plan.prove.relaxing import prove_by_relaxing
from transhume.plan.scale import Instance
from transhume.plan.scale.descent import descend, repair
from transhume.plan.scale.level import level_of
from transhume.plan.scale.search import Search, improve

Assignment = NDArray[np.int64]
SWEEPS = 1000
WORKERS = 2
SHARPEST = 10_000
"""METIS counts in 32 bits: weights of edges are scaled so that the heaviest is this."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a rival came to."""

    assignment: Assignment | None
    seconds: float
    building_seconds: float = 0.0
    """Making the model, where that isn't in its seconds."""
    note: str = ""


Rival = Callable[[Instance, int, float], Found]


def cp_sat(instance: Instance, seed: int, seconds: float) -> Found:
    """Ask CP-SAT: a Boolean for each VM and cloud, one for each pair and two clouds; home is its hint."""
    from ortools.sat.python import cp_model

    began = time.monotonic()
    model = cp_model.CpModel()
    vms, clouds = instance.vm_count, instance.cloud_count
    place = [[model.new_bool_var("") for _ in range(clouds)] for _ in range(vms)]
    for vm, row in enumerate(place):
        model.add_exactly_one(row)
        for cloud, there in enumerate(row):
            model.add_hint(there, int(instance.home[vm] == cloud))
            if not instance.allowed[vm, cloud]:
                model.add(there == 0)
    for cloud, resource in np.ndindex(instance.capacity.shape):
        sizes = instance.size[:, resource].tolist()
        used = cp_model.LinearExpr.weighted_sum([row[cloud] for row in place], sizes)
        model.add(used <= int(instance.capacity[cloud, resource]))
    moves = [place[vm][k] for vm in range(vms) for k in range(clouds) if k != instance.home[vm]]
    machines = np.repeat(instance.machines, clouds - 1).tolist()
    model.add(cp_model.LinearExpr.weighted_sum(moves, machines) <= instance.move_limit)
    terms, costs = [each for row in place for each in row], instance.unary.ravel().tolist()
    for pair, (one, other) in enumerate(instance.pairs.tolist()):
        forth, back = instance.traffic[pair].tolist()
        both = [[model.new_bool_var("") for _ in range(clouds)] for _ in range(clouds)]
        for k in range(clouds):
            model.add(sum(both[k]) == place[one][k])
            model.add(sum(row[k] for row in both) == place[other][k])
            if instance.apart[pair]:
                model.add(both[k][k] == 0)
        terms += [each for row in both for each in row]
        costs += (forth * instance.price + back * instance.price.T).ravel().tolist()
    model.minimize(cp_model.LinearExpr.weighted_sum(terms, costs))
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = seconds
    solver.parameters.num_workers = WORKERS
    solver.parameters.random_seed = seed
    built = time.monotonic()
    status = solver.solve(model)
    took = time.monotonic() - built
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Found(assignment=None, seconds=took, building_seconds=built - began)
    values = [[solver.boolean_value(each) for each in row] for row in place]
    return Found(
        assignment=np.array(values).argmax(axis=1),
        seconds=took,
        building_seconds=built - began,
        note="optimal" if status == cp_model.OPTIMAL else "",
    )


def highs(instance: Instance, _seed: int, seconds: float) -> Found:
    """Ask HiGHS through SciPy, by the same formulation, without telling it what we know."""
    job = Job.of(instance, instance.home, 0, empty_certificate(instance), seconds)
    answers: list[Answer] = []
    began = time.monotonic()
    prove_by_relaxing(job, answers.append)
    took = time.monotonic() - began
    found = np.array(answers[-1].assignment)
    if (found == instance.home).all():
        return Found(assignment=None, seconds=took)
    note = "optimal" if answers[-1].proved else ""
    return Found(assignment=found, seconds=took, note=note)


def metis(instance: Instance, seed: int, _seconds: float) -> Found:
    """Cut the traffic's graph with METIS, give each part a cloud, repair, and go downhill."""
    began = time.monotonic()
    level = level_of(instance)
    start = repair(level, permitted(instance, partition(instance, seed)), instance.home)
    if instance.feasible(start):
        order = np.random.default_rng(seed).permutation(instance.vm_count)
        start = descend(level, start, SWEEPS, order)
    return Found(assignment=start, seconds=time.monotonic() - began)


def metis_searched(instance: Instance, seed: int, seconds: float) -> Found:
    """Begin our own search with METIS's parts instead of what the dual suggests.

    It knows what going downhill from home leads to, as ours does, and keeps that if METIS leads to no better.
    """
    began = time.monotonic()
    search = Search.from_home(instance, level_of(instance), seed=seed)
    search.follow(_Suggestion(instance, partition(instance, seed)))
    improve(search, cycles=1_000_000, enough=lambda: time.monotonic() - began >= seconds)
    return Found(assignment=search.best, seconds=time.monotonic() - began)


class _Suggestion:
    """Stands where the dual stands: tells where to begin, and no prices."""

    def __init__(self, instance: Instance, decoded: Assignment) -> None:
        self.decoded = decoded
        self.room_price = np.zeros(instance.capacity.shape)
        self.move_price = 0.0


def partition(instance: Instance, seed: int) -> Assignment:
    """Return METIS's parts as clouds: as large as the clouds are, by vCPUs, each where its VMs cost least."""
    import pymetis
    from scipy.optimize import linear_sum_assignment

    talking = instance.traffic.sum(axis=1) > 0
    pairs, weight = instance.pairs[talking], instance.traffic[talking].sum(axis=1)
    weight = np.maximum(1, weight * SHARPEST // max(1, int(weight.max(initial=1))))
    ends = np.r_[pairs, pairs[:, ::-1]]
    order = np.lexsort((ends[:, 1], ends[:, 0]))
    start = np.r_[0, np.cumsum(np.bincount(ends[:, 0], minlength=instance.vm_count))]
    options = pymetis.Options()
    options.seed = seed
    room = instance.capacity[:, 0].astype(np.float64)
    _, parts = pymetis.part_graph(
        instance.cloud_count,
        pymetis.CSRAdjacency(start.tolist(), ends[order, 1].tolist()),
        vweights=instance.size[:, 0].tolist(),
        eweights=np.r_[weight, weight][order].tolist(),
        tpwgts=(room / room.sum()).tolist(),
        options=options,
    )
    part = np.array(parts, dtype=np.int64)
    dear = np.where(instance.allowed, instance.unary, 2 * int(instance.unary.max()))
    costs = np.zeros((instance.cloud_count, instance.cloud_count))
    np.add.at(costs, part, dear)
    _, cloud = linear_sum_assignment(costs)
    return np.asarray(cloud, dtype=np.int64)[part]


def permitted(instance: Instance, suggested: Assignment) -> Assignment:
    """Return a suggestion with VMs at home that may not be there, or not beside each other."""
    found = suggested.copy()
    wrong = ~instance.allowed[np.arange(instance.vm_count), found]
    found[wrong] = instance.home[wrong]
    strict = instance.pairs[instance.apart]
    while True:
        clashing = np.unique(strict[found[strict[:, 0]] == found[strict[:, 1]]])
        if not len(clashing):
            return found
        found[clashing] = instance.home[clashing]


RIVALS: dict[str, Rival] = {
    "cp-sat": cp_sat,
    "highs": highs,
    "metis": metis,
    "metis-searched": metis_searched,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("rival", choices=sorted(RIVALS))
    parser.add_argument("vms", type=int)
    parser.add_argument("clouds", type=int)
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    asked = parser.parse_args()
    instance = make_instance(asked.vms, asked.clouds, seed=asked.seed)
    if asked.rival.startswith("metis"):  # compiling isn't measured
        RIVALS[asked.rival](make_instance(40, 4, seed=0), 0, 0.1)
    found = RIVALS[asked.rival](instance, asked.seed, asked.seconds)
    told = {
        "assignment": None if found.assignment is None else found.assignment.tolist(),
        "seconds": found.seconds,
        "building_seconds": found.building_seconds,
        "note": found.note,
    }
    print(json.dumps(told))


if __name__ == "__main__":
    main()
