"""The geometry of the report's heat map and graph: where each cell, circle and curve goes.

Owns numbers only; colours are the style sheet's, and marks are made of them in the template. Coordinates are in
the units of each picture's own view box.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from transhume.cli.views.arrangement import DECADES, Arrangement, Block, levels
from transhume.knowledge.model import CloudName, VmName
from transhume.quantities import format_rate

LEVELS = 8
HUES = 8
_LETTER = 6.2
"""The width of a letter of a label, near enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A square of the heat map, or a frame round several."""

    x: float
    y: float
    size: float
    level: int
    row: int = -1
    column: int = -1
    tip: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    """A word in a picture."""

    x: float
    y: float
    text: str
    anchor: str = "start"
    hue: int = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class HeatMap:
    """Rows send, columns receive."""

    width: float
    height: float
    left: float
    top: float
    side: float
    cells: tuple[Cell, ...]
    frames: tuple[Cell, ...]
    rows: tuple[Label, ...]
    columns: tuple[Label, ...]
    letters: float
    """The size of the labels."""
    turn: int
    """How far the columns' labels are turned, in degrees."""
    least: str
    most: str


def heat_map(shown: Arrangement) -> HeatMap:
    """Lay the heat map out."""
    count = len(shown.labels)
    cell = min(44.0, max(9.5, 460.0 / max(count, 1)))
    letters = min(11.0, cell * 0.9)
    longest = max((len(label) for label in shown.labels), default=0) * _LETTER * letters / 11.0
    slanted = cell >= 16.0  # labels side by side at a slant would overlap in narrower columns
    left, top = longest + 16.0, longest * (0.75 if slanted else 1.0) + 18.0
    hue = hues(shown.blocks)
    middle = [(place + 0.5) * cell for place in range(count)]
    level = levels(shown.rate, LEVELS)
    largest = float(shown.rate.max(initial=0.0))
    return HeatMap(
        width=left + count * cell + (longest * 0.75 if slanted else 0.0) + 4.0,
        height=top + count * cell + 4.0,
        left=left,
        top=top,
        side=count * cell,
        cells=tuple(
            Cell(
                x=left + j * cell,
                y=top + i * cell,
                size=cell,
                level=int(level[i, j]),
                row=i,
                column=j,
                tip=f"{shown.labels[i]} → {shown.labels[j]}: {format_rate(shown.rate[i, j])}",
            )
            for i, j in zip(*(index.tolist() for index in np.nonzero(level)), strict=True)
        ),
        frames=tuple(
            Cell(
                x=left + block.first * cell,
                y=top + block.first * cell,
                size=block.count * cell,
                level=hue[block.first],
            )
            for block in shown.blocks
            if block.group is not None
        ),
        rows=tuple(
            Label(x=left - 9.0, y=top + middle[i], text=text, anchor="end", hue=hue[i])
            for i, text in enumerate(shown.labels)
        ),
        columns=tuple(
            Label(x=left + middle[j], y=top - 9.0, text=text, hue=hue[j])
            for j, text in enumerate(shown.labels)
        ),
        letters=letters,
        turn=-45 if slanted else -90,
        least=format_rate(largest / 10**DECADES),
        most=format_rate(largest),
    )


def hues(blocks: Sequence[Block]) -> list[int]:
    """Return the hue of each row: its group's, or -1 for those in none."""
    found: list[int] = []
    for number, block in enumerate(blocks):
        found += [number % HUES if block.group is not None else -1] * block.count
    return found


# --- the graph ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A VM (or a group of them) in the graph."""

    x: float
    y: float
    radius: float
    hue: int
    label: Label
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """A curve between two nodes; `weight` is 0 to 1, by powers of ten."""

    path: str
    weight: float
    one: int
    other: int
    crosses: bool
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes in the order of the heat map's rows."""

    x: float
    y: float
    width: float
    height: float
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    titles: tuple[Label, ...]
    """The groups' names, where there are too many nodes for a name at each."""


MOST_NAMES = 30


def graph(shown: Arrangement, cloud_of: Mapping[VmName, CloudName] | None) -> Graph:
    """Lay the graph out: each group a ring, the rings round a common middle."""
    rings = _rings(shown.blocks)
    places = [place for ring in rings for place in ring.places()]
    outward = [turn for ring in rings for turn in ring.turns()]
    talk = shown.rate.sum(axis=0) + shown.rate.sum(axis=1)
    busiest = float(talk.max(initial=0.0)) or 1.0
    hue = hues(shown.blocks)
    clouds = [cloud_of.get(VmName(label)) if cloud_of else None for label in shown.labels]
    named = len(places) <= MOST_NAMES
    nodes = tuple(
        Node(
            x=x,
            y=y,
            radius=5.0 + 7.0 * math.sqrt(talk[i] / busiest),
            hue=hue[i],
            label=_beside(x, y, outward[i], 0.0, shown.labels[i] if named else ""),
            tip=f"{shown.labels[i]}{f' in {clouds[i]}' if clouds[i] else ''}: {format_rate(talk[i])}",
        )
        for i, (x, y) in enumerate(places)
    )
    titles = [] if named else [_title(ring, hue) for ring in rings if ring.block.group]
    return _framed(nodes, tuple(titles), tuple(_edges(shown, places, clouds)))


