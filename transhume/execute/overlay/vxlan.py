"""The overlay on the kernel's bridges and VXLAN, re-pointed by netlink; no frame passes through Python.

Owns the order in which sites are told; what is told to one site is `plane`'s. Leaves out encryption and the
crossing of NAT: the underlay must be trusted.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TypeVar

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay.plane import SitePlane
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import IpAddress, MacAddress, VmName
from transhume.reach.netns import NAMED

T = TypeVar("T")


class VxlanOverlay:
    """One VXLAN segment over the bridges of all sites, with forwarding entries that only we write."""

    def __init__(self, network: OverlayNetwork) -> None:
        self._network = network
        self._sites = {site.name: site for site in network.sites}

    async def join(self) -> None:
        """Make and connect the tunnels' ends at all sites, and tell them who never moves."""
        await self._at_each(self._network.sites, SitePlane.set_up)
        for site in self._network.sites:
            if site.fixed:
                await self.bind([each.mac for each in site.fixed], site.name)

    def obstacle(self, macs: Sequence[MacAddress], site: str) -> str | None:
        """Say whether a site lacks the network."""
        return self._network.obstacle_at(site) if macs else None

    async def bind(self, macs: Sequence[MacAddress], site: str) -> None:
        """Send the frames for `macs` to `site`, from every site."""
        owner = self._site(site)
        # The owner first: it must be ready to deliver before the others send.
        await self._at_each([owner], lambda plane: plane.apply(_routes(macs, None)))
        others = [other for other in self._network.sites if other is not owner]
        await self._at_each(others, lambda plane: plane.apply(_routes(macs, owner)))

    async def adopt(self, macs: Sequence[MacAddress], site: str) -> None:
        """Send the frames for `macs` to `site`: nobody else says where they are."""
        await self.bind(macs, site)

    def hand_over(
        self, vm: VmName, macs: Sequence[MacAddress], source: str, destination: str
    ) -> AbstractAsyncContextManager[None]:
        """Do nothing: nobody at the sites could make use of it."""
        return nullcontext()

    async def check(self, macs: Sequence[MacAddress], site: str) -> tuple[str, ...]:
        """Say what keeps frames for `macs` from reaching `site`."""
        owner = self._site(site)
        here, away = _routes(macs, None), _routes(macs, owner)
        found = await asyncio.gather(
            *(
                asyncio.to_thread(self._at, each, _faults_in(here if each is owner else away))
                for each in self._network.sites
            )
        )
        return tuple(fault for faults in found for fault in faults)

    async def remove(self) -> None:
        """Remove the tunnels' ends from all sites that are still there."""
        there = [
            site
            for site in self._network.sites
            if site.netns is None or (NAMED / site.netns).exists()
        ]
        await self._at_each(there, SitePlane.tear_down)

    def _site(self, name: str) -> OverlaySite:
        if why := self._network.obstacle_at(name):
            raise OverlayError(why)
        return self._sites[name]

    async def _at_each(
        self, sites: Iterable[OverlaySite], act: Callable[[SitePlane], T]
    ) -> list[T]:
        return await asyncio.gather(*(asyncio.to_thread(self._at, site, act) for site in sites))

    def _at(self, site: OverlaySite, act: Callable[[SitePlane], T]) -> T:
        # Who isn't bound, a gateway say, is found by flooding.
        with SitePlane(self._network, site, floods_unknown=True) as plane:
            return act(plane)


def _routes(macs: Sequence[MacAddress], owner: OverlaySite | None) -> tuple[Route, ...]:
    vtep = IpAddress(owner.vtep) if owner is not None else None
    return tuple(Route(mac=mac, vtep=vtep) for mac in macs)


def _faults_in(wanted: tuple[Route, ...]) -> Callable[[SitePlane], tuple[str, ...]]:
    return lambda plane: plane.faults(wanted)
