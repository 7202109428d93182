"""Frames of every kind that we read, and of many that nobody should send, drawn from a seed."""

import struct
from random import Random

LINKS = (0, 1, 12, 101, 108, 113, 228, 229, 276)
ODD_LINK = 105

MACS = [bytes.fromhex(f"5254000000{i:02x}") for i in range(4)]
IPV4 = [bytes((10, 0, 0, i)) for i in range(4)]
IPV6 = [bytes.fromhex("fd00") + bytes(13) + bytes((i,)) for i in range(4)]


def any_frame(random: Random, link: int) -> bytes:
    """Return a frame of a link type, mostly well made."""
    kind, rest = packet(random, 0)
    if link == 1:
        made = ethernet(random, kind, rest)
    elif link == 113:
        mac_bytes = random.choice((6, 6, 6, 0, 8))
        hardware = random.choice((1, 1, 772, 803, 512, 65534))
        head = struct.pack(">HHH", random.randrange(5), hardware, mac_bytes)
        kind, rest = tagged(random, kind, rest)
        made = head + random.choice(MACS) + bytes(2) + struct.pack(">H", kind) + rest
    elif link == 276:
        kind, rest = tagged(random, kind, rest)
        head = struct.pack(
            ">HHIH", kind, 0, random.choice((1, 2, 70000)), random.choice((1, 772, 519))
        )
        made = head + bytes((random.randrange(5), random.choice((6, 6, 0)))) + random.choice(MACS)
        made += bytes(2) + rest
    elif link in (0, 108):
        made = random.choice((b"\2\0\0\0", b"\0\0\0\2", b"\x1e\0\0\0")) + rest
    else:
        made = rest
    return damaged(random, made)


def damaged(random: Random, made: bytes) -> bytes:
    """Return a frame with a byte changed, now and then."""
    if made and random.random() < 0.15:
        at = random.randrange(len(made))
        made = made[:at] + bytes((random.randrange(256),)) + made[at + 1 :]
    return made


def kept_of(random: Random, whole: bytes) -> bytes:
    """Return what a capture kept of a frame."""
    choice = random.random()
    if choice < 0.5:
        return whole
    return whole[: random.choice((64, 96, random.randrange(len(whole) + 1)))]


def ethernet(random: Random, kind: int, rest: bytes) -> bytes:
    kind, rest = tagged(random, kind, rest)
    made = random.choice(MACS) + random.choice(MACS) + struct.pack(">H", kind) + rest
    return made.ljust(60, b"\0") if random.random() < 0.5 else made


def tagged(random: Random, kind: int, rest: bytes) -> tuple[int, bytes]:
    for _ in range(random.choice((0, 0, 0, 1, 1, 2, 3))):
        rest = struct.pack(">HH", random.randrange(4096), kind) + rest
        kind = random.choice((0x8100, 0x8100, 0x88A8, 0x9100, 0x9200))
    return kind, rest


def packet(random: Random, depth: int) -> tuple[int, bytes]:
    """Return an EtherType, and what it is of."""
    choice = random.random()
    if choice < 0.5:
        return 0x0800, ipv4(random, depth)
    if choice < 0.85:
        return 0x86DD, ipv6(random, depth)
    if choice < 0.95:
        return 0x0806, arp(random)
    return random.choice((0x88CC, 38, 0x0800, 0x86DD, 0x0806)), random.randbytes(
        random.randrange(60)
    )


def arp(random: Random) -> bytes:
    sender = random.choice((*IPV4, bytes(4)))
    head = struct.pack(">HHBBH", 1, random.choice((0x0800, 0x0800, 0x86DD)), 6, 4, 1)
    return head + random.choice(MACS) + sender + bytes(6) + random.choice(IPV4) + bytes(18)


def ipv4(random: Random, depth: int) -> bytes:
    protocol, data = transport(random, depth, 4)
    words = random.choice((5, 5, 5, 6, 15, 4))
    options = bytes(max(words - 5, 0) * 4)
    total = random.choice((20 + len(options) + len(data),) * 4 + (0, random.randrange(1 << 16)))
    fragment = random.choice((0, 0, 0, 0x4000, 0x2000, 0x2003, 0x0010))
    head = struct.pack(">BBHHHBBH", 0x40 | words, 0, total, 1, fragment, 64, protocol, 0)
    return head + random.choice(IPV4) + random.choice(IPV4) + options + data


