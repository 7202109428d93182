"""The gateway's cables and addresses at one site, by pyroute2.

Owns their making and their checking. Everything is described once, as what should be there; making writes what
is missing, and nothing that is there already is touched: connections go on while an agent begins anew.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

from transhume.deployment.model import GatewaySettings, OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay.gateway import namespaces
from transhume.execute.overlay.gateway.families import FAMILIES, IPV4, IPV6, Family, family_of
from transhume.execute.overlay.gateway.forwarding import forwards, let_forward
from transhume.execute.overlay.gateway.layout import (
    ACCESS,
    TRANSIT,
    UPLINK,
    addresses,
    addresses_at_host,
    cables,
    exit_of,
    families,
    host_addresses,
    namespace,
    places,
)
from transhume.execute.overlay.gateway.routing import LINK, Routing
from transhume.execute.overlay.plane.rules import segment_bytes
from transhume.knowledge.model import IpAddress, SiteName
from transhume.reach import sysctl
from transhume.reach.netns import inside, netlink_in

_UP = 0x01
_PERMANENT, _STATIC = 0x80, 0x40
_BRIDGES_TABLE, _STICKY = 0x04, 0x40
_TCP_AND_IPV4_BYTES = 40
_LEAST_IPV6_BYTES = 1280
"""A device with a shorter MTU has no IPv6 (RFC 8200)."""
_NO_DAD = 0x02
"""Of an address of IPv6: nobody is asked whether it's taken. The gateway's is, at every other site."""
_OF_THE_NAMESPACE = {
    "ipv4/ip_forward": "1",
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
_WITH_IPV6 = {
    # Before it's enabled: there are no addresses but those that are written.
    "ipv6/conf/default/addr_gen_mode": "1",
    "ipv6/conf/all/addr_gen_mode": "1",
    "ipv6/conf/default/disable_ipv6": "0",
    "ipv6/conf/all/disable_ipv6": "0",
    "ipv6/conf/all/forwarding": "1",
}
_WITHOUT_IPV6 = {
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
}

Links = dict[str, Any]
"""Devices by name."""


class Cables:
    """The cables of one network's gateway at one site. Blocking."""

    def __init__(
        self, network: OverlayNetwork, site: OverlaySite, settings: GatewaySettings
    ) -> None:
        self._network, self._site, self._settings = network, site, settings
        self.netns = namespace(network.vni, site.name)
        self._outer = cables(network.vni)
        known = places(network)
        self._here = known[SiteName(site.name)]
        self._others = [each for name, each in known.items() if name != site.name]
        self._exit = exit_of(network, site.name)
        self._segment_bytes: Mapping[str, int] = {}
        self._inner = (ACCESS, TRANSIT, *((UPLINK,) if site.uplink else ()))
        self._families = families(settings)
        self._addresses = addresses(network.vni, settings, self._here)
        self._routing = [Routing(network, site, settings, family) for family in FAMILIES]

    @property
    def leaves_here(self) -> bool:
        """Whether what VMs here send to the outside leaves by this site's own uplink."""
        return self._exit == self._site.name

    def longest_segment(self, family: Family) -> int:
        """Return the bytes of the longest TCP segment that crosses a tunnel of this site in one piece."""
        if not self._segment_bytes:
            with netlink_in(self._site.netns) as outside:
                self._measure(_links(outside))
        return self._segment_bytes[family.name]

    def _measure(self, links: Links) -> None:
        underlay = _need(links, self._site, self._site.underlay, "its underlay")
        self._segment_bytes = segment_bytes(self._site, int(underlay.get("mtu")))

    def make(self) -> None:
        """Make what is missing.

        Raises:
            OverlayError: the site lacks its bridge, its underlay or its uplink, or its tunnels are too narrow.
        """
        mtu = self._inner_mtu()
        namespaces.make(self.netns)
        with inside(self.netns):
            settings = _WITH_IPV6 if IPV6 in self._families else _WITHOUT_IPV6
            for name, value in (_OF_THE_NAMESPACE | settings).items():
                sysctl.write(name, value)
        with netlink_in(self._site.netns) as outside, netlink_in(self.netns) as within:
            bridge = _need(_links(outside), self._site, self._site.bridge, "its bridge")
            for name in self._inner:
                self._connect(name, outside, within, bridge, mtu)
            for family in self._families:
                self._lead_to_host(outside, family)
            at = {name: link["index"] for name, link in _links(within).items()}
            self._address(within, at)
            self._know_neighbours(within, at[TRANSIT])
            for routing in self._routing:
                routing.lead(within, at)

    def faults(self) -> Iterator[str]:
        """Say what isn't as `make` makes it."""
        if not namespaces.exists(self.netns):
            yield f"there is no gateway ({self.netns})"
            return
        with netlink_in(self._site.netns) as outside, netlink_in(self.netns) as within:
            near, far = _links(outside), _links(within)
            self._measure(near)
            yield from self._cable_faults(near, far, _addresses(within))
            if missing := sum(each.missing_routes(within) for each in self._routing):
                yield f"the gateway lacks {missing} of its routes"
            if any(each.lacks_marks(within) for each in self._routing):
                yield "the gateway lacks rules for anchored connections"
        for family in self._families:
            if self._site.uplink and not self._forwards(family):
                yield f"{self._site.uplink} doesn't forward" + _of(family)

    def _cable_faults(
        self, near: Links, far: Links, known: frozenset[tuple[int, str, int]]
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
            else:
                for ip, length in sorted(self._addresses[name]):
                    if (inner["index"], ip, length) not in known:
                        yield f"the gateway has lost its address {ip} on {self._outer[name]}"

    # --- how it is made ------------------------------------------------------------------------------

    def _inner_mtu(self) -> int:
        """Return the longest packet that crosses a tunnel of this site in one piece, in bytes."""
        mtu = self.longest_segment(IPV4) + _TCP_AND_IPV4_BYTES
        if IPV6 in self._families and mtu < _LEAST_IPV6_BYTES:
            raise OverlayError(
                f"site {self._site.name}: its tunnels carry packets of {mtu} bytes, and IPv6 takes "
                f"{_LEAST_IPV6_BYTES}; raise the MTU of {self._site.underlay}, or remove the gateway's ip6"
            )
        return mtu

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

    def _lead_to_host(self, outside: Any, family: Family) -> None:
        if not self._site.uplink:
            return
        links = _links(outside)
        _need(links, self._site, self._site.uplink, "its uplink")
        device = self._outer[UPLINK]
        cable, number = links[device]["index"], family.number
        ours, _ = host_addresses(self._network.vni, family)
        with inside(self._site.netns):
            if family is IPV4:
                sysctl.write(f"ipv4/conf/{device}/rp_filter", "0")
            else:
                sysctl.write(f"ipv6/conf/{device}/disable_ipv6", "0")
            for each in (device, self._site.uplink):
                let_forward(family, each)
        for ip, length in addresses_at_host(self._network.vni, family):
            _write_address(outside, cable, ip, length)
        outside.route("replace", family=number, dst=f"{ours}/{family.bits}", oif=cable, scope=LINK)

    def _address(self, within: Any, at: Mapping[str, int]) -> None:
        known = _addresses(within)
        for name in self._inner:
            here = {(ip, length) for index, ip, length in known if index == at[name]}
            for ip, length in here - self._addresses[name]:
                within.addr("del", index=at[name], address=ip, prefixlen=length)
            for ip, length in self._addresses[name] - here:
                _write_address(within, at[name], ip, length)

    def _know_neighbours(self, within: Any, transit: int) -> None:
        for family in self._families:
            for place in self._others:
                within.neigh(
                    "replace",
                    family=family.number,
                    dst=place.ip_in(family),
                    lladdr=place.mac,
                    ifindex=transit,
                    state=_PERMANENT,
                )

    # --- what there should be --------------------------------------------------------------------------

    def _mac(self, name: str) -> str | None:
        return {ACCESS: self._settings.mac, TRANSIT: str(self._here.mac)}.get(name)

    def _forwards(self, family: Family) -> bool:
        with inside(self._site.netns):
            return all(
                forwards(family, device)
                for device in (self._outer[UPLINK], self._site.uplink or "")
            )


def _need(links: Links, site: OverlaySite, name: str, what: str) -> Any:
    if name not in links:
        raise OverlayError(
            f"site {site.name}: there is no {name}, {what} by the deployment file; make it, or correct the file"
        )
    return links[name]


def _links(netlink: Any) -> Links:
    """Return all devices by name: one question for many, because each costs a millisecond."""
    return {link.get("ifname"): link for link in netlink.link("dump")}


def _addresses(netlink: Any) -> frozenset[tuple[int, str, int]]:
    return frozenset(
        (each["index"], each.get("address"), each["prefixlen"]) for each in netlink.addr("dump")
    )


def _write_address(netlink: Any, index: int, ip: IpAddress, length: int) -> None:
    quietly = {"flags": _NO_DAD} if family_of(ip) is IPV6 else {}
    netlink.addr("replace", index=index, address=ip, prefixlen=length, **quietly)


def _of(family: Family) -> str:
    return "" if family is IPV4 else " IPv6"


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
