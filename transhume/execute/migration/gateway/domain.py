"""What two sites know in common of one tenant's pages, in both directions, for as long as both gateways run.

Outlives links: a log that both ends still have is gone on with, from where both have it. Nothing is ever shared
between domains: no page, no window, no answer that would tell one tenant what another has.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import structlog

from transhume.execute.migration.coding.frame import MOST_RAW_BYTES
from transhume.execute.migration.coding.receiver import Receiver
from transhume.execute.migration.coding.sender import Sender
from transhume.execute.migration.content.catalogue import Catalogue
from transhume.execute.migration.content.digests import digest_of
from transhume.execute.migration.content.page_log import NotInLog, PageLog, Positions
from transhume.execute.migration.content.references import Space
from transhume.execute.migration.content.resident_pages import ResidentPages
from transhume.execute.migration.gateway.link import Link
from transhume.execute.migration.gateway.messages import ProtocolError
from transhume.knowledge.model import Transfer
from transhume.quantities import format_bytes

_HASHED_AT_ONCE = 4096
_NEWS_OF_ROOM = 16
"""One part in so many more or less than the peer was told of is worth telling."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreLimits:
    """What a domain's log may take, for each direction."""

    folder: Path
    memory_bytes: int = 512 << 20
    total_bytes: int = 4 << 30


