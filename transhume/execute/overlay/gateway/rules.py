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
from ipaddress import IPv6Address
from typing import NamedTuple

from transhume.deployment.model import GatewaySettings, OverlayNetwork
from transhume.execute.overlay.gateway.families import (
    FAMILIES,
    IPV4,
    IPV6,
    Family,
    family_of,
    written,
)
from transhume.execute.overlay.gateway.layout import (
    ACCESS,
    TRANSIT,
    UPLINK,
    anchors_table,
    cables,
    gateway_ip,
    gateway_ips,
    host_addresses,
    prefix,
    table,
)
from transhume.execute.overlay.plane.names import tunnel_devices
from transhume.execute.overlay.sealing import replacing, seal
from transhume.knowledge.model import Flow, IpAddress

ANCHORS = "anchors"
_KEY_TYPES = {IPV4: "ipv4_addr", IPV6: "ipv6_addr"}
_DISCOVERY = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert }"
"""IPv6's ARP. It says whose address it is about behind the first eight bytes."""
_DISCOVERED = "@th,64,128"
_IP = r"([\da-f.:]+)"
_ELEMENT = re.compile(rf"{_IP} \. (tcp|udp) \. (\d+) \. {_IP} \. (\d+) : (0x[0-9a-f]+|\d+)")

Held = Mapping[tuple[IpAddress, Flow], int]
"""The mark of the site at which a VM's connection is anchored."""


class Rules(NamedTuple):
    """One table: where it belongs, how it's known again, and how it's made."""

    family: str
    table: str
    seal: str
    script: str


def inside_rules(
    network: OverlayNetwork,
    settings: GatewaySettings,
    family: Family,
    *,
    leaves_here: bool,
    segment_bytes: int,
) -> Rules:
    """Return the rules in the gateway's namespace for a family that it speaks.

    `segment_bytes` is the longest TCP segment that crosses a tunnel: every connection keeps to it from its
    beginning, because its VM may move.
    """
    ours, _ = host_addresses(network.vni, family)
    ip, vms, gateway = family.name, prefix(settings, family), gateway_ip(settings, family)
    elsewhere = "" if leaves_here else f'iifname "{ACCESS}" {ip} daddr != {gateway} notrack\n'
    senders = str(vms) if family is IPV4 else f"{{ {vms}, {family.link_local}, :: }}"
    body = f"""chain first {{
type filter hook prerouting priority raw; policy accept;
iifname {{ "{ACCESS}", "{TRANSIT}" }} {ip} saddr != {senders} drop
{elsewhere}}}
chain input {{
type filter hook input priority filter; policy drop;
{_accepted(settings, family)}iifname "{UPLINK}" ct state {{ established, related }} accept
}}
chain forward {{
type filter hook forward priority filter; policy drop;
tcp flags & syn != 0 tcp option maxseg size set {segment_bytes}
iifname {{ "{ACCESS}", "{TRANSIT}" }} {ip} daddr {{ {vms}, {", ".join(family.not_outside)} }} drop
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
    return _rules(ip, table(network.vni), body)


def anchor_rules(network: OverlayNetwork, family: Family) -> Rules:
    """Return the rules in the gateway's namespace that let anchored connections pass on, untouched."""
    ip, kind = family.name, _KEY_TYPES[family]
    key = f"{ip} saddr . {_protocol_of(family)} . th sport . {ip} daddr . th dport"
    body = f"""map {ANCHORS} {{
type {kind} . inet_proto . inet_service . {kind} . inet_service : mark
}}
chain first {{
type filter hook prerouting priority raw; policy accept;
iifname "{ACCESS}" meta mark set {key} map @{ANCHORS}
meta mark != 0 notrack
}}
"""
    return _rules(ip, anchors_table(network.vni), body)


