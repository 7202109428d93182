"""Counting by NumPy: batches of frames become rows, equal rows become one, and what they say is added up."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan import stops
from transhume.monitor.capture.scan.clocks import Clocks
from transhume.monitor.capture.scan.counts import (
    BORROWED,
    BYTES,
    CELLS,
    FIRST_NS,
    FRAMES,
    LAST_FRAME_NS,
    PAIRS,
    SIMPLE_NS,
    UNREADABLE,
    WORDS,
    Counts,
)
from transhume.monitor.capture.scan.head import FileHead, Octets
from transhume.monitor.capture.scan.vectors.decoding import Rows, rows_of
from transhume.monitor.capture.scan.vectors.frames import (
    Frames,
    Numbers,
    Walk,
    pcap_frames,
    pcapng_frames,
    ring_frames,
)
from transhume.monitor.capture.scan.vectors.peek import Peek

_ODD = np.array(
    [
        0x9E3779B97F4A7C15,
        0xC2B2AE3D27D4EB4F,
        0x165667B19E3779F9,
        0xD6E8FEB86659FD93,
        0xA0761D6478BD642F,
        0xE7037ED1A0B428DB,
        0x8EBC6AF09C88C6E3,
    ],
    dtype=np.uint64,
)
"""What words are multiplied by to tell rows apart quickly; equal sums are then compared in full."""


@dataclass(slots=True)
class _Groups:
    """Equal rows of one bin as one, in the order in which they were met."""

    words: NDArray[np.uint64]
    bins: Numbers
    sums: Numbers


class VectorCounting:
    """Counts frames into `counts`, by NumPy."""

    def __init__(self, counts: Counts, *, inner: bool, captured_length: bool) -> None:
        self._counts = counts
        self._inner = inner
        self._captured_length = captured_length
        self._numbers: dict[bytes, int] = {}

    def pcap(self, data: Octets, at: int, head: FileHead) -> tuple[int, int, int]:
        """Count the records from `at` on; return where that ended, why, and what was seen there."""
        while True:
            walk = pcap_frames(
                data,
                at,
                order=head.order,
                header=head.record_header,
                tick_ns=head.tick_ns,
                link=head.interfaces[0].link,
            )
            self._count(data, walk)
            at = walk.at
            if walk.stop != stops.FULL:
                return at, walk.stop, walk.seen

    def pcapng(
        self, data: Octets, at: int, order: str, clocks: Clocks, section_first: int
    ) -> tuple[int, int, int]:
        """Count the blocks from `at` on, up to one that holds no frame."""
        state = self._counts.state
        while True:
            walk = pcapng_frames(
                data,
                at,
                order=order,
                clocks=clocks,
                section_first=section_first,
                before_ns=int(state[SIMPLE_NS]),
            )
            self._count(data, walk)
            self._note_untimed(walk.frames)
            at = walk.at
            if walk.stop != stops.FULL:
                return at, walk.stop, walk.seen

    def ring(self, data: Octets, at: int, frames: int, *, virtio: bool) -> tuple[int, int, int]:
        """Count the frames of a packet socket's block."""
        while frames > 0:
            walk = ring_frames(data, at, frames, virtio=virtio)
            self._count(data, walk)
            if walk.stop != stops.FULL:
                return walk.at, walk.stop, walk.seen
            at, frames = walk.at, frames - len(walk.frames.offset)
        return at, stops.MORE, 0

    def renumber(self) -> None:
        """Learn the pairs' numbers anew."""
        rows = self._counts.rows[: int(self._counts.state[PAIRS])]
        self._numbers = {row.tobytes(): number for number, row in enumerate(rows)}

    def _note_untimed(self, frames: Frames) -> None:
        state, count = self._counts.state, len(frames.offset)
        if state[SIMPLE_NS] < 0:
            state[BORROWED] += frames.leading_untimed
        if count > frames.leading_untimed:
            state[SIMPLE_NS] = frames.at_ns[-1]

    def _count(self, data: Octets, walk: Walk) -> None:
        frames = walk.frames
        if not len(frames.offset):
            return
        rows = rows_of(Peek(data), frames, inner=self._inner)
        values = np.empty((len(frames.offset), 3), dtype=np.int64)
        length = frames.captured if self._captured_length else frames.wire
        values[:, 0], values[:, 1], values[:, 2] = length - rows.before, rows.payload, 1
        if frames.segment is not None:
            _cut_super_frames(frames, rows, values)
        bins = frames.at_ns // self._counts.width_ns
        self._note(frames, rows, values)
        self._add(_grouped(rows, bins, values))

    def _note(self, frames: Frames, rows: Rows, values: Numbers) -> None:
        state = self._counts.state
        state[FRAMES] += values[:, 2].sum()
        state[BYTES] += values[:, 0].sum()
        nobody = (rows.words[:, 1] >> np.uint64(32)) & np.uint64(0xFFFF) == 0
        state[UNREADABLE] += values[nobody, 2].sum()
        state[FIRST_NS] = min(state[FIRST_NS], frames.at_ns.min())
        state[LAST_FRAME_NS] = max(state[LAST_FRAME_NS], frames.at_ns.max())

    def _add(self, groups: _Groups) -> None:
        counts, count = self._counts, len(groups.bins)
        counts.make_room(pairs=count, cells=count, runs=count)
        pairs = self._pairs(groups.words)
        for number in np.unique(groups.bins):
            mine = groups.bins == number
            counts.begin_run(int(number))
            first = int(counts.state[CELLS])
            last = first + int(mine.sum())
            counts.cells[first:last, 0] = pairs[mine]
            counts.cells[first:last, 1:] = groups.sums[mine]
            counts.state[CELLS] = last

    def _pairs(self, words: NDArray[np.uint64]) -> Numbers:
        """Return the numbers of pairs, giving new ones their number in the order of `words`."""
        numbers, known = self._numbers, len(self._numbers)
        raw, step = words.tobytes(), 8 * WORDS
        found = [
            numbers.setdefault(raw[at : at + step], len(numbers)) for at in range(0, len(raw), step)
        ]
        pairs = np.array(found, dtype=np.int64)
        new = np.flatnonzero(pairs >= known)
        self._counts.rows[pairs[new]] = words[new]
        self._counts.state[PAIRS] = len(numbers)
        return pairs


