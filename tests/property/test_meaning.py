"""What traffic means depends on the traffic alone: not on the order of VMs, the unit of bytes, or chance."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tests.effort import examples
from tests.unit.analyze.drawn_shapes import (
    Weights,
    all_to_all,
    all_to_all_in_steps,
    butterfly,
    disturbed,
    grid,
    master_worker,
    one_way,
    pairs,
    pipeline,
    placed,
    random_sparse,
    ring,
)
from tests.unit.analyze.series_of_traffic import series_of
from tests.unit.analyze.traffic import START, matrix_of
from transhume.analyze import (
    compare,
    exponential_view,
    find_groups,
    find_pattern,
    find_patterns,
    find_phases,
    forecast,
    sliding_view,
    watch,
)
from transhume.analyze.grouping.condensing import condensed_groups
from transhume.analyze.ties import Ties, members_of
from transhume.knowledge.model import (
    CloudName,
    CommunicationMatrix,
    MatrixSeries,
    PatternKind,
    PriceTick,
    Snapshot,
    VmName,
)

SEEDS = st.integers(0, 2**32 - 1)
POWERS = st.sampled_from([8, 16, 32, 64])
COUNTS = st.integers(6, 64)


@st.composite
def shapes(draw: st.DrawFn) -> tuple[Weights, PatternKind]:
    """Draw a clear shape of any size, with what it is."""
    count, power, random = draw(COUNTS), draw(POWERS), np.random.default_rng(draw(SEEDS))
    rows, columns = draw(st.integers(3, 6)), draw(st.integers(3, 9))
    closed = draw(st.booleans()), draw(st.booleans())
    if closed == (True, True) and (rows, columns) == (4, 4):
        closed = (True, False)
    drawn: tuple[Weights, PatternKind] = draw(
        st.sampled_from(
            [
                (all_to_all(count), PatternKind.ALL_TO_ALL),
                (all_to_all_in_steps(count), PatternKind.ALL_TO_ALL),
                (ring(count), PatternKind.RING),
                (one_way(ring(count)), PatternKind.RING),
                (pipeline(count), PatternKind.PIPELINE),
                (one_way(pipeline(count)), PatternKind.PIPELINE),
                (pairs(count // 2 * 2), PatternKind.PAIRS),
                (master_worker(count, random), PatternKind.MASTER_WORKER),
                (butterfly(power), PatternKind.BUTTERFLY),
                (butterfly(power, growth=2.0), PatternKind.BUTTERFLY),
                (
                    grid(rows, columns, rows_close=closed[0], columns_close=closed[1]),
                    PatternKind.GRID,
                ),
            ]
        )
    )
    return drawn


def squares(most: int) -> st.SearchStrategy[Weights]:
    """Draw any square array of bytes, sparse or not, of any size up to one."""
    numbers = st.one_of(st.just(0), st.integers(0, 10), st.integers(0, 10**12))
    return st.integers(1, most).flatmap(
        lambda count: arrays(np.int64, (count, count), elements=numbers)
    )


SQUARES = squares(9)


def series_strategy(most: int = 12) -> st.SearchStrategy[MatrixSeries]:
    window = arrays(np.int64, (4, 4), elements=st.one_of(st.just(0), st.integers(0, 10**9)))
    return st.lists(window, min_size=1, max_size=most).map(series_of)


# --- patterns ----------------------------------------------------------------------------------------


@settings(max_examples=examples(150), deadline=None)
@given(drawn=shapes(), seed=SEEDS)
def test_a_shape_is_named_wherever_its_ranks_are_among_chatter(
    drawn: tuple[Weights, PatternKind], seed: int
) -> None:
    """Links up to 30 % heavier or lighter, and a twentieth of all bytes between any two."""
    shape, kind = drawn
    random = np.random.default_rng(seed)
    weights = placed(disturbed(shape, random), random.permutation(len(shape)))

    assert find_pattern(matrix_of(weights * 1e6)).kind == kind


@settings(max_examples=examples(100), deadline=None)
@given(drawn=shapes(), seed=SEEDS)
def test_name_and_score_don_t_depend_on_the_order_of_the_vms(
    drawn: tuple[Weights, PatternKind], seed: int
) -> None:
    random = np.random.default_rng(seed)
    weights = np.floor(disturbed(drawn[0], random) * 1e6)
    order = random.permutation(len(weights))

    one, other = find_pattern(matrix_of(weights)), find_pattern(matrix_of(placed(weights, order)))

    assert one.kind == other.kind
    assert one.score == pytest.approx(other.score)


@settings(max_examples=examples(100), deadline=None)
@given(seed=SEEDS, count=st.integers(12, 48), degree=st.integers(2, 4))
def test_a_random_sparse_graph_has_no_shape(seed: int, count: int, degree: int) -> None:
    random = np.random.default_rng(seed)
    weights = disturbed(random_sparse(count, degree, random), random)

    assert find_pattern(matrix_of(weights * 1e6)).kind == PatternKind.NONE


@settings(max_examples=examples(200), deadline=None)
@given(weights=SQUARES)
def test_any_traffic_has_a_pattern_over_its_vms(weights: Weights) -> None:
    matrix = matrix_of(weights)

    pattern = find_pattern(matrix)

    assert 0.0 <= pattern.score <= 1.0
    assert len(set(pattern.vms)) == len(pattern.vms)
    assert set(pattern.vms) <= set(matrix.vms)


# --- groups ------------------------------------------------------------------------------------------


@st.composite
def crowds(draw: st.DrawFn) -> tuple[Weights, list[int]]:
    """Draw a few groups that are clear among chatter, and their sizes."""
    sizes = draw(st.lists(st.integers(3, 12), min_size=1, max_size=5))
    random = np.random.default_rng(draw(SEEDS))
    rates = 10 ** random.uniform(4, 6, len(sizes))
    weights = np.zeros((sum(sizes), sum(sizes)))
    bounds = np.cumsum([0, *sizes])
    for (first, end), rate in zip(pairwise(bounds.tolist()), rates, strict=True):
        inside = random.uniform(0.5, 1.5, (end - first, end - first)) * rate
        weights[first:end, first:end] = inside * (1 - np.eye(end - first))
    own = weights.sum(axis=1)
    between = random.exponential(0.02, weights.shape) * np.minimum.outer(own, own) / len(weights)
    return np.where(weights > 0, weights, between * (1 - np.eye(len(weights)))), sizes


def planted(sizes: Sequence[int]) -> set[frozenset[int]]:
    bounds = np.cumsum([0, *sizes]).tolist()
    return {frozenset(range(first, end)) for first, end in pairwise(bounds)}


@settings(max_examples=examples(60), deadline=None)
@given(drawn=crowds(), seed=SEEDS)
def test_planted_groups_are_found_in_any_order_of_the_vms(
    drawn: tuple[Weights, list[int]], seed: int
) -> None:
    weights, sizes = drawn
    order = np.random.default_rng(seed).permutation(len(weights))
    rank_of = {int(vm): rank for rank, vm in enumerate(order)}

    groups = find_groups(matrix_of(placed(weights, order)))

    found = {frozenset(rank_of[int(vm[2:])] for vm in group.vms) for group in groups}
    assert found == planted(sizes)
    assert all(group.confidence > 0.9 for group in groups)


@settings(max_examples=examples(60), deadline=None)
@given(drawn=crowds())
def test_the_way_for_thousands_of_vms_finds_the_same_groups(
    drawn: tuple[Weights, list[int]],
) -> None:
    weights, sizes = drawn
    label = condensed_groups(Ties.of_matrix(matrix_of(weights)))

    assert {frozenset(part.tolist()) for part in members_of(label)} == planted(sizes)


@settings(max_examples=examples(60), deadline=None)
@given(weights=SQUARES)
def test_groups_share_no_vm_and_account_for_all_their_traffic(weights: Weights) -> None:
    matrix = matrix_of(weights)
    inside = weights * (1 - np.eye(len(weights), dtype=np.int64))

    groups = find_groups(matrix)

    named = [vm for group in groups for vm in group.vms]
    assert len(named) == len(set(named))
    assert all(len(group.vms) > 1 and 0.0 <= group.confidence <= 1.0 for group in groups)
    for group in groups:
        rows = [int(vm[2:]) for vm in group.vms]
        within = float(inside[np.ix_(rows, rows)].sum())
        every = float(inside[rows].sum() + inside[:, rows].sum())
        assert group.internal_bytes_per_second == pytest.approx(within)
        assert group.external_bytes_per_second == pytest.approx(
            every - 2 * within, abs=every * 1e-9
        )
    assert [pattern.group for pattern in find_patterns(matrix, groups)] == [g.id for g in groups]


@settings(max_examples=examples(40), deadline=None)
@given(drawn=crowds(), factor=st.sampled_from([1e-2, 7.0, 1e5]))
def test_groups_don_t_depend_on_the_unit(drawn: tuple[Weights, list[int]], factor: float) -> None:
    one, other = (find_groups(matrix_of(drawn[0] * scale)) for scale in (1e3, 1e3 * factor))

    assert {group.vms for group in one} == {group.vms for group in other}


# --- time --------------------------------------------------------------------------------------------


def is_in_order(matrix: CommunicationMatrix) -> bool:
    """Say whether the entries are as every matrix has them: sorted, each pair once, nothing below 0."""
    keys = matrix.source.astype(np.int64) * len(matrix.vms) + matrix.destination
    return bool((np.diff(keys) > 0).all() and (matrix.bytes >= 0).all())


@given(series=series_strategy(), half_life=st.floats(0.1, 100.0))
def test_a_view_has_the_total_that_its_windows_weigh(
    series: MatrixSeries, half_life: float
) -> None:
    count = len(series.matrices)
    weights = 0.5 ** ((count - 1 - np.arange(count)) / half_life)
    exact = sum(
        weight * float(matrix.bytes.sum())
        for weight, matrix in zip(weights, series.matrices, strict=True)
    )

    view = exponential_view(series, half_life)

    assert is_in_order(view)
    assert abs(int(view.bytes.sum()) - exact) <= 0.5 + 1e-9 * exact


@given(series=series_strategy())
def test_a_view_of_all_time_is_the_sum_of_the_windows(series: MatrixSeries) -> None:
    view = sliding_view(series, len(series.matrices) * series.seconds)

    assert is_in_order(view)
    assert (view.dense() == sum(matrix.dense() for matrix in series.matrices)).all()


@settings(max_examples=examples(50), deadline=None)
@given(series=series_strategy(most=30))
def test_phases_follow_each_other_and_cover_the_time(series: MatrixSeries) -> None:
    phases = find_phases(series)

    at = START
    for phase in phases:
        assert phase.start == at
        assert phase.seconds >= min(2, len(series.matrices)) * series.seconds
        at += timedelta(seconds=phase.seconds)
    assert at == START + timedelta(seconds=len(series.matrices) * series.seconds)
    said = sum(phase.seconds * phase.bytes_per_second for phase in phases)
    assert said == pytest.approx(sum(float(matrix.bytes.sum()) for matrix in series.matrices))


@settings(max_examples=examples(50), deadline=None)
@given(series=series_strategy(), steps=st.integers(1, 5))
def test_a_forecast_is_made_of_matrices_like_any_other(series: MatrixSeries, steps: int) -> None:
    found = forecast(series, steps)

    assert len(found.matrices) == steps
    assert all(is_in_order(matrix) and matrix.vms == series.vms for matrix in found.matrices)
    assert found.error >= 0.0


# --- comparison --------------------------------------------------------------------------------------


@settings(max_examples=examples(50), deadline=None)
@given(one=squares(6), other=squares(6))
def test_a_comparison_is_the_same_both_ways(one: Weights, other: Weights) -> None:
    there, back = (
        compare(matrix_of(one), matrix_of(other)),
        compare(matrix_of(other), matrix_of(one)),
    )

    assert 0.0 <= there.cosine <= 1.0
    assert -1.0 - 1e-9 <= there.rank_correlation <= 1.0 + 1e-9
    assert there.cosine == pytest.approx(back.cosine)
    assert there.rank_correlation == pytest.approx(back.rank_correlation, abs=1e-9)
    assert there.group_agreement == pytest.approx(back.group_agreement)
    assert (there.only_in_first, there.only_in_second) == (back.only_in_second, back.only_in_first)


@settings(deadline=None)
@given(weights=SQUARES, seed=SEEDS)
def test_a_matrix_is_like_itself_in_another_order(weights: Weights, seed: int) -> None:
    order = np.random.default_rng(seed).permutation(len(weights))
    there = CommunicationMatrix.of_dense(
        weights[np.ix_(order, order)],
        start=START,
        seconds=1.0,
        vms=[VmName(f"vm{row}") for row in order],
    )

    found = compare(matrix_of(weights), there)

    assert found.cosine == pytest.approx(1.0)
    assert found.distance == 0.0


# --- symptoms ----------------------------------------------------------------------------------------

CLOUD = CloudName("rented")


def at_prices(prices: Sequence[float]) -> list[Snapshot]:
    return [
        Snapshot(
            version=number,
            at=START + timedelta(seconds=number),
            prices={CLOUD: PriceTick(cloud=CLOUD, at=START, dollars_per_vcpu_hour=dollars)},
        )
        for number, dollars in enumerate(prices)
    ]


@given(prices=st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30))
def test_the_price_told_last_is_never_far_from_the_price(prices: list[float]) -> None:
    told, memory = prices[0], None
    for snapshot, dollars in zip(at_prices(prices), prices, strict=True):
        symptoms, memory = watch(memory, snapshot, ())
        if symptoms:
            told = dollars
        assert abs(dollars - told) <= 0.02 * max(dollars, told)


@given(base=st.floats(0.01, 1.0), wobble=st.lists(st.floats(-0.0099, 0.0099), max_size=30))
def test_a_wobble_within_two_hundredths_is_told_twice_at_most(
    base: float, wobble: list[float]
) -> None:
    """Whichever way it goes first, the way back is too short to be told, and so is the way there again."""
    memory, count = None, 0
    for snapshot in at_prices([base * (1 + part) for part in (0.0, *wobble)]):
        symptoms, memory = watch(memory, snapshot, ())
        count += len(symptoms)

    assert count <= 2


def test_a_look_leaves_the_memory_that_it_was_given_as_it_was() -> None:
    first, second = at_prices([0.04, 0.08])
    _, memory = watch(None, first, ())
    kept = replace(memory)

    assert watch(memory, second, ()) == watch(kept, second, ())
