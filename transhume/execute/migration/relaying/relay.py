"""A host's relay: does at its host what its site's gateway orders, and carries the bytes between them.

Nothing listens here for anybody but hypervisors: the relay calls its gateway, and calls again when it's gone.
When the gateway is gone, so are the sockets that it had asked for.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, aclosing, asynccontextmanager
from pathlib import Path, PurePosixPath

import structlog

from transhume.errors import Error, IdentityUnusable, PeerRefused, UsageError
from transhume.execute.migration.machine.guest_memory import NoGuestMemory
from transhume.execute.migration.machine.hypervisors import (
    SOCKETS,
    Doors,
    Here,
    Part,
    make_sockets_folder,
)
from transhume.execute.migration.relaying.configuration import RelaySettings
from transhume.execute.migration.relaying.protocol import (
    MOST_LINE_BYTES,
    VERSION,
    BrokenOff,
    Words,
    make_ready,
    notice_silence,
    read_words,
    say,
    send_frame,
)
from transhume.execute.migration.relaying.splice import splice
from transhume.execute.migration.trust.calling import call
from transhume.execute.migration.trust.ending import tell_of_end
from transhume.execute.migration.trust.identity import Identity, load_identity
from transhume.execute.migration.trust.peers import Peer, PeerKind
from transhume.knowledge import file_lock
from transhume.reach import open_files
from transhume.reach.signals import run_until_told

CALL_SECONDS = 10.0
AGAIN_SECONDS = 2.0
"""After so long a gateway that couldn't be reached, or is gone, is called again."""
ENDING_SECONDS = 5.0
"""How long a relay may take to end after it was told to."""
TAKEN_SECONDS = 2.0
"""A gateway that hasn't hung up after so long has taken us: it looks at who calls once it has answered."""

log = structlog.get_logger()


