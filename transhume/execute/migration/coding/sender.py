"""The sending half of a domain: pieces of streams in, frames out.

A domain is one tenant's share of what two sites know in common: one log of pages, one index, one window.
Frames are decoded in the order in which they were encoded, whichever streams they are of. All of it is for one
caller at a time.
"""

import numpy as np

from transhume.execute.migration.coding.frame import (
    Coding,
    Frame,
    Ops,
    deflate,
    pack,
    pack_ops,
)
from transhume.execute.migration.coding.prepared import Prepared
from transhume.execute.migration.coding.steps import to_steps
from transhume.execute.migration.coding.window import FASTEST, Compressor
from transhume.execute.migration.content.page_index import PageIndex
from transhume.execute.migration.content.page_log import PageLog
from transhume.execute.migration.splitting import PAGE_BYTES, Offsets
from transhume.knowledge.model import Transfer

_SMALLEST_DEFLATED = 64
_UNANSWERED_BYTES = 64 << 20
"""What may be sent until the other end has heard that something is to be forgotten, and has answered."""


class Sender:
    """What one end knows of the other, and how to tell it more.

    Args:
        log: the pages sent, for whoever sends them back.
        limit_bytes: what the log may hold where its disk has room; the oldest pages are forgotten at both ends.
    """

    def __init__(self, log: PageLog, limit_bytes: int) -> None:
        self.log = log
        self.index = PageIndex()
        self.limit_bytes = self._most_bytes = limit_bytes
        self._window = Compressor()

    def encode(
        self, prepared: Prepared, *, level: int | None = FASTEST
    ) -> tuple[list[bytes | memoryview], Transfer]:
        """Return a frame's pieces and what they are; the new pages are known from then on.

        Args:
            prepared: a piece of a stream.
            level: zstd's; None where the link is faster than any compressor.

        Raises:
            OSError: the log can't keep the new pages.
        """
        raw, offsets = memoryview(prepared.split.raw), prepared.split.pages
        is_new, references = self.index.look_up(prepared.digests, prepared.owner)
        own, cluster = self.index.count_owned(references, prepared.owner)
        new = _joined(raw, offsets[is_new])
        self._keep(new)
        skeleton, gaps = _without_pages(raw, offsets)
        coding = Coding(0)
        coded_skeleton: bytes | memoryview = skeleton
        if level is not None and len(skeleton) >= _SMALLEST_DEFLATED:
            coded_skeleton = deflate(to_steps(skeleton, gaps))
        else:
            coding |= Coding.SKELETON_RAW
        coded_new = new
        if level is not None and new:
            coded_new = self._window.compress(new, level)
        else:
            coding |= Coding.PAGES_RAW
        frame = Frame(
            raw_bytes=len(raw),
            pages=len(offsets),
            new_pages=int(is_new.sum()),
            coding=coding,
            check=prepared.check,
            skeleton=coded_skeleton,
            ops=pack_ops(Ops(gaps, is_new, references)),
            new=coded_new,
        )
        pieces = pack(frame)
        wire_bytes = sum(map(len, pieces))
        return pieces, Transfer(
            raw_bytes=len(raw),
            wire_bytes=wire_bytes,
            own_pages=own,
            cluster_pages=cluster,
            site_pages=len(references) - own - cluster,
            new_pages=frame.new_pages,
            new_wire_bytes=len(coded_new),
            other_bytes=len(skeleton),
            other_wire_bytes=wire_bytes - len(coded_new),
        )

    def first_part(
        self, prepared: Prepared, most_unknown_bytes: int
    ) -> tuple[Prepared, Prepared | None]:
        """Return as much of a piece as may be encoded at once, and the rest; None where that's all.

        Args:
            prepared: a piece of a stream.
            most_unknown_bytes: how much may be in it beside what the other end has, at least a page; a quarter
                more isn't worth a frame of its own.
        """
        raw_bytes, pages = len(prepared.split.raw), prepared.split.pages
        few_bytes = most_unknown_bytes * 5 // 4
        if raw_bytes <= few_bytes:
            return prepared, None
        known_pages = np.cumsum(self.index.knows(prepared.digests))
        # It may end before a page, or where it ends.
        ends = np.append(pages, raw_bytes)
        unknown = ends - PAGE_BYTES * np.insert(known_pages, 0, 0)
        if unknown[-1] <= few_bytes:
            return prepared, None
        fitting = int(np.searchsorted(unknown, most_unknown_bytes, side="right"))
        # There is no such place where the bytes before the first page are too many, or those after it.
        at = int(ends[fitting - 1]) if fitting else 0
        return prepared.cut(at or most_unknown_bytes)

    def fresh_window(self) -> None:
        """Begin a new window, because the other end does."""
        self._window = Compressor()

    def surplus(self) -> int | None:
        """Return the position below which pages must be forgotten; None where all are within the limit."""
        index = self.index
        limit_bytes = min(self.limit_bytes, self.log.room_bytes)
        over = (index.next - index.first) * PAGE_BYTES - limit_bytes
        if over <= 0:
            return None
        # Somewhat more than needed, so that it isn't done for every frame.
        return index.first + -(-(over + limit_bytes // 16) // PAGE_BYTES)

    def forget_below(self, position: int) -> None:
        """Refer to nothing before a position any more; the log goes when the other end has followed.

        An end that never follows isn't waited for without limit: what it refers to may then be missing.
        """
        self.index.forget_below(position)
        if self.log.kept_bytes > 2 * self._most_bytes + _UNANSWERED_BYTES:
            self.log.forget_below(self.index.first)

    def _keep(self, new: bytes) -> None:
        before = self.log.next
        try:
            self.log.append(new)
        except OSError:
            self.truncate(before)  # the other end never hears of them
            raise

    def truncate(self, position: int) -> None:
        """Forget what the other end hasn't got.

        Raises:
            NotInLog: the log can't be cut there.
        """
        self.log.truncate(position)
        self.index.truncate(position)


def _joined(raw: memoryview, offsets: Offsets) -> bytes:
    return b"".join([raw[at : at + PAGE_BYTES] for at in offsets.tolist()])


def _without_pages(raw: memoryview, offsets: Offsets) -> tuple[bytes | memoryview, Offsets]:
    """Return the bytes that aren't pages, and how many stand before each page and after the last."""
    if not len(offsets):
        return raw, np.array([len(raw)], np.int64)
    starts = np.concatenate(([0], offsets + PAGE_BYTES))
    ends = np.append(offsets, len(raw))
    pairs = zip(starts.tolist(), ends.tolist(), strict=True)
    return b"".join([raw[start:end] for start, end in pairs if end > start]), ends - starts
