"""Which number a pair of addresses has: a table that answers for a whole batch, and a dictionary for strangers.

The table is open addressing over rows as six words, compared in full, so that no two pairs are taken for one.
It holds what finds a place within a few steps; whatever doesn't, be it by somebody's design, is looked up one
by one, as is a pair that was never met.
"""

import os
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan.counts import PAIRS, WORDS, Counts
from transhume.monitor.capture.scan.vectors.decoding import Words
from transhume.monitor.capture.scan.vectors.frames import Numbers

_FEWEST_SLOTS: Final = 1 << 14
_STEPS: Final = 6
_NOBODY: Final = -1


class KnownPairs:
    """The numbers of the pairs in `counts`, to which it adds those that are met for the first time."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts
        rows = counts.rows[: int(counts.state[PAIRS])]
        self._numbers = {row.tobytes(): number for number, row in enumerate(rows)}
        # What words are multiplied by is drawn anew, so that nobody can send rows that all meet in one place.
        self._odd = np.frombuffer(os.urandom(8 * (WORDS + 1)), dtype=np.uint64) | np.uint64(1)
        self._slots = np.full(_FEWEST_SLOTS, _NOBODY, dtype=np.int32)
        self._place_from(0)

    def numbers(self, words: Words, met: Numbers) -> Numbers:
        """Return the number of each row.

        Args:
            words: rows of `ADDRESS_PAIR` as words, shape (rows, WORDS).
            met: by which rows are ordered to give strangers their numbers.
        """
        numbers = self._find(words)
        strangers = np.flatnonzero(numbers == _NOBODY)
        if len(strangers):
            strangers = strangers[np.argsort(met[strangers])]
            numbers[strangers] = self._meet(words[strangers])
        return numbers

    def _find(self, words: Words) -> Numbers:
        """Return the numbers that the table knows, and nobody's for other rows."""
        places, rows, last = self._places(words), self._counts.rows, len(self._slots) - 1
        numbers = self._slots[places].astype(np.int64)
        unlike = np.flatnonzero(_differ(rows[numbers], words) & (numbers != _NOBODY))
        for step in range(1, _STEPS):
            if not len(unlike):
                return numbers
            found = self._slots[(places[unlike] + step) & last]
            numbers[unlike] = found
            unlike = unlike[_differ(rows[found], words[unlike]) & (found != _NOBODY)]
        numbers[unlike] = _NOBODY
        return numbers

    def _meet(self, words: Words) -> Numbers:
        """Return numbers row by row, a new one for each that was never met."""
        numbers, known = self._numbers, len(self._numbers)
        raw, step = words.tobytes(), 8 * WORDS
        rows = (raw[at : at + step] for at in range(0, len(raw), step))
        found = np.array([numbers.setdefault(row, len(numbers)) for row in rows])
        new = np.flatnonzero(found >= known)
        if len(new):
            self._counts.make_room(pairs=len(numbers) - known, cells=0, runs=0)
            self._counts.rows[found[new]] = words[new]
            self._counts.state[PAIRS] = len(numbers)
            self._place_from(known)
        return found

    def _place_from(self, first: int) -> None:
        """Put the pairs from number `first` on into the table, or all into a larger one."""
        pairs = int(self._counts.state[PAIRS])
        if 4 * pairs > len(self._slots):
            slots = 1 << (8 * pairs - 1).bit_length()
            self._slots, first = np.full(slots, _NOBODY, dtype=np.int32), 0
        left = np.arange(first, pairs, dtype=np.int32)
        places = self._places(self._counts.rows[first:pairs])
        for step in range(_STEPS):
            at = (places + step) & (len(self._slots) - 1)
            free = self._slots[at] == _NOBODY
            self._slots[at[free]] = left[free]
            homeless = self._slots[at] != left
            left, places = left[homeless], places[homeless]

    def _places(self, words: Words) -> Numbers:
        mixed = words[:, 0] * self._odd[0]
        for word in range(1, WORDS):
            mixed += words[:, word] * self._odd[word]
        mixed = (mixed ^ mixed >> np.uint64(32)) * self._odd[WORDS] >> np.uint64(32)
        places: Numbers = mixed.view(np.int64) & (len(self._slots) - 1)
        return places


def _differ(some: Words, others: Words) -> NDArray[np.bool_]:
    """Return which rows aren't equal."""
    different: NDArray[np.bool_] = some[:, 0] != others[:, 0]
    for word in range(1, WORDS):
        different |= some[:, word] != others[:, word]
    return different
