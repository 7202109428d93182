"""The packet rules of a virtual network's gateway at a site, as text for nftables.

Owns these promises. In the gateway's namespace: a connection that is anchored at another site goes there
untouched; what begins here leaves by the uplink from this site's address; what is in the middle of a connection
that nobody knows (yet) is dropped, so that TCP says it again; nothing goes to VMs but answers, and nothing
that came from another gateway goes to a third. On the bridge: neither the gateway's address nor questions for
it cross a tunnel. At the host: VMs reach what is behind the uplink, and neither the host nor another network,
nor, with forged packets, another site's tunnels.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from transhume.deployment.model import GatewaySettings, OverlayNetwork
from transhume.execute.overlay.gateway.layout import (
    ACCESS,
    LINK_LOCAL,
    TRANSIT,
    UPLINK,
    anchors_table,
    cables,
    host_addresses,
    prefix,
    table,
)
from transhume.execute.overlay.plane.names import tunnel_devices
from transhume.execute.overlay.sealing import replacing, seal
from transhume.knowledge.model import Flow, IpAddress

ANCHORS = "anchors"
_NOT_OUTSIDE = (str(LINK_LOCAL), "127.0.0.0/8", "224.0.0.0/3")
"""Addresses that no VM reaches by a gateway: first of all, what clouds tell their own machines."""
_ELEMENT = re.compile(r"([\d.]+) \. (tcp|udp) \. (\d+) \. ([\d.]+) \. (\d+) : (0x[0-9a-f]+|\d+)")

Held = Mapping[tuple[IpAddress, Flow], int]
"""The mark of the site at which a VM's connection is anchored."""


class Rules(NamedTuple):
    """One table: where it belongs, how it's known again, and how it's made."""

    family: str
    table: str
    seal: str
    script: str


def inside_rules(
    network: OverlayNetwork, settings: GatewaySettings, *, leaves_here: bool, segment_bytes: int
) -> Rules:
    """Return the rules in the gateway's namespace.

    `segment_bytes` is the longest TCP segment that crosses a tunnel: every connection keeps to it from its
    beginning, because its VM may move.
    """
    ours, _ = host_addresses(network.vni)
    vms = prefix(settings)
    elsewhere = "" if leaves_here else f'iifname "{ACCESS}" ip daddr != {settings.ip} notrack\n'
    body = f"""chain first {{
type filter hook prerouting priority raw; policy accept;
iifname {{ "{ACCESS}", "{TRANSIT}" }} ip saddr != {vms} drop
{elsewhere}}}
chain input {{
type filter hook input priority filter; policy drop;
iifname "{ACCESS}" ip daddr {settings.ip} icmp type echo-request accept
iifname "{UPLINK}" ct state {{ established, related }} accept
}}
chain forward {{
type filter hook forward priority filter; policy drop;
tcp flags & syn != 0 tcp option maxseg size set {segment_bytes}
iifname {{ "{ACCESS}", "{TRANSIT}" }} ip daddr {{ {vms}, {", ".join(_NOT_OUTSIDE)} }} drop
ct state invalid drop
ct state new tcp flags & (fin | syn | rst | ack) != syn drop
iifname "{ACCESS}" oifname {{ "{TRANSIT}", "{UPLINK}" }} accept
iifname "{TRANSIT}" oifname "{UPLINK}" accept
iifname "{UPLINK}" oifname "{TRANSIT}" ct state {{ established, related }} accept
}}
chain leaving {{
type nat hook postrouting priority srcnat; policy accept;
oifname "{UPLINK}" snat to {ours}
}}
"""
    return _rules("ip", table(network.vni), body)


def anchor_rules(network: OverlayNetwork) -> Rules:
    """Return the rules in the gateway's namespace that let anchored connections pass on, untouched."""
    body = f"""map {ANCHORS} {{
type ipv4_addr . inet_proto . inet_service . ipv4_addr . inet_service : mark
}}
chain first {{
type filter hook prerouting priority raw; policy accept;
iifname "{ACCESS}" meta mark set ip saddr . ip protocol . th sport . ip daddr . th dport map @{ANCHORS}
meta mark != 0 notrack
}}
"""
    return _rules("ip", anchors_table(network.vni), body)


