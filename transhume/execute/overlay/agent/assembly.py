"""Puts a site's agents together from the deployment file and the knowledge: one for each of its networks.

What they share is the site's: its hypervisors are asked once, and its end of the encrypted paths is kept once.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from transhume.deployment.model import Deployment, OverlayNetwork, OverlaySite
from transhume.errors import Error, UsageError
from transhume.execute.overlay.agent.events import Event, Sighted
from transhume.execute.overlay.agent.hypervisors import SiteHypervisors
from transhume.execute.overlay.agent.service import LEASE_SECONDS, Agent, Looking, Senses
from transhume.execute.overlay.agent.site import SiteAddresses
from transhume.execute.overlay.gateway import with_gateway
from transhume.execute.overlay.plane import SitePlane, tunnel_devices
from transhume.execute.overlay.salvage import Salvager
from transhume.execute.overlay.sightings import Missed, Sightings
from transhume.execute.overlay.underlay import Mesh, PathKind, TunnelNetwork, UnderlaySettings
from transhume.knowledge.lease import this_process
from transhume.knowledge.model import HostName, IpAddress, MacAddress, SiteName
from transhume.knowledge.store import Store
from transhume.reach.libvirt import Connections
from transhume.reach.netns import socket_in

_AT_ONCE = 64
"""Sightings, before others have their turn."""

Part = tuple[OverlayNetwork, OverlaySite]
"""One of the networks, and what a site is in it."""


class SiteAgents:
    """A site's agents, ready to run.

    Args:
        agents: one for each network. Who has the first one's claim looks after the site, and takes the others.
        ours: set when the first has its claim.
        beside: what the site does once, from then on.
    """

    def __init__(
        self,
        agents: Sequence[Agent],
        ours: asyncio.Event,
        beside: Sequence[Callable[[], Coroutine[Any, Any, None]]],
    ) -> None:
        self._first, *self._others = agents
        self._ours = ours
        self._beside = beside

    async def run(self) -> None:
        """Look after the site until cancelled.

        Raises:
            OverlayError: the kernel can't be set up.
            LeaseLost: other agents of this site have taken over.
        """
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._first.run())
                for agent in self._others:
                    tasks.create_task(self._then(agent.run))
                for duty in self._beside:
                    tasks.create_task(self._then(duty))
        except* Error as failed:
            raise _one_of(failed) from None

    async def _then(self, what: Callable[[], Coroutine[Any, Any, None]]) -> None:
        await self._ours.wait()
        await what()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shared:
    """What all of a site's agents have in common."""

    store: Store
    hypervisors: SiteHypervisors | None
    hostless: bool
    """Whether the site has no hosts at all, as opposed to such as can't be asked."""
    mesh: Mesh | None
    ours: asyncio.Event
    clock: Callable[[], datetime]

    async def prepare(self) -> None:
        """Do what comes before the kernel is set up, once nobody else looks after the site."""
        if self.mesh is not None:
            await self.mesh.start()
        self.ours.set()

    @property
    def paths(self) -> tuple[str, ...]:
        """How other sites are reached."""
        if self.mesh is None:
            return ()
        known = (
            f"{each.site}: {each.path}{f' by {each.relay}' if each.relay else ''}"
            for each in self.mesh.status()
        )
        return (*known, *(f"{site}: {PathKind.NONE}" for site in self.mesh.unbelieved))


@asynccontextmanager
async def agents_of(
    deployment: Deployment, site: str, store: Store, clock: Callable[[], datetime]
) -> AsyncIterator[SiteAgents]:
    """Have a site's agents, ready to run, while the context lasts.

    Raises:
        UsageError: the deployment has no such site, or no overlay.
    """
    parts = parts_of(deployment, site)
    with ExitStack() as stack:
        connections = Connections(deployment.hypervisors)
        stack.callback(connections.close)
        bridges = stack.enter_context(socket_in(parts[0][1].netns, kind=socket.SOCK_DGRAM))
        shared = _Shared(
            store=store,
            hypervisors=_hypervisors(deployment, site, connections, bridges),
            hostless=not _hosts(deployment, site),
            mesh=_mesh(deployment, parts, store),
            ours=asyncio.Event(),
            clock=clock,
        )
        beside = [each.run for each in (shared.hypervisors, shared.mesh) if each is not None]
        agents = [
            _agent(shared, part, stack, first=number == 0) for number, part in enumerate(parts)
        ]
        try:
            yield SiteAgents(agents, shared.ours, beside)
        finally:
            # A device of the kernel's goes on without us, and the next agent finds it.
            if shared.mesh is not None and shared.mesh.device_kind != "kernel":
                await shared.mesh.stop()


