"""Counting by NumPy: batches of frames become rows, rows the numbers of pairs, and these are added up."""

import numpy as np

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
    Counts,
    distinct,
)
from transhume.monitor.capture.scan.head import FileHead, Octets
from transhume.monitor.capture.scan.vectors.decoding import Rows, Words, rows_of
from transhume.monitor.capture.scan.vectors.frames import (
    Frames,
    Numbers,
    Walk,
    pcap_frames,
    pcapng_frames,
    ring_frames,
    values_of,
)
from transhume.monitor.capture.scan.vectors.known_pairs import KnownPairs
from transhume.monitor.capture.scan.vectors.peek import Peek


class VectorCounting:
    """Counts frames into `counts`, by NumPy."""

    def __init__(self, counts: Counts, *, inner: bool, captured_length: bool) -> None:
        self._counts = counts
        self._inner = inner
        self._captured_length = captured_length
        self._known = KnownPairs(counts)

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
        self._known = KnownPairs(self._counts)

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
        self._note(frames, rows, values)
        self._add(rows, frames.at_ns // self._counts.width_ns, values)

    def _note(self, frames: Frames, rows: Rows, values: Numbers) -> None:
        state = self._counts.state
        state[FRAMES] += values[:, 2].sum()
        state[BYTES] += values[:, 0].sum()
        nobody = (rows.words[:, 1] >> np.uint64(32)) & np.uint64(0xFFFF) == 0
        state[UNREADABLE] += values[nobody, 2].sum()
        state[FIRST_NS] = min(state[FIRST_NS], frames.at_ns.min())
        state[LAST_FRAME_NS] = max(state[LAST_FRAME_NS], frames.at_ns.max())

    def _add(self, rows: Rows, bins: Numbers, values: Numbers) -> None:
        counts = self._counts
        pairs = self._known.numbers(_with_claims(rows), _met(rows))
        if len(rows.claims):
            bins = np.concatenate((bins, bins[rows.claimed_by]))
            values = np.concatenate((values, np.zeros((len(rows.claims), 3), dtype=np.int64)))
        for number in values_of(bins):
            mine = bins == number
            found, at = distinct(pairs[mine], int(counts.state[PAIRS]))
            counts.make_room(pairs=0, cells=len(found), runs=1)
            counts.begin_run(number)
            first = int(counts.state[CELLS])
            cells = counts.cells[first : first + len(found)]
            cells[:, 0] = found
            for column, sent in enumerate(values[mine].T, start=1):
                # A batch's sums are far below 2^53, up to where such numbers are exact.
                cells[:, column] = np.bincount(at, weights=sent, minlength=len(found))
            counts.state[CELLS] += len(found)


def _with_claims(rows: Rows) -> Words:
    return np.concatenate((rows.words, rows.claims)) if len(rows.claims) else rows.words


def _met(rows: Rows) -> Numbers:
    """Return the order in which rows and claims were met: a claim right behind the frame that it stands in."""
    return np.concatenate((2 * np.arange(len(rows.words)), 2 * rows.claimed_by + 1))


def _cut_super_frames(frames: Frames, rows: Rows, values: Numbers) -> None:
    """Count a super-frame as the segments that the wire will carry, each with headers of its own."""
    assert frames.segment is not None
    which = np.flatnonzero((frames.segment > 0) & (rows.payload > frames.segment))
    payload, segment = rows.payload[which], frames.segment[which]
    segments = (payload + segment - 1) // segment
    headers = np.maximum(frames.wire[which] - rows.before[which] - payload, 0)
    values[which, 0] += (segments - 1) * headers
    values[which, 2] = segments