class Relay:
    """One host's, as long as its gateway is there.

    Args:
        settings: from its configuration file.
        identity: the host's.
    """

    def __init__(self, settings: RelaySettings, identity: Identity) -> None:
        self.was_taken = False
        """Whether its gateway has let it in."""
        self._settings, self._identity = settings, identity
        self._here = Here(settings.sockets, settings.sockets_seen, settings.pids)
        self._doors: dict[str, tuple[Doors, list[asyncio.Task[None]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._orders: dict[str, Callable[[Words], Awaitable[object]]] = {
            "listen": self._listen,
            "close": self._close,
            "connect": self._connect,
            "running": self._running,
            "look_for": self._look_for,
            "read": self._read,
        }

    async def run(self) -> None:
        """Call the gateway and do what it orders, until it's gone.

        Raises:
            OSError: it can't be reached.
            PeerRefused: somebody else answers.
            BrokenOff: it doesn't want us, or says what makes no sense.
            IdentityUnusable: our certificate has ended, or is just being replaced.
        """
        self._here.make_folder()
        reader, writer = await self._call({"relay": VERSION})
        notice_silence(writer)
        taken = asyncio.get_running_loop().call_later(TAKEN_SECONDS, self._taken)
        try:
            while (words := await read_words(reader)) is not None:
                if "error" in words:
                    raise BrokenOff(str(words["error"]))
                self._keep(self._obey(words, writer), str(words.get("do")))
        finally:
            taken.cancel()
            writer.close()
            await self._end()

    def _taken(self) -> None:
        self.was_taken = True
        log.info("relay_calls", site=self._settings.site, gateway=str(self._settings.gateway))

    async def _end(self) -> None:
        for migration in list(self._doors):
            await self._close({"migration": migration})
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _call(self, first: Words) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        gateway = self._settings.gateway
        expected = Peer(kind=PeerKind.SITE, name=self._settings.site)
        async with asyncio.timeout(CALL_SECONDS):
            reader, writer = await call(
                self._identity, gateway.host, gateway.port, expected, limit_bytes=MOST_LINE_BYTES
            )
        make_ready(writer)
        say(writer, first)
        return reader, writer

    async def _obey(self, words: Words, writer: asyncio.StreamWriter) -> None:
        """Do what is ordered; what leads to a connection is answered by that."""
        try:
            order = self._orders.get(str(words.get("do")))
            if order is None:
                raise OSError(f"{words.get('do')} is no order")
            answer = await order(words)
        except (OSError, NoGuestMemory, KeyError, ValueError, Error, BrokenOff) as error:
            why = str(error) or "no answer"
            log.warning("order_not_carried_out", order=words.get("do"), why=why)
            say(writer, {"call": words.get("call"), "error": why})
        else:
            if answer is not None:
                say(writer, {"call": words.get("call"), "ok": answer})

    def _keep(self, running: "asyncio._CoroutineLike[None]", name: str) -> "asyncio.Task[None]":
        task = asyncio.create_task(running, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    # --- orders ------------------------------------------------------------------------------------

    async def _listen(self, words: Words) -> object:
        migration = str(words["migration"])
        doors = await self._here.open_doors(migration)
        tasks = [
            self._keep(self._let_in(migration, number, doors), f"{migration} {name}")
            for number, name in enumerate(SOCKETS)
        ]
        self._doors[migration] = doors, tasks
        return {}

    async def _let_in(self, migration: str, number: int, doors: Doors) -> None:
        """Bring connections one after the other: hypervisors take the first for the main one."""
        while True:
            connection = await doors.accept(number)
            try:
                await self._bring({"migration": migration, "socket": number}, connection)
            except (OSError, Error) as error:
                log.warning("gateway_not_reached", why=str(error) or "no answer")

    async def _bring(self, first: Words, connection: socket.socket) -> None:
        """Call the gateway for a hypervisor's connection, and have its bytes carried; closes it on failure."""
        try:
            stream = await self._call(first)
        except BaseException:
            connection.close()
            raise
        self._keep(splice(*stream, connection, ends_by_closing=True), f"carrying {first}")

    async def _close(self, words: Words) -> object:
        doors, tasks = self._doors.pop(str(words["migration"]), (None, []))
        for task in tasks:
            task.cancel()
        if doors is not None:
            doors.close()
        return None

    async def _connect(self, words: Words) -> object:
        connection = await self._here.connect(PurePosixPath(str(words["path"])))
        await self._bring({"call": words["call"]}, connection)
        return None

    async def _running(self, _words: Words) -> object:
        return await self._here.running()

    async def _look_for(self, words: Words) -> object:
        await self._here.look_for(str(words["vm"]), Part(words["part"]))
        return {}

    async def _read(self, words: Words) -> object:
        await self._look_for(words)
        reader, writer = await self._call({"call": words["call"]})
        try:
            async with aclosing(self._here.pages(str(words["vm"]), Part(words["part"]))) as pieces:
                async for pages in pieces:
                    await send_frame(writer, pages.data.cast("B"))
            await send_frame(writer, b"")
            await reader.read(1)  # until the gateway has all, and closes
        except (NoGuestMemory, BrokenOff, OSError) as error:
            log.info("reading_broken_off", vm=words["vm"], why=str(error))
        finally:
            writer.transport.abort()
        return None


def load_host_identity(settings: RelaySettings) -> Identity:
    """Return the host's identity.

    Raises:
        IdentityUnusable: its certificate, its key or its authority can't be used.
    """
    return load_identity(settings.identity, kind=PeerKind.HOST)


async def run_relay(settings: RelaySettings) -> None:
    """Run a host's relay until cancelled, whether its gateway is there or not.

    Raises:
        IdentityUnusable: the host's certificate, its key or its authority can't be used when it begins.
    """
    identity = load_host_identity(settings)
    telling = asyncio.create_task(tell_of_end(identity), name="looking at the certificate")
    try:
        await _call_again_and_again(settings, identity)
    finally:
        telling.cancel()


async def _call_again_and_again(settings: RelaySettings, identity: Identity) -> None:
    told = ""
    while True:
        relay = Relay(settings, identity)
        try:
            await relay.run()
            why = "it hung up"
        except (OSError, TimeoutError, PeerRefused, BrokenOff, IdentityUnusable) as error:
            why = str(error) or "no answer"
        if relay.was_taken or why != told:
            log.warning("gateway_not_there", gateway=str(settings.gateway), why=why)
        told = why
        await asyncio.sleep(AGAIN_SECONDS)


async def serve_relay(settings: RelaySettings) -> None:
    """Run a host's relay until SIGINT or SIGTERM.

    Raises:
        IdentityUnusable: the host's certificate, its key or its authority can't be used.
        UsageError: another relay runs at this host, or its sockets' folder can't be had.
    """
    open_files.allow_many()
    await run_until_told(_serve(settings))


async def _serve(settings: RelaySettings) -> None:
    async with alone_at(settings.sockets):
        await run_relay(settings)


@asynccontextmanager
async def alone_at(folder: Path) -> AsyncIterator[None]:
    """Serve a folder of sockets alone: of two relays, each would have what the other carries broken off.

    One that was told to end a moment ago is waited for.

    Raises:
        UsageError: another relay serves them, or there can't be such a folder.
    """
    with ExitStack() as held:
        try:
            make_sockets_folder(folder)
            there = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            held.callback(os.close, there)
            await file_lock.lock(there, ENDING_SECONDS)
        except BlockingIOError as error:
            raise UsageError(
                f"another relay serves the sockets in {folder}; end one of them"
            ) from error
        except OSError as error:
            raise UsageError(f"the sockets' folder {folder} can't be had: {error}") from error
        yield
