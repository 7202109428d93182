"""Numbers for address rows: equal rows have one number, however many windows name them.

Owns the table of distinct rows and the finding of rows in it. Windows of one reading share an array of
addresses, which is looked up once. The interface is no part of a row here: the capture point tells it.
"""

import numpy as np
from numpy.typing import NDArray

from transhume.analyze.distinct import Words, hashes, runs, words_of
from transhume.knowledge.model import ADDRESS_PAIR, AddressPairs

Numbers = NDArray[np.int32]

_ARRAYS_REMEMBERED = 32


class AddressTable:
    """Distinct rows of addresses, numbered as they come."""

    def __init__(self) -> None:
        self._rows = np.zeros(0, dtype=ADDRESS_PAIR)
        self._count = 0
        self._hashes = np.zeros(0, dtype=np.uint64)
        self._numbers = np.zeros(0, dtype=np.int32)
        self._colliding: dict[bytes, int] = {}
        self._remembered: dict[int, tuple[AddressPairs, Numbers]] = {}

    @property
    def rows(self) -> AddressPairs:
        """The distinct rows, by number."""
        return self._rows[: self._count]

    def __len__(self) -> int:
        return self._count

    def numbers(self, addresses: AddressPairs) -> Numbers:
        """Return the number of each row; new rows get new ones. The array must not change any more."""
        known = self._remembered.get(id(addresses))
        if known is not None:
            return known[1]
        found = self.look_up(addresses)
        if len(self._remembered) >= _ARRAYS_REMEMBERED:
            del self._remembered[next(iter(self._remembered))]
        self._remembered[id(addresses)] = (addresses, found)
        return found

    def look_up(self, addresses: AddressPairs) -> Numbers:
        """Return the same, for an array that won't come again."""
        rows = addresses.astype(ADDRESS_PAIR, copy=True)
        rows["interface"] = 0
        words = words_of(rows)
        hashed = hashes(words)
        order, starts = runs(hashed)
        first = order[starts]
        known = self._known(hashed[first])
        new = known < 0
        fresh = np.sort(first[new])
        number = np.empty(len(rows), dtype=np.int32)
        number[fresh] = self._append(words if len(fresh) == len(words) else words[fresh])
        known[new] = number[first[new]]
        self._remember(hashed[first[new]], known[new])
        number[order] = known[np.cumsum(starts) - 1]
        unsure = np.ones(len(rows), dtype=bool)
        unsure[fresh] = False
        self._tell_apart(words, number, np.flatnonzero(unsure))
        return number

    def _known(self, wanted: NDArray[np.uint64]) -> Numbers:
        """Return the number of a row with each of some hashes, -1 where there is none yet."""
        if not len(self._hashes):
            return np.full(len(wanted), -1, dtype=np.int32)
        at = np.minimum(np.searchsorted(self._hashes, wanted), len(self._hashes) - 1)
        return np.where(self._hashes[at] == wanted, self._numbers[at], np.int32(-1))

    def _remember(self, hashed: NDArray[np.uint64], number: Numbers) -> None:
        """Take note of the rows with some new hashes, which are distinct and in order."""
        at = np.searchsorted(self._hashes, hashed)
        self._hashes = np.insert(self._hashes, at, hashed)
        self._numbers = np.insert(self._numbers, at, number)

    def _tell_apart(self, words: Words, found: Numbers, unsure: NDArray[np.intp]) -> None:
        """Give rows that only share a hash with the row found numbers of their own."""
        same = (words_of(self._rows)[found[unsure]] == words[unsure]).all(axis=1)
        for row in unsure[~same]:
            key = words[row].tobytes()
            if key not in self._colliding:
                self._colliding[key] = int(self._append(words[row : row + 1])[0])
            found[row] = self._colliding[key]

    def _append(self, words: Words) -> Numbers:
        start, self._count = self._count, self._count + len(words)
        rows = np.ascontiguousarray(words).view(ADDRESS_PAIR).reshape(-1)
        if start == 0:
            self._rows = rows
        elif self._count > len(self._rows):
            grown = np.zeros(max(self._count, 2 * len(self._rows)), dtype=ADDRESS_PAIR)
            grown[:start] = self._rows[:start]
            self._rows = grown
        self._rows[start : self._count] = rows
        return np.arange(start, self._count, dtype=np.int32)
