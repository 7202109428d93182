"""The sending side of a link: migrations that go out, each with its channels.

A channel is one connection of a hypervisor. It is read, split and hashed while the piece before it is encoded
and sent; whatever breaks, at either end or between them, breaks the channel off at both, and the hypervisor
goes on where it is.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from concurrent.futures import Executor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial

import structlog

from transhume.errors import Refused
from transhume.execute.migration.coding.prepared import Prepared, Stream, prepare
from transhume.execute.migration.gateway.agreement import Agreement
from transhume.execute.migration.gateway.credit import WINDOW_BYTES, Credit, SharedWindow
from transhume.execute.migration.gateway.departure import Channel, Departure
from transhume.execute.migration.gateway.domains import Desk, Domains
from transhume.execute.migration.gateway.link import Link, LinkLost
from transhume.execute.migration.gateway.link_rate import LinkRate
from transhume.execute.migration.gateway.messages import VERSION, Kind, Message, ProtocolError
from transhume.execute.migration.gateway.pace import Pace, Stride
from transhume.execute.migration.gateway.questions import Questions
from transhume.execute.migration.gateway.reader import Reader
from transhume.execute.migration.gateway.standstill import Standstill
from transhume.execute.migration.gateway.turns import Urgency
from transhume.execute.migration.machine.sockets import break_off, send_all, shut_writing
from transhume.execute.migration.splitting import PAGE_BYTES, Split, Splitter
from transhume.knowledge.model import Transfer

MOST_RETURNED_BYTES = 4 << 20
"""Of a return path, what may wait for its hypervisor."""
LEARNING_SECONDS = 20.0
"""How long a migration waits for lists of what the peer has: less than a daemon waits for it."""
FAILED = "the gateway failed"

log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Coded:
    """A part of a piece, as a frame."""

    pieces: list[bytes | memoryview]
    """The frame's."""
    transfer: Transfer
    rest: Prepared | None
    """Of the piece."""