def _cut_super_frames(frames: Frames, rows: Rows, values: Numbers) -> None:
    """Count a super-frame as the segments that the wire will carry, each with headers of its own."""
    assert frames.segment is not None
    which = np.flatnonzero((frames.segment > 0) & (rows.payload > frames.segment))
    payload, segment = rows.payload[which], frames.segment[which]
    segments = (payload + segment - 1) // segment
    headers = np.maximum(frames.wire[which] - rows.before[which] - payload, 0)
    values[which, 0] += (segments - 1) * headers
    values[which, 2] = segments


def _grouped(rows: Rows, bins: Numbers, values: Numbers) -> _Groups:
    words, order = rows.words, None
    if len(rows.claims):  # a claim comes right behind the frame that it stands in
        words = np.concatenate((words, rows.claims))
        order = np.concatenate((2 * np.arange(len(bins)), 2 * rows.claimed_by + 1))
        bins = np.concatenate((bins, bins[rows.claimed_by]))
        values = np.concatenate((values, np.zeros((len(rows.claims), 3), dtype=np.int64)))
    by_row, begins = _sorted_by_row(words, bins)
    met = np.minimum.reduceat(by_row if order is None else order[by_row], begins)
    sums = np.add.reduceat(values[by_row], begins, axis=0)
    as_met = np.argsort(met)
    first = by_row[begins][as_met]
    return _Groups(words[first], bins[first], sums[as_met])


def _sorted_by_row(words: NDArray[np.uint64], bins: Numbers) -> tuple[Numbers, Numbers]:
    """Return an order in which equal rows of one bin stand together, and where in it they begin."""
    mixed = (words * _ODD[:WORDS]).sum(axis=1, dtype=np.uint64)
    mixed += bins.astype(np.uint64) * _ODD[WORDS]
    order = np.argsort(mixed)
    ordered = mixed[order]
    begins = np.concatenate(([True], ordered[1:] != ordered[:-1]))
    first = order[begins][np.cumsum(begins) - 1]
    if (words[order] != words[first]).any() or (bins[order] != bins[first]).any():
        # Different rows have equal sums; which nobody's traffic has by chance, but anybody's may by design.
        order = np.lexsort((bins, *words.T))
        rows, numbers = words[order], bins[order]
        begins[1:] = (rows[1:] != rows[:-1]).any(axis=1) | (numbers[1:] != numbers[:-1])
    return order, np.flatnonzero(begins)
