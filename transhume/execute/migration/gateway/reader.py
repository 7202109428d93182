"""Reads one connection of a hypervisor, a piece ahead of whoever sends it, and splits and hashes what it reads.

No byte is held back for longer than the linger, and none is read that nobody will take soon: what was read
can't be overtaken any more.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from itertools import cycle
from types import TracebackType
from typing import Self

from transhume.execute.migration.coding.prepared import Prepared, Stream, prepare
from transhume.execute.migration.gateway.departure import Departure
from transhume.execute.migration.gateway.pace import LARGEST_BATCH, Pace, Stride
from transhume.execute.migration.machine.sockets import (
    read_flow,
    readable,
    wait_for_flows,
)
from transhume.execute.migration.splitting import Split, Splitter
from transhume.knowledge.model import Transfer

LINGER_SECONDS = 0.005
"""No byte of a hypervisor's is held back for longer."""
_BUFFERS = 3
"""A piece is sent, one is ready, and one is read, or made ready."""


class Reader:
    """The pieces of one connection; reads within its context.

    A piece may be a view of a buffer that is used again: be done with it before asking for the next.

    Args:
        departure: whose connection it is.
        connection: to read.
        splitter: finds the pages.
        pace: says how much to read at once.
        workers: for reading, splitting and hashing.
        of_memory: whether it's a guest's memory.
    """

    def __init__(
        self,
        departure: Departure,
        connection: socket.socket,
        splitter: Splitter,
        pace: Pace,
        workers: Executor,
        *,
        of_memory: bool = True,
    ) -> None:
        self._departure, self._connection, self._splitter = departure, connection, splitter
        self._workers = workers
        wait_for_flows(connection)
        self._stream = Stream(owner=departure.desk.domain.owner(departure.vm))
        self.stride = Stride(
            partial(departure.most_piece_bytes, pace),
            lambda: departure.remaining_bytes if of_memory else None,
        )
        self._ready: asyncio.Queue[Prepared | None] = asyncio.Queue(1)

    async def __aenter__(self) -> Self:
        self._reading = asyncio.create_task(self._read(), name=f"reading {self._departure.vm}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def next(self) -> Prepared | None:
        """Return the next piece; None at the end of the stream.

        Raises:
            OSError: the connection was broken off.
        """
        getting = asyncio.ensure_future(self._ready.get())
        try:
            await asyncio.wait({getting, self._reading}, return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                self._reading.result()
            return await getting
        finally:
            getting.cancel()

    async def _read(self) -> None:
        splitter = self._splitter
        for buffer in cycle([memoryview(bytearray(LARGEST_BATCH)) for _ in range(_BUFFERS)]):
            await readable(self._connection)
            await self._departure.standstill.of_others(self._departure.number)
            room = buffer[: self.stride.most_bytes]
            if not await self._prepare(partial(self._take, room)):
                break
            if splitter.held_bytes and not await readable(self._connection, LINGER_SECONDS):
                await self._prepare(splitter.flush)
        await self._prepare(splitter.flush)
        await self._ready.put(None)

    def _take(self, room: memoryview) -> Split | None:
        """Read once there is something, and split it; None at the end of the stream."""
        data = read_flow(self._connection, room)
        return self._splitter.split(data) if len(data) else None

    async def _prepare(self, take: Callable[[], Split | None]) -> bool:
        """Have a worker take the next piece and prepare it; say whether there was one."""

        def work() -> tuple[Prepared | None, float]:
            began = time.thread_time()
            split = take()
            prepared = None if split is None else prepare(self._stream, split)
            return prepared, time.thread_time() - began

        working = asyncio.get_running_loop().run_in_executor(self._workers, work)
        try:
            prepared, spent = await asyncio.shield(working)
        except asyncio.CancelledError:
            await asyncio.wait({working})  # it reads, and nobody may close that before
            raise
        self._departure.sent += Transfer(cpu_seconds=spent)
        if prepared is not None and len(prepared.split.raw):
            if self._splitter.understanding.memory_ends:
                self._departure.seems_read = self._splitter.understanding.seems_complete
                self._departure.stands_still()
            self._departure.read_bytes += len(prepared.split.raw)
            await self._ready.put(prepared)
        return prepared is not None