class Departures:
    """Everything that goes out over one link.

    Args:
        site: ours.
        link: open, to a gateway that is the peer.
        domains: this gateway's.
        workers: for splitting and hashing.
    """

    def __init__(self, site: str, link: Link, domains: Domains, workers: Executor) -> None:
        self.link = link
        self._site = site
        self._domains = domains
        self._workers = workers
        self._pace = Pace()
        self._rate = LinkRate()
        self._standstill = Standstill()
        self._questions = Questions(link)
        self._opened: dict[str, int] = {}
        """Domains by tenant, by their numbers on this link."""
        self._agreement = Agreement(domains, self._questions.ask)
        self._opening = asyncio.Lock()
        self._departures: dict[int, Departure] = {}
        self._channels: dict[int, Channel] = {}
        self._window = SharedWindow()
        """Of the channels that are hypervisors' connections."""

    @property
    def link_bytes_per_second(self) -> float | None:
        """What the link has carried of late, where it was the narrow place."""
        return self._rate.bytes_per_second

    @property
    def link_is_known(self) -> bool:
        """Whether enough has crossed to say whether the link is the narrow place."""
        return self._rate.tells

    async def run(self) -> None:
        """Take what the peer says until the link is lost, then break everything off."""
        watching = asyncio.create_task(self.link.watch(), name=f"watch {self.link.peer}")
        try:
            while True:
                await self._heard(await self.link.receive())
        except LinkLost as error:
            self._end(str(error))
        except ProtocolError as error:
            log.error("link_ended", peer=self.link.peer, why=str(error))
            self._end(str(error))
        except Exception:  # the link ends, and nothing else
            log.exception("link_failed", peer=self.link.peer)
        finally:
            watching.cancel()
            self._end("the gateway stops")
            for tenant in self._opened:
                desk = self._domains.desk(self.link.peer, tenant)
                if desk.domain.goes_by is self.link:
                    desk.coder.submit(desk.domain.stop_sending)

    async def request(
        self, vm: str, tenant: str, token: bytes, *, uuid: str | None = None
    ) -> Departure:
        """Show a ticket, and agree with the peer on what is known of the tenant's pages.

        Raises:
            Refused: the peer doesn't take the ticket.
            LinkLost: the link is no more.
        """
        words = {
            "version": VERSION,
            "vm": vm,
            "uuid": uuid,
            "tenant": tenant,
            "ticket": token.hex(),
        }
        answer = await self._questions.ask(Kind.REQUEST, words)
        if answer.kind is Kind.REFUSED:
            said = answer.words
            reason, why = str(said.get("reason")), str(said.get("why"))
            log.warning(
                "migration_refused", vm=vm, peer=self.link.peer, reason=reason, why=why[:200]
            )
            raise Refused(vm, self._site, reason, why)
        desk = self._domains.desk(self.link.peer, tenant)
        until = time.monotonic() + LEARNING_SECONDS
        async with self._opening:
            if tenant not in self._opened:
                desk.domain.goes_by = self.link
                self._opened[tenant] = await self._agreement.open_domain(desk, tenant)
            await self._agreement.learn(desk, self._opened[tenant], until)
            # Whatever has come from there since the last time needn't go back.
            loop = asyncio.get_running_loop()
            while await loop.run_in_executor(desk.coder, desk.domain.look_back):
                pass
        if self.link.lost is not None:
            raise LinkLost(self.link.lost)
        domain = self._opened[tenant]
        departure = Departure(answer.number, vm, desk, domain, self._standstill)
        self._departures[departure.number] = departure
        return departure

    async def carry(
        self,
        departure: Departure,
        connection: socket.socket,
        socket_number: int,
        splitter: Splitter,
    ) -> None:
        """Carry one connection of a hypervisor, to its end or until it's broken off, and close it.

        Never raises for that.
        """
        urgency = Urgency.DISK if socket_number else Urgency.MEMORY
        channel = self._open_channel(departure, connection, socket_number, urgency)
        channel.carrier = asyncio.current_task()
        try:
            if self.link.lost is not None:  # nobody will say so any more
                self._break_off(channel.number, self.link.lost)
                return
            await self._both_ways(channel, connection, splitter)
        except asyncio.CancelledError:
            if not channel.broken or channel.carrier is None:
                self._break_off(channel.number, "the gateway stops")
                raise
            channel.carrier.uncancel()
        except Exception:  # the migration ends, and nothing else
            log.exception("migration_failed", vm=departure.vm, peer=self.link.peer)
            self._break_off(channel.number, FAILED)
        finally:
            self._close_channel(channel.number)
            connection.close()

    def sends_memory_of(self, departure: Departure) -> bool:
        """Say whether a hypervisor is sending a migration's memory."""
        return any(
            each.departure is departure and each.urgency is Urgency.MEMORY
            for each in self._channels.values()
        )

    def open_store(self, departure: Departure) -> "Warming":
        """Begin to send pages that nobody has asked for yet."""
        return Warming(self, self._open_channel(departure, None, None, Urgency.WARMING))

    def close(self, departure: Departure) -> None:
        """Tell the peer that a migration has ended; break off what is still open of it."""
        for number in list(departure.channels):
            self._break_off(number, departure.broken or "the migration was closed")
        departure.goes_on()
        departure.standstill.forget(departure.number)
        if self._departures.pop(departure.number, None):
            departure.closed = True
            self._say_ends(departure)

    def _say_ends(self, departure: Departure) -> None:
        """Say what has ended once nothing more of it can come: frames of no channel are a mistake."""
        if departure.sending:
            return
        while departure.ended:
            self.link.say(Kind.END, departure.ended.pop())
        if departure.closed:
            self.link.say(Kind.CLOSE, departure.number)

    # --- channels ------------------------------------------------------------------------------

    def _open_channel(
        self,
        departure: Departure,
        connection: socket.socket | None,
        socket_number: int | None,
        urgency: Urgency,
    ) -> Channel:
        number = self._questions.number()
        credit = Credit(WINDOW_BYTES) if connection is None else self._window.join()
        channel = Channel(number, departure, connection, urgency, credit)
        self._channels[number] = channel
        departure.channels.add(number)
        words = {
            "migration": departure.number,
            "domain": departure.domain_number,
            "socket": socket_number,
        }
        self.link.say_words(Kind.OPEN, number, words)
        return channel

    async def _both_ways(
        self, channel: Channel, connection: socket.socket, splitter: Splitter
    ) -> None:
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._give_back(channel, connection))
                tasks.create_task(self._pump(channel, connection, splitter))
        except* (OSError, LinkLost) as errors:
            self._break_off(channel.number, str(errors.exceptions[0]))

    async def _pump(self, channel: Channel, connection: socket.socket, splitter: Splitter) -> None:
        departure = channel.departure
        of_memory = channel.urgency is Urgency.MEMORY
        async with Reader(
            departure, connection, splitter, self._pace, self._workers, of_memory=of_memory
        ) as reader:
            while (prepared := await reader.next()) is not None:
                await channel.credit.take(len(prepared.split.raw))
                reader.stride.went_by(await self._send(channel, prepared))
        self.link.say(Kind.END, channel.number)
        zeros = Transfer(zero_pages=splitter.understanding.zero_pages)
        departure.count(zeros, of_disks=channel.urgency is Urgency.DISK)
        _tell_opaque(departure, splitter)

    async def _send(self, channel: Channel, prepared: Prepared) -> int:
        """Encode and send a piece, in parts where it turns out to be new there; return its bytes on the wire.

        Each part whole: what was encoded and isn't sent would be missing at the other end.
        """
        departure = channel.departure

        def over(sending: asyncio.Future[_Coded]) -> None:
            _look_at(sending)
            departure.sending.discard(sending)
            self._say_ends(departure)

        rest: Prepared | None = prepared
        wire_bytes = 0
        while rest is not None:
            sending = asyncio.ensure_future(self._send_part(channel, rest))
            departure.sending.add(sending)
            sending.add_done_callback(over)
            coded = await asyncio.shield(sending)
            wire_bytes += coded.transfer.wire_bytes
            rest = coded.rest
        return wire_bytes

    async def _send_part(self, channel: Channel, prepared: Prepared) -> _Coded:
        """Encode and send as much of a piece as may go at once.

        A fault leaves it unsure what the peer has of the tenant's pages: the link ends, and the next finds out.
        """
        try:
            return await self._encode_and_send(channel, prepared)
        except (OSError, LinkLost):
            raise
        except Exception as error:
            log.exception("link_failed", vm=channel.departure.vm, peer=self.link.peer)
            self._end(FAILED)
            raise LinkLost(FAILED) from error

    async def _encode_and_send(self, channel: Channel, prepared: Prepared) -> _Coded:
        departure = channel.departure
        desk = departure.desk
        loop = asyncio.get_running_loop()
        async with self._turn(channel):
            if self.link.lost is not None:
                raise LinkLost(self.link.lost)
            if channel.number not in self._channels:
                raise LinkLost(departure.broken or "the channel was closed")
            began = time.perf_counter()
            most_new_bytes = departure.most_piece_bytes(self._pace)
            try:
                coded = await loop.run_in_executor(
                    desk.coder, _encode, desk, prepared, self._pace.level, most_new_bytes
                )
            finally:  # the peer may have room only then, and so may we
                self._tell_forgotten(departure)
            coding_seconds = time.perf_counter() - began
            transfer = coded.transfer
            departure.has_sent(transfer, of_disks=channel.urgency is Urgency.DISK)
            desk.domain.sent += transfer
            await self.link.send(Kind.DATA, channel.number, coded.pieces)
            crossed = time.perf_counter() - began - coding_seconds
            waited = departure.takes_seconds(transfer, crossed)
            new_bytes = transfer.new_pages * PAGE_BYTES + transfer.other_bytes
            if channel.urgency is not Urgency.WARMING or not self._has_migrations():
                self._pace.sent(transfer.raw_bytes, new_bytes, coding_seconds, waited)
            if 2 * new_bytes >= min(transfer.raw_bytes, most_new_bytes):
                self._rate.sent(transfer.wire_bytes, coding_seconds, crossed)
                self.link.keep_short(self._rate.bytes_per_second)
                self._pace.keep_to(self._rate.bytes_per_second)
            return coded

    def _tell_forgotten(self, departure: Departure) -> None:
        if self.link.lost is not None:  # the next one tells
            return
        if (first := departure.desk.domain.news_of_forgotten()) is not None:
            self.link.say_amount(Kind.FORGET, departure.domain_number, first)

    @asynccontextmanager
    async def _turn(self, channel: Channel) -> AsyncIterator[None]:
        """Wait until a piece may be sent, and have the link to itself while the context lasts."""
        departure = channel.departure

        def urgency() -> Urgency:
            return Urgency.STOPPED if departure.stopped else channel.urgency

        while True:
            await departure.standstill.until_others_are_sent(departure.number)
            async with departure.passage(), self.link.turns.turn(urgency):
                if departure.standstill.may_send(departure.number):
                    yield
                    return

    def _has_migrations(self) -> bool:
        """Say whether hypervisors are sending: they aren't slowed by what memory sent ahead is kept to."""
        return any(each.urgency is not Urgency.WARMING for each in self._channels.values())

    async def _give_back(self, channel: Channel, connection: socket.socket) -> None:
        while (data := await channel.returned.get()) is not None:
            with suppress(BrokenPipeError):  # the hypervisor has heard enough
                await send_all(connection, data)
            channel.returned_bytes -= len(data)
        shut_writing(connection)

    def _break_off(self, number: int, why: str) -> None:
        channel = self._channels.get(number)
        if channel is None:
            return
        departure = channel.departure
        if departure.broken is None:
            departure.broken = why
            log.warning("migration_broken_off", vm=departure.vm, peer=self.link.peer, why=why)
        self.link.say(Kind.RESET, number)
        channel.broken = True
        self._close_channel(number)
        if channel.carrier is not None and channel.carrier is not asyncio.current_task():
            channel.carrier.cancel()

    def _close_channel(self, number: int) -> None:
        channel = self._channels.pop(number, None)
        if channel is not None:
            departure = channel.departure
            departure.channels.discard(number)
            self._window.leave(channel.credit)
            channel.credit.give(WINDOW_BYTES)  # who waits for some finds out
            if not departure.channels:
                departure.goes_on()
            if channel.connection is not None:  # whoever carries it may still be reading
                break_off(channel.connection)

    def _end(self, why: str) -> None:
        self.link.end(why)
        for number in list(self._channels):
            self._break_off(number, why)
        self._questions.end(why)

    # --- what the peer says ----------------------------------------------------------------------

    async def _heard(self, message: Message) -> None:
        number = message.number
        channel = self._channels.get(number)
        match message.kind:
            case Kind.ADMITTED | Kind.REFUSED | Kind.KNOWN | Kind.DIGESTS:
                self._questions.take(message)
            case Kind.CREDIT if channel is not None:
                channel.credit.give(message.amount)
            case Kind.BACK if channel is not None:
                self._returned(number, channel, message.content)
            case Kind.BACK_END if channel is not None:
                channel.returned.put_nowait(None)
            case Kind.RESET if channel is not None:
                self._break_off(number, f"{self.link.peer} broke it off")
            case Kind.FORGOTTEN:
                self._domains.let_go(self.link.peer, message.words)
            case Kind.ROOM:
                self._has_room(message)
            case Kind.PING:
                self.link.say(Kind.PONG, 0)
            case Kind.PONG | Kind.CREDIT | Kind.BACK | Kind.BACK_END | Kind.RESET:
                pass  # of a channel that has ended meanwhile
            case kind:
                raise ProtocolError(f"{kind.name} isn't for a source to hear")

    def _returned(self, number: int, channel: Channel, content: bytes) -> None:
        channel.returned_bytes += len(content)
        if channel.returned_bytes > MOST_RETURNED_BYTES:
            self._break_off(number, "more comes back than its hypervisor takes")
        else:
            channel.returned.put_nowait(content)

    def _has_room(self, message: Message) -> None:
        """Have the peer keep what it has room for."""
        match message.words:
            case {"tenant": str(tenant), "most_bytes": int(most)} if tenant in self._opened:
                self._domains.desk(self.link.peer, tenant).domain.have_kept(most)


