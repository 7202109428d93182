"""What capture points saw of which addresses, added up slice of time by slice of time, in bounded memory.

Owns the heap of numbers that windows are thrown on: one for each capture point, slice and pair of addresses.
When there are too many rows or slices, slices become twice as long. A slice is a whole multiple of the window,
counted from the epoch, and it grows only when the rows, added up to the last, are too many; so its final length
depends on what was added and neither on the order nor on how it was split: one process that reads everything
and many that read parts and merge come to the same.

Memory is bounded by rows and slices, not by pairs of addresses: each pair ever seen keeps its 48 bytes. Who the
addresses belong to and which sighting of a frame counts is decided elsewhere.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.address_table import AddressTable, Numbers
from transhume.analyze.seen_rows import SeenRows, renumbered, rows_of, together
from transhume.knowledge.model import CLAIM, AddressPairs, TrafficWindow

MOST_ROWS = 3 << 20
MOST_SLICES = 512
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True, kw_only=True)
class _Packed:
    """All that was seen, in the one order there is for it, whatever the order in which it came."""

    width_us: int
    doublings: int
    limits: tuple[int, int]
    extent: tuple[int, int] | None
    unreadable_frames: int
    points: tuple[str, ...]
    dropped: tuple[tuple[int, int, int], ...]
    """Point, slice, frames."""
    addresses: AddressPairs
    claimed: NDArray[np.int64]
    cells: tuple[tuple[int, int, SeenRows], ...]
    """Point, slice, what was seen."""


class Sightings:
    """Adds up windows, and other sightings of windows as long; can be pickled.

    Args:
        window_seconds: how long the windows are. One that is longer or shorter counts to where it starts.
        most_rows: at how many rows slices become longer.
        most_slices: over how many slices, silent ones included, they become longer.
    """

    def __init__(
        self, window_seconds: float, *, most_rows: int = MOST_ROWS, most_slices: int = MOST_SLICES
    ) -> None:
        self._width_us = max(1, round(window_seconds * 1e6))
        self._limits = (most_rows, most_slices)
        self._doublings = 0
        self._extent: tuple[int, int] | None = None
        """The first and the last window that was added, by number."""
        self._table = AddressTable()
        self._cells: dict[tuple[str, int], list[SeenRows]] = {}
        self._rows = 0
        """How many rows the cells have at most: parts of a cell may have pairs in common."""
        self._settled_until = most_rows
        """With how many rows it is time to add up the parts."""
        self._points: set[str] = set()
        self._dropped: dict[tuple[str, int], int] = {}
        self._claimed = np.zeros(0, dtype=np.int64)
        self.unreadable_frames = 0

    # --- adding ----------------------------------------------------------------------------------

    def add(self, window: TrafficWindow) -> None:
        """Add a window."""
        number = (window.start - _EPOCH) // timedelta(microseconds=self._width_us)
        pair = self._table.numbers(window.addresses)[window.pair]
        self._note_claims(pair, number)
        self.unreadable_frames += window.unreadable_frames
        if window.dropped_frames:
            self._drop(window.capture_point, number >> self._doublings, window.dropped_frames)
        self._put(window.capture_point, number >> self._doublings, rows_of(window, pair))
        self._reach(number, number)

    def merge(self, other: "Sightings") -> None:
        """Add all that another saw; it stays as it is.

        Raises:
            ValueError: its windows or limits are others.
        """
        if (self._width_us, self._limits) != (other._width_us, other._limits):
            raise ValueError(
                f"sightings of windows of {other._width_us} µs can't be added to those of "
                f"{self._width_us} µs, nor such with other limits"
            )
        self._widen(other._doublings)
        shift = self._doublings - other._doublings
        number = self._table.look_up(other.addresses)
        self._claimed = _as_long(self._claimed, len(self._table))
        claims, at = other.claims
        self._claimed[number[claims]] = np.maximum(self._claimed[number[claims]], at)
        self.unreadable_frames += other.unreadable_frames
        for (point, place), count in other._dropped.items():
            self._drop(point, place >> shift, count)
        self._points |= other._points
        for (point, place), parts in other._cells.items():
            for rows in parts:
                self._put(point, place >> shift, renumbered(rows, number))
        if other._extent is not None:
            self._reach(*other._extent)

    def _put(self, point: str, place: int, rows: SeenRows) -> None:
        self._points.add(point)
        if len(rows):
            self._cells.setdefault((point, place), []).append(rows)
            self._rows += len(rows)

    def _drop(self, point: str, place: int, count: int) -> None:
        self._dropped[point, place] = self._dropped.get((point, place), 0) + count

    def _note_claims(self, pair: Numbers, number: int) -> None:
        self._claimed = _as_long(self._claimed, len(self._table))
        claims = pair[(self._table.rows["flags"][pair] & CLAIM) != 0]
        self._claimed[claims] = np.maximum(self._claimed[claims], number)

    def _reach(self, first: int, last: int) -> None:
        """Take note of how far the windows reach, and make slices longer as long as there is too much."""
        if self._extent is not None:
            first, last = min(first, self._extent[0]), max(last, self._extent[1])
        self._extent = (first, last)
        while (last >> self._doublings) - (first >> self._doublings) >= self._limits[1]:
            self._widen(self._doublings + 1)
        if self._rows > self._settled_until:
            self._settle()

    def _settle(self) -> None:
        """Count the rows exactly, and make slices longer as long as there are too many."""
        most_rows = self._limits[0]
        if self._rows <= most_rows:
            return
        self._add_up()
        while self._rows > most_rows and len(self._slices()) > 1:
            self._widen(self._doublings + 1)
            self._add_up()
        # Where one slice has too many rows, nothing can be done; but not at every window anew.
        self._settled_until = max(most_rows, self._rows + most_rows // 2)

    def _add_up(self) -> None:
        """Leave each cell with one part that has each pair once."""
        for parts in self._cells.values():
            parts[:] = [together(parts)]
        self._rows = sum(len(parts[0]) for parts in self._cells.values())

    def _slices(self) -> range:
        if self._extent is None:
            return range(0)
        first, last = self._extent
        return range(first >> self._doublings, (last >> self._doublings) + 1)

    def _widen(self, doublings: int) -> None:
        """Make slices longer; shorter they never become."""
        shift = doublings - self._doublings
        if shift <= 0:
            return
        wider: dict[tuple[str, int], list[SeenRows]] = defaultdict(list)
        for (point, place), parts in self._cells.items():
            wider[point, place >> shift] += parts
        dropped: dict[tuple[str, int], int] = defaultdict(int)
        for (point, place), count in self._dropped.items():
            dropped[point, place >> shift] += count
        self._cells, self._dropped, self._doublings = dict(wider), dict(dropped), doublings

    # --- what there is ---------------------------------------------------------------------------

    @property
    def addresses(self) -> AddressPairs:
        """The address rows, by the number that `SeenRows.pair` gives. Interfaces are left out of them."""
        return self._table.rows

    @property
    def points(self) -> tuple[str, ...]:
        """The capture points, by name."""
        return tuple(sorted(self._points))

    @property
    def seconds(self) -> float:
        """How long a slice is."""
        self._settle()
        return (self._width_us << self._doublings) / 1e6

    @property
    def slices(self) -> range:
        """The numbers of the slices from the first to the last, silent ones included."""
        self._settle()
        return self._slices()

    @property
    def start(self) -> datetime:
        """When the first window starts; the epoch before there is any."""
        return _instant(self._extent[0] if self._extent else 0, self._width_us)

    @property
    def covered_seconds(self) -> float:
        """The time from the start of the first window to the end of the last."""
        if self._extent is None:
            return 0.0
        return (self._extent[1] - self._extent[0] + 1) * self._width_us / 1e6

    @property
    def claims(self) -> tuple[Numbers, NDArray[np.int64]]:
        """The address rows that claim an address, and the window of the last such claim of each."""
        claimed = np.flatnonzero(self._claimed > _NEVER)
        return claimed.astype(np.int32), self._claimed[claimed]

    @property
    def dropped_frames(self) -> int:
        """Frames that kernels could not hand over, at all capture points together."""
        return sum(self._dropped.values())

    def starts(self, place: int) -> datetime:
        """Return when a slice starts."""
        self._settle()
        return _instant(place, self._width_us << self._doublings)

    def dropped_at(self, place: int) -> frozenset[str]:
        """Return the capture points that dropped frames in a slice."""
        self._settle()
        return frozenset(point for point, there in self._dropped if there == place)

    def dropped_in(self, place: int) -> int:
        """Return how many frames were dropped in a slice."""
        self._settle()
        return sum(count for (_, there), count in self._dropped.items() if there == place)

    def by_slice(self) -> Iterator[tuple[int, list[tuple[str, SeenRows]]]]:
        """Yield what each capture point saw in each slice that isn't silent, in order of time."""
        self._settle()
        points: dict[int, list[str]] = defaultdict(list)
        for point, place in sorted(self._cells):
            points[place].append(point)
        for place in sorted(points):
            yield place, [(point, together(self._cells[point, place])) for point in points[place]]

    def by_point(self) -> Iterator[tuple[str, SeenRows]]:
        """Yield what each capture point saw in all the time, by its name."""
        parts: dict[str, list[SeenRows]] = defaultdict(list)
        for point, place in sorted(self._cells):
            parts[point] += self._cells[point, place]
        for point, seen in parts.items():
            yield point, together(seen)

    # --- pickling --------------------------------------------------------------------------------

    def __getstate__(self) -> _Packed:
        self._settle()
        used = np.zeros(len(self._table), dtype=bool)
        used[self.claims[0]] = True
        cells = {key: together(parts) for key, parts in sorted(self._cells.items())}
        for rows in cells.values():
            used[rows.pair] = True
        kept = np.flatnonzero(used)
        order = kept[np.argsort(self.addresses[kept].view("V48"), kind="stable")]
        number = np.zeros(len(self._table), dtype=np.int32)
        number[order] = np.arange(len(order), dtype=np.int32)
        point = {name: at for at, name in enumerate(self.points)}
        return _Packed(
            width_us=self._width_us,
            doublings=self._doublings,
            limits=self._limits,
            extent=self._extent,
            unreadable_frames=self.unreadable_frames,
            points=self.points,
            dropped=tuple(
                (point[name], place, count)
                for (name, place), count in sorted(self._dropped.items())
            ),
            addresses=self.addresses[order],
            claimed=_as_long(self._claimed, len(self._table))[order],
            cells=tuple(
                (point[name], place, together([renumbered(rows, number)]))
                for (name, place), rows in cells.items()
            ),
        )

    def __setstate__(self, packed: _Packed) -> None:
        self._width_us, self._doublings = packed.width_us, packed.doublings
        self._limits, self._extent = packed.limits, packed.extent
        self._table = AddressTable()
        number = self._table.look_up(packed.addresses)
        self._points = set(packed.points)
        self._dropped = {
            (packed.points[point], place): count for point, place, count in packed.dropped
        }
        self._claimed = np.empty_like(packed.claimed)
        self._claimed[number] = packed.claimed
        self._cells = {
            (packed.points[point], place): [renumbered(rows, number)]
            for point, place, rows in packed.cells
        }
        self._rows = sum(len(rows) for _, _, rows in packed.cells)
        self._settled_until = packed.limits[0]
        self.unreadable_frames = packed.unreadable_frames


def sightings_of(windows: Iterable[TrafficWindow]) -> Sightings:
    """Return what windows saw, in slices as long as the shortest of them."""
    given = tuple(windows)
    sightings = Sightings(min((window.seconds for window in given), default=1.0))
    for window in given:
        sightings.add(window)
    return sightings


def _as_long(claimed: NDArray[np.int64], wanted: int) -> NDArray[np.int64]:
    if len(claimed) >= wanted:
        return claimed
    grown = np.full(max(wanted, 2 * len(claimed)), _NEVER, dtype=np.int64)
    grown[: len(claimed)] = claimed
    return grown


def _instant(number: int, width_us: int) -> datetime:
    return _EPOCH + timedelta(microseconds=number * width_us)