def _framed(nodes: tuple[Node, ...], titles: tuple[Label, ...], edges: tuple[Edge, ...]) -> Graph:
    """Put a frame round a graph that its labels fit into."""
    words = [node.label for node in nodes] + list(titles)
    reach = max((len(word.text) for word in words), default=0) * _LETTER + 24.0
    xs, ys = [word.x for word in words] or [0.0], [word.y for word in words] or [0.0]
    width, height = max(xs) - min(xs) + 2 * reach, max(ys) - min(ys) + 60.0
    return Graph(
        x=min(xs) - reach - max(0.0, 420.0 - width) / 2,
        y=min(ys) - 30.0 - max(0.0, 300.0 - height) / 2,
        width=max(width, 420.0),
        height=max(height, 300.0),
        nodes=nodes,
        edges=edges,
        titles=titles,
    )


@dataclass(frozen=True, slots=True)
class _Ring:
    """Where a group's nodes are: on a circle, the first one in the direction away from the middle."""

    block: Block
    x: float
    y: float
    radius: float
    angle: float

    def turns(self) -> list[float]:
        """Return the direction of each node, seen from the circle's centre."""
        return [self.angle + 2 * math.pi * n / self.block.count for n in range(self.block.count)]

    def places(self) -> list[tuple[float, float]]:
        """Return where each node is."""
        return [
            (self.x + self.radius * math.cos(turn), self.y + self.radius * math.sin(turn))
            for turn in self.turns()
        ]


def _rings(blocks: Sequence[Block]) -> list[_Ring]:
    """Put the groups' circles round a common middle, each with the room that it needs."""
    radii = [0.0 if block.count == 1 else max(30.0, block.count * 5.4) for block in blocks]
    around = sum(2 * radius + 70.0 for radius in radii)
    wide = 0.0
    if len(blocks) > 1:
        wide = max(around / (2 * math.pi), max(radii) + 50.0)
    rings, angle = [], -math.pi / 2
    for block, radius in zip(blocks, radii, strict=True):
        half = math.pi * (2 * radius + 70.0) / around
        angle += half
        x, y = wide * math.cos(angle) * 1.15, wide * math.sin(angle)
        rings.append(_Ring(block, x, y, radius, angle))
        angle += half
    return rings


def _title(ring: _Ring, hue: Sequence[int]) -> Label:
    label = _beside(ring.x, ring.y, ring.angle, ring.radius + 4.0, str(ring.block.group))
    return replace(label, hue=hue[ring.block.first])


def _beside(x: float, y: float, direction: float, away: float, text: str) -> Label:
    """Put a word on the far side of a point, so that it begins or ends there."""
    across, down = math.cos(direction), math.sin(direction)
    anchor = "middle" if abs(across) < 0.35 else "start" if across > 0 else "end"
    return Label(x=x + (away + 17.0) * across, y=y + (away + 20.0) * down, text=text, anchor=anchor)


def _edges(
    shown: Arrangement,
    places: Sequence[tuple[float, float]],
    clouds: Sequence[CloudName | None],
) -> Iterator[Edge]:
    both = shown.rate + shown.rate.T
    np.fill_diagonal(both, 0.0)
    largest = float(both.max(initial=0.0))
    centre = (float(np.mean([x for x, _ in places])), float(np.mean([y for _, y in places])))
    pairs = [(i, j) for i, j in zip(*np.nonzero(np.triu(both)), strict=True)]
    for i, j in sorted(pairs, key=lambda pair: both[pair]):
        there, back = format_rate(shown.rate[i, j]), format_rate(shown.rate[j, i])
        yield Edge(
            path=_curve(places[i], places[j], centre),
            weight=max(0.0, 1.0 + math.log10(both[i, j] / largest) / DECADES),
            one=int(i),
            other=int(j),
            crosses=clouds[i] != clouds[j],
            tip=f"{shown.labels[i]} → {shown.labels[j]}: {there}; back: {back}",
        )


def _curve(
    one: tuple[float, float], other: tuple[float, float], centre: tuple[float, float]
) -> str:
    """Bend a line a little towards the middle, so that lines of one ring don't lie on each other."""
    x, y = (one[0] + other[0]) / 2, (one[1] + other[1]) / 2
    bend_x, bend_y = x + (centre[0] - x) * 0.18, y + (centre[1] - y) * 0.18
    return f"M{one[0]:.1f} {one[1]:.1f}Q{bend_x:.1f} {bend_y:.1f} {other[0]:.1f} {other[1]:.1f}"
