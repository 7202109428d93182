"""One connection between two gateways: messages in order, back-pressure, and whether anybody is still there.

Owns the socket. As little as possible waits in it unsent: a hypervisor takes what it could write for sent, and
reckons the pause of its guest from that.
"""

import asyncio
import json
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from transhume.execute.migration.gateway.messages import (
    AMOUNT,
    HEADER,
    Kind,
    Message,
    ProtocolError,
    header,
    parse_header,
)
from transhume.execute.migration.gateway.turns import Turns

UNSENT_BYTES, LEAST_UNSENT_BYTES = 128 << 10, 16 << 10
UNSENT_SECONDS = 0.025
"""On slow links less waits: so much as is sent in this time."""
SILENCE_SECONDS = 20.0
"""After so long without a word from the other end, it's taken for gone."""
_PING_SECONDS = 3.0
_MOST_UNREAD_BYTES = 64 << 20
"""What may wait for a peer that doesn't read; an honest one never leaves so much."""
_TCP_USER_TIMEOUT, _TCP_NOTSENT_LOWAT = 18, 25


class LinkLost(Exception):
    """The other gateway can't be reached any more."""


class Link:
    """An open connection to a peer's gateway.

    Args:
        peer: its site, as its certificate says.
        reader, writer: the two halves of the connection.
        silence_seconds: after so long without a word, the peer is taken for gone.
    """

    def __init__(
        self,
        peer: str,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.peer = peer
        self.turns = Turns()
        self.sent_bytes = 0
        self.received_bytes = 0
        self._reader, self._writer = reader, writer
        self._silence_seconds = silence_seconds
        self._ping_seconds = min(_PING_SECONDS, silence_seconds / 4)
        self._heard = time.monotonic()
        """When the last bytes came, or when somebody began to listen."""
        self._listens = False
        self._lost: str | None = None
        self._unsent_bytes = 0
        _send_at_once(writer)
        _give_up_after(writer, silence_seconds)
        self.keep_short(None)

    @property
    def lost(self) -> str | None:
        """Why the link is no more; None while it is."""
        return self._lost

    def keep_short(self, bytes_per_second: float | None) -> None:
        """Let no more wait unsent than goes by in a moment; None: nobody knows what the link carries."""
        rate = UNSENT_BYTES / UNSENT_SECONDS if bytes_per_second is None else bytes_per_second
        wanted = min(UNSENT_BYTES, max(LEAST_UNSENT_BYTES, int(rate * UNSENT_SECONDS)))
        if 0.7 * self._unsent_bytes <= wanted <= 1.4 * self._unsent_bytes:
            return
        self._unsent_bytes = wanted
        self._writer.transport.set_write_buffer_limits(high=wanted, low=wanted // 4)
        if (connection := _tcp(self._writer)) is not None:
            with suppress(OSError):  # the connection has just gone
                connection.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, wanted)

    def say(self, kind: Kind, number: int, content: bytes = b"") -> None:
        """Send a short message, without waiting."""
        self._write([header(kind, number, len(content)), content])

    def say_words(self, kind: Kind, number: int, words: Mapping[str, Any]) -> None:
        """Send a message of JSON."""
        self.say(kind, number, json.dumps(words).encode())

    def say_amount(self, kind: Kind, number: int, amount: int) -> None:
        """Send a message that is a number."""
        self.say(kind, number, AMOUNT.pack(amount))

    async def send(self, kind: Kind, number: int, pieces: list[bytes | memoryview]) -> None:
        """Send a long message, and wait until most of what was to be sent is on its way.

        Raises:
            LinkLost: the link is no more.
        """
        self._write([header(kind, number, sum(map(len, pieces))), *pieces])
        await self.drained()

    async def drained(self) -> None:
        """Wait until most of what was said is on its way.

        Raises:
            LinkLost: the link is no more.
        """
        try:
            await self._writer.drain()
        except OSError as error:
            raise LinkLost(str(error)) from error
        if self._lost is not None:
            raise LinkLost(self._lost)

    async def receive(self) -> Message:
        """Return the next message.

        Raises:
            LinkLost: there will be none.
            ProtocolError: it makes no sense.
        """
        self._heard, self._listens = time.monotonic(), True
        try:
            kind, number, length = parse_header(await self._read(HEADER.size))
            content = await self._read(length)
        except OSError as error:
            raise LinkLost(self._lost or str(error)) from error
        finally:
            self._listens = False
        if self._lost is not None:  # what came before it was ended counts no more
            raise LinkLost(self._lost)
        self.received_bytes += HEADER.size + length
        return Message(kind, number, content)

    async def _read(self, count: int) -> bytes:
        """Return so many bytes; each that comes is a sign of life."""
        pieces = []
        while count:
            piece = await self._reader.read(count)
            if not piece:
                raise ConnectionResetError("the connection was ended")
            self._heard = time.monotonic()
            count -= len(piece)
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def watch(self) -> None:
        """Ask now and then whether the other end is there; end the link when it has been silent for long.

        While nobody listens here, because what was said takes long, the other end can't be heard; it hears us.
        """
        while self._lost is None:
            await asyncio.sleep(self._ping_seconds)
            silence = time.monotonic() - self._heard
            if self._listens and silence > self._silence_seconds:
                self.end(f"{self.peer} has said nothing for {silence:.0f} s")
            elif silence > self._ping_seconds:
                self.say(Kind.PING, 0)

    def end(self, why: str) -> None:
        """End the link at once."""
        if self._lost is None:
            self._lost = why
            self._writer.transport.abort()

    async def closed(self) -> None:
        """Wait until the socket is gone."""
        with suppress(OSError):
            await self._writer.wait_closed()

    def _write(self, pieces: list[bytes | memoryview]) -> None:
        if self._lost is None:
            joined = b"".join(pieces)
            self.sent_bytes += len(joined)
            self._writer.write(joined)
            if self._writer.transport.get_write_buffer_size() > _MOST_UNREAD_BYTES:
                self.end(f"{self.peer} doesn't read what it is told")


def _send_at_once(writer: asyncio.StreamWriter) -> None:
    if (connection := _tcp(writer)) is not None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _give_up_after(writer: asyncio.StreamWriter, seconds: float) -> None:
    """Have the kernel end the connection when what was sent is taken by nobody for so long."""
    if (connection := _tcp(writer)) is not None:
        connection.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(seconds * 1000))


def _tcp(writer: asyncio.StreamWriter) -> Any:
    """Return the socket where it is TCP's; tests have others."""
    connection = writer.get_extra_info("socket")
    if connection is None or connection.family not in (socket.AF_INET, socket.AF_INET6):
        return None
    return connection


__all__ = ["SILENCE_SECONDS", "Link", "LinkLost", "ProtocolError"]
