"""Draws the traffic of known shapes, with ranks placed at random among the VMs, uneven links and chatter."""

from collections.abc import Iterator

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

Weights = NDArray[np.float64]
ANSWERS = 0.03
"""What comes back of what goes one way: acknowledgements."""


def all_to_all(count: int) -> Weights:
    return np.ones((count, count)) - np.eye(count)


def all_to_all_in_steps(count: int) -> Weights:
    """Bruck's algorithm: to those 1, 2, 4, ... ranks on."""
    weights = np.zeros((count, count))
    ranks = np.arange(count)
    step = 1
    while step < count:
        weights[ranks, (ranks + step) % count] = 1.0
        step *= 2
    return weights + ANSWERS * weights.T


def linked(count: int, links: Iterator[tuple[int, int, float]]) -> Weights:
    weights = np.zeros((count, count))
    for one, other, weight in links:
        weights[one, other] = weights[other, one] = weight
    return weights


def one_way(weights: Weights) -> Weights:
    """Return what goes to the next rank only, with answers."""
    count = len(weights)
    ranks = np.arange(count)
    forward = np.zeros_like(weights)
    onward = ranks, (ranks + 1) % count
    forward[onward] = weights[onward]
    return forward + ANSWERS * forward.T


def ring(count: int) -> Weights:
    return linked(count, ((rank, (rank + 1) % count, 1.0) for rank in range(count)))


def pipeline(count: int) -> Weights:
    return linked(count, ((rank, rank + 1, 1.0) for rank in range(count - 1)))


def pairs(count: int) -> Weights:
    return linked(count, ((rank, rank + 1, 1.0) for rank in range(0, count, 2)))


def master_worker(count: int, random: Generator) -> Weights:
    """Loads differ by a factor of ten; results are a quarter of the tasks."""
    weights = np.zeros((count, count))
    weights[0, 1:] = random.uniform(0.2, 2.0, count - 1)
    weights[1:, 0] = weights[0, 1:] / 4
    return weights


def grid(
    rows: int,
    columns: int,
    *,
    rows_close: bool = False,
    columns_close: bool = False,
    down: float = 1.0,
) -> Weights:
    """Return a halo exchange; `down` is what crosses rows beside what crosses columns."""

    def links() -> Iterator[tuple[int, int, float]]:
        for row in range(rows):
            for column in range(columns):
                here = row * columns + column
                if column + 1 < columns or columns_close:
                    yield here, row * columns + (column + 1) % columns, 1.0
                if row + 1 < rows or rows_close:
                    yield here, (row + 1) % rows * columns + column, down

    return linked(rows * columns, links())


def butterfly(count: int, *, growth: float = 1.0) -> Weights:
    """Return the stages of recursive doubling, each carrying `growth` times as much as the one before."""
    stages = range(count.bit_length() - 1)
    return linked(
        count,
        ((rank, rank ^ 1 << bit, growth**bit) for bit in stages for rank in range(count)),
    )


def random_sparse(count: int, degree: int, random: Generator) -> Weights:
    """Each sends to some others drawn at random, over links of unequal weight."""
    weights = np.zeros((count, count))
    for rank in range(count):
        others = np.delete(np.arange(count), rank)
        weights[rank, random.choice(others, degree, replace=False)] = random.uniform(
            0.125, 1.0, degree
        )
    return weights


def disturbed(weights: Weights, random: Generator, *, chatter: float = 0.05) -> Weights:
    """Make each link up to 30 % heavier or lighter, and let all talk to all: a share of all bytes."""
    uneven = weights * random.uniform(0.7, 1.3, weights.shape)
    between = random.exponential(1.0, weights.shape)
    np.fill_diagonal(between, 0.0)
    return uneven + between / between.sum() * chatter * uneven.sum()


def placed(weights: Weights, order: NDArray[np.intp]) -> Weights:
    """Put rank i on VM order[i]."""
    found = np.zeros_like(weights)
    found[np.ix_(order, order)] = weights
    return found
