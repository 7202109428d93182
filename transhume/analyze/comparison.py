"""Comparison: how alike two matrices are, as wholes, in the order of their pairs, and in who is with whom.

VMs are the same when their names are. Numbers are of rates (bytes per second), so that captures of different
length compare; what VMs say that only one matrix knows is no part of them, but is told.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.grouping.agreement import Overlap, rand_index
from transhume.analyze.groups import find_groups
from transhume.knowledge.model import CommunicationMatrix, Group, VmName

Rates = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedCompany:
    """A VM that left most of its group, or joined another."""

    vm: VmName
    before: tuple[VmName, ...]
    """Its group in the first matrix, with itself; empty where it was in none."""
    after: tuple[VmName, ...]
    """Its group in the second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two matrices have in common."""

    shared_vms: int
    only_in_first: tuple[VmName, ...]
    only_in_second: tuple[VmName, ...]
    cosine: float
    """Of the rates of all ordered pairs: 1 for the same shape, whatever the amount; 0 for nothing shared."""
    distance: float
    """Relative (Frobenius): of the difference to the first; infinite where the first is silent."""
    rank_correlation: float
    """Kendall's tau-b of the pairs of which any talks, by their rates; 0 where one has no order to compare."""
    first_bytes_per_second: float
    second_bytes_per_second: float
    group_agreement: float
    """The adjusted Rand index of the groups over VMs that are in one in both."""
    changed: tuple[ChangedCompany, ...]


def compare(
    first: CommunicationMatrix,
    second: CommunicationMatrix,
    *,
    first_groups: Sequence[Group] | None = None,
    second_groups: Sequence[Group] | None = None,
) -> Comparison:
    """Compare two matrices; their groups are found anew unless given."""
    known = set(second.vms)
    shared = tuple(vm for vm in first.vms if vm in known)
    one, other = _aligned(first, second, shared)
    groups = (
        find_groups(first) if first_groups is None else first_groups,
        find_groups(second) if second_groups is None else second_groups,
    )
    before, after = (_company(found, shared) for found in groups)
    return Comparison(
        shared_vms=len(shared),
        only_in_first=_without(first.vms, shared),
        only_in_second=_without(second.vms, shared),
        cosine=_cosine(one, other),
        distance=_distance(one, other),
        rank_correlation=kendall(one, other),
        first_bytes_per_second=float(first.bytes_per_second.sum()),
        second_bytes_per_second=float(second.bytes_per_second.sum()),
        group_agreement=rand_index(before, after),
        changed=_changed(shared, before, after, *groups),
    )


def _without(vms: Sequence[VmName], shared: Sequence[VmName]) -> tuple[VmName, ...]:
    known = set(shared)
    return tuple(vm for vm in vms if vm not in known)


# --- rates -------------------------------------------------------------------------------------------


def _aligned(
    first: CommunicationMatrix, second: CommunicationMatrix, shared: Sequence[VmName]
) -> tuple[Rates, Rates]:
    """Return the rates in both of each ordered pair of shared VMs that talks in either."""
    number = {vm: at for at, vm in enumerate(shared)}
    keys, rates = zip(*(_entries(matrix, number) for matrix in (first, second)), strict=True)
    pairs = np.union1d(*keys)
    aligned = np.zeros((2, len(pairs)))
    for row in (0, 1):
        aligned[row, np.searchsorted(pairs, keys[row])] = rates[row]
    return aligned[0], aligned[1]


def _entries(
    matrix: CommunicationMatrix, number: dict[VmName, int]
) -> tuple[NDArray[np.int64], Rates]:
    row = np.array([number.get(vm, -1) for vm in matrix.vms], dtype=np.int64)
    source, destination = row[matrix.source], row[matrix.destination]
    told = (source >= 0) & (destination >= 0) & (source != destination) & (matrix.bytes > 0)
    return (source * len(number) + destination)[told], matrix.bytes_per_second[told]


def _cosine(one: Rates, other: Rates) -> float:
    sizes = float(np.sqrt((one**2).sum() * (other**2).sum()))
    if sizes:
        return min(1.0, float((one * other).sum()) / sizes)
    return 1.0 if not one.any() and not other.any() else 0.0


