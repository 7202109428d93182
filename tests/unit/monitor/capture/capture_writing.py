"""Writes capture files for tests, byte by byte, so that odd ones can be written too."""

import struct
from collections.abc import Iterable

Stamped = tuple[int, bytes]
"""Nanoseconds since the epoch, and the frame."""


def frame(source: int, destination: int, length: int = 60) -> bytes:
    """Return an Ethernet frame with IPv4 from one machine (1 to 250) to another."""
    macs = bytes.fromhex(f"5254000000{destination:02x}5254000000{source:02x}")
    total = max(length - 14, 20)
    ip = struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0, 64, 17, 0)
    addresses = bytes([10, 0, 0, source, 10, 0, 0, destination])
    return (macs + b"\x08\x00" + ip + addresses).ljust(length, b"\0")[: max(length, 34)]


def pcap(
    frames: Iterable[Stamped],
    *,
    order: str = "<",
    nanoseconds: bool = False,
    snaplen: int = 65535,
    link: int = 1,
) -> bytes:
    """Return a pcap file."""
    magic = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    unit = 1 if nanoseconds else 1000
    parts = [struct.pack(f"{order}IHHiIII", magic, 2, 4, 0, 0, snaplen, link)]
    for at, whole in frames:
        seconds, rest = divmod(at, 1_000_000_000)
        kept = whole[:snaplen]
        parts.append(struct.pack(f"{order}4I", seconds, rest // unit, len(kept), len(whole)) + kept)
    return b"".join(parts)


def block(kind: int, body: bytes, order: str = "<") -> bytes:
    """Return a pcapng block."""
    body += bytes(-len(body) % 4)
    length = struct.pack(f"{order}I", len(body) + 12)
    return struct.pack(f"{order}I", kind) + length + body + length


def section(order: str = "<") -> bytes:
    """Return a section header."""
    return block(0x0A0D0D0A, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1), order)


def interface(
    *, link: int = 1, snaplen: int = 0, resolution: int | None = None, order: str = "<"
) -> bytes:
    """Return an interface description; `resolution` is pcapng's if_tsresol."""
    options = b""
    if resolution is not None:
        options = struct.pack(f"{order}HHB3x", 9, 1, resolution) + struct.pack(f"{order}HH", 0, 0)
    return block(1, struct.pack(f"{order}HHI", link, 0, snaplen) + options, order)


def packet(
    whole: bytes, ticks: int, *, number: int = 0, snaplen: int = 65535, order: str = "<"
) -> bytes:
    """Return an enhanced packet block."""
    kept = whole[:snaplen]
    header = (number, ticks >> 32, ticks & 0xFFFFFFFF, len(kept), len(whole))
    return block(6, struct.pack(f"{order}5I", *header) + kept, order)


def pcapng(frames: Iterable[Stamped], *, order: str = "<", snaplen: int = 65535) -> bytes:
    """Return a pcapng file with one interface, in nanoseconds."""
    parts = [section(order), interface(resolution=9, snaplen=snaplen, order=order)]
    parts += [packet(whole, at, snaplen=snaplen, order=order) for at, whole in frames]
    return b"".join(parts)
