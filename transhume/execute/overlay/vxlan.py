"""The overlay on the kernel's bridges and VXLAN, re-pointed by netlink; no frame passes through Python.

Owns the order in which sites are told, and turns what netlink says into errors a person understands; what is
told to one site is `tunnel_end`'s. Leaves out encryption and the crossing of NAT: the underlay must be trusted.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.errors import OverlayError, UsageError
from transhume.execute.overlay.tunnel_end import TunnelEnd
from transhume.knowledge.model import MacAddress
from transhume.reach.netns import NAMED, netlink_in

T = TypeVar("T")


class VxlanOverlay:
    """One VXLAN segment over the bridges of all sites, with forwarding entries that only we write."""

    def __init__(self, network: OverlayNetwork) -> None:
        self._network = network
        self._sites = {site.name: site for site in network.sites}

    async def join(self) -> None:
        """Make and connect the tunnels' ends at all sites."""
        await self._at_each(self._network.sites, TunnelEnd.join)

    async def bind(self, macs: Sequence[MacAddress], site: str) -> None:
        """Send the frames for `macs` to `site`, from every site."""
        owner = self._site(site)
        # The owner first: it must be ready to deliver before the others send.
        await self._at_each([owner], lambda end: end.keep(macs))
        others = [other for other in self._network.sites if other is not owner]
        await self._at_each(others, lambda end: end.send_away(macs, owner.vtep))

    async def check(self, macs: Sequence[MacAddress], site: str) -> tuple[str, ...]:
        """Say what keeps frames for `macs` from reaching `site`."""
        owner = self._site(site)
        found = await self._at_each(self._network.sites, lambda end: tuple(end.faults(macs, owner)))
        return tuple(fault for faults in found for fault in faults)

    async def remove(self) -> None:
        """Remove the tunnels' ends from all sites that are still there."""
        await asyncio.gather(
            *(asyncio.to_thread(self._remove_at, site) for site in self._network.sites)
        )

    def _site(self, name: str) -> OverlaySite:
        if name not in self._sites:
            raise OverlayError(
                f"{name} isn't a site of the overlay; it has {', '.join(sorted(self._sites))}"
            )
        return self._sites[name]

    async def _at_each(
        self, sites: Iterable[OverlaySite], act: Callable[[TunnelEnd], T]
    ) -> list[T]:
        return await asyncio.gather(*(asyncio.to_thread(self._at, site, act) for site in sites))

    def _remove_at(self, site: OverlaySite) -> None:
        if site.netns is None or (NAMED / site.netns).exists():
            self._at(site, TunnelEnd.remove)

    def _at(self, site: OverlaySite, act: Callable[[TunnelEnd], T]) -> T:
        try:
            with netlink_in(site.netns) as netlink:
                return act(TunnelEnd(netlink, self._network, site))
        except UsageError as error:
            raise OverlayError(f"site {site.name}: {error}") from error
        except OSError as error:
            raise OverlayError(f"site {site.name}: the kernel refused: {error}") from error