def host_rules(network: OverlayNetwork, family: Family, uplink: str, *, closed: str) -> Rules:
    """Return the rules at the host. `closed`: what it lets to gateways only, as it forwarded nothing before."""
    ours, _ = host_addresses(network.vni, family)
    cable = cables(network.vni)[UPLINK]
    neighbours = (
        "" if family is IPV4 else f'iifname "{cable}" {_DISCOVERY} ip6 hoplimit 255 accept\n'
    )
    alone = f'{closed} oifname != "thvu*" drop\n' if closed else ""
    body = f"""chain input {{
type filter hook input priority filter; policy accept;
{neighbours}iifname "{cable}" drop
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
{family.name} saddr {ours} oifname "{uplink}" masquerade
}}
"""
    return _rules(family.name, table(network.vni), body)


def routes_for_us_alone(listing: str) -> bool:
    """Say whether a listing of the host's rules is of one that forwarded nothing before."""
    return 'oifname != "thvu*" drop' in listing


def bridge_rules(network: OverlayNetwork, settings: GatewaySettings) -> Rules:
    """Return the rules on the site's bridges."""
    tunnels = "{ " + ", ".join(f'"{name}"' for name in tunnel_devices(network)) + " }"
    ours = (
        f"ether saddr {settings.mac}",
        f"ether daddr {settings.mac}",
        *(about for ip in gateway_ips(settings) for about in _questions(ip)),
    )
    drops = "".join(
        f"{way} {tunnels} {what} drop\n" for way in ("iifname", "oifname") for what in ours
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
        flow = Flow("tcp" if protocol == "tcp" else "udp", int(port), written(peer), int(peer_port))
        found[written(ip), flow] = int(mark, 0)
    return found


def changes(vni: int, actual: Held, wanted: Held) -> str:
    """Return the script after which the maps hold what is wanted; nothing where they do."""
    gone = [key for key, mark in actual.items() if wanted.get(key) != mark]
    new = [(key, mark) for key, mark in wanted.items() if actual.get(key) != mark]
    return "".join(
        _change(
            f"{family.name} {anchors_table(vni)} {ANCHORS}",
            [key for key in gone if family_of(key[0]) is family],
            [each for each in new if family_of(each[0][0]) is family],
        )
        for family in FAMILIES
    )


def _change(
    map_name: str,
    gone: list[tuple[IpAddress, Flow]],
    new: list[tuple[tuple[IpAddress, Flow], int]],
) -> str:
    removed = ", ".join(_key(*key) for key in gone)
    return (f"delete element {map_name} {{ {removed} }}\n" if gone else "") + (
        f"add element {map_name} {{ {elements(new)} }}\n" if new else ""
    )


def _accepted(settings: GatewaySettings, family: Family) -> str:
    """Say what VMs may ask the gateway itself."""
    gateway = gateway_ip(settings, family)
    if family is IPV4:
        return f'iifname "{ACCESS}" ip daddr {gateway} icmp type echo-request accept\n'
    ours = ", ".join(ip for ip in gateway_ips(settings) if family_of(ip) is family)
    return (
        f"{_DISCOVERY} ip6 hoplimit 255 accept\n"
        # Else a bridge that looks after groups forgets who wants to be asked.
        f'iifname {{ "{ACCESS}", "{TRANSIT}" }} icmpv6 type mld-listener-query accept\n'
        f'iifname "{ACCESS}" ip6 daddr {{ {ours} }} icmpv6 type echo-request accept\n'
    )


def _questions(ip: IpAddress) -> tuple[str, ...]:
    """Say what asks for one of the gateway's addresses, or says whose it is."""
    if family_of(ip) is IPV4:
        return f"arp daddr ip {ip}", f"arp saddr ip {ip}"
    return f"{_DISCOVERY} {_DISCOVERED} {int(IPv6Address(ip)):#x}", f"{_DISCOVERY} ip6 saddr {ip}"


def _protocol_of(family: Family) -> str:
    return "ip protocol" if family is IPV4 else "meta l4proto"


def _key(ip: IpAddress, flow: Flow) -> str:
    return f"{ip} . {flow.protocol} . {flow.port} . {flow.peer} . {flow.peer_port}"


def _rules(family: str, name: str, body: str) -> Rules:
    return Rules(family, name, seal(body), replacing(family, name, body))
