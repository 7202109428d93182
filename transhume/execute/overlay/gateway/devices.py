"""The gateway's cables, addresses and routes at one site, by pyroute2.

Owns their making and their checking. Everything is described once, as what should be there; making writes what
is missing, and nothing that is there already is touched: connections go on while an agent begins anew.
"""

import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from transhume.deployment.model import GatewaySettings, OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay.gateway import namespaces
from transhume.execute.overlay.gateway.layout import (
    ACCESS,
    TRANSIT,
    UPLINK,
    cables,
    exit_of,
    host_addresses,
    namespace,
    places,
    prefix,
)
from transhume.execute.overlay.plane.rules import segment_bytes
from transhume.knowledge.model import SiteName
from transhume.reach import sysctl
from transhume.reach.netns import inside, netlink_in

_UP = 0x01
_LINK, _UNIVERSE = 253, 0
_MAIN = 254
_PRIORITY = 1000
_PERMANENT, _STATIC = 0x80, 0x40
_BRIDGES_TABLE, _STICKY = 0x04, 0x40
_TCP_AND_IP_BYTES = 40
_OF_THE_NAMESPACE = {
    "ipv4/ip_forward": "1",
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
    # Frames to VMs leave by another cable than theirs come in by.
    "ipv4/conf/all/rp_filter": "0",
    # Each address is told of by its own cable: two gateways of one address must never be told apart.
    "ipv4/conf/all/arp_ignore": "1",
    "ipv4/conf/all/arp_announce": "2",
    "ipv4/conf/all/send_redirects": "0",
    "ipv4/conf/all/accept_redirects": "0",
    # After a move the anchor sees segments in an order that no host would have sent.
    "netfilter/nf_conntrack_tcp_be_liberal": "1",
}


Links = dict[str, Any]
"""Devices by name."""


class Route(NamedTuple):
    """A line of the gateway's routing tables."""

    table: int
    to: str
    length: int
    by: str | None
    cable: str


