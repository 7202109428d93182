"""Finds the best assignment of an instance and proves it, where that is possible within some seconds.

A quick search finds a good assignment and a certified bound: the large solver's where Numba (the extra
`[fast]`) is there, else going downhill from home. Where that doesn't prove itself the provers are let loose.

What is guaranteed: with a proof, the cost is always the same. So is the assignment where the search had found
one of that cost, and mostly it has. Otherwise it is a prover's; if several assignments are equally cheap it may
depend on which prover was the first. Without a proof, what was found by the deadline depends on the clock.
"""

from dataclasses import dataclass, replace
from importlib.util import find_spec

import numpy as np

from transhume.plan.prove.job import Answer, Job
from transhume.plan.prove.race import race
from transhume.plan.scale.certificate import Certificate, certified_bound, is_feasible
from transhume.plan.scale.instance import Instance, Integers

MOST_BRANCHING = 120
"""VMs up to which toulbar2 is worth its processor."""
SEARCH_SHARE, SEARCH_SECONDS_PER_VM = 0.25, 0.01
"""What the search may take before the provers begin: of the time, and for each VM at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """A feasible assignment, and how good it is at least."""

    assignment: Integers
    cost: int
    bound: int
    """No assignment costs less: certified, or a prover says so."""

    @property
    def optimal(self) -> bool:
        """Whether nothing can be cheaper."""
        return self.bound >= self.cost


def prove(instance: Instance, *, seconds: float, seed: int = 1) -> Proof:
    """Return the best assignment that is found within about so many seconds, with what was proved of it."""
    known, certificate = _searched(instance, seconds, seed)
    bound = certified_bound(instance, certificate)
    proof = Proof(assignment=known, cost=instance.cost(known), bound=bound)
    if proof.optimal:
        return proof
    answers = race(Job.of(instance, known, bound, certificate, seconds), _provers(instance))
    return _judged(instance, proof, answers)


def _judged(instance: Instance, proof: Proof, answers: list[Answer]) -> Proof:
    """Return the best of what was found and proved; an answer that can't be true is left out."""
    best, cost, bound = proof.assignment, proof.cost, proof.bound
    for answer in answers:
        found = np.array(answer.assignment, dtype=np.int64)
        if is_feasible(instance, found) and answer.bound <= instance.cost(found):
            bound = max(bound, answer.bound)
            if instance.cost(found) < cost:
                best, cost = found, instance.cost(found)
    return Proof(assignment=best, cost=cost, bound=min(bound, cost))


def _provers(instance: Instance) -> list[str]:
    """Return who is worth asking; what is before another is preferred."""
    branching = instance.vm_count <= MOST_BRANCHING and find_spec("pytoulbar2") is not None
    return ["toulbar2", "highs"] if branching else ["highs"]


def _searched(instance: Instance, seconds: float, seed: int) -> tuple[Integers, Certificate]:
    if find_spec("numba") is None:
        return _downhill(instance), empty_certificate(instance)
    from transhume.plan.scale.solving import effort_within, solve

    enough = min(SEARCH_SHARE * seconds, SEARCH_SECONDS_PER_VM * instance.vm_count)
    effort = replace(effort_within(instance, enough), splits=0)
    outcome = solve(instance, seed=seed, effort=effort)
    return outcome.assignment, outcome.certificate


def empty_certificate(instance: Instance) -> Certificate:
    """Return the certificate of somebody who has reckoned nothing: valid, and weak."""
    pairs, clouds = len(instance.pairs), instance.cloud_count
    return Certificate(
        fraction_bits=0,
        room_price=np.zeros_like(instance.capacity),
        move_price=0,
        messages=np.zeros((pairs, 2, clouds), dtype=np.int64),
    )


def _downhill(instance: Instance) -> Integers:
    """Move VMs one at a time to where that saves most, from home, until nothing saves anything."""
    best = instance.home.copy()
    cost, improved = instance.cost(best), True
    while improved:
        improved = False
        for vm in range(instance.vm_count):
            for cloud in np.flatnonzero(instance.allowed[vm]).tolist():
                tried = best.copy()
                tried[vm] = cloud
                if instance.cost(tried) < cost and instance.feasible(tried):
                    best, cost, improved = tried, instance.cost(tried), True
    return best
