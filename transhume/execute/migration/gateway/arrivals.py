"""The receiving side of a link: migrations that come in, by ticket, each with its channels.

Frames are decoded in the order in which they come and checked before a hypervisor sees a byte of them. Each
channel is delivered by itself: one that waits holds up no other.
"""

import asyncio
import errno
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import structlog

from transhume.errors import Refused, UsageError
from transhume.execute.migration.coding.frame import MOST_RAW_BYTES, BadFrame
from transhume.execute.migration.coding.receiver import Arriving
from transhume.execute.migration.content.catalogue import ImageChanged
from transhume.execute.migration.content.digests import DIGEST_BYTES, Digest
from transhume.execute.migration.content.resident_pages import ResidentPages
from transhume.execute.migration.gateway.credit import WINDOW_BYTES
from transhume.execute.migration.gateway.departure import MOST_CHANNELS
from transhume.execute.migration.gateway.domain import Domain
from transhume.execute.migration.gateway.domains import Desk, Domains
from transhume.execute.migration.gateway.link import Link, LinkLost
from transhume.execute.migration.gateway.messages import VERSION, Kind, Message, ProtocolError
from transhume.execute.migration.gateway.relays import Relays
from transhume.execute.migration.gateway.residents import Residents
from transhume.execute.migration.machine.sockets import readable, shut_writing
from transhume.execute.migration.trust.peers import Peer
from transhume.execute.migration.trust.tickets import Admission, Admissions
from transhume.knowledge.model import VmName

_BACK_BYTES = 64 << 10
_DIGESTS_AT_ONCE = 1 << 20

log = structlog.get_logger()


@dataclass(slots=True)
class _Arrival:
    admission: Admission
    connecting: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Hypervisors take the first connection for the main one: they are made in order."""
    received_bytes: int = 0
    channels: set[int] = field(default_factory=set)


@dataclass(slots=True)
class _Channel:
    arrival: _Arrival
    desk: Desk
    is_for_store: bool
    """Whether no hypervisor takes what comes, but the store only."""
    stream: Arriving = field(default_factory=Arriving)
    queue: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    undelivered_bytes: int = 0
    task: "asyncio.Task[None] | None" = None
    broken: bool = False
    """Nobody takes its bytes any more; what still comes is decoded, for the frames after it, until the source
    closes the migration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivingSite:
    """What a gateway has that receives."""

    domains: Domains
    admissions: Admissions
    residents: Residents
    relays: Relays
    way_back: Callable[[str, str, int], bool]
    """Tells a peer that a tenant's log is forgotten below a position, after all that was sent to it; False
    where nothing is."""


