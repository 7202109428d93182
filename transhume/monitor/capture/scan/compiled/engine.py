"""Counting by the compiled kernel: its memory, and what it needs done between its calls."""

import os
from operator import is_not
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan import stops
from transhume.monitor.capture.scan.clocks import COLUMNS as CLOCK_COLUMNS
from transhume.monitor.capture.scan.clocks import Clocks
from transhume.monitor.capture.scan.compiled import plan
from transhume.monitor.capture.scan.compiled.machine_code import Kernel
from transhume.monitor.capture.scan.counts import PAIRS, SEEN, Counts
from transhume.monitor.capture.scan.decode import ROW
from transhume.monitor.capture.scan.head import FileHead, Octets

_FEWEST_SLOTS: Final = 1 << 11
_MANY_SLOTS: Final = 1 << 13
_LINE_BYTES: Final = 64
_HUGE_PAGE_BYTES: Final = 2 << 20
_NO_CLOCKS: Final = np.zeros((0, CLOCK_COLUMNS), dtype=np.uint64)


class CompiledCounting:
    """Counts frames into `counts`, by compiled code that lets other threads run meanwhile."""

    def __init__(
        self, kernel: Kernel, counts: Counts, *, inner: bool, captured_length: bool
    ) -> None:
        self._kernel = kernel
        self._counts = counts
        self._told = np.zeros(plan.PLAN_NUMBERS, dtype=np.int64)
        self._told[plan.INNER], self._told[plan.CAPTURED_LENGTH] = inner, captured_length
        self._told[plan.WIDTH_NS] = counts.width_ns
        self._group = np.zeros(plan.GROUP * plan.GROUP_COLUMNS, dtype=np.uint64)
        self._out = np.zeros(2 * ROW, dtype=np.uint8)
        self._odd = np.frombuffer(os.urandom(8 * 7), dtype=np.uint64) | np.uint64(1)
        self._slots = _lines(_FEWEST_SLOTS)
        self._head: FileHead | None = None
        self._memory: tuple[NDArray[Any] | None, ...] = (None,) * 5
        self._places: tuple[Any, ...] = ()

    def pcap(self, data: Octets, at: int, head: FileHead) -> tuple[int, int, int]:
        """Count the records from `at` on; return where that ended, why, and what was seen there."""
        if head is not self._head:
            self._head = head
            self._told[plan.JOB] = plan.PCAP if head.order == "<" else plan.SWAPPED_PCAP
            self._told[plan.TICK_NS], self._told[plan.HEADER] = head.tick_ns, head.record_header
            self._told[plan.LINK] = head.interfaces[0].link
        return self._run(data, at, _NO_CLOCKS)

    def pcapng(
        self, data: Octets, at: int, order: str, clocks: Clocks, section_first: int
    ) -> tuple[int, int, int]:
        """Count the blocks from `at` on, up to one that holds no frame."""
        self._told[plan.JOB] = plan.PCAPNG if order == "<" else plan.SWAPPED_PCAPNG
        self._told[plan.SECTION_FIRST] = section_first
        return self._run(data, at, clocks)

    def ring(self, data: Octets, at: int, frames: int, *, virtio: bool) -> tuple[int, int, int]:
        """Count the frames of a packet socket's block."""
        self._told[plan.JOB], self._told[plan.LEFT] = plan.RING, frames
        self._told[plan.VIRTIO] = virtio
        return self._run(data, at, _NO_CLOCKS)

    def renumber(self) -> None:
        """Fill the table of pairs anew."""
        slots = _FEWEST_SLOTS
        while slots < 2 * (int(self._counts.state[PAIRS]) + 4 * plan.GROUP):
            slots *= 2
        self._slots = _lines(slots)
        job = int(self._told[plan.JOB])
        self._told[plan.JOB] = plan.REBUILD
        self._call(np.zeros(1, dtype=np.uint8), 0, _NO_CLOCKS)
        self._told[plan.JOB] = job
        self._counts.end_run()  # for the new table doesn't know the cells of this one

    def _run(self, data: Octets, at: int, clocks: Clocks) -> tuple[int, int, int]:
        counts = self._counts
        while True:
            at = self._call(data, at, clocks)
            stop = self._told.item(plan.STOP)
            if stop != stops.ROOM:
                return at, stop, counts.state.item(SEEN)
            counts.make_room(pairs=2 * plan.GROUP, cells=2 * plan.GROUP, runs=plan.GROUP)
            if counts.state[PAIRS] > self._most_pairs:
                self.renumber()

    @property
    def _most_pairs(self) -> int:
        """How many pairs there may be so that the table stays half empty after the next batch."""
        return len(self._slots) // plan.SLOT_WORDS // 2 - 2 * plan.GROUP

    def _call(self, data: Octets, at: int, clocks: Clocks) -> int:
        counts, of_array = self._counts, self._kernel.of_array
        memory = (counts.rows, counts.cells, counts.runs, self._slots, clocks)
        if any(map(is_not, memory, self._memory)):
            self._memory, self._places = memory, tuple(map(of_array, self._arrays(clocks)))
        return self._kernel.call(of_array(data), len(data), at, *self._places)

    def _arrays(self, clocks: Clocks) -> tuple[NDArray[Any], ...]:
        """Return what the kernel works on, and tell it how large that is."""
        counts, told = self._counts, self._told
        told[plan.INTERFACES], told[plan.SLOTS] = len(clocks), len(self._slots) // plan.SLOT_WORDS
        # A frame adds a pair and that of a claim, a cell for each, and a run.
        told[plan.MOST_PAIRS] = min(self._most_pairs, len(counts.rows) - 2 * plan.GROUP)
        told[plan.MOST_CELLS] = len(counts.cells) - 2 * plan.GROUP
        told[plan.MOST_RUNS] = len(counts.runs) - plan.GROUP
        return (
            told,
            clocks.reshape(-1),
            self._group,
            self._slots,
            self._odd,
            counts.rows.reshape(-1),
            counts.cells.reshape(-1),
            counts.runs.reshape(-1),
            counts.state,
            self._out,
        )


def _lines(slots: int) -> NDArray[np.uint64]:
    """Return an empty table, each slot of which is one line of the cache."""
    words, page_bytes = slots * plan.SLOT_WORDS, _LINE_BYTES
    least = words
    if slots >= _MANY_SLOTS:
        # NumPy asks for huge pages where it gets 4 MiB; with small ones, much time goes into finding them.
        least, page_bytes = max(words, _HUGE_PAGE_BYTES // 4), _HUGE_PAGE_BYTES
    memory = np.zeros(least + page_bytes // 8, dtype=np.uint64)
    skip = -memory.ctypes.data % page_bytes // 8
    return memory[skip : skip + words]
