"""Halving: groups in a connected part of some hundreds of VMs, by cheap cuts and a rule; the exact method.

A set of VMs is a group when little of its traffic leaves it, and that by links that are faint beside those
within; or, where a strong link leaves (one head node feeding another), when cutting the set in two would cost
many times what cutting it off does. So an all-to-all, a ring, a chain and a star are one group each, however
many VMs they have, and chatter between two of them doesn't make them one.

How: the part is halved along its spectral embedding for as long as there is a cheap cut; then what doesn't
stand as a group by the rule above is joined to whom it talks to most. Nobody says how many groups there are,
and nothing is drawn at random.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.spectra import eigenvectors
from transhume.analyze.ties import Members, Weights

TRIED = 0.25
"""Parts are cut as long as less than this share of the smaller side's traffic crosses."""
LEAVES_AT_MOST = 0.15
"""The share of a group's traffic that may leave it."""
FAINT = 0.3
"""A link is faint below this share of the strongest link that either of its two VMs has."""
MANY_TIMES = 5.0
"""How much dearer than cutting it off it must be to cut a group in two, where a strong link leaves it."""


def halved_groups(ties: Weights) -> list[Members]:
    """Return the groups that a connected part of the traffic, a square array, consists of; at least one."""
    joining = _Joining(ties, list(_halved(ties, np.arange(len(ties)))))
    while joining.join_weakest():
        pass
    return joining.parts


def _halved(ties: Weights, members: Members) -> Iterator[Members]:
    """Cut in two again and again, for as long as there is a cheap cut."""
    waiting = [members]
    while waiting:
        whole = waiting.pop()
        cut = cheapest_cut(_block(ties, whole, whole))
        if cut.conductance > TRIED:
            yield whole
        else:
            waiting += (whole[cut.side], whole[~cut.side])


def _block(ties: Weights, rows: Members, columns: Members) -> Weights:
    return ties[np.ix_(rows, columns)]


# --- joining what doesn't stand by itself ------------------------------------------------------------


class _Joining:
    """Parts, what is said between them, and which of them stand, while they are joined one by one."""

    def __init__(self, ties: Weights, parts: list[Members]) -> None:
        self._ties = ties
        self._parts: list[Members | None] = list(parts)
        order = np.concatenate(parts)
        starts = np.cumsum([0, *(len(part) for part in parts[:-1])])
        # By blocks: what each two parts say to each other, and whether a link between them isn't faint.
        self._between = _by_blocks(np.add, _block(ties, order, order), starts)
        self._leaks = _by_blocks(np.logical_or, _strong(ties)[np.ix_(order, order)], starts)
        np.fill_diagonal(self._leaks, False)
        self._first = np.array([part[0] for part in parts])
        self._stands = np.array([self._stands_alone(at) for at in range(len(parts))])

    @property
    def parts(self) -> list[Members]:
        """The parts that there are now."""
        return [part for part in self._parts if part is not None]

    def join_weakest(self) -> bool:
        """Join the part of which most leaves to the one that it talks to most; False when all stand."""
        fallen = np.flatnonzero(~self._stands)
        if not len(fallen) or len(self.parts) < 2:
            return False
        leaving = np.array([self._share_leaving(at) for at in fallen.tolist()])
        weakest = int(fallen[np.lexsort((self._first[fallen], leaving))[-1]])
        said = self._between[weakest].copy()
        said[weakest] = -1.0
        nearest = int(np.lexsort((self._first, said))[-1])
        self._join(weakest, nearest)
        return True

    def _join(self, one: int, other: int) -> None:
        """Put a part into another; its own place is empty from then on, and stands."""
        both = np.concatenate(
            [part for part in (self._parts[one], self._parts[other]) if part is not None]
        )
        self._parts[other], self._parts[one] = np.sort(both), None
        for square in (self._between, self._leaks):
            square[other] += square[one]
            square[:, other] += square[:, one]
            square[one] = square[:, one] = 0
        self._leaks[other, other] = False
        self._first[other] = min(self._first[one], self._first[other])
        self._first[one] = -1
        self._stands[one] = True
        self._stands[other] = self._stands_alone(other)

    def _share_leaving(self, at: int) -> float:
        said = self._between[at].sum()
        return float(1.0 - self._between[at, at] / said) if said else 0.0

    def _stands_alone(self, at: int) -> bool:
        """Say whether a part is a group by itself."""
        leaving = self._share_leaving(at)
        part = self._parts[at]
        if leaving > LEAVES_AT_MOST or part is None:
            return False
        if not self._leaks[at].any():
            return True
        return cheapest_cut(_block(self._ties, part, part)).conductance >= MANY_TIMES * leaving


def _by_blocks(add: np.ufunc, square: NDArray[Any], starts: Members) -> NDArray[Any]:
    return np.asarray(add.reduceat(add.reduceat(square, starts, axis=0), starts, axis=1))


def _strong(ties: Weights) -> NDArray[np.bool_]:
    """Say which links aren't faint."""
    strongest = ties.max(axis=1)
    strong: NDArray[np.bool_] = ties >= FAINT * np.maximum.outer(strongest, strongest)
    return strong & (ties > 0.0)


# --- the cheapest way to cut a part in two -----------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bisection:
    """Which members are on one side, and the share of the smaller side's traffic that crosses."""

    side: NDArray[np.bool_]
    conductance: float


def cheapest_cut(ties: Weights) -> Bisection:
    """Return the best cut in the order of the spectral embedding; a part that has none costs everything."""
    count = len(ties)
    if count < 2 or not ties.any():  # whom a cut has left without ties are cut from each other
        return Bisection(np.arange(count) < count - 1, 1.0 if count < 2 else 0.0)
    volume = ties.sum(axis=1)
    order = _spectral_order(ties, volume)
    sorted_ties = _block(ties, order, order)
    # Moving the next VM to the first side adds its traffic to the cut, but for that with VMs already there.
    inward = np.tril(sorted_ties).sum(axis=1)
    cut = np.cumsum(volume[order] - 2.0 * inward)[:-1]
    first = np.cumsum(volume[order])[:-1]
    smaller = np.minimum(first, volume.sum() - first)
    # A side without any traffic is cut off for nothing.
    conductance = np.divide(cut, smaller, out=np.zeros_like(cut), where=smaller > 0.0)
    best = int(np.argmin(conductance))
    side = np.zeros(count, dtype=bool)
    side[order[: best + 1]] = True
    return Bisection(side, float(conductance[best]))


def _spectral_order(ties: Weights, volume: Weights) -> Members:
    """Return the VMs so that those that talk much stand near each other: along the Fiedler vector.

    The vector of the normalised Laplacian, by Shi and Malik (2000). The one that is the same in every graph is
    moved out of the way, so that what is found says something even where the part falls into pieces.
    """
    root = np.sqrt(np.maximum(volume, volume.max() * 1e-15))
    same = root / np.linalg.norm(root)
    normalised = ties / np.outer(root, root) - 2.0 * np.outer(same, same)
    _, vectors = eigenvectors(normalised)
    return np.argsort(vectors[:, -1] / root, kind="stable")
