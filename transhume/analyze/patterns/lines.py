"""Lines: pairs, pipelines and rings; each VM has one link or two.

A ring of three is an all-to-all unless it goes round one way; a line of three is a master with two workers
unless it flows through.
"""

import numpy as np

from transhume.analyze.patterns.flow import Flow, Links, Shape, evenness
from transhume.analyze.ties import Members
from transhume.knowledge.model import PatternKind

ONE_WAY = 0.9
"""The share of the bytes that go the greater way; answers (acknowledgements) are some hundredths."""


def pairs(flow: Flow) -> Shape | None:
    """Recognise VMs that talk two by two, each pair as much as it likes."""
    links = flow.heaviest(flow.count // 2)
    if links is None or flow.count % 2 or (links.degree != 1).any():
        return None
    order = np.argsort(links.one)
    ends = np.stack((links.one[order], links.other[order]), axis=1)
    fits = (1.0 + evenness(links.weight)) / 2
    return Shape(PatternKind.PAIRS, ends.ravel(), fits * flow.explained(links))


def pipeline(flow: Flow) -> Shape | None:
    """Recognise an open chain, in the direction in which it flows."""
    if flow.count < 3:
        return None
    links = flow.heaviest(flow.count - 1)
    if (
        links is None
        or (np.bincount(links.degree, minlength=3)[:3] != (0, 2, flow.count - 2)).any()
    ):
        return None
    start = int(np.flatnonzero(links.degree == 1)[0])
    order = _walk(links, start)
    if len(order) != flow.count:
        return None
    along, all_bytes = _along(links, order)
    if flow.count == 3 and not _one_way(along, all_bytes):
        return None
    score = evenness(links.weight) * flow.explained(links)
    return Shape(PatternKind.PIPELINE, order if 2 * along >= all_bytes else order[::-1], score)


def ring(flow: Flow) -> Shape | None:
    """Recognise a closed chain, in the direction in which it flows."""
    links = flow.heaviest(flow.count)
    if links is None or (links.degree != 2).any():
        return None
    order = _walk(links, 0)
    if len(order) != flow.count:
        return None
    along, all_bytes = _along(links, order)
    if flow.count == 3 and not _one_way(along, all_bytes):
        return None
    if 2 * along < all_bytes:
        order = np.roll(order[::-1], 1)
    return Shape(PatternKind.RING, order, evenness(links.weight) * flow.explained(links))


def _one_way(along: float, all_bytes: float) -> bool:
    """Say whether what flows goes along an order of the VMs, or against it."""
    return max(along, all_bytes - along) >= ONE_WAY * all_bytes


def _walk(links: Links, start: int) -> Members:
    """Return the VMs along a chain from one of them, until it ends or comes round."""
    company: list[list[int]] = [[] for _ in range(links.count)]
    for one, other in zip(links.one.tolist(), links.other.tolist(), strict=True):
        company[one].append(other)
        company[other].append(one)
    order, before, at = [start], -1, start
    while True:
        onward = [vm for vm in company[at] if vm != before]
        if not onward or onward[0] == start:
            return np.array(order, dtype=np.intp)
        before, at = at, onward[0]
        order.append(at)


def _along(links: Links, order: Members) -> tuple[float, float]:
    """Return what flows along an order of the VMs, round its end too, and all that flows."""
    place = np.empty(links.count, dtype=np.intp)
    place[order] = np.arange(links.count)
    onward = (place[links.other] - place[links.one]) % links.count == 1
    along = np.where(onward, links.forward, links.weight - links.forward).sum()
    return float(along), float(links.weight.sum())
