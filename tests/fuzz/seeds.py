"""What the fuzzer begins with: small captures, frames and blocks that show it how things are written."""

import struct
from collections.abc import Iterator
from pathlib import Path
from random import Random

from tests.unit.monitor.capture import capture_writing as writing
from tests.unit.monitor.capture.scan.frame_making import LINKS, any_frame, kept_of
from tests.unit.monitor.capture.scan.reference import Seen

CAPTURE, FRAMES, RING, PLACE = range(4)
"""What an input's first byte says of the rest: a capture, frames of a link type, a ring's block, any bytes."""
OPTIONS = 4
"""Bytes in front of the rest: what it is, the engines' options, and the size of pieces."""

SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND


def write_seeds(folder: Path) -> None:
    """Write the seeds into a folder, as the fuzzer wants them."""
    for number, seed in enumerate(seeds()):
        (folder / f"seed-{number}").write_bytes(seed)


def seeds() -> Iterator[bytes]:
    """Yield inputs of all kinds."""
    random = Random(1)
    for link in LINKS:
        yield bytes((FRAMES, 0, 0, LINKS.index(link))) + b"".join(frames(random, link))
        records = [(T0 + i, whole, len(whole)) for i, whole in enumerate(wholes(random, link, 4))]
        for order in "<>":
            yield bytes((CAPTURE, 0, 40, 0)) + writing.pcap_of(records, order=order, link=link)
    for order in "<>":
        for round_ in range(6):
            yield bytes((CAPTURE, round_, 90, 0)) + blocks(random, order)
    yield bytes((RING, 0, 0, 0)) + ring(random)
    yield bytes((PLACE, 0, 0, 0)) + blocks(random, "<")


def wholes(random: Random, link: int, count: int) -> list[bytes]:
    return [any_frame(random, link) for _ in range(count)]


def frames(random: Random, link: int) -> Iterator[bytes]:
    for whole in wholes(random, link, 5):
        kept = kept_of(random, whole)[:255]
        yield struct.pack("<BH", len(kept), len(whole)) + kept


def blocks(random: Random, order: str) -> bytes:
    """Return a pcapng file of few frames."""
    links = [random.choice(LINKS) for _ in range(2)]
    seen = []
    for i in range(5):
        whole = any_frame(random, links[i % 2])
        seen.append(Seen(at_ns=T0 + i * SECOND // 3, kept=whole, wire=len(whole), interface=i % 2))
    return writing.pcapng_of(random, seen, links, [9, 0x80 | 30], order)[0]


def ring(random: Random) -> bytes:
    """Return frames as a ring's block has them."""
    parts = []
    for whole in wholes(random, 1, 3):
        following = (96 + len(whole) + 15) // 16 * 16
        head = struct.pack("=6IHH", following, 1, 2, len(whole), len(whole), 17, 96, 110)
        address = struct.pack("=HHiHBB8x", 17, 0, 3, 1, 4, 6)
        parts.append((head.ljust(48, b"\0") + address).ljust(96, b"\0") + whole)
        parts.append(bytes(following - 96 - len(whole)))
    return b"".join(parts)
