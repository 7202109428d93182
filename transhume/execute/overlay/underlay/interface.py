"""The device as the site's kernel sees it: addresses, routes, MTU, and what may come in by it.

Another site is trusted with the frames of the overlay and with nothing else of this machine. So of what its
tunnel brings, only VXLAN, pings and what the operator admits get in, and a relay passes packets on from the
device to the same device, and nowhere else. Nothing for another site leaves by any other device: VXLAN asks the
routes alone, and where ours are missing the default route would take its frames as they are. Done by a table of
nftables without connection tracking, which would cost each packet something; it stays when the device goes.
"""

import errno
import os
from collections.abc import Iterator
from typing import Any

from transhume.errors import OverlayError
from transhume.execute.overlay import nftables
from transhume.execute.overlay.underlay.settings import UnderlaySettings
from transhume.reach import sysctl
from transhume.reach.netns import inside, netlink_in

FAMILY = "inet"
_KNOWN_BY = "transhume: "


def set_up(settings: UnderlaySettings) -> None:
    """Guard the device, then give it its addresses and routes, and put it up. May be repeated.

    Raises:
        OverlayError: nftables is missing or refuses.
        OSError: the kernel refuses.
    """
    try:
        nftables.run(settings.netns, "\n".join(guard_text(settings)))
    except nftables.RulesRefused as error:
        raise OverlayError(
            f"{settings.device} can't be guarded: {error}; "
            "does this kernel have nf_tables with the family inet?"
        ) from error
    tunnels, own = settings.tunnels, settings.address
    with netlink_in(settings.netns) as netlink:
        index = _index(netlink, settings)
        for address in (own, tunnels.relayed(settings.site)):
            netlink.addr("replace", index=index, address=address, prefixlen=32)
        netlink.link("set", index=index, mtu=settings.mtu, state="up")
        for network, source in (
            (tunnels.tunnels, own),
            (tunnels.relays, tunnels.relayed(settings.site)),
        ):
            netlink.route("replace", dst=str(network), oif=index, prefsrc=source)
    with inside(settings.netns):
        forwards = "1" if relays(settings) else "0"
        sysctl.write(f"ipv4/conf/{settings.device}/forwarding", forwards)
        sysctl.write(f"ipv6/conf/{settings.device}/disable_ipv6", "1")


def generation(settings: UnderlaySettings, ours: str) -> str:
    """Return by what the device has been known since it was made; from now on it's `ours`.

    Its alias says so: it lasts as long as the device and its sessions do, whatever becomes of agents.

    Raises:
        OSError: the kernel refuses, or the device has gone.
    """
    with netlink_in(settings.netns) as netlink:
        index = _index(netlink, settings)
        (device,) = netlink.link("get", index=index)
        noted = device.get("ifalias") or ""
        if noted.startswith(_KNOWN_BY):
            return str(noted.removeprefix(_KNOWN_BY))
        netlink.link("set", index=index, ifalias=f"{_KNOWN_BY}{ours}")
        return ours


def _index(netlink: Any, settings: UnderlaySettings) -> int:
    """Return the kernel's number of the device.

    Raises:
        OSError: it has gone.
    """
    found: int | None = next(iter(netlink.link_lookup(ifname=settings.device)), None)
    if found is None:
        raise OSError(errno.ENODEV, os.strerror(errno.ENODEV), settings.device)
    return found


def relays(settings: UnderlaySettings) -> bool:
    """Say whether a site passes packets on: it may, and anybody reaches it."""
    return settings.relays and bool(settings.endpoints)


def guard_text(settings: UnderlaySettings) -> Iterator[str]:
    """Yield the lines of the table; it replaces the one before it at once."""
    name, tunnels = settings.device, settings.tunnels
    table = f"table {FAMILY} {_table(settings)}"
    yield from (table, f"delete {table}", f"{table} {{")
    yield from (" chain incoming {", "  type filter hook input priority filter; policy accept;")
    yield '  iifname "lo" accept'
    # Whoever is on another network of this machine can write any source on a packet of VXLAN.
    yield f'  iifname != "{name}" ip saddr {tunnels.network} drop'
    yield f'  iifname != "{name}" ip daddr {tunnels.network} drop'
    yield f'  iifname != "{name}" accept'
    own = tunnels.relayed(settings.site)
    yield f"  ip saddr {tunnels.relays} ip daddr {own} udp dport {settings.listen_port} accept"
    yield f"  ip daddr != {settings.address} drop"
    yield f"  ip saddr != {tunnels.tunnels} drop"
    yield (
        "  icmp type { echo-request, echo-reply, destination-unreachable, time-exceeded } accept"
    )
    yield "  tcp flags & (syn | ack) != syn accept"
    for protocol, ports in (("udp", settings.udp_ports), ("tcp", settings.tcp_ports)):
        if ports:
            yield f"  {protocol} dport {{ {', '.join(map(str, sorted(ports)))} }} accept"
    yield from ("  drop", " }")
    yield from (" chain passing {", "  type filter hook forward priority filter; policy accept;")
    if relays(settings):
        yield (
            f'  iifname "{name}" oifname "{name}" ip saddr {tunnels.relays} ip daddr {tunnels.relays} '
            "ip protocol udp accept"
        )
    yield from (f'  iifname "{name}" drop', f'  oifname "{name}" drop', " }")
    yield from (" chain outgoing {", "  type filter hook output priority filter; policy accept;")
    yield f'  oifname != {{ "{name}", "lo" }} ip daddr {tunnels.network} drop'
    # Packets that a relay sends back out of the device that they came from make the kernel advise a detour.
    yield from (f'  oifname "{name}" icmp type redirect drop', " }", "}", "")


def _table(settings: UnderlaySettings) -> str:
    return f"transhume_{settings.device}"
