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

from transhume.execute.migration.content.vault import Vault
from transhume.execute.migration.splitting import PAGE_BYTES

SEGMENT_PAGES = 1024
SEGMENT_BYTES = SEGMENT_PAGES * PAGE_BYTES
ID_BYTES = 16

Pages = NDArray[np.uint8]
"""Whole pages, shape (n, PAGE_BYTES)."""
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
        self._warm: dict[int, Pages] = {}
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

    def append(self, pages: Pages) -> None:
        """Add pages, shape (n, PAGE_BYTES), at the next positions.

        Raises:
            OSError: an old segment can't be put on disk to make room.
        """
        with self._lock:
            done = 0
            while done < len(pages):
                segment, at = divmod(self.next, SEGMENT_PAGES)
                if segment not in self._warm:
                    self._add_segment(segment)
                count = min(len(pages) - done, SEGMENT_PAGES - at)
                self._warm[segment][at : at + count] = pages[done : done + count]
                self.next += count
                done += count

    def read(self, positions: Positions) -> Pages:
        """Return the pages at these positions, in their order.

        Raises:
            NotInLog: a position isn't kept.
            OSError: the disk doesn't give a segment.
        """
        with self._lock:
            if len(positions) and (positions.min() < self.first or positions.max() >= self.next):
                raise NotInLog(f"the log keeps {self.first} to {self.next}")
            found = np.empty((len(positions), PAGE_BYTES), np.uint8)
            segments = positions // SEGMENT_PAGES
            for segment in np.unique(segments).tolist():
                here = np.flatnonzero(segments == segment)
                within = positions[here] - segment * SEGMENT_PAGES
                warm = self._warm.get(segment)
                found[here] = warm[within] if warm is not None else self._from_disk(segment, within)
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
            self._on_disk().put(oldest, self._warm[oldest].data.cast("B"))
            del self._warm[oldest]
        self._warm[segment] = _memory()

    def _on_disk(self) -> Vault:
        if self._vault is None:
            self._vault = Vault(self._folder, SEGMENT_BYTES)
        return self._vault

    def _from_disk(self, segment: int, within: Positions) -> Pages:
        low, high = int(within.min()), int(within.max()) + 1
        content = self._on_disk().read(segment, low * PAGE_BYTES, (high - low) * PAGE_BYTES)
        pages = np.frombuffer(content, np.uint8)
        if len(pages) != (high - low) * PAGE_BYTES:
            raise OSError(f"segment {segment} is cut short")
        return pages.reshape(-1, PAGE_BYTES)[within - low]


def _memory() -> Pages:
    """Return room for a segment that no core dump will show."""
    room = mmap.mmap(-1, SEGMENT_BYTES)
    room.madvise(mmap.MADV_DONTDUMP)
    return np.frombuffer(room, np.uint8).reshape(SEGMENT_PAGES, PAGE_BYTES)
