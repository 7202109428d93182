"""Cubes: a butterfly, in which each VM talks to those whose rank differs in one bit; a hypercube of links.

A hypercube of 16 is also a grid of 4 by 4 with periodic borders, one of 8 a grid of 2 by 4 with one, and one of
4 a ring: the very same links. Only their weights can tell:

- four VMs are a butterfly where one stage carries noticeably more than the other, else a ring;
- 8 and 16 are a grid where the stages fall into two directions that carry noticeably different amounts (both
  stages of a direction of length 4 alike), else a butterfly: a butterfly explains why all stages carry the
  same, or each twice the one before; for a grid that would be chance.
"""

import numpy as np

from transhume.analyze.patterns.flow import Flow, Links, Shape, evenness
from transhume.analyze.ties import Members, Weights, summed
from transhume.knowledge.model import PatternKind

NOTICEABLY = 1.4
"""How many times as much of one stage than of another is noticeably more."""
ALONG_A_CYCLE = (0, 1, 3, 2)
"""The four corners of a square of two bits, one after another."""


def butterfly(flow: Flow) -> Shape | None:
    """Recognise a hypercube, and tell whether it is a butterfly or a small grid that looks the same."""
    count = flow.count
    dimensions = count.bit_length() - 1
    if dimensions < 2 or count != 1 << dimensions:
        return None
    links = flow.heaviest(count * dimensions // 2)
    if links is None or (links.degree != dimensions).any():
        return None
    rank = _ranks(links, dimensions)
    if rank is None:
        return None
    stage = np.log2(rank[links.one] ^ rank[links.other]).astype(np.intp)
    explained = flow.explained(links)
    volume = summed(stage, links.weight, dimensions)
    loudest = np.argsort(volume, kind="stable")[::-1]
    directions = _directions(volume[loudest])
    if directions is None:
        return None
    rank = _with_bits(rank, loudest)
    if directions == BUTTERFLY:
        score = explained * evenness(links.weight, stage)
        return Shape(PatternKind.BUTTERFLY, np.argsort(rank), score)
    rows, columns = directions
    direction = np.isin(stage, loudest[list(columns)]).astype(np.intp)
    place = _along(rank, rows) * (1 << len(columns)) + _along(rank, columns)
    score = explained * evenness(links.weight, direction)
    return Shape(PatternKind.GRID, np.argsort(place), score)


Directions = tuple[tuple[int, ...], tuple[int, ...]]
BUTTERFLY: Directions = ((), ())


def _directions(volume: Weights) -> Directions | None:
    """Return which stages are a grid's rows and which its columns, or that there are none; the loudest first.

    None where a ring is meant.
    """
    step = volume[:-1] / volume[1:] >= NOTICEABLY
    match step.tolist():
        case [False]:
            return None
        case [False, True, False]:
            return (0, 1), (2, 3)
        case [False, True]:
            return (2,), (0, 1)
        case [True, False]:
            return (0,), (1, 2)
        case _:
            return BUTTERFLY


def _along(rank: Members, bits: tuple[int, ...]) -> Members:
    """Return the place along a direction that one or two bits of the rank make up."""
    if len(bits) == 1:
        return np.asarray((rank >> bits[0]) & 1, dtype=np.intp)
    corner = ((rank >> bits[0]) & 1) | ((rank >> bits[1]) & 1) << 1
    return np.take(np.array(ALONG_A_CYCLE, dtype=np.intp), corner)


def _with_bits(rank: Members, order: Members) -> Members:
    """Return the ranks with their bits in another order, the first of it lowest."""
    found = np.zeros_like(rank)
    for bit, old in enumerate(order.tolist()):
        found |= ((rank >> old) & 1) << bit
    return found


def _ranks(links: Links, dimensions: int) -> Members | None:
    """Return the ranks that make the links a hypercube, or None where none do.

    A first VM gets 0 and its neighbours one bit each; at each distance further, a VM's rank has the bits of all
    its neighbours that are one step nearer.
    """
    company = links.neighbours(dimensions)
    rank = np.full(links.count, -1, dtype=np.intp)
    rank[0] = 0
    rank[company[0]] = 1 << np.arange(dimensions)
    edge = company[0]
    for _ in range(dimensions - 1):
        further = company[edge].ravel()
        bits = np.repeat(rank[edge], dimensions)
        new = rank[further] < 0
        edge = np.unique(further[new])
        rank[edge] = 0
        np.bitwise_or.at(rank, further[new], bits[new])
    differ = rank[links.one] ^ rank[links.other]
    bitwise = (differ & (differ - 1)) == 0
    each_once = np.array_equal(np.sort(rank), np.arange(links.count))
    return rank if each_once and bitwise.all() else None
