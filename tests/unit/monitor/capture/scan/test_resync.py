"""Finding the next record from anywhere in a capture."""

from random import Random

import numpy as np
import pytest

from tests.unit.monitor.capture.capture_writing import block, frame, packet, pcap, pcapng
from transhume.monitor.capture.scan import read_head, resync

SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND


def traffic(count: int, largest: int) -> list[tuple[int, bytes]]:
    """Return frames whose payload is random, or zeros, or looks like a capture."""
    random = Random(1)
    nested = pcap([(T0 + i, frame(1, 2, 40)) for i in range(30)])[24:]
    nested_blocks = pcapng([(T0 + i, frame(1, 2, 40)) for i in range(30)])[60:]
    made = []
    for i in range(count):
        head = frame(1 + i % 9, 10, 42)
        payload = random.choice(
            (random.randbytes(random.randrange(largest)), bytes(largest), nested, nested_blocks)
        )
        made.append((T0 + i * 1_000_000, head + payload[:largest]))
    return made


def starts(content: bytes, at: int, lengths: list[int]) -> list[int]:
    found = []
    for length in lengths:
        found.append(at)
        at += length
    assert at == len(content)
    return found


@pytest.mark.parametrize(
    ("order", "nanoseconds"), [("<", False), (">", False), ("<", True)], ids=["us", "swapped", "ns"]
)
@pytest.mark.parametrize("largest", [100, 1400])
def test_the_next_pcap_record_is_found_from_anywhere(
    order: str, nanoseconds: bool, largest: int
) -> None:
    frames = traffic(9000 if largest == 100 else 2000, largest)
    content = pcap(frames, order=order, nanoseconds=nanoseconds)
    records = starts(content, 24, [16 + len(whole) for _, whole in frames])
    check(content, set(records))


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("largest", [100, 1400])
def test_the_next_pcapng_block_is_found_from_anywhere(order: str, largest: int) -> None:
    frames = traffic(9000 if largest == 100 else 2000, largest)
    content = pcapng(frames, order=order)
    blocks = starts(content, 60, [32 + len(whole) + -len(whole) % 4 for _, whole in frames])
    check(content, set(blocks))


def check(content: bytes, starts: set[int]) -> None:
    head, _ = read_head(content) or (None, 0)
    assert head is not None
    data, random = np.frombuffer(content, dtype=np.uint8), Random(2)
    for _ in range(150):
        at = random.randrange(24, len(content) - (400 << 10))
        found = resync(data[at : at + (1 << 20)], head)
        assert found is not None
        assert at + found in starts


def test_other_blocks_between_packets_are_passed_over() -> None:
    content = pcapng([]) + b"".join(
        packet(frame(1, 2, 100), i) + block(5, bytes(20)) for i in range(3000)
    )
    head, _ = read_head(content) or (None, 0)
    assert head is not None

    found = resync(np.frombuffer(content, dtype=np.uint8)[70:], head)

    assert found is not None
    assert content[70 + found : 74 + found] in {b"\5\0\0\0", b"\6\0\0\0"}


@pytest.mark.parametrize("content", [b"", b"\0" * 7, bytes(5000), b"\xff" * 5000])
def test_where_no_record_is_none_is_found(content: bytes) -> None:
    for capture in (pcap([]), pcapng([])):
        head, _ = read_head(capture) or (None, 0)
        assert head is not None
        assert resync(np.frombuffer(content, dtype=np.uint8), head) is None
