"""The plain stream: a configuration, and then sections, of which those called `ram` hold pages.

No section tells its length. Memory sections are read; of all others only the end can be looked for. That may be
worth while until the memory's last section has ended, and never after: devices come last. (Those that memory
depends on, as virtio-mem, send a section before it, too.)
"""

from collections.abc import Callable
from enum import IntEnum

from transhume.execute.migration.splitting import Understanding
from transhume.execute.migration.stream.configuration import read_target_page
from transhume.execute.migration.stream.ram import RAM, RAM_VERSION, RamRecords
from transhume.execute.migration.stream.reading import (
    END_OF_MEMORY,
    ON,
    Cursor,
    Grammar,
    NotUnderstoodError,
    Octets,
    Run,
    Step,
)
from transhume.execute.migration.stream.resync import SectionEnd

PLAIN_MAGIC = 0x5145564D
_VERSION = 3
_PACKAGED = 7
_MOST_SECTIONS = 4096


class Kind(IntEnum):
    """What a section's first byte says it is."""

    EOF = 0
    START = 1
    PART = 2
    END = 3
    FULL = 4
    SUBSECTION = 5
    CONFIGURATION = 7
    COMMAND = 8
    FOOTER = 0x7E


class PlainGrammar:
    """What is known of the plain stream."""

    def __init__(self, understanding: Understanding) -> None:
        self.lost = ""
        self._understanding = understanding
        self._ram = RamRecords(understanding)
        self._next: Callable[[Cursor], Step] = self._head
        self._names: dict[int, bytes] = {}
        self._ram_id = -1
        self._section_id = -1
        self._memory_ended = False
        self._end = SectionEnd(self._names)

    def run(self, octets: Octets, at: int, end: int) -> Run | None:
        """Read a run of pages, where a memory section is being read."""
        return self._ram.run(octets, at, end) if self._next == self._record else None

    def read(self, cursor: Cursor) -> Step | Grammar:
        """Read the next header.

        Raises:
            ShortError: it isn't all there.
            NotUnderstoodError: it is none that is known, or all memory has come.
        """
        return self._next(cursor)

    def _head(self, cursor: Cursor) -> Step:
        if (cursor.number32(), cursor.number32()) != (PLAIN_MAGIC, _VERSION):
            raise NotUnderstoodError("a migration stream of an unknown version")
        self._next = self._first
        return ON

    def _first(self, cursor: Cursor) -> Step:
        if cursor.peek8() != Kind.CONFIGURATION:
            self._next = self._section
            return ON
        cursor.skip(1)
        machine = cursor.number32()
        self._next = self._configuration
        return Step(literal_bytes=machine)

    def _configuration(self, cursor: Cursor) -> Step:
        if cursor.peek8() != Kind.SUBSECTION:
            self._next = self._section
            return ON
        cursor.skip(1)
        page_bytes = read_target_page(cursor)
        if page_bytes is not None:
            self._ram.page_bytes = page_bytes
        return ON

    def _section(self, cursor: Cursor) -> Step:
        kind = cursor.number8()
        if kind in {Kind.START, Kind.FULL}:
            return self._new_section(cursor, kind)
        if kind in {Kind.PART, Kind.END}:
            return self._more_of_a_section(cursor, kind)
        if kind == Kind.COMMAND:
            return self._command(cursor)
        if kind == Kind.EOF:
            raise NotUnderstoodError(END_OF_MEMORY)
        raise NotUnderstoodError(f"a section of the unknown kind {kind:#x}")

    def _new_section(self, cursor: Cursor, kind: int) -> Step:
        number, name = cursor.number32(), cursor.text()
        cursor.number32()
        version = cursor.number32()
        if kind == Kind.START and name == RAM:
            if version != RAM_VERSION:
                raise NotUnderstoodError(f"memory sections of version {version}")
            self._ram_id = number
        if len(self._names) == _MOST_SECTIONS:
            raise NotUnderstoodError("sections without end")
        self._names[number] = name
        return self._contents(number)

    def _more_of_a_section(self, cursor: Cursor, kind: int) -> Step:
        number = cursor.number32()
        if number not in self._names:
            raise NotUnderstoodError(f"more of section {number}, which never began")
        if kind == Kind.END and number == self._ram_id:
            self._memory_ended = self._understanding.memory_ends = True
        return self._contents(number)

    def _contents(self, number: int) -> Step:
        self._section_id = number
        if number == self._ram_id:
            self._next = self._record
            return ON
        if self._memory_ended:
            raise NotUnderstoodError(END_OF_MEMORY)
        name = self._names[number].decode("ascii", "replace")
        self.lost = f"within a section {name!r}, whose contents aren't known"
        self._end.of(number)
        self._next = self._unknown
        return ON

    def _unknown(self, cursor: Cursor) -> Step:
        self._end.find(cursor)
        self.lost = ""
        self._next = self._section
        return ON

    def _record(self, cursor: Cursor) -> Step:
        step = self._ram.read(cursor)
        if self._ram.section_ended:
            self._next = self._footer
        return step

    def _footer(self, cursor: Cursor) -> Step:
        if cursor.peek8() == Kind.FOOTER:  # which machine types before 2.4 don't have
            cursor.skip(1)
            self._check_footer(cursor.number32())
        self._next = self._section
        return ON

    def _check_footer(self, number: int) -> None:
        if number != self._section_id:
            raise NotUnderstoodError(f"section {self._section_id} ended as section {number}")

    def _command(self, cursor: Cursor) -> Step:
        command, length = cursor.number16(), cursor.number16()
        if command == _PACKAGED:
            return Step(literal_bytes=cursor.number32())
        return Step(literal_bytes=length)