def ipv6(random: Random, depth: int) -> bytes:
    protocol, data = transport(random, depth, 6)
    for _ in range(random.choice((0, 0, 0, 1, 2, 3))):
        protocol, data = extended(random, protocol, data)
    length = random.choice((len(data),) * 4 + (0, random.randrange(1 << 16)))
    head = struct.pack(">IHBB", 6 << 28, length & 0xFFFF, protocol, 64)
    return head + random.choice(IPV6) + random.choice(IPV6) + data


def extended(random: Random, protocol: int, data: bytes) -> tuple[int, bytes]:
    kind = random.choice((0, 43, 44, 51, 60, 135))
    if kind == 44:
        fragment = random.choice((0, 1, 8, 0xFFF8))
        return kind, struct.pack(">BBHI", protocol, 0, fragment, 1) + data
    size = random.randrange(3)
    bytes_of = (size + 2) * 4 if kind == 51 else (size + 1) * 8
    return kind, bytes((protocol, size)) + bytes(bytes_of - 2) + data


def transport(random: Random, depth: int, family: int) -> tuple[int, bytes]:
    """Return an IP protocol, and what it is of."""
    data = random.randbytes(random.randrange(80))
    match random.randrange(9):
        case 0 | 1:
            words = random.choice((5, 5, 8, random.randrange(16)))
            head = struct.pack(">HHIIBBHHH", 1234, 80, 1, 1, words << 4, 16, 0, 0, 0)
            return 6, head + bytes(max(words - 5, 0) * 4) + data
        case 2:
            return 17, udp(5000, 53, data)
        case 3 if family == 4:
            return 17, udp(67, random.choice((68, 68, 67)), dhcp(random))
        case 3 | 4 if family == 6:
            return 58, neighbour(random)
        case 5 if depth < 3:
            inside = ethernet(random, *packet(random, depth + 1))
            flags = random.choice((8, 8, 0)) << 24
            return 17, udp(5000, 4789, struct.pack(">II", flags, 7 << 8) + inside)
        case 6 if depth < 3:
            return 47, gre(random, depth)
        case 7 if depth < 3:
            inner = random.choice((4, 6))
            inside = ipv4(random, depth + 1) if inner == 4 else ipv6(random, depth + 1)
            return {4: 4, 6: 41}[inner], inside
    return random.choice((1, 50, 58, 59, 132)), data


def udp(source: int, destination: int, data: bytes) -> bytes:
    return struct.pack(">HHHH", source, destination, 8 + len(data), 0) + data


def gre(random: Random, depth: int) -> bytes:
    flags = random.choice((0, 0x20, 0x30, 0xB0, 0x80, 0x40))
    fields = 4 * bin(flags & 0xB0).count("1")
    kind, inside = packet(random, depth + 1)
    if random.random() < 0.4:
        kind, inside = 0x6558, ethernet(random, kind, inside)
    return struct.pack(">BBH", flags, random.choice((0, 0, 0, 1)), kind) + bytes(fields) + inside


def neighbour(random: Random) -> bytes:
    made = bytes((random.choice((136, 136, 135)), 0)) + bytes(6) + random.choice(IPV6)
    for _ in range(random.randrange(3)):
        made += bytes((random.choice((1, 2, 2)), random.choice((1, 1, 1, 2, 0)))) + random.choice(
            MACS
        )
    return made


def dhcp(random: Random) -> bytes:
    head = bytes((random.choice((2, 2, 1)), 1, 6, 0)) + bytes(12)
    given = random.choice((*IPV4, bytes(4)))
    made = head + given + bytes(8) + random.choice(MACS) + bytes(202)
    made += random.choice((bytes.fromhex("63825363"),) * 5 + (bytes(4),))
    options = [b"\0", b"\x36\4\1\2\3\4", bytes((53, 1, random.choice((5, 5, 2))))]
    random.shuffle(options)
    return made + b"".join(options) + random.choice((b"\xff", b""))
