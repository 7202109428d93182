"""What a virtual network's gateway is made of at each site: names, addresses, and by which site traffic leaves.

Pure. At every site the gateway is a network namespace of its own, so that neither its connections nor its
routes, nor what another network's gateway does, meet the host's. Three cables lead into it: one with the
address that VMs know, the same everywhere; one with an address of this site alone, by which gateways reach each
other and by which everything goes to VMs, wherever they run; and one to the host, whose uplink leads outside.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import IPv4Address, ip_network

from transhume.deployment.model import IPV4_GATEWAYS, GatewaySettings, OverlayNetwork
from transhume.execute.overlay.gateway.families import (
    FAMILIES,
    IPV4,
    IPV6,
    Family,
    Network,
    link_local_of,
)
from transhume.knowledge.model import IpAddress, MacAddress, SiteName

ACCESS, TRANSIT, UPLINK = "access", "transit", "uplink"
"""The cables' ends in the gateway's namespace."""
_OURS_LINK_LOCAL, _HOSTS_LINK_LOCAL = IpAddress("fe80::1"), IpAddress("fe80::2")
"""The ends of the cable to the host: without such an address nobody asks for a neighbour."""
_LINK_BITS = 64
_FIRST, _USABLE = 256, 65536 - 512
"""Of the link-local addresses of IPv4, those that RFC 3927 leaves to hosts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A site's gateway, as the other gateways of its network reach it."""

    site: SiteName
    ip: IpAddress
    mac: MacAddress

    def ip_in(self, family: Family) -> IpAddress:
        """Return its address of a family."""
        return self.ip if family is IPV4 else link_local_of(self.mac)

    @property
    def mark(self) -> int:
        """What marks packets that go there; also the number of the table that leads there."""
        return int(IPv4Address(self.ip)) & 0xFFFF


def namespace(vni: int, site: str) -> str:
    """Return the name of the namespace of a network's gateway at a site."""
    return f"thgw{vni}-{site}"


def is_at(netns: str, site: str) -> bool:
    """Say whether a namespace is named as that of any network's gateway at a site."""
    vni = netns.removeprefix("thgw").partition("-")[0]
    return vni.isdecimal() and netns == namespace(int(vni), site)


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


def families(settings: GatewaySettings) -> tuple[Family, ...]:
    """Return what a gateway speaks."""
    return tuple(each for each in FAMILIES if _ip(settings, each) is not None)


def gateway_ip(settings: GatewaySettings, family: Family) -> IpAddress:
    """Return the address that VMs know as their gateway's, in a family that it speaks."""
    ip = _ip(settings, family)
    if ip is None:
        raise ValueError(f"a gateway without {family.name}")
    return IpAddress(ip)


def gateway_ips(settings: GatewaySettings) -> tuple[IpAddress, ...]:
    """Return all addresses that are the gateway's at every site; of IPv6, that of the link too."""
    spoken = families(settings)
    found = [gateway_ip(settings, family) for family in spoken]
    return (*found, *((link_local_of(MacAddress(settings.mac)),) if IPV6 in spoken else ()))


def prefix(settings: GatewaySettings, family: Family) -> Network:
    """Return the network that the VMs' addresses are in, in a family that the gateway speaks."""
    length = settings.prefix_length if family is IPV4 else settings.prefix_length6
    return ip_network(f"{gateway_ip(settings, family)}/{length}", strict=False)


def prefixes(settings: GatewaySettings) -> tuple[Network, ...]:
    """Return the networks that the VMs' addresses are in."""
    return tuple(prefix(settings, family) for family in families(settings))


def host_addresses(vni: int, family: Family = IPV4) -> tuple[IpAddress, IpAddress]:
    """Return the ends of the cable to the host: the gateway's, and the host's."""
    numbers = IPV4_GATEWAYS if family is IPV4 else 1 << 24
    low = family.to_host[2 * (vni % numbers)]
    return IpAddress(str(low)), IpAddress(str(low + 1))


def addresses_at_host(vni: int, family: Family) -> frozenset[tuple[IpAddress, int]]:
    """Return the addresses with their lengths that the host has on the cable to it."""
    _, hosts = host_addresses(vni, family)
    of_link = {(_HOSTS_LINK_LOCAL, _LINK_BITS)} if family is IPV6 else set()
    return frozenset({(hosts, family.bits)} | of_link)


def addresses(
    vni: int, settings: GatewaySettings, place: Place
) -> dict[str, frozenset[tuple[IpAddress, int]]]:
    """Return a gateway's addresses with their lengths at one site, by cable.

    Nobody looks for another with the same one before they are used: the first is at every site.
    """
    found: dict[str, set[tuple[IpAddress, int]]] = {ACCESS: set(), TRANSIT: set(), UPLINK: set()}
    for family in families(settings):
        found[ACCESS].add((gateway_ip(settings, family), family.bits))
        found[UPLINK].add((host_addresses(vni, family)[0], family.bits))
        length = family.bits if family is IPV4 else _LINK_BITS
        found[TRANSIT].add((place.ip_in(family), length))
    if IPV6 in families(settings):
        found[ACCESS].add((link_local_of(MacAddress(settings.mac)), _LINK_BITS))
        found[UPLINK].add((_OURS_LINK_LOCAL, _LINK_BITS))
    return {name: frozenset(each) for name, each in found.items()}


def _ip(settings: GatewaySettings, family: Family) -> str | None:
    return settings.ip if family is IPV4 else settings.ip6


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
        address = IPV4.link_local.network_address + _FIRST + number
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
