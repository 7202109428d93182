"""The yardstick itself: norms and splits, against what can be said by hand."""

import numpy as np
import pytest

from tests.system.fidelity.measures import best_split, crossing, frobenius_error, regret
from tests.system.fidelity.mpi import Placement, Square


def ring(count: int, weight: int = 10) -> Square:
    found = np.zeros((count, count), dtype=np.int64)
    found[np.arange(count), (np.arange(count) + 1) % count] = weight
    return found


def test_the_error_is_relative_to_the_truth() -> None:
    true = np.array([[0, 3], [4, 0]])
    assert frobenius_error(true, true) == 0.0
    assert frobenius_error(2 * true, true) == pytest.approx(1.0)
    assert frobenius_error(np.zeros_like(true), true) == pytest.approx(1.0)
    assert frobenius_error(true + np.diag([5, 0]), true) == pytest.approx(1.0)


def test_the_best_split_of_a_ring_is_two_halves() -> None:
    split = best_split(ring(16))
    assert split.sum() == 8
    assert crossing(ring(16), split) == 20


def test_two_groups_that_hardly_talk_are_split_wherever_they_stand() -> None:
    together = np.zeros((16, 16), dtype=np.int64)
    together[:8, :8] = together[8:, 8:] = 5
    together[0, 8] = together[9, 1] = 1
    placement = Placement.drawn(3)
    placed = placement.by_node(together)

    split = best_split(placed)

    assert crossing(placed, split) == 2
    first = {node for rank, node in enumerate(placement.node_of) if rank < 8}
    assert set(np.flatnonzero(split)) in (first, set(range(16)) - first)


def test_a_good_measurement_has_no_regret_and_a_misleading_one_has_as_much_as_it_costs() -> None:
    true = ring(16)
    noise = np.random.default_rng(1).integers(0, 2, size=true.shape)
    assert regret(true * 100 + noise, true) == 0

    # Seen as a ring in which each second rank comes first, halves that look good cut true links.
    misplaced = np.argsort([*range(0, 16, 2), *range(1, 16, 2)])
    misled = true[np.ix_(misplaced, misplaced)]
    assert regret(misled, true) == crossing(true, best_split(misled)) - 20 > 0


def test_a_placement_moves_each_rank_to_its_node() -> None:
    placement = Placement.drawn(7)
    by_rank = np.arange(256, dtype=np.int64).reshape(16, 16)
    by_node = placement.by_node(by_rank)

    assert sorted(placement.node_of) == list(range(16))
    assert by_node[placement.node_of[2], placement.node_of[5]] == by_rank[2, 5]
    assert (Placement.in_order().by_node(by_rank) == by_rank).all()
