"""A plain VXLAN segment over a lab's bridges, as any Linux makes it: unknown frames flood, senders teach."""

import asyncio

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.execute.overlay.plane.names import EVERYBODY
from transhume.reach.netns import netlink_in

DEVICE = "learns0"
_SELF, _STATIC = 0x02, 0xC0


class Flooding:
    """The segment's ends at all sites."""

    def __init__(self, network: OverlayNetwork) -> None:
        self._network = network

    async def join(self) -> None:
        """Make an end at each site, which floods to all others."""
        await asyncio.gather(*(asyncio.to_thread(self._join_at, s) for s in self._network.sites))

    async def remove(self) -> None:
        """Remove the ends, and what they have learned with them."""
        await asyncio.gather(*(asyncio.to_thread(self._remove_at, s) for s in self._network.sites))

    def _join_at(self, site: OverlaySite) -> None:
        with netlink_in(site.netns) as netlink:
            netlink.link(
                "add",
                ifname=DEVICE,
                kind="vxlan",
                vxlan_id=self._network.vni,
                vxlan_port=self._network.port,
                vxlan_local=site.vtep,
                vxlan_learning=1,
            )
            index, bridge = (netlink.link_lookup(ifname=n)[0] for n in (DEVICE, site.bridge))
            netlink.link("set", index=index, master=bridge, state="up")
            for other in self._network.sites:
                if other is not site:
                    netlink.fdb(
                        "append",
                        ifindex=index,
                        lladdr=EVERYBODY,
                        dst=other.vtep,
                        flags=_SELF,
                        state=_STATIC,
                    )

    def _remove_at(self, site: OverlaySite) -> None:
        with netlink_in(site.netns) as netlink:
            for index in netlink.link_lookup(ifname=DEVICE):
                netlink.link("del", index=index)
