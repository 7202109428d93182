"""Ties: how much each two VMs say to each other, whoever speaks.

Owns the step from the ordered pairs of a matrix to an undirected, weighted, sparse graph, and what groups and
patterns both ask of it: strengths, parts that hang together, the ties within a few VMs. What the ties mean is
left to those who ask.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import CommunicationMatrix

Members = NDArray[np.intp]
Weights = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Ties:
    """Bytes per second between `count` VMs, each pair that talks once, sorted by `one`, then `other`."""

    count: int
    one: Members
    other: Members
    """Always the greater row of the two."""
    weight: Weights

    @classmethod
    def of_matrix(cls, matrix: CommunicationMatrix) -> "Ties":
        """Return the ties in a matrix; what a VM says to itself is none."""
        return cls.of_pairs(
            len(matrix.vms), matrix.source, matrix.destination, matrix.bytes_per_second
        )

    @classmethod
    def of_pairs(
        cls, count: int, source: NDArray[Any], destination: NDArray[Any], weight: Weights
    ) -> "Ties":
        """Return the ties of pairs in any order and direction; what is given twice adds up."""
        one = np.minimum(source, destination).astype(np.intp)
        other = np.maximum(source, destination).astype(np.intp)
        told = (one != other) & (weight > 0)
        key, weight = (one * count + other)[told], weight[told]
        order = np.argsort(key, kind="stable")
        key, weight = key[order], weight[order]
        first = np.flatnonzero(np.diff(key, prepend=-1))
        return cls(
            count=count,
            one=key[first] // max(count, 1),
            other=key[first] % max(count, 1),
            weight=np.add.reduceat(weight, first) if len(first) else weight,
        )

    def strength(self) -> Weights:
        """Return what each VM says and hears."""
        said = summed(self.one, self.weight, self.count)
        said += summed(self.other, self.weight, self.count)
        return said

    def strongest(self) -> Weights:
        """Return the weight of each VM's strongest tie, 0 for one that has none."""
        found = np.zeros(self.count)
        np.maximum.at(found, self.one, self.weight)
        np.maximum.at(found, self.other, self.weight)
        return found

    def strong(self, share: float) -> NDArray[np.bool_]:
        """Say which ties have at least this share of the strongest that either of their VMs has."""
        strongest = self.strongest()
        return self.weight >= share * np.maximum(strongest[self.one], strongest[self.other])

    def where(self, kept: NDArray[np.bool_]) -> "Ties":
        """Return the same VMs with some of the ties only."""
        return Ties(
            count=self.count,
            one=self.one[kept],
            other=self.other[kept],
            weight=self.weight[kept],
        )

    def within(self, members: Members) -> "Ties":
        """Return the ties among some VMs, given in ascending order, and numbered in it."""
        row = np.full(self.count, -1, dtype=np.intp)
        row[members] = np.arange(len(members))
        one, other = row[self.one], row[self.other]
        inside = (one >= 0) & (other >= 0)
        return Ties(
            count=len(members),
            one=one[inside],
            other=other[inside],
            weight=self.weight[inside],
        )

    def dense(self) -> Weights:
        """Return a square symmetrical array, for some hundreds of VMs."""
        square = np.zeros((self.count, self.count))
        square[self.one, self.other] = square[self.other, self.one] = self.weight
        return square

    def sparse(self) -> Any:
        """Return a symmetrical SciPy array in rows, for thousands of VMs."""
        from scipy.sparse import csr_array

        both = np.concatenate((self.weight, self.weight))
        rows = np.concatenate((self.one, self.other))
        columns = np.concatenate((self.other, self.one))
        return csr_array((both, (rows, columns)), shape=(self.count, self.count))

    def parts(self) -> Members:
        """Return for each VM the least row among those that it is tied to, however far around."""
        label = np.arange(self.count, dtype=np.intp)
        one, other = self.one, self.other
        while len(one):
            low = np.minimum(label[one], label[other])
            np.minimum.at(label, label[one], low)
            np.minimum.at(label, label[other], low)
            _follow(label)
            apart = label[one] != label[other]
            one, other = one[apart], other[apart]
        return label

    def split(self, label: Members) -> list[tuple[Members, "Ties"]]:
        """Return the VMs of each label and the ties among them, in the order of the labels.

        VMs whose label is below 0 are left out.
        """
        row = np.empty(self.count, dtype=np.intp)
        found = [members for members in members_of(label) if label[members[0]] >= 0]
        for members in found:
            row[members] = np.arange(len(members))
        inside = np.flatnonzero((label[self.one] == label[self.other]) & (label[self.one] >= 0))
        order = inside[np.argsort(label[self.one[inside]], kind="stable")]
        of_tie = label[self.one[order]]
        ends = np.searchsorted(of_tie, [label[members[0]] for members in found], side="right")
        pieces = np.split(order, ends[:-1]) if found else []
        return [
            (
                members,
                Ties(
                    count=len(members),
                    one=row[self.one[piece]],
                    other=row[self.other[piece]],
                    weight=self.weight[piece],
                ),
            )
            for members, piece in zip(found, pieces, strict=True)
        ]


def _follow(label: Members) -> None:
    """Let each label be its own label, in place."""
    while True:
        further = label[label]
        if (further == label).all():
            return
        label[:] = further


def summed(row: Members, value: Weights, count: int) -> Weights:
    """Return the sum of the values of each of so many rows."""
    return np.bincount(row, value, count).astype(np.float64, copy=False)


def members_of(label: Members) -> list[Members]:
    """Return the VMs of each label, in the order of the labels and then of the VMs."""
    order = np.argsort(label, kind="stable")
    bounds = np.flatnonzero(np.diff(label[order])) + 1
    return np.split(order, bounds) if len(order) else []
