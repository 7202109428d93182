"""A WAN between two gateways that can be cut, held up, or given a fault."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import yaml

from tests.unit.execute.migration.gateway.two_sites import Site, free_port, site, write_site
from transhume.execute.migration.gateway.link import SILENCE_SECONDS

_PIECE_BYTES = 16 << 10


class Relay:
    """Forwards one port of the loopback to another."""

    def __init__(self, port: int, behind: int) -> None:
        self.port, self._behind = port, behind
        self.forwarded_bytes = 0
        self.flip_at: int | None = None
        """The byte, counted over all that goes forth, of which a bit is turned."""
        self._flows = asyncio.Event()
        self._flows.set()
        self._writers: list[asyncio.StreamWriter] = []

    @asynccontextmanager
    async def listening(self) -> AsyncIterator["Relay"]:
        """Relay while the context lasts."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        try:
            yield self
        finally:
            server.close()
            self.drop()

    def drop(self) -> None:
        """Break all connections; new ones are taken again."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    def stall(self) -> None:
        """Forward nothing any more, and let no one know."""
        self._flows.clear()

    def go_on(self) -> None:
        """Forward again."""
        self._flows.set()

    async def past(self, count: int) -> None:
        """Return when so many more bytes have gone forth."""
        end = self.forwarded_bytes + count
        while self.forwarded_bytes < end:
            await asyncio.sleep(0.001)

    async def _serve(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        far, forth = await asyncio.open_connection("127.0.0.1", self._behind)
        self._writers += (back, forth)
        await asyncio.gather(self._pump(near, forth, forth=True), self._pump(far, back))

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, forth: bool = False
    ) -> None:
        try:
            while data := await reader.read(_PIECE_BYTES):
                await self._flows.wait()
                if forth:
                    data = self._faulty(data)
                    self.forwarded_bytes += len(data)
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.transport.abort()

    def _faulty(self, data: bytes) -> bytes:
        at = -1 if self.flip_at is None else self.flip_at - self.forwarded_bytes
        if not 0 <= at < len(data):
            return data
        return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


class Sites:
    """Two sites, each of which reaches the other by a relay, and whose gateways can be restarted."""

    def __init__(self, folder: Path, silence_seconds: float, **changes: object) -> None:
        self.ports = {"a": free_port(), "b": free_port()}
        self.relays = {name: Relay(free_port(), port) for name, port in self.ports.items()}
        self._silence_seconds = silence_seconds
        self._running: dict[str, AsyncExitStack] = {}
        self._paths = {}
        for name in self.ports:
            path = write_site(folder, name, self.ports, **changes)
            written = yaml.safe_load(path.read_text())
            written["peers"] = {
                peer: f"127.0.0.1:{relay.port}"
                for peer, relay in self.relays.items()
                if peer != name
            }
            path.write_text(yaml.safe_dump(written))
            self._paths[name] = path

    async def start(self, name: str) -> Site:
        """Start a gateway."""
        stack = self._running[name] = AsyncExitStack()
        return await stack.enter_async_context(
            site(self._paths[name], silence_seconds=self._silence_seconds)
        )

    async def end(self, name: str) -> None:
        """End a gateway that runs."""
        if name in self._running:
            await self._running.pop(name).aclose()


@asynccontextmanager
async def relayed_sites(
    folder: Path, *, silence_seconds: float = SILENCE_SECONDS, **changes: object
) -> AsyncIterator[tuple[Sites, Site, Site]]:
    """Have sites a and b with relays between them; what a sends to b goes by `relays["b"]`."""
    sites = Sites(folder, silence_seconds, **changes)
    async with AsyncExitStack() as stack:
        for relay in sites.relays.values():
            await stack.enter_async_context(relay.listening())
        try:
            yield sites, await sites.start("a"), await sites.start("b")
        finally:
            for name in sites.ports:
                await sites.end(name)
