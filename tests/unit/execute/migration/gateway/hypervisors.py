"""Hypervisors that only send and receive, and tell a stream that was ended from one that was broken off."""

import asyncio
import select
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from tests.unit.execute.migration.gateway.two_sites import Site
from tests.unit.execute.migration.stream.stream_writing import PAGE, Multifd, Plain
from transhume.execute.migration.machine.sockets import connect, listen

_READ_BYTES = 1 << 18
PATIENCE_SECONDS = 60.0


def pages_of(seed: int, count: int) -> list[bytes]:
    """Return pages of which no two are alike."""
    random = Random(seed)
    return [random.randbytes(PAGE) for _ in range(count)]


def memory_stream(pages: Iterable[bytes]) -> bytes:
    """Return what a hypervisor sends for a guest with these pages."""
    stream = Plain()
    stream.head()
    stream.begin_memory()
    stream.section(2, 1)
    for index, content in enumerate(pages):
        stream.page(index % (64 << 8), content)
    stream.end_memory()
    stream.section(3, 1)
    stream.end_memory()
    stream.device()
    return stream.stream


def multifd_stream(pages: list[bytes]) -> bytes:
    """Return what a hypervisor sends on one of several channels."""
    stream = Multifd()
    stream.head()
    for at in range(0, len(pages), 128):
        stream.packet(b"".join(pages[at : at + 128]))
    return stream.stream


def is_broken(connection: socket.socket) -> bool:
    """Say whether the other side has gone altogether, rather than only stopped to send."""
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return any(events & (select.POLLHUP | select.POLLERR) for _, events in poll.poll(0))


@dataclass(slots=True)
class Stream:
    """One connection of a hypervisor: what came, and how it ended."""

    connection: socket.socket
    content: bytearray = field(default_factory=bytearray)
    complete: bool = False
    """Ended by whoever sent, who can still be spoken to."""

    async def send(self, content: bytes, *, end: bool = True) -> None:
        """Send all of it, and an end; whatever breaks is what `receive` tells of."""
        loop = asyncio.get_running_loop()
        try:
            await loop.sock_sendall(self.connection, content)
            if end:
                self.connection.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    async def receive(self) -> "Stream":
        """Take what comes until the end, and note which end that was."""
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self.connection, _READ_BYTES):
                self.content += data
            self.complete = not is_broken(self.connection)
        except OSError:
            pass
        return self

    async def receive_exactly(self, count: int) -> None:
        """Take so many bytes, and wait until they are there."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.content) < count:
                data = await loop.sock_recv(self.connection, count - len(self.content))
                assert data, "it ended before"
                self.content += data

    async def wait_until_broken(self) -> None:
        """Return once the other side is gone altogether, without taking what comes."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_broken(self.connection):
                await asyncio.sleep(0.01)

    def close(self) -> None:
        """Go away, as a process that is killed does."""
        self.connection.close()


class Destination:
    """Listens where a destination's gateway connects to."""

    def __init__(self, site: Site, migration: str) -> None:
        self._listener = listen(site.folder / f"sockets/{migration}-ram")
        self.streams: list[Stream] = []

    async def accept(self) -> Stream:
        """Return the next connection."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            connection, _ = await loop.sock_accept(self._listener)
        connection.setblocking(False)
        self.streams.append(Stream(connection))
        return self.streams[-1]

    def close(self) -> None:
        """Go away."""
        self._listener.close()
        for stream in self.streams:
            stream.close()


async def connect_source(site: Site, migration: str, socket: str = "ram") -> Stream:
    """Connect as a source's hypervisor does."""
    path: Path = site.folder / f"sockets/{migration}-{socket}"
    return Stream(await connect(path))


async def migrate(
    source: Site, destination: Site, migration: str, content: bytes, answer: bytes = b"ready"
) -> tuple[Stream, Stream]:
    """Migrate until it's over, whichever way; return both hypervisors' ends of it."""
    receiving = Destination(destination, migration)
    ours = await connect_source(source, migration)
    sending = asyncio.create_task(ours.send(content))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            theirs = await receiving.accept()
            await theirs.receive()
            if theirs.complete:
                await theirs.send(answer)
            else:
                theirs.close()
            await ours.receive()
            await sending
    finally:
        sending.cancel()
        ours.close()
        receiving.close()
    return ours, theirs


def assert_arrived(ends: tuple[Stream, Stream], content: bytes, answer: bytes = b"ready") -> None:
    """See that all came, byte for byte, that it was ended, and that the answer came back."""
    ours, theirs = ends
    assert theirs.content == content
    assert theirs.complete
    assert ours.content == answer
