"""A frame's layout on the wire: bytes of one stream, told as what is new and what the other end has.

    header    raw length, pages, new pages, three coded lengths, flags, check
    skeleton  all bytes that aren't pages, in order; compressed, their words are told as steps
    ops       before each page how many bytes of the skeleton stand; whether it is new; references to the others
    new       the new pages

Every length is checked against limits before anything is made of it: the peer may lie. `check` is the BLAKE3 of
all bytes of the stream until the frame's end, so that it vouches for those that came before, too.
"""

import struct
import threading
from dataclasses import dataclass
from enum import IntFlag

import numpy as np
import zstandard

from transhume.execute.migration.content.page_log import Positions
from transhume.execute.migration.splitting import PAGE_BYTES, Offsets

MOST_RAW_BYTES = 8 << 20
MOST_FRAME_BYTES = MOST_RAW_BYTES + (1 << 20)
CHECK_BYTES = 32

_LEVEL = 3
"""Of what repeats in a few hundred bytes, this leaves half as much as the fastest, and takes no longer."""

_HEADER = struct.Struct(f">IIIIIIB{CHECK_BYTES}s")


class BadFrame(Exception):
    """A frame that no honest sender makes, or that was damaged."""


class Coding(IntFlag):
    """How the parts of a frame are coded."""

    SKELETON_RAW = 1
    PAGES_RAW = 2
    """The new pages don't go through the window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """A frame taken apart, its parts still coded."""

    raw_bytes: int
    pages: int
    new_pages: int
    coding: Coding
    check: bytes
    skeleton: bytes | memoryview
    ops: bytes | memoryview
    new: bytes | memoryview


@dataclass(frozen=True, slots=True)
class Ops:
    """How a frame's bytes are put together."""

    gaps: Offsets
    """Bytes of the skeleton before each page, and after the last: one more than there are pages."""
    is_new: "np.ndarray[tuple[int, ...], np.dtype[np.bool_]]"
    references: Positions
    """Of the pages that aren't new, in order."""


def pack(frame: Frame) -> list[bytes | memoryview]:
    """Return the pieces of a frame on the wire."""
    header = _HEADER.pack(
        frame.raw_bytes,
        frame.pages,
        frame.new_pages,
        len(frame.skeleton),
        len(frame.ops),
        len(frame.new),
        frame.coding,
        frame.check,
    )
    return [header, frame.skeleton, frame.ops, frame.new]


def unpack(data: bytes | memoryview) -> Frame:
    """Take a frame apart.

    Raises:
        BadFrame: its lengths contradict each other or exceed the limits.
    """
    view = memoryview(data)
    if len(view) < _HEADER.size:
        raise BadFrame(f"a frame of {len(view)} bytes has no header")
    raw, pages, new, *lengths, coding, check = _HEADER.unpack_from(view)
    if raw > MOST_RAW_BYTES or pages * PAGE_BYTES > raw or new > pages or coding > 3:
        raise BadFrame(f"{raw} bytes, {pages} pages and {new} new ones can't be")
    if _HEADER.size + sum(lengths) != len(view):
        raise BadFrame(f"the parts of a frame of {len(view)} bytes don't add up")
    parts, at = [], _HEADER.size
    for length in lengths:
        parts.append(view[at : at + length])
        at += length
    return Frame(
        raw_bytes=raw,
        pages=pages,
        new_pages=new,
        coding=Coding(coding),
        check=check,
        skeleton=parts[0],
        ops=parts[1],
        new=parts[2],
    )


def pack_ops(ops: Ops) -> bytes:
    """Code how a frame is put together."""
    steps = np.diff(ops.references, prepend=np.int64(0))
    joined = (
        ops.gaps.astype("<u4").tobytes()
        + ops.is_new.astype(np.uint8).tobytes()
        + steps.astype("<i8").tobytes()
    )
    return deflate(joined)


def unpack_ops(frame: Frame) -> Ops:
    """Decode how a frame is put together.

    Raises:
        BadFrame: it tells of more or less than the frame has.
    """
    pages, known = frame.pages, frame.pages - frame.new_pages
    size = 4 * (pages + 1) + pages + 8 * known
    joined = inflate(frame.ops, size)
    gaps = np.frombuffer(joined, "<u4", pages + 1).astype(np.int64)
    is_new = np.frombuffer(joined, np.uint8, pages, 4 * (pages + 1)) == 1
    steps = np.frombuffer(joined, "<i8", known, 5 * pages + 4)
    if int(is_new.sum()) != frame.new_pages:
        raise BadFrame("it has other new pages than it says")
    if int(gaps.sum()) + pages * PAGE_BYTES != frame.raw_bytes:
        raise BadFrame("its gaps and pages aren't what it says")
    return Ops(gaps, is_new, np.cumsum(steps, dtype=np.int64))


def deflate(data: bytes | bytearray | memoryview) -> bytes:
    """Compress a part of a frame by itself."""
    compressor: zstandard.ZstdCompressor | None = getattr(_own, "compressor", None)
    if compressor is None:
        compressor = _own.compressor = zstandard.ZstdCompressor(level=_LEVEL)
    return compressor.compress(data)


def inflate(data: bytes | memoryview, size: int) -> bytes:
    """Decompress a part of a frame that has to be `size` bytes long; never makes more of it.

    Raises:
        BadFrame: it isn't.
    """
    try:
        if size != 0 and zstandard.frame_content_size(data) != size:
            raise BadFrame(f"a part of {size} bytes says that it has another length")
        found = zstandard.ZstdDecompressor(max_window_size=1 << 24).decompress(
            data, max_output_size=max(1, size)
        )
    except zstandard.ZstdError as error:
        raise BadFrame(f"a part can't be decompressed: {error}") from error
    if len(found) != size:
        raise BadFrame(f"a part has {len(found)} bytes instead of {size}")
    return found


_own = threading.local()
"""A thread's compressor: one that two use at once mixes up what they compress."""
