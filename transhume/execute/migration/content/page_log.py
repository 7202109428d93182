"""An append-only log of pages that both ends of a link grow in the same order: a position names a page.

New segments are in memory; beyond a limit the oldest go, encrypted, to a disk; the sender says in the stream
itself when the oldest are forgotten, so that nobody ever refers to what isn't there.
Several threads may use a log.
"""

import mmap
import secrets
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from transhume.execute.migration.content.vault import Vault, spare_bytes
from transhume.execute.migration.splitting import PAGE_BYTES

SEGMENT_PAGES = 1024
SEGMENT_BYTES = SEGMENT_PAGES * PAGE_BYTES
ID_BYTES = 16
_SEGMENTS_WITHOUT_A_PLACE = 16
"""What is kept in memory beyond its share as long as the disk is full: some is about to be forgotten."""

Positions = NDArray[np.int64]


class NotInLog(LookupError):
    """A position that the log doesn't have: not yet, or no more."""


class PageLog:
    """Pages at the positions from `first` up to, not including, `next`.

    Args:
        folder: where segments go that have no room in memory.
        memory_bytes: what may be in memory; at least two segments are.
        name: the log's identity, the same at both ends; without it a new one.
    """

    def __init__(self, folder: Path, *, memory_bytes: int, name: bytes | None = None) -> None:
        self.name = name or secrets.token_bytes(ID_BYTES)
        self.first = 0
        self.next = 0
        self._folder = folder
        self._segments_in_memory = max(2, memory_bytes // SEGMENT_BYTES)
        self._warm: dict[int, memoryview] = {}
        self._vault: Vault | None = None
        self._lock = threading.RLock()

    @property
    def memory_bytes(self) -> int:
        """What is in memory."""
        return len(self._warm) * SEGMENT_BYTES

    @property
    def disk_bytes(self) -> int:
        """What is on disk, encrypted."""
        return self._vault.kept_bytes if self._vault else 0

    @property
    def kept_bytes(self) -> int:
        """What all pages of the log take."""
        return (self.next - self.first) * PAGE_BYTES

    @property
    def room_bytes(self) -> int:
        """What all pages of the log may take, with the disk as it is: more would find no room."""
        try:
            on_disk_bytes = max(0, self.disk_bytes + spare_bytes(self._folder))
        except OSError:
            on_disk_bytes = self.disk_bytes
        return self._segments_in_memory * SEGMENT_BYTES + on_disk_bytes

    def append(self, pages: bytes | memoryview) -> None:
        """Add whole pages, one behind another, at the next positions.

        Raises:
            OSError: old segments can't be put on disk to make room, one after another.
        """
        with self._lock:
            view = memoryview(pages)
            while view:
                segment, place = divmod(self.next, SEGMENT_PAGES)
                if segment not in self._warm:
                    self._add_segment(segment)
                begin = place * PAGE_BYTES
                count = min(len(view), SEGMENT_BYTES - begin)
                self._warm[segment][begin : begin + count] = view[:count]
                self.next += count // PAGE_BYTES
                view = view[count:]

    def read(self, positions: Positions) -> list[memoryview]:
        """Return the pages at these positions, in their order, where they are: nothing is copied.

        What is added later leaves them as they are; a `truncate` doesn't.

        Raises:
            NotInLog: a position isn't kept.
            OSError: the disk doesn't give a segment.
        """
        with self._lock:
            if len(positions) and (positions.min() < self.first or positions.max() >= self.next):
                raise NotInLog(f"the log keeps {self.first} to {self.next}")
            segments = positions // SEGMENT_PAGES
            begins = (positions - segments * SEGMENT_PAGES) * PAGE_BYTES
            rooms = {
                segment: self._room(segment, begins[segments == segment])
                for segment in np.unique(segments).tolist()
            }
            found = []
            for segment, begin in zip(segments.tolist(), begins.tolist(), strict=True):
                room, first = rooms[segment]
                found.append(room[begin - first : begin - first + PAGE_BYTES])
            return found

    def forget_below(self, position: int) -> None:
        """Forget the pages before a position."""
        with self._lock:
            self.first = min(max(position, self.first), self.next)
            whole = self.first // SEGMENT_PAGES
            for segment in [number for number in self._warm if number < whole]:
                del self._warm[segment]
            if self._vault is not None:
                for segment in self._vault.numbers():
                    if segment < whole:
                        self._vault.drop(segment)

    def truncate(self, position: int) -> None:
        """Forget the pages from a position on, which the other end hasn't got.

        Raises:
            NotInLog: what is left would end in a segment that isn't in memory any more.
        """
        with self._lock:
            on_disk = self._vault.numbers() if self._vault else ()
            if position < self.next and any((n + 1) * SEGMENT_PAGES > position for n in on_disk):
                raise NotInLog(
                    f"position {position} is on disk, and what is there can't be changed"
                )
            for segment in [number for number in self._warm if number * SEGMENT_PAGES >= position]:
                del self._warm[segment]
            self.next = min(self.next, max(position, self.first))

    def close(self) -> None:
        """Forget everything."""
        with self._lock:
            self._warm.clear()
            self.first = self.next
            if self._vault is not None:
                self._vault.close()
                self._vault = None

    def _add_segment(self, segment: int) -> None:
        while len(self._warm) >= self._segments_in_memory:
            oldest = min(self._warm)
            try:
                self._on_disk().put(oldest, self._warm[oldest])
            except OSError:
                if len(self._warm) >= self._segments_in_memory + _SEGMENTS_WITHOUT_A_PLACE:
                    raise
                break
            del self._warm[oldest]
        self._warm[segment] = _memory()

    def _on_disk(self) -> Vault:
        if self._vault is None:
            self._vault = Vault(self._folder, SEGMENT_BYTES)
        return self._vault

    def _room(self, segment: int, begins: Positions) -> tuple[memoryview, int]:
        """Return as much of a segment as has the pages that begin there, and where that part begins."""
        warm = self._warm.get(segment)
        if warm is not None:
            return warm, 0
        first, end = int(begins.min()), int(begins.max()) + PAGE_BYTES
        content = self._on_disk().read(segment, first, end - first)
        if len(content) != end - first:
            raise OSError(f"segment {segment} is cut short")
        return memoryview(content), first


def _memory() -> memoryview:
    """Return room for a segment that no core dump will show."""
    room = mmap.mmap(-1, SEGMENT_BYTES)
    room.madvise(mmap.MADV_DONTDUMP)
    return memoryview(room)
