"""The methods that find groups, under one signature: ties in, a label for each VM out.

Owns which there are and in what order they are asked: the quick and exact ones of our own first, then Leiden
(igraph), then hierarchical and spectral clustering (scikit-learn), whose import alone takes longer than a small
analysis may. A VM without ties has the label -1.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from transhume.analyze.grouping.condensing import EXACT_TO, condensed_groups
from transhume.analyze.grouping.halving import halved_groups
from transhume.analyze.spectra import eigenvectors
from transhume.analyze.ties import Members, Ties, Weights

Method = Callable[[Ties], Members]


def halving(ties: Ties, before: Members | None = None) -> Members:
    """Halve each connected part; those of thousands of VMs are condensed instead."""
    whole = ties.parts()
    size = np.bincount(whole, minlength=ties.count)[whole]
    label = np.where(size > 1, whole, -1)
    for members, within in ties.split(np.where(size <= EXACT_TO, label, -1)):
        for part in halved_groups(within.dense()):
            label[members[part]] = members[part[0]]
    large = size > EXACT_TO
    if large.any():
        members = np.flatnonzero(large)
        known = before[members] if before is not None else None
        label[members] = members[condensed_groups(ties.within(members), known)]
    return label


def leiden(ties: Ties) -> Members:
    """Find communities of high modularity: Traag, Waltman and van Eck (2019), by igraph."""
    import random

    import igraph

    graph = igraph.Graph(ties.count, np.stack((ties.one, ties.other), axis=1))
    igraph.set_random_number_generator(random.Random(0))
    try:
        found = _improved(graph, ties.weight.tolist())
    finally:
        igraph.set_random_number_generator(random)
    return _without_silent(ties, np.array(found, dtype=np.intp))


def _improved(graph: Any, weights: list[float]) -> list[int]:
    """Return the communities that another round of Leiden's makes no better.

    igraph itself goes on as long as a round changes anything: between two that are as good, for ever.
    """
    best: list[int] | None = None
    reached = 0.0
    while True:
        found = graph.community_leiden(
            "modularity", weights=weights, initial_membership=best, n_iterations=1
        ).membership
        gained = graph.modularity(found, weights=weights)
        if best is not None and not gained > reached + LEAST_GAIN:
            return best
        best, reached = found, gained


def agglomerative(ties: Ties) -> Members:
    """Join the nearest, from each VM alone to all in one, and take the division of the highest modularity."""
    from sklearn.cluster import AgglomerativeClustering

    talking, shares = _shares(ties)
    if len(talking) < 2:
        return _labelled(ties, talking, np.zeros(len(talking), dtype=np.intp))
    within = ties.within(talking)
    tree = AgglomerativeClustering(
        n_clusters=None, distance_threshold=0.0, metric="precomputed", linkage="average"
    ).fit(1.0 - shares / shares.max())
    label = np.arange(len(talking), dtype=np.intp)
    best, reached = label, -1.0
    for number, (one, other) in enumerate(tree.children_.tolist(), start=len(talking)):
        label = np.where((label == one) | (label == other), number, label)
        left = 2 * len(talking) - 1 - number
        gained = modularity(within, label) if left <= _most_groups(len(talking)) else -1.0
        if gained >= reached:
            best, reached = label, gained
    return _labelled(ties, talking, best)


def spectral(ties: Ties) -> Members:
    """Cluster the spectral embedding, into as many groups as there are eigenvalues before the widest gap."""
    from sklearn.cluster import SpectralClustering

    talking, shares = _shares(ties)
    values, _ = eigenvectors(shares)
    largest = values[::-1][: _most_groups(len(talking)) + 1]
    count = int(np.argmax(largest[:-1] - largest[1:])) + 1 if len(largest) > 1 else 1
    if count == 1:
        return _labelled(ties, talking, np.zeros(len(talking), dtype=np.intp))
    # The least tie between all: else it warns of parts that aren't connected.
    found = SpectralClustering(
        n_clusters=count, affinity="precomputed", assign_labels="cluster_qr", random_state=0
    ).fit_predict(shares + 1e-9)
    return _labelled(ties, talking, np.asarray(found, dtype=np.intp))


LEAST_GAIN = 1e-9
"""Modularity by which communities are better, and not only rounded otherwise."""
QUICK: Sequence[Method] = (leiden,)
SLOW: Sequence[Method] = (agglomerative, spectral)
SLOW_TO = 500
"""Up to so many VMs the slow ones are asked: they work on square arrays."""


def _most_groups(count: int) -> int:
    """Return into how many groups so many VMs are divided at most."""
    return max(1, min(count - 1, int(2 * np.sqrt(count))))


def _shares(ties: Ties) -> tuple[Members, Weights]:
    """Return the VMs that talk, and what each two say beside what either says in all.

    So the loud don't drown the quiet.
    """
    talking = np.flatnonzero(ties.strength() > 0)
    within = ties.within(talking)
    root = np.sqrt(within.strength())
    return talking, within.dense() / np.outer(root, root)


def _labelled(ties: Ties, talking: Members, found: Members) -> Members:
    label = np.full(ties.count, -1, dtype=np.intp)
    label[talking] = found
    return label


def _without_silent(ties: Ties, label: Members) -> Members:
    return np.where(ties.strength() > 0, label, -1)


def modularity(ties: Ties, label: Members) -> float:
    """Return how much more of the traffic stays inside than by chance (Newman and Girvan, 2004)."""
    whole = ties.weight.sum()
    if not whole:
        return 0.0
    inside = ties.weight[label[ties.one] == label[ties.other]].sum() / whole
    shares = np.bincount(label + 1, ties.strength()) / (2 * whole)
    return float(inside - (shares**2).sum())
