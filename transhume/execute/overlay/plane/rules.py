"""The packet rules of a virtual network at a site, as text for nftables.

Owns three promises. Nobody but the network's sites sends into it: what else comes to the tunnels' port under
its numbers, or comes from elsewhere than the underlay, is dropped, and so is what a site forwards to another's
port for its own guests. What came by a detour leaves by no tunnel: so nothing goes in circles, whatever the
sites believe. And a TCP connection that crosses a tunnel is told of
segments that fit: a guest with a longer MTU that hears no ICMP would meet a black hole.
"""

import re
from collections.abc import Mapping
from ipaddress import ip_address

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.execute.overlay.plane.names import detour_device, table
from transhume.execute.overlay.sealing import removing, replacing
from transhume.knowledge.model import MacAddress

FAMILIES = ("inet", "bridge")
ARRIVING = "netdev"
"""The family of the rules that are there only while a VM is awaited."""
STRANGERS, CIRCLING = "strangers", "circling"
"""The counters: what came from outside the set of sites, and what would have left a detour by a tunnel."""

ENCAPSULATION_BYTES = {4: 50, 6: 70}
"""What a tunnel adds to a guest's packet: its Ethernet header, and those of VXLAN, UDP and the outer IP."""
_HEADER_BYTES = {"ip": 40, "ip6": 60}
_COUNTED = re.compile(r"counter (\w+) \{\s*packets (\d+)")


def rules(network: OverlayNetwork, site: OverlaySite, underlay_mtu: int) -> str:
    """Return the script that puts the site's rules in place of those that were there."""
    name = table(network)
    bodies = {"inet": _keep_out(network, site), "bridge": _forward(network, site, underlay_mtu)}
    return "".join(replacing(family, name, body) for family, body in bodies.items())


def counted(listing: str) -> dict[str, int]:
    """Return the packets that a listing's named counters have seen."""
    return {name: int(packets) for name, packets in _COUNTED.findall(listing)}


def segment_bytes(site: OverlaySite, underlay_mtu: int) -> dict[str, int]:
    """Return the longest TCP segment that crosses a tunnel in one piece, by the inner IP's version."""
    inner = underlay_mtu - ENCAPSULATION_BYTES[ip_address(site.vtep).version]
    return {version: inner - header for version, header in _HEADER_BYTES.items()}


def _keep_out(network: OverlayNetwork, site: OverlaySite) -> str:
    version = ip_address(site.vtep).version
    others = sorted(
        other.vtep
        for other in network.sites
        if other.name != site.name and ip_address(other.vtep).version == version
    )
    elements = f"elements = {{ {', '.join(others)} }}\n" if others else ""
    ip = "ip" if version == 4 else "ip6"
    # Behind UDP's header and the first word of VXLAN's: its number.
    numbers = f"{{ {network.vni}, {network.detour_vni} }}"
    return (
        f"set sites {{\ntype ipv{version}_addr\n{elements}}}\n"
        f"counter {STRANGERS} {{\n}}\n"
        f"chain input {{\ntype filter hook input priority filter; policy accept;\n"
        f'iifname "{site.underlay}" {ip} saddr @sites return\n'
        f"udp dport {network.port} @th,96,24 {numbers} counter name {STRANGERS} drop\n}}\n"
        # Translated to this host's address, it would be believed there. A first fragment may lack the number.
        f"chain passing {{\ntype filter hook forward priority filter; policy accept;\n"
        # A site may be behind this one: there it's looked for, so nobody else sends under its address.
        f"{ip} saddr @sites fib saddr . iif oif exists return\n"
        f'iifname != "{site.underlay}" {ip} daddr @sites udp dport {network.port} '
        f"counter name {STRANGERS} drop\n}}\n"
    )


def arrivals(network: OverlayNetwork, devices: Mapping[MacAddress, str]) -> str:
    """Return the script by which what comes by the detour goes to devices, whatever the bridge's table says.

    The bridge would send what is for a VM that isn't here yet to where it has just left, and so drop it.
    """
    name = table(network)
    lines = "".join(
        f'ether daddr {mac} fwd to "{device}"\n' for mac, device in sorted(devices.items())
    )
    chain = f'type filter hook ingress device "{detour_device(network)}" priority filter;'
    made = f"table {ARRIVING} {name} {{\nchain arriving {{\n{chain}\n{lines}}}\n}}\n"
    return removing(ARRIVING, name) + (made if devices else "")


def _forward(network: OverlayNetwork, site: OverlaySite, underlay_mtu: int) -> str:
    detour = detour_device(network)
    drops = "".join(
        f'oifname "{tunnels}" counter name {CIRCLING} drop\n' for tunnels in ("thvx*", "thvr*")
    )
    clamps = "".join(
        f'oifname "{device}" ether type {version} tcp option maxseg size set {longest}\n'
        for device in (network.device, detour)
        for version, longest in segment_bytes(site, underlay_mtu).items()
    )
    # Every frame of every bridge here passes `forward`: it asks for no more than it must.
    return (
        f"counter {CIRCLING} {{\n}}\n"
        f"chain circling {{\n{drops}}}\n"
        f"chain clamping {{\n{clamps}}}\n"
        f'chain leaving {{\niifname "{detour}" jump circling\n'
        f"tcp flags & syn != 0 jump clamping\n}}\n"
        f"chain forward {{\ntype filter hook forward priority filter; policy accept;\n"
        f'oifname "thv*" jump leaving\n}}\n'
    )
