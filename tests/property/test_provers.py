"""The provers against brute force: each of them proves what is true, and only that."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.property.test_scale import instances, least_cost
from transhume.plan.prove.job import Answer, Job
from transhume.plan.prove.race import race
from transhume.plan.prove.relaxing import prove_by_relaxing
from transhume.plan.scale import Instance, certified_bound, solve
from transhume.plan.scale.solving import Effort

pytest.importorskip("pytoulbar2", reason="the extra [prove]")


def prove_by_branching(job: Job, report: Callable[[Answer], None]) -> None:
    """Ask toulbar2 as the planner does: in another process, since as a C++ library it may end its own."""
    for answer in race(job, ["toulbar2"]):
        report(answer)


PROVERS = pytest.mark.parametrize(
    "prover", [prove_by_branching, prove_by_relaxing], ids=["toulbar2", "highs"]
)
STARTS = st.sampled_from([Effort(rounds=1, cycles=1), Effort(rounds=40, cycles=1)])


def asked(instance: Instance, effort: Effort, *, from_home: bool) -> Job:
    outcome = solve(instance, effort=effort)
    known = instance.home if from_home else outcome.assignment
    return Job.of(instance, known, outcome.bound, outcome.certificate, 20.0)


@PROVERS
@settings(max_examples=examples(15), deadline=None)
@given(instances(most_vms=6), STARTS, st.booleans())
def test_the_last_answer_is_the_best_there_is(
    prover: object, instance: Instance, effort: Effort, from_home: bool
) -> None:
    answers: list[Answer] = []

    assert callable(prover)
    prover(asked(instance, effort, from_home=from_home), answers.append)

    best = least_cost(instance)
    costs = [instance.cost(np.array(answer.assignment)) for answer in answers]
    assert all(instance.feasible(np.array(answer.assignment)) for answer in answers)
    assert all(answer.bound <= best for answer in answers)
    assert costs == sorted(costs, reverse=True)
    assert answers[-1].proved
    assert costs[-1] == answers[-1].bound == best


@PROVERS
@settings(max_examples=examples(5), deadline=None)
@given(instances(least_vms=8))
def test_the_same_holds_for_eight_vms_in_three_clouds(prover: object, instance: Instance) -> None:
    answers: list[Answer] = []

    assert callable(prover)
    prover(asked(instance, Effort(rounds=5, cycles=1), from_home=True), answers.append)

    assert answers[-1].proved
    assert answers[-1].bound == least_cost(instance)


@settings(max_examples=examples(15), deadline=None)
@given(instances())
def test_a_job_survives_the_way_to_another_process(instance: Instance) -> None:
    job = asked(instance, Effort(rounds=1, cycles=1), from_home=False)

    arrived = Job.from_bytes(job.to_bytes())

    assert arrived.to_bytes() == job.to_bytes()
    assert (arrived.cost, arrived.bound, arrived.seconds) == (job.cost, job.bound, job.seconds)
    certificate = solve(instance, effort=Effort(rounds=1, cycles=1)).certificate
    assert certified_bound(arrived.instance, certificate) == certified_bound(instance, certificate)