class Cables:
    """The cables of one network's gateway at one site. Blocking."""

    def __init__(
        self, network: OverlayNetwork, site: OverlaySite, settings: GatewaySettings
    ) -> None:
        self._network, self._site, self._settings = network, site, settings
        self.netns = namespace(network.vni, site.name)
        self._outer = cables(network.vni)
        self._places = places(network)
        self._here = self._places[SiteName(site.name)]
        self._others = [each for name, each in self._places.items() if name != site.name]
        self._exit = exit_of(network, site.name)
        self._segment_bytes: int | None = None
        self._inner = (ACCESS, TRANSIT, *((UPLINK,) if site.uplink else ()))

    @property
    def leaves_here(self) -> bool:
        """Whether what VMs here send to the outside leaves by this site's own uplink."""
        return self._exit == self._site.name

    def longest_segment(self) -> int:
        """Return the bytes of the longest TCP segment that crosses a tunnel of this site in one piece."""
        if self._segment_bytes is None:
            with netlink_in(self._site.netns) as outside:
                self._measure(_links(outside))
        return self._segment_bytes or 0

    def _measure(self, links: Links) -> None:
        underlay = _need(links, self._site, self._site.underlay, "its underlay")
        self._segment_bytes = segment_bytes(self._site, int(underlay.get("mtu")))["ip"]

    def make(self) -> None:
        """Make what is missing.

        Raises:
            OverlayError: the site lacks its bridge, its underlay or its uplink.
        """
        namespaces.make(self.netns)
        with inside(self.netns):
            for name, value in _OF_THE_NAMESPACE.items():
                sysctl.write(name, value)
        mtu = self.longest_segment() + _TCP_AND_IP_BYTES
        with netlink_in(self._site.netns) as outside, netlink_in(self.netns) as within:
            bridge = _need(_links(outside), self._site, self._site.bridge, "its bridge")
            for name in self._inner:
                self._connect(name, outside, within, bridge, mtu)
            self._lead_to_host(outside)
            at = {name: link["index"] for name, link in _links(within).items()}
            self._address(within, at)
            self._know_neighbours(within, at[TRANSIT])
            self._lead(within, at)

    def faults(self) -> Iterator[str]:
        """Say what isn't as `make` makes it."""
        if not namespaces.exists(self.netns):
            yield f"there is no gateway ({self.netns})"
            return
        with netlink_in(self._site.netns) as outside, netlink_in(self.netns) as within:
            near, far = _links(outside), _links(within)
            self._measure(near)
            yield from self._cable_faults(near, far, _addresses(within))
            if missing := self._wanted_routes() - _routes(within):
                yield f"the gateway lacks {len(missing)} of its routes"
            if self._wanted_marks() - _marks(within):
                yield "the gateway lacks rules for anchored connections"
        if self._site.uplink and not self._forwards():
            yield f"{self._site.uplink} doesn't forward"

    def _cable_faults(
        self, near: Links, far: Links, addresses: frozenset[tuple[int, str]]
    ) -> Iterator[str]:
        bridge = near.get(self._site.bridge)
        for name in self._inner:
            outer, inner = near.get(self._outer[name]), far.get(name)
            if outer is None or inner is None:
                yield f"the gateway's cable {self._outer[name]} is gone"
            elif not outer["flags"] & inner["flags"] & _UP:
                yield f"the gateway's cable {self._outer[name]} is down"
            elif name != UPLINK and (bridge is None or outer.get("master") != bridge["index"]):
                yield f"{self._outer[name]} isn't a port of {self._site.bridge}"
            elif name != UPLINK and inner.get("address") != self._mac(name):
                yield f"the gateway's cable {self._outer[name]} has another MAC address"
            elif (inner["index"], self._ip(name)) not in addresses:
                yield f"the gateway has lost its address on {self._outer[name]}"

    def uplink_forwards(self) -> bool:
        """Say whether the host forwards what comes in by its uplink."""
        with inside(self._site.netns):
            return sysctl.read(f"ipv4/conf/{self._site.uplink}/forwarding") == "1"

    # --- how it is made ------------------------------------------------------------------------------

    def _connect(self, name: str, outside: Any, within: Any, bridge: Any, mtu: int) -> None:
        near, far = _find(outside, self._outer[name]), _find(within, name)
        mac = self._mac(name)
        if near is None or far is None:
            for left, netlink in ((near, outside), (far, within)):
                if left is not None:
                    netlink.link("del", index=left["index"])
            peer = {"ifname": name, "net_ns_fd": self.netns} | ({"address": mac} if mac else {})
            outside.link("add", ifname=self._outer[name], kind="veth", peer=peer)
            near, far = _find(outside, self._outer[name]), _find(within, name)
            if near is None or far is None:
                raise OverlayError(f"{self._outer[name]} was removed as soon as it was made")
        elif mac and far.get("address") != mac:
            within.link("set", index=far["index"], address=mac)
        if name != UPLINK and near.get("master") != bridge["index"]:
            outside.link("set", index=near["index"], master=bridge["index"], mtu=bridge.get("mtu"))
        longest = min(mtu, bridge.get("mtu")) if name == TRANSIT else near.get("mtu")
        within.link("set", index=far["index"], mtu=longest, state="up")
        outside.link("set", index=near["index"], state="up")
        if mac:
            # Sticky: a guest that sends from this address doesn't draw it to itself.
            outside.fdb(
                "replace",
                ifindex=near["index"],
                lladdr=mac,
                flags=_BRIDGES_TABLE | _STICKY,
                state=_STATIC,
            )

    def _lead_to_host(self, outside: Any) -> None:
        if not self._site.uplink:
            return
        links = _links(outside)
        _need(links, self._site, self._site.uplink, "its uplink")
        cable = links[self._outer[UPLINK]]
        ours, hosts = host_addresses(self._network.vni)
        outside.addr("replace", index=cable["index"], address=hosts, prefixlen=32)
        outside.route("replace", dst=f"{ours}/32", oif=cable["index"], scope=_LINK)
        with inside(self._site.netns):
            for device in (self._outer[UPLINK], self._site.uplink):
                sysctl.write(f"ipv4/conf/{device}/forwarding", "1")
            sysctl.write(f"ipv4/conf/{self._outer[UPLINK]}/rp_filter", "0")

    def _address(self, within: Any, at: Mapping[str, int]) -> None:
        known = _addresses(within)
        for name in self._inner:
            if (at[name], self._ip(name)) not in known:
                within.addr("replace", index=at[name], address=self._ip(name), prefixlen=32)

    def _know_neighbours(self, within: Any, transit: int) -> None:
        for place in self._others:
            within.neigh(
                "replace", dst=place.ip, lladdr=place.mac, ifindex=transit, state=_PERMANENT
            )

    def _lead(self, within: Any, at: Mapping[str, int]) -> None:
        actual, wanted = _routes(within), self._wanted_routes()
        # Those that others lean on come first.
        for route in sorted(wanted - actual, key=lambda each: (each.by is not None, each)):
            reached = {"gateway": route.by} if route.by else {"scope": _LINK}
            source = (
                {"prefsrc": self._settings.ip} if route.to != "0.0.0.0" and not route.by else {}
            )
            within.route(
                "replace",
                table=route.table,
                dst=f"{route.to}/{route.length}",
                oif=at[route.cable],
                **reached,
                **(source if route.length < 32 else {}),
            )
        kept = {route[:3] for route in wanted}
        for route in actual - wanted:
            if route[:3] in kept:  # replaced
                continue
            with suppress(*_refusals()):
                within.route(
                    "del",
                    table=route.table,
                    dst=f"{route.to}/{route.length}",
                    family=socket.AF_INET,
                )
        known, marks = _marks(within), self._wanted_marks()
        for mark in marks - known:
            within.rule("add", fwmark=mark, table=mark, priority=_PRIORITY)
        for mark in known - marks:
            within.rule("del", fwmark=mark, table=mark, priority=_PRIORITY)

    # --- what there should be --------------------------------------------------------------------------

    def _wanted_routes(self) -> frozenset[Route]:
        vms = prefix(self._settings)
        found = {Route(_MAIN, str(vms.network_address), vms.prefixlen, None, TRANSIT)}
        for place in self._others:
            found.add(Route(_MAIN, place.ip, 32, None, TRANSIT))
            found.add(Route(place.mark, "0.0.0.0", 0, place.ip, TRANSIT))
        if self._site.uplink:
            _, hosts = host_addresses(self._network.vni)
            found.add(Route(_MAIN, hosts, 32, None, UPLINK))
            # What comes from sites that have no way of their own, or anchors, leaves here in any case.
            found.add(Route(_MAIN, "0.0.0.0", 0, hosts, UPLINK))
        if self._exit is not None and not self.leaves_here:
            found -= {each for each in found if each[:3] == (_MAIN, "0.0.0.0", 0)}
            found.add(Route(_MAIN, "0.0.0.0", 0, self._places[self._exit].ip, TRANSIT))
        return frozenset(found)

    def _wanted_marks(self) -> frozenset[int]:
        return frozenset(place.mark for place in self._others)

    def _mac(self, name: str) -> str | None:
        return {ACCESS: self._settings.mac, TRANSIT: str(self._here.mac)}.get(name)

    def _ip(self, name: str) -> str:
        ours, _ = host_addresses(self._network.vni)
        return {ACCESS: self._settings.ip, TRANSIT: self._here.ip, UPLINK: ours}[name]

    def _forwards(self) -> bool:
        with inside(self._site.netns):
            devices = (self._outer[UPLINK], self._site.uplink)
            return all(sysctl.read(f"ipv4/conf/{device}/forwarding") == "1" for device in devices)


