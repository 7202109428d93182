"""Problems of the planner as large instances: what is said is what was meant, and nothing false is claimed."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.property.test_plan import brute_force, problems
from transhume.plan import Problem
from transhume.plan.constraints import (
    Assignment,
    AtLeastClouds,
    AtMost,
    Constraint,
    CutLimit,
    LinkTime,
    MoveLimit,
    SameCloud,
)
from transhume.plan.scale.translate import MICRODOLLARS_PER_GB, translate, why_not

pytest.importorskip("numba", reason="the extra [fast]")

from transhume.plan.by_size import LargeSolver

UNHURRIED = (HealthCheck.too_slow, HealthCheck.filter_too_much)


@st.composite
def sayable(draw: st.DrawFn) -> Problem:
    """Any problem, without what a large instance can't say."""
    problem = draw(problems())
    clouds = len(problem.egress)
    egress = problem.egress
    nearness = problem.rates.sum(axis=1) * draw(st.sampled_from([0.0, 1e-4, 1e-2]))
    if not draw(st.booleans()):
        egress = np.rint(egress * 1e6) / MICRODOLLARS_PER_GB
    latency = problem.latency if len(problem.latency) else np.zeros((clouds, clouds))
    problem = replace(problem, egress=egress, nearness=nearness, latency=latency, delays=())
    rules = draw(st.lists(limits(problem), max_size=3))
    kept: tuple[Constraint, ...] = ()
    for rule in (*problem.constraints, *rules):
        soft = math.isfinite(rule.penalty)
        holds = not rule.excess(problem.terrain, problem.home)
        trial = replace(problem, constraints=(*kept, rule))
        if (soft or holds) and not why_not(trial):
            kept = trial.constraints
    return replace(problem, constraints=kept)


def limits(problem: Problem) -> st.SearchStrategy[Constraint]:
    """Limits over most of the VMs: those that a problem seldom has by chance."""
    vms, places = len(problem.vms), len(problem.places)
    members = st.sets(st.integers(0, vms - 1), min_size=1).map(lambda some: tuple(sorted(some)))
    at_home = st.integers(0, places - 1).map(
        lambda place: tuple(np.flatnonzero(problem.home == place).tolist())
    )
    kinds: list[st.SearchStrategy[Constraint]] = [
        st.builds(SameCloud, members=at_home),
        st.builds(MoveLimit, members=members, limit=st.integers(0, vms)),
        st.builds(AtLeastClouds, members=members, minimum=st.integers(1, 3)),
        st.builds(AtMost, members=members, cloud=st.integers(0, 1), limit=st.integers(0, vms)),
        st.builds(
            LinkTime,
            members=st.just(tuple(range(vms))),
            place=st.integers(0, places - 1),
            seconds=st.tuples(*[st.sampled_from([0.0, 0.1, 2.7])] * vms),
            limit=st.sampled_from([0.0, 0.3, 5.4, 100.0]),
        ),
    ]
    if len(problem.pairs):
        every = tuple(range(len(problem.pairs)))
        kinds.append(st.builds(CutLimit, pairs=st.just(every), bytes_per_second=st.floats(0, 40)))
    return st.one_of(kinds)


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
        if said.instance.feasible(assignment) and not breaks_more(problem, meant):
            told = said.instance.cost(assignment) / said.units_per_dollar
            assert abs(told - problem.cost(meant)) <= said.error + 1e-9


def breaks_more(problem: Problem, assignment: Assignment) -> bool:
    """Say whether anything is where it needn't be and shouldn't."""
    penalty = np.where(problem.allowed, problem.penalty, math.inf)
    there = penalty[np.arange(len(problem.vms)), assignment]
    return bool((there > penalty.min(axis=1) + 1e-12).any())


@settings(max_examples=examples(25), deadline=None, suppress_health_check=UNHURRIED)
@given(sayable())
def test_prices_in_whole_microdollars_stay_what_they_are(problem: Problem) -> None:
    egress = np.rint(problem.egress * 1e6) / MICRODOLLARS_PER_GB
    problem = replace(problem, egress=egress, nearness=np.zeros(0))
    said = translate(problem)
    price = said.instance.price
    egress = egress[np.ix_(problem.cloud, problem.cloud)]
    if not price.any():
        return
    unit = egress.max() / price.max()
    assert np.allclose(price * unit, egress, rtol=1e-12, atol=0.0)
    scale = said.instance.dearest / said.units_per_dollar + problem.rates.sum() * egress.max()
    assert said.error <= 1e-9 * scale


@settings(max_examples=examples(25), deadline=None, suppress_health_check=UNHURRIED)
@given(sayable())
def test_the_large_solver_is_never_worse_than_staying_and_claims_only_what_is_true(
    problem: Problem,
) -> None:
    solution = LargeSolver(seconds=0.02).solve(problem)
    least, best = brute_force(problem)
    assert problem.feasible(solution.assignment)
    assert solution.violation >= least - 1e-9
    home = (problem.violation(problem.home), problem.cost(problem.home))
    assert (solution.violation, solution.cost) <= home
    if solution.violation <= least + 1e-9:
        assert solution.cost >= best - 1e-9
    if solution.bound is not None:
        assert solution.violation <= least + 1e-9
        assert solution.bound <= best + 1e-9
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
