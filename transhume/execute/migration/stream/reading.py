"""How a grammar reads headers, and what it answers.

A grammar reads one header at a time from a cursor and says what follows it. It never holds bytes: what it
couldn't finish, it is shown again with more behind it.
"""

import struct
from dataclasses import dataclass
from typing import NamedTuple, Protocol

END_OF_MEMORY = "the memory has ended; devices follow"
"""Why nothing more is understood in a stream that was understood to its end."""

Octets = bytes | memoryview

_BE16 = struct.Struct(">H").unpack_from
_BE32 = struct.Struct(">I").unpack_from
_BE64 = struct.Struct(">Q").unpack_from


class ShortError(Exception):
    """The header isn't all there yet."""


class NotUnderstoodError(Exception):
    """From this header on, nothing is known; the message says why."""


class Step(NamedTuple):
    """What follows a header: bytes that are no pages, and then bytes that are."""

    literal_bytes: int = 0
    page_bytes: int = 0


ON = Step()
"""Another header follows at once."""


class Run(NamedTuple):
    """Records that were read at one go."""

    end: int
    pages: list[int]
    """Where they begin in what was scanned."""
    zero_pages: int


class Grammar(Protocol):
    """What is known of one kind of stream."""

    @property
    def lost(self) -> str:
        """Why nothing is understood at present, though it may be again; empty: all is well."""
        ...

    def run(self, octets: Octets, at: int, end: int) -> Run | None:
        """Read as many records as are there, whole and of the usual kinds; None where that isn't possible."""
        ...

    def read(self, cursor: "Cursor") -> "Step | Grammar":
        """Read a header and say what follows it, or which grammar knows better.

        Raises:
            ShortError: more bytes are needed, beginning at `cursor.unit`.
            NotUnderstoodError: this is no header.
        """
        ...


@dataclass(slots=True)
class Cursor:
    """A place in bytes, that moves as they are read."""

    octets: Octets
    at: int
    unit: int
    """Where begins what has to be shown again when more has come."""

    def number8(self) -> int:
        """Read a byte."""
        start = self.skip(1)
        return self.octets[start]

    def number16(self) -> int:
        """Read 2 bytes, as all numbers: the highest first."""
        return int(_BE16(self.octets, self.skip(2))[0])

    def number32(self) -> int:
        """Read 4 bytes."""
        return int(_BE32(self.octets, self.skip(4))[0])

    def number64(self) -> int:
        """Read 8 bytes."""
        return int(_BE64(self.octets, self.skip(8))[0])

    def text(self) -> bytes:
        """Read a length of one byte, and so many bytes."""
        length = self.number8()
        start = self.skip(length)
        return bytes(self.octets[start : start + length])

    def peek8(self) -> int:
        """Return the next byte, and stay."""
        self.need(1)
        return self.octets[self.at]

    def peek64(self) -> int:
        """Return the next 8 bytes, and stay."""
        self.need(8)
        return int(_BE64(self.octets, self.at)[0])

    def skip(self, count: int) -> int:
        """Pass so many bytes; return where they begin."""
        self.need(count)
        start = self.at
        self.at += count
        return start

    def need(self, count: int) -> None:
        """Make sure that so many bytes are there.

        Raises:
            ShortError: they aren't.
        """
        if len(self.octets) - self.at < count:
            raise ShortError
