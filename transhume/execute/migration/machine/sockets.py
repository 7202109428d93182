"""Unix sockets to and from hypervisors: long paths, readiness, and reads that never lose a byte.

Reads happen in one piece once there is something, and are never cancelled half way, as asyncio's own may be.
"""

import asyncio
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

CONNECT_SECONDS = 10.0
_RETRY_SECONDS = 0.05
_NAP_SECONDS, _MOST_NAPS = 0.001, 4
"""A hypervisor writes little by little: so long, and so often, what was read waits for what comes next."""


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Give a name for a path that the kernel takes, however long the path is."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def listen(path: Path, mode: int = 0o600) -> socket.socket:
    """Listen at a path, which nothing may be at, with a mode that says who may connect."""
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.setblocking(False)
        with short_path(path) as name:
            listener.bind(name)
        path.chmod(mode)
        listener.listen(64)
    except OSError:
        listener.close()
        raise
    return listener


async def accept(listener: socket.socket) -> socket.socket:
    """Wait for the next connection."""
    while True:
        await readable(listener)
        try:
            connection, _ = listener.accept()
        except BlockingIOError:  # it has gone again
            continue
        connection.setblocking(False)
        return connection


async def connect(path: Path) -> socket.socket:
    """Connect to a hypervisor's socket, which may take a moment to be there.

    Raises:
        OSError: it doesn't come, or refuses.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + CONNECT_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX)
        connection.setblocking(False)
        try:
            with short_path(path) as name:
                await loop.sock_connect(connection, name)
            return connection
        except OSError:
            connection.close()
            if loop.time() > end:
                raise
        except BaseException:
            connection.close()
            raise
        await asyncio.sleep(_RETRY_SECONDS)


async def readable(connection: socket.socket, seconds: float | None = None) -> bool:
    """Wait until there is something to read, or the end of it; False where that takes too long."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, _settle, ready)
    try:
        await asyncio.wait({ready}, timeout=seconds)
        return ready.done()
    finally:
        loop.remove_reader(connection)


async def read_batch(connection: socket.socket, buffer: memoryview) -> memoryview:
    """Fill a buffer with what there is to read, and what comes within moments; return the part that was filled.

    Nothing comes at the end of the stream.

    Raises:
        OSError: the connection was broken off.
    """
    at, naps = 0, 0
    while at < len(buffer):
        try:
            count = connection.recv_into(buffer[at:])
        except BlockingIOError:
            if not at:
                await readable(connection)
            elif naps == _MOST_NAPS:
                break
            else:
                naps += 1
                await asyncio.sleep(_NAP_SECONDS)
                if not _has_more(connection):
                    break
            continue
        if count == 0:
            break
        at += count
    return buffer[:at]


def _has_more(connection: socket.socket) -> bool:
    """Say whether there is something to read now, or the end of it."""
    try:
        connection.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


def shut_writing(connection: socket.socket) -> None:
    """Tell the other side that nothing more comes."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
