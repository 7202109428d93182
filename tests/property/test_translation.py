"""Problems of the planner as large instances: what is said is what was meant, and nothing false is claimed."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.property.test_plan import brute_force, problems
from transhume.plan import Problem
from transhume.plan.constraints import MoveLimit, SameCloud
from transhume.plan.scale.translate import MICRODOLLARS_PER_GB, translate, why_not

pytest.importorskip("numba", reason="the extra [fast]")

from transhume.plan.by_size import LargeSolver

UNHURRIED = (HealthCheck.too_slow, HealthCheck.filter_too_much)


@st.composite
def sayable(draw: st.DrawFn) -> Problem:
    """Any problem, without what a large instance can't say."""
    problem = draw(problems())
    clouds = len(problem.places)
    egress, latency = (
        np.resize(each, (clouds, clouds)) * (1 - np.eye(clouds))
        for each in (problem.egress, problem.latency)
    )
    nearness = problem.rates.sum(axis=1) * draw(st.sampled_from([0.0, 1e-4, 1e-2]))
    if not draw(st.booleans()):
        egress = np.rint(egress * 1e6) / MICRODOLLARS_PER_GB
    together = draw(st.sets(st.integers(0, len(problem.vms) - 1)))
    at_home = tuple(
        sorted(vm for vm in together if problem.home[vm] == problem.home[min(together)])
    )
    everyone = tuple(range(len(problem.vms)))
    limit = draw(st.integers(0, len(everyone)))
    rules = (SameCloud(members=at_home), MoveLimit(members=everyone, limit=limit))
    return replace(
        problem,
        places=tuple(replace(place, doomed=False) for place in problem.places),
        cloud=np.arange(clouds),
        egress=egress,
        nearness=nearness,
        latency=np.maximum(latency, latency.T),
        penalty=np.zeros_like(problem.penalty),
        constraints=tuple(rule for rule in rules if draw(st.booleans())),
        delays=(),
    )


@settings(max_examples=examples(40), deadline=None, suppress_health_check=UNHURRIED)
@given(sayable())
def test_costs_and_limits_survive_the_translation(problem: Problem) -> None:
    said = translate(problem)
    vms = said.instance.vm_count
    for seed in range(10):
        rng = np.random.default_rng(seed)
        assignment = rng.integers(0, said.instance.cloud_count, vms)
        meant = said.back(assignment)
        assert said.instance.feasible(assignment) == problem.feasible(meant)
        if said.instance.feasible(assignment):
            told = said.instance.cost(assignment) / said.units_per_dollar
            assert abs(told - problem.cost(meant)) <= said.error + 1e-9


@settings(max_examples=examples(25), deadline=None, suppress_health_check=UNHURRIED)
@given(sayable())
def test_prices_in_whole_microdollars_stay_what_they_are(problem: Problem) -> None:
    egress = np.rint(problem.egress * 1e6) / MICRODOLLARS_PER_GB
    said = translate(replace(problem, egress=egress, nearness=np.zeros(0)))
    price = said.instance.price
    if not price.any():
        return
    unit = egress.max() / price.max()
    assert np.allclose(price * unit, egress, rtol=1e-12, atol=0.0)
    scale = problem.dollars.sum() + problem.rates.sum() * egress.max()
    assert said.error <= 1e-9 * scale


@settings(max_examples=60, deadline=None, suppress_health_check=UNHURRIED)
@given(sayable())
def test_the_large_solver_is_never_worse_than_staying_and_claims_only_what_is_true(
    problem: Problem,
) -> None:
    solution = LargeSolver(seconds=0.02).solve(problem)
    _, best = brute_force(problem)
    assert problem.feasible(solution.assignment)
    assert best - 1e-9 <= solution.cost <= problem.cost(problem.home)
    assert not solution.optimal or solution.cost <= best + 2e-6 * max(1.0, abs(best))
    again = LargeSolver(seconds=0.02).solve(problem)
    assert (again.assignment == solution.assignment).all()


@settings(max_examples=examples(25), deadline=None, suppress_health_check=UNHURRIED)
@given(problems())
def test_what_can_not_be_said_is_refused_not_ignored(problem: Problem) -> None:
    if why_not(problem):
        with pytest.raises(ValueError, match="this solver's words"):
            LargeSolver().solve(problem)
    else:
        said = translate(problem)
        assert said.instance.feasible(said.instance.home)
