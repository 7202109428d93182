"""Unix sockets to and from hypervisors: long paths, readiness, and reads of much at once.

A hypervisor writes little by little, and a socket of this kind holds a tenth of what is worth encoding at once.
So whoever reads much of it does that in a thread, where the kernel may wait for the rest.
"""

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import structlog

CONNECT_SECONDS = 10.0
_RETRY_SECONDS = 0.05
_SHORT_OF = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SHORT_SECONDS = 1.0
_FLOW_BYTES = 32 << 10
"""Who has so much ready will have more at once: it is a hypervisor's whole buffer."""
_FLOW_MICROSECONDS = 4000
"""How long that is waited for in all."""

log = structlog.get_logger()


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


def is_listening(path: Path) -> bool:
    """Say whether somebody takes connections at a path: a socket is there a moment before that."""
    with socket.socket(socket.AF_UNIX) as probe, short_path(path) as name:
        return probe.connect_ex(name) == 0


async def accept(listener: socket.socket) -> socket.socket:
    """Wait for the next connection."""
    while True:
        await readable(listener)
        try:
            connection, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):  # it has gone again
            continue
        except OSError as error:
            if error.errno not in _SHORT_OF:
                raise
            log.error("connection_waits", why=str(error), hint="raise the limit of open files")
            await asyncio.sleep(_SHORT_SECONDS)
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


def wait_for_flows(connection: socket.socket) -> None:
    """Prepare a connection for `read_flow`; from then on, whoever writes to it does so by `send_all`."""
    timeval = struct.pack("@ll", 0, _FLOW_MICROSECONDS)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
    os.set_blocking(connection.fileno(), True)


def read_flow(connection: socket.socket, buffer: memoryview) -> memoryview:
    """Fill a buffer with what there is to read; of a flow, also with what comes within moments. For a thread.

    Returns the part that was filled; nothing at the end of the stream.

    Raises:
        OSError: there is nothing to read, or the connection was broken off.
    """
    count = connection.recv_into(buffer, flags=socket.MSG_DONTWAIT)
    if _FLOW_BYTES <= count < len(buffer):
        with suppress(BlockingIOError):
            count += connection.recv_into(buffer[count:], flags=socket.MSG_WAITALL)
    return buffer[:count]


async def send_all(connection: socket.socket, data: bytes) -> None:
    """Send everything, and let others work meanwhile, whether the connection blocks or not.

    Raises:
        OSError: the connection was broken off.
    """
    loop = asyncio.get_running_loop()
    left = memoryview(data)
    while left:
        try:
            left = left[connection.send(left, socket.MSG_DONTWAIT) :]
        except BlockingIOError:
            ready: asyncio.Future[None] = loop.create_future()
            loop.add_writer(connection, _settle, ready)
            try:
                await ready
            finally:
                loop.remove_writer(connection)


def shut_writing(connection: socket.socket) -> None:
    """Tell the other side that nothing more comes."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def break_off(connection: socket.socket) -> None:
    """End both directions at once.

    Closing it is for whoever waits for it, or reads: until then its descriptor may be nobody else's.
    """
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _settle(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