def parts_of(deployment: Deployment, site: str) -> tuple[Part, ...]:
    """Return the networks that a site has, each with what it is there.

    Raises:
        UsageError: there is none.
    """
    if not deployment.networks:
        raise UsageError("the deployment file describes no overlay; add `overlay: {vni: 66}` to it")
    parts = tuple(
        (network, each)
        for network in deployment.networks
        for each in network.sites
        if each.name == site
    )
    if not parts:
        names = ", ".join(_vteps(deployment.networks))
        raise UsageError(f"the overlay has no site {site}; it has {names}")
    return parts


async def watch_bridge(
    network: OverlayNetwork, site: OverlaySite, tell: Callable[[Event], None]
) -> None:
    """Tell of each address that a local port of the bridge speaks for."""
    watched = Sightings(bridge=site.bridge, netns=site.netns, leave_out=tunnel_devices(network))
    async with watched as seen:
        async for each in seen:
            # What was missed may be of any of them.
            found = await asyncio.to_thread(seen.present) if isinstance(each, Missed) else (each,)
            for number, sighting in enumerate(found, start=1):
                tell(Sighted(mac=sighting.mac, device=sighting.port))
                if number % _AT_ONCE == 0:  # a guest can have any number there
                    await asyncio.sleep(0)


def _one_of(failed: BaseExceptionGroup[Error]) -> Error:
    first = failed.exceptions[0]
    return _one_of(first) if isinstance(first, BaseExceptionGroup) else first


def _agent(shared: _Shared, part: Part, stack: ExitStack, *, first: bool) -> Agent:
    network, ours = part
    planes = [stack.enter_context(SitePlane(network, ours)) for _ in range(2)]
    site, lookouts = SiteName(ours.name), [partial(watch_bridge, network, ours)]
    hypervisors = shared.hypervisors
    if hypervisors is not None:
        lookouts.append(partial(hypervisors.tell, ours.bridge))
    senses = Senses(
        run=lookouts,
        look=_look_at(hypervisors, ours.bridge, hostless=shared.hostless),
        fixed=ours.fixed,
        paths=lambda: shared.paths,
    )
    senses = with_gateway(senses, network, ours, shared.store, shared.clock)
    return Agent(
        addresses=SiteAddresses(
            site,
            network.vni,
            _vteps([network]),
            fixed=frozenset(each.mac for each in senses.fixed),
            only_fixed=shared.hostless,
        ),
        planes=(planes[0], planes[1]),
        register=shared.store.register(network.vni),
        lease=shared.store.agent_lease(network.vni, site, this_process(), LEASE_SECONDS),
        senses=replace(senses, prepare=shared.prepare) if first else senses,
        clock=shared.clock,
        salvage=Salvager(network, ours),
        terms=network.terms,
    )


def _look_at(hypervisors: SiteHypervisors | None, bridge: str, *, hostless: bool) -> Looking | None:
    """Return what asks a site whether a VM runs there; None where only frames can tell."""
    if hypervisors is not None:
        return partial(hypervisors.look, bridge)
    return _find_nobody if hostless else None


async def _find_nobody(_mac: MacAddress) -> None:
    """Say that no VM runs where there are no hosts, whoever sends frames from its address."""


def _hosts(deployment: Deployment, site: str) -> frozenset[HostName]:
    return frozenset(host.name for host in deployment.hosts if host.cloud == site)


def _hypervisors(
    deployment: Deployment, site: str, connections: Connections, bridges: socket.socket
) -> SiteHypervisors | None:
    hosts = _hosts(deployment, site)
    known: list[HostName] = [each.host for each in deployment.hypervisors if each.host in hosts]
    if not known:
        return None
    complete = len(known) == len(hosts)
    return SiteHypervisors(connections, known, complete=complete, bridges=bridges)


def _vteps(networks: Sequence[OverlayNetwork]) -> dict[SiteName, IpAddress]:
    return {
        SiteName(each.name): IpAddress(each.vtep) for network in networks for each in network.sites
    }


def _mesh(deployment: Deployment, parts: Sequence[Part], store: Store) -> Mesh | None:
    """Return the site's end of the encrypted paths, where there are such: all its networks take them."""
    network, site = parts[0]
    point = site.wireguard
    if point is None:
        return None
    settings = UnderlaySettings(
        site=SiteName(site.name),
        identity=point.identity,
        key_file=point.key,
        device=site.underlay,
        netns=site.netns,
        listen_port=point.port,
        endpoints=point.endpoints,
        relays=point.relays,
        tunnels=TunnelNetwork(fixed=_vteps(deployment.networks)),
        udp_ports=frozenset({network.port}),
    )
    return Mesh(settings, store.underlay())
