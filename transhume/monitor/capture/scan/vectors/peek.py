"""Numbers at any byte of a stretch of memory, read many at once."""

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan.head import Octets

Places = NDArray[np.int64]


class Peek:
    """Views of the same bytes as numbers of one, two, four and eight bytes that begin at every byte.

    The views are as long as keeps each number inside: an index out of bounds is NumPy's own error, never a
    read beyond the memory.
    """

    def __init__(self, data: Octets) -> None:
        self.data = data
        self.u8 = data
        self.u32 = _every(data, "<u4")
        self.u64 = _every(data, "<u8")
        self._network_u16 = _every(data, ">u2")

    def short(self, at: Places) -> Places:
        """Return two bytes in network order."""
        return self._network_u16[at].astype(np.int64)

    def byte(self, at: Places) -> Places:
        """Return single bytes."""
        return self.u8[at].astype(np.int64)

    def word(self, at: Places) -> NDArray[np.uint64]:
        """Return four bytes, the first the lowest, as a 64-bit word."""
        return self.u32[at].astype(np.uint64)

    def long(self, at: Places) -> NDArray[np.uint64]:
        """Return eight bytes, the first the lowest."""
        return self.u64[at]


def _every(data: Octets, kind: str) -> NDArray[np.uint64]:
    dtype = np.dtype(kind)
    count = max(len(data) - dtype.itemsize + 1, 0)
    return np.ndarray((count,), dtype, data, strides=(1,))
