"""Blocks of a packet socket's ring, written as the kernel lays them out; by both engines."""

import struct
from dataclasses import dataclass

import numpy as np
import pytest

from tests.unit.monitor.capture.capture_writing import frame
from transhume.monitor.capture.scan import CutOff, Engine, Scanner

ENGINES = [pytest.param(engine, id=engine.value) for engine in Engine]
SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND
VLAN_VALID = 1 << 4
TCP_SEGMENTS = 1
IP_HEADERS = 14 + 20 + 20


@dataclass(frozen=True, kw_only=True)
class Held:
    """A frame in the ring."""

    kept: bytes
    wire: int
    at_ns: int = T0
    status: int = 0
    hardware: int = 1
    gso_type: int = 0
    gso_size: int = 0


def block(*frames: Held) -> np.ndarray:
    """Return a block's frames, the first at byte 48."""
    parts = [bytes(48)]
    for held in frames:
        mac = 96
        following = (mac + len(held.kept) + 15) // 16 * 16
        seconds, rest = divmod(held.at_ns, SECOND)
        head = struct.pack(
            "=6IHH", following, seconds, rest, len(held.kept), held.wire, held.status, mac, mac + 14
        )
        address = struct.pack("=HHiHBB8x", 17, 0, 3, held.hardware, 4, 6)
        virtio = struct.pack("<BBHHHH", 0, held.gso_type, 0, held.gso_size, 0, 0)
        whole = (head.ljust(48, b"\0") + address).ljust(mac - 10, b"\0") + virtio + held.kept
        parts.append(whole.ljust(following, b"\0"))
    return np.frombuffer(b"".join(parts), dtype=np.uint8)


def scanner_of(engine: Engine) -> Scanner:
    return Scanner(None, window_seconds=1.0, capture_point="host/tap0", engine=engine)


def tcp(payload: int) -> bytes:
    """Return the first bytes of a frame with TCP that carries so much."""
    whole = bytearray(frame(1, 2, IP_HEADERS + payload))
    whole[23], whole[46] = 6, 5 << 4
    return bytes(whole[:128])


@pytest.mark.parametrize("engine", ENGINES)
def test_frames_of_a_block_are_counted(engine: Engine) -> None:
    whole = frame(1, 2, 300)
    scanner = scanner_of(engine)

    scanner.feed_block(
        block(
            Held(kept=whole[:128], wire=300),
            Held(kept=whole[:128], wire=300, at_ns=T0 + SECOND),
            Held(kept=frame(2, 1)[14:], wire=46, hardware=65534),
        ),
        48,
        3,
    )

    first, second = scanner.take_all()
    assert [(p.source.mac, p.source.ip, p.bytes) for p in first.pairs] == [
        ("52:54:00:00:00:01", "10.0.0.1", 300),
        ("", "10.0.0.2", 46),
    ]
    assert (first.capture_point, second.total_bytes) == ("host/tap0", 300)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_tag_that_the_kernel_took_off_is_counted(engine: Engine) -> None:
    scanner = scanner_of(engine)

    scanner.feed_block(block(Held(kept=frame(1, 2), wire=60, status=1 | VLAN_VALID)), 48, 1)

    assert scanner.bytes == 64


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("payload", "gso_type", "segments"),
    [
        pytest.param(14_000, TCP_SEGMENTS, 10, id="ten segments"),
        pytest.param(14_001, TCP_SEGMENTS, 11, id="a byte more"),
        pytest.param(1400, TCP_SEGMENTS, 1, id="one segment"),
        pytest.param(14_000, 0, 1, id="a jumbo frame"),
    ],
)
def test_a_super_frame_counts_as_its_segments(
    engine: Engine, payload: int, gso_type: int, segments: int
) -> None:
    """Each segment has headers of its own on the wire."""
    held = Held(kept=tcp(payload), wire=IP_HEADERS + payload, gso_type=gso_type, gso_size=1400)
    with_header, without = scanner_of(engine), scanner_of(engine)

    with_header.feed_block(block(held), 48, 1, virtio=True)
    without.feed_block(block(held), 48, 1)

    assert (with_header.frames, with_header.bytes) == (segments, payload + segments * IP_HEADERS)
    assert (without.frames, without.bytes) == (1, payload + IP_HEADERS)
    (window,) = with_header.take_all()
    assert (window.total_frames, int(window.payload_bytes.sum())) == (segments, payload)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("at", "frames"), [pytest.param(48, 3, id="too many"), pytest.param(40, 1, id="not a header")]
)
def test_a_block_that_says_too_much_is_damage(engine: Engine, at: int, frames: int) -> None:
    scanner = scanner_of(engine)

    with pytest.raises(CutOff, match="ring"):
        scanner.feed_block(block(Held(kept=frame(1, 2), wire=60)), at, frames)

    assert scanner.frames <= 1


@pytest.mark.parametrize("engine", ENGINES)
def test_a_large_block_is_counted_whole(engine: Engine) -> None:
    many = 3000
    scanner = scanner_of(engine)

    scanner.feed_block(
        block(*(Held(kept=frame(1 + i % 9, 10), wire=60) for i in range(many))), 48, many
    )

    assert scanner.frames == many
