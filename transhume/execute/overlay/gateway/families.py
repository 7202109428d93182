"""IPv4 and IPv6, as the kernel and nftables call them: what a gateway does is written once, for either. Pure.

Owns the addresses that a family sets aside: those of one link, those that lead from a gateway to its host, and
those that no VM reaches by a gateway.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from socket import AF_INET, AF_INET6, inet_ntop
from typing import Literal

from transhume.knowledge.model import IpAddress, MacAddress

Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """What a gateway has to know of IPv4, or of IPv6."""

    name: Literal["ip", "ip6"]
    """As nftables has it."""
    number: int
    """As the kernel has it."""
    bits: int
    """Of an address."""
    anybody: str
    """What every address is in, with a length of 0."""
    link_local: Network
    to_host: Network
    """For benchmarks between machines: never met on a real network."""
    not_outside: tuple[str, ...]
    """Addresses that no VM reaches by a gateway: first of all, what clouds tell their own machines."""

    def text(self, packed: bytes) -> IpAddress:
        """Return an address as it's written here, whoever says it."""
        if self is IPV6:
            return IpAddress(str(IPv6Address(packed)))
        return IpAddress(inet_ntop(self.number, packed))


IPV4 = Family(
    name="ip",
    number=AF_INET,
    bits=32,
    anybody="0.0.0.0",
    link_local=IPv4Network("169.254.0.0/16"),
    to_host=IPv4Network("198.18.0.0/15"),  # RFC 2544
    not_outside=("169.254.0.0/16", "127.0.0.0/8", "224.0.0.0/3"),
)
IPV6 = Family(
    name="ip6",
    number=AF_INET6,
    bits=128,
    anybody="::",
    link_local=IPv6Network("fe80::/10"),
    to_host=IPv6Network("2001:2::/48"),  # RFC 5180
    not_outside=(
        "fe80::/10",
        "::/127",
        "ff00::/8",
        # IPv4 in other words: a translator behind the uplink would make it of these.
        "::ffff:0:0/96",
        "64:ff9b::a9fe:0/112",
        # 169.254.169.254 of Amazon, Google and Oracle.
        "fd00:ec2::254",
        "fd20:ce::254",
        "fd00:c1::a9fe:a9fe",
    ),
)
FAMILIES = (IPV4, IPV6)


def family_of(ip: str) -> Family:
    """Return the family of an address."""
    return IPV6 if ":" in ip else IPV4


def written(ip: str) -> IpAddress:
    """Return the one text of an address, by which it's known again (ValueError: it is none)."""
    found = ip_address(ip)
    if "%" in ip:
        raise ValueError(f"{ip} is of one link")
    return IpAddress(str(found))


def is_in(ip: str, networks: Iterable[Network]) -> bool:
    """Say whether an address is in one of these networks (ValueError: it is no address)."""
    found = ip_address(ip)
    return any(found in network for network in networks)


def link_local_of(mac: MacAddress) -> IpAddress:
    """Return the IPv6 address of a link that a MAC address makes (RFC 4291, appendix A)."""
    first, *rest = bytes.fromhex(mac.replace(":", ""))
    identifier = bytes((first ^ 0x02, *rest[:2], 0xFF, 0xFE, *rest[2:]))
    return IPV6.text(bytes.fromhex("fe80").ljust(8, b"\0") + identifier)
