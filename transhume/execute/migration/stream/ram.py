"""The records of memory sections: an offset with flags in its low bits, mostly a block's name, and contents.

What is remembered of blocks and of the last record's block lasts beyond a section.
"""

from transhume.execute.migration.splitting import PAGE_BYTES, Understanding
from transhume.execute.migration.stream.blocks import EOS, MULTIFD_FLUSH, read_blocks
from transhume.execute.migration.stream.reading import (
    ON,
    Cursor,
    NotUnderstoodError,
    Octets,
    Run,
    Step,
)
from transhume.execute.migration.stream.runs import CONTINUE, PAGE, ZERO, scan_run

RAM, RAM_VERSION = b"ram", 4
_SIZES, _XBZRLE, _COMPRESSED = 0x04, 0x40, 0x100
_KINDS = {PAGE, ZERO, _XBZRLE, _COMPRESSED}
_XBZRLE_ENCODING = 1


class RamRecords:
    """Reads the records of a stream's memory sections."""

    def __init__(self, understanding: Understanding) -> None:
        self.page_bytes = PAGE_BYTES
        """The guest's page, a multiple of ours."""
        self.section_ended = False
        """Whether the record read last was the section's last."""
        self._understanding = understanding
        self._blocks: dict[bytes, int] = {}
        self._block_bytes = 0

    def run(self, octets: Octets, at: int, end: int) -> Run | None:
        """Read records of the block of the last record, where pages are of our size."""
        if self.page_bytes != PAGE_BYTES or not self._block_bytes:
            return None
        return scan_run(octets, at, end, self._block_bytes)

    def read(self, cursor: Cursor) -> Step:
        """Read a record's header.

        Raises:
            ShortError: it isn't all there.
            NotUnderstoodError: it is none.
        """
        word = cursor.number64()
        flags = word & (self.page_bytes - 1)
        self.section_ended = word == EOS
        if self.section_ended or word == MULTIFD_FLUSH:
            return ON
        if flags == _SIZES:
            self._blocks = read_blocks(cursor, word - flags)
            self._block_bytes = 0
            return ON
        if flags & ~CONTINUE not in _KINDS:
            raise NotUnderstoodError(f"a memory record of the unknown kind {flags:#x}")
        block_bytes = self._block_of(cursor, flags)
        if word >= block_bytes:
            raise NotUnderstoodError("a page outside its memory block")
        step = self._contents(cursor, flags & ~CONTINUE)
        self._block_bytes = block_bytes
        return step

    def _block_of(self, cursor: Cursor, flags: int) -> int:
        if flags & CONTINUE:
            return self._block_bytes
        name = cursor.text()
        if name not in self._blocks:
            raise NotUnderstoodError("a page of an unknown memory block")
        return self._blocks[name]

    def _contents(self, cursor: Cursor, kind: int) -> Step:
        ours = self.page_bytes // PAGE_BYTES
        if kind == PAGE:
            self._understanding.pages += ours
            return Step(page_bytes=self.page_bytes)
        if kind == ZERO:
            cursor.skip(1)
            self._understanding.zero_pages += ours
            return ON
        if kind == _XBZRLE:
            return self._delta(cursor)
        return Step(literal_bytes=cursor.number32())

    def _delta(self, cursor: Cursor) -> Step:
        encoding, length = cursor.number8(), cursor.number16()
        if encoding != _XBZRLE_ENCODING or length > self.page_bytes:
            raise NotUnderstoodError("a delta of a page that is none of xbzrle's")
        return Step(literal_bytes=length)
