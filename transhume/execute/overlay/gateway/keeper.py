"""Runs a network's gateway at one site, beside the site's agent: makes it, mends it, and keeps anchors.

Hears the register by itself, so that the agent's own work goes on as it does without a gateway. What is at work
with the kernel is in threads: nothing here holds up a switch.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Protocol, TypeVar

import structlog

from transhume.deployment.model import GatewaySettings, OverlayNetwork
from transhume.errors import KnowledgeUnreachable, OverlayError
from transhume.execute.overlay.agent.events import Event, Stopped
from transhume.execute.overlay.gateway.anchoring import (
    AnchorTable,
    news,
    owners,
    staying,
    to_publish,
    within_limit,
)
from transhume.execute.overlay.gateway.conntrack import Open
from transhume.execute.overlay.gateway.layout import exit_of, prefixes
from transhume.execute.overlay.gateway.site_gateway import Anchored
from transhume.knowledge.anchors import AnchorDirectory
from transhume.knowledge.model import (
    Anchors,
    Binding,
    HandOver,
    IpAddress,
    MacAddress,
    SiteName,
)
from transhume.knowledge.register import Entry, HandOvers, Lost, Register, Whole

LOOK_SECONDS = 3.0
LOOK_SECONDS_DURING_MOVES = 0.25
RESYNC_SECONDS = 30.0
_RETRY_SECONDS = 0.5
_AT_LEAST_SECONDS = 0.05
_SHARE_OF_TIME = 30

T = TypeVar("T")

log = structlog.get_logger()


class Kernel(Protocol):
    """A site's gateway as `SiteGateway` is it."""

    def make(self) -> None:
        """Make what isn't as it should be."""
        ...

    def faults(self) -> tuple[str, ...]:
        """Say what isn't."""
        ...

    def open_flows(self) -> Open:
        """Return what leaves here."""
        ...

    def neighbours(self) -> dict[IpAddress, MacAddress]:
        """Return what was learnt."""
        ...

    def held(self) -> Anchored:
        """Return what goes to other sites."""
        ...

    def hold(self, anchored: Anchored) -> None:
        """Send these there."""
        ...


