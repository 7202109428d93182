"""The block of memory that a capture is read into, the same one again and again.

Owns what isn't counted yet: the front of a record that ends in the next block stays, and moves to the front.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan import LARGEST_RECORD
from transhume.monitor.capture.sources import Source

BLOCK_BYTES: Final = 2 << 20
"""Large enough to be read at full speed, small enough to stay in a processor's cache while it is counted."""
_LARGEST_BLOCK = LARGEST_RECORD + 64


class Block:
    """Memory that a source is read into; what wasn't counted stays at its front."""

    def __init__(self, size: int, base: int) -> None:
        self._memory = np.empty(size, dtype=np.uint8)
        self._filled = 0
        self.base = base
        """The number of the first byte in the capture."""

    @property
    def data(self) -> NDArray[np.uint8]:
        """What was read and not dropped."""
        return self._memory[: self._filled]

    def fill(self, source: Source) -> int:
        """Read more, and return how much; 0 at the end."""
        if self._filled == len(self._memory):
            self._grow()
        count = source.read(self._memory.data[self._filled :])
        self._filled += count
        return count

    def fill_up(self, source: Source) -> bool:
        """Read until there is no more room; return whether there may be more to read."""
        while count := self.fill(source):
            if self._filled == len(self._memory):
                break
        return count > 0

    def drop(self, count: int) -> None:
        """Forget bytes from the front."""
        kept = self._filled - count
        self._memory[:kept] = self._memory[count : self._filled]
        self._filled = kept
        self.base += count

    def _grow(self) -> None:
        """Make room for a record that is longer than a block."""
        larger = np.empty(min(2 * len(self._memory), _LARGEST_BLOCK), dtype=np.uint8)
        larger[: self._filled] = self._memory
        self._memory = larger
