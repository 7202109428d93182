"""The geometry of the report's pictures: where each cell, circle, curve and bar goes.

Owns numbers only; colours are the style sheet's, and marks are made of them in the template. Coordinates are in
the units of each picture's own view box.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from transhume.cli.views.arrangement import DECADES, Arrangement, Block, levels
from transhume.knowledge.model import CloudName, CostRate, VmName
from transhume.quantities import format_dollars_per_hour, format_rate

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
    least: str
    most: str


def heat_map(shown: Arrangement) -> HeatMap:
    """Lay the heat map out."""
    count = len(shown.labels)
    cell = min(34.0, max(9.0, 460.0 / max(count, 1)))
    longest = max((len(label) for label in shown.labels), default=0) * _LETTER
    left, top = longest + 16.0, longest * 0.75 + 18.0
    hue = hues(shown.blocks)
    middle = [(place + 0.5) * cell for place in range(count)]
    level = levels(shown.rate, LEVELS)
    largest = float(shown.rate.max(initial=0.0))
    return HeatMap(
        width=left + count * cell + longest * 0.75 + 4.0,
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


def graph(shown: Arrangement, cloud_of: Mapping[VmName, CloudName] | None) -> Graph:
    """Lay the graph out: each group a ring, the rings round a common middle."""
    places, outward = _places(shown.blocks)
    talk = shown.rate.sum(axis=0) + shown.rate.sum(axis=1)
    busiest = float(talk.max(initial=0.0)) or 1.0
    hue = hues(shown.blocks)
    clouds = [cloud_of.get(VmName(label)) if cloud_of else None for label in shown.labels]
    nodes = tuple(
        Node(
            x=x,
            y=y,
            radius=5.0 + 7.0 * math.sqrt(talk[i] / busiest),
            hue=hue[i],
            label=_beside(x, y, outward[i], shown.labels[i]),
            tip=f"{shown.labels[i]}{f' in {clouds[i]}' if clouds[i] else ''}: {format_rate(talk[i])}",
        )
        for i, (x, y) in enumerate(places)
    )
    widest = max((len(label) for label in shown.labels), default=0) * _LETTER + 24.0
    xs, ys = [x for x, _ in places] or [0.0], [y for _, y in places] or [0.0]
    return Graph(
        x=min(xs) - widest,
        y=min(ys) - 34.0,
        width=max(xs) - min(xs) + 2 * widest,
        height=max(ys) - min(ys) + 68.0,
        nodes=nodes,
        edges=tuple(_edges(shown, places, clouds)),
    )


def _places(blocks: Sequence[Block]) -> tuple[list[tuple[float, float]], list[float]]:
    """Return where each row's node is, and in which direction its label goes."""
    rings = [_ring(block.count) for block in blocks]
    around = sum(2 * ring + 70.0 for ring in rings)
    wide = 0.0 if len(blocks) == 1 else max(around / (2 * math.pi), max(rings, default=0.0) + 50.0)
    places, outward, angle = [], [], -math.pi / 2
    for block, ring in zip(blocks, rings, strict=True):
        half = math.pi * (2 * ring + 70.0) / around
        angle += half
        x, y = wide * math.cos(angle) * 1.15, wide * math.sin(angle)
        for member in range(block.count):
            turn = angle + 2 * math.pi * member / block.count
            places.append((x + ring * math.cos(turn), y + ring * math.sin(turn)))
            outward.append(turn)
        angle += half
    return places, outward


def _ring(count: int) -> float:
    return 0.0 if count == 1 else max(30.0, count * 34.0 / (2 * math.pi))


def _beside(x: float, y: float, direction: float, text: str) -> Label:
    across, down = math.cos(direction), math.sin(direction)
    anchor = "middle" if abs(across) < 0.35 else "start" if across > 0 else "end"
    return Label(x=x + 17.0 * across, y=y + 20.0 * down, text=text, anchor=anchor)


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


# --- bars --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle with something to say."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeLine:
    """Bytes per second over time."""

    width: float
    height: float
    bars: tuple[Bar, ...]
    most: str
    first: str
    last: str


TIME_LINE = (1000.0, 110.0)


def time_line(points: Sequence[tuple[datetime, float]]) -> TimeLine:
    """Draw rates over time, each bar as wide as its stretch."""
    width, height = TIME_LINE
    most = max((rate for _, rate in points), default=0.0)
    step = width / max(len(points), 1)
    return TimeLine(
        width=width,
        height=height,
        bars=tuple(
            Bar(
                x=place * step,
                y=height * (1 - rate / most),
                width=step - (1.0 if step > 4.0 else 0.0),
                height=height * rate / most,
                kind="rate",
                tip=f"{_clock(at)}: {format_rate(rate)}",
            )
            for place, (at, rate) in enumerate(points)
            if rate > 0.0
        ),
        most=format_rate(most),
        first=_clock(points[0][0]) if points else "",
        last=_clock(points[-1][0]) if points else "",
    )


def _clock(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%S}"


CAUSES = ("compute", "egress", "migration", "risk", "lateness")
BILL_WIDTH = 1000.0


def bill_bar(bill: CostRate, largest: float) -> tuple[Bar, ...]:
    """Draw a bill as one bar, a part for each cause; `largest` is the total that fills the width."""
    bars, x = [], 0.0
    for cause in CAUSES:
        dollars: float = getattr(bill, cause)
        wide = BILL_WIDTH * dollars / largest if largest > 0 else 0.0
        if wide > 0:
            tip = f"{cause}: {format_dollars_per_hour(dollars)}"
            bars.append(Bar(x=x, y=0.0, width=wide, height=30.0, kind=cause, tip=tip))
        x += max(wide, 0.0)
    return tuple(bars)