def host_rules(network: OverlayNetwork, uplink: str, *, routes_for_us_alone: bool) -> Rules:
    """Return the rules at the host. `routes_for_us_alone`: it forwarded nothing from its uplink before."""
    ours, _ = host_addresses(network.vni)
    cable = cables(network.vni)[UPLINK]
    alone = f'iifname "{uplink}" oifname != "thvu*" drop\n' if routes_for_us_alone else ""
    body = f"""chain input {{
type filter hook input priority filter; policy accept;
iifname "{cable}" drop
}}
chain forward {{
type filter hook forward priority filter; policy accept;
iifname "{cable}" oifname != "{uplink}" drop
iifname "{cable}" ct state invalid drop
oifname "{cable}" iifname != "{uplink}" drop
oifname "{cable}" ct state != {{ established, related }} drop
iifname "thvu*" udp dport {network.port} drop
{alone}}}
chain leaving {{
type nat hook postrouting priority srcnat; policy accept;
ip saddr {ours} oifname "{uplink}" masquerade
}}
"""
    return _rules("ip", table(network.vni), body)


def routes_for_us_alone(listing: str) -> bool:
    """Say whether a listing of the host's rules is of one that forwarded nothing before."""
    return 'oifname != "thvu*" drop' in listing


def bridge_rules(network: OverlayNetwork, settings: GatewaySettings) -> Rules:
    """Return the rules on the site's bridges."""
    tunnels = "{ " + ", ".join(f'"{name}"' for name in tunnel_devices(network)) + " }"
    drops = "".join(
        f"{way} {tunnels} {what} drop\n"
        for way in ("iifname", "oifname")
        for what in (
            f"ether saddr {settings.mac}",
            f"ether daddr {settings.mac}",
            f"arp daddr ip {settings.ip}",
            f"arp saddr ip {settings.ip}",
        )
    )
    body = (
        f"chain forward {{\ntype filter hook forward priority filter; policy accept;\n{drops}}}\n"
    )
    return _rules("bridge", table(network.vni), body)


def elements(held: Iterable[tuple[tuple[IpAddress, Flow], int]]) -> str:
    """Return anchors as nftables writes elements of the map."""
    return ", ".join(f"{_key(*key)} : {mark:#x}" for key, mark in held)


def held_in(listing: str) -> dict[tuple[IpAddress, Flow], int]:
    """Return the anchors in a listing of the map."""
    found: dict[tuple[IpAddress, Flow], int] = {}
    for ip, protocol, port, peer, peer_port, mark in _ELEMENT.findall(listing):
        flow = Flow(
            "tcp" if protocol == "tcp" else "udp", int(port), IpAddress(peer), int(peer_port)
        )
        found[IpAddress(ip), flow] = int(mark, 0)
    return found


def changes(vni: int, actual: Held, wanted: Held) -> str:
    """Return the script after which the map holds what is wanted; nothing where it does."""
    gone = [key for key, mark in actual.items() if wanted.get(key) != mark]
    new = [(key, mark) for key, mark in wanted.items() if actual.get(key) != mark]
    map_name = f"ip {anchors_table(vni)} {ANCHORS}"
    removed = ", ".join(_key(*key) for key in gone)
    return (f"delete element {map_name} {{ {removed} }}\n" if gone else "") + (
        f"add element {map_name} {{ {elements(new)} }}\n" if new else ""
    )


def _key(ip: IpAddress, flow: Flow) -> str:
    return f"{ip} . {flow.protocol} . {flow.port} . {flow.peer} . {flow.peer_port}"


def _rules(family: str, name: str, body: str) -> Rules:
    return Rules(family, name, seal(body), replacing(family, name, body))
