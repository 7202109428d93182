"""Condensing: groups among thousands of VMs, by the rule of `halving` in rounds over whole columns.

Links that aren't faint hold parts together; a part with a cheap cut is cut; parts that don't stand by
themselves join whom they talk to most, all at once in a round. The cuts are looked for in all parts together,
by the power method on their random walks and a sweep over the result; where that finds a cheap one, the part
is looked at by itself. With the labels of before, parts that they hold together are not tested again.

The same groups as by halving where they are clear; where they aren't, halving is the better judge.
"""

from typing import Any

import numpy as np

from transhume.analyze.grouping.halving import (
    FAINT,
    LEAVES_AT_MOST,
    MANY_TIMES,
    TRIED,
    cheapest_cut,
    halved_groups,
)
from transhume.analyze.ties import Members, Ties, Weights

EXACT_TO = 600
"""Parts of at most so many VMs are cut by a dense decomposition, which takes time by the cube."""
WALK = 40
"""Steps of the power method: a walk that stays on one side of a cut so long shows the cut."""


def condensed_groups(ties: Ties, before: Members | None = None) -> Members:
    """Return a label for each VM, the same for those of one group; a VM without ties is by itself.

    Args:
        ties: of any number of VMs, connected or not.
        before: the labels found in an earlier window, below 0 where there was none.
    """
    strong = ties.strong(FAINT)
    label = ties.where(strong).parts()
    label = _joined_singles(ties, label)
    label = _cut(ties, label, before)
    return _joined(ties, label, strong)


# --- cutting -----------------------------------------------------------------------------------------


def _cut(ties: Ties, label: Members, before: Members | None) -> Members:
    """Cut the parts that have a cheap cut; what is left of a part keeps the part's label."""
    found = label.copy()
    new = np.ones(ties.count, dtype=bool)
    if before is not None:
        new = ~_as_before(label, before)[label]
    if not new.any():
        return found
    suspects = new & (_walked_conductance(ties, label, new)[label] <= TRIED)
    for members, within in ties.split(np.where(suspects, label, -1)):
        for piece in _pieces(within):
            found[members[piece]] = members[piece[0]]
    return found


def _pieces(ties: Ties) -> list[Members]:
    """Cut a connected part into groups, by halving once it is small enough for that."""
    pieces: list[Members] = []
    waiting = [np.arange(ties.count)]
    while waiting:
        whole = waiting.pop()
        within = ties.within(whole)
        if len(whole) <= EXACT_TO:
            pieces += [whole[part] for part in halved_groups(within.dense())]
            continue
        order = _spectral_order(within)
        conductance, at = sweep(within, np.zeros(within.count, dtype=np.intp), order)
        if conductance[0] > TRIED:
            pieces.append(whole)
        else:
            waiting += (np.sort(whole[order[: at[0] + 1]]), np.sort(whole[order[at[0] + 1 :]]))
    return pieces


def _spectral_order(ties: Ties) -> Members:
    """Return the VMs of a large part along an approximate Fiedler vector."""
    from scipy.sparse import diags_array
    from scipy.sparse.linalg import ArpackNoConvergence, eigsh

    volume = ties.strength()
    root = np.sqrt(np.maximum(volume, volume.max() * 1e-15))
    scaled = diags_array(1.0 / root)
    normalised = scaled @ ties.sparse() @ scaled
    start = np.random.default_rng(0).random(ties.count)
    try:
        _, vectors = eigsh(normalised, k=2, which="LA", tol=1e-3, v0=start, maxiter=300)
    except ArpackNoConvergence as unfinished:
        vectors = unfinished.eigenvectors
    least = vectors[:, 0] if vectors.shape[1] else start
    return np.argsort(least / root, kind="stable")


def _as_before(label: Members, before: Members) -> Any:
    """Say for each label whether all of its VMs were in one group before."""
    count = len(label)
    low = np.full(count, count, dtype=np.intp)
    high = np.full(count, -1, dtype=np.intp)
    np.minimum.at(low, label, before)
    np.maximum.at(high, label, before)
    return (low == high) & (low >= 0)


def _walked_conductance(ties: Ties, label: Members, asked: Any) -> Weights:
    """Return for each label the share that the best cut found in its part takes; 1 where there is none.

    What is said of the VMs that aren't asked about means nothing.
    """
    inside = ties.where((label[ties.one] == label[ties.other]) & asked[ties.one])
    conductance, _ = sweep(inside, label, _walked_order(inside, label))
    return conductance


def _walked_order(inside: Ties, label: Members) -> Members:
    """Return the VMs by part and, in it, by where a lazy random walk within the part tells them apart."""
    volume = inside.strength()
    alone = volume == 0
    volume = np.where(alone, 1.0, volume)
    whole = np.bincount(label, volume, inside.count)
    whole[whole == 0] = 1.0
    neighbours = inside.sparse()
    place = np.random.default_rng(0).standard_normal(inside.count)
    for _ in range(WALK):
        place -= (np.bincount(label, volume * place, inside.count) / whole)[label]
        place = np.where(alone, 0.0, 0.5 * (place + neighbours @ place / volume))
        size = np.bincount(label, volume * place**2, inside.count)[label] / whole[label]
        place /= np.sqrt(np.where(size > 0, size, 1.0))
    return np.lexsort((place, label))


