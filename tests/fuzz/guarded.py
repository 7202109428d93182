"""Memory with pages on both sides that nobody may touch: who reads a byte too far is killed on the spot.

Machine code has no bounds to be checked; this checks the very code that users run.
"""

import ctypes
import mmap

import numpy as np

from transhume.monitor.capture.scan.head import Octets

_PAGE = mmap.PAGESIZE
_PROT_NONE = 0


class Guarded:
    """Room for some bytes between two forbidden pages."""

    def __init__(self, room: int) -> None:
        self._room = (room + _PAGE - 1) // _PAGE * _PAGE
        self._memory = mmap.mmap(-1, self._room + 2 * _PAGE)
        self._bytes = np.frombuffer(self._memory, dtype=np.uint8)
        first = self._bytes.ctypes.data
        for page in (first, first + _PAGE + self._room):
            _forbid(page)

    def last(self, content: Octets) -> Octets:
        """Return a copy that ends where the forbidden page begins."""
        end = _PAGE + self._room
        return self._copied(content, end - len(content))

    def first(self, content: Octets) -> Octets:
        """Return a copy that begins where the forbidden page ends."""
        return self._copied(content, _PAGE)

    def _copied(self, content: Octets, at: int) -> Octets:
        place = self._bytes[at : at + len(content)]
        place[:] = content
        return place


def _forbid(page: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mprotect(ctypes.c_void_p(page), ctypes.c_size_t(_PAGE), _PROT_NONE):
        raise OSError(ctypes.get_errno(), "mprotect")
