"""Whose piece goes next among the migrations of a gang, and when: their one budget of the link.

A gang is the VMs of a group that go over one link at the same time. Its budget is the sum of its members'
shares, kept by a token bucket: a piece may pass when earlier ones are paid for, because what it takes on the
wire is known only when it is encoded. One piece of a gang passes at a time, and nobody else's waits for it.

Who is furthest behind goes first, so that all end close to each other: from the first end to the last, their
group is split. A guest that stands still goes before all others. Nobody is overtaken without end: of a guest
that rewrites its memory faster than it can be sent, the others would wait for ever.

VMs whose memory goes ahead of moves to the same destination take turns in the same way. Their rate isn't a sum:
each says what it may be for all of them, and the lowest counts.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from transhume.execute.migration.gateway.pace import most_batch_bytes
from transhume.execute.migration.transport import Share
from transhume.knowledge.model import Transfer

BURST_SECONDS = 0.05
"""What may be made up for of time in which nothing was sent."""
PATIENCE_SECONDS = 0.002
"""How long who is behind is waited for, where its next piece isn't ready yet and others are."""
OVERTAKEN_AT_MOST = 2
"""Times as often as there are pieces that wait, one of them may be overtaken."""

Clock = Callable[[], float]
After = Callable[[float, Callable[[], None]], object]
"""Calls something in so many seconds."""


def _after(seconds: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, call)


class Bucket:
    """What may be sent by now, at a rate that may change. Goes into debt for one piece at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rate = math.inf
        self._left_bytes = 0.0
        self._settled = clock()

    @property
    def bytes_per_second(self) -> float:
        """The rate; infinite where there is no limit."""
        return self._rate

    @bytes_per_second.setter
    def bytes_per_second(self, rate: float) -> None:
        self._settle()
        self._rate = rate

    def wait_seconds(self) -> float:
        """Return how long it takes until what was sent is paid for."""
        self._settle()
        if self._left_bytes > -1.0:  # what is less than a byte is rounding
            return 0.0
        return -self._left_bytes / self._rate if self._rate else math.inf

    def spend(self, amount_bytes: int) -> None:
        """Count what was sent."""
        self._settle()
        if math.isfinite(self._rate):
            self._left_bytes -= amount_bytes

    def _settle(self) -> None:
        now = self._clock()
        passed, self._settled = now - self._settled, now
        if not math.isfinite(self._rate):
            self._left_bytes = 0.0
            return
        gained = self._left_bytes + passed * self._rate
        self._left_bytes = min(gained, self._rate * BURST_SECONDS)


class Member:
    """One migration of a gang."""

    def __init__(self, gang: "Gang", bytes_per_second: float | None) -> None:
        self.bytes_per_second = math.inf if bytes_per_second is None else bytes_per_second
        self.stopped = False
        """Whether its guest stands still."""
        self.raw_bytes = 0
        self._expected_bytes: int | None = None
        self._gang = gang

    @property
    def progress(self) -> float:
        """The share of its raw bytes that was sent, 0 to 1; 0 until it's known how many there are."""
        if self._expected_bytes is None:
            return 0.0
        return min(1.0, self.raw_bytes / max(1, self._expected_bytes))

    @property
    def most_piece_bytes(self) -> int:
        """How much to encode at once, so that nobody waits for long for a piece to be paid for."""
        return most_batch_bytes(self._gang.bucket.bytes_per_second)

    def expect(self, remaining_bytes: int) -> None:
        """Take how many raw bytes are still to be sent, as its hypervisor says."""
        self._expected_bytes = self.raw_bytes + remaining_bytes

    def has_sent(self, transfer: Transfer) -> None:
        """Count what a piece became."""
        self.raw_bytes += transfer.raw_bytes
        self._gang.bucket.spend(transfer.wire_bytes)

    def pays_seconds(self, transfer: Transfer) -> float:
        """Return how long the budget takes to pay for a piece: that's its narrow place, where the link isn't.

        Who looks at the link alone would find it idle, and compression a waste.
        """
        return transfer.wire_bytes / max(1.0, self._gang.bucket.bytes_per_second)

    @asynccontextmanager
    async def passage(self) -> AsyncIterator[None]:
        """Wait until a piece of this member's may pass; the gang's next one waits until the context ends."""
        await self._gang.wait_for(self)
        try:
            yield
        finally:
            self._gang.passed(self)

    def leave(self) -> None:
        """Take no further part; what still waits passes at once, to find that it's over."""
        self._gang.leave(self)


@dataclass(slots=True, eq=False)
class _Waiting:
    member: Member
    turn: "asyncio.Future[None]"
    overtaken: int = 0