def sweep(ties: Ties, label: Members, order: Members) -> tuple[Weights, Members]:
    """Return the best cut of each part along an order of the VMs that goes part by part.

    Returns:
        By label: the share of the smaller side's traffic that crosses, 1 for a label without a cut; and the
        place in the order behind which the cut is.
    """
    place = np.empty(ties.count, dtype=np.intp)
    place[order] = np.arange(ties.count)
    ends = np.stack((place[ties.one], place[ties.other]))
    opened = np.bincount(ends.min(axis=0), ties.weight, ties.count)
    closed = np.bincount(ends.max(axis=0), ties.weight, ties.count)
    crossing = np.cumsum(opened - closed)
    volume = ties.strength()[order]
    so_far = np.cumsum(volume)
    of_part = label[order]
    first = np.flatnonzero(np.diff(of_part, prepend=-1))
    whole = np.add.reduceat(volume, first)
    part = np.cumsum(np.diff(of_part, prepend=-1) != 0) - 1
    behind = so_far - (so_far[first] - volume[first])[part]
    smaller = np.minimum(behind, whole[part] - behind)
    share = np.where(smaller > 1e-12 * whole[part], crossing / np.where(smaller > 0, smaller, 1), 1)
    share[np.append(first[1:], ties.count) - 1] = 1.0
    conductance = np.ones(ties.count)
    conductance[of_part[first]] = np.minimum.reduceat(share, first)
    best = np.lexsort((share, of_part))[first]
    at = np.zeros(ties.count, dtype=np.intp)
    at[of_part[first]] = best
    return conductance, at


# --- joining -----------------------------------------------------------------------------------------


def _joined_singles(ties: Ties, label: Members) -> Members:
    """Let each VM that no strong link holds stay with the part that it talks to most."""
    single = np.bincount(label, minlength=ties.count)[label] == 1
    return _hooked(ties, label, single) if single.any() else label


def _joined(ties: Ties, label: Members, strong: Any) -> Members:
    """Join what doesn't stand by itself to whom it talks to most, until all stands."""
    strength = ties.strength()
    while True:
        apart = label[ties.one] != label[ties.other]
        fallen = _fallen(ties, label, strong, apart, strength)
        if not fallen.any():
            return label
        label = _hooked(ties, label, fallen[label])


def _fallen(ties: Ties, label: Members, strong: Any, apart: Any, strength: Weights) -> Any:
    """Say for each label whether its part is no group by itself."""
    count = ties.count
    leaving = np.bincount(label[ties.one[apart]], ties.weight[apart], count)
    leaving += np.bincount(label[ties.other[apart]], ties.weight[apart], count)
    whole = np.bincount(label, strength, count)
    share = np.divide(leaving, whole, out=np.zeros(count), where=whole > 0)
    fallen = share > LEAVES_AT_MOST
    leaks = np.zeros(count, dtype=bool)
    loud = apart & strong
    leaks[label[ties.one[loud]]] = leaks[label[ties.other[loud]]] = True
    doubted = leaks & ~fallen
    if doubted.any():
        for members, within in ties.split(np.where(doubted[label], label, -1)):
            one = label[members[0]]
            fallen[one] = _conductance(within) < MANY_TIMES * share[one]
    return fallen


def _conductance(ties: Ties) -> float:
    if ties.count <= EXACT_TO:
        return cheapest_cut(ties.dense()).conductance
    found, _ = sweep(ties, np.zeros(ties.count, dtype=np.intp), _spectral_order(ties))
    return float(found[0])


def _hooked(ties: Ties, label: Members, loose: Any) -> Members:
    """Return the labels with each loose VM's part joined to the part that it talks to most.

    A part whose only company is loose, too, joins that.
    """
    apart = label[ties.one] != label[ties.other]
    one, other = label[ties.one[apart]], label[ties.other[apart]]
    weight = ties.weight[apart]
    between = Ties.of_pairs(ties.count, one, other, weight)
    ends = np.concatenate((between.one, between.other))
    company = np.concatenate((between.other, between.one))
    said = np.concatenate((between.weight, between.weight))
    order = np.lexsort((company, -said, ends))
    first = order[np.flatnonzero(np.diff(ends[order], prepend=-1))]
    of_label = np.zeros(ties.count, dtype=bool)
    of_label[label[loose]] = True
    hooks = first[of_label[ends[first]]]
    joined = Ties.of_pairs(ties.count, ends[hooks], company[hooks], np.ones(len(hooks))).parts()
    return joined[label]
