"""Runs of the two records that a plain stream mostly consists of, read at one go.

Both continue in the block of the record before: 8 bytes of offset and flags and a page (4,104 bytes), or the
same and a zero byte for a page of zeros (9 bytes). A record costs half a microsecond, and half of that in a
long run of its like. Compiled code takes a tenth, and isn't worth its trouble: to copy a page takes as long as
this, and to hash it several times as long.
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
_LONG_RUN, _LONGEST_LOOK = 48, 512
_FAR_PAGE, _FAR_ZERO = _LONG_RUN * _PAGE_RECORD_BYTES, _LONG_RUN * _ZERO_RECORD_BYTES


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
            far = at + _FAR_PAGE
            if far <= last_page and _WORD(octets, far)[0] & _FLAGS == kind:
                begin = at
                at += _run_bytes(octets, at, end, kind, _PAGE_RECORD_BYTES, block_bytes)
                pages.extend(range(begin + 8, at, _PAGE_RECORD_BYTES))
            else:
                pages.append(at + 8)
                at += _PAGE_RECORD_BYTES
        elif kind == _ZERO_AGAIN:
            far, begin = at + _FAR_ZERO, at
            if far <= last_zero and _WORD(octets, far)[0] & _FLAGS == kind:
                at += _run_bytes(octets, at, end, kind, _ZERO_RECORD_BYTES, block_bytes)
            else:
                at += _ZERO_RECORD_BYTES
            zero_pages += (at - begin) // _ZERO_RECORD_BYTES
        else:
            break
    return Run(at, pages, zero_pages)


def _run_bytes(  # noqa: PLR0917
    octets: Octets, at: int, end: int, kind: int, record_bytes: int, block_bytes: int
) -> int:
    """Measure the records from one of this kind on, where there seem to be many."""
    room = min((end - at) // record_bytes, _LONGEST_LOOK)
    words = np.ndarray((room,), ">u8", octets, at, (record_bytes,)).astype(np.uint64)
    good = ((words & np.uint64(_FLAGS)) == kind) & (words < block_bytes)
    return (room if good.all() else int(good.argmin())) * record_bytes
