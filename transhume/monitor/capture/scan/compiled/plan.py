"""What the kernel is told, as numbers: which format to read, what to count, and how large its memory is."""

from typing import Final

SYMBOL: Final = "transhume_scan"
"""The kernel's name in its object file."""

(
    JOB, TICK_NS, HEADER, LINK, SECTION_FIRST, INTERFACES, LEFT, VIRTIO,
    INNER, CAPTURED_LENGTH, WIDTH_NS, SLOTS, MOST_PAIRS, MOST_CELLS, MOST_RUNS, STOP,
) = range(16)  # fmt: skip
"""Where a number is in the plan.

`LEFT` is how many frames the ring's block still has; the kernel counts down. It begins a group only as long as
there are no more pairs, cells and runs than `MOST_` says. `STOP` is its answer: why it came back.
"""
PLAN_NUMBERS: Final = 16

PCAP, PCAPNG, SWAPPED_PCAP, SWAPPED_PCAPNG, RING, REBUILD = range(6)
"""The jobs: to count frames, of files in either byte order or of a ring, or to fill the table of pairs anew."""

GROUP: Final = 32
"""Frames that are read before the first of them is added up: their slots are in the cache by then."""
FRAME_CLAIM, SLOT, CELL, LENGTH, PAYLOAD, RARE = 6, *range(12, 17)
"""The columns of a group, behind those of a frame's row: the row that it claims, and what to add where.

`RARE` is 1 where there is a claim, plus twice the frames that a super-frame is more than one. It is 0 between
groups, so that it needs no writing for the others.
"""
GROUP_COLUMNS: Final = 17

SLOT_WORDS: Final = 8
"""A slot of the table of pairs fills a line of the cache: the row, the epoch of its cell, and both numbers."""
SLOT_EPOCH, SLOT_NUMBERS = 6, 7
"""Numbers: pair plus one in the upper half (0: the slot is empty), cell in the lower."""
