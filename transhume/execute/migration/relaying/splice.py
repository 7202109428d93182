"""Carries bytes both ways between a local connection and one that is framed, each direction to its own end."""

import asyncio
import socket

from transhume.execute.migration.gateway.sockets import shut_writing
from transhume.execute.migration.relaying.protocol import BrokenOff, read_frame, send_frame

_PIECE_BYTES = 128 << 10
_LOOK_SECONDS = 0.05
"""Between two looks at whether who has said all still listens: no event tells."""


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
    said, heard = asyncio.Event(), asyncio.Event()
    outward = _outward(connection, writer, said, ends_by_closing=ends_by_closing)
    tasks = [asyncio.ensure_future(each) for each in (outward, _inward(reader, connection, heard))]
    ended = asyncio.gather(said.wait(), heard.wait())
    try:
        await asyncio.wait({*tasks, ended}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in (*tasks, ended):
            each.cancel()
        await asyncio.gather(*tasks, ended, return_exceptions=True)
        connection.close()
        writer.close()


async def _outward(
    connection: socket.socket,
    writer: asyncio.StreamWriter,
    said: asyncio.Event,
    *,
    ends_by_closing: bool,
) -> None:
    """Send what the local end says; return, or fail, when it's closed altogether."""
    loop = asyncio.get_running_loop()
    buffer = memoryview(bytearray(_PIECE_BYTES))
    while count := await loop.sock_recv_into(connection, buffer):
        await send_frame(writer, bytes(buffer[:count]))
    if not ends_by_closing:
        _see_that_it_is_open(connection)
    await send_frame(writer, b"")
    said.set()
    while True:
        _see_that_it_is_open(connection)
        await asyncio.sleep(_LOOK_SECONDS)


async def _inward(
    reader: asyncio.StreamReader, connection: socket.socket, heard: asyncio.Event
) -> None:
    """Give the local end what comes; return, or fail, when nobody is at the other end."""
    loop = asyncio.get_running_loop()
    while content := await read_frame(reader):
        await loop.sock_sendall(connection, content)
    shut_writing(connection)
    heard.set()
    if await reader.read(1):
        raise BrokenOff("something came after the end")


def _see_that_it_is_open(connection: socket.socket) -> None:
    """Raise BrokenPipeError where the other end hears nothing any more: it has closed both directions."""
    connection.send(b"")
