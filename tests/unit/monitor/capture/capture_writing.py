"""Writes capture files for tests, byte by byte, so that odd ones can be written too."""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import Protocol, TypeVar

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


def pcap_of(
    records: Iterable[tuple[int, bytes, int]],
    *,
    order: str = "<",
    nanoseconds: bool = False,
    link: int = 1,
    magic: int | None = None,
    behind: bytes = b"",
) -> bytes:
    """Return a pcap file of times, kept bytes and lengths on the wire; `behind` ends each record's header."""
    usual = 0xA1B23C4D if nanoseconds else 0xA1B2C3D4
    unit = 1 if nanoseconds else 1000
    parts = [struct.pack(f"{order}IHHiIII", magic or usual, 2, 4, 0, 0, 65535, link)]
    for at, kept, wire in records:
        seconds, rest = divmod(at, 1_000_000_000)
        parts.append(struct.pack(f"{order}4I", seconds, rest // unit, len(kept), wire))
        parts.append(behind + kept)
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


def old_packet(kept: bytes, ticks: int, *, number: int = 0, wire: int, order: str = "<") -> bytes:
    """Return a packet block as pcapng had it first."""
    header = (number, 0, ticks >> 32, ticks & 0xFFFFFFFF, len(kept), wire)
    return block(2, struct.pack(f"{order}HH4I", *header) + kept, order)


def simple_packet(kept: bytes, *, wire: int, order: str = "<") -> bytes:
    """Return a simple packet block."""
    return block(3, struct.pack(f"{order}I", wire) + kept, order)


def ticks_of(at_ns: int, resolution: int) -> int:
    """Return a time in the ticks of a resolution."""
    per_second = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    return at_ns * per_second // 1_000_000_000


def nanoseconds_of(ticks: int, resolution: int) -> int:
    """Return ticks as nanoseconds."""
    per_second = 2 ** (resolution & 0x7F) if resolution & 0x80 else 10**resolution
    return ticks * 1_000_000_000 // per_second


def offset_interface(
    *, link: int, resolution: int, offset_seconds: int, name: str = "", order: str = "<"
) -> bytes:
    """Return an interface description with a name and a clock of its own."""
    raw = name.encode()
    options = struct.pack(f"{order}HH", 2, len(raw)) + raw + bytes(-len(raw) % 4)
    options += struct.pack(f"{order}HHB3x", 9, 1, resolution)
    options += struct.pack(f"{order}HHq", 14, 8, offset_seconds) + bytes(4)
    return block(1, struct.pack(f"{order}HHI", link, 0, 0) + options, order)


class Framed(Protocol):
    """A frame of a capture, as `pcapng_of` needs it."""

    at_ns: int
    kept: bytes
    wire: int
    interface: int


AnyFramed = TypeVar("AnyFramed", bound=Framed)


def pcapng_of(
    random: Random,
    frames: Sequence[AnyFramed],
    links: Sequence[int],
    resolutions: Sequence[int],
    order: str,
) -> tuple[bytes, list[AnyFramed]]:
    """Return a file of one or two sections, with blocks of all kinds; and its frames, at the times that fit.

    The second section has the other byte order, and describes the interfaces anew.
    """
    parts: list[bytes] = []
    expected: list[AnyFramed] = []
    begins = {0: 0, len(frames) * 2 // 3: len(links)} if random.random() < 0.5 else {0: 0}
    first, last_ns = 0, 0
    for i, frame in enumerate(frames):
        if i in begins:
            first, order = begins[i], order if i == 0 else "<>"[order == "<"]
            parts.append(section(order))
            for link, resolution in zip(links, resolutions, strict=False):
                offset = -1000 if resolution == 12 else 0
                parts.append(
                    offset_interface(
                        link=link, resolution=resolution, offset_seconds=offset, order=order
                    )
                )
        number, kept, wire = frame.interface, frame.kept, frame.wire
        resolution = resolutions[number]
        base_ns = -1000 * 1_000_000_000 if resolution == 12 else 0
        # Picoseconds since the epoch don't fit into 64 bits; these are of its first days.
        ticks = ticks_of(
            (frame.at_ns - base_ns) % (10**15 if resolution == 12 else 1 << 62), resolution
        )
        at_ns = nanoseconds_of(ticks, resolution) + base_ns
        if at_ns < 0:
            ticks, at_ns = ticks_of(-base_ns, resolution), 0
        kind = random.choice((6, 6, 6, 2, 3))
        if kind == 3 and number == 0 and expected:
            parts.append(simple_packet(kept, wire=len(kept), order=order))
            at_ns, wire = last_ns, len(kept)
        elif kind == 2:
            parts.append(old_packet(kept, ticks, number=number, wire=wire, order=order))
        else:
            header = (number, ticks >> 32, ticks & 0xFFFFFFFF, len(kept), wire)
            parts.append(block(6, struct.pack(f"{order}5I", *header) + kept, order))
        if random.random() < 0.1:
            parts.append(
                block(random.choice((4, 5, 10, 0x0BAD, 0x7777)), random.randbytes(24), order)
            )
        last_ns = at_ns
        expected.append(replace(frame, at_ns=at_ns, wire=wire, interface=first + number))  # type: ignore[type-var]
    return b"".join(parts), expected