def _need(links: Links, site: OverlaySite, name: str, what: str) -> Any:
    if name not in links:
        raise OverlayError(
            f"site {site.name}: there is no {name}, {what} by the deployment file; make it, or correct the file"
        )
    return links[name]


def _links(netlink: Any) -> Links:
    """Return all devices by name: one question for many, because each costs a millisecond."""
    return {link.get("ifname"): link for link in netlink.link("dump")}


def _addresses(netlink: Any) -> frozenset[tuple[int, str]]:
    return frozenset((each["index"], each.get("address")) for each in netlink.addr("dump"))


def _find(netlink: Any, name: str) -> Any:
    with suppress(StopIteration):
        return next(iter(netlink.link("dump", ifname=name)))
    return None


def remove_cables(vni: int, site: OverlaySite) -> None:
    """Remove a network's gateway from a site, with all that is in its namespace; there needn't be one."""
    with netlink_in(site.netns) as outside:
        links = _links(outside)
        for name in cables(vni).values():
            if name in links:
                outside.link("del", index=links[name]["index"])
    namespaces.remove(namespace(vni, site.name))


def _routes(netlink: Any) -> frozenset[Route]:
    """Return the routes of all tables but the local one."""
    names = {link["index"]: link.get("ifname") for link in netlink.link("dump")}
    found = set()
    for route in netlink.route("dump", family=socket.AF_INET):
        number = route.get("table") or route["table"]
        if number == 255 or route["type"] != 1:
            continue
        cable = names.get(route.get("oif"), "")
        to = route.get("dst") or "0.0.0.0"
        found.add(Route(number, to, route["dst_len"], route.get("gateway"), cable))
    return frozenset(found)


def _marks(netlink: Any) -> frozenset[int]:
    rules = netlink.rule("dump", family=socket.AF_INET)
    return frozenset(rule.get("fwmark") for rule in rules if rule.get("priority") == _PRIORITY)


def _refusals() -> tuple[type[Exception], ...]:
    from pyroute2.netlink.exceptions import NetlinkError

    return (NetlinkError,)
