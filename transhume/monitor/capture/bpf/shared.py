"""What the program and we have in common memory: its orders, and the pairs that each CPU saw lately.

Owns the layout of both, which is that of `traffic.bpf.c`. Nothing here is a system call; that is the point: the
program finds the place of a recent pair without a hash, and we read it without asking the kernel. Either side
leaves alone what the other one writes: the program counts for the table in use, and we clear the other one.
"""

import mmap

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model.addresses import ADDRESS_PAIR, AddressPairs

COUNTS = 5
"""Bytes, payload bytes, frames, sum of squared lengths, runs of the program."""
FRAMES, RUNS = 2, 4
PLACE = np.dtype([("pair", ADDRESS_PAIR), ("counts", "<u8", (2, COUNTS))])
CONTROL_BYTES = 40
NO_TURN = (1 << 64) - 2
"""An instant that never comes."""

_TURN_AT, _THRESHOLDS, _NO_LINK_LAYER, _PLACES = 0, 8, 16, 20
_FEWEST_PLACES, _MOST_PLACES = 64, 1024
_MOST_BYTES = 1 << 21


def places_of_a_cpu(cpus: int) -> int:
    """Return how many recent pairs each CPU remembers, a power of two: the fewer, the more CPUs there are."""
    places = _MOST_PLACES
    while places > _FEWEST_PLACES and places * cpus * PLACE.itemsize > _MOST_BYTES:
        places //= 2
    return places


class Control:
    """The block of memory by which the program is told what to do; each word is written as a whole."""

    def __init__(self, descriptor: int, *, has_link_layer: bool, places: int) -> None:
        self._memory = mmap.mmap(descriptor, mmap.PAGESIZE)
        self._turn_at: NDArray[np.uint64] = np.frombuffer(self._memory, np.uint64, 1, _TURN_AT)
        self._thresholds: NDArray[np.uint32] = np.frombuffer(
            self._memory, np.uint32, 2, _THRESHOLDS
        )
        self._memory[_NO_LINK_LAYER] = not has_link_layer
        self._memory[_PLACES : _PLACES + 4] = places.to_bytes(4, "little")
        self.turn(at_monotonic_ns=NO_TURN, using=0)

    def turn(self, *, at_monotonic_ns: int, using: int) -> None:
        """Use one table until an instant of the monotonic clock, and the other from then on."""
        self._turn_at[0] = at_monotonic_ns & ~1 | using

    def sample(self, table: int, share: float) -> float:
        """Let a share of the frames into a table that isn't in use; return the share as it is taken."""
        threshold = 0 if share >= 1 else max(round(share * 2**32), 1)
        self._thresholds[table] = threshold
        return threshold / 2**32 if threshold else 1.0

    def close(self) -> None:
        """Let go of the memory."""
        del self._turn_at, self._thresholds
        self._memory.close()


class RecentPairs:
    """What each CPU counted for the pairs that it saw lately."""

    def __init__(self, descriptor: int, places: int) -> None:
        self._memory = mmap.mmap(descriptor, places * PLACE.itemsize)
        self._places: NDArray[np.void] = np.frombuffer(self._memory, PLACE)

    def take(self, table: int) -> tuple[AddressPairs, NDArray[np.uint64]]:
        """Hand out and forget what was counted for a table that isn't in use; a pair once for each CPU."""
        counts = self._places["counts"]
        (used,) = np.nonzero(counts[:, table, RUNS])
        pairs, sums = self._places["pair"][used], counts[used, table]
        # A place is free for another pair when its runs are 0: the rest has to be by then.
        counts[used, table, :RUNS] = 0
        counts[used, table, RUNS] = 0
        return pairs, sums

    def close(self) -> None:
        """Let go of the memory."""
        del self._places
        self._memory.close()
