"""Agreement: how alike two ways to divide the same VMs are.

A division is a label for each VM, below 0 for one that is in none; two are compared over the VMs that are in
both.
"""

from dataclasses import dataclass

import numpy as np

from transhume.analyze.ties import Members, Weights


@dataclass(frozen=True, slots=True, eq=False)
class Overlap:
    """How many VMs each pair of parts shares, where any; and how many each part has."""

    one: Members
    """Rows of `of_one`, for each pair of parts that share a VM."""
    other: Members
    shared: Weights
    labels_one: Members
    """The label of each part of the first division."""
    labels_other: Members
    of_one: Weights
    of_other: Weights

    @classmethod
    def of(cls, one: Members, other: Members) -> "Overlap":
        """Return the overlap of two divisions."""
        both = (one >= 0) & (other >= 0)
        labels, rows = np.unique(one[both], return_inverse=True)
        others, columns = np.unique(other[both], return_inverse=True)
        key, shared = np.unique(rows * max(len(others), 1) + columns, return_counts=True)
        return cls(
            one=key // max(len(others), 1),
            other=key % max(len(others), 1),
            shared=shared.astype(float),
            labels_one=labels,
            labels_other=others,
            of_one=np.bincount(rows, minlength=len(labels)).astype(float),
            of_other=np.bincount(columns, minlength=len(others)).astype(float),
        )


def rand_index(one: Members, other: Members) -> float:
    """Return the adjusted Rand index (Hubert and Arabie, 1985): 1 for the same, about 0 for chance.

    Two divisions that agree on everything are the same, also where each has one part only, or none.
    """
    overlap = Overlap.of(one, other)
    together = _pairs(overlap.shared)
    in_one, in_other = _pairs(overlap.of_one), _pairs(overlap.of_other)
    count = overlap.of_one.sum()
    by_chance = in_one * in_other / max(count * (count - 1) / 2, 1.0)
    most = (in_one + in_other) / 2
    return float((together - by_chance) / (most - by_chance)) if most > by_chance else 1.0


def _pairs(sizes: Weights) -> float:
    return float((sizes * (sizes - 1)).sum() / 2)


def found_again(one: Members, other: Members) -> dict[int, float]:
    """Return for each part of the first division how much of it its best match in the second covers.

    That is the Jaccard index of the two, 0 to 1, by the first one's labels; a part of which no VM is in the
    second division is left out.
    """
    overlap = Overlap.of(one, other)
    jaccard = overlap.shared / (
        overlap.of_one[overlap.one] + overlap.of_other[overlap.other] - overlap.shared
    )
    best = np.zeros(len(overlap.labels_one))
    np.maximum.at(best, overlap.one, jaccard)
    return dict(zip(overlap.labels_one.tolist(), best.tolist(), strict=True))
