"""The whole of it on instances that are too large to be counted out, and what it doesn't do."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.instances import make_instance
from transhume.plan.scale import Effort, Instance, certified_bound, is_feasible

pytest.importorskip("numba", reason="the extra [fast]")

from transhume.plan.scale import solve
from transhume.plan.scale.descent import repair
from transhume.plan.scale.grouping import match
from transhume.plan.scale.level import level_of, merged
from transhume.plan.scale.price_classes import classes


@pytest.fixture(scope="module")
def hundred() -> Instance:
    return make_instance(100, 5, seed=3)


def test_a_hundred_vms_are_placed_within_a_few_percent_of_the_proved_bound(
    hundred: Instance,
) -> None:
    outcome = solve(hundred, seed=1, effort=Effort(rounds=150, cycles=10))
    assert is_feasible(hundred, outcome.assignment)
    assert outcome.bound == certified_bound(hundred, outcome.evidence)
    assert outcome.gap < 0.08
    assert outcome.cost < 0.9 * hundred.cost(hundred.home)


def test_clouds_of_a_provider_and_region_are_found_alike_and_solved_as_well() -> None:
    like = make_instance(100, 10, seed=1, like_clouds=True)
    assert len(set(classes(like.price.astype(np.float64)).tolist())) < 8
    outcome = solve(like, seed=1, effort=Effort(rounds=100, cycles=5))
    assert is_feasible(like, outcome.assignment)
    assert outcome.bound == certified_bound(like, outcome.certificate)
    assert outcome.gap < 0.1


def test_distinguishing_cases_proves_more_than_prices_alone(hundred: Instance) -> None:
    plain, by_cases = (
        solve(hundred, seed=1, effort=Effort(rounds=150, cycles=2, splits=n)) for n in (0, 12)
    )
    assert plain.bound < by_cases.bound == certified_bound(hundred, by_cases.evidence)
    assert plain.bound == certified_bound(hundred, by_cases.certificate)


def test_how_threads_take_turns_changes_nothing(hundred: Instance) -> None:
    effort = Effort(rounds=60, early_cycles=2, cycles=5, splits=4)
    before = sys.getswitchinterval()
    usual = solve(hundred, seed=4, effort=effort)
    try:
        sys.setswitchinterval(1e-6)
        hasty = solve(hundred, seed=4, effort=effort)
    finally:
        sys.setswitchinterval(before)
    assert np.array_equal(usual.assignment, hasty.assignment)
    assert (usual.cost, usual.bound) == (hasty.cost, hasty.bound)


def test_more_effort_proves_no_less(hundred: Instance) -> None:
    little, more = (solve(hundred, effort=Effort(rounds=n, cycles=0)).bound for n in (3, 60))
    assert little < more


def test_when_time_is_up_it_returns_what_it_has(hundred: Instance) -> None:
    outcome = solve(hundred, spent=lambda: 1.0)
    assert (outcome.rounds, outcome.cycles) == (2, 0)
    assert is_feasible(hundred, outcome.assignment)


def test_where_nobody_may_move_staying_is_proved_the_best(hundred: Instance) -> None:
    pinned = np.arange(hundred.cloud_count) == hundred.home[:, None]
    outcome = solve(replace(hundred, allowed=pinned))
    assert outcome.optimal
    assert (outcome.assignment == hundred.home).all()


def test_merging_changes_neither_costs_nor_limits(hundred: Instance) -> None:
    level = level_of(hundred)
    order = np.random.default_rng(5).permutation(hundred.vm_count)
    group, groups = match(level, hundred.home, level.capacity.max(axis=0), order)
    coarse = merged(level, group, groups)
    assert groups < hundred.vm_count
    where = np.zeros(groups, dtype=np.int64)
    where[group] = hundred.home
    everyone = np.arange(groups)
    crossing = 0.5 * sum(
        coarse.sent[slot] * coarse.price[where[node], where[coarse.other[slot]]]
        + coarse.received[slot] * coarse.price[where[coarse.other[slot]], where[node]]
        for node in everyone
        for slot in range(coarse.start[node], coarse.start[node + 1])
    )
    total = coarse.unary[everyone, where].sum() + crossing
    assert total == hundred.cost(hundred.home)
    assert (coarse.size.sum(axis=0) == hundred.size.sum(axis=0)).all()
    assert coarse.allowed[everyone, where].all()
    assert not coarse.moved[everyone, where].any()


def test_repair_brings_back_those_that_are_too_many(hundred: Instance) -> None:
    chance = np.random.default_rng(7)
    for _ in range(5):
        broken = hundred.home.copy()
        who = chance.permutation(hundred.vm_count)[:80]
        for vm in who:
            broken[vm] = chance.choice(np.flatnonzero(hundred.allowed[vm]))
        mended = repair(level_of(hundred), broken, hundred.home)
        assert (mended != hundred.home).sum() <= (broken != hundred.home).sum()


def test_planning_small_clusters_does_not_load_numba() -> None:
    code = "import sys, transhume.plan, transhume.plan.scale; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
