"""What a site's operator says of its end of the underlay, and which address each site has in the tunnels.

A site's addresses follow from its name, which its certificate proves: so nobody has to hand out addresses, and
no site can claim another's.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import blake2s
from ipaddress import IPv4Network, ip_address
from pathlib import Path

from transhume.errors import OverlayError
from transhume.execute.overlay.underlay.wireguard_text import is_endpoint
from transhume.knowledge.model import IpAddress, SiteName

VXLAN_PORT = 4789
DEFAULT_NETWORK = IPv4Network("100.64.0.0/10")
LONGEST_DEVICE_NAME = 15


@dataclass(frozen=True, slots=True, kw_only=True)
class TunnelNetwork:
    """The addresses within the tunnels. Every site has to have the same network and the same exceptions.

    The lower half holds the sites' tunnel addresses, between which all traffic is encrypted from end to end.
    The upper half holds their relay addresses: what goes there goes from site to site by way of a relay, and
    is itself nothing but encrypted packets.

    >>> TunnelNetwork(fixed={SiteName("a"): IpAddress("100.64.0.1")}).relayed(SiteName("a"))
    '100.96.0.1'
    """

    network: IPv4Network = DEFAULT_NETWORK
    fixed: Mapping[SiteName, IpAddress] = field(default_factory=dict)
    """Tunnel addresses that don't follow from the name."""

    def __post_init__(self) -> None:
        """Refuse exceptions outside the lower half, and twice the same (OverlayError)."""
        tunnels = self.tunnels
        for site, address in self.fixed.items():
            if ip_address(address) not in tunnels:
                raise OverlayError(f"site {site}: {address} isn't in {tunnels}; choose another")
        if len(set(self.fixed.values())) != len(self.fixed):
            raise OverlayError("two sites have the same tunnel address; give each its own")

    @property
    def tunnels(self) -> IPv4Network:
        """The half for tunnel addresses."""
        return next(self.network.subnets())

    @property
    def relays(self) -> IPv4Network:
        """The half for relay addresses."""
        return list(self.network.subnets())[1]

    def address(self, site: SiteName) -> IpAddress:
        """Return a site's tunnel address."""
        if site in self.fixed:
            return self.fixed[site]
        tunnels = self.tunnels
        number = int.from_bytes(blake2s(site.encode()).digest()) % (tunnels.num_addresses - 2)
        return IpAddress(str(tunnels[number + 1]))

    def relayed(self, site: SiteName) -> IpAddress:
        """Return the address under which relays pass packets on to a site."""
        own = ip_address(self.address(site))
        return IpAddress(str(own + self.tunnels.num_addresses))

    def is_relayed(self, endpoint: str) -> bool:
        """Say whether an endpoint is within the tunnels: a relay passes it on."""
        return ip_address(endpoint.rpartition(":")[0].strip("[]")) in self.network


@dataclass(frozen=True, slots=True, kw_only=True)
class UnderlaySettings:
    """One site's end of the underlay."""

    site: SiteName
    identity: Path
    """The folder of the site's certificate."""
    key_file: Path
    """WireGuard's private key; made where it isn't there yet."""
    device: str = "thwg0"
    """Unique on the machine, whatever the namespace."""
    netns: str | None = None
    listen_port: int = 51820
    endpoints: tuple[str, ...] = ()
    """`address:port` under which anybody reaches it; none: it is behind NAT."""
    relays: bool = True
    """Whether it passes packets on for others; only a site with `endpoints` does."""
    tunnels: TunnelNetwork = field(default_factory=TunnelNetwork)
    mtu: int = 1420
    """Of the device: that of the network below less 80, which leaves room for IPv6."""
    keepalive_seconds: int = 10
    udp_ports: frozenset[int] = frozenset({VXLAN_PORT})
    """What other sites may send to this one through the tunnels, besides pings."""
    tcp_ports: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Refuse what no device could be made of (OverlayError)."""
        if not 0 < len(self.device) <= LONGEST_DEVICE_NAME or "/" in self.device:
            raise OverlayError(
                f"{self.device!r} can't name a device; take 1 to {LONGEST_DEVICE_NAME} plain characters"
            )
        for endpoint in self.endpoints:
            if not is_endpoint(endpoint):
                raise OverlayError(
                    f"site {self.site}: {endpoint!r} is no address and port at which others reach it; write "
                    "192.0.2.1:51820 or [2001:db8::1]:51820"
                )

    @property
    def address(self) -> IpAddress:
        """The site's tunnel address: what its VXLAN devices take as `vtep`."""
        return self.tunnels.address(self.site)