class GatewayKeeper:
    """One network's gateway at one site.

    Args:
        network: it.
        settings: of its gateway.
        site: this one.
        kernel: the gateway there.
        register: where the network's addresses are.
        directory: of anchors.
        clock: the time as others know it.
    """

    def __init__(
        self,
        *,
        network: OverlayNetwork,
        settings: GatewaySettings,
        site: SiteName,
        kernel: Kernel,
        register: Register,
        directory: AnchorDirectory,
        clock: Callable[[], datetime],
    ) -> None:
        others = [SiteName(each.name) for each in network.sites if each.name != site]
        self._settings, self._site = settings, site
        self._kernel, self._register, self._directory = kernel, register, directory
        self._clock = clock
        self._table = AnchorTable(site, others, prefixes(settings))
        self._bindings: dict[MacAddress, Binding] = {}
        self._hand_overs: tuple[HandOver, ...] = ()
        self._read = asyncio.Event()
        """Whether the anchors of others were read once."""
        self._found = asyncio.Event()
        """Whether it was read once where VMs are: before, all of them would seem to be leaving."""
        self._look = asyncio.Event()
        self._changed = asyncio.Event()
        self._turns = asyncio.Lock()
        self._exit_of = {SiteName(each.name): exit_of(network, each.name) for each in network.sites}
        self._looking_took = 0.0
        self._too_many = False
        """Whether more connections are open than can be published, which is told already."""
        self.faults: tuple[str, ...] = ()

    @property
    def anchored(self) -> int:
        """How many connections leave here whose VM is elsewhere, or is about to be."""
        return sum(len(each.flows) for each in self._table.published.values())

    def hear(self, event: Event) -> None:
        """Take notice of what a hypervisor says: when a VM stops, it's time to look once more."""
        if isinstance(event, Stopped):
            self._look.set()

    async def run(self) -> None:
        """Keep the gateway until cancelled."""
        await self._mend()
        self._table.adopt(await self._try(self._kernel.held) or {}, self._clock())
        async with asyncio.TaskGroup() as tasks:
            for duty in (self._follow, self._watch, self._hold, self._audit):
                tasks.create_task(duty(), name=f"gateway of {self._site}: {duty.__name__}")
            # Else all that a VM sends goes the same way anyway.
            if not self._settings.exit_at_home:
                tasks.create_task(self._publish(), name=f"gateway of {self._site}: publish")

    # --- what others say -------------------------------------------------------------------------------

    async def _follow(self) -> None:
        async for said in self._register.follow():
            match said:
                case Whole():
                    self._bindings = said.bindings
                    self._found.set()
                    await self._disown()
                case Entry():
                    self._bindings[said.binding.mac] = said.binding
                case HandOvers():
                    self._hand_overs = said.hand_overs
                case Lost():
                    continue
            self._look.set()

    async def _disown(self) -> None:
        """See that the gateway's address is at no site: it may have been, before there was this."""
        ours = self._bindings.get(MacAddress(self._settings.mac))
        if ours is not None:
            try:
                await self._register.retire([ours])
            except KnowledgeUnreachable as error:
                log.warning("gateway_not_retired", site=self._site, why=str(error))

    async def _watch(self) -> None:
        told = False
        while True:
            try:
                async for heard in self._directory.watch(RESYNC_SECONDS):
                    told = False
                    if heard.whole:
                        self._table.note_all(heard.records, self._clock())
                        self._read.set()
                        self._look.set()
                    else:
                        for record in heard.records:
                            self._table.note(record)
                    self._changed.set()
            except KnowledgeUnreachable as error:
                if not told:
                    log.warning("anchors_lost", site=self._site, why=str(error))
                told = True
            await asyncio.sleep(_RETRY_SECONDS)

    # --- what is done about it -------------------------------------------------------------------------

    async def _hold(self) -> None:
        """Let the kernel send anchored connections where they belong."""
        await self._read.wait()
        looked = took = 0.0
        async for _ in _whenever(self._changed, lambda: LOOK_SECONDS):
            # To read thousands of them takes half a second: then it's done more seldom.
            if (began := time.monotonic()) - looked > max(LOOK_SECONDS, _SHARE_OF_TIME * took):
                await self._try(self._kernel.held)
                looked = time.monotonic()
                took = looked - began
            await self._try(partial(self._kernel.hold, self._table.held(self._clock())))

    async def _publish(self) -> None:
        """Say which connections leave here, of VMs that don't stay."""
        await self._read.wait()
        await self._found.wait()
        async for _ in _whenever(self._look, self._look_seconds):
            began = time.monotonic()
            records = await self._news()
            self._looking_took = time.monotonic() - began
            if not records:
                continue
            try:
                await self._directory.put(records)
            except KnowledgeUnreachable:  # it's said again at the next look
                continue
            for record in records:
                self._table.note(record)

    async def _news(self) -> tuple[Anchors, ...]:
        found = await self._try(lambda: (self._kernel.open_flows(), self._kernel.neighbours()))
        if found is None:
            return ()
        open_here, neighbours = found
        now, bindings = self._clock(), tuple(self._bindings.values())
        wanted = to_publish(
            open_here,
            staying(self._site, bindings, self._hand_overs, now),
            owners(bindings, neighbours),
            self._table.held(now),
        )
        published = {ip: frozenset(each.flows) for ip, each in self._table.published.items()}
        told = {ip for each in bindings for ip in each.ips}
        bounded = within_limit(wanted, told, published)
        self._tell_of_too_many(_flows(wanted), _flows(bounded))
        return news(self._site, self._table.published, bounded, now)

    def _tell_of_too_many(self, wanted: int, published: int) -> None:
        if wanted > published and not self._too_many:
            log.warning("anchors_too_many", site=self._site, open=wanted, anchored=published)
        self._too_many = wanted > published

    def _look_seconds(self) -> float:
        """Look often while a VM moves whose connections leave here: until it stops it may open more."""
        announced = (each.source for each in self._hand_overs if each.until > self._clock())
        moving = (each.origin for each in self._bindings.values() if each.origin is not None)
        leaving = any(self._exit_of.get(site) == self._site for site in (*announced, *moving))
        seconds = LOOK_SECONDS_DURING_MOVES if leaving else LOOK_SECONDS
        return max(seconds, _SHARE_OF_TIME * self._looking_took)

    async def _audit(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self._mend()

    async def _mend(self) -> None:
        found = await self._try(self._kernel.faults)
        if found is None:
            return
        self.faults = found
        if found:
            log.info("gateway_mended", site=self._site, why=found)
            await self._try(self._kernel.make)
            self._changed.set()

    async def _try(self, what: Callable[[], T]) -> T | None:
        """Have a thread do something with the kernel, one at a time; None where it fails, which is told."""
        try:
            async with self._turns:
                return await asyncio.to_thread(what)
        except OverlayError as error:
            self.faults = (str(error),)
            log.warning("gateway_not_as_it_should_be", site=self._site, why=str(error))
            return None


def _flows(connections: Open) -> int:
    return sum(map(len, connections.values()))


async def _whenever(event: asyncio.Event, seconds: Callable[[], float]) -> AsyncIterator[None]:
    """Yield at once, then whenever something has happened, and anyway after some seconds."""
    while True:
        event.clear()
        yield
        await asyncio.sleep(_AT_LEAST_SECONDS)
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds()):
                await event.wait()
