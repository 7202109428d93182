"""The seam between what understands a stream and what sends it: bytes, and where pages stand among them.

A splitter only ever annotates. What it gives out is what it was given, in order; if it errs about pages, that
costs bytes on the wire and never changes one.
"""

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PAGE_BYTES = 4096
"""The grain of deduplication: a guest's page, a block of a disk."""

Offsets = NDArray[np.int64]


def no_offsets() -> Offsets:
    """Return offsets of nothing."""
    return np.empty(0, np.int64)


@dataclass(frozen=True, slots=True)
class Split:
    """The next bytes of a stream, and where whole pages begin in them."""

    raw: bytes | memoryview
    pages: Offsets = field(default_factory=no_offsets)
    """Ascending; no two pages overlap, and each lies wholly in `raw`."""


@dataclass(slots=True)
class Understanding:
    """What a splitter has made out so far."""

    pages: int = 0
    zero_pages: int = 0
    """Told of as zero by the stream itself, without their bytes."""
    opaque_from: int | None = None
    """The offset in the stream from which nothing is understood, as at the end of memory; None: all is."""
    why_opaque: str = ""
    memory_ends: bool = False
    """Whether the last of the memory is on its way: its guest stands still, or runs at the other end."""
    seems_complete: bool = False
    """Whether nothing more seems to come."""


class Splitter(Protocol):
    """Finds the pages in one stream."""

    @property
    def understanding(self) -> Understanding:
        """What was made out so far."""
        ...

    @property
    def held_bytes(self) -> int:
        """How many bytes were taken and not given out yet; never more than a record's header and a page."""
        ...

    def split(self, data: bytes | memoryview) -> Split:
        """Take the next bytes, and give out what is known of them and of those held back. Never raises."""
        ...

    def flush(self) -> Split:
        """Give out all that is held back, because nothing more has come for a while or will come."""
        ...
