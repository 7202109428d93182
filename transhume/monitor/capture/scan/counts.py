"""What was counted so far: the pairs of addresses that were seen, and what each sent in each bin of time.

Owns the memory that the engines write to. Pairs are numbered as they come. A *cell* holds what one pair sent
in one bin; cells are appended, and a *run* is a stretch of them that belongs to one bin. That costs as much as
there is to say, however many bins and pairs there are. A bin may have several runs, and a pair a cell in each:
they are added up when the bin is taken. What an engine needs to find a pair's number is the engine's own.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model.addresses import ADDRESS_PAIR, AddressPairs

WORDS: Final = 6
"""A row of `ADDRESS_PAIR` as 64-bit words, which is how it is hashed and compared."""

(
    PAIRS, CELLS, RUNS, EPOCH, BIN, BIN_START_NS, FRAMES, BYTES, UNREADABLE, FIRST_NS, LAST_FRAME_NS,
    SIMPLE_NS, BORROWED, SEEN, BUILD,
) = range(15)  # fmt: skip
"""Where a number is in `Counts.state`.

How many pairs, cells and runs there are; a number that changes with each run; the bin of the last run and its
begin; totals and the times of the first and the last frame; what a frame without a time has for one, and how
many had none to take (see `Scanner.borrowed_times`); what was seen where a record is damaged; and by which
sources the kernel that counts was compiled.
"""
STATE_NUMBERS: Final = 15
NO_BIN: Final = -(1 << 62)
"""As the begin of a bin: no time is in it."""
NO_FIRST, NO_LAST = (1 << 63) - 1, -1

_FAMILY_AND_FLAGS: Final = np.uint64(0xFFFF << 32)
"""Of a row's second word."""

PAIR, CELL_BYTES, PAYLOAD, CELL_FRAMES = range(4)
"""The columns of a cell."""

MOST_PAIRS: Final = 1 << 19
"""So many are kept at most for longer than the bins that they are in: about 100 MiB."""


@dataclass(slots=True)
class BinCounts:
    """What one bin holds, no pair twice."""

    number: int
    pair: NDArray[np.int32]
    bytes: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]
    frames: NDArray[np.int64]

    def only(self, which: NDArray[np.bool_]) -> "BinCounts":
        """Return what belongs to some of the pairs."""
        return BinCounts(
            number=self.number,
            pair=self.pair[which],
            bytes=self.bytes[which],
            payload_bytes=self.payload_bytes[which],
            frames=self.frames[which],
        )


@dataclass(slots=True)
class _Stretch:
    """Cells and runs that are full, and wait for their bins to be taken."""

    cells: NDArray[np.int64]
    runs: NDArray[np.int64]
    """First cell, and bin; a bin below 0 was taken."""

    @property
    def live(self) -> bool:
        """Whether a bin of it wasn't taken yet."""
        return bool((self.runs[:, 1] >= 0).any())

    def pieces(self, number: int) -> Iterator[NDArray[np.int64]]:
        """Yield the cells of a bin, run by run."""
        for run in np.flatnonzero(self.runs[:, 1] == number).tolist():
            last = self.runs[run + 1, 0] if run + 1 < len(self.runs) else len(self.cells)
            yield self.cells[self.runs[run, 0] : last]


