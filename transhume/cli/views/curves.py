"""The geometry of curves over time: one line a run, in one picture, with a scale.

Owns numbers only, in the units of the picture's own view box; colours are the style sheet's.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 1000.0, 260.0
LEFT, RIGHT, TOP, BOTTOM = 70.0, 8.0, 10.0, 22.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve:
    """A line, by its name."""

    name: str
    hue: int
    points: str
    """As SVG wants them."""
    tip: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A line of the scale with its number."""

    y: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """A picture of several curves."""

    curves: tuple[Curve, ...]
    marks: tuple[Mark, ...]
    width: float = WIDTH
    height: float = HEIGHT
    left: float = LEFT
    right: float = WIDTH - RIGHT


def draw_curves(
    series: Sequence[tuple[str, Sequence[float]]], written: Callable[[float], str]
) -> Curves:
    """Draw series over the same time, from nothing to the highest; the values are evenly apart."""
    highest = max((max(values, default=0.0) for _, values in series), default=0.0) or 1.0
    step = _step(highest)
    top = math.ceil(highest / step - 1e-9) * step
    tall = HEIGHT - TOP - BOTTOM

    def y(value: float) -> float:
        return TOP + tall * (1 - value / top)

    def line(values: Sequence[float]) -> str:
        wide = (WIDTH - LEFT - RIGHT) / max(len(values) - 1, 1)
        return " ".join(f"{LEFT + n * wide:.1f},{y(value):.1f}" for n, value in enumerate(values))

    return Curves(
        curves=tuple(
            Curve(
                name=name,
                hue=hue % 8,
                points=line(values),
                tip=f"{name}: {written(values[-1]) if values else '–'} in the end",
            )
            for hue, (name, values) in enumerate(series)
        ),
        marks=tuple(
            Mark(y=y(n * step), text=written(n * step)) for n in range(round(top / step) + 1)
        ),
    )


def _step(highest: float) -> float:
    """Return a round number that goes into the highest two to five times."""
    size = 10.0 ** math.floor(math.log10(highest))
    return next(size * part for part in (0.2, 0.5, 1.0, 2.0) if highest / (size * part) <= 5)
