"""The receiving half of a domain: frames in, the streams' bytes out. It knows nothing of hypervisors.

What a frame gives is checked before anybody sees it. A frame that fails ends its link: nobody could tell what
the frames after it refer to.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from blake3 import blake3

from transhume.execute.migration.coding.frame import (
    BadFrame,
    Coding,
    Frame,
    Ops,
    inflate,
    unpack,
    unpack_ops,
)
from transhume.execute.migration.coding.steps import from_steps
from transhume.execute.migration.coding.window import Decompressor
from transhume.execute.migration.content.catalogue import ImageChanged
from transhume.execute.migration.content.page_log import NotInLog, PageLog, Positions
from transhume.execute.migration.content.references import Space, indices_of, spaces_of
from transhume.execute.migration.splitting import PAGE_BYTES

ReadPages = Callable[[Positions], list[memoryview]]


@dataclass(slots=True)
class Arriving:
    """One stream that is being received."""

    check: blake3 = field(default_factory=blake3)
    """Of all of it that has come."""


class Receiver:
    """What one end has of the other's pages.

    Args:
        log: the pages received.
    """

    def __init__(self, log: PageLog) -> None:
        self.log = log
        self._window = Decompressor()
        self._spaces: dict[int, ReadPages] = {Space.LOG: log.read}

    def add_space(self, space: int, read: ReadPages) -> None:
        """Let references into a space be resolved."""
        self._spaces[space] = read

    def drop_listed(self) -> None:
        """Let references into what was listed for the peer be mistakes again."""
        for space in [space for space in self._spaces if space >= Space.RESIDENTS]:
            del self._spaces[space]

    def fresh_window(self) -> None:
        """Begin a new window, because the other end does."""
        self._window = Decompressor()

    def decode(self, stream: Arriving, data: bytes | memoryview) -> bytes:
        """Return the next bytes of a stream, checked.

        Raises:
            BadFrame: they aren't what was sent, or can't be told.
            OSError: the log can't keep the new pages.
        """
        frame = unpack(data)
        raw = self._put_together(frame)
        check = stream.check.copy()
        check.update(raw)
        if check.digest() != frame.check:
            raise BadFrame("its bytes aren't those that were sent")
        stream.check = check
        return raw

    def _put_together(self, frame: Frame) -> bytes:
        ops = unpack_ops(frame)
        skeleton = memoryview(self._skeleton(frame, ops))
        new = self._new_pages(frame)
        self.log.append(new)
        added = iter(range(0, len(new), PAGE_BYTES))
        known = iter(self._resolve(ops.references))
        pieces: list[memoryview] = []
        at = 0
        for gap, is_new in zip(ops.gaps[:-1].tolist(), ops.is_new.tolist(), strict=True):
            if gap:
                pieces.append(skeleton[at : at + gap])
                at += gap
            if is_new:
                begin = next(added)
                pieces.append(new[begin : begin + PAGE_BYTES])
            else:
                pieces.append(next(known))
        return b"".join([*pieces, skeleton[at:]])

    def _skeleton(self, frame: Frame, ops: Ops) -> bytes | memoryview:
        size = frame.raw_bytes - frame.pages * PAGE_BYTES
        if not frame.coding & Coding.SKELETON_RAW:
            return from_steps(inflate(frame.skeleton, size + 1), ops.gaps)
        if len(frame.skeleton) != size:
            raise BadFrame(f"its skeleton has {len(frame.skeleton)} bytes instead of {size}")
        return frame.skeleton

    def _new_pages(self, frame: Frame) -> memoryview:
        size = frame.new_pages * PAGE_BYTES
        new = frame.new
        if not frame.coding & Coding.PAGES_RAW:
            new = self._window.decompress(new, size)
        if len(new) != size:
            raise BadFrame(f"its new pages have {len(new)} bytes instead of {size}")
        return memoryview(new)

    def _resolve(self, references: Positions) -> list[memoryview]:
        spaces = spaces_of(references)
        used = np.unique(spaces).tolist()
        if len(used) == 1:
            return self._read(used[0], references)
        found: list[memoryview] = [memoryview(b"")] * len(references)
        for space in used:
            here = np.flatnonzero(spaces == space)
            for place, page in zip(here.tolist(), self._read(space, references[here]), strict=True):
                found[place] = page
        return found

    def _read(self, space: int, references: Positions) -> list[memoryview]:
        read = self._spaces.get(space)
        if read is None:
            raise BadFrame(f"it refers into space {space}, which was never agreed on")
        try:
            return read(indices_of(references))
        except (NotInLog, ImageChanged, IndexError) as error:
            raise BadFrame(f"it refers to what isn't there: {error}") from error
