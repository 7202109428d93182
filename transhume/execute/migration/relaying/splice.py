"""Carries bytes both ways between a local connection and one that is framed, each direction to its own end."""

import asyncio
import socket
from dataclasses import dataclass, field

from transhume.execute.migration.machine.sockets import shut_writing
from transhume.execute.migration.relaying.protocol import (
    BrokenOff,
    read_frame,
    say_heard,
    send_frame,
)

_PIECE_BYTES = 128 << 10
_LOOK_SECONDS = 0.05
"""Between two looks at whether who has said all still listens: no event tells."""


@dataclass(frozen=True, slots=True)
class _Ends:
    """What has happened of the two ends."""

    taken: asyncio.Event = field(default_factory=asyncio.Event)
    """Ours has been said, and heard at the other end."""
    heard: asyncio.Event = field(default_factory=asyncio.Event)
    """The other end's has been heard."""


async def splice(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connection: socket.socket,
    *,
    ends_by_closing: bool = False,
) -> None:
    """Carry bytes until both directions have ended, or either end breaks off; then so does the other.

    Both connections are closed afterwards.

    Args:
        reader, writer: the framed one.
        connection: the local one.
        ends_by_closing: whether who closes the local one altogether has said all, as hypervisors do, rather
            than broken it off.
    """
    ends = _Ends()
    outward = _outward(connection, writer, ends, ends_by_closing=ends_by_closing)
    inward = _inward(reader, writer, connection, ends, ends_by_closing=ends_by_closing)
    tasks = [asyncio.ensure_future(each) for each in (outward, inward)]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in tasks:
            each.cancel()
        try:
            await asyncio.gather(*tasks, return_exceptions=True)
        finally:
            connection.close()
            writer.close()


async def _outward(
    connection: socket.socket,
    writer: asyncio.StreamWriter,
    ends: _Ends,
    *,
    ends_by_closing: bool,
) -> None:
    """Send what the local end says; return when both directions have ended, fail when it breaks off."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_PIECE_BYTES))
    while count := await loop.sock_recv_into(connection, buffer):
        await send_frame(writer, bytes(buffer[:count]))
    if not ends_by_closing and not ends.heard.is_set():
        _see_that_it_is_open(connection)
    await send_frame(writer, b"")
    if ends_by_closing:
        await ends.taken.wait()
    while not ends.heard.is_set():
        _see_that_it_is_open(connection)
        await asyncio.sleep(_LOOK_SECONDS)
    await ends.taken.wait()


async def _inward(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    connection: socket.socket,
    ends: _Ends,
    *,
    ends_by_closing: bool,
) -> None:
    """Give the local end what comes; fail when nobody is at the other end."""
    loop = asyncio.get_running_loop()
    while True:
        content = await read_frame(reader)
        if content is None:
            ends.taken.set()
        elif ends.heard.is_set():
            raise BrokenOff("something came after the end")
        elif not content:
            shut_writing(connection)
            say_heard(writer)
            ends.heard.set()
        else:
            try:
                await loop.sock_sendall(connection, content)
            except BrokenPipeError:
                if not ends_by_closing:
                    raise
                # It has heard enough; what it said still goes out.


def _see_that_it_is_open(connection: socket.socket) -> None:
    """Raise BrokenPipeError where the other end has closed both directions, as long as ours is open."""
    connection.send(b"")
