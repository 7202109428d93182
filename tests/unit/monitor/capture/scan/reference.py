"""What a frame says, by dpkt and by the letter of the rules: what both engines are compared with.

Written to be read and not to be fast, and with nothing in common with what it checks but the layout of a row.
"""

import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, replace

import dpkt

SOURCE_MAC, BOTH_MACS, CLAIM = 1, 3, 4
EXTENSIONS = {0, 43, 44, 51, 60, 135}
TAGS = {0x8100, 0x88A8, 0x9100, 0x9200}


@dataclass(frozen=True, kw_only=True)
class Row:
    destination_mac: bytes = bytes(6)
    source_mac: bytes = bytes(6)
    family: int = 0
    flags: int = 0
    interface: int = 0
    source_ip: bytes = b""
    destination_ip: bytes = b""

    def packed(self) -> bytes:
        return b"".join(
            (
                self.destination_mac,
                self.source_mac,
                bytes((self.family, self.flags)),
                struct.pack("<H", self.interface),
                self.source_ip.ljust(16, b"\0"),
                self.destination_ip.ljust(16, b"\0"),
            )
        )


@dataclass(frozen=True, kw_only=True)
class Seen:
    """A frame in a capture."""

    at_ns: int
    kept: bytes
    wire: int
    link: int = 1
    interface: int = 0


@dataclass(frozen=True, kw_only=True)
class Said:
    """What a frame says: its row, bytes before the frame that the row is of, payload, and a claim's row."""

    row: Row
    before: int = 0
    payload: int = 0
    claim: Row | None = None


Totals = dict[tuple[int, bytes], tuple[int, int, int]]
"""Bytes, payload bytes and frames by bin and packed row."""


