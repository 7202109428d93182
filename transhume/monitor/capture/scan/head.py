"""What a reader must know to read a capture on from anywhere in it: its format, its clocks, its interfaces.

Owns the beginnings of pcap and pcapng files, and the pcapng blocks that say something about later ones: section
headers and interface descriptions. Those are rare and read here, in plain Python; frames are the engines'.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan.links import COOKED, LARGEST_RECORD

Octets = NDArray[np.uint8]
"""Bytes of a stream, one after the other in memory."""

SECTION, INTERFACE = 0x0A0D0D0A, 1
_SECTION_BYTES = b"\x0a\x0d\x0d\x0a"
_PACKETS = (2, 3, 6)
"""Blocks that hold frames: old, simple and enhanced."""
_BYTE_ORDER = {b"\x4d\x3c\x2b\x1a": "<", b"\x1a\x2b\x3c\x4d": ">"}
_END_OF_OPTIONS, _NAME, _TIME_RESOLUTION, _TIME_OFFSET = 0, 2, 9, 14
_MOST_INTERFACES = 1 << 16
_PCAP_HEADER = 24
_PCAP: Final = {
    b"\xd4\xc3\xb2\xa1": ("<", 1000, 16),
    b"\xa1\xb2\xc3\xd4": (">", 1000, 16),
    b"\x4d\x3c\xb2\xa1": ("<", 1, 16),
    b"\xa1\xb2\x3c\x4d": (">", 1, 16),
    b"\x34\xcd\xb2\xa1": ("<", 1000, 24),
    b"\xa1\xb2\xcd\x34": (">", 1000, 24),
}
"""Byte order, nanoseconds in a unit of the record's fraction, and length of a record's header, by magic number.

The last two are Alexey Kuznetsov's variant, whose records also name the interface.
"""


class CutOff(Exception):
    """The stream can't be read on from byte `at`; what came before is good."""

    def __init__(self, at: int, why: str) -> None:
        self.at, self.why = at, why
        super().__init__(f"byte {at}: {why}")

    def __reduce__(self) -> tuple[type["CutOff"], tuple[int, str]]:
        return CutOff, (self.at, self.why)


class Form(StrEnum):
    """The two file formats."""

    PCAP = "pcap"
    PCAPNG = "pcapng"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Where frames of a capture come from, as its file describes it."""

    link: int
    snaplen: int = 0
    name: str = ""
    resolution: int = 6
    """pcapng's if_tsresol: a tick is 10 to the minus this, or 2 where the highest of eight bits is set."""
    offset_seconds: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileHead:
    """What must be known to read a capture's records from any of them on."""

    form: Form
    order: str
    """`<` or `>`; in pcapng the current section's."""
    interfaces: tuple[Interface, ...]
    """Of pcap the one; of pcapng all so far, those of earlier sections too."""
    section_first: int = 0
    """The first interface of the current section."""
    tick_ns: int = 1000
    """Nanoseconds in a unit of a pcap record's fraction."""
    record_header: int = 16
    """Bytes of a pcap record's header."""

    @property
    def tells_interfaces_apart(self) -> bool:
        """Whether frames of several interfaces may be in the capture."""
        return len(self.interfaces) > 1 or any(one.link in COOKED for one in self.interfaces)

    def interface_name(self, number: int) -> str:
        """Return what people call an interface: its name where the file has one, else its number."""
        if number < len(self.interfaces) and self.interfaces[number].link not in COOKED:
            return self.interfaces[number].name or str(number)
        return str(number)


def read_head(first: bytes) -> tuple[FileHead, int] | None:
    """Return what a stream's first bytes tell, and how many of them that took; None where it is no capture.

    The more bytes the better: of pcapng, all blocks before the first frame's are read that are there whole.

    Raises:
        CutOff: it begins like a capture and ends before its header does.
    """
    magic = bytes(first[:4])
    if magic in _PCAP:
        return _pcap_head(bytes(first[:_PCAP_HEADER])), _PCAP_HEADER
    if magic != _SECTION_BYTES:
        return None
    blocks = BlockReader(FileHead(form=Form.PCAPNG, order="<", interfaces=()))
    data, at = np.frombuffer(first, dtype=np.uint8), 0
    try:
        while taken := blocks.take(data, at, 0):
            at += taken
    except CutOff:
        pass  # the scanner will meet it again, and say so after the frames before it
    return blocks.head, at


