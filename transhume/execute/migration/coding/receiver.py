"""The receiving half of a domain: frames in, the streams' bytes out. It knows nothing of hypervisors.

What a frame gives is checked before anybody sees it. A frame that fails ends its link: nobody could tell what
the frames after it refer to.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from transhume.execute.migration.coding.frame import (
    START_CHECK,
    BadFrame,
    Coding,
    Frame,
    inflate,
    next_check,
    unpack,
    unpack_ops,
)
from transhume.execute.migration.coding.window import Decompressor
from transhume.execute.migration.content.catalogue import ImageChanged
from transhume.execute.migration.content.page_log import NotInLog, PageLog, Pages, Positions
from transhume.execute.migration.content.references import Space, indices_of, spaces_of
from transhume.execute.migration.splitting import PAGE_BYTES

ReadPages = Callable[[Positions], Pages]


@dataclass(slots=True)
class Arriving:
    """One stream that is being received."""

    check: bytes = START_CHECK


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

    def drop_catalogues(self) -> None:
        """Let references into catalogues be mistakes again."""
        for space in [space for space in self._spaces if space >= Space.FIRST_CATALOGUE]:
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
        check = next_check(stream.check, raw)
        if check != frame.check:
            raise BadFrame("its bytes aren't those that were sent")
        stream.check = check
        return raw

    def _put_together(self, frame: Frame) -> bytes:
        ops = unpack_ops(frame)
        skeleton = self._skeleton(frame)
        new = self._new_pages(frame)
        self.log.append(new)
        pages = np.empty((frame.pages, PAGE_BYTES), np.uint8)
        pages[ops.is_new] = new
        pages[~ops.is_new] = self._resolve(ops.references)
        if not frame.pages:
            return bytes(skeleton)
        flat = memoryview(pages.data).cast("B")
        pieces: list[bytes | memoryview] = []
        at = 0
        for number, gap in enumerate(ops.gaps[:-1].tolist()):
            page = flat[number * PAGE_BYTES : (number + 1) * PAGE_BYTES]
            pieces += (skeleton[at : at + gap], page)
            at += gap
        return b"".join([*pieces, skeleton[at:]])

    def _skeleton(self, frame: Frame) -> bytes | memoryview:
        size = frame.raw_bytes - frame.pages * PAGE_BYTES
        if not frame.coding & Coding.SKELETON_RAW:
            return inflate(frame.skeleton, size)
        if len(frame.skeleton) != size:
            raise BadFrame(f"its skeleton has {len(frame.skeleton)} bytes instead of {size}")
        return frame.skeleton

    def _new_pages(self, frame: Frame) -> Pages:
        size = frame.new_pages * PAGE_BYTES
        new = bytes(frame.new)
        if not frame.coding & Coding.PAGES_RAW:
            new = self._window.decompress(new, size)
        if len(new) != size:
            raise BadFrame(f"its new pages have {len(new)} bytes instead of {size}")
        return np.frombuffer(new, np.uint8).reshape(-1, PAGE_BYTES)

    def _resolve(self, references: Positions) -> Pages:
        found = np.empty((len(references), PAGE_BYTES), np.uint8)
        spaces = spaces_of(references)
        for space in np.unique(spaces).tolist():
            read = self._spaces.get(space)
            if read is None:
                raise BadFrame(f"it refers into space {space}, which was never agreed on")
            here = spaces == space
            try:
                found[here] = read(indices_of(references[here]))
            except (NotInLog, ImageChanged, IndexError) as error:
                raise BadFrame(f"it refers to what isn't there: {error}") from error
        return found
