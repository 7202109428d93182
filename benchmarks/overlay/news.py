"""How long it takes until a move has reached the kernels of all sites, by way of the knowledge.

Fifty agents as they run at sites, each with a kernel of its own (bridge and tunnels in a namespace), its own
connection to one Redis, and all bindings; but in one process, without hypervisors, and with no distance between
them and the knowledge. Then one address after another moves: the time counts from when the register is told
until the last agent's kernel has followed.
"""

import asyncio
import logging
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import structlog
from rich.console import Console

from benchmarks.overlay.sites import lone_sites, network
from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.execute.overlay.agent.service import LEASE_SECONDS, Agent, Senses
from transhume.execute.overlay.agent.site import SiteAddresses
from transhume.execute.overlay.plane import SitePlane
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import Binding, IpAddress, MacAddress, SiteName
from transhume.knowledge.store import Store

SITES, BINDINGS, MOVES = 50, 10_000, 40
PATIENCE_SECONDS = 300.0
ASKED_SECONDS = 1.0


class NotingPlane(SitePlane):
    """A site's kernel that remembers when it was told of an address last."""

    def __init__(self, over: OverlayNetwork, site: OverlaySite) -> None:
        super().__init__(over, site)
        self.told: dict[MacAddress, float] = {}

    def apply(self, routes: Iterable[Route]) -> None:
        """Carry routes out, and note when."""
        routes = list(routes)
        super().apply(routes)
        self.told |= dict.fromkeys((route.mac for route in routes), time.monotonic())


@dataclass(slots=True)
class Federation:
    """All agents, and what they look after."""

    over: OverlayNetwork
    store: Store
    planes: list[NotingPlane] = field(default_factory=list)

    def binding(self, number: int, moved: int = 0) -> Binding:
        """Return where an address is after so many moves."""
        owner = self.over.sites[(number + moved) % len(self.over.sites)]
        return Binding(
            vni=self.over.vni,
            mac=MacAddress(f"02:01:00:00:{number >> 8:02x}:{number & 255:02x}"),
            site=SiteName(owner.name),
            sequence=1 + moved,
            ips=(IpAddress(f"172.16.{number >> 8}.{number & 255}"),),
        )

    async def followed(self, macs: Iterable[MacAddress], since: float) -> float:
        """Wait until all kernels have been told of addresses since a moment; return when the last was."""
        wanted = list(macs)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                last = [plane.told.get(mac, 0.0) for plane in self.planes for mac in wanted]
                if min(last) > since:
                    return max(last)
                await asyncio.sleep(0.001)


def measure(console: Console) -> dict[str, Any]:
    """Measure it, print it, and return what was found."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    over = network(SITES)
    with lone_sites(over), _redis() as url:
        started, moves, cpu = asyncio.run(_measure(over, url))
    usual, worst, each = median(moves) * 1e3, max(moves) * 1e3, cpu / MOVES * 1e3
    console.print(
        f"{BINDINGS:,} bindings at {SITES} sites, agents in one process: all had them after {started:.1f} s;\n"
        f"a move was in all kernels after {usual:.0f} ms (median of {MOVES}; at most {worst:.0f} ms; asked:"
        f" {ASKED_SECONDS:g} s),\nfor {each:.0f} ms of CPU at all sites together\n"
    )
    return {
        "sites": SITES,
        "bindings": BINDINGS,
        "start_seconds": started,
        "move_seconds": moves,
        "cpu_seconds_per_move": cpu / MOVES,
    }


async def _measure(over: OverlayNetwork, url: str) -> tuple[float, list[float], float]:
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(Store.connect(url, clock=_now))
        all_of = Federation(over, store)
        register = store.register(over.vni)
        everything = [all_of.binding(number) for number in range(BINDINGS)]
        await register.put(everything)
        began = time.monotonic()
        await stack.enter_async_context(_agents(all_of, url))
        started = await all_of.followed([each.mac for each in everything[:: BINDINGS // 10]], began)
        await asyncio.sleep(5.0)
        moves, cpu = [], time.process_time()
        for number in range(MOVES):
            moved = all_of.binding(number, moved=1)
            asked = time.monotonic()
            await register.put([moved])
            moves.append(await all_of.followed([moved.mac], asked) - asked)
        return started - began, moves, time.process_time() - cpu


@asynccontextmanager
async def _agents(all_of: Federation, url: str) -> AsyncIterator[None]:
    vteps = {SiteName(site.name): IpAddress(site.vtep) for site in all_of.over.sites}
    with ExitStack() as planes:
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(asyncio.TaskGroup())
            running = []
            for site in all_of.over.sites:
                first = planes.enter_context(NotingPlane(all_of.over, site))
                second = planes.enter_context(SitePlane(all_of.over, site))
                all_of.planes.append(first)
                store = await stack.enter_async_context(Store.connect(url, clock=_now))
                name = SiteName(site.name)
                agent = Agent(
                    addresses=SiteAddresses(name, all_of.over.vni, vteps),
                    planes=(first, second),
                    register=store.register(all_of.over.vni),
                    lease=store.agent_lease(all_of.over.vni, name, name, LEASE_SECONDS),
                    senses=Senses(),
                    clock=_now,
                )
                running.append(tasks.create_task(agent.run(), name=f"agent of {name}"))
            try:
                yield
            finally:
                for task in running:
                    task.cancel()
                await asyncio.gather(*running, return_exceptions=True)


@contextmanager
def _redis() -> Iterator[str]:
    """Run a Redis that keeps nothing."""
    with tempfile.TemporaryDirectory(prefix="transhume-bench-") as folder:
        socket = Path(folder) / "redis.sock"
        words = ["redis-server", "--port", "0", "--unixsocket", str(socket), "--save", ""]
        with subprocess.Popen(words, stdout=subprocess.DEVNULL, cwd=folder) as server:
            try:
                while not socket.exists():
                    time.sleep(0.02)
                yield f"unix://{socket}"
            finally:
                server.terminate()


def _now() -> datetime:
    return datetime.now(UTC)
