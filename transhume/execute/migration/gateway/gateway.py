"""A gateway: listens for other sites, calls them, and holds what outlives a connection.

Owns the links and the routes. A route is the sockets that a source's hypervisor connects to for one migration;
a destination's has its listening sockets in the same place at its own site.
"""

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import PurePosixPath

import structlog

from transhume.errors import IdentityUnusable, PeerRefused, UsageError
from transhume.execute.migration.content.catalogue import index_image
from transhume.execute.migration.gateway.arrivals import Arrivals, ReceivingSite
from transhume.execute.migration.gateway.configuration import GatewaySettings
from transhume.execute.migration.gateway.departure import MOST_CHANNELS, Departure
from transhume.execute.migration.gateway.departures import Departures
from transhume.execute.migration.gateway.domain import StoreLimits
from transhume.execute.migration.gateway.domains import Domains, SharedImage
from transhume.execute.migration.gateway.gangs import Gangs
from transhume.execute.migration.gateway.link import SILENCE_SECONDS, Link, LinkLost
from transhume.execute.migration.gateway.messages import Kind
from transhume.execute.migration.gateway.relays import Relays
from transhume.execute.migration.gateway.residents import Residents
from transhume.execute.migration.machine.hypervisors import SOCKETS, Doors, Here, sockets_of
from transhume.execute.migration.nbd import NbdSplitter
from transhume.execute.migration.stream import QemuSplitter
from transhume.execute.migration.transport import Share
from transhume.execute.migration.trust.calling import call
from transhume.execute.migration.trust.ending import pause_seconds
from transhume.execute.migration.trust.identity import (
    Identity,
    load_identity,
    peer_of,
)
from transhume.execute.migration.trust.peers import Peer, PeerKind
from transhume.execute.migration.trust.tickets import Admissions
from transhume.reach.threads import in_a_loose_thread

UNUSED_SECONDS = 120.0
"""After so long without a hypervisor, a route is taken away."""
DIAL_SECONDS = 10.0
RENEWAL_SECONDS = 60.0
"""Between two looks at whether the certificate was renewed."""
_READ_BYTES = 1 << 20
"""What is read from a peer ahead of being looked at."""

log = structlog.get_logger()


