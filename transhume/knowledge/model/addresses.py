"""Who sent a frame to whom, as addresses: two ends by name, and many pairs of ends as rows of 48 bytes.

Owns the layout of a row, which the capture kernels write and everybody else reads by its field names. A row
is what is compared when frames are added up: two frames belong together when all its bytes are equal.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model.names import IpAddress, MacAddress

ADDRESS_PAIR = np.dtype(
    [
        ("destination_mac", "u1", 6),
        ("source_mac", "u1", 6),
        ("family", "u1"),
        ("flags", "u1"),
        ("interface", "<u2"),
        ("source_ip", "u1", 16),
        ("destination_ip", "u1", 16),
    ]
)
"""A pair of ends, as it stands on the wire.

`family` is 4, 6 or 0 (no IP addresses); an IPv4 address fills the first four bytes of its field. `flags` says
which MAC addresses are known (`SOURCE_MAC`, `DESTINATION_MAC`; an unknown one is zeros), and with `CLAIM` that
a frame says who has an address: the source's IP address belongs to its MAC address, by ARP, neighbour discovery
or DHCP. A claim made within another pair's frame is a row without bytes and frames. A row of zeros holds the
frames that couldn't be read. `interface` tells interfaces apart where one capture holds several; else it is 0.
"""
SOURCE_MAC, DESTINATION_MAC, CLAIM = 1, 2, 4

AddressPairs = NDArray[np.void]
"""Rows of `ADDRESS_PAIR`."""

UNKNOWN_MAC = MacAddress("")
"""The MAC address of an end whose link layer the capture doesn't hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One end of a frame: its MAC address, and its IP address where the frame has one."""

    mac: MacAddress
    ip: IpAddress | None = None


def address_pairs(pairs: Iterable[tuple[Endpoint, Endpoint]]) -> AddressPairs:
    """Return pairs of source and destination as rows, in their order."""
    rows: list[tuple[Any, ...]] = []
    for source, destination in pairs:
        flags = (SOURCE_MAC if source.mac else 0) | (DESTINATION_MAC if destination.mac else 0)
        family, from_ip = _packed_ip(source.ip)
        other_family, to_ip = _packed_ip(destination.ip)
        row = (
            _packed_mac(destination.mac),
            _packed_mac(source.mac),
            family or other_family,
            flags,
            0,
            from_ip,
            to_ip,
        )
        rows.append(row)
    return np.array(rows, dtype=ADDRESS_PAIR)


def endpoints(rows: AddressPairs) -> list[tuple[Endpoint, Endpoint]]:
    """Return rows as pairs of source and destination."""
    return [_pair(row) for row in rows]


def _pair(row: np.void) -> tuple[Endpoint, Endpoint]:
    family, flags = int(row["family"]), int(row["flags"])
    return (
        Endpoint(
            mac=mac_text(bytes(row["source_mac"])) if flags & SOURCE_MAC else UNKNOWN_MAC,
            ip=ip_text(bytes(row["source_ip"]), family),
        ),
        Endpoint(
            mac=mac_text(bytes(row["destination_mac"])) if flags & DESTINATION_MAC else UNKNOWN_MAC,
            ip=ip_text(bytes(row["destination_ip"]), family),
        ),
    )


def mac_text(packed: bytes) -> MacAddress:
    """Return six bytes as people write a MAC address."""
    return MacAddress(packed.hex(":"))


def ip_text(packed: bytes, family: int) -> IpAddress | None:
    """Return a row's IP address as people write it; None where the family is 0."""
    if family == 4:
        return IpAddress(str(IPv4Address(packed[:4])))
    return IpAddress(str(IPv6Address(packed))) if family == 6 else None


def _packed_mac(mac: MacAddress) -> list[int]:
    return list(bytes.fromhex(mac.replace(":", ""))) if mac else [0] * 6


def _packed_ip(ip: IpAddress | None) -> tuple[int, list[int]]:
    if ip is None:
        return 0, [0] * 16
    address = ip_address(ip)
    return address.version, list(address.packed.ljust(16, b"\0"))
