"""Machines that a cloud's VMs share their bridge with, made of a namespace and a cable: cheaper than guests.

Each has an address in the guests' network, above theirs, and may speak. A bystander has a port at every site
and no address: what reaches it besides broadcasts was flooded. They go with the lab, by their names.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from transhume.knowledge.model import CloudName, IpAddress, MacAddress
from transhume.lab.network import make_namespace
from transhume.lab.spec import BRIDGE, EDGE, GATEWAY, PREFIX, CloudSpec
from transhume.reach.netns import NAMED, netlink_in

BYSTANDER = f"{PREFIX}bystander"


@dataclass(frozen=True, slots=True, kw_only=True)
class Neighbour:
    """A machine on a cloud's bridge that isn't a guest."""

    cloud: CloudName
    netns: str
    ip: IpAddress
    mac: MacAddress


def neighbour_of(cloud: CloudSpec) -> Neighbour:
    """Return the neighbour that a cloud's guests can have."""
    return Neighbour(
        cloud=cloud.name,
        netns=f"{PREFIX}at-{cloud.name}",
        ip=IpAddress(f"10.66.0.{100 + cloud.number}"),
        mac=MacAddress(f"52:54:00:7b:00:{cloud.number:02x}"),
    )


def plug_neighbour(cloud: CloudSpec) -> Neighbour:
    """Give a cloud's guests a neighbour, where they have none yet; the overlay has still to be told."""
    neighbour = neighbour_of(cloud)
    if not (NAMED / neighbour.netns).exists():
        make_namespace(neighbour.netns)
        with netlink_in(neighbour.netns) as own, netlink_in(cloud.netns) as site:
            index = _plug(own, site, "eth0", "neighbour", cloud.netns, address=neighbour.mac)
            own.addr("add", index=index, address=neighbour.ip, prefixlen=24)
            own.route("add", dst="default", gateway=GATEWAY)
    return neighbour


def plug_bystander(clouds: Sequence[CloudSpec]) -> str:
    """Make the bystander, with a port at each cloud and at the gateway site; return its namespace."""
    if not (NAMED / BYSTANDER).exists():
        make_namespace(BYSTANDER)
        for name, netns in [*((str(c.name), c.netns) for c in clouds), ("edge", EDGE)]:
            with netlink_in(BYSTANDER) as own, netlink_in(netns) as site:
                _plug(own, site, f"at-{name}", "bystander", netns)
    return BYSTANDER


def _plug(own: Any, site: Any, near: str, far: str, far_netns: str, **settings: str) -> int:
    peer = {"ifname": far, "net_ns_fd": far_netns}
    own.link("add", ifname=near, kind="veth", peer=peer, **settings)
    index, other = (int(n.link_lookup(ifname=name)[0]) for n, name in ((own, near), (site, far)))
    bridge = int(site.link_lookup(ifname=BRIDGE)[0])
    own.link("set", index=index, state="up")
    site.link("set", index=other, master=bridge, state="up")
    return index