Operators = Callable[[Peer, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass(slots=True)
class Route:
    """A migration that may go out."""

    id: str
    vm: str
    departures: Departures
    departure: Departure
    began: float
    doors: Doors
    share: Share | None = None
    tasks: "list[asyncio.Task[None]]" = field(default_factory=list)
    connections: int = 0


class Gateway:
    """One site's gateway, while it runs.

    Args:
        settings: from its configuration file.
        identity: the site's.
        images: those of the settings, indexed.
        silence_seconds: after so long without a word, a peer is taken for gone.
    """

    def __init__(
        self,
        settings: GatewaySettings,
        identity: Identity,
        images: tuple[SharedImage, ...] = (),
        *,
        silence_seconds: float = SILENCE_SECONDS,
    ) -> None:
        self.settings = settings
        self.site = settings.site
        limits = StoreLimits(
            folder=settings.store,
            memory_bytes=settings.store_memory_bytes,
            total_bytes=settings.store_total_bytes,
        )
        self.domains = Domains(limits, images)
        self._here = Here(settings.sockets, settings.sockets_seen, settings.pids)
        self.relays = Relays(self._here, settings.hosts)
        self.residents = Residents(settings, self.domains, self.relays)
        self.admissions = Admissions(policy=settings.admission)
        self.routes: dict[str, Route] = {}
        self.gangs = Gangs()
        self.control: Operators | None = None
        """Serves operators who come over TLS; nobody does while it's None."""
        self._identity = identity
        self._silence_seconds = silence_seconds
        self._workers = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="hashing")
        self._calls: dict[str, asyncio.Task[Departures]] = {}
        self._links: set[asyncio.Task[None]] = set()
        self._receiving = ReceivingSite(
            domains=self.domains,
            admissions=self.admissions,
            residents=self.residents,
            relays=self.relays,
            way_back=self._way_back,
        )

    def sockets_of(self, migration: str) -> tuple[PurePosixPath, ...]:
        """Name a migration's sockets, as hypervisors see them."""
        return sockets_of(self.settings.sockets_seen, migration)

    async def serve(self) -> asyncio.Server:
        """Listen for the other sites' gateways.

        Raises:
            OSError: the address can't be had.
        """
        self._here.make_folder()
        address = self.settings.listen
        context = self._identity.server_context()
        self._keep(self._renew(context), "looking at the certificate")
        return await asyncio.start_server(
            self._called,
            address.host,
            address.port,
            ssl=context,
            ssl_handshake_timeout=DIAL_SECONDS,
            ssl_shutdown_timeout=1.0,
            limit=_READ_BYTES,
        )

    async def _renew(self, context: ssl.SSLContext) -> None:
        """Show the certificate that is in the identity's folder, also once it was renewed."""
        shown, warned_at = self._identity, time.monotonic()
        while True:
            await asyncio.sleep(RENEWAL_SECONDS)
            path = shown.folder
            try:
                rests = time.monotonic() - warned_at < pause_seconds(shown.facts)
                if rests and not shown.is_renewed:
                    continue
                warned_at = time.monotonic()
                found = load_identity(path, kind=PeerKind.SITE)
                found.equip(context)
                shown = found
            except (IdentityUnusable, OSError) as error:
                log.warning("certificate_not_renewed", folder=str(path), why=str(error))
            else:
                ends = shown.facts.ends.isoformat(timespec="seconds")
                log.info("certificate_shown", folder=str(path), ends=ends)

    async def close(self) -> None:
        """Break everything off: hypervisors go on where they are."""
        for route in list(self.routes.values()):
            self.close_route(route.id)
        for task in self._links:
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        self.relays.close()
        self.domains.close()
        self.residents.close()
        self._workers.shutdown(wait=False, cancel_futures=True)

    # --- links ---------------------------------------------------------------------------------

    async def departures(self, peer: str) -> Departures:
        """Return the link to a site, calling it where there is none.

        Raises:
            UsageError: the configuration has no such site.
            LinkLost: it can't be reached.
            PeerRefused: somebody else answers.
            IdentityUnusable: our certificate has ended.
        """
        calling = self._calls.get(peer)
        if calling is None or (calling.done() and _is_over(calling)):
            calling = self._calls[peer] = asyncio.create_task(self._call(peer), name=f"call {peer}")
        return await asyncio.shield(calling)

    async def _call(self, peer: str) -> Departures:
        address = self.settings.peers.get(peer)
        if address is None:
            known = ", ".join(self.settings.peers) or "none"
            raise UsageError(
                f"the gateway of {self.site} has no address of {peer}; it has: {known}"
            )
        expected = Peer(kind=PeerKind.SITE, name=peer)
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                reader, writer = await call(
                    self._identity, address.host, address.port, expected, limit_bytes=_READ_BYTES
                )
        except (OSError, TimeoutError) as error:
            raise LinkLost(
                f"{peer} at {address} can't be reached: {error or 'no answer'}"
            ) from error
        link = Link(peer, reader, writer, silence_seconds=self._silence_seconds)
        departures = Departures(self.site, link, self.domains, self._workers)
        self._keep(departures.run(), f"link to {peer}")
        log.info("link_opened", peer=peer, address=str(address))
        return departures

    async def _called(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Whoever is connected at our end is cancelled, which asyncio before 3.12 tells as a fault.
        with suppress(asyncio.CancelledError):
            await self._serve(reader, writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer = peer_of(writer.get_extra_info("ssl_object"))
            if peer.kind is PeerKind.OPERATOR and self.control is not None:
                await self.control(peer, reader, writer)
                return
            if peer.kind is PeerKind.HOST:
                await self.relays.called(peer, reader, writer)
                return
            if peer.kind is not PeerKind.SITE or peer.name == self.site:
                raise PeerRefused("another site", f"{peer} is there")
        except PeerRefused as refused:
            log.warning("link_refused", why=str(refused))
            writer.transport.abort()
            return
        log.info("link_accepted", peer=peer.name)
        link = Link(peer.name, reader, writer, silence_seconds=self._silence_seconds)
        arrivals = Arrivals(link, peer, self._receiving)
        running = self._keep(arrivals.run(), f"link from {peer.name}")
        await asyncio.wait({running})

    def _keep(self, running: "asyncio.Future[None] | object", name: str) -> "asyncio.Task[None]":
        task: asyncio.Task[None] = asyncio.create_task(running, name=name)  # type: ignore[arg-type]
        self._links.add(task)
        task.add_done_callback(self._links.discard)
        return task

    def _way_back(self, peer: str, tenant: str, below: int) -> bool:
        calling = self._calls.get(peer)
        if calling is None or not calling.done() or _is_over(calling):
            return False
        calling.result().link.say_words(Kind.FORGOTTEN, 0, {"tenant": tenant, "below": below})
        return True

    # --- routes --------------------------------------------------------------------------------

    async def open_route(
        self,
        migration: str,
        vm: str,
        tenant: str,
        destination: str,
        token: bytes,
        *,
        host: str | None = None,
        share: Share | None = None,
    ) -> Route:
        """Listen for a hypervisor that sends a VM away; what it sends keeps to its share of the link.

        Args:
            migration, vm, tenant: what goes.
            destination: a peer.
            token: of a ticket for it.
            host: of the site, where the hypervisor is; one without a relay, or None, is this machine.
            share: what it may use of the link.

        Raises:
            Refused: the destination doesn't take the ticket.
            LinkLost, PeerRefused, UsageError: it can't be reached, or the host's relay isn't there.
            IdentityUnusable: our certificate has ended.
            OSError: the sockets can't be made.
        """
        hypervisors = self.relays.at(host)
        departures = await self.departures(destination)
        departure = await departures.request(vm, tenant, token)
        try:
            doors = await hypervisors.open_doors(migration)
        except OSError:
            departures.close(departure)
            raise
        if share is not None:
            departure.member = self.gangs.join(destination, share)
        began = time.monotonic()
        route = Route(migration, vm, departures, departure, began, doors, share)
        self.routes[migration] = route
        for number in range(len(SOCKETS)):
            task = asyncio.create_task(self._accept(route, number), name=f"{vm} leaves")
            route.tasks.append(task)
        return route

    def sends_memory_of(self, vm: str) -> bool:
        """Say whether a hypervisor is sending a VM's memory, wherever it goes."""
        return any(
            route.vm == vm and route.departures.sends_memory_of(route.departure)
            for route in self.routes.values()
        )

    def close_route(self, migration: str) -> Route | None:
        """Take a route away; what still runs on it is broken off."""
        route = self.routes.pop(migration, None)
        if route is None:
            return None
        for task in route.tasks:
            task.cancel()
        route.doors.close()
        route.departures.close(route.departure)
        if route.departure.member is not None:
            route.departure.member.leave()
        return route

    async def _accept(self, route: Route, number: int) -> None:
        while True:
            try:
                async with asyncio.timeout(UNUSED_SECONDS):
                    connection = await route.doors.accept(number)
            except TimeoutError:
                if not route.departure.channels:
                    log.warning("route_unused", vm=route.vm, seconds=UNUSED_SECONDS)
                    self.close_route(route.id)
                    return
                continue
            if route.connections >= MOST_CHANNELS:
                log.warning("connection_refused", vm=route.vm, why=f"it had {MOST_CHANNELS}")
                connection.close()
                continue
            route.connections += 1
            splitter = NbdSplitter() if number else QemuSplitter()
            carrying = route.departures.carry(route.departure, connection, number, splitter)
            route.tasks.append(asyncio.create_task(carrying, name=f"{route.vm} {SOCKETS[number]}"))


def _is_over(calling: "asyncio.Task[Departures]") -> bool:
    return (
        calling.cancelled()
        or calling.exception() is not None
        or calling.result().link.lost is not None
    )


async def start_gateway(
    settings: GatewaySettings, *, silence_seconds: float = SILENCE_SECONDS
) -> Gateway:
    """Return a gateway with its identity checked and its images indexed.

    Raises:
        IdentityUnusable: the site's certificate, its key or its authority can't be used.
        UsageError: the certificate is another site's, or an image can't be read.
    """
    identity = load_identity(settings.identity, kind=PeerKind.SITE)
    if identity.peer.name != settings.site:
        raise UsageError(
            f"{settings.identity} is the identity of site {identity.peer.name}, not of {settings.site}"
        )
    images = []
    for image in settings.images:
        try:
            catalogue = await in_a_loose_thread(index_image, image.path)
        except OSError as error:
            raise UsageError(f"image {image.path} can't be read: {error}") from error
        log.info("image_indexed", image=str(image.path), blocks=len(catalogue.digests))
        images.append(SharedImage(catalogue, image.tenants))
    return Gateway(settings, identity, tuple(images), silence_seconds=silence_seconds)
