"""Equal rows found among many, and columns added up by key: the two things that analysis does all day.

Owns the sorting. Rows are compared as 64-bit words: a hash finds the candidates, and whole rows are compared
before two count as one, so that no collision can merge two machines. Nothing here knows what rows mean.
"""

from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

K = TypeVar("K", bound=np.generic)
Words = NDArray[np.uint64]
"""Rows of 64-bit words."""

_ODD = np.uint64(0x9E3779B97F4A7C15)
_HALF = np.uint64(32)


def words_of(rows: NDArray[Any]) -> Words:
    """Return structured rows, whose size is a multiple of eight bytes, as words."""
    return np.ascontiguousarray(rows).view("<u8").reshape(len(rows), rows.dtype.itemsize // 8)


def hashes(words: Words) -> NDArray[np.uint64]:
    """Return a hash of each row; rows that differ in one word only never have the same."""
    mixed = np.zeros(len(words), dtype=np.uint64)
    for column in range(words.shape[1]):
        mixed ^= words[:, column]
        mixed *= _ODD
        mixed ^= mixed >> _HALF
    mixed *= _ODD
    return mixed


def distinct(words: Words) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Return where distinct rows stand for the first time (in no order), and for each row which it equals."""
    order, starts = runs(hashes(words))
    first = order[starts]
    which = np.empty(len(words), dtype=np.intp)
    which[order] = np.cumsum(starts) - 1
    if (words[first[which]] == words).all():
        return first, which
    _, first, which = np.unique(words, axis=0, return_index=True, return_inverse=True)
    return first, which.reshape(-1)


def runs(keys: NDArray[Any]) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Return the order that sorts keys, and in it, where a run of equal ones starts."""
    order = _order(keys)
    return order, run_starts(keys[order])


def _order(keys: NDArray[Any]) -> NDArray[np.intp]:
    """Sort keys, equal ones in the order in which they stand.

    NumPy sorts whole numbers several times faster than it finds their order. So a key and its place are put
    into one number: all of the key where there is room, and else its upper bits, which do for hashes.
    """
    bits = max(1, len(keys) - 1).bit_length()
    place = np.arange(len(keys), dtype=np.uint64)
    mask, shift = np.uint64((1 << bits) - 1), np.uint64(bits)
    if len(keys) == 0 or keys.dtype.kind not in "iu" or keys.min() < 0:
        return np.argsort(keys, kind="stable")
    if int(keys.max()) >> (64 - bits) == 0:
        packed = np.sort((keys.astype(np.uint64) << shift) | place)
        return (packed & mask).astype(np.intp)
    packed = np.sort((keys.astype(np.uint64) & ~mask) | place)
    order = (packed & mask).astype(np.intp)
    upper = packed >> shift
    alike = np.flatnonzero(upper[1:] == upper[:-1])
    if (keys[order[alike]] == keys[order[alike + 1]]).all():
        return order
    return np.argsort(keys, kind="stable")


def run_starts(ordered: NDArray[Any]) -> NDArray[np.bool_]:
    """Say of each of some sorted keys whether it differs from the one before."""
    starts = np.ones(len(ordered), dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=starts[1:])
    return starts


def ranked(keys: NDArray[K]) -> tuple[NDArray[K], NDArray[np.intp]]:
    """Return the distinct keys in order, and for each key its place among them."""
    order, starts = runs(keys)
    place = np.empty(len(keys), dtype=np.intp)
    place[order] = np.cumsum(starts) - 1
    return keys[order[starts]], place


def added(
    keys: NDArray[K], columns: Sequence[NDArray[Any]]
) -> tuple[NDArray[K], list[NDArray[Any]]]:
    """Add columns up by key; return the keys in order and the sums."""
    if ascending(keys):
        return keys, list(columns)
    order, starts = runs(keys)
    if starts.all():
        return keys[order], [column[order] for column in columns]
    at = np.flatnonzero(starts)
    return keys[order[at]], [np.add.reduceat(column[order], at) for column in columns]


def ascending(keys: NDArray[Any]) -> bool:
    """Say whether keys are in order, and none there twice."""
    return bool((keys[1:] > keys[:-1]).all())
