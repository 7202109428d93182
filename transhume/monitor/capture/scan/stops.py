"""Why an engine stops reading: there is nothing more, something else must be done first, or there is damage."""

from typing import Final

MORE, FULL, ROOM, BLOCK = range(4)
"""The next record isn't whole yet; the batch is full; the counts need room; a block without a frame comes."""
GO_ON: Final = -1
"""Nothing speaks against a frame."""

(
    FRACTION, TOO_LONG, ODD_LENGTH, LENGTHS_DIFFER, TOO_SHORT, UNKNOWN_INTERFACE, NO_TIME, LONGER, RING,
) = range(10, 19)  # fmt: skip
"""Damage, in the order in which a record is looked at."""

_DAMAGE: Final = {
    FRACTION: "a record's time has a fraction of more than a second",
    TOO_LONG: "a record of {seen} bytes is more than any frame",
    ODD_LENGTH: "a block says that it is {seen} bytes long",
    LENGTHS_DIFFER: "a block's two lengths differ",
    TOO_SHORT: "a block is too short for what it says it is",
    UNKNOWN_INTERFACE: "a frame is of interface {seen}, which was not described",
    NO_TIME: "a frame's time is in no calendar",
    LONGER: "a frame is longer than the block that holds it",
    RING: "a frame reaches beyond the ring that holds it",
}


def reason(stop: int, seen: int) -> str:
    """Return what is wrong, in words."""
    return _DAMAGE[stop].format(seen=seen)
