"""What CP-SAT is asked about a schedule, in whole numbers, and what it answers: JSON between processes.

Times are in ticks, of which the known schedule takes some hundred thousand; durations are rounded up and money
is in some small unit. The known schedule is part of the puzzle: it is where the search begins, and nothing that
matters may become worse than it is there.
"""

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Trip:
    """One migration that a move could consist of. Hosts and links are numbers."""

    source: int
    destination: int
    link: int
    ticks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """A move: it goes directly, or by one trip to a berth and by another on from there."""

    direct: Trip
    detour: tuple[Trip, Trip] | None
    """The way round that the known schedule takes."""
    needs: tuple[int, ...]
    """By resource."""
    rank: int
    """Those of a lesser rank begin before it does."""
    latest: int | None
    """When its VM has to have arrived, if that matters; the first trip's end where it's parked."""
    known: tuple[int, ...]
    """When its trips begin in the known schedule; two where it's parked."""

    @property
    def known_trips(self) -> tuple[Trip, ...]:
        """The trips of the known schedule."""
        return (self.direct,) if self.detour is None else self.detour


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Two movers that pay for each tick in which one of them has arrived and the other hasn't."""

    one: int
    other: int
    one_first: int
    """Money for each tick while only the first has arrived."""
    other_first: int


Event = tuple[int, int, bool]
"""A mover, which of its trips, and whether that begins (or else ends)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Puzzle:
    """Everything that decides how long a schedule has to be."""

    movers: tuple[Mover, ...]
    free: tuple[tuple[int, ...], ...]
    """By host and resource."""
    per_link: int
    per_host: int | None
    orders: tuple[tuple[Event, ...], ...]
    """What has to happen in this order, for a spread's sake; who takes part doesn't change its way."""
    pairs: tuple[Pair, ...]
    effort: float
    """How long CP-SAT may try, in its own deterministic seconds."""

    def to_bytes(self) -> bytes:
        """Return the puzzle as JSON."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> "Puzzle":
        """Read what `to_bytes` wrote."""
        told = json.loads(data)
        told["movers"] = tuple(map(_mover, told["movers"]))
        told["free"] = tuple(map(tuple, told["free"]))
        told["orders"] = tuple(tuple(map(tuple, order)) for order in told["orders"])
        told["pairs"] = tuple(Pair(**pair) for pair in told["pairs"])
        return cls(**told)


def _mover(told: dict[str, object]) -> Mover:
    direct, detour, needs, known = (told[key] for key in ("direct", "detour", "needs", "known"))
    assert isinstance(direct, dict)
    assert isinstance(needs, list)
    assert isinstance(known, list)
    round_trip = None
    if isinstance(detour, list):
        there, on = detour
        round_trip = Trip(**there), Trip(**on)
    return Mover(
        **{  # type: ignore[arg-type]
            **told,
            "direct": Trip(**direct),
            "detour": round_trip,
            "needs": tuple(needs),
            "known": tuple(known),
        }
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """An answer: when the trips of each mover begin; two where it's parked."""

    begins: tuple[tuple[int, ...], ...]

    def to_line(self) -> bytes:
        """Return the answer as a line of JSON."""
        return json.dumps(self.begins).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> "Order":
        """Read what `to_line` wrote.

        Raises:
            ValueError: the line is no whole answer.
        """
        return cls(begins=tuple(tuple(map(int, each)) for each in json.loads(line)))