def _pcap_head(raw: bytes) -> FileHead:
    if len(raw) < _PCAP_HEADER:
        missing = _PCAP_HEADER - len(raw)
        raise CutOff(0, f"the file ends {missing} bytes before its header does")
    order, tick_ns, record_header = _PCAP[raw[:4]]
    snaplen, link = struct.unpack_from(f"{order}2I", raw, 16)
    return FileHead(
        form=Form.PCAP,
        order=order,
        # The upper half of the link's word speaks of frame check sequences.
        interfaces=(Interface(link=link & 0xFFFF, snaplen=snaplen),),
        tick_ns=tick_ns,
        record_header=record_header,
    )


class BlockReader:
    """Reads the pcapng blocks that hold no frames, and knows the head as of the last of them."""

    def __init__(self, head: FileHead) -> None:
        self.order = head.order
        self.section_first = head.section_first
        self.interfaces = list(head.interfaces)
        self.changes = 0

    @property
    def head(self) -> FileHead:
        """What is known now."""
        return FileHead(
            form=Form.PCAPNG,
            order=self.order,
            interfaces=tuple(self.interfaces),
            section_first=self.section_first,
        )

    def take(self, data: Octets, at: int, base: int) -> int:
        """Read the block at `at` and return its length; 0 where it isn't whole or holds a frame.

        Raises:
            CutOff: it is damaged.
        """
        start = bytes(data[at : at + 12])
        if len(start) < 12:
            return 0
        order = self.order
        if start[:4] == _SECTION_BYTES:
            if start[8:] not in _BYTE_ORDER:
                raise CutOff(base + at, "a section has no byte order")
            order = _BYTE_ORDER[start[8:]]
        kind, length = struct.unpack_from(f"{order}2I", start)
        if kind in _PACKETS:
            return 0
        reason = impossible_length(length, 16 if kind == SECTION else 12)
        if reason:
            raise CutOff(base + at, reason)
        whole = bytes(data[at : at + length])
        if len(whole) < length:
            return 0
        if struct.unpack_from(f"{order}I", whole, length - 4)[0] != length:
            raise CutOff(base + at, "a block's two lengths differ")
        if kind == SECTION:
            self.order, self.section_first = order, len(self.interfaces)
            self.changes += 1
        elif kind == INTERFACE:
            self._add_interface(whole[8:-4], base + at)
        return int(length)

    def missing(self, start: bytes, left: int) -> str:
        """Say how much of a block isn't there, of which `left` bytes are, beginning with `start`."""
        order, header = self.order, 8
        if start[:4] == _SECTION_BYTES:
            order, header = _BYTE_ORDER.get(start[8:12], order), 12
        if left < header:
            return f"the file ends {left} bytes into a record's header"
        (length,) = struct.unpack_from(f"{order}I", start, 4)
        impossible = impossible_length(length, header + 4)
        if impossible:
            return impossible
        return f"the file ends {length - left} bytes before its last record does"

    def _add_interface(self, body: bytes, at: int) -> None:
        if len(body) < 8:
            raise CutOff(at, "a block is too short for what it says it is")
        if len(self.interfaces) == _MOST_INTERFACES:
            raise CutOff(at, f"there are more than {_MOST_INTERFACES} interfaces")
        link, snaplen = struct.unpack_from(f"{self.order}H2xI", body)
        name, resolution, offset = "", 6, 0
        for code, value in _options(self.order, body[8:]):
            if code == _NAME:
                name = value.rstrip(b"\0").decode(errors="replace")
            elif code == _TIME_RESOLUTION and len(value) == 1:
                resolution = value[0]
            elif code == _TIME_OFFSET and len(value) == 8:
                (offset,) = struct.unpack(f"{self.order}q", value)
        self.interfaces.append(
            Interface(
                link=link, snaplen=snaplen, name=name, resolution=resolution, offset_seconds=offset
            )
        )
        self.changes += 1


def impossible_length(length: int, least: int) -> str | None:
    """Return why no block can be of this length; None where one can."""
    if length < least or length % 4:
        return f"a block says that it is {length} bytes long"
    if length > LARGEST_RECORD:
        return f"a record of {length} bytes is more than any frame"
    return None


def _options(order: str, raw: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 4 <= len(raw):
        code, length = struct.unpack_from(f"{order}HH", raw, at)
        if code == _END_OF_OPTIONS:
            return
        yield code, raw[at + 4 : at + 4 + length]
        at += 4 + (length + 3 & ~3)