class Counts:
    """Pairs, cells and runs, growing as they are needed.

    Args:
        width_ns: the length of a bin.
    """

    def __init__(self, width_ns: int) -> None:
        self.width_ns = width_ns
        self.rows = np.zeros((4096, WORDS), dtype=np.uint64)
        self.cells = _cells(_FEWEST_CELLS)
        self.runs = np.zeros((2048, 2), dtype=np.int64)
        self.state = np.zeros(STATE_NUMBERS, dtype=np.int64)
        self.state[BIN_START_NS] = NO_BIN
        self.state[FIRST_NS], self.state[LAST_FRAME_NS] = NO_FIRST, NO_LAST
        self.state[SIMPLE_NS] = -1
        self._full: list[_Stretch] = []
        self._most_full_cells = _MOST_FULL_CELLS
        self._addresses: AddressPairs = np.zeros(0, dtype=ADDRESS_PAIR)
        self._taken = 0
        self._bins: list[int] = []
        self._bins_as_of = (0, 0)

    @property
    def addresses(self) -> AddressPairs:
        """All pairs by number; the same object as long as no pair was added."""
        pairs = self.state.item(PAIRS)
        if len(self._addresses) != pairs:
            self._addresses = self.rows[:pairs].view(ADDRESS_PAIR).reshape(-1)
        return self._addresses

    @property
    def crowded(self) -> bool:
        """Whether there are more pairs than should be kept."""
        return self.state.item(PAIRS) > MOST_PAIRS

    def unreadable(self, counted: BinCounts) -> int:
        """Return how many frames of a bin have nothing that could be read."""
        if not self.state[UNREADABLE]:
            return 0
        known = self.rows[counted.pair, 1] & _FAMILY_AND_FLAGS
        return int(counted.frames[known == 0].sum())

    def bins(self) -> list[int]:
        """Return the numbers of the bins that hold something, in order."""
        as_of = self.state.item(EPOCH), self._taken
        if as_of != self._bins_as_of:
            numbers: set[int] = set()
            for stretch in self._stretches():
                numbers.update(stretch.runs[:, 1].tolist())
            self._bins = sorted(number for number in numbers if number >= 0)
            self._bins_as_of = as_of
        return self._bins

    def _stretches(self) -> list[_Stretch]:
        cells, runs = self.state.item(CELLS), self.state.item(RUNS)
        return [*self._full, _Stretch(self.cells[:cells], self.runs[:runs])]

    def begin_run(self, number: int) -> None:
        """Let the cells that follow belong to a bin."""
        runs = int(self.state[RUNS])
        self.runs[runs] = self.state[CELLS], number
        self.state[RUNS] = runs + 1
        self.state[EPOCH] += 1
        self.state[BIN], self.state[BIN_START_NS] = number, number * self.width_ns

    def end_run(self) -> None:
        """Let the next frame begin a new run, whatever its bin."""
        self.state[BIN_START_NS] = NO_BIN

    # --- room ----------------------------------------------------------------------------------------

    def make_room(self, pairs: int, cells: int, runs: int) -> None:
        """See to it that so many of each can be added."""
        self.rows = _roomy(self.rows, int(self.state[PAIRS]), pairs)
        if self.state[CELLS] + cells > len(self.cells) or self.state[RUNS] + runs > len(self.runs):
            self._full = [one for one in self._stretches() if one.live]
            self.state[CELLS] = self.state[RUNS] = 0
            if sum(len(one.cells) for one in self._full) > self._most_full_cells:
                self._merge()
            self._begin_stretch(cells, runs)

    def _begin_stretch(self, cells: int, runs: int) -> None:
        self.cells = _cells(max(cells, min(4 * len(self.cells), _USUAL_CELLS)))
        self.runs = np.zeros((max(runs, len(self.runs)), 2), dtype=np.int64)
        self.state[CELLS] = self.state[RUNS] = 0
        self.end_run()

    def _merge(self) -> None:
        """Give each bin of the full stretches a single run, for frames that jump between bins make many."""
        numbers = {number for one in self._full for number in one.runs[:, 1].tolist()}
        kept = [self._bin(number) for number in sorted(numbers) if number >= 0]
        columns = [(one.pair, one.bytes, one.payload_bytes, one.frames) for one in kept]
        begins = np.cumsum([0, *(len(one.pair) for one in kept)])[:-1]
        self._full = [
            _Stretch(
                cells=np.concatenate([_cells(0), *(np.column_stack(four) for four in columns)]),
                runs=np.array([begins, [one.number for one in kept]], dtype=np.int64).T.copy(),
            )
        ]
        self._most_full_cells = max(2 * len(self._full[0].cells), _MOST_FULL_CELLS)

    # --- taking --------------------------------------------------------------------------------------

    def take(self, number: int) -> BinCounts:
        """Hand out and forget a bin."""
        found = self._bin(number)
        stretches = self._stretches()
        for stretch in stretches:
            stretch.runs[stretch.runs[:, 1] == number, 1] = -1
        self._full = [one for one in self._full if one.live]
        if self.state[BIN] == number:
            self.end_run()
        if not stretches[-1].live:
            self.state[CELLS] = self.state[RUNS] = 0
            self.end_run()
        self._taken += 1
        return found

    def forget_pairs(self) -> bool:
        """Where there are too many pairs, keep those of the bins that are still here, numbered anew."""
        if not self.crowded:
            return False
        self._full = [one for one in self._stretches() if one.live]
        self.state[CELLS] = self.state[RUNS] = 0
        self._merge()
        cells = self._full[0].cells
        kept, cells[:, PAIR] = np.unique(cells[:, PAIR], return_inverse=True)
        rows = np.zeros((max(len(kept), 4096), WORDS), dtype=np.uint64)
        rows[: len(kept)] = self.rows[kept]
        self.rows, self.state[PAIRS] = rows, len(kept)
        self._addresses = self._addresses[:0]
        self._begin_stretch(0, 0)
        return True

    def _bin(self, number: int) -> BinCounts:
        pieces = [piece for one in self._stretches() for piece in one.pieces(number)]
        # A pair has at most one cell in a run; where runs begin is the engine's affair, so pairs are sorted.
        columns = _sorted(pieces[0]) if len(pieces) == 1 else _merged(pieces, self.state[PAIRS])
        return BinCounts(number, columns[PAIR].astype(np.int32), *columns[1:])


