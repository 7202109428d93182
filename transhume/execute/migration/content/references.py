"""How a page is named in a stream that both ends know the meaning of: a space, and an index in it.

Both are packed into one 64-bit number, so that runs of references are runs of differences of one.
"""

from enum import IntEnum

import numpy as np

from transhume.execute.migration.content.page_log import Positions

_SPACE_BITS = 40
MOST_INDEX = (1 << _SPACE_BITS) - 1
MOST_REFERENCE = (1 << 63) - 1


class Space(IntEnum):
    """The spaces that a domain may have; numbers from `FIRST_CATALOGUE` on are catalogues'.

    What is in those from `RESIDENTS` on the peer lists.
    """

    LOG = 0
    """Pages that were sent this way."""
    REVERSE = 1
    """Pages that came the other way."""
    RESIDENTS = 2
    """Pages in the memory of VMs that run there."""
    FIRST_CATALOGUE = 3


def reference(space: int, index: int) -> int:
    """Return the number that names a page."""
    return space << _SPACE_BITS | index


def spaces_of(references: Positions) -> Positions:
    """Return the spaces of references."""
    return references >> np.int64(_SPACE_BITS)


def indices_of(references: Positions) -> Positions:
    """Return the indices of references within their spaces."""
    return references & np.int64(MOST_INDEX)
