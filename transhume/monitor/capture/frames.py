"""Who sent a frame to whom: MAC and IP addresses out of the first bytes of a frame.

Owns the few headers that hold addresses: Ethernet with any stack of VLAN tags, Linux "cooked" captures of
`tcpdump -i any`, raw IP, ARP. It reads nothing behind the IP header's addresses, so that a capture cut after 64
bytes tells as much as a whole one. Telling is in two halves, because the first runs for every frame and the
second once for each pair: `addresses` slices bytes, `endpoints` makes them readable.
"""

import struct
from enum import IntEnum
from functools import lru_cache
from ipaddress import IPv6Address
from typing import Final

from transhume.knowledge.model import Endpoint, IpAddress, MacAddress

Addresses = tuple[bytes, bytes]
"""MAC addresses and IP addresses of a frame, as they stand on the wire.

The first is destination and source MAC (12 bytes), the source's alone (6) or nothing; the second is source and
destination IP (8 or 32 bytes) or nothing.
"""

UNKNOWN_MAC: Final = MacAddress("")
"""The MAC address of an end whose link layer the capture doesn't hold."""


class Link(IntEnum):
    """The link types that we can read, by their number in pcap and pcapng."""

    NULL = 0
    ETHERNET = 1
    RAW_OLD = 12
    RAW = 101
    LOOP = 108
    LINUX_SLL = 113
    IPV4 = 228
    IPV6 = 229
    LINUX_SLL2 = 276


_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_VLAN_TAGS = frozenset({0x8100, 0x88A8, 0x9100, 0x9200})
_ARP_FOR_IPV4 = b"\x08\x00\x06\x04"
_MAC_HARDWARE = frozenset({1, 6, 772, 801, 802, 803})
"""ARPHRD numbers whose addresses are MAC addresses: Ethernet, loopback, Wi-Fi."""


def parse(frame: bytes, link: int = Link.ETHERNET) -> tuple[Endpoint, Endpoint] | None:
    """Return the source and the destination of a frame; None where it is too short or too odd to tell."""
    found = addresses(frame, link)
    return endpoints(found) if found is not None else None


def addresses(frame: bytes, link: int = Link.ETHERNET) -> Addresses | None:
    """Return the addresses of a frame, or None where it holds none that we could read.

    A frame of which the capture kept the MAC addresses and not the whole IP header gives its MAC addresses.
    """
    if link == Link.ETHERNET:
        if len(frame) < 14:
            return None
        return frame[:12], _ethernet_payload(frame, 12)
    if link == Link.LINUX_SLL:
        return _cooked(frame, hardware_at=2, mac_at=6, protocol_at=14, header=16)
    if link == Link.LINUX_SLL2:
        return _cooked(frame, hardware_at=8, mac_at=12, protocol_at=0, header=20)
    if link in (Link.NULL, Link.LOOP):
        ips = _by_version(frame, 4)
    elif link in (Link.RAW, Link.RAW_OLD, Link.IPV4, Link.IPV6):
        ips = _by_version(frame, 0)
    else:
        return None
    return (b"", ips) if ips else None


@lru_cache(maxsize=1 << 16)
def endpoints(found: Addresses) -> tuple[Endpoint, Endpoint]:
    """Return addresses as records: first the source, then the destination.

    Remembered, because the same pairs come back in every window, and windows share their records this way.
    """
    macs, ips = found
    destination, source = (macs[:6], macs[6:]) if len(macs) == 12 else (b"", macs)
    half = len(ips) // 2
    return (
        Endpoint(mac=_mac(source), ip=_ip(ips[:half])),
        Endpoint(mac=_mac(destination), ip=_ip(ips[half:])),
    )


def _ethernet_payload(frame: bytes, at: int) -> bytes:
    """Return the IP addresses behind an EtherType at `at`, whatever VLAN tags come first."""
    kind = frame[at] << 8 | frame[at + 1]
    while kind in _VLAN_TAGS and len(frame) >= at + 6:
        at += 4
        kind = frame[at] << 8 | frame[at + 1]
    return _network_layer(frame, kind, at + 2)


def _network_layer(frame: bytes, kind: int, at: int) -> bytes:
    if kind == _IPV4:
        return _whole(frame, at + 12, 8)
    if kind == _IPV6:
        return _whole(frame, at + 8, 32)
    if kind == _ARP and frame[at + 2 : at + 6] == _ARP_FOR_IPV4 and len(frame) >= at + 28:
        return frame[at + 14 : at + 18] + frame[at + 24 : at + 28]
    return b""


def _by_version(frame: bytes, at: int) -> bytes:
    version = frame[at] >> 4 if len(frame) > at else 0
    return _network_layer(frame, {4: _IPV4, 6: _IPV6}.get(version, 0), at)


def _cooked(
    frame: bytes, *, hardware_at: int, mac_at: int, protocol_at: int, header: int
) -> Addresses | None:
    """Read a cooked header: it keeps the sender's MAC address and drops the receiver's."""
    if len(frame) < header:
        return None
    (hardware,) = struct.unpack_from(">H", frame, hardware_at)
    # The address's length is two bytes in version 1 and one in version 2; both end where the address begins.
    is_mac = frame[mac_at - 1] == 6 and hardware in _MAC_HARDWARE
    mac = frame[mac_at : mac_at + 6] if is_mac else b""
    kind = frame[protocol_at] << 8 | frame[protocol_at + 1]
    while kind in _VLAN_TAGS and len(frame) >= header + 4:
        kind = frame[header + 2] << 8 | frame[header + 3]
        header += 4
    ips = _network_layer(frame, kind, header)
    return (mac, ips) if mac or ips else None


def _whole(frame: bytes, at: int, length: int) -> bytes:
    found = frame[at : at + length]
    return found if len(found) == length else b""


def _mac(raw: bytes) -> MacAddress:
    return MacAddress(raw.hex(":")) if any(raw) else UNKNOWN_MAC


def _ip(raw: bytes) -> IpAddress | None:
    if len(raw) == 4:
        return IpAddress(".".join(map(str, raw)))
    return IpAddress(str(IPv6Address(raw))) if raw else None