@dataclass(slots=True)
class Domain:
    """One tenant's pages at two sites, as one of them sees it."""

    peer: str
    tenant: str
    limits: StoreLimits
    sender: Sender = field(init=False)
    receiver: Receiver | None = field(init=False, default=None)
    sent: Transfer = field(default_factory=Transfer)
    """Of all that was sent."""
    catalogues: list[Catalogue] = field(default_factory=list)
    """Images here that the peer may refer to over its latest link, by their order."""
    comes_by: Link | None = None
    """The link by which the peer's pages come."""
    goes_by: Link | None = None
    """The link by which ours go."""
    _short: set[bytes] = field(init=False, default_factory=set)
    """Names of logs that may hold less than they should, because the disk is full."""
    _told_first: int = field(init=False, default=0)
    """Below which position the peer was told to forget what was sent."""
    _told_bytes: int = field(init=False, default=0)
    """What the peer was told that it may have kept here."""
    _owners: dict[str, int] = field(init=False, default_factory=dict)
    _stale: bytes | None = field(init=False, default=None)
    """The name of a log of the peer's that we have and it has no more."""
    _reverse: PageLog | None = field(init=False, default=None)
    """The peer's log that the sender refers to, as it is here."""
    _reverse_first: int = field(init=False, default=0)
    """The position in it below which the sender refers to nothing."""
    _offered: bytes | None = field(init=False, default=None)
    """The same, as the peer was last told of."""
    _reverse_hashed: int = field(init=False, default=0)
    """Up to which position of the receiver's log the sender refers to."""

    def __post_init__(self) -> None:
        """Begin with nothing known."""
        self.sender = Sender(self._new_log(), self.limits.total_bytes)

    @property
    def memory_bytes(self) -> int:
        """What is in memory for it."""
        return sum(log.memory_bytes for log in self._logs())

    @property
    def disk_bytes(self) -> int:
        """What is on disk for it."""
        return sum(log.disk_bytes for log in self._logs())

    @property
    def overfull(self) -> bool:
        """Whether the peer has sent more than it was told that there is room for."""
        most_bytes = self.limits.total_bytes + MOST_RAW_BYTES
        return self.receiver is not None and self.receiver.log.kept_bytes > most_bytes

    def close(self) -> None:
        """Forget everything."""
        for log in self._logs():
            log.close()

    def owner(self, vm: str) -> int:
        """Return a VM's number in this domain."""
        return self._owners.setdefault(vm, len(self._owners))

    # --- the sending side -----------------------------------------------------------------------

    def offer(self) -> dict[str, Any]:
        """Say what the peer may have of what was sent, and what we have of its pages."""
        sent, self._told_first = self.sender.log, self.sender.index.first
        offer: dict[str, Any] = {
            "log": sent.name.hex(),
            "first": self._told_first,
            "next": sent.next,
        }
        self._offered = self.receiver.log.name if self.receiver is not None else None
        if self._offered is not None:
            offer["reverse"] = self._offered.hex()
        return offer

    def agree(self, answer: dict[str, Any]) -> bool:
        """Go on from what the peer has, on a new link; False where it has to be offered anew.

        Raises:
            ProtocolError: the peer makes no sense.
        """
        there = answer.get("next")
        if not isinstance(there, int):
            raise ProtocolError("the peer doesn't say what it has")
        self.sender.index.drop_listed()
        if not answer.get("reverse"):
            self._stale = self._offered
            self._forget_reverse()
        if not self._cut(there):
            self.sender.log.close()
            self.sender = Sender(self._new_log(), self.limits.total_bytes)
            self._reverse_hashed = 0
            return False
        if isinstance(most := answer.get("most_bytes"), int):
            self.have_kept(most)
        self.sender.fresh_window()
        return True

    def have_kept(self, most_bytes: int) -> None:
        """Have the peer keep no more than that, of what was sent."""
        self.sender.limit_bytes = max(0, min(self.limits.total_bytes, most_bytes))

    def _cut(self, there: int) -> bool:
        """Keep of the log what the peer has; False where that can't be."""
        sent, index = self.sender.log, self.sender.index
        if not max(sent.first, index.first) <= there <= sent.next:
            return False
        if sent.next and not there:  # what the peer refers to may be of a log that it has no more
            return False
        try:
            self.sender.truncate(there)
        except NotInLog:
            return False
        return True

    def stop_sending(self) -> None:
        """Have no window, as no link is there."""
        self.sender.fresh_window()

    def forget_surplus(self) -> None:
        """Refer to the oldest pages no more where there are too many; `news_of_forgotten` has to be told."""
        sender = self.sender
        position = sender.surplus()
        if position is not None:
            sender.forget_below(position)
            self._look_for_room(sender.log, sender.limit_bytes)

    def news_of_forgotten(self) -> int | None:
        """Return the position below which the peer is to forget what was sent, where it wasn't told yet."""
        first = self.sender.index.first
        if first <= self._told_first:
            return None
        self._told_first = first
        return first

    def look_back(self) -> bool:
        """Learn some more of what the peer has because it sent it; say whether there is more to learn.

        All of it takes a while, in which frames are to be encoded.
        """
        self.drop_stale()
        receiver = self.receiver
        if receiver is None or receiver.log.name == self._stale:
            return False
        received = receiver.log
        self._reverse = received
        at = max(self._reverse_hashed, received.first)
        count = min(_HASHED_AT_ONCE, received.next - at)
        try:
            pages = received.read(np.arange(at, at + count))
        except NotInLog:  # forgotten meanwhile
            return True
        digests = [digest_of(page) for page in pages]
        self.sender.index.add_elsewhere(Space.REVERSE, digests, start=at)
        self._reverse_hashed = at + count
        return self._reverse_hashed < received.next

    def drop_stale(self) -> None:
        """Refer no more to a log of the peer's that another has replaced, nor to what is forgotten of it."""
        receiver = self.receiver
        if receiver is None or receiver.log is not self._reverse:
            self._forget_reverse()
        elif receiver.log.first > self._reverse_first:
            self._reverse_first = receiver.log.first
            self.refer_no_more(self._reverse_first)

    def know_catalogue(self, number: int, digests: Sequence[bytes], start: int = 0) -> None:
        """Refer to blocks of one of the peer's catalogues, at indices from `start` on, from now on."""
        self.sender.index.add_elsewhere(Space.FIRST_CATALOGUE + number, digests, start)

    def know_residents(self, start: int, digests: Sequence[bytes]) -> None:
        """Refer to pages of VMs that run at the peer, at indices from `start` on, from now on."""
        self.sender.index.add_elsewhere(Space.RESIDENTS, digests, start)

    def refer_no_more(self, position: int) -> None:
        """Refer to nothing in the peer's log below a position any more."""
        self.sender.index.drop_space(Space.REVERSE, below=position)

    def let_go(self, position: int) -> None:
        """Drop pages from the log that the peer refers to no more, and that were forgotten here before."""
        self.sender.log.forget_below(min(position, self.sender.index.first))

    def _forget_reverse(self) -> None:
        if self._reverse is not None:
            self.sender.index.drop_space(Space.REVERSE)
        self._reverse_hashed, self._reverse_first, self._reverse = 0, 0, None

    # --- the receiving side ---------------------------------------------------------------------

    def answer(
        self, offer: dict[str, Any], residents: ResidentPages | None = None
    ) -> dict[str, Any]:
        """Take the peer's offer on a new link, and say what there is of it here.

        Args:
            offer: its words.
            residents: what the tenant's VMs here have, where the peer is to know of it.

        Raises:
            ProtocolError: it's no offer.
        """
        try:
            name = bytes.fromhex(offer["log"])
            first, after = int(offer["first"]), int(offer["next"])
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"no offer of pages: {error}") from error
        receiver = self._receiver_of(name, after)
        receiver.log.forget_below(first)
        receiver.drop_listed()
        for number, catalogue in enumerate(self.catalogues):
            receiver.add_space(Space.FIRST_CATALOGUE + number, catalogue.read)
        if residents is not None:
            receiver.add_space(Space.RESIDENTS, residents.read)
        return {
            "first": receiver.log.first,
            "next": receiver.log.next,
            "most_bytes": self._tell_room(receiver),
            "reverse": offer.get("reverse") == self.sender.log.name.hex(),
            "residents": residents is not None,
            "catalogues": [
                {"name": each.name.hex(), "blocks": len(each.digests)} for each in self.catalogues
            ],
        }

    def news_of_room(self) -> int | None:
        """Return what the peer may have kept here, where that isn't any more what it was told."""
        receiver = self.receiver
        assert receiver is not None
        room_bytes, told_bytes = self._room(receiver), self._told_bytes
        is_short = room_bytes < min(told_bytes, receiver.log.kept_bytes)
        if not is_short and abs(room_bytes - told_bytes) * _NEWS_OF_ROOM <= told_bytes:
            return None
        return self._tell_room(receiver)

    def _tell_room(self, receiver: Receiver) -> int:
        self._told_bytes = self._room(receiver)
        self._look_for_room(receiver.log, self.limits.total_bytes)
        return self._told_bytes

    def _room(self, receiver: Receiver) -> int:
        return min(self.limits.total_bytes, receiver.log.room_bytes)

    def stop_receiving(self) -> None:
        """Have no window, and nothing that was listed for the peer, as no link is there."""
        if self.receiver is not None:
            self.receiver.fresh_window()
            self.receiver.drop_listed()

    def forget_peer(self) -> None:
        """Forget all of the peer's pages; the next link begins with none."""
        if self.receiver is not None:
            self.receiver.log.close()
            self.receiver = None

    def forget_received(self, position: int) -> None:
        """Forget the peer's log below a position; `refer_no_more` has to follow, in the sender's thread."""
        receiver = self.receiver
        if receiver is not None:
            receiver.log.forget_below(position)

    def _receiver_of(self, name: bytes, after: int) -> Receiver:
        found = self.receiver
        if found is None or found.log.name != name:
            return self._new_receiver(name)
        try:
            found.log.truncate(after)
        except NotInLog:
            return self._new_receiver(name)
        found.fresh_window()
        return found

    def _new_receiver(self, name: bytes) -> Receiver:
        if self.receiver is not None:
            self.receiver.log.close()
        receiver = Receiver(self._new_log(name))
        receiver.add_space(Space.REVERSE, self._read_sent)
        self.receiver = receiver
        return receiver

    def _look_for_room(self, pages: PageLog, wanted_bytes: int) -> None:
        """Warn when a log begins to have less room than it should have."""
        if pages.room_bytes >= wanted_bytes:
            self._short.discard(pages.name)
        elif pages.name not in self._short:
            self._short.add(pages.name)
            log.warning(
                "store_short_of_room",
                folder=str(self.limits.folder),
                peer=self.peer,
                room=format_bytes(pages.room_bytes),
                hint="the oldest pages are forgotten, and sent again where they are needed",
            )

    def _read_sent(self, positions: Positions) -> list[memoryview]:
        return self.sender.log.read(positions)

    def _logs(self) -> tuple[PageLog, ...]:
        return (self.sender.log, self.receiver.log) if self.receiver else (self.sender.log,)

    def _new_log(self, name: bytes | None = None) -> PageLog:
        return PageLog(self.limits.folder, memory_bytes=self.limits.memory_bytes, name=name)
