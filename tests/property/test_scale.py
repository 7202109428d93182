"""The planner for thousands of VMs: what it proves is true, what it returns feasible, whatever the instance."""

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from transhume.plan.scale import Cases, Certificate, Instance, certified_bound, is_feasible

pytest.importorskip("numba", reason="the extra [fast]")

from transhume.plan.scale import Effort, solve
from transhume.plan.scale.gain_table import (
    State,
    may_go,
    move,
    relocation_cost,
    state_of,
    swap_cost,
    total_cost,
)
from transhume.plan.scale.lanes import interleaved
from transhume.plan.scale.level import level_of
from transhume.plan.scale.message_passing import field_of, lengthened, pass_messages
from transhume.plan.scale.price_classes import Prices, classes

EFFORT = Effort(rounds=30, cycles=1)
BY_CASES = Effort(rounds=3, cycles=0, splits=8)
"""So little before that there is much to split."""
MANY = settings(max_examples=examples(50), deadline=None)


@st.composite
def instances(
    draw: st.DrawFn, least_vms: int = 1, most_vms: int = 8, most_clouds: int = 3
) -> Instance:
    """Small instances of every kind: nothing talks, everything's tight, nobody may move, and what's between."""
    vms = draw(st.integers(least_vms, most_vms))
    clouds = draw(st.integers(1, most_clouds))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dear = 10 ** draw(st.integers(0, 9))
    home = chance.integers(0, clouds, vms)
    allowed = chance.random((vms, clouds)) < draw(st.sampled_from((0.3, 0.8, 1.0)))
    allowed[np.arange(vms), home] = True
    every = np.array([(a, b) for a in range(vms) for b in range(a + 1, vms)], np.int64)
    every = every.reshape(-1, 2)
    pairs = every[chance.random(len(every)) < draw(st.sampled_from((0.0, 0.3, 1.0)))]
    apart = (chance.random(len(pairs)) < 0.2) & (home[pairs[:, 0]] != home[pairs[:, 1]])
    price = chance.integers(0, 100, (clouds, clouds))
    np.fill_diagonal(price, 0)
    size = chance.integers(0, 9, (vms, 2))
    used = np.zeros((clouds, 2), dtype=np.int64)
    np.add.at(used, home, size)
    room = draw(st.sampled_from((0, 5, 50)))
    return Instance(
        unary=chance.integers(-dear, dear + 1, (vms, clouds)),
        allowed=allowed,
        pairs=pairs.astype(np.int64),
        traffic=chance.integers(0, dear // 20 + 2, (len(pairs), 2)),
        apart=apart,
        price=price,
        size=size,
        capacity=used + chance.integers(0, room + 1, used.shape),
        home=home,
        machines=chance.integers(1, 3, vms),
        move_limit=draw(st.sampled_from((0, vms // 2, 2 * vms))),
    )


def least_cost(instance: Instance) -> int:
    """Look at every assignment there is."""
    everywhere = product(range(instance.cloud_count), repeat=instance.vm_count)
    assignments = (np.array(each, dtype=np.int64) for each in everywhere)
    return min(instance.cost(each) for each in assignments if is_feasible(instance, each))


@MANY
@given(instances(most_vms=6))
def test_no_bound_is_above_the_best_and_no_plan_below_it_or_infeasible(instance: Instance) -> None:
    outcome = solve(instance, effort=EFFORT)
    best = least_cost(instance)
    assert outcome.bound <= best <= outcome.cost <= instance.cost(instance.home)
    assert outcome.bound == certified_bound(instance, outcome.evidence)
    assert is_feasible(instance, outcome.assignment)
    assert instance.feasible(outcome.assignment)
    assert outcome.cost == instance.cost(outcome.assignment)
    assert not outcome.optimal or outcome.cost == best


@settings(max_examples=examples(12), deadline=None)
@given(instances(least_vms=7))
def test_the_same_holds_for_eight_vms(instance: Instance) -> None:
    outcome = solve(instance, effort=EFFORT)
    assert outcome.bound <= least_cost(instance) <= outcome.cost


@MANY
@given(instances(most_vms=6))
def test_no_proof_by_cases_is_above_the_best_nor_below_the_proof_without(
    instance: Instance,
) -> None:
    outcome = solve(instance, effort=BY_CASES)
    assert certified_bound(instance, outcome.certificate) <= outcome.bound
    assert outcome.bound == certified_bound(instance, outcome.evidence)
    assert outcome.bound <= least_cost(instance) <= outcome.cost


@settings(max_examples=examples(15), deadline=None)
@given(instances(), st.integers(0, 5))
def test_the_same_seed_distinguishes_the_same_cases(instance: Instance, seed: int) -> None:
    one, other = (solve(instance, seed=seed, effort=BY_CASES).evidence for _ in range(2))
    assert _told(one) == _told(other)


def _told(evidence: Cases | Certificate) -> list[object]:
    """Return all that evidence says, in order."""
    if isinstance(evidence, Cases):
        halves = _told(evidence.inside) + _told(evidence.outside)
        return [evidence.vm, evidence.clouds.tolist(), *halves]
    return [evidence.room_price.tolist(), evidence.move_price, evidence.messages.tolist()]


@MANY
@given(instances(most_vms=5), st.integers(0, 2**32 - 1))
def test_whatever_cases_are_distinguished_nothing_false_is_proved(
    instance: Instance, seed: int
) -> None:
    """Even in the wrong order, or by clouds where the VM can't be, or by all or none of them."""
    chance = np.random.default_rng(seed)
    known = [solve(instance, effort=Effort(rounds=n, cycles=0)).certificate for n in (1, 30)]

    def evidence(depth: int) -> Cases | Certificate:
        if not depth:
            return known[int(chance.integers(2))]
        return Cases(
            vm=int(chance.integers(instance.vm_count)),
            clouds=chance.random(instance.cloud_count) < 0.5,
            inside=evidence(int(chance.integers(depth))),
            outside=evidence(int(chance.integers(depth))),
        )

    assert certified_bound(instance, evidence(4)) <= least_cost(instance)


@MANY
@given(instances(most_vms=5), st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_whatever_prices_and_messages_say_nothing_false_is_proved(
    instance: Instance, seed: int, magnitude: int
) -> None:
    """Found prices and messages, changed at random: the checker may find less, never too much."""
    found = solve(instance, effort=EFFORT).certificate
    chance = np.random.default_rng(seed)
    span = 2**magnitude
    changed = replace(
        found,
        room_price=np.maximum(
            0, found.room_price + chance.integers(-span, span, found.room_price.shape)
        ),
        move_price=max(0, found.move_price + int(chance.integers(-span, span))),
        messages=found.messages + chance.integers(-span, span, found.messages.shape),
    )
    try:
        bound = certified_bound(instance, changed)
    except ValueError:
        return  # refused, because sums of such numbers could overflow
    assert bound <= least_cost(instance)


@MANY
@given(instances(most_vms=8, most_clouds=4), st.data())
def test_the_gain_table_tells_what_counting_anew_tells(
    instance: Instance, data: st.DataObject
) -> None:
    level = level_of(instance)
    state = state_of(level, instance.home)
    for _ in range(6):
        one = data.draw(st.integers(0, instance.vm_count - 1))
        cloud = data.draw(st.integers(0, instance.cloud_count - 1))
        before = instance.cost(state.assignment)
        after = state.assignment.copy()
        after[one] = cloud
        assert relocation_cost(state, one, cloud) == instance.cost(after) - before
        _check_swap(instance, state, one, data.draw(st.integers(0, instance.vm_count - 1)))
        strict = instance.pairs[instance.apart]
        mates = [int(b if a == one else a) for a, b in strict if one in (a, b)]
        free = instance.allowed[one, cloud] and all(state.assignment[m] != cloud for m in mates)
        if cloud != state.assignment[one]:
            assert may_go(level, state, one, cloud, -1) == free
        move(level, state, one, cloud)
        assert total_cost(level, state) == instance.cost(after)
        for kept, anew in zip(state, state_of(level, after), strict=True):
            assert np.array_equal(kept, anew)


def _check_swap(instance: Instance, state: State, one: int, other: int) -> None:
    here, there = state.assignment[[one, other]]
    if here == there:
        return
    after = state.assignment.copy()
    after[[one, other]] = there, here
    rise = instance.cost(after) - instance.cost(state.assignment)
    assert swap_cost(level_of(instance), state, one, other) == rise


@settings(max_examples=examples(8), deadline=None)
@given(instances(), st.integers(0, 5))
def test_the_same_seed_gives_the_same_result(instance: Instance, seed: int) -> None:
    one, other = (solve(instance, seed=seed, effort=EFFORT) for _ in range(2))
    assert np.array_equal(one.assignment, other.assignment)
    assert one.bound == other.bound
    assert np.array_equal(one.certificate.messages, other.certificate.messages)


@st.composite
def priced_by_class(draw: st.DrawFn) -> Instance:
    """Instances whose clouds' prices depend on the clouds' classes only."""
    instance = draw(instances(most_clouds=7))
    chance = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    count = draw(st.integers(1, 3))
    group = chance.integers(0, count, instance.cloud_count)
    price = chance.integers(0, 100, (count, count))[group[:, None], group]
    np.fill_diagonal(price, 0)
    return replace(instance, price=price)


@MANY
@given(priced_by_class())
def test_messages_by_class_are_those_by_cloud(instance: Instance) -> None:
    level = level_of(instance)
    by_class = field_of(level, 1e6, instance.home)
    dense = by_class._replace(
        prices=Prices(np.zeros(0, dtype=np.int64), interleaved(level.price, level.price.T)),
        messages=np.zeros_like(by_class.messages),
        decoded=instance.home.copy(),
    )
    for _ in range(3):
        assert pass_messages(by_class) == pytest.approx(pass_messages(dense), rel=1e-9, abs=1e-6)
        assert np.allclose(by_class.messages, dense.messages, rtol=1e-9, atol=1e-6)


@MANY
@given(instances())
def test_short_messages_prove_about_what_long_ones_do(instance: Instance) -> None:
    level = level_of(instance)
    short, exact = (field_of(level, 1e6, instance.home, short=each) for each in (True, False))
    for _ in range(3):
        about = pass_messages(short)
        assert about == pytest.approx(pass_messages(exact), rel=1e-4, abs=1.0)
    assert lengthened(exact) is exact
    assert lengthened(short).messages.dtype == np.float64


@MANY
@given(priced_by_class())
def test_clouds_of_a_class_can_change_names(instance: Instance) -> None:
    """Swapping two clouds of a class leaves the matrix of prices as it was."""
    group = classes(instance.price.astype(np.float64))
    clouds = np.arange(instance.cloud_count)
    for one in clouds:
        for other in clouds[group == group[one]]:
            swapped = clouds.copy()
            swapped[[one, other]] = other, one
            assert np.array_equal(instance.price[swapped][:, swapped], instance.price)
