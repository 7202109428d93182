"""The relays of a site's other hosts, as their gateway has them: each stands for the hypervisors there.

Which hosts there may be is in the gateway's configuration; a relay shows the certificate of one of them, and is
believed of that one only.
"""

import asyncio
import socket
from collections.abc import AsyncGenerator, Collection, Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import PurePosixPath

import numpy as np
import structlog

from transhume.errors import UsageError
from transhume.execute.migration.machine.guest_memory import NoGuestMemory, Pages
from transhume.execute.migration.machine.hypervisors import SOCKETS, Hypervisors, Part
from transhume.execute.migration.relaying.protocol import (
    VERSION,
    BrokenOff,
    Words,
    make_ready,
    notice_silence,
    read_frame,
    read_words,
    say,
)
from transhume.execute.migration.relaying.splice import splice
from transhume.execute.migration.splitting import PAGE_BYTES
from transhume.execute.migration.trust.peers import Peer

ANSWER_SECONDS = 30.0

log = structlog.get_logger()

_CALLS = count(1)
"""No number is used twice, so that what comes late answers nobody else."""

_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Relays:
    """A site's hosts.

    Args:
        here: the hypervisors of this machine.
        hosts: the names of all others.
    """

    def __init__(self, here: Hypervisors, hosts: Collection[str]) -> None:
        self._here = here
        self._relays: dict[str, RelayedHypervisors | None] = dict.fromkeys(hosts)
        self._refused: set[str] = set()
        """Hosts that aren't ours and whose relays called."""

    def at(self, host: str | None) -> Hypervisors:
        """Return a host's hypervisors; of a host that has no relay, those here.

        Raises:
            UsageError: its relay isn't connected.
        """
        if host is None or host not in self._relays:
            return self._here
        relay = self._relays[host]
        if relay is None:
            raise UsageError(
                f"the relay at {host} isn't connected; is `transhume relay` running there?"
            )
        return relay

    def connected(self) -> list[Hypervisors]:
        """Return the hypervisors of all hosts that are there, ours first."""
        return [self._here, *(relay for relay in self._relays.values() if relay is not None)]

    async def having(self, vm: str) -> Hypervisors:
        """Return the hypervisors among which a VM runs; where nobody knows of it, ours."""
        for hypervisors in self.connected():
            with suppress(OSError):  # it has just gone
                if vm in await hypervisors.running():
                    return hypervisors
        return self._here

    def status(self) -> list[Words]:
        """Tell of each host whether its relay is there."""
        return [
            {"host": host, "connected": relay is not None} for host, relay in self._relays.items()
        ]

    def close(self) -> None:
        """Let all relays go."""
        for relay in self._relays.values():
            if relay is not None:
                relay.end()

    async def called(
        self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Take a connection of a host's relay; one of a host that the configuration hasn't is told so."""
        make_ready(writer)
        try:
            if peer.name not in self._relays:
                why = f"{peer.name} isn't among the `hosts` of the gateway"
                if peer.name not in self._refused:  # it calls again every two seconds
                    log.warning("link_refused", why=why)
                self._refused.add(peer.name)
                say(writer, {"error": why})
                return
            async with asyncio.timeout(ANSWER_SECONDS):
                words = await read_words(reader)
            await self._begin(peer.name, words or {}, (reader, writer))
        except (BrokenOff, TimeoutError) as error:
            log.info("relay_broke_off", host=peer.name, why=str(error) or "it says nothing")
        finally:
            writer.close()

    async def _begin(self, host: str, words: Words, stream: _Stream) -> None:
        relay = self._relays[host]
        match words:
            case {"relay": int(version)}:
                if version != VERSION:
                    raise BrokenOff(f"it speaks version {version}, and this is {VERSION}")
                await self._serve(host, stream)
            case {"migration": str(migration), "socket": int(number)} if relay is not None:
                await relay.came(migration, number, stream)
            case {"call": int(call)} if relay is not None:
                await relay.brought(call, stream)
            case _:
                raise BrokenOff("it begins with what makes no sense")

    async def _serve(self, host: str, stream: _Stream) -> None:
        notice_silence(stream[1])
        older = self._relays[host]
        if older is not None:
            older.say_why("another relay of this host has called since")
            older.end()
        relay = self._relays[host] = RelayedHypervisors(host, stream[1])
        log.info("relay_connected", host=host)
        try:
            await relay.hear(stream[0])
        finally:
            relay.end()
            if self._relays[host] is relay:
                self._relays[host] = None
                log.warning("relay_lost", host=host)


class RelayedHypervisors:
    """The hypervisors of a host whose relay is connected."""

    def __init__(self, host: str, writer: asyncio.StreamWriter) -> None:
        self._host = host
        self._writer = writer
        self._doors: dict[str, _RelayedDoors] = {}
        self._calls: dict[int, asyncio.Future[Words | _Stream]] = {}
        self._carriers: set[asyncio.StreamWriter] = set()

    async def open_doors(self, migration: str) -> "_RelayedDoors":
        """Have the relay listen."""
        try:
            await self._ask("listen", migration=migration)
        except BaseException:
            if migration not in self._doors:  # it may listen all the same
                self._have_closed(migration)
            raise
        doors = self._doors[migration] = _RelayedDoors(self, migration)
        return doors

    def close_doors(self, migration: str) -> None:
        """Have it listen no more."""
        if self._doors.pop(migration, None) is not None:
            self._have_closed(migration)

    def _have_closed(self, migration: str) -> None:
        if not self._writer.is_closing():
            say(self._writer, {"call": 0, "do": "close", "migration": migration})

    async def connect(self, path: PurePosixPath) -> socket.socket:
        """Have it connect to a hypervisor, and to us."""
        reader, writer = await self._ask_for_stream("connect", path=str(path))
        ours, theirs = _pair()
        asyncio.get_running_loop().create_task(
            splice(reader, writer, theirs), name=f"to {path.name}"
        )
        return ours

    async def running(self) -> tuple[str, ...]:
        """Name the VMs that run there."""
        match await self._ask("running"):
            case {"ok": [*names]}:
                return tuple(map(str, names))
        raise OSError(f"the relay at {self._host} doesn't say what runs there")

    async def look_for(self, vm: str, part: Part) -> None:
        """See that a VM's memory, or its images, can be read there."""
        try:
            await self._ask("look_for", vm=vm, part=str(part))
        except OSError as error:
            raise NoGuestMemory(str(error)) from error

    async def pages(self, vm: str, part: Part) -> AsyncGenerator[Pages, None]:
        """Yield what isn't empty; it crosses the site's network."""
        try:
            reader, writer = await self._ask_for_stream("read", vm=vm, part=str(part))
            try:
                while content := await read_frame(reader):
                    yield np.frombuffer(content, np.uint8).reshape(-1, PAGE_BYTES)
            finally:
                writer.close()
        except (OSError, BrokenOff, ValueError) as error:
            raise NoGuestMemory(f"{vm} at {self._host}: {error}") from error

    # --- what the relay says ----------------------------------------------------------------------

    async def hear(self, reader: asyncio.StreamReader) -> None:
        """Take answers until the relay is gone.

        Raises:
            BrokenOff: it says what makes no sense.
        """
        while (words := await read_words(reader)) is not None:
            self._settle(words.get("call"), words)

    async def came(self, migration: str, number: int, stream: _Stream) -> None:
        """Take a connection that a source's hypervisor made there."""
        doors = self._doors.get(migration)
        if doors is None or not 0 <= number < len(SOCKETS):
            raise BrokenOff(f"{self._host} brings a connection of no migration")
        ours, theirs = _pair()
        doors.came[number].put_nowait(ours)
        with self._carrying(stream):
            await splice(*stream, theirs)

    async def brought(self, call: int, stream: _Stream) -> None:
        """Take a connection that was asked for, and wait until it's used."""
        if not self._settle(call, stream):
            raise BrokenOff(f"{self._host} brings what nobody asked for")
        with self._carrying(stream), suppress(OSError):
            await stream[1].wait_closed()

    @contextmanager
    def _carrying(self, stream: _Stream) -> Iterator[None]:
        self._carriers.add(stream[1])
        try:
            yield
        finally:
            self._carriers.discard(stream[1])

    def say_why(self, why: str) -> None:
        """Tell the relay what comes of it next."""
        if not self._writer.is_closing():
            say(self._writer, {"error": why})

    def end(self) -> None:
        """Ask and answer nothing any more, and break off what the relay carries."""
        self._writer.close()
        for writer in self._carriers:
            writer.transport.abort()
        for call in list(self._calls):
            self._settle(call, {"error": f"the relay at {self._host} is gone"})

    def _settle(self, call: object, answer: "Words | _Stream") -> bool:
        waiting = self._calls.pop(call, None) if isinstance(call, int) else None
        if waiting is None or waiting.done():
            return False
        waiting.set_result(answer)
        return True

    async def _ask(self, do: str, **words: object) -> Words:
        answer = await self._answer(do, words)
        if not isinstance(answer, dict):
            _drop(answer)
            raise OSError(f"the relay at {self._host} answers with a connection")
        return answer

    async def _ask_for_stream(self, do: str, **words: object) -> _Stream:
        answer = await self._answer(do, words)
        if isinstance(answer, dict):
            raise OSError(f"the relay at {self._host} brings no connection")
        return answer

    async def _answer(self, do: str, words: Words) -> "Words | _Stream":
        call = next(_CALLS)
        waiting: asyncio.Future[Words | _Stream] = asyncio.get_running_loop().create_future()
        self._calls[call] = waiting
        try:
            if self._writer.is_closing():
                raise OSError(f"the relay at {self._host} is gone")
            say(self._writer, {"call": call, "do": do, **words})
            async with asyncio.timeout(ANSWER_SECONDS):
                answer = await waiting
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiting.done() and not waiting.cancelled():
                _drop(waiting.result())
            if isinstance(error, TimeoutError):
                raise OSError(f"the relay at {self._host} doesn't answer") from error
            raise
        finally:
            self._calls.pop(call, None)
        if isinstance(answer, dict) and "error" in answer:
            raise OSError(str(answer["error"]))
        return answer


class _RelayedDoors:
    """A migration's sockets at another host."""

    def __init__(self, relay: RelayedHypervisors, migration: str) -> None:
        self._relay, self._migration = relay, migration
        self.came: tuple[asyncio.Queue[socket.socket], ...] = tuple(
            asyncio.Queue() for _ in SOCKETS
        )

    async def accept(self, number: int) -> socket.socket:
        """Wait for the next connection to one of them."""
        return await self.came[number].get()

    def close(self) -> None:
        """Have the relay listen no more; what came and nobody took is broken off."""
        self._relay.close_doors(self._migration)
        for queue in self.came:
            while not queue.empty():
                queue.get_nowait().close()


def _drop(answer: "Words | _Stream") -> None:
    """Close a connection that came too late, or for the wrong question."""
    if isinstance(answer, tuple):
        answer[1].close()


def _pair() -> tuple[socket.socket, socket.socket]:
    ours, theirs = socket.socketpair()
    for each in (ours, theirs):
        each.setblocking(False)
    return ours, theirs
