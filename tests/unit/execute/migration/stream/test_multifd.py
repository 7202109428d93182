"""The channels of multifd."""

import pytest

from tests.unit.execute.migration.stream.feeding import fed
from tests.unit.execute.migration.stream.stream_writing import PAGE, Multifd

PAGES = bytes(range(256)) * 16 * 3
SYNC, ZLIB, ZSTD = 1, 1 << 1, 2 << 1


def begun() -> Multifd:
    stream = Multifd()
    stream.head()
    stream.packet(PAGES)
    return stream


def expect_pages(stream: Multifd, *, why: str = "") -> None:
    for size in (len(stream.raw), 1000, 7):
        found = fed(stream.stream, [size])
        assert found.pages == stream.pages
        assert found.understanding.why_opaque == why


def test_a_packet_that_only_synchronises_has_no_pages_whatever_size_it_names():
    """QEMU 7.2 leaves there what an earlier packet had."""
    stream = begun()
    stream.packet(b"", flags=SYNC, size=len(PAGES))
    stream.packet(PAGES)

    expect_pages(stream)


def test_a_header_has_one_size_whatever_number_of_pages_it_says_is_allocated():
    """QEMU 10 says 0 in packets that only synchronise."""
    stream = begun()
    stream.packet(b"", flags=SYNC, size=0)
    stream.packet(PAGES, flags=SYNC)

    expect_pages(stream)


def test_zero_pages_of_packets_are_counted():
    stream = begun()
    stream.packet(PAGES, zero_pages=100)
    stream.packet(b"", zero_pages=128)

    assert fed(stream.stream).understanding.zero_pages == 228


def test_the_state_of_devices_is_passed_over():
    stream = begun()
    stream.device_state(stream.stream)
    stream.packet(PAGES)

    expect_pages(stream)


def test_four_gigabytes_of_device_state_that_never_come_hold_nothing_back():
    stream = begun()
    stream.device_state(b"")
    stream.raw[-4:] = b"\xff\xff\xff\xff"
    stream.add(bytes(100_000))

    assert fed(stream.stream, [1000]).understanding.opaque_from is None


@pytest.mark.parametrize("flag", [pytest.param(ZLIB, id="zlib"), pytest.param(ZSTD, id="zstd")])
def test_compressed_packets_are_opaque_and_it_is_told_what_to_switch_off(flag):
    stream = Multifd()
    stream.head()
    stream.packet(b"", flags=flag, size=1000)
    stream.add(bytes(1000))

    found = fed(stream.stream)

    assert found.understanding.opaque_from == 64
    assert "multifd-compression is on" in found.understanding.why_opaque


@pytest.mark.parametrize(
    ("size", "why"),
    [
        pytest.param(3 * 65536, "a multifd packet of 3 pages in 196608 bytes", id="of 64 KiB"),
        pytest.param(1, "a multifd packet of 3 pages in 1 bytes", id="of no size"),
    ],
)
def test_pages_of_another_size_are_opaque(size, why):
    stream = Multifd()
    stream.head()
    stream.packet(PAGES, size=size)

    found = fed(stream.stream)

    assert found.pages == []
    assert found.understanding.why_opaque == why


def test_more_pages_than_a_packet_holds_are_not_believed():
    stream = Multifd()
    stream.head()
    stream.packet(bytes(129 * PAGE))

    assert fed(stream.stream).pages == []


def test_what_is_no_packet_ends_the_understanding():
    stream = begun()
    end = len(stream.raw)
    stream.add(b"no packet")

    assert fed(stream.stream).understanding.opaque_from == end