class Arrivals:
    """Everything that comes in over one link.

    Args:
        link: open.
        peer: whose gateway is at its other end.
        site: what is received on behalf of.
    """

    def __init__(self, link: Link, peer: Peer, site: ReceivingSite) -> None:
        self.link = link
        self._peer = peer
        self._site = site
        self._tenants: set[str] = set()
        """Whose tickets were taken on this link."""
        self._desks: dict[int, Desk] = {}
        self._residents: dict[int, ResidentPages] = {}
        """What was listed for the peer of VMs here, by its number of the domain; it stays what it was."""
        self._arrivals: dict[int, _Arrival] = {}
        self._channels: dict[int, _Channel] = {}

    async def run(self) -> None:
        """Take what the peer sends until the link is lost, then break everything off."""
        watching = asyncio.create_task(self.link.watch(), name=f"watch {self.link.peer}")
        try:
            while True:
                await self._heard(await self.link.receive())
                await self.link.drained()
        except LinkLost as error:
            self.link.end(str(error))
        except (ProtocolError, BadFrame, OSError) as error:  # of ours: no room to keep pages
            log.error("link_ended", peer=self.link.peer, why=str(error))
            self.link.end(str(error))
        except Exception:  # the link ends, and nothing else
            log.exception("link_failed", peer=self.link.peer)
        finally:
            watching.cancel()
            self.link.end("the gateway stops")
            for number in list(self._channels):
                self._break_off(number, self.link.lost or "")
            for desk in self._desks.values():
                if desk.domain.comes_by is self.link:
                    desk.decoder.submit(desk.domain.stop_receiving)

    async def _heard(self, message: Message) -> None:
        number = message.number
        match message.kind:
            case Kind.DATA:
                await self._data(number, message.content)
            case Kind.END:
                if (channel := self._channels.get(number)) is not None:
                    channel.queue.put_nowait(None)
            case Kind.REQUEST:
                self._request(message)
            case Kind.DOMAIN:
                await self._domain(message)
            case Kind.OPEN:
                self._open(message)
            case Kind.WANT:
                self._want(message)
            case Kind.FORGET:
                await self._forget(message)
            case Kind.FORGOTTEN:
                self._site.domains.let_go(self.link.peer, message.words)
            case Kind.RESET:
                self._break_off(number, f"{self.link.peer} broke it off", tell=False)
            case Kind.CLOSE:
                self._close(number)
            case Kind.PING:
                self.link.say(Kind.PONG, 0)
            case Kind.PONG:
                pass
            case kind:
                raise ProtocolError(f"{kind.name} isn't for a destination to hear")

    # --- admission and agreement -----------------------------------------------------------------

    def _request(self, message: Message) -> None:
        words = message.words
        if words.get("version") != VERSION:
            raise ProtocolError(f"it speaks version {words.get('version')}, and this is {VERSION}")
        try:
            token = bytes.fromhex(str(words.get("ticket")))
        except ValueError:
            token = b""
        vm = VmName(str(words.get("vm")))
        uuid = words.get("uuid")
        try:
            admission = self._site.admissions.redeem(
                token, peer=self._peer, vm=vm, vm_uuid=str(uuid) if uuid else None
            )
        except Refused as refused:
            reason = {"reason": str(refused.reason), "why": refused.seen}
            self.link.say_words(Kind.REFUSED, message.number, reason)
            return
        if message.number in self._arrivals:
            raise ProtocolError("a migration's number is used twice")
        self._tenants.add(admission.tenant)
        self._arrivals[message.number] = _Arrival(admission)
        self.link.say_words(Kind.ADMITTED, message.number, {})

    async def _domain(self, message: Message) -> None:
        tenant = str(message.words.get("tenant"))
        if tenant not in self._tenants:
            log.warning("probe_refused", peer=self.link.peer, tenant=tenant[:200])
            raise ProtocolError(f"no ticket was shown for tenant {tenant[:200]}")
        desk = self._site.domains.desk(self.link.peer, tenant)
        self._take_over(desk)
        desk.domain.catalogues = self._site.domains.catalogues_for(tenant)
        loop = asyncio.get_running_loop()
        residents = self._site.residents.of(tenant)
        answer = await loop.run_in_executor(
            desk.decoder, desk.domain.answer, message.words, residents
        )
        await loop.run_in_executor(desk.coder, desk.domain.drop_stale)
        self._desks[message.number] = desk
        if residents is not None:
            self._residents[message.number] = residents
        self.link.say_words(Kind.KNOWN, message.number, answer)
        if answer["first"]:  # which may have been forgotten with no link to say so
            self._let_go(desk.domain, answer["first"])

    def _take_over(self, desk: Desk) -> None:
        """End an older link, which the peer has given up: two can't both go on with one log."""
        older, desk.domain.comes_by = desk.domain.comes_by, self.link
        if older is not None and older is not self.link:
            older.end(f"{self.link.peer} has a newer link")

    def _want(self, message: Message) -> None:
        match message.words:
            case {"domain": int(number), "catalogue": int(index), "from": int(start)} if (
                number in self._desks
                and 0 <= index < len(self._desks[number].domain.catalogues)
                and start >= 0
            ):
                self._list(
                    message.number, self._desks[number].domain.catalogues[index].digests, start
                )
            case {"domain": int(number), "residents": int(start)} if (
                number in self._residents and start >= 0
            ):
                self._list(message.number, self._residents[number].digests, start)
            case _:
                raise ProtocolError("it wants a catalogue that there isn't")

    def _list(self, question: int, digests: Sequence[Digest], start: int) -> None:
        some = digests[start : start + _DIGESTS_AT_ONCE // DIGEST_BYTES]
        self.link.say(Kind.DIGESTS, question, b"".join(some))

    async def _forget(self, message: Message) -> None:
        desk = self._desks.get(message.number)
        if desk is None:
            raise ProtocolError("it forgets what was never agreed on")
        below = message.amount
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(desk.decoder, desk.domain.forget_received, below)
        await loop.run_in_executor(desk.coder, desk.domain.refer_no_more, below)
        self._let_go(desk.domain, below)

    def _let_go(self, domain: Domain, below: int) -> None:
        """Tell the peer that nothing refers to what is below a position, behind all that may have done so."""
        if not self._site.way_back(self.link.peer, domain.tenant, below):
            self.link.say_words(Kind.FORGOTTEN, 0, {"tenant": domain.tenant, "below": below})

    # --- channels ------------------------------------------------------------------------------

    def _open(self, message: Message) -> None:
        match message.words:
            case {"migration": int(migration), "domain": int(domain), "socket": socket_number} if (
                migration in self._arrivals
                and domain in self._desks
                and message.number not in self._channels
            ):
                arrival, desk = self._arrivals[migration], self._desks[domain]
            case _:
                raise ProtocolError("a channel of no migration")
        if desk.domain.tenant != arrival.admission.tenant:
            raise ProtocolError("a channel in another tenant's domain")
        if len(arrival.channels) >= MOST_CHANNELS:
            raise ProtocolError("too many channels of a migration")
        channel = _Channel(arrival, desk, is_for_store=socket_number is None)
        self._channels[message.number] = channel
        arrival.channels.add(message.number)
        channel.task = asyncio.create_task(
            self._deliver(message.number, channel, self._socket(arrival, socket_number)),
            name=f"delivery to {arrival.admission.vm}",
        )

    @staticmethod
    def _socket(arrival: _Arrival, number: object) -> PurePosixPath | None:
        sockets = arrival.admission.sockets
        if number is None:
            return None
        if isinstance(number, int) and 0 <= number < len(sockets):
            return sockets[number]
        raise ProtocolError("a channel to a socket that wasn't admitted")

    async def _data(self, number: int, content: bytes) -> None:
        channel = self._channels.get(number)
        if channel is None:
            raise ProtocolError("a frame of no channel")
        loop = asyncio.get_running_loop()
        receiver = channel.desk.domain.receiver
        assert receiver is not None
        try:
            raw = await loop.run_in_executor(
                channel.desk.decoder, receiver.decode, channel.stream, content
            )
        except (BadFrame, OSError) as error:
            self._distrust(channel.desk.domain, error)
            await loop.run_in_executor(channel.desk.coder, channel.desk.domain.drop_stale)
            raise
        if channel.desk.domain.overfull:
            raise ProtocolError("it sends page after page and has none forgotten")
        self._tell_room(channel.desk.domain)
        channel.undelivered_bytes += len(raw)
        if channel.undelivered_bytes > WINDOW_BYTES + MOST_RAW_BYTES:
            raise ProtocolError("more was sent than there was credit for")
        if not channel.broken:
            # What is read ahead again and again, and known by then, brings nothing.
            brought_bytes = len(content if channel.is_for_store else raw)
            self._take(number, channel, raw, brought_bytes)

    def _distrust(self, domain: Domain, error: BadFrame | OSError) -> None:
        """Forget what may have been at fault here, or every frame that refers to it would fail again."""
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return
        if isinstance(error.__cause__, ImageChanged):
            self._site.domains.distrust(error.__cause__.path)
        elif domain.comes_by is self.link:
            domain.forget_peer()
            self._site.residents.forget(domain.tenant)

    def _tell_room(self, domain: Domain) -> None:
        if domain.comes_by is self.link and (room_bytes := domain.news_of_room()) is not None:
            room = {"tenant": domain.tenant, "most_bytes": room_bytes}
            self.link.say_words(Kind.ROOM, 0, room)

    def _take(self, number: int, channel: _Channel, raw: bytes, brought_bytes: int) -> None:
        arrival = channel.arrival
        arrival.received_bytes += brought_bytes
        if arrival.received_bytes > arrival.admission.most_bytes:
            self._break_off(number, f"more than the {arrival.admission.most_bytes} bytes admitted")
        else:
            channel.queue.put_nowait(raw)

    async def _deliver(self, number: int, channel: _Channel, path: PurePosixPath | None) -> None:
        if path is None:
            await self._keep(number, channel)
            return
        try:
            async with channel.arrival.connecting:
                hypervisors = self._site.relays.at(channel.arrival.admission.host)
                connection = await hypervisors.connect(path)
        except (OSError, UsageError) as error:
            self._break_off(number, f"{path}: {error}")
            return
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._forth(number, channel, connection))
                tasks.create_task(self._back(number, connection))
            self._end_channel(number)
        except* (OSError, LinkLost) as errors:
            self._break_off(number, str(errors.exceptions[0]))
        finally:
            connection.close()

    async def _keep(self, number: int, channel: _Channel) -> None:
        """Take what is only for the store, which has it by now."""
        while (raw := await channel.queue.get()) is not None:
            self._delivered(number, channel, len(raw))
        self._end_channel(number)

    async def _forth(self, number: int, channel: _Channel, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while (raw := await channel.queue.get()) is not None:
            await loop.sock_sendall(connection, raw)
            self._delivered(number, channel, len(raw))
        shut_writing(connection)

    async def _back(self, number: int, connection: socket.socket) -> None:
        while True:
            await readable(connection)
            data = connection.recv(_BACK_BYTES)
            if not data:
                break
            await self.link.send(Kind.BACK, number, [data])
        self.link.say(Kind.BACK_END, number)

    def _delivered(self, number: int, channel: _Channel, count: int) -> None:
        channel.undelivered_bytes -= count
        self.link.say_amount(Kind.CREDIT, number, count)

    def _break_off(self, number: int, why: str, *, tell: bool = True) -> None:
        channel = self._channels.get(number)
        if channel is None or channel.broken:
            return
        channel.broken = True
        log.warning(
            "arrival_broken_off", vm=channel.arrival.admission.vm, peer=self.link.peer, why=why
        )
        if tell:
            self.link.say(Kind.RESET, number)
        channel.queue = asyncio.Queue()
        if channel.task is not None:
            channel.task.cancel()

    def _end_channel(self, number: int) -> None:
        channel = self._channels.pop(number, None)
        if channel is not None:
            channel.arrival.channels.discard(number)

    def _close(self, number: int) -> None:
        arrival = self._arrivals.pop(number, None)
        if arrival is not None:
            for channel in list(arrival.channels):
                self._break_off(channel, "its migration was closed", tell=False)
                self._end_channel(channel)
