"""Patterns are named from traffic alone, wherever the ranks are, with chatter and uneven links."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from numpy.random import Generator

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
from tests.unit.analyze.traffic import matrix_of
from transhume.analyze import find_groups, find_pattern, find_patterns
from transhume.knowledge.model import Pattern, PatternKind, VmName

KINDS = PatternKind

DRAWN: dict[str, tuple[Callable[[int, Generator], Weights], PatternKind]] = {
    "all-to-all": (lambda n, _: all_to_all(n), KINDS.ALL_TO_ALL),
    "all-to-all in steps": (lambda n, _: all_to_all_in_steps(n), KINDS.ALL_TO_ALL),
    "ring": (lambda n, _: ring(n), KINDS.RING),
    "ring one way": (lambda n, _: one_way(ring(n)), KINDS.RING),
    "pipeline": (lambda n, _: pipeline(n), KINDS.PIPELINE),
    "pipeline one way": (lambda n, _: one_way(pipeline(n)), KINDS.PIPELINE),
    "pairs": (lambda n, _: pairs(n), KINDS.PAIRS),
    "master and workers": (master_worker, KINDS.MASTER_WORKER),
    "butterfly": (lambda n, _: butterfly(n), KINDS.BUTTERFLY),
    "butterfly that doubles": (lambda n, _: butterfly(n, growth=2.0), KINDS.BUTTERFLY),
    "butterfly that halves": (lambda n, _: butterfly(n, growth=0.5), KINDS.BUTTERFLY),
    "random": (lambda n, random: random_sparse(n, 3, random), KINDS.NONE),
}
GRIDS = {
    "4 by 4": grid(4, 4),
    "4 by 4, rows closed": grid(4, 4, rows_close=True),
    "4 by 4, columns closed": grid(4, 4, columns_close=True),
    "4 by 4, periodic, more between rows": grid(
        4, 4, rows_close=True, columns_close=True, down=2.0
    ),
    "2 by 4": grid(2, 4),
    "2 by 4, periodic, more between rows": grid(2, 4, columns_close=True, down=2.0),
    "2 by 3, periodic": grid(2, 3, columns_close=True),
    "3 by 3, periodic": grid(3, 3, rows_close=True, columns_close=True),
    "3 by 4, periodic": grid(3, 4, rows_close=True, columns_close=True),
    "3 by 5": grid(3, 5),
    "2 by 16": grid(2, 16),
    "4 by 8, periodic": grid(4, 8, rows_close=True, columns_close=True),
    "6 by 6": grid(6, 6),
    "8 by 8, periodic": grid(8, 8, rows_close=True, columns_close=True, down=3.0),
    "16 by 16": grid(16, 16),
    "16 by 16, periodic": grid(16, 16, rows_close=True, columns_close=True),
}


def found(weights: Weights) -> Pattern:
    return find_pattern(matrix_of(np.asarray(weights) * 1e6))


def rows(pattern: Pattern) -> list[int]:
    return [int(vm[2:]) for vm in pattern.vms]


# --- every shape, wherever its ranks are -------------------------------------------------------------


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("drawn", DRAWN)
def test_sixteen_ranks_placed_at_random_are_named_among_chatter(drawn: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    draw, kind = DRAWN[drawn]
    weights = disturbed(draw(16, random), random)

    assert found(placed(weights, random.permutation(16))).kind == kind


@pytest.mark.parametrize("count", [8, 32, 64, 256])
@pytest.mark.parametrize("drawn", DRAWN)
def test_shapes_of_other_sizes_are_named_too(drawn: str, count: int) -> None:
    random = np.random.default_rng(count)
    draw, kind = DRAWN[drawn]
    weights = disturbed(draw(count, random), random)

    pattern = found(placed(weights, random.permutation(count)))

    assert pattern.kind == kind
    assert len(pattern.vms) == count


ANY_SIZE = [
    (name, count)
    for name, (_, kind) in DRAWN.items()
    for count in (6, 9, 12, 15, 50, 100)
    if kind is not KINDS.BUTTERFLY
    and not (kind is KINDS.PAIRS and count % 2)
    # Of so few, each talks to most of the others.
    and not (kind is KINDS.NONE and count < 10)
]


@pytest.mark.parametrize(("drawn", "count"), ANY_SIZE)
def test_sizes_need_not_be_powers_of_two(drawn: str, count: int) -> None:
    random = np.random.default_rng(count)
    draw, kind = DRAWN[drawn]
    weights = disturbed(draw(count, random), random)

    assert found(placed(weights, random.permutation(count))).kind == kind


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", GRIDS)
def test_grids_with_and_without_borders_are_named(name: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    weights = disturbed(GRIDS[name], random)

    assert found(placed(weights, random.permutation(len(weights)))).kind == KINDS.GRID


@pytest.mark.parametrize("seed", range(200))
def test_a_random_sparse_graph_is_nothing(seed: int) -> None:
    random = np.random.default_rng(seed)
    count = int(random.integers(12, 33))

    pattern = found(random_sparse(count, int(random.integers(2, 5)), random))

    assert pattern.kind == KINDS.NONE


def test_even_chatter_of_a_twentieth_of_a_link_on_every_pair_is_no_matter() -> None:
    random = np.random.default_rng(0)
    for name, (draw, kind) in DRAWN.items():
        weights = draw(16, random)
        chatter = random.uniform(0, 0.05, (16, 16)) * weights[weights > 0].mean()
        weights = weights * random.uniform(0.7, 1.3, (16, 16)) + chatter
        assert found(placed(weights, random.permutation(16))).kind == kind, name


# --- the order of the VMs ----------------------------------------------------------------------------


def order_of(weights: Weights, random: Generator) -> tuple[list[int], list[int]]:
    """Return which VM each rank is on, and the VMs in the order of the pattern found."""
    order = random.permutation(len(weights))
    return order.tolist(), rows(found(placed(disturbed(weights, random), order)))


def turned(cycle: list[int], first: int) -> list[int]:
    at = cycle.index(first)
    return cycle[at:] + cycle[:at]


def test_a_ring_is_told_along_its_links_and_in_the_direction_in_which_it_flows() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        ranks, told = order_of(one_way(ring(16)), random)
        assert turned(told, ranks[0]) == ranks


def test_a_pipeline_is_told_from_its_source_to_its_sink() -> None:
    random = np.random.default_rng(0)
    for _ in range(10):
        ranks, told = order_of(one_way(pipeline(9)), random)
        assert told == ranks


def test_a_master_is_told_first() -> None:
    random = np.random.default_rng(0)
    ranks, told = order_of(master_worker(16, random), random)

    assert told[0] == ranks[0]
    assert sorted(told) == list(range(16))


def test_the_least_worker_is_a_worker() -> None:
    weights = np.zeros((8, 8))
    weights[0, 1:] = (1, 1, 1, 1, 1, 1, 0.05)

    assert len(found(weights).vms) == 8


def test_pairs_are_told_pair_by_pair() -> None:
    random = np.random.default_rng(0)
    ranks, told = order_of(pairs(10), random)
    couples = {frozenset(ranks[at : at + 2]) for at in range(0, 10, 2)}

    assert {frozenset(told[at : at + 2]) for at in range(0, 10, 2)} == couples


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_told_row_by_row(name: str) -> None:
    shape = GRIDS[name]
    random = np.random.default_rng(0)
    order = random.permutation(len(shape))
    weights = placed(shape * random.uniform(0.9, 1.1, shape.shape), order)

    told = rows(found(weights))
    in_order = weights[np.ix_(told, told)] > 0

    # One that is as wide as high may be told with its columns as rows.
    expected = (shape > 0, _turned_over(name, shape) > 0)
    assert any((in_order == links).all() for links in expected)


def _turned_over(name: str, shape: Weights) -> Weights:
    height, width = (int(word) for word in re.findall(r"[0-9]+", name))
    order = np.arange(len(shape)).reshape(height, width).T.ravel()
    return shape[np.ix_(order, order)]


@pytest.mark.parametrize("growth", [1.0, 2.0])
def test_a_butterfly_is_told_by_rank(growth: float) -> None:
    """Each two that talk differ in one bit of their place."""
    random = np.random.default_rng(0)
    order = random.permutation(32)
    weights = placed(butterfly(32, growth=growth), order)

    told = rows(found(weights))

    assert ((weights[np.ix_(told, told)] > 0) == (butterfly(32) > 0)).all()


# --- few VMs, which can have several shapes at once --------------------------------------------------

FEW: dict[str, tuple[Sequence[Sequence[float]] | Weights, PatternKind]] = {
    "one": ([[0]], KINDS.NONE),
    "silent": (np.zeros((5, 5)), KINDS.NONE),
    "two": ([[0, 1], [0, 0]], KINDS.PAIRS),
    "three, all to all": (all_to_all(3), KINDS.ALL_TO_ALL),
    "three, round one way": (one_way(ring(3)), KINDS.RING),
    "three in a line": (pipeline(3), KINDS.MASTER_WORKER),
    "three in a line, flowing through": (one_way(pipeline(3)), KINDS.PIPELINE),
    "three in a line, flowing out": ([[0, 1, 1], [0, 0, 0], [0, 0, 0]], KINDS.MASTER_WORKER),
    "four in a circle": (ring(4), KINDS.RING),
    "four round one way": (one_way(ring(4)), KINDS.RING),
    "four in two stages, the second louder": (butterfly(4, growth=2.0), KINDS.BUTTERFLY),
    "four in a line": (pipeline(4), KINDS.PIPELINE),
    "four, all to all": (all_to_all(4), KINDS.ALL_TO_ALL),
    "four, one of them a master": ([[0, 1, 1, 1]] + [[0] * 4] * 3, KINDS.MASTER_WORKER),
    "four, two and two": (pairs(4), KINDS.PAIRS),
    "eight in a cube": (butterfly(8), KINDS.BUTTERFLY),
    "a periodic grid of sixteen, all links alike": (
        grid(4, 4, rows_close=True, columns_close=True),
        KINDS.BUTTERFLY,
    ),
    "a periodic grid of sixteen, rows and columns unlike": (
        grid(4, 4, rows_close=True, columns_close=True, down=0.5),
        KINDS.GRID,
    ),
}


@pytest.mark.parametrize("name", FEW)
def test_what_could_be_several_shapes_has_one_name(name: str) -> None:
    weights, kind = FEW[name]

    assert found(np.asarray(weights, dtype=float)).kind == kind


# --- scores, parts of a matrix, groups ---------------------------------------------------------------


def test_a_perfect_shape_has_the_score_of_one_and_chatter_lowers_it() -> None:
    random = np.random.default_rng(0)
    clear, dim = found(ring(16)), found(disturbed(ring(16), random, chatter=0.2))

    assert clear.score == 1.0
    assert 0.7 < dim.score < 0.85


def test_uneven_use_of_a_shape_lowers_its_score() -> None:
    weights = all_to_all(8)
    weights[:4] *= 3

    assert found(weights).score < found(all_to_all(8)).score


def test_vms_that_only_chatter_are_no_part_of_the_shape() -> None:
    random = np.random.default_rng(0)
    weights = np.zeros((20, 20))
    weights[:16, :16] = ring(16)
    weights = disturbed(weights, random, chatter=0.03)

    pattern = found(weights)

    assert pattern.kind == KINDS.RING
    assert set(rows(pattern)) == set(range(16))


def test_the_pattern_of_some_vms_is_that_of_the_traffic_among_them() -> None:
    weights = np.zeros((9, 9))
    weights[:5, :5], weights[5:, 5:] = ring(5), all_to_all(4)
    weights[0, 5] = 0.5
    matrix = matrix_of(weights * 1e6)

    first = find_pattern(matrix, [VmName(f"vm{i}") for i in range(5)])
    second = find_pattern(matrix, [VmName(f"vm{i}") for i in (8, 7, 6, 5)])

    assert first.kind == KINDS.RING
    assert (second.kind, second.vms) == (KINDS.ALL_TO_ALL, ("vm8", "vm7", "vm6", "vm5"))
    assert find_pattern(matrix).kind == KINDS.NONE


def test_each_group_has_its_pattern() -> None:
    random = np.random.default_rng(2)
    weights = np.zeros((30, 30))
    weights[:16, :16] = butterfly(16)
    weights[16:23, 16:23] = ring(7) * 0.8
    weights[23:, 23:] = master_worker(7, random) * 0.4
    order = random.permutation(30)
    matrix = matrix_of(placed(disturbed(weights, random, chatter=0.01), order) * 1e6)
    groups = find_groups(matrix)

    patterns = find_patterns(matrix, groups)

    assert [pattern.kind for pattern in patterns] == [
        KINDS.BUTTERFLY,
        KINDS.RING,
        KINDS.MASTER_WORKER,
    ]
    assert [pattern.group for pattern in patterns] == [group.id for group in groups]
    assert [set(pattern.vms) for pattern in patterns] == [set(group.vms) for group in groups]
    assert patterns == tuple(find_patterns(matrix, [group])[0] for group in groups)


def test_no_groups_have_no_patterns() -> None:
    assert find_patterns(matrix_of(np.zeros((3, 3))), ()) == ()
