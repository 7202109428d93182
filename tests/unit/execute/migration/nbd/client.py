"""An NBD client's bytes, made and read without the code under test."""

import struct
from dataclasses import dataclass, field

PAGE = 4096
FLAGS = struct.pack(">I", 3)
LIST, STARTTLS, GO, EXPORT_NAME, EXTENDED_HEADERS = 3, 5, 7, 1, 11
READ, WRITE, DISCONNECT, FLUSH, WRITE_ZEROES, BLOCK_STATUS = 0, 1, 2, 3, 6, 7


def option(kind: int, data: bytes = b"") -> bytes:
    return b"IHAVEOPT" + struct.pack(">II", kind, len(data)) + data


def request(
    kind: int, offset: int, length: int, *, extended: bool = False, flags: int | None = None
) -> bytes:
    if flags is None:
        flags = 32 if extended and kind == WRITE else 0
    if extended:
        return struct.pack(">IHHQQQ", 0x21E41C71, flags, kind, 77, offset, length)
    return struct.pack(">IHHQQI", 0x25609513, flags, kind, 77, offset, length)


def write(offset: int, data: bytes, *, extended: bool = False) -> bytes:
    return request(WRITE, offset, len(data), extended=extended) + data


@dataclass
class Block:
    """A page of the disk in a stream."""

    place: int
    """In the stream."""
    disk: int


@dataclass
class Reading:
    """What a stream says, read the slow way; for streams that are what they should be."""

    blocks: list[Block] = field(default_factory=list)
    requests: list[tuple[int, int, int]] = field(default_factory=list)

    @property
    def places(self) -> list[int]:
        return [block.place for block in self.blocks]


def read_slowly(stream: bytes) -> Reading:
    """Walk a whole, sound stream, byte by byte where data is."""
    found, at = Reading(), 4
    while at < len(stream):
        if stream.startswith(b"IHAVEOPT", at):
            at += 16 + struct.unpack_from(">I", stream, at + 12)[0]
            continue
        simple = stream.startswith(bytes.fromhex("25609513"), at)
        layout = ">HHQQI" if simple else ">HHQQQ"
        flags, kind, _, offset, length = struct.unpack_from(layout, stream, at + 4)
        at += 28 if simple else 32
        found.requests.append((kind, offset, length))
        if kind == WRITE:
            for i in range(length - PAGE + 1):
                if (offset + i) % PAGE == 0:
                    found.blocks.append(Block(at + i, offset + i))
        at += length if kind == WRITE or (not simple and flags & 32) else 0
    return found
