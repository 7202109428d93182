"""What a link carries, seen from what is sent over it. Pure."""

_FORGETS_SECONDS = 4.0
"""After so long, half of what was seen is forgotten."""
_TELLS_SECONDS = 0.5
_NARROW = 0.5
"""Of the time, what has to be spent waiting for the link for it to be the narrow place."""


class LinkRate:
    """How fast frames have crossed, the last ones more than those before."""

    def __init__(self) -> None:
        self._bytes, self._seconds, self._waiting = 0.0, 0.0, 0.0

    @property
    def tells(self) -> bool:
        """Whether enough was sent to say anything of the link."""
        return self._seconds >= _TELLS_SECONDS

    @property
    def bytes_per_second(self) -> float | None:
        """On the wire; None where the link wasn't the narrow place, or nobody can say."""
        if not self.tells or self._waiting < _NARROW * self._seconds:
            return None
        return self._bytes / self._seconds

    def sent(self, wire_bytes: int, coding_seconds: float, waiting_seconds: float) -> None:
        """Take what a frame took, of whose pages most were new: others don't wait, and tell nothing."""
        if self._seconds >= _FORGETS_SECONDS:
            self._bytes, self._seconds, self._waiting = (
                each / 2 for each in (self._bytes, self._seconds, self._waiting)
            )
        self._bytes += wire_bytes
        self._seconds += coding_seconds + waiting_seconds
        self._waiting += waiting_seconds