def _distance(one: Rates, other: Rates) -> float:
    size = float(np.sqrt((one**2).sum()))
    apart = float(np.sqrt(((one - other) ** 2).sum()))
    if size:
        return apart / size
    return float("inf") if apart else 0.0


def kendall(one: Rates, other: Rates) -> float:
    """Return Kendall's tau-b of two columns, in n log n by counting what a merge sort moves (Knight, 1966)."""
    order = np.lexsort((other, one))
    one, other = one[order], other[order]
    all_pairs = _twos(len(one))
    tied_one = _tied(one[1:] != one[:-1])
    tied_both = _tied((one[1:] != one[:-1]) | (other[1:] != other[:-1]))
    ranked = np.unique(other, return_inverse=True)[1]
    values = np.sort(ranked)
    tied_other = _tied(values[1:] != values[:-1])
    spread = (all_pairs - tied_one) * (all_pairs - tied_other)
    if not spread:
        return 0.0
    agree = all_pairs - tied_one - tied_other + tied_both - 2 * _inversions(ranked)
    return float(agree / np.sqrt(spread))


def _twos(count: float) -> float:
    return count * (count - 1) / 2


def _tied(changes: NDArray[np.bool_]) -> float:
    """Return how many twos are equal, where a sorted column changes at the places given."""
    bounds = np.concatenate(([-1], np.flatnonzero(changes), [len(changes)]))
    runs = np.diff(bounds).astype(float)
    return float((runs * (runs - 1) / 2).sum())


def _inversions(values: NDArray[np.intp]) -> float:
    """Return how many twos stand the wrong way round, by merging blocks of doubled width all at once."""
    count, width, found = len(values), 1, 0.0
    values = values.astype(np.int64)
    place = np.arange(count)
    while width < count:
        block = place // (2 * width)
        right = (place // width) % 2
        # Within a block, the left half's equals come first: only what is truly greater is an inversion.
        order = np.lexsort((right, values, block))
        is_left = 1 - right[order]
        left_so_far = np.cumsum(is_left)
        before_block = np.concatenate(([0], left_so_far))[block[order] * 2 * width]
        lefts = np.minimum(width, count - block[order] * 2 * width)
        greater = lefts - (left_so_far - before_block)
        found += float(greater[is_left == 0].sum())
        values = values[order]
        width *= 2
    return found


# --- company -----------------------------------------------------------------------------------------


def _company(groups: Sequence[Group], shared: Sequence[VmName]) -> NDArray[np.intp]:
    number = {vm: at for at, group in enumerate(groups) for vm in group.vms}
    return np.array([number.get(vm, -1) for vm in shared], dtype=np.intp)


def _changed(
    shared: Sequence[VmName],
    before: NDArray[np.intp],
    after: NDArray[np.intp],
    first_groups: Sequence[Group],
    second_groups: Sequence[Group],
) -> tuple[ChangedCompany, ...]:
    """Return the VMs whose second group isn't the one that took over from their first."""
    heir = _heirs(before, after)
    found = []
    for vm, was, now in zip(shared, before.tolist(), after.tolist(), strict=True):
        if (was >= 0 or now >= 0) and heir.get(was, -1 if was < 0 else None) != now:
            found.append(
                ChangedCompany(
                    vm=vm,
                    before=first_groups[was].vms if was >= 0 else (),
                    after=second_groups[now].vms if now >= 0 else (),
                )
            )
    return tuple(found)


def _heirs(before: NDArray[np.intp], after: NDArray[np.intp]) -> dict[int, int]:
    """Return for each first group the second one that took over from it.

    Those that share most are matched first; each has one heir at most and is heir of one.
    """
    overlap = Overlap.of(before, after)
    heirs: dict[int, int] = {}
    taken: set[int] = set()
    for at in np.lexsort((overlap.other, overlap.one, -overlap.shared)).tolist():
        one, other = (
            int(overlap.labels_one[overlap.one[at]]),
            int(overlap.labels_other[overlap.other[at]]),
        )
        if one not in heirs and other not in taken:
            heirs[one] = other
            taken.add(other)
    return heirs
