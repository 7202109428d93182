"""A gate before Redis: lets everything pass until a journal line of a given phase, then nothing ever again.

So a daemon can be caught between any two lines of its journal, without a word in its code about tests: it waits
for an answer that never comes, and is killed there.
"""

import asyncio
import re
from dataclasses import dataclass, field
from pathlib import Path

LINE = re.compile(rb'"phase":"([a-z]+)"')
LONGEST = 40
"""How much of a line what was read before may hold."""


@dataclass
class Gate:
    """Stands between a daemon and the socket of its Redis.

    Args:
        phase: the journal line at which the gate shuts.
        durable: whether that line still gets through (its answer doesn't), or not.
    """

    redis: Path
    socket: Path
    phase: str | None = None
    durable: bool = False
    shut: asyncio.Event = field(default_factory=asyncio.Event)
    _server: asyncio.Server | None = None

    async def __aenter__(self) -> "Gate":
        self._server = await asyncio.start_unix_server(self._serve, self.socket)
        return self

    async def __aexit__(self, *_error: object) -> None:
        assert self._server is not None
        self._server.close()

    async def _serve(self, daemon: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        reader, writer = await asyncio.open_unix_connection(str(self.redis))
        answers = asyncio.create_task(self._answers(reader, back))
        before = b""
        try:
            while data := await daemon.read(1 << 16):
                found = LINE.findall(before + data)
                caught = self.phase is not None and self.phase.encode() in found
                before = data[-LONGEST:]
                if self.shut.is_set():
                    continue
                if caught:
                    self.shut.set()
                if not caught or self.durable:
                    writer.write(data)
                    await writer.drain()
        finally:
            answers.cancel()
            writer.close()
            back.close()

    async def _answers(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            if self.shut.is_set():
                return
            back.write(data)
            await back.drain()
