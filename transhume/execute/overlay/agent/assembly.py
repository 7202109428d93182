"""Puts a site's agent together from the deployment file and the knowledge."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime
from functools import partial

from transhume.deployment.model import Deployment, OverlayNetwork, OverlaySite
from transhume.errors import UsageError
from transhume.execute.overlay.agent.events import Event, Sighted
from transhume.execute.overlay.agent.hypervisors import SiteHypervisors
from transhume.execute.overlay.agent.service import LEASE_SECONDS, Agent, Senses
from transhume.execute.overlay.agent.site import SiteAddresses
from transhume.execute.overlay.plane import SitePlane, tunnel_devices
from transhume.execute.overlay.sightings import Missed, Sightings
from transhume.execute.overlay.underlay import Mesh, TunnelNetwork, UnderlaySettings
from transhume.knowledge.lease import this_process
from transhume.knowledge.model import IpAddress, SiteName
from transhume.knowledge.store import Store
from transhume.reach.libvirt import Connections


@asynccontextmanager
async def agent_of(
    deployment: Deployment, site: str, store: Store, clock: Callable[[], datetime]
) -> AsyncIterator[Agent]:
    """Have a site's agent, ready to run, while the context lasts.

    Raises:
        UsageError: the deployment has no such site, or no overlay.
    """
    network, ours = site_in(deployment, site)
    hosts = tuple(host.name for host in deployment.hosts if host.cloud == site)
    known = [each for each in deployment.hypervisors if each.host in hosts]
    connections = Connections(known)
    hypervisors = SiteHypervisors(connections, tuple(each.host for each in known), ours.bridge)
    senses = Senses(
        run=(hypervisors.run, partial(watch_bridge, network, ours)),
        look=hypervisors.look if known else None,
        fixed=ours.fixed,
    )
    mesh = _mesh(network, ours, store)
    if mesh is not None:
        senses = _with(mesh, senses)
    vteps = {SiteName(each.name): IpAddress(each.vtep) for each in network.sites}
    with SitePlane(network, ours) as first, SitePlane(network, ours) as second:
        try:
            yield Agent(
                addresses=SiteAddresses(SiteName(site), network.vni, vteps),
                planes=(first, second),
                register=store.register(network.vni),
                lease=store.agent_lease(site, this_process(), LEASE_SECONDS),
                senses=senses,
                clock=clock,
            )
        finally:
            connections.close()
            # A device of the kernel's goes on without us, and the next agent finds it.
            if mesh is not None and mesh.device_kind != "kernel":
                await mesh.stop()


def site_in(deployment: Deployment, site: str) -> tuple[OverlayNetwork, OverlaySite]:
    """Return a deployment's overlay and a site of it.

    Raises:
        UsageError: there is none.
    """
    network = deployment.overlay
    if network is None:
        raise UsageError("the deployment file describes no overlay; add `overlay: {vni: 66}` to it")
    for each in network.sites:
        if each.name == site:
            return network, each
    names = ", ".join(each.name for each in network.sites)
    raise UsageError(f"the overlay has no site {site}; it has {names}")


async def watch_bridge(
    network: OverlayNetwork, site: OverlaySite, tell: Callable[[Event], None]
) -> None:
    """Tell of each address that a local port of the bridge speaks for."""
    watched = Sightings(bridge=site.bridge, netns=site.netns, leave_out=tunnel_devices(network))
    async with watched as seen:
        async for each in seen:
            # What was missed may be of any of them.
            for sighting in seen.present() if isinstance(each, Missed) else (each,):
                tell(Sighted(mac=sighting.mac, device=sighting.port))


def _mesh(network: OverlayNetwork, site: OverlaySite, store: Store) -> Mesh | None:
    """Return the site's end of the encrypted paths, where there are such."""
    point = site.wireguard
    if point is None:
        return None
    fixed = {SiteName(each.name): IpAddress(each.vtep) for each in network.sites}
    settings = UnderlaySettings(
        site=SiteName(site.name),
        identity=point.identity,
        key_file=point.key,
        device=site.underlay,
        netns=site.netns,
        listen_port=point.port,
        endpoints=point.endpoints,
        relays=point.relays,
        tunnels=TunnelNetwork(fixed=fixed),
        udp_ports=frozenset({network.port}),
    )
    return Mesh(settings, store.underlay())


def _with(mesh: Mesh, senses: Senses) -> Senses:
    """Keep encrypted paths as they should be, beside what is perceived."""

    async def run(_tell: Callable[[Event], None]) -> None:
        await mesh.run()

    def paths() -> tuple[str, ...]:
        return tuple(
            f"{each.site}: {each.path}{f' by {each.relay}' if each.relay else ''}"
            for each in mesh.status()
        )

    return replace(senses, prepare=mesh.start, run=(*senses.run, run), paths=paths)