def totals(
    frames: Iterable[Seen], *, width_ns: int, inner: bool = False, captured_length: bool = False
) -> Totals:
    """Add frames up."""
    found: dict[tuple[int, bytes], list[int]] = defaultdict(lambda: [0, 0, 0])
    for frame in frames:
        said = says(frame, inner=inner)
        cell = found[frame.at_ns // width_ns, said.row.packed()]
        cell[0] += (len(frame.kept) if captured_length else frame.wire) - said.before
        cell[1] += said.payload
        cell[2] += 1
        if said.claim is not None:
            found[frame.at_ns // width_ns, said.claim.packed()]
    return {key: (cell[0], cell[1], cell[2]) for key, cell in found.items()}


def says(frame: Seen, *, inner: bool = False) -> Said:
    """Read a frame, and where `inner` says so the innermost frame in it."""
    row, kind, rest = link_layer(frame.kept, frame.link, frame.interface)
    said, tunnel = network(row, kind, rest, frame.wire - (len(frame.kept) - len(rest)))
    while inner and tunnel is not None:
        kind, rest = tunnel
        before = len(frame.kept) - len(rest)
        row = replace(said.row, family=0, source_ip=b"", destination_ip=b"")
        if kind == 0x6558:
            row, kind, rest = link_layer(rest, 1, said.row.interface)
        said, tunnel = network(row, kind, rest, frame.wire - (len(frame.kept) - len(rest)))
        said = replace(said, before=before)
    return said


def link_layer(kept: bytes, link: int, interface: int) -> tuple[Row, int | None, bytes]:
    row = Row(interface=interface & 0xFFFF)
    if link == 1 and len(kept) >= 14:
        row = replace(row, destination_mac=kept[:6], source_mac=kept[6:12], flags=BOTH_MACS)
        return row, *untagged(int.from_bytes(kept[12:14], "big"), kept[14:])
    if link == 113 and len(kept) >= 16:
        cooked = dpkt.sll.SLL(kept[:16])
        row = replace(row, interface=cooked.type)
        mac_bytes, mac = cooked.hlen, cooked.hdr
        row = with_source(row, cooked.hrd, mac_bytes, mac)
        return row, *untagged(cooked.ethtype, kept[16:])
    if link == 276 and len(kept) >= 20:
        cooked = dpkt.sll2.SLL2(kept[:20])
        row = replace(row, interface=cooked.intindex & 0xFFFF)
        row = with_source(row, cooked.hrd, cooked.hlen, cooked.hdr)
        return row, *untagged(cooked.ethtype, kept[20:])
    if link in (0, 108):
        return row, by_version(kept[4:]), kept[4:]
    if link in (12, 101, 228, 229):
        return row, by_version(kept), kept
    return row, None, b""


def with_source(row: Row, hardware: int, mac_bytes: int, mac: bytes) -> Row:
    if hardware in (1, 6, 772, 801, 802, 803) and mac_bytes == 6:
        return replace(row, source_mac=mac[:6], flags=SOURCE_MAC)
    return row


def untagged(kind: int, rest: bytes) -> tuple[int, bytes]:
    while kind in TAGS and len(rest) >= 4:
        tag = dpkt.ethernet.VLANtag8021Q(rest)
        kind, rest = tag.type, rest[4:]
    return kind, rest


def by_version(rest: bytes) -> int | None:
    return {4: 0x0800, 6: 0x86DD}.get(rest[0] >> 4) if rest else None


Tunnel = tuple[int, bytes] | None


def network(row: Row, kind: int | None, rest: bytes, wire: int) -> tuple[Said, Tunnel]:
    """Read the network layer, of which `wire` bytes were on the wire and `rest` was kept."""
    if kind == 0x0800 and is_ipv4(rest):
        return ipv4(row, rest, wire)
    if kind == 0x86DD and is_ipv6(rest):
        return ipv6(row, rest, wire)
    if kind == 0x0806 and len(rest) >= 28:
        return Said(row=arp(row, rest)), None
    return Said(row=row), None


def is_ipv4(rest: bytes) -> bool:
    return len(rest) >= 20 and rest[0] >> 4 == 4 and rest[0] & 15 >= 5


def is_ipv6(rest: bytes) -> bool:
    return len(rest) >= 40 and rest[0] >> 4 == 6


def arp(row: Row, rest: bytes) -> Row:
    read = dpkt.arp.ARP(rest)
    if (read.pro, read.hln, read.pln) != (0x0800, 6, 4):
        return row
    flags = row.flags
    if row.flags & SOURCE_MAC and any(read.spa):
        flags |= CLAIM
    return replace(row, family=4, flags=flags, source_ip=read.spa, destination_ip=read.tpa)


def ipv4(row: Row, rest: bytes, wire: int) -> tuple[Said, Tunnel]:
    header = rest[0] & 15
    # Only the fixed header goes to dpkt, which has opinions on what follows that aren't about addresses.
    read = dpkt.ip.IP(bytes([0x45]) + rest[1:20])
    row = replace(row, family=4, source_ip=read.src, destination_ip=read.dst)
    total = read.len or wire
    later = bool(struct.unpack_from(">H", rest, 6)[0] & 0x1FFF)
    return transport(row, read.p, rest[header * 4 :], total - header * 4, later=later)


def ipv6(row: Row, rest: bytes, wire: int) -> tuple[Said, Tunnel]:
    # Only the fixed header goes to dpkt, with "no next header": it raises where extensions were cut off.
    read = dpkt.ip6.IP6(rest[:6] + b"\x3b" + rest[7:40])
    row = replace(row, family=6, source_ip=read.src, destination_ip=read.dst)
    length, protocol, rest = read.plen or wire - 40, rest[6], rest[40:]
    while protocol in EXTENSIONS and len(rest) >= 8:
        later = False
        if protocol == 44:
            later, size = bool(struct.unpack_from(">H", rest, 2)[0] >> 3), 8
        elif protocol == 51:
            size = (rest[1] + 2) * 4
        else:
            size = (rest[1] + 1) * 8
        protocol, rest, length = rest[0], rest[size:], length - size
        if later:
            return transport(row, protocol, rest, length, later=True)
    return transport(row, protocol, rest, length, later=False)


def transport(
    row: Row, protocol: int, rest: bytes, length: int, *, later: bool
) -> tuple[Said, Tunnel]:
    if later:
        return Said(row=row, payload=max(length, 0)), None
    if protocol == dpkt.ip.IP_PROTO_TCP:
        length -= (rest[12] >> 4) * 4 if len(rest) >= 13 else 20
    if protocol == dpkt.ip.IP_PROTO_UDP:
        length -= 8
    said = Said(row=row, payload=max(length, 0), claim=claim(row, protocol, rest))
    return said, tunnel(protocol, rest)


def tunnel(protocol: int, rest: bytes) -> Tunnel:
    found: Tunnel = None
    if protocol == 4:
        found = 0x0800, rest
    elif protocol == 41:
        found = 0x86DD, rest
    elif protocol == 47 and len(rest) >= 4 and not rest[0] & 0x40 and not rest[1] & 7:
        size = 4 + 4 * bin(rest[0] & 0b1011_0000).count("1")
        found = int.from_bytes(rest[2:4], "big"), rest[size:]
    elif protocol == 17 and len(rest) >= 16:
        udp = dpkt.udp.UDP(rest[:8])
        if udp.dport == 4789 and rest[8] & 8:
            found = 0x6558, rest[16:]
    if found is None:
        return None
    kind, inside = found
    readable = {
        0x0800: is_ipv4(inside),
        0x86DD: is_ipv6(inside),
        0x6558: len(inside) >= 14,
    }
    return found if readable.get(kind, False) else None


def claim(row: Row, protocol: int, rest: bytes) -> Row | None:
    if row.family == 6 and protocol == 58 and len(rest) >= 24 and rest[0] == 136:
        mac = target_mac(rest[24:])
        if mac is None and row.flags & SOURCE_MAC:
            mac = row.source_mac
        if mac is None:
            return None
        return claiming(row, 6, mac, rest[8:24])
    if row.family == 4 and protocol == 17 and len(rest) >= 8 + 240:
        udp = dpkt.udp.UDP(rest[:8])
        if (udp.sport, udp.dport) == (67, 68):
            return dhcp(row, rest[8:])
    return None


def claiming(row: Row, family: int, mac: bytes, ip: bytes) -> Row:
    return Row(
        source_mac=mac,
        family=family,
        flags=SOURCE_MAC | CLAIM,
        interface=row.interface,
        source_ip=ip,
    )


def target_mac(options: bytes) -> bytes | None:
    while len(options) >= 8 and options[1]:
        if options[0] == 2 and options[1] == 1:
            return options[2:8]
        options = options[options[1] * 8 :]
    return None


def dhcp(row: Row, message: bytes) -> Row | None:
    if message[:3] != bytes((2, 1, 6)) or message[236:240] != bytes.fromhex("63825363"):
        return None
    given, mac, options = message[16:20], message[28:34], message[240:]
    while len(options) >= 3 and options[0] != 255:
        if options[0] == 53:
            acknowledged = options[2] == 5 and any(given)
            return claiming(row, 4, mac, given) if acknowledged else None
        options = options[1:] if options[0] == 0 else options[2 + options[1] :]
    return None
