"""When a guest may be stopped for the last of its memory, where a gateway makes much less of some of it. Pure.

A hypervisor stops the guest when what is left would go by within the limit, at the rate at which its socket has
just swallowed memory. Behind a gateway that is no measure: what the destination knows goes by at hundreds of
megabytes a second, and what is new waits for the link. It would stop the guest with tens of megabytes of new
memory left, for many seconds on a slow link. So where the link is the narrow place, the hypervisor is held off,
by a limit of next to nothing, until what is left crosses within the real one even if all of it is dear. As long
as too little has crossed to say what a link carries, it's taken for a slow one.
"""

import math
from collections import deque

from transhume.execute.hypervisor.protocol import JobSample
from transhume.execute.migration.splitting import PAGE_BYTES
from transhume.execute.migration.transport import Progress
from transhume.knowledge.model import Transfer

DEFAULT_LIMIT_MS = 300
"""QEMU's own."""
HELD_OFF_MS = 1
UNKNOWN_MS = -1
"""The limit in force where nobody said whether the last one was taken."""
UNKNOWN_LINK_BYTES_PER_SECOND = 12.5e6
"""What a link is taken to carry until enough has crossed to know better."""
_TELLING_BYTES = 1 << 20
"""So much must have gone by for its cost to be believed."""
_NEAR_SECONDS = 3.0
_LONG_SECONDS, _ENOUGH_SECONDS = 10.0, 60.0
"""So long near the end, a guest may use all of its limit, and then is left to its hypervisor: it may never come
nearer."""
_BESIDE_SECONDS = 0.1
"""What a guest stands still beside the time in which what is left crosses: it writes until its hypervisor
stops it, and its destination takes a while to hear that all is there."""
_USUAL_COST = 0.5
"""Wire bytes for a byte of new memory, until that is known."""


def link_rate(progress: Progress | None, share_bytes_per_second: float | None) -> float | None:
    """Return how many bytes a second to reckon with; infinity where the link isn't the narrow place.

    Args:
        progress: what the transport tells; None: nothing.
        share_bytes_per_second: what the migration may use of its link; None: nobody has said.
    """
    if progress is None:
        return share_bytes_per_second
    if progress.link_bytes_per_second is not None:
        return progress.link_bytes_per_second
    if share_bytes_per_second is not None:
        return share_bytes_per_second
    return math.inf if progress.link_is_known else UNKNOWN_LINK_BYTES_PER_SECOND


