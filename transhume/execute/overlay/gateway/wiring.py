"""Joins a network's gateway to the agent of a site, by what the agent perceives with."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import partial

import structlog

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay.agent.events import Awaited, Event, Runs, Stopped
from transhume.execute.overlay.agent.service import Sense, Senses
from transhume.execute.overlay.gateway import namespaces
from transhume.execute.overlay.gateway.keeper import GatewayKeeper
from transhume.execute.overlay.gateway.layout import (
    TRANSIT,
    cables,
    families,
    namespace,
    places,
)
from transhume.execute.overlay.gateway.site_gateway import SiteGateway, remove_gateway
from transhume.knowledge.model import Interface, MacAddress, SiteName
from transhume.knowledge.store import Store

log = structlog.get_logger()


def with_gateway(
    senses: Senses,
    network: OverlayNetwork,
    site: OverlaySite,
    store: Store,
    clock: Callable[[], datetime],
) -> Senses:
    """Return the senses of an agent that keeps its network's gateway too, where the network has one."""
    settings = network.gateway
    if settings is None:
        return replace(senses, run=(*senses.run, partial(_clear, network, site)))
    keeper = GatewayKeeper(
        network=network,
        settings=settings,
        site=SiteName(site.name),
        kernel=SiteGateway(network, site, settings),
        register=store.register(network.vni),
        directory=store.anchors(network.vni),
        clock=clock,
    )
    place = places(network)[SiteName(site.name)]
    transit = Interface(
        mac=place.mac,
        device=cables(network.vni)[TRANSIT],
        ips=tuple(place.ip_in(family) for family in families(settings)),
    )
    mac = MacAddress(settings.mac)

    async def keep(_tell: Callable[[Event], None]) -> None:
        await keeper.run()

    look = senses.look

    async def look_past(wanted: MacAddress) -> Interface | None:
        return None if wanted == mac or look is None else await look(wanted)

    return replace(
        senses,
        run=(*(_overheard(sense, mac, keeper.hear) for sense in senses.run), keep),
        look=None if look is None else look_past,
        fixed=(*senses.fixed, transit),
        faults=lambda: (*senses.faults(), *keeper.faults),
        anchored=lambda: keeper.anchored,
    )


async def _clear(
    network: OverlayNetwork, site: OverlaySite, _tell: Callable[[Event], None]
) -> None:
    """Remove the gateway that the network had when the deployment file said so."""
    if not namespaces.exists(namespace(network.vni, site.name)):
        return
    try:
        await asyncio.to_thread(remove_gateway, network, site)
        log.info("gateway_removed", site=site.name)
    except OverlayError as error:
        log.warning("gateway_not_removed", site=site.name, why=str(error))


def _overheard(sense: Sense, mac: MacAddress, hear: Callable[[Event], None]) -> Sense:
    """Let the gateway hear what is perceived, and nobody that a VM has the gateway's address."""

    async def run(tell: Callable[[Event], None]) -> None:
        def told(event: Event) -> None:
            hear(event)
            if isinstance(event, Runs | Stopped | Awaited):
                rest = tuple(each for each in event.interfaces if each.mac != mac)
                event = replace(event, interfaces=rest)
            tell(event)

        await sense(told)

    return run
