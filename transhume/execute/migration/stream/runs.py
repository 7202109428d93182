"""Runs of the two records that a plain stream mostly consists of, read at one go.

Both continue in the block of the record before: 8 bytes of offset and flags and a page (4,104 bytes), or the
same and a zero byte for a page of zeros (9 bytes).
"""

import struct

import numpy as np

from transhume.execute.migration.splitting import PAGE_BYTES
from transhume.execute.migration.stream.reading import Octets, Run

CONTINUE, ZERO, PAGE = 0x20, 0x02, 0x08
_FLAGS = PAGE_BYTES - 1
_PAGE_AGAIN, _ZERO_AGAIN = PAGE | CONTINUE, ZERO | CONTINUE
_PAGE_RECORD_BYTES, _ZERO_RECORD_BYTES = 8 + PAGE_BYTES, 9
_WORD = struct.Struct(">Q").unpack_from
_LONG_RUN, _LONGEST_LOOK = 32, 512


def scan_run(octets: Octets, at: int, end: int, block_bytes: int) -> Run:
    """Read records of the two kinds for as long as they are whole and lie in their block of so many bytes."""
    pages: list[int] = []
    zero_pages = 0
    last_page, last_zero = end - _PAGE_RECORD_BYTES, end - _ZERO_RECORD_BYTES
    while at <= last_zero:
        (word,) = _WORD(octets, at)
        kind = word & _FLAGS
        if word >= block_bytes:
            break
        if kind == _PAGE_AGAIN and at <= last_page:
            pages.append(at + 8)
            at += _PAGE_RECORD_BYTES
        elif kind == _ZERO_AGAIN:
            zeros = _zeros(octets, at, end, block_bytes)
            zero_pages += zeros
            at += zeros * _ZERO_RECORD_BYTES
        else:
            break
    return Run(at, pages, zero_pages)


def _zeros(octets: Octets, at: int, end: int, block_bytes: int) -> int:
    """Count records of zero pages from one that is known; NumPy only where there seem to be many."""
    room = min((end - at) // _ZERO_RECORD_BYTES, _LONGEST_LOOK)
    far = at + (_LONG_RUN - 1) * _ZERO_RECORD_BYTES
    if room < _LONG_RUN or _WORD(octets, far)[0] & _FLAGS != _ZERO_AGAIN:
        return 1
    words = np.ndarray((room,), ">u8", octets, at, (_ZERO_RECORD_BYTES,)).astype(np.uint64)
    good = ((words & np.uint64(_FLAGS)) == _ZERO_AGAIN) & (words < block_bytes)
    return room if good.all() else int(good.argmin())
