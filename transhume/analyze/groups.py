"""Groups: the VMs that talk mostly to each other, found in the matrix alone.

A set of VMs is a group when little of its traffic leaves it, and that by links that are faint beside those
within; or, where a strong link leaves (one head node feeding another), when cutting the set in two would cost
many times what cutting it off does. So an all-to-all, a ring, a chain and a star are one group each, however
many VMs they have, and chatter between two of them doesn't make them one.

How: each connected part of the traffic is halved along its spectral embedding (scikit-learn) for as long as
there is a cheap cut; then what doesn't stand as a group by the rule above is joined to whom it talks to most.
Nobody says how many groups there are, and nothing is drawn at random.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model import CommunicationMatrix, Group, GroupId

TRIED = 0.25
"""Parts are cut as long as less than this share of the smaller side's traffic crosses."""
LEAVES_AT_MOST = 0.15
"""The share of a group's traffic that may leave it."""
FAINT = 0.3
"""A link is faint below this share of the strongest link that either of its two VMs has."""
MANY_TIMES = 5.0
"""How much dearer than cutting it off it must be to cut a group in two, where a strong link leaves it."""

Weights = NDArray[np.float64]
Members = NDArray[np.intp]
Part = tuple[int, ...]


def find_groups(matrix: CommunicationMatrix) -> tuple[Group, ...]:
    """Return the groups, the busiest first. A VM that talks to no other VM is in none.

    A group is named after its first member by name, so that it keeps its name while that VM stays.
    """
    ties = _ties(matrix)
    parts = [part for whole in _connected(ties) for part in _groups_in(ties, whole)]
    groups = [_group(matrix, ties, part) for part in parts]
    return tuple(sorted(groups, key=lambda g: (-g.internal_bytes_per_second, g.id)))


def _ties(matrix: CommunicationMatrix) -> Weights:
    """Return bytes per second between each two VMs, in both directions together."""
    rate = matrix.rate()
    ties = rate + rate.T
    np.fill_diagonal(ties, 0.0)
    return ties


def _connected(ties: Weights) -> Iterator[Members]:
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import connected_components

    count, label = connected_components(csr_array(ties), directed=False)
    for one in range(count):
        members = np.flatnonzero(label == one)
        if len(members) > 1:
            yield members


def _groups_in(ties: Weights, whole: Members) -> list[Part]:
    """Return the groups that a connected part of the traffic consists of; at least one."""
    parts = list(_halved(ties, whole))
    strong = _strong(ties)
    while len(parts) > 1:
        fallen = [part for part in parts if not _stands(ties, strong, part)]
        if not fallen:
            break
        weakest = max(fallen, key=lambda part: (_share_leaving(ties, part), part))
        parts.remove(weakest)
        nearest = max(parts, key=lambda part: (_between(ties, weakest, part), part))
        parts.remove(nearest)
        parts.append(tuple(sorted(weakest + nearest)))
    return parts


def _halved(ties: Weights, members: Members) -> Iterator[Part]:
    """Cut in two again and again, for as long as there is a cheap cut."""
    cut = _cheapest_cut(_block(ties, members, members))
    if cut.conductance > TRIED:
        yield tuple(int(i) for i in members)
        return
    yield from _halved(ties, members[cut.side])
    yield from _halved(ties, members[~cut.side])


def _strong(ties: Weights) -> NDArray[np.bool_]:
    """Say which links aren't faint."""
    strongest = ties.max(axis=1)
    strong: NDArray[np.bool_] = ties >= FAINT * np.maximum.outer(strongest, strongest)
    return strong & (ties > 0.0)


def _stands(ties: Weights, strong: NDArray[np.bool_], part: Part) -> bool:
    """Say whether a part is a group by itself."""
    leaving = _share_leaving(ties, part)
    if leaving > LEAVES_AT_MOST:
        return False
    members = np.array(part)
    rest = np.delete(np.arange(len(ties)), members)
    if not strong[np.ix_(members, rest)].any():
        return True
    return _cheapest_cut(_block(ties, members, members)).conductance >= MANY_TIMES * leaving


def _share_leaving(ties: Weights, part: Part) -> float:
    return float(1.0 - _between(ties, part, part) / ties[list(part)].sum())


def _between(ties: Weights, one: Part, other: Part) -> float:
    return float(_block(ties, np.array(one), np.array(other)).sum())


def _block(ties: Weights, rows: Members, columns: Members) -> Weights:
    return ties[np.ix_(rows, columns)]


# --- the cheapest way to cut a part in two -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Bisection:
    """Which members are on one side, and the share of the smaller side's traffic that crosses."""

    side: NDArray[np.bool_]
    conductance: float


def _cheapest_cut(ties: Weights) -> _Bisection:
    """Return the best cut in the order of the spectral embedding; a part that has none costs everything."""
    count = len(ties)
    if count < 2 or not ties.any():
        return _Bisection(np.zeros(count, dtype=bool), 1.0 if count < 2 else 0.0)
    volume = ties.sum(axis=1)
    order = _spectral_order(ties)
    sorted_ties = _block(ties, order, order)
    # Moving the next VM to the first side adds its traffic to the cut, but for that with VMs already there.
    inward = np.tril(sorted_ties).sum(axis=1)
    cut = np.cumsum(volume[order] - 2.0 * inward)[:-1]
    first = np.cumsum(volume[order])[:-1]
    conductance = cut / np.minimum(first, volume.sum() - first)
    best = int(np.argmin(conductance))
    side = np.zeros(count, dtype=bool)
    side[order[: best + 1]] = True
    return _Bisection(side, float(conductance[best]))


def _spectral_order(ties: Weights) -> Members:
    """Return the VMs of a connected part so that those that talk much stand near each other."""
    if len(ties) == 2:
        return np.array([0, 1])
    from sklearn.manifold import spectral_embedding

    embedded = spectral_embedding(
        ties / ties.max(), n_components=1, eigen_solver="arpack", random_state=0
    )
    return np.argsort(embedded[:, 0], kind="stable")


def _group(matrix: CommunicationMatrix, ties: Weights, part: Part) -> Group:
    inside = _between(ties, part, part)
    names = tuple(sorted((matrix.vms[i] for i in part), key=_by_number))
    return Group(
        id=GroupId(f"g-{names[0]}"),
        vms=names,
        internal_bytes_per_second=inside / 2,
        external_bytes_per_second=float(ties[list(part)].sum()) - inside,
    )


def _by_number(name: str) -> list[tuple[int, str]]:
    """Sort `vm10` behind `vm9`, as people do."""
    parts = re.split(r"([0-9]+)", name)
    return [(int(part), "") if part.isdigit() else (0, part) for part in parts]
