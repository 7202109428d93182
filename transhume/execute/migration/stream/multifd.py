"""A multifd channel: packets of a fixed header, an array of offsets, and whole pages.

A packet's header has one size, whatever it says of allocated pages: QEMU 10 says none in those that only
synchronise. Pages follow where it counts some, and not where it names a next packet's size: QEMU 7.2 leaves
there, in packets that only synchronise, what an earlier one had.
"""

from transhume.execute.migration.splitting import PAGE_BYTES, Understanding
from transhume.execute.migration.stream.reading import (
    ON,
    Cursor,
    Grammar,
    NotUnderstoodError,
    Octets,
    Run,
    Step,
)

MULTIFD_MAGIC = 0x11223344
_VERSION = 1
_INIT_BYTES = 64
_PAGES_OF_A_PACKET = 512 * 1024 // PAGE_BYTES
_HEADER_BYTES = 320 + 8 * _PAGES_OF_A_PACKET
_DEVICE_STATE_HEADER_BYTES = 276
_COMPRESSED, _DEVICE_STATE = 0x3E, 0x40


class MultifdGrammar:
    """What is known of multifd."""

    lost = ""

    def __init__(self, understanding: Understanding) -> None:
        self._understanding = understanding
        self._begun = False

    def run(self, octets: Octets, at: int, end: int) -> Run | None:
        """Return None: packets are few, and each tells of many pages."""
        return None

    def read(self, cursor: Cursor) -> Step | Grammar:
        """Read the channel's first message or a packet's header.

        Raises:
            ShortError: it isn't all there.
            NotUnderstoodError: it is none, or pages don't follow as they are.
        """
        start = cursor.at
        if (cursor.number32(), cursor.number32()) != (MULTIFD_MAGIC, _VERSION):
            raise NotUnderstoodError("no multifd packet where one should begin")
        if not self._begun:
            cursor.skip(start + _INIT_BYTES - cursor.at)
            self._begun = True
            return ON
        flags = cursor.number32()
        if flags & _DEVICE_STATE:
            cursor.skip(start + _DEVICE_STATE_HEADER_BYTES - 4 - cursor.at)
            return Step(literal_bytes=cursor.number32())
        if flags & _COMPRESSED:
            raise NotUnderstoodError(
                "multifd-compression is on: QEMU compresses pages before they can be told apart"
            )
        return self._pages(cursor, start)

    def _pages(self, cursor: Cursor, start: int) -> Step:
        cursor.number32()  # pages allocated: no measure of anything
        pages, page_bytes = cursor.number32(), cursor.number32()
        cursor.number64()
        zero_pages = cursor.number32()
        cursor.skip(start + _HEADER_BYTES - cursor.at)
        if pages > _PAGES_OF_A_PACKET:
            raise NotUnderstoodError(f"a multifd packet of {pages} pages")
        if pages and page_bytes != pages * PAGE_BYTES:
            raise NotUnderstoodError(f"a multifd packet of {pages} pages in {page_bytes} bytes")
        self._understanding.pages += pages
        if pages + zero_pages <= _PAGES_OF_A_PACKET:
            self._understanding.zero_pages += zero_pages
        return Step(page_bytes=pages * PAGE_BYTES)
