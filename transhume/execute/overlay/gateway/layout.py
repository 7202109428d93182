"""What a virtual network's gateway is made of at each site: names, addresses, and by which site traffic leaves.

Pure. At every site the gateway is a network namespace of its own, so that neither its connections nor its
routes, nor what another network's gateway does, meet the host's. Three cables lead into it: one with the
address that VMs know, the same everywhere; one with an address of this site alone, by which gateways reach each
other and by which everything goes to VMs, wherever they run; and one to the host, whose uplink leads outside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Address, IPv4Network

from transhume.deployment.model import GatewaySettings, OverlayNetwork
from transhume.knowledge.model import IpAddress, MacAddress, SiteName

ACCESS, TRANSIT, UPLINK = "access", "transit", "uplink"
"""The cables' ends in the gateway's namespace."""
LINK_LOCAL = IPv4Network("169.254.0.0/16")
_FIRST, _USABLE = 256, 65536 - 512
"""Of the link-local addresses, those that RFC 3927 leaves to hosts."""
_TO_HOST = IPv4Network("198.18.0.0/15")
"""For benchmarks between machines (RFC 2544): never met on a real network."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A site's gateway, as the other gateways of its network reach it."""

    site: SiteName
    ip: IpAddress
    mac: MacAddress

    @property
    def mark(self) -> int:
        """What marks packets that go there; also the number of the table that leads there."""
        return int(IPv4Address(self.ip)) & 0xFFFF


def namespace(vni: int, site: str) -> str:
    """Return the name of the namespace of a network's gateway at a site."""
    return f"thgw{vni}-{site}"


def cables(vni: int) -> dict[str, str]:
    """Return the cables' ends outside, by those inside."""
    return {ACCESS: f"thvg{vni}", TRANSIT: f"thvt{vni}", UPLINK: f"thvu{vni}"}


def table(vni: int) -> str:
    """Return the name of the tables of packet rules."""
    return f"transhume_gateway_{vni}"


def anchors_table(vni: int) -> str:
    """Return the name of the table of anchors.

    It's one of its own, so that a look at the rules needn't read thousands of anchors.
    """
    return f"transhume_anchors_{vni}"


def prefix(settings: GatewaySettings) -> IPv4Network:
    """Return the network that the VMs' addresses are in."""
    return IPv4Network((settings.ip, settings.prefix_length), strict=False)


def host_addresses(vni: int) -> tuple[IpAddress, IpAddress]:
    """Return the ends of the cable to the host: the gateway's, and the host's."""
    low = int(_TO_HOST.network_address) + 2 * (vni % (_TO_HOST.num_addresses // 2))
    return IpAddress(str(IPv4Address(low))), IpAddress(str(IPv4Address(low + 1)))


def places(network: OverlayNetwork) -> dict[SiteName, Place]:
    """Return all sites' gateways. Each site reckons the same, and a new site moves hardly any other.

    Addresses come from the names; of two that would have the same one, the later name takes the next.
    """
    found: dict[SiteName, Place] = {}
    taken: set[int] = set()
    for name in sorted(site.name for site in network.sites):
        digest = blake2b(f"{network.vni} {name}".encode(), digest_size=8).digest()
        number = int.from_bytes(digest[:3], "big") % _USABLE
        while number in taken:
            number = (number + 1) % _USABLE
        taken.add(number)
        address = LINK_LOCAL.network_address + _FIRST + number
        # 0x0a: locally administered (IEEE 802), and neither QEMU's nor the gateway's own.
        mac = ":".join(f"{byte:02x}" for byte in (0x0A, *digest[3:]))
        site = SiteName(name)
        found[site] = Place(site=site, ip=IpAddress(str(address)), mac=MacAddress(mac))
    return found


def exit_of(network: OverlayNetwork, site: str) -> SiteName | None:
    """Return the site by which what VMs at a site send to the outside leaves, if no anchor says otherwise."""
    settings = network.gateway
    with_uplink = sorted(each.name for each in network.sites if each.uplink)
    if settings is None or not with_uplink:
        return None
    if settings.exit_at_home or site not in with_uplink:
        return SiteName(settings.home or with_uplink[0])
    return SiteName(site)


def marks(network: OverlayNetwork, site: str) -> Mapping[SiteName, int]:
    """Return the marks that lead to the other sites' gateways."""
    return {name: place.mark for name, place in places(network).items() if name != site}