def _sorted(cells: NDArray[np.int64]) -> NDArray[np.int64]:
    return cells[np.argsort(cells[:, PAIR], kind="stable")].T.copy()


_FEWEST_CELLS: Final = 1 << 12
_USUAL_CELLS: Final = 1 << 17
"""4 MiB: from there on NumPy asks for huge pages; with small ones, much of the time goes into finding them."""
_MOST_FULL_CELLS: Final = 1 << 20


def _cells(count: int) -> NDArray[np.int64]:
    return np.empty((count, 4), dtype=np.int64)


def _merged(pieces: Sequence[NDArray[np.int64]], pairs: int) -> NDArray[np.int64]:
    """Return cells as columns, those of one pair added up."""
    cells = np.concatenate([_cells(0), *pieces])
    found, at = distinct(cells[:, PAIR], int(pairs))
    columns = np.zeros((4, len(found)), dtype=np.int64)
    columns[PAIR] = found
    for column in (CELL_BYTES, PAYLOAD, CELL_FRAMES):
        np.add.at(columns[column], at, cells[:, column])
    return columns


def distinct(numbers: NDArray[np.int64], end: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the different ones among numbers below `end`, in order, and where among them each is."""
    if len(numbers) * 16 < end:
        return np.unique(numbers, return_inverse=True)
    # To look at all that there may be takes less than sorting.
    seen = np.zeros(end, dtype=np.bool_)
    seen[numbers] = True
    found = np.flatnonzero(seen)
    where = np.empty(end, dtype=np.int64)
    where[found] = np.arange(len(found))
    return found, where[numbers]


def _roomy(array: NDArray[Any], used: int, more: int) -> NDArray[Any]:
    """Return the array, or a larger one with the same beginning, so that `more` rows fit behind `used` ones."""
    if used + more <= len(array):
        return array
    larger = np.zeros((2 * (used + more), *array.shape[1:]), dtype=array.dtype)
    larger[: len(array)] = array
    return larger