class Switchover:
    """One migration's.

    Args:
        limit_ms: how long the guest may stand still at the end; None: as long as the hypervisor likes.
        link_bytes_per_second: what to reckon with (see `link_rate`); None or infinity: the hypervisor decides
            until that is something else.
    """

    def __init__(self, limit_ms: int | None, link_bytes_per_second: float | None) -> None:
        self._limit_ms = limit_ms or DEFAULT_LIMIT_MS
        self._link = None if link_bytes_per_second == math.inf else link_bytes_per_second
        self.in_force_ms = limit_ms if self._link is None else HELD_OFF_MS
        """The limit that the hypervisor is to begin with, or has taken since; None: its own."""
        self._crosses_seconds = 0.0
        """What is left, as far as was seen last."""
        self._seen: JobSample | None = None
        """What its hypervisor said last that can be judged."""
        self._near_since: float | None = None
        """When what is left came near; None: it isn't, or isn't any more."""
        self._near_for_seconds = 0.0
        self._round = 0
        self._began = 0.0
        self._first: Transfer | None = None
        """What had gone by when memory was gone through for the second time."""
        self._lately: deque[Transfer] = deque()
        """What had gone by since then, each time, back to where it tells what bytes cost of late."""

    @property
    def is_near(self) -> bool:
        """Whether the guest is held off, and soon may not be any more."""
        return self.in_force_ms == HELD_OFF_MS and self._crosses_seconds <= _NEAR_SECONDS

    @property
    def fits(self) -> bool:
        """Whether what is left crosses while the guest stands still, if the link carries nothing else.

        The first time that memory is gone through, nobody knows how much has been written to. What has been
        near for long enough counts as if it did.
        """
        if self._seen is None or self._seen.transfer is None:
            return False
        if self._near_for_seconds >= _ENOUGH_SECONDS:
            return True
        most_seconds = self.limit_seconds
        if self.in_force_ms == HELD_OFF_MS and self._near_for_seconds < _LONG_SECONDS:
            most_seconds = max(most_seconds / 2, most_seconds - _BESIDE_SECONDS)
        return self._round >= 2 and self._crosses_seconds <= most_seconds

    @property
    def limit_seconds(self) -> float:
        """How long the guest may stand still."""
        return self._limit_ms / 1e3

    def see(self, sample: JobSample, link_bytes_per_second: float | None, seconds: float) -> None:
        """Take how far the migration is.

        Args:
            sample: what its hypervisor says now, at most a moment old.
            link_bytes_per_second: what to reckon with now; None: what was to be before.
            seconds: since the beginning.
        """
        if self._link is not None or link_bytes_per_second != math.inf:
            self._link = link_bytes_per_second or self._link
        if sample.rounds is None or self._link is None:
            self._seen = None
            return
        self._seen = sample
        if sample.rounds != self._round:
            self._round, self._began = sample.rounds, seconds
            if sample.rounds >= 2 and self._first is None:
                self._first = sample.transfer
        if self._first is not None and sample.transfer is not None:
            self._note(sample.transfer)
        self._crosses_seconds = self._crosses(sample, self._link, seconds)
        is_near = self._round >= 2 and self._crosses_seconds <= _NEAR_SECONDS
        self._near_since = (self._near_since or seconds) if is_near else None
        self._near_for_seconds = seconds - self._near_since if self._near_since else 0.0

    def due(self, *, its_turn: bool) -> int | None:
        """Return the limit that the hypervisor is to have from now on, in ms; None: the one in force.

        Where nobody says any more what becomes of its memory, the hypervisor decides.

        Args:
            its_turn: whether nobody else's guest stands still now that goes over the same link.
        """
        if self._seen is None:
            return None
        may_stop = self._seen.transfer is None or (self.fits and its_turn)
        limit_ms = self._limit_ms if may_stop else HELD_OFF_MS
        return None if limit_ms == (self.in_force_ms or DEFAULT_LIMIT_MS) else limit_ms

    def _crosses(self, sample: JobSample, link: float, seconds: float) -> float:
        """Return how long what is left would take, also in gateways, and what was written to since then."""
        if sample.transfer is None:
            return 0.0
        written = sample.dirty_bytes_per_second * (seconds - self._began)
        left_bytes = sample.bytes_remaining + written + sample.waiting_bytes
        return left_bytes * self._cost(sample.transfer) / link

    def _note(self, sent: Transfer) -> None:
        """Remember what has gone by, and no more of before than it takes to tell what bytes cost of late."""
        lately = self._lately
        lately.append(sent)
        while len(lately) > 1 and sent.raw_bytes - lately[1].raw_bytes >= _TELLING_BYTES:
            lately.popleft()

    def _cost(self, sent: Transfer) -> float:
        """Return wire bytes for a byte of what is left: as since the first round, at most as of new pages.

        What of late was dearer goes on being so: it's those pages that are written to last.
        """
        new_bytes = sent.new_pages * PAGE_BYTES
        dearest = sent.new_wire_bytes / new_bytes if new_bytes >= _TELLING_BYTES else _USUAL_COST
        if self._first is None:
            return dearest
        since_then = _cost_between(self._first, sent)
        if since_then is None:
            return dearest
        of_late = _cost_between(self._lately[0], sent) if self._lately else None
        return max(min(dearest, since_then), of_late or 0.0)


def _cost_between(before: Transfer, now: Transfer) -> float | None:
    """Return wire bytes for a byte of what went by; None where that's too little to tell."""
    raw_bytes = now.raw_bytes - before.raw_bytes
    return (now.wire_bytes - before.wire_bytes) / raw_bytes if raw_bytes >= _TELLING_BYTES else None
