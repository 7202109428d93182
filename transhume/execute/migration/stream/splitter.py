"""The splitter: gives out bytes as they came, and has a grammar say where pages are in them.

Owns every byte that is held, which are those of one incomplete page and no others. Headers are given out at
once, even by halves, and a copy of what wasn't complete is shown to the grammar again. Contents of known length
are counted down. So whatever the grammar believes or does, the bytes that go out are the bytes that came in.
"""

import numpy as np

from transhume.execute.migration.splitting import PAGE_BYTES, Split, Understanding
from transhume.execute.migration.stream.beginning import Beginning
from transhume.execute.migration.stream.reading import (
    Cursor,
    Grammar,
    NotUnderstoodError,
    Octets,
    ShortError,
    Step,
)

_LONGEST_HEADER_BYTES = 1 << 16
_LAST_BYTE = b"}"
"""Of the description of a machine's state, in JSON, which comes last."""


class QemuSplitter:
    """Finds pages in one connection of a migration, plain or multifd; implements `Splitter`.

    What `split` gives out may be a view of what it was given: whoever reads into one buffer again and again has
    to be done with what came out before.
    """

    def __init__(self) -> None:
        self._understanding = Understanding()
        self._grammar: Grammar = Beginning(self._understanding)
        self._held = bytearray()
        self._header = b""
        self._literal_bytes = 0
        self._page_bytes = 0
        self._given_bytes = 0
        self._unit_at = 0
        self._opaque = False

    @property
    def understanding(self) -> Understanding:
        """What was made out so far; pages are counted in those of 4,096 bytes."""
        return self._understanding

    @property
    def held_bytes(self) -> int:
        """How many bytes were taken and not given out yet: less than a page."""
        return len(self._held)

    def split(self, data: bytes | memoryview) -> Split:
        """Take the next bytes; give out all but the last page where that isn't complete. Never raises."""
        found = self._take(data)
        if self._understanding.memory_ends:
            self._understanding.seems_complete = bytes(data[-1:]) == _LAST_BYTE
        return found

    def _take(self, data: bytes | memoryview) -> Split:
        if self._opaque:
            return Split(raw=data)
        if self._held:
            if len(self._held) + len(data) < PAGE_BYTES:
                self._held += data
                return Split(raw=b"")
            data = b"".join((self._held, data))
            self._held.clear()
        return self._split(data)

    def flush(self) -> Split:
        """Give out what there is of an incomplete page; the rest will go out as it comes. Never raises."""
        raw = bytes(self._held)
        if raw:
            self._literal_bytes += PAGE_BYTES - len(raw)
            self._page_bytes -= PAGE_BYTES
            self._held.clear()
            self._given_bytes += len(raw)
        return Split(raw=raw)

    def _split(self, octets: Octets) -> Split:
        pages: list[int] = []
        given = len(octets)
        try:
            given = self._walk(octets, pages)
        except NotUnderstoodError as error:
            self._give_up(str(error))
        except Exception as error:  # noqa: BLE001 whatever is wrong with us is no reason to lose a stream
            self._give_up(f"a mistake of ours: {error!r}")
        self._given_bytes += given
        view = memoryview(octets)
        if given < len(octets):
            self._held += view[given:]
        raw = octets if given == len(octets) else view[:given]
        return Split(raw=raw, pages=np.array(pages, np.int64)) if pages else Split(raw=raw)

    def _give_up(self, why: str) -> None:
        self._opaque = True
        self._header = b""
        if self._understanding.opaque_from is None:
            self._understanding.opaque_from = self._unit_at
        self._understanding.why_opaque = why

    def _walk(self, octets: Octets, pages: list[int]) -> int:
        """Go as far as possible; return where an incomplete page begins, or else the end."""
        at, end = 0, len(octets)
        while at < end:
            if self._literal_bytes:
                passed = min(self._literal_bytes, end - at)
                self._literal_bytes -= passed
                at += passed
            elif self._page_bytes:
                whole = min(self._page_bytes, end - at) // PAGE_BYTES * PAGE_BYTES
                pages.extend(range(at, at + whole, PAGE_BYTES))
                self._page_bytes -= whole
                at += whole
                if self._page_bytes:
                    break
            elif self._header:
                at = self._read_on(octets, at)
            else:
                at = self._read(octets, at, pages)
        return at

    def _read(self, octets: Octets, at: int, pages: list[int]) -> int:
        """Read a run of records, and a header; return where they end."""
        self._unit_at = self._given_bytes + at
        run = self._grammar.run(octets, at, len(octets))
        if run is not None:
            pages.extend(run.pages)
            self._understanding.pages += len(run.pages)
            self._understanding.zero_pages += run.zero_pages
            at = run.end
            self._unit_at = self._given_bytes + at
        cursor = Cursor(octets, at, at)
        if not self._step(cursor):
            return len(octets)
        return cursor.at

    def _read_on(self, octets: Octets, at: int) -> int:
        """Read a header of which the beginning came, and went out, before; return where it ends."""
        begun = len(self._header)
        self._unit_at = self._given_bytes + at - begun
        more = bytes(octets[at : at + _LONGEST_HEADER_BYTES])
        cursor = Cursor(self._header + more, 0, 0)
        if not self._step(cursor):
            return at + len(more)
        self._header = self._header[cursor.at :]
        self._pass_given()
        return at + max(0, cursor.at - begun)

    def _pass_given(self) -> None:
        """Count what a step said of bytes that had gone out, and were shown once more behind a header."""
        passed = min(len(self._header), self._literal_bytes)
        self._literal_bytes -= passed
        self._header = self._header[passed:]
        if self._header and self._page_bytes:
            begun = min(len(self._header), self._page_bytes)
            self._header = self._header[begun:]
            pages = (begun + PAGE_BYTES - 1) // PAGE_BYTES * PAGE_BYTES
            self._page_bytes -= pages
            self._literal_bytes = pages - begun

    def _step(self, cursor: Cursor) -> bool:
        """Have the grammar read a header; tell whether it was all there."""
        try:
            step = self._grammar.read(cursor)
        except ShortError:
            self._header = bytes(cursor.octets[cursor.unit :])
            if len(self._header) > _LONGEST_HEADER_BYTES:
                raise NotUnderstoodError("a header without an end") from None
            return False
        if isinstance(step, Step):
            self._literal_bytes, self._page_bytes = step
        else:
            self._grammar = step
        self._note_whether_lost()
        return True

    def _note_whether_lost(self) -> None:
        lost = self._grammar.lost
        if lost != self._understanding.why_opaque:
            self._understanding.why_opaque = lost
            self._understanding.opaque_from = self._unit_at if lost else None
