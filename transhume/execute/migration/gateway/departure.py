"""A migration that goes out: its connections, what it has sent, and whom it shares its budget with."""

import asyncio
import socket
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

from transhume.execute.migration.gateway.credit import Credit
from transhume.execute.migration.gateway.domains import Desk
from transhume.execute.migration.gateway.gangs import Member
from transhume.execute.migration.gateway.pace import Pace
from transhume.execute.migration.gateway.standstill import Standstill
from transhume.execute.migration.gateway.turns import Urgency
from transhume.knowledge.model import Transfer

MOST_CHANNELS = 64
"""Of a migration, from its beginning to its end."""


@dataclass(slots=True)
class Departure:
    """A migration that goes out."""

    number: int
    vm: str
    desk: Desk
    domain_number: int
    standstill: Standstill
    """Of all that go over its link."""
    sent: Transfer = field(default_factory=Transfer)
    disks: Transfer = field(default_factory=Transfer)
    """Of that, what came from its disks."""
    read_bytes: int = 0
    """What was read of its hypervisor, raw."""
    remaining_bytes: int | None = None
    """What its hypervisor had still to send when somebody told last; raw."""
    channels: set[int] = field(default_factory=set)
    sending: "set[asyncio.Future[Any]]" = field(default_factory=set)
    """Parts of pieces that are encoded and sent whatever becomes of their channels."""
    ended: set[int] = field(default_factory=set)
    """Channels whose end is still to be told."""
    closed: bool = False
    broken: str | None = None
    """Why it was broken off, if it was."""
    member: Member | None = None
    """Of those with whom it shares a budget; None: it takes what the link gives."""
    seems_read: bool = False
    """Whether all that its hypervisor has to send seems to have been read."""

    @property
    def stopped(self) -> bool:
        """Whether its guest stands still by now, waiting for the last of its memory."""
        return self.number in self.standstill

    @property
    def waiting_bytes(self) -> int:
        """What was read of its hypervisor, which takes it for sent, and waits here; raw."""
        return max(0, self.read_bytes - self.sent.raw_bytes)

    def remains(self, remaining_bytes: int) -> None:
        """Take how much the hypervisor has still to send."""
        self.remaining_bytes = remaining_bytes
        if self.member is not None:
            self.member.expect(remaining_bytes)

    def stands_still(self) -> None:
        """Take note that its guest does; not where all of it has been sent, and the news come late."""
        if self.read_bytes and not self.channels:
            return
        self.standstill.begins(self.number)
        if self.member is not None:
            self.member.stopped = True

    def goes_on(self) -> None:
        """Take note that its guest runs again, at either end, or that nothing more of it comes."""
        self.standstill.ends(self.number)
        if self.member is not None:
            self.member.stopped = False

    def most_piece_bytes(self, pace: Pace) -> int:
        """Say how much to encode at once that the other end may not have."""
        if self.member is None:
            return pace.batch_bytes
        return min(pace.batch_bytes, self.member.most_piece_bytes)

    def passage(self) -> AbstractAsyncContextManager[None]:
        """Wait until its budget, and those that share it, let a piece pass."""
        return self.member.passage() if self.member else nullcontext()

    def takes_seconds(self, transfer: Transfer, link_seconds: float) -> float:
        """Say how long a piece takes of what it may use, however fast it was on the link."""
        if self.member is None:
            return link_seconds
        return max(link_seconds, self.member.pays_seconds(transfer))

    def count(self, transfer: Transfer, *, of_disks: bool) -> None:
        """Count what became of its memory, or of its disks."""
        self.sent += transfer
        if of_disks:
            self.disks += transfer

    def has_sent(self, transfer: Transfer, *, of_disks: bool = False) -> None:
        """Count what a piece became."""
        self.count(transfer, of_disks=of_disks)
        if self.seems_read and not self.waiting_bytes:
            self.standstill.all_is_sent(self.number)
        elif self.stopped:
            self.standstill.begins(self.number)
        if self.member is not None:
            self.member.has_sent(transfer)


@dataclass(slots=True)
class Channel:
    """One connection of a hypervisor, or what is sent ahead to a store."""

    number: int
    departure: Departure
    connection: socket.socket | None
    urgency: Urgency
    """As long as the guest runs."""
    credit: Credit
    returned: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    returned_bytes: int = 0
    carrier: "asyncio.Task[None] | None" = None
    broken: bool = False
