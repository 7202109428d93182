"""One interface's counters in the kernel: two tables that take turns, and the program that fills them.

Owns the maps of `traffic.bpf.c`, by their names, and how its counts are read: those of recent pairs from shared
memory, those of all others out of the tables, in batches. It knows neither interfaces nor windows: who attaches
the program, and when a table's turn is over, is told from outside.
"""

import ctypes
import os
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model.addresses import ADDRESS_PAIR, AddressPairs
from transhume.monitor.capture.bpf import syscalls
from transhume.monitor.capture.bpf.objects import ObjectFile
from transhume.monitor.capture.bpf.shared import (
    CONTROL_BYTES,
    COUNTS,
    FRAMES,
    PLACE,
    Control,
    RecentPairs,
    places_of_a_cpu,
)
from transhume.monitor.capture.bpf.syscalls import MapKind, RunTime
from transhume.monitor.capture.sampling import each_once

OBJECT = Path(__file__).with_name("traffic.bpf.o")
SOURCE = Path(__file__).with_name("traffic.bpf.c")
MOST_PAIRS = 1 << 16
"""How many pairs a window of one interface can hold; the kernel takes memory for those that it sees."""

_BATCH = 4096


@dataclass(frozen=True, slots=True)
class Sums:
    """Columns of what was counted, in the order in which the program has them."""

    bytes: NDArray[np.uint64]
    payload_bytes: NDArray[np.uint64]
    frames: NDArray[np.uint64]
    squared_bytes: NDArray[np.uint64]
    """Sum of the frames' squared lengths."""
    runs: NDArray[np.uint64]
    """How often the program ran to its end; a super-frame is one run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What one table held: pairs, and a row of sums for each.

    What found no room in the table is nobody's: its bytes are at a row of zeros, its frames in
    `no_room_frames` only.
    """

    pairs: AddressPairs
    sums: Sums
    no_room_frames: int

    @property
    def runs(self) -> int:
        """How often the program ran to its end."""
        return int(self.sums.runs.sum())


_NOBODY = np.zeros(1, dtype=ADDRESS_PAIR)
NOTHING = Counted(
    pairs=_NOBODY[:0],
    sums=Sums(*np.zeros((COUNTS, 0), dtype=np.uint64)),
    no_room_frames=0,
)
"""What a silence counts up to."""


class Counter:
    """The maps and the program of one interface; closed, it is gone from the kernel.

    Args:
        has_link_layer: whether frames begin with an Ethernet header.
        most_pairs: how many pairs a table has room for, beside those of the last frames.

    Raises:
        OSError: the kernel refused, or lacks what it takes (5.11 has all of it).
    """

    def __init__(self, *, has_link_layer: bool, most_pairs: int = MOST_PAIRS) -> None:
        self._maps: dict[str, int] = {}
        with ExitStack() as undo:
            undo.callback(self._close_maps)
            self._make_tables(most_pairs)
            cpus = syscalls.cpu_numbers()
            places = places_of_a_cpu(cpus)
            recent = self._make_shared("recent", PLACE.itemsize, cpus * places)
            self.control = Control(
                self._make_shared(".bss", CONTROL_BYTES, 1),
                has_link_layer=has_link_layer,
                places=places,
            )
            undo.callback(self.control.close)
            self._recent = RecentPairs(recent, cpus * places)
            undo.callback(self._recent.close)
            code = _object().program("tc", self._maps.__getitem__)
            self.program = syscalls.load_program(code, "transhume")
            undo.callback(os.close, self.program)
            self._open = undo.pop_all()

    def take(self, table: int) -> Counted:
        """Hand out and forget what a table holds. Not while it is in use."""
        pairs, sums = self._drained(self._maps[f"pairs_{table}"])
        recent, more = self._recent.take(table)
        no_room = self._no_room(table)
        lost = int(no_room[FRAMES])
        if lost:
            no_room[FRAMES] = 0
            recent, more = np.append(recent, _NOBODY), np.vstack((more, no_room))
        if len(recent):
            pairs, sums = _added_up(np.concatenate((pairs, recent)), np.vstack((sums, more)))
        return Counted(pairs=pairs, sums=Sums(*sums.T), no_room_frames=lost)

    def run_time(self) -> RunTime:
        """Return what the program took, of the time in which statistics were enabled."""
        return syscalls.run_time(self.program)

    def close(self) -> None:
        """Let go of everything."""
        self._open.close()

    def _make_tables(self, most_pairs: int) -> None:
        for name in ("pairs_0", "pairs_1"):
            self._maps[name] = syscalls.create_map(
                MapKind.PER_CPU_HASH,
                name,
                key_bytes=ADDRESS_PAIR.itemsize,
                value_bytes=8 * COUNTS,
                entries=most_pairs,
                flags=syscalls.NO_PREALLOCATION,
            )
        self._maps["no_room"] = syscalls.create_map(
            MapKind.PER_CPU_ARRAY, "no_room", key_bytes=4, value_bytes=8 * COUNTS, entries=2
        )

    def _make_shared(self, name: str, value_bytes: int, entries: int) -> int:
        self._maps[name] = syscalls.create_map(
            MapKind.ARRAY,
            name.strip("."),
            key_bytes=4,
            value_bytes=value_bytes,
            entries=entries,
            flags=syscalls.MEMORY_MAPPED,
        )
        return self._maps[name]

    def _close_maps(self) -> None:
        while self._maps:
            os.close(self._maps.popitem()[1])

    def _drained(self, table: int) -> tuple[AddressPairs, NDArray[np.uint64]]:
        keys, values = _buffers()
        pairs: list[AddressPairs] = []
        sums: list[NDArray[np.uint64]] = []
        position: ctypes.Array[ctypes.c_char] | None = None
        while True:
            count, position = syscalls.drain_batch(table, position, keys, values)
            pairs.append(keys[:count].copy())
            sums.append(values[:count].sum(axis=1))
            if position is None:
                return np.concatenate(pairs), np.concatenate(sums)

    def _no_room(self, table: int) -> NDArray[np.uint64]:
        found = np.zeros((syscalls.possible_cpus(), COUNTS), dtype=np.uint64)
        key = table.to_bytes(4, "little")
        syscalls.lookup(self._maps["no_room"], key, found)
        if found.any():
            syscalls.update(self._maps["no_room"], key, np.zeros_like(found))
        total: NDArray[np.uint64] = found.sum(axis=0)
        return total


def _added_up(
    pairs: AddressPairs, sums: NDArray[np.uint64]
) -> tuple[AddressPairs, NDArray[np.uint64]]:
    """Put the counts of all CPUs together, each pair once."""
    first, at = each_once(pairs)
    added = np.zeros((len(first), COUNTS), dtype=np.uint64)
    np.add.at(added, at, sums)
    return pairs[first], added


@cache
def _object() -> ObjectFile:
    return ObjectFile(OBJECT.read_bytes())


@cache
def _buffers() -> tuple[AddressPairs, NDArray[np.uint64]]:
    """Return room for a batch of entries. There is one, as tables are read one after another."""
    keys = np.zeros(_BATCH, dtype=ADDRESS_PAIR)
    return keys, np.zeros((_BATCH, syscalls.possible_cpus(), COUNTS), dtype=np.uint64)
