# ruff: noqa: PLR0917, PLR1714, SIM109 - compiled functions take no keyword arguments; `in` takes long to compile
"""What one frame says: who sent it to whom, what it carried, and which address it claims. The rules in full.

Owns the meaning of every header that we read. The engines have quick ways for the frames that are most of any
capture, and ask here for all others; so this is written in the part of Python that Numba compiles too, and both
engines run the same words. It reads only bytes that were captured, whatever lengths a frame speaks of.

`out` is room for two rows of `ADDRESS_PAIR`, as bytes: the frame's own row, and the row of an address claim.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

ROW: Final = 48
"""Bytes of a row of `ADDRESS_PAIR`."""

Frame = memoryview | NDArray[np.uint8]
Out = bytearray | NDArray[np.uint8]

# Where a row's fields begin.
_SOURCE_MAC_AT, _FAMILY_AT, _FLAGS_AT, _INTERFACE_AT = 6, 12, 13, 14
_SOURCE_IP_AT, _DESTINATION_IP_AT = 16, 32
_SOURCE_MAC, _BOTH_MACS, _CLAIM = 1, 3, 4

_ETHERNET, _SLL, _SLL2, _NULL, _LOOP = 1, 113, 276, 0, 108
_RAW_OLD, _RAW, _RAW_IPV4, _RAW_IPV6 = 12, 101, 228, 229
_IPV4, _ARP, _IPV6, _BRIDGED = 0x0800, 0x0806, 0x86DD, 0x6558
_NOTHING = -1
"""No protocol that we read; EtherTypes and IP protocols are from 0 on."""
_TCP, _UDP, _GRE, _ICMPV6, _IPV4_IN_IP, _IPV6_IN_IP = 6, 17, 47, 58, 4, 41
_HOP_BY_HOP, _ROUTING, _FRAGMENT, _AUTHENTICATION, _DESTINATION, _MOBILITY = 0, 43, 44, 51, 60, 135
_VXLAN_PORT, _DHCP_SERVER, _DHCP_CLIENT = 4789, 67, 68
_NEIGHBOUR_ADVERTISEMENT, _TARGET_LINK_ADDRESS = 136, 2
_DHCP_MESSAGE_TYPE, _DHCP_ACK, _DHCP_END = 53, 5, 255


def decode(
    data: Frame,
    at: int,
    captured: int,
    wire: int,
    link: int,
    interface: int,
    inner: bool,
    out: Out,
) -> tuple[int, int, bool]:
    """Write a frame's row to `out`, and behind it the row of an address that the frame claims.

    Args:
        at: where the frame begins; `captured` bytes of it are in `data`, of `wire` that it had.
        link: the number of its link type.
        interface: what the row says unless the link layer knows better.
        inner: look into tunnels, and take the innermost frame that can be read.

    Returns:
        how many bytes came before the frame that the row tells of, the bytes that its transport carried, and
        whether there is a claim.
    """
    for i in range(2 * ROW):
        out[i] = 0
    out[_INTERFACE_AT] = interface & 0xFF
    out[_INTERFACE_AT + 1] = interface >> 8 & 0xFF
    end, wire_end, begin = at + captured, at + wire, at
    kind, here = _link_layer(data, at, end, link, out)
    while True:
        protocol, here, length, later = _network_layer(data, here, end, wire_end, kind, out)
        if not inner or later:
            break
        kind, inside = _tunnelled(data, here, end, protocol)
        if kind == _NOTHING:
            break
        for i in range(_SOURCE_IP_AT, ROW):
            out[i] = 0
        begin = here = inside
        if kind == _BRIDGED:
            kind, here = _ethernet(data, inside, end, out)
    claimed = False
    if not later:
        length -= _transport_header(data, here, end, protocol)
        claimed = _claim(data, here, end, protocol, out)
    return begin - at, length if length > 0 else 0, claimed


def _byte(data: Frame, at: int) -> int:
    """Return one byte, as a number with a sign: compiled code makes floats of what mixes both."""
    return data[at] + 0


def _short(data: Frame, at: int) -> int:
    """Return two bytes in network order."""
    return data[at] * 256 + data[at + 1]


def _copy(data: Frame, at: int, count: int, out: Out, to: int) -> None:
    for i in range(count):
        out[to + i] = data[at + i]


# --- link layers -------------------------------------------------------------------------------------


def _link_layer(data: Frame, at: int, end: int, link: int, out: Out) -> tuple[int, int]:
    """Return the EtherType of what the frame carries, and where that begins."""
    if link == _ETHERNET:
        return _ethernet(data, at, end, out)
    if link == _SLL:
        return _cooked(data, at, end, out)
    if link == _SLL2:
        return _cooked2(data, at, end, out)
    if link == _NULL or link == _LOOP:
        return _by_version(data, at + 4, end)
    if link == _RAW or link == _RAW_OLD or link == _RAW_IPV4 or link == _RAW_IPV6:
        return _by_version(data, at, end)
    return _NOTHING, at


def _ethernet(data: Frame, at: int, end: int, out: Out) -> tuple[int, int]:
    if at + 14 > end:
        return _NOTHING, at
    _copy(data, at, 12, out, 0)
    out[_FLAGS_AT] = _BOTH_MACS
    return _behind_tags(data, at + 14, end, _short(data, at + 12))


def _behind_tags(data: Frame, at: int, end: int, kind: int) -> tuple[int, int]:
    while _is_tag(kind) and at + 4 <= end:
        kind = _short(data, at + 2)
        at += 4
    return kind, at


def _is_tag(kind: int) -> bool:
    return kind == 0x8100 or kind == 0x88A8 or kind == 0x9100 or kind == 0x9200


def _cooked(data: Frame, at: int, end: int, out: Out) -> tuple[int, int]:
    if at + 16 > end:
        return _NOTHING, at
    _interface_is(_short(data, at), out)
    if _short(data, at + 4) == 6:
        _cooked_source(data, at + 6, _short(data, at + 2), out)
    return _behind_tags(data, at + 16, end, _short(data, at + 14))


def _cooked2(data: Frame, at: int, end: int, out: Out) -> tuple[int, int]:
    if at + 20 > end:
        return _NOTHING, at
    _interface_is(_short(data, at + 6), out)
    if _byte(data, at + 11) == 6:
        _cooked_source(data, at + 12, _short(data, at + 8), out)
    return _behind_tags(data, at + 20, end, _short(data, at))


def _interface_is(number: int, out: Out) -> None:
    out[_INTERFACE_AT] = number & 0xFF
    out[_INTERFACE_AT + 1] = number >> 8


def _cooked_source(data: Frame, at: int, hardware: int, out: Out) -> None:
    ethernet = hardware == 1 or hardware == 6 or hardware == 772
    if ethernet or (801 <= hardware <= 803):  # loopback's are MAC addresses too, and Wi-Fi's
        _copy(data, at, 6, out, _SOURCE_MAC_AT)
        out[_FLAGS_AT] = _SOURCE_MAC


def _by_version(data: Frame, at: int, end: int) -> tuple[int, int]:
    if at < end:
        version = _byte(data, at) >> 4
        if version == 4:
            return _IPV4, at
        if version == 6:
            return _IPV6, at
    return _NOTHING, at


# --- network layers ----------------------------------------------------------------------------------


def _network_layer(
    data: Frame, at: int, end: int, wire_end: int, kind: int, out: Out
) -> tuple[int, int, int, bool]:
    """Write the IP addresses.

    Returns:
        the IP protocol, where its header begins, the bytes from there to the packet's end, and whether this is
        a later fragment, which has no header of that protocol.
    """
    out[_FAMILY_AT] = 0
    if kind == _IPV4 and _is_ipv4(data, at, end):
        return _ipv4(data, at, wire_end, out)
    if kind == _IPV6 and _is_ipv6(data, at, end):
        return _ipv6(data, at, end, wire_end, out)
    if kind == _ARP:
        _arp(data, at, end, out)
    return _NOTHING, at, 0, False


def _is_ipv4(data: Frame, at: int, end: int) -> bool:
    return at + 20 <= end and _byte(data, at) >> 4 == 4 and _byte(data, at) & 15 >= 5


def _is_ipv6(data: Frame, at: int, end: int) -> bool:
    return at + 40 <= end and _byte(data, at) >> 4 == 6


def _ipv4(data: Frame, at: int, wire_end: int, out: Out) -> tuple[int, int, int, bool]:
    out[_FAMILY_AT] = 4
    _copy(data, at + 12, 4, out, _SOURCE_IP_AT)
    _copy(data, at + 16, 4, out, _DESTINATION_IP_AT)
    header = (_byte(data, at) & 15) * 4
    # 0 is what segmentation offload leaves where the packet is too long for the field.
    total = _short(data, at + 2)
    if total == 0:
        total = wire_end - at
    later = _short(data, at + 6) & 0x1FFF != 0
    return _byte(data, at + 9), at + header, total - header, later


def _ipv6(data: Frame, at: int, end: int, wire_end: int, out: Out) -> tuple[int, int, int, bool]:
    out[_FAMILY_AT] = 6
    _copy(data, at + 8, 16, out, _SOURCE_IP_AT)
    _copy(data, at + 24, 16, out, _DESTINATION_IP_AT)
    protocol, here = _byte(data, at + 6), at + 40
    packet_end = here + _short(data, at + 4)
    if packet_end == here:  # a jumbogram, or segmentation offload
        packet_end = wire_end
    while here + 8 <= end:
        header = (_byte(data, here + 1) + 1) * 8
        later = False
        if protocol == _FRAGMENT:
            header = 8
            later = _short(data, here + 2) & 0xFFF8 != 0
        elif protocol == _AUTHENTICATION:
            header = (_byte(data, here + 1) + 2) * 4
        elif not _is_plain_extension(protocol):
            break
        protocol = _byte(data, here)
        here += header
        if later:
            return protocol, here, packet_end - here, True
    return protocol, here, packet_end - here, False


def _is_plain_extension(protocol: int) -> bool:
    if protocol == _HOP_BY_HOP or protocol == _ROUTING:
        return True
    return protocol == _DESTINATION or protocol == _MOBILITY


def _arp(data: Frame, at: int, end: int, out: Out) -> None:
    """Read ARP for IPv4 over Ethernet: the sender claims its address, unless it asks whether it is free."""
    if at + 28 > end or _short(data, at + 2) != _IPV4 or _short(data, at + 4) != 0x0604:
        return
    out[_FAMILY_AT] = 4
    _copy(data, at + 14, 4, out, _SOURCE_IP_AT)
    _copy(data, at + 24, 4, out, _DESTINATION_IP_AT)
    asks_only = _short(data, at + 14) == 0 and _short(data, at + 16) == 0
    if not asks_only and out[_FLAGS_AT] & _SOURCE_MAC:
        out[_FLAGS_AT] |= _CLAIM


# --- transport ---------------------------------------------------------------------------------------


def _transport_header(data: Frame, at: int, end: int, protocol: int) -> int:
    if protocol == _TCP:
        return (_byte(data, at + 12) >> 4) * 4 if at + 13 <= end else 20
    return 8 if protocol == _UDP else 0


def _tunnelled(data: Frame, at: int, end: int, protocol: int) -> tuple[int, int]:
    """Return the EtherType of what is inside a tunnel, and where it begins; only if it is readable."""
    kind = _NOTHING
    if protocol == _UDP:
        if at + 16 <= end and _short(data, at + 2) == _VXLAN_PORT and _byte(data, at + 8) & 8:
            kind, at = _BRIDGED, at + 16
    elif protocol == _GRE:
        kind, at = _in_gre(data, at, end)
    elif protocol == _IPV4_IN_IP:
        kind = _IPV4
    elif protocol == _IPV6_IN_IP:
        kind = _IPV6
    readable = (
        (kind == _BRIDGED and at + 14 <= end)
        or (kind == _IPV4 and _is_ipv4(data, at, end))
        or (kind == _IPV6 and _is_ipv6(data, at, end))
    )
    return kind if readable else _NOTHING, at


def _in_gre(data: Frame, at: int, end: int) -> tuple[int, int]:
    """Read GRE of version 0 without source routing; checksum, key and sequence number take four bytes each."""
    if at + 4 > end or _byte(data, at) & 0x40 or _byte(data, at + 1) & 7:
        return _NOTHING, at
    flags = _byte(data, at)
    fields = (flags >> 7 & 1) + (flags >> 5 & 1) + (flags >> 4 & 1)
    return _short(data, at + 2), at + 4 + 4 * fields


# --- claims of addresses -----------------------------------------------------------------------------


def _claim(data: Frame, at: int, end: int, protocol: int, out: Out) -> bool:
    """Write the row of an address that a neighbour advertisement or a DHCP answer speaks of."""
    if protocol == _ICMPV6 and out[_FAMILY_AT] == 6:
        return _neighbour_claim(data, at, end, out)
    if protocol == _UDP and out[_FAMILY_AT] == 4:
        return _dhcp_claim(data, at, end, out)
    return False


def _begin_claim(family: int, out: Out) -> None:
    out[ROW + _FAMILY_AT] = family
    out[ROW + _FLAGS_AT] = _SOURCE_MAC | _CLAIM
    out[ROW + _INTERFACE_AT] = out[_INTERFACE_AT]
    out[ROW + _INTERFACE_AT + 1] = out[_INTERFACE_AT + 1]


def _neighbour_claim(data: Frame, at: int, end: int, out: Out) -> bool:
    """The target's MAC address is in an option; where that was cut off, it is the sender's."""
    if at + 24 > end or _byte(data, at) != _NEIGHBOUR_ADVERTISEMENT:
        return False
    option, known = at + 24, False
    while option + 8 <= end and _byte(data, option + 1) and not known:
        known = _byte(data, option) == _TARGET_LINK_ADDRESS and _byte(data, option + 1) == 1
        if known:
            _copy(data, option + 2, 6, out, ROW + _SOURCE_MAC_AT)
        option += _byte(data, option + 1) * 8
    if not known:
        if not out[_FLAGS_AT] & _SOURCE_MAC:
            return False
        for i in range(_SOURCE_MAC_AT, _SOURCE_MAC_AT + 6):
            out[ROW + i] = out[i]
    _begin_claim(6, out)
    _copy(data, at + 8, 16, out, ROW + _SOURCE_IP_AT)
    return True


def _dhcp_claim(data: Frame, at: int, end: int, out: Out) -> bool:
    """A server's acknowledgement says which MAC address an address was given to."""
    if at + 4 > end or _short(data, at) != _DHCP_SERVER or _short(data, at + 2) != _DHCP_CLIENT:
        return False
    message = at + 8
    if message + 240 > end or _byte(data, message) != 2 or _short(data, message + 1) != 0x0106:
        return False
    nobody = _short(data, message + 16) == 0 and _short(data, message + 18) == 0
    if nobody or _dhcp_type(data, message + 236, end) != _DHCP_ACK:
        return False
    _begin_claim(4, out)
    _copy(data, message + 28, 6, out, ROW + _SOURCE_MAC_AT)
    _copy(data, message + 16, 4, out, ROW + _SOURCE_IP_AT)
    return True


def _dhcp_type(data: Frame, at: int, end: int) -> int:
    """Return the type of a DHCP message, whose options begin with four bytes that say so."""
    if _short(data, at) != 0x6382 or _short(data, at + 2) != 0x5363:
        return 0
    at += 4
    while at + 2 < end and _byte(data, at) != _DHCP_END:
        if _byte(data, at) == _DHCP_MESSAGE_TYPE:
            return _byte(data, at + 2)
        at += 1 if _byte(data, at) == 0 else 2 + _byte(data, at + 1)
    return 0
