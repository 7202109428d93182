"""Where one record of a capture file ends and the next begins, for pcap and pcapng.

Owns the two formats' framing and nothing of what a frame says. Written out here, and not left to dpkt, for what
its readers don't hand over: the length on the wire (a capture cut at 96 bytes a frame would come out many times
too low), times as integers, a link type for each interface, and the place where a damaged file stops.
"""

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, NamedTuple

LARGEST_RECORD = 16 << 20
"""No frame is this long: a record that says so is damage."""
_LAST_SECOND = 253_370_764_800
"""The year 9999: what calendars can hold."""


class RawFrame(NamedTuple):
    """One frame as a file holds it; `length` is what it had on the wire, `data` what was kept of it."""

    at_ns: int
    data: bytes
    length: int
    link: int


class CutOff(Exception):
    """The file can't be read on from byte `at`; what came before is good."""

    def __init__(self, at: int, why: str) -> None:
        self.at, self.why = at, why
        super().__init__(f"byte {at}: {why}")


Framing = Callable[["Bytes"], Iterator[RawFrame]]


class Bytes:
    """A stream that knows how far it was read, and refuses to hand out less than was asked for."""

    def __init__(self, stream: BinaryIO) -> None:
        self._read = stream.read
        self.offset = 0
        self.record_at = 0

    def take(self, count: int) -> bytes:
        """Return exactly `count` bytes, or raise `CutOff` at the beginning of the current record."""
        if count > LARGEST_RECORD:
            raise self.damaged(f"a record of {count} bytes is more than any frame")
        found = self._read(count)
        self.offset += len(found)
        if len(found) < count:
            raise CutOff(
                self.record_at,
                f"the file ends {count - len(found)} bytes before its last record does",
            )
        return found

    def begin_record(self, header: int) -> bytes | None:
        """Return the header of the next record; None at the proper end of the file."""
        self.record_at = self.offset
        found = self._read(header)
        self.offset += len(found)
        if 0 < len(found) < header:
            raise CutOff(self.record_at, f"the file ends {len(found)} bytes into a record's header")
        return found or None

    def damaged(self, why: str) -> CutOff:
        """Return the error for a record that can't be what it says."""
        return CutOff(self.record_at, why)


def framing_of(magic: bytes) -> Framing | None:
    """Return the reader for a file that begins with these four bytes; None where it is no capture."""
    if magic in _PCAP:
        return _pcap
    return _pcapng if magic == _SECTION else None


# --- pcap --------------------------------------------------------------------------------------------

_PCAP = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000),
    b"\xa1\xb2\xc3\xd4": (">", 1000),
    b"\x4d\x3c\xb2\xa1": ("<", 1),
    b"\xa1\xb2\x3c\x4d": (">", 1),
}
"""Byte order and nanoseconds in a unit of the record's fraction, by magic number."""


def _pcap(source: Bytes) -> Iterator[RawFrame]:
    order, unit_ns = _PCAP[source.take(4)]
    (link,) = struct.unpack(f"{order}16xI", source.take(20))
    link &= 0xFFFF  # the upper half speaks of frame check sequences
    header = struct.Struct(f"{order}4I")
    while raw := source.begin_record(header.size):
        seconds, fraction, kept, length = header.unpack(raw)
        # Exactly a second is what writers that round a float leave behind.
        if fraction * unit_ns > 1_000_000_000:
            raise source.damaged("a record's time has a fraction of more than a second")
        yield RawFrame(
            seconds * 1_000_000_000 + fraction * unit_ns, source.take(kept), length, link
        )


# --- pcapng ------------------------------------------------------------------------------------------

_SECTION = b"\x0a\x0d\x0d\x0a"
_SECTION_TYPE, _INTERFACE, _OLD_PACKET, _SIMPLE, _ENHANCED = 0x0A0D0D0A, 1, 2, 3, 6
_BYTE_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_PACKET_HEADER = 20
_END_OF_OPTIONS, _TIME_RESOLUTION, _TIME_OFFSET = 0, 9, 14


