"""Grids: rows and columns in which neighbours talk, as halo exchanges do; with or without periodic borders.

A grid is the product of two lines, each open or closed. Which lines those are, and whether the links are that
product, is decided by bringing both into canonical form (Junttila and Kaski's bliss, in igraph). What could be
a hypercube as well is decided in `cubes`; two by two is a ring.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from math import isqrt

import numpy as np

from transhume.analyze.patterns.flow import Flow, Links, Shape, evenness
from transhume.analyze.ties import Members, Weights
from transhume.knowledge.model import PatternKind


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """VMs one after another; closed where the last talks to the first, too."""

    length: int
    closed: bool

    @property
    def degrees(self) -> Members:
        found = np.full(self.length, 2, dtype=np.intp)
        if not self.closed:
            found[[0, -1]] = 1
        return found

    @property
    def links(self) -> int:
        return self.length if self.closed else self.length - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Grid:
    """The product of a line and a line: its places are counted row by row."""

    rows: _Line
    columns: _Line

    @property
    def links(self) -> int:
        return self.rows.length * self.columns.links + self.rows.links * self.columns.length

    @property
    def degrees(self) -> Members:
        """How many places have 0, 1, 2, ... links."""
        return np.bincount(np.add.outer(self.rows.degrees, self.columns.degrees).ravel())

    @property
    def is_a_cube(self) -> bool:
        return all(
            line.length == 2 or (line.closed and line.length == 4)
            for line in (self.rows, self.columns)
        )

    def ends(self) -> tuple[Members, Members]:
        """Return the two places of each link, those within rows first."""
        place = np.arange(self.rows.length * self.columns.length).reshape(self.rows.length, -1)
        right, below = np.roll(place, -1, axis=1), np.roll(place, -1, axis=0)
        across, down = slice(self.columns.links), slice(self.rows.links)
        return (
            np.concatenate((place[:, across].ravel(), place[down].ravel())),
            np.concatenate((right[:, across].ravel(), below[down].ravel())),
        )

    def directions(self) -> Members:
        """Return 0 for each link within a row and 1 for each between rows, in the order of `ends`."""
        within = self.rows.length * self.columns.links
        return (np.arange(self.links) >= within).astype(np.intp)


def grid(flow: Flow) -> Shape | None:
    """Recognise a grid of two directions, with no more rows than columns."""
    found = (_fitted(one, flow) for one in _grids(flow.count))
    return max(
        (shape for shape in found if shape is not None), key=lambda shape: shape.score, default=None
    )


def _grids(count: int) -> Iterator[_Grid]:
    """Return the grids of so many places that are nothing else as well."""
    for rows in range(2, isqrt(count) + 1):
        columns = count // rows
        if count % rows or columns < 3:
            continue
        for rows_close, columns_close in product((False, True), repeat=2):
            one = _Grid(
                rows=_Line(length=rows, closed=rows_close),
                columns=_Line(length=columns, closed=columns_close),
            )
            if not (rows == 2 and rows_close) and not one.is_a_cube:
                yield one


def _fitted(one: _Grid, flow: Flow) -> Shape | None:
    """Return the heaviest links as this grid, or None where they aren't it."""
    links = flow.heaviest(one.links)
    if links is None or not np.array_equal(np.bincount(links.degree), one.degrees):
        return None
    order = _placed(one, links)
    if order is None:
        return None
    weight = _in_order(one, links, order)
    return Shape(
        PatternKind.GRID, order, flow.explained(links) * evenness(weight, one.directions())
    )


def _placed(one: _Grid, links: Links) -> Members | None:
    """Return the VM at each place of the grid, or None where the links aren't it."""
    import igraph

    wanted = igraph.Graph(links.count, np.stack(one.ends(), axis=1))
    seen = igraph.Graph(links.count, np.stack((links.one, links.other), axis=1))
    same, vm_at, _ = wanted.isomorphic_bliss(seen, return_mapping_12=True, return_mapping_21=True)
    return np.array(vm_at, dtype=np.intp) if same else None


def _in_order(one: _Grid, links: Links, order: Members) -> Weights:
    """Return the weight of each of the grid's links."""
    keys = links.one * links.count + links.other
    ends = [order[places] for places in one.ends()]
    wanted = np.minimum(*ends) * links.count + np.maximum(*ends)
    by_key = np.argsort(keys)
    return links.weight[by_key[np.searchsorted(keys, wanted, sorter=by_key)]]
