"""How far one matrix is from another: by norm, and by the placement that somebody would choose from it."""

from functools import cache
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

Square = NDArray[np.int64]
Split = NDArray[np.bool_]
"""Which machines are in the first of two clouds."""


def frobenius_error(measured: Square, true: Square) -> float:
    """Return the norm of the difference, relative to the truth's norm."""
    difference = measured.astype(np.float64) - true.astype(np.float64)
    return float(np.linalg.norm(difference) / np.linalg.norm(true.astype(np.float64)))


def crossing(matrix: Square, split: Split) -> int:
    """Return the bytes that cross between the clouds, both ways."""
    return int(matrix[np.ix_(split, ~split)].sum() + matrix[np.ix_(~split, split)].sum())


def best_split(matrix: Square) -> Split:
    """Return the split into two clouds of equal size that the fewest bytes cross, of all there are."""
    splits = _even_splits(len(matrix))
    both_ways = matrix + matrix.T
    # Of each pair's bytes, those cross whose ends differ.
    costs = np.einsum("si,ij,sj->s", splits.astype(np.int64), both_ways, 1 - splits, optimize=True)
    found: Split = splits[int(costs.argmin())].astype(bool)
    return found


def regret(measured: Square, true: Square) -> int:
    """Return how many more bytes cross when the split is chosen from what was measured, not from the truth."""
    return crossing(true, best_split(measured)) - crossing(true, best_split(true))


@cache
def _even_splits(count: int) -> NDArray[np.int64]:
    """Return a row of zeros and ones for each split; machine 0 is in the first cloud, as either must be."""
    others = list(combinations(range(1, count), count // 2 - 1))
    splits = np.zeros((len(others), count), dtype=np.int64)
    splits[:, 0] = 1
    np.put_along_axis(splits, np.array(others), 1, axis=1)
    return splits
