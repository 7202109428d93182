"""What a relay and its gateway say to each other.

The relay calls, over TLS, with a host's certificate. Each connection begins with one line of JSON:

    {"relay": VERSION}                   the gateway's orders come on this one, until it ends
    {"migration": …, "socket": n}        a hypervisor came to one of a migration's sockets; its bytes follow
    {"call": n}                          what the gateway asked for in an order; bytes follow

Orders and answers are lines of JSON; an order that leads to a connection is answered by that, or by an error:

    {"call": n, "do": "listen", "migration": …}          {"call": n, "do": "close", "migration": …}
    {"call": n, "do": "connect", "path": …}              {"call": n, "do": "running"}
    {"call": n, "do": "look_for", "vm": …, "part": …}    {"call": n, "do": "read", "vm": …, "part": …}

    {"call": n, "ok": …}                                 {"call": n, "error": …}

A gateway that doesn't want a relay says {"error": …}, and hangs up.

Bytes come in frames: a length of four bytes, and so many. One of no length is the end in its direction; a
connection that ends without one was broken off. Whoever has heard the end says so, by a length of all ones:
before that nobody closes who has said it, because closing TLS drops what hasn't left yet.
"""

import asyncio
import json
import socket
from contextlib import suppress
from struct import Struct
from typing import Any

VERSION = 1
MOST_LINE_BYTES = 64 << 10
MOST_FRAME_BYTES = 8 << 20
_LENGTH = Struct(">I")
_HEARD = 0xFFFFFFFF
_WAITING_BYTES = 256 << 10
"""What may be under way in a socket: hypervisors take what they could write for sent."""
_IDLE_SECONDS, _PROBES = 5, 3
"""After so long without a word the kernel asks whether the other end is there, so often."""

Words = dict[str, Any]


class BrokenOff(Exception):
    """The other end has gone in the middle of something, or says what makes no sense."""


async def read_words(reader: asyncio.StreamReader) -> Words | None:
    """Return the next line's object; None at the end.

    Raises:
        BrokenOff: there is no whole line, or something else in it.
    """
    try:
        line = await reader.readline()
        words = json.loads(line) if line else None
    # ValueError: a line without end, or no JSON; RecursionError: JSON that nests too deep
    except (OSError, ValueError, RecursionError) as error:
        raise BrokenOff(str(error)) from error
    if words is not None and not isinstance(words, dict):
        raise BrokenOff("what was said is no object")
    return words


def say(writer: asyncio.StreamWriter, words: Words) -> None:
    """Send a line."""
    writer.write(json.dumps(words).encode() + b"\n")


async def read_frame(reader: asyncio.StreamReader) -> bytes | None:
    """Return a frame's bytes; nothing at the end, and None where the other end has heard ours.

    Raises:
        BrokenOff: the other end has gone, or has lost its way.
    """
    try:
        (length,) = _LENGTH.unpack(await reader.readexactly(_LENGTH.size))
        if length == _HEARD:
            return None
        if length > MOST_FRAME_BYTES:
            raise BrokenOff(f"a frame of {length} bytes")
        return await reader.readexactly(length)
    except (OSError, asyncio.IncompleteReadError) as error:
        raise BrokenOff(str(error)) from error


async def send_frame(writer: asyncio.StreamWriter, content: bytes | memoryview) -> None:
    """Send a frame; an empty one is the end.

    Raises:
        BrokenOff: the other end has gone.
    """
    writer.write(_LENGTH.pack(len(content)))
    writer.write(content)
    try:
        await writer.drain()
    except OSError as error:
        raise BrokenOff(str(error)) from error


def say_heard(writer: asyncio.StreamWriter) -> None:
    """Tell the other end that its end has come."""
    writer.write(_LENGTH.pack(_HEARD))


def make_ready(writer: asyncio.StreamWriter) -> None:
    """Have a connection keep little, send at once, and notice when nobody is at the other end any more."""
    connection = writer.get_extra_info("socket")
    for level, option, value in (
        (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
        (socket.SOL_SOCKET, socket.SO_SNDBUF, _WAITING_BYTES),
        (socket.SOL_SOCKET, socket.SO_RCVBUF, _WAITING_BYTES),
        (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _IDLE_SECONDS),
        (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _IDLE_SECONDS),
        (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
    ):
        with suppress(OSError):  # it has just gone
            connection.setsockopt(level, option, value)
    writer.transport.set_write_buffer_limits(high=_WAITING_BYTES, low=_WAITING_BYTES // 4)


def notice_silence(writer: asyncio.StreamWriter) -> None:
    """Have the connection of the orders, which is read at once, end as soon as nobody takes what is said.

    Those that carry bytes end with it: on them, who takes nothing may only be slow.
    """
    milliseconds = _IDLE_SECONDS * (1 + _PROBES) * 1000
    with suppress(OSError):  # it has just gone
        writer.get_extra_info("socket").setsockopt(
            socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds
        )
