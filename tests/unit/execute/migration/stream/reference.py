"""A slow reader of whole, healthy streams, that shares nothing with the splitter: record by record."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_IGNORES_SHARED = b"\5\x1aconfiguration/capabilities\0\0\0\1\0\0\0\1\x0fx-ignore-shared"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a stream, and what it is."""

    kind: str
    start: int
    end: int
    again: bool = False
    """It names no memory block, and so can be left out without harm to what follows."""
    pages: tuple[int, ...] = ()
    zero_pages: int = 0


def pieces_of(stream: bytes) -> list[Piece]:
    """Return what a stream consists of, from its first byte to its last."""
    read = _multifd if stream.startswith(b"\x11\x22\x33\x44") else _plain
    found = list(read(stream))
    assert [p.end for p in found[:-1]] == [p.start for p in found[1:]]
    assert found[0].start == 0
    assert found[-1].end == len(stream)
    return found


def pages_of(stream: bytes) -> list[int]:
    """Return where pages begin."""
    return [page for piece in pieces_of(stream) for page in piece.pages]


def _number(stream: bytes, at: int, size: int) -> int:
    return int.from_bytes(stream[at : at + size], "big")


def _plain(stream: bytes) -> Iterator[Piece]:
    at = 8
    if stream[8] == 7:
        at += 5 + _number(stream, 9, 4)
    shared = stream.startswith(_IGNORES_SHARED, at)
    at += len(_IGNORES_SHARED) if shared else 0
    yield Piece("head", 0, at)
    names: dict[int, bytes] = {}
    while at < len(stream):
        start, kind = at, stream[at]
        if kind == 0:
            yield Piece("end", at, len(stream))
            return
        if kind == 8:
            command, length = struct.unpack_from(">HH", stream, at + 1)
            at += 5 + length
            if command == 7:
                at += _number(stream, start + 5, 4)
            yield Piece("command", start, at)
            continue
        number = _number(stream, at + 1, 4)
        if kind in {1, 4}:
            length = stream[at + 5]
            names[number] = stream[at + 6 : at + 6 + length]
            at += 14 + length
        else:
            at += 5
        if names[number] != b"ram":
            if kind == 4 and b"early" not in names[number]:
                yield Piece("end", start, len(stream))
                return
            at = stream.index(b"\x7e" + number.to_bytes(4, "big"), at) + 5
            yield Piece("other section", start, at)
            continue
        yield Piece("memory section", start, at)
        yield from (records := list(_records(stream, at, 8 if shared else 0)))
        at = records[-1].end + 5
        yield Piece("footer", at - 5, at)


def _records(stream: bytes, at: int, address_bytes: int) -> Iterator[Piece]:
    while True:
        start, word = at, _number(stream, at, 8)
        flags, at = word & 4095, at + 8
        if flags == 0x10:
            yield Piece("section's end", start, at)
            return
        if flags == 0x200:
            yield Piece("flush", start, at)
            continue
        if flags == 4:
            total = word - 4
            while total:
                name_length = stream[at]
                total -= _number(stream, at + 1 + name_length, 8)
                at += 9 + name_length + address_bytes
            yield Piece("blocks", start, at)
            continue
        again = bool(flags & 0x20)
        if not again:
            at += 1 + stream[at]
        match flags & ~0x20:
            case 8:
                yield Piece("page", start, at + 4096, again, pages=(at,))
                at += 4096
            case 2:
                yield Piece("zero", start, at + 1, again, zero_pages=1)
                at += 1
            case 0x40:
                at += 3 + _number(stream, at + 1, 2)
                yield Piece("delta", start, at, again)
            case other:
                raise AssertionError(f"flags {other:#x} at {start}")


def _multifd(stream: bytes) -> Iterator[Piece]:
    yield Piece("head", 0, 64)
    at = 64
    while at < len(stream):
        flags, _, pages, size = struct.unpack_from(">4I", stream, at + 8)
        zeros = _number(stream, at + 32, 4)
        if flags & 0x3E:
            yield Piece("end", at, len(stream))
            return
        first = at + 1344
        assert size == 4096 * pages or not pages
        end = first + 4096 * pages
        yield Piece("packet", at, end, pages=tuple(range(first, end, 4096)), zero_pages=zeros)
        at = end
