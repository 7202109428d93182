"""A site with a good certificate whose gateway says whatever a test wants it to."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex

from tests.unit.execute.migration.gateway.two_sites import LIFETIME, Site
from transhume.execute.migration.coding.frame import CHECK_BYTES, Frame, pack
from transhume.execute.migration.coding.prepared import Prepared, Stream, prepare
from transhume.execute.migration.coding.sender import Sender
from transhume.execute.migration.content.page_log import PageLog
from transhume.execute.migration.gateway.link import Link, LinkLost
from transhume.execute.migration.gateway.messages import VERSION, Kind, Message
from transhume.execute.migration.splitting import Split
from transhume.execute.migration.trust import Identity, Peer, PeerKind, load_authority
from transhume.execute.migration.trust.identity import load_identity

MIGRATION, DOMAIN, CHANNEL = 1, 2, 3


def identity_of(folder: Path, name: str) -> Identity:
    """Return an identity of the sites' own authority."""
    home = folder / f"identity-{name}"
    if not home.exists():
        load_authority(folder / "ca").issue(
            Peer(kind=PeerKind.SITE, name=name), home, lifetime=LIFETIME, now=datetime.now(UTC)
        )
    return load_identity(home, kind=PeerKind.SITE)


class Liar:
    """A source's end of a link, message by message."""

    def __init__(self, link: Link, folder: Path) -> None:
        self.link = link
        log = PageLog(folder / f"log-{token_hex(4)}", memory_bytes=64 << 20)
        self.sender = Sender(log, 1 << 40)
        self.stream = Stream(owner=0)

    def say(self, kind: Kind, number: int, content: bytes = b"") -> None:
        self.link.say(kind, number, content)

    async def ask(self, kind: Kind, number: int, **words: object) -> Message:
        """Say something and return what comes in answer, whatever it is."""
        self.say(kind, number, json.dumps(words).encode())
        while True:
            message = await self.link.receive()
            if message.kind not in (Kind.PING, Kind.CREDIT):
                return message

    async def admitted(
        self, site: Site, migration: str, *, vm: str = "liar", **words: object
    ) -> None:
        """Have an honest ticket, an agreed domain and an open channel to socket 0."""
        tenant = words.get("tenant", "t")
        ticket = await site.client.ask(
            "admit",
            migration=migration,
            vm=vm,
            source=str(words.pop("source", "x")),
            **{"tenant": tenant, **words},
        )
        answer = await self.request(vm, ticket["ticket"])
        assert answer.kind is Kind.ADMITTED
        known = await self.offer(str(tenant))
        assert known.kind is Kind.KNOWN

    async def request(self, vm: str, ticket: str) -> Message:
        return await self.ask(Kind.REQUEST, MIGRATION, version=VERSION, vm=vm, ticket=ticket)

    async def offer(self, tenant: str) -> Message:
        log = self.sender.log
        return await self.ask(
            Kind.DOMAIN, DOMAIN, tenant=tenant, log=log.name.hex(), first=0, next=log.next
        )

    def open(self, number: int = CHANNEL, **words: object) -> None:
        opened = {"migration": MIGRATION, "domain": DOMAIN, "socket": 0} | words
        self.say(Kind.OPEN, number, json.dumps(opened).encode())

    def prepared(self, split: Split) -> Prepared:
        return prepare(self.stream, split)

    def frame(self, split: Split) -> bytes:
        """Return an honest frame."""
        pieces, _ = self.sender.encode(self.prepared(split))
        return b"".join(pieces)

    def data(self, content: bytes, number: int = CHANNEL) -> None:
        self.say(Kind.DATA, number, content)

    async def ended(self) -> bool:
        """Wait until the other end has ended the link; False if it never does."""
        try:
            async with asyncio.timeout(10):
                while True:
                    await self.link.receive()
        except LinkLost:
            return True
        except TimeoutError:
            return False

    async def reset(self) -> bool:
        """Wait until the other end breaks the channel off; False if the link ends instead."""
        try:
            async with asyncio.timeout(10):
                while (await self.link.receive()).kind is not Kind.RESET:
                    pass
        except LinkLost:
            return False
        return True


def lying_frame(**changes: object) -> bytes:
    """Return a frame of 16 bytes that aren't pages, with parts replaced."""
    honest = Frame(
        raw_bytes=16, pages=0, new_pages=0, coding=3, check=bytes(CHECK_BYTES),
        skeleton=b"x" * 16, ops=b"", new=b"",
    )  # fmt: skip
    return b"".join(pack(replace(honest, **changes)))


@asynccontextmanager
async def liar(
    folder: Path, site: Site, name: str = "x", *, careful: bool = True
) -> AsyncIterator[Liar]:
    """Connect to a site's gateway with another site's certificate; unless careful, to whoever it is."""
    address = site.gateway.settings.listen
    context = identity_of(folder, name).client_context()
    if not careful:
        context.verify_mode = ssl.CERT_NONE
    reader, writer = await asyncio.open_connection(
        address.host, address.port, ssl=context, limit=1 << 20
    )
    link = Link(site.gateway.site, reader, writer)
    peer = Liar(link, folder)
    try:
        yield peer
    finally:
        peer.sender.log.close()
        link.end("over")
        await link.closed()