@dataclass(slots=True)
class _Interface:
    link: int
    snaplen: int
    ticks_per_second: int = 1_000_000
    offset_seconds: int = 0

    def nanoseconds(self, ticks: int) -> int:
        return ticks * 1_000_000_000 // self.ticks_per_second + self.offset_seconds * 1_000_000_000


class _Section:
    """What the blocks of one section have to be understood by: byte order and interfaces."""

    def __init__(self, source: Bytes) -> None:
        self._source = source
        self._order = "<"
        self._interfaces: list[_Interface] = []
        self._last_ns = 0

    def begin(self, order: str) -> None:
        """Start anew, with the byte order that a section header says."""
        self._order = order
        self._interfaces = []

    def u32(self, raw: bytes) -> int:
        return int(struct.unpack(f"{self._order}I", raw)[0])

    def read(self, kind: int, body: bytes) -> RawFrame | None:
        """Return the frame in a block, or None for a block that holds none."""
        try:
            if kind == _ENHANCED:
                return self._packet(body, struct.unpack_from(f"{self._order}5I", body))
            if kind == _OLD_PACKET:
                return self._packet(body, struct.unpack_from(f"{self._order}H2x4I", body))
            if kind == _SIMPLE:
                return self._simple(body)
            if kind == _INTERFACE:
                self._interfaces.append(self._interface(body))
        except struct.error:
            raise self._source.damaged("a block is too short for what it says it is") from None
        return None

    def _packet(self, body: bytes, header: tuple[int, ...]) -> RawFrame:
        interface, high, low, kept, length = header
        known = self._known(interface)
        at_ns = known.nanoseconds(high << 32 | low)
        if not 0 <= at_ns < _LAST_SECOND * 1_000_000_000:
            raise self._source.damaged("a frame's time is in no calendar")
        if kept > len(body) - _PACKET_HEADER:
            raise self._source.damaged("a frame is longer than the block that holds it")
        self._last_ns = at_ns
        return RawFrame(at_ns, body[_PACKET_HEADER : _PACKET_HEADER + kept], length, known.link)

    def _simple(self, body: bytes) -> RawFrame:
        """Read a block without a time: the frame is as old as the one before it."""
        known, length = self._known(0), self.u32(body[:4])
        kept = min(length, known.snaplen or length, len(body) - 4)
        return RawFrame(self._last_ns, body[4 : 4 + kept], length, known.link)

    def _known(self, interface: int) -> _Interface:
        if interface >= len(self._interfaces):
            raise self._source.damaged(
                f"a frame is of interface {interface}, which was not described"
            )
        return self._interfaces[interface]

    def _interface(self, body: bytes) -> _Interface:
        link, snaplen = struct.unpack_from(f"{self._order}H2xI", body)
        found = _Interface(link=link, snaplen=snaplen)
        for code, value in self._options(body[8:]):
            if code == _TIME_RESOLUTION and len(value) == 1:
                base = 2 if value[0] & 0x80 else 10
                found.ticks_per_second = base ** (value[0] & 0x7F)
            elif code == _TIME_OFFSET and len(value) == 8:
                (found.offset_seconds,) = struct.unpack(f"{self._order}q", value)
        return found

    def _options(self, raw: bytes) -> Iterator[tuple[int, bytes]]:
        at = 0
        while at + 4 <= len(raw):
            code, length = struct.unpack_from(f"{self._order}HH", raw, at)
            if code == _END_OF_OPTIONS:
                return
            yield code, raw[at + 4 : at + 4 + length]
            at += 4 + (length + 3 & ~3)


def _pcapng(source: Bytes) -> Iterator[RawFrame]:
    section = _Section(source)
    while header := source.begin_record(8):
        read = 8
        if header[:4] == _SECTION:
            magic = source.take(4)
            if magic not in _BYTE_ORDER:
                raise source.damaged("a section has no byte order")
            section.begin(_BYTE_ORDER[magic])
            read = 12
        kind, length = section.u32(header[:4]), section.u32(header[4:])
        if length < read + 4 or length % 4:
            raise source.damaged(f"a block says that it is {length} bytes long")
        rest = source.take(length - read)
        if section.u32(rest[-4:]) != length:
            raise source.damaged("a block's two lengths differ")
        frame = section.read(kind, rest[:-4])
        if frame is not None:
            yield frame