class Gang:
    """The migrations of one gang over one link.

    Args:
        clock: monotonic seconds.
        after: calls something later.
        rate_of: makes the gang's rate of its members'.
    """

    def __init__(
        self,
        clock: Clock = time.monotonic,
        after: After = _after,
        rate_of: Callable[[Iterable[float]], float] = sum,
    ) -> None:
        self.bucket = Bucket(clock)
        self._rate_of = rate_of
        self.members: list[Member] = []
        self._clock, self._after = clock, after
        self._waiting: list[_Waiting] = []
        self._taken = False
        self._awaited: Member | None = None
        """Who passed last, where it was furthest behind and may come again at once."""
        self._look_at = math.inf
        """When the next look is due that somebody was asked for."""

    def join(self, bytes_per_second: float | None) -> Member:
        """Have another member, with its share."""
        member = Member(self, bytes_per_second)
        self.members.append(member)
        self._share_out()
        return member

    def leave(self, member: Member) -> None:
        """Have a member less; its share goes with it."""
        if member in self.members:
            self.members.remove(member)
            self._share_out()
            self._look()

    async def wait_for(self, member: Member) -> None:
        """Wait for a member's turn; whoever has had it says so by `passed`."""
        mine = _Waiting(member, asyncio.get_running_loop().create_future())
        self._waiting.append(mine)
        self._look()
        try:
            await mine.turn
        except asyncio.CancelledError:
            if mine in self._waiting:
                self._waiting.remove(mine)
            else:
                self.passed(member)
            raise

    def passed(self, member: Member) -> None:
        """Let the next piece pass."""
        self._taken, self._awaited = False, member
        self._look()

    def _share_out(self) -> None:
        self.bucket.bytes_per_second = self._rate_of(each.bytes_per_second for each in self.members)

    def _look(self) -> None:
        """Let a piece pass, if one may; else look again when one may."""
        if self._taken or not self._waiting:
            return
        gone = next((each for each in self._waiting if each.member not in self.members), None)
        if gone is not None:
            self._let_pass(gone)
            return
        wait_seconds = self.bucket.wait_seconds()
        if wait_seconds > 0:
            self._awaited = None
            self._look_in(wait_seconds)
            return
        first = min(self._waiting, key=self._rank)
        if self._is_awaited_before(first):
            self._look_in(PATIENCE_SECONDS)
        else:
            self._let_pass(first)

    def _rank(self, waiting: _Waiting) -> tuple[bool, bool, float]:
        member = waiting.member
        long_enough = waiting.overtaken >= OVERTAKEN_AT_MOST * len(self._waiting)
        return not member.stopped, not long_enough, member.progress

    def _is_awaited_before(self, first: _Waiting) -> bool:
        awaited = self._awaited
        if awaited is None or awaited not in self.members:
            return False
        if any(each.member is awaited for each in self._waiting):
            return False
        return (not awaited.stopped, True, awaited.progress) < self._rank(first)

    def _let_pass(self, chosen: _Waiting) -> None:
        for each in self._waiting[: self._waiting.index(chosen)]:
            each.overtaken += 1
        self._waiting.remove(chosen)
        self._taken, self._awaited = True, None
        if not chosen.turn.done():
            chosen.turn.set_result(None)

    def _look_in(self, seconds: float) -> None:
        due = self._clock() + seconds
        if math.isfinite(due) and due < self._look_at:
            self._look_at = due
            self._after(seconds, self._look_again)

    def _look_again(self) -> None:
        self._look_at, self._awaited = math.inf, None
        self._look()


class Gangs:
    """The gangs that a gateway's migrations are of, by where they go."""

    def __init__(self, clock: Clock = time.monotonic, after: After = _after) -> None:
        self._clock, self._after = clock, after
        self._gangs: dict[tuple[str, str], Gang] = {}
        self._warming: dict[str, Gang] = {}

    def join(self, peer: str, share: Share) -> Member:
        """Have a migration to a peer that has this share."""
        self._gangs = {key: gang for key, gang in self._gangs.items() if gang.members}
        gang = self._gangs.setdefault((peer, share.gang), Gang(self._clock, self._after))
        return gang.join(share.bytes_per_second)

    def join_warming(self, peer: str, bytes_per_second: float | None) -> Member:
        """Have a VM whose memory goes ahead to a peer. All of them together keep to the lowest rate given."""
        if peer not in self._warming or not self._warming[peer].members:
            self._warming[peer] = Gang(self._clock, self._after, _lowest)
        return self._warming[peer].join(bytes_per_second)


def _lowest(rates: Iterable[float]) -> float:
    return min(rates, default=math.inf)