class Warming:
    """Pages that are sent to a destination's store before anybody needs them."""

    def __init__(self, departures: Departures, channel: Channel) -> None:
        self._departures, self._channel = departures, channel
        departure = channel.departure
        self._stream = Stream(owner=departure.desk.domain.owner(departure.vm))
        self.stride = Stride(partial(departure.most_piece_bytes, departures._pace))

    def end(self) -> None:
        """Say that nothing more comes."""
        departures, number = self._departures, self._channel.number
        if number in departures._channels:
            departures._close_channel(number)
            self._channel.departure.ended.add(number)
            departures._say_ends(self._channel.departure)

    async def send(self, split: Split) -> None:
        """Send pages, when nothing more urgent is to be sent.

        Raises:
            LinkLost: the link is no more, or the peer wants none of it.
        """
        departures, channel = self._departures, self._channel
        departure = channel.departure
        if departure.broken is not None:
            raise LinkLost(departure.broken)
        loop = asyncio.get_running_loop()
        prepared = await loop.run_in_executor(departures._workers, prepare, self._stream, split)
        if channel.number not in departures._channels:
            raise LinkLost(departure.broken or "the store was closed")
        await channel.credit.take(len(split.raw))
        self.stride.went_by(await departures._send(channel, prepared))


def _look_at(sending: asyncio.Future[_Coded]) -> None:
    """Take notice of how a part's sending ended, though whoever sent it may be gone."""
    if not sending.cancelled():
        sending.exception()


def _encode(desk: Desk, prepared: Prepared, level: int | None, most_new_bytes: int) -> _Coded:
    began = time.thread_time()
    sender = desk.domain.sender
    desk.domain.forget_surplus()
    part, rest = sender.first_part(prepared, most_new_bytes)
    pieces, transfer = sender.encode(part, level=level)
    spent = Transfer(cpu_seconds=time.thread_time() - began)
    return _Coded(pieces=pieces, transfer=transfer + spent, rest=rest)


def _tell_opaque(departure: Departure, splitter: Splitter) -> None:
    understanding = splitter.understanding
    if understanding.opaque_from is not None and not understanding.pages:
        log.warning(
            "stream_not_understood",
            vm=departure.vm,
            why=understanding.why_opaque,
            hint="it is carried unchanged, without deduplication",
        )
