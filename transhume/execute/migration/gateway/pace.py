"""How much to encode at once, and how hard to compress: what the link shows decides.

Small pieces where the link is slow, because what was taken from a hypervisor can't be overtaken any more. Where
the link is faster than the compressor, the compressor gets out of the way; where it's so much slower that the
processor has little to do, it takes longer over it. Pure: measurements in, choices out.
"""

from collections.abc import Callable

from transhume.execute.migration.coding.window import FASTEST

SMALLEST_BATCH, LARGEST_BATCH = 64 << 10, 2 << 20
_TOO_LONG_SECONDS, _SHORT_SECONDS = 0.08, 0.02
_GROWS_AFTER = 4
"""Times its size has to go by in a short time for a batch to grow: what is known doesn't last."""
_DEAREST_SECONDS, _NEW_COST = 0.1, 0.35
"""What a batch may take on the link if all of it turns out to be new, and what is left of that by compression:
a guest that stops has no more than a few of them before it."""
_CHEAP, _MOST_DOUBLINGS = 1 / 16, 3
"""What a piece may take on the wire, of what may be new at once, for the next one to be twice as large; and how
often that may be."""
_PIECES_AT_THE_END = 8
"""A flow's rest is read in so many pieces at least, as long as they aren't smaller than what may be new."""
_PROBE_BYTES = 64 << 20
"""So much goes by between two looks at how the other way does."""
_LOOK_BYTES = 8 << 20
_TELLING = 0.5
"""Of a frame, what has to be new for it to count."""
_LINK_BOUND = 0.25
"""Of the time, what has to be spent waiting for the link for it to be the narrow place."""


_HARDER = {9: 6.0, 6: 3.0, 3: 1.6}
"""Levels for links that are the narrow place, and how many times as long as the fastest each takes, at most. Of
guests' memory they leave 9, 8 and 4 % less."""
_AFFORDABLE = 0.35
"""Of the time, what coding may take for that; a level stays, or rises, while the link is the narrow place."""


def most_batch_bytes(link_bytes_per_second: float) -> int:
    """Return how much to encode at once at most, over a link or with a share of it that carries so much."""
    dearest = min(LARGEST_BATCH, link_bytes_per_second * _DEAREST_SECONDS / _NEW_COST)
    return max(SMALLEST_BATCH, int(dearest) // SMALLEST_BATCH * SMALLEST_BATCH)


class Stride:
    """How much to read at once of one flow: twice as much after each piece that costs the link next to nothing.

    Where the flow turns new all of a sudden, the link is busy for the longer with what was read. So towards the
    flow's end it's less: a hypervisor that is rid of the last of a guest's memory stops the guest.

    Args:
        most_new_bytes: says how much of it may be new to the other end at once.
        remaining_bytes: says how much there still is to read; None where nobody knows.
    """

    def __init__(
        self,
        most_new_bytes: Callable[[], int],
        remaining_bytes: Callable[[], int | None] = lambda: None,
    ) -> None:
        self._most_new_bytes = most_new_bytes
        self._remaining_bytes = remaining_bytes
        self._cheap_pieces = 0
        """How many came last, one after the other."""

    @property
    def most_bytes(self) -> int:
        """How much to read at once."""
        doublings = min(self._cheap_pieces, _MOST_DOUBLINGS)
        most_bytes, remaining_bytes = self._most_new_bytes(), self._remaining_bytes()
        if remaining_bytes is None:
            return min(LARGEST_BATCH, most_bytes << doublings)
        at_the_end = max(most_bytes, remaining_bytes // _PIECES_AT_THE_END)
        return min(LARGEST_BATCH, most_bytes << doublings, at_the_end)

    def went_by(self, wire_bytes: int) -> None:
        """Take what a piece took on the wire."""
        is_cheap = wire_bytes <= _CHEAP * self._most_new_bytes()
        self._cheap_pieces = self._cheap_pieces + 1 if is_cheap else 0


class Pace:
    """The state of one link's pace."""

    def __init__(self) -> None:
        self.batch_bytes = 256 << 10
        self._most_bytes = LARGEST_BATCH
        self._short_bytes = 0
        """What went by in a short time since a batch was changed, or took long."""
        self.level: int | None = FASTEST
        """Of zstd; None where nothing is compressed."""
        self._new_bytes = 0
        self._seconds = 0.0
        self._waiting = 0.0
        self._other: float | None = None
        """New bytes per second of the way that isn't taken now, when it was."""
        self._until = _LOOK_BYTES

    def keep_to(self, link_bytes_per_second: float | None) -> None:
        """Take what the link carries; None where it isn't the narrow place."""
        rate = link_bytes_per_second
        self._most_bytes = LARGEST_BATCH if rate is None else most_batch_bytes(rate)
        self.batch_bytes = min(self.batch_bytes, self._most_bytes)

    def sent(
        self, raw_bytes: int, new_bytes: int, coding_seconds: float, waiting_seconds: float
    ) -> None:
        """Take what a frame took, and how much of it there was to compress.

        Frames of references mostly, which wait for no link, say nothing of compressing.
        """
        self._adapt_batch(raw_bytes, coding_seconds + waiting_seconds)
        if new_bytes < _TELLING * raw_bytes:
            return
        self._new_bytes += new_bytes
        self._seconds += coding_seconds + waiting_seconds
        self._waiting += waiting_seconds
        if self._new_bytes >= self._until:
            self._reconsider()

    def _adapt_batch(self, raw_bytes: int, seconds: float) -> None:
        self._short_bytes = self._short_bytes + raw_bytes if seconds < _SHORT_SECONDS else 0
        if seconds > _TOO_LONG_SECONDS:
            self.batch_bytes = max(SMALLEST_BATCH, self.batch_bytes // 2)
        elif self._short_bytes >= _GROWS_AFTER * self.batch_bytes:
            self.batch_bytes = min(self._most_bytes, self.batch_bytes * 2)
            self._short_bytes = 0

    def _reconsider(self) -> None:
        rate = self._new_bytes / max(self._seconds, 1e-9)
        link_bound = self._waiting > _LINK_BOUND * self._seconds
        previous, self._other = self._other, rate
        self._until = _PROBE_BYTES
        if link_bound:
            self._other = None if self.level is not None else rate
            self.level = self._affordable()
        elif self.level in _HARDER:
            self.level, self._other = FASTEST, None
        elif previous is None or previous > rate:
            # The other way is unknown, or was faster: take it for a while.
            self.level = FASTEST if self.level is None else None
            self._until = _LOOK_BYTES if previous is None else _PROBE_BYTES
        else:
            self._other = previous * 0.9  # old news count less
        self._new_bytes, self._seconds, self._waiting = 0, 0.0, 0.0

    def _affordable(self) -> int:
        """Return the level for a link that is the narrow place; each change of it empties the window."""
        if self.level is None:  # how long compressing takes isn't known
            return FASTEST
        fastest_seconds = (self._seconds - self._waiting) / _HARDER.get(self.level, 1.0)
        for level, times in _HARDER.items():
            if level <= self.level or times * fastest_seconds <= _AFFORDABLE * self._seconds:
                return level
        return FASTEST
