"""Captures of both formats, as they come: swapped, cut by snaplen, in pieces, damaged; by both engines."""

import pickle

import numpy as np
import pytest

from tests.unit.monitor.capture.capture_writing import (
    block,
    frame,
    interface,
    offset_interface,
    old_packet,
    packet,
    pcap,
    pcap_of,
    pcapng,
    section,
    simple_packet,
)
from tests.unit.monitor.capture.scan.scanning import Scanned, scanned
from transhume.errors import UsageError
from transhume.monitor.capture.scan import (
    CutOff,
    Engine,
    Form,
    Scanner,
    check_window,
    read_head,
)

ENGINES = [pytest.param(engine, id=engine.value) for engine in Engine]
SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND
THREE = [
    (T0 + 100_000, frame(1, 2, 60)),
    (T0 + 200_000, frame(2, 1, 1500)),
    (T0 + SECOND, frame(1, 2, 90)),
]
RECORDS = [(at, whole, len(whole)) for at, whole in THREE]
KUZNETSOV = 0xA1B2CD34


def shape(found: Scanned) -> list[tuple[int, list[tuple[str, int, int]]]]:
    """Say what windows hold: seconds since the first frame's, then sender, bytes and frames."""
    return [
        (
            round(window.start.timestamp()) - T0 // SECOND,
            [(str(pair.source.ip), pair.bytes, pair.frames) for pair in window.pairs],
        )
        for window in found.windows
    ]


EXPECTED = [
    (0, [("10.0.0.1", 60, 1), ("10.0.0.2", 1500, 1)]),
    (1, [("10.0.0.1", 90, 1)]),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pcap(THREE), id="pcap"),
        pytest.param(pcap(THREE, order=">"), id="pcap, big-endian"),
        pytest.param(pcap(THREE, nanoseconds=True), id="pcap, ns"),
        pytest.param(pcap(THREE, order=">", nanoseconds=True), id="pcap, ns, big-endian"),
        pytest.param(pcap(THREE, snaplen=64), id="pcap, snaplen 64"),
        pytest.param(pcap(THREE, link=0x5400_0001), id="pcap, with frame check sequences"),
        pytest.param(pcap_of(RECORDS, magic=KUZNETSOV, behind=bytes(8)), id="pcap, Kuznetsov's"),
        pytest.param(
            pcap_of(RECORDS, magic=KUZNETSOV, behind=bytes(8), order=">"),
            id="pcap, Kuznetsov's, big-endian",
        ),
        pytest.param(pcapng(THREE), id="pcapng"),
        pytest.param(pcapng(THREE, order=">"), id="pcapng, big-endian"),
        pytest.param(pcapng(THREE, snaplen=64), id="pcapng, snaplen 64"),
        pytest.param(
            section()
            + interface(resolution=9)
            + b"".join(old_packet(whole, at, wire=len(whole)) for at, whole in THREE),
            id="pcapng, old packets",
        ),
        pytest.param(
            section(">")
            + interface(resolution=9, order=">")
            + b"".join(old_packet(whole, at, wire=len(whole), order=">") for at, whole in THREE),
            id="pcapng, old packets, big-endian",
        ),
    ],
)
def test_each_spelling_of_the_same_frames_gives_the_same_windows(
    engine: Engine, content: bytes
) -> None:
    """Bytes are by the length on the wire, whatever was kept of each frame; pieces make no difference."""
    whole = scanned(content, engine)

    assert whole.stopped is None
    assert shape(whole) == EXPECTED
    assert (whole.scanner.frames, whole.scanner.bytes) == (3, 1650)
    assert (whole.scanner.first_ns, whole.scanner.last_ns) == (T0 + 100_000, T0 + SECOND)
    assert scanned(content, engine, piece=7).totals == whole.totals


@pytest.mark.parametrize("engine", ENGINES)
def test_captured_bytes_are_counted_when_asked_to(engine: Engine) -> None:
    found = scanned(pcap(THREE, snaplen=64), engine, captured_length=True)

    assert found.scanner.bytes == 60 + 64 + 64


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("resolution", "ticks"),
    [
        pytest.param(None, T0 // 1000, id="microseconds, as when nothing is said"),
        pytest.param(3, T0 // 1_000_000, id="milliseconds"),
        pytest.param(0, T0 // SECOND, id="seconds"),
        pytest.param(0x80 | 20, (T0 // SECOND) << 20, id="powers of two"),
        pytest.param(0x80 | 32, (T0 // SECOND) << 32, id="as NTP counts"),
    ],
)
def test_a_pcapng_interface_says_what_a_tick_is(
    engine: Engine, resolution: int | None, ticks: int
) -> None:
    content = section() + interface(resolution=resolution) + packet(frame(1, 2), ticks)

    assert scanned(content, engine).scanner.first_ns == T0


@pytest.mark.parametrize("engine", ENGINES)
def test_a_pcapng_interface_says_from_when_it_counts(engine: Engine) -> None:
    content = section() + offset_interface(link=1, resolution=12, offset_seconds=T0 // SECOND)
    content += packet(frame(1, 2), 1_500_000_000_000)

    assert scanned(content, engine).scanner.first_ns == T0 + SECOND * 3 // 2


@pytest.mark.parametrize("engine", ENGINES)
def test_each_pcapng_interface_has_its_own_link_type_and_windows(engine: Engine) -> None:
    whole = frame(1, 2)
    content = section() + offset_interface(link=1, resolution=6, offset_seconds=0, name="tap0")
    content += interface(link=101)
    content += packet(whole, 0) + packet(whole[14:], 0, number=1)

    found = scanned(content, engine, capture_point="all.pcapng")

    assert [
        (window.capture_point, pair.source.mac, pair.source.ip)
        for window in found.windows
        for pair in window.pairs
    ] == [
        ("all.pcapng:tap0", "52:54:00:00:00:01", "10.0.0.1"),
        ("all.pcapng:1", "", "10.0.0.1"),
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_interfaces_of_a_later_section_count_on(engine: Engine) -> None:
    content = pcapng(THREE[:2]) + pcapng(THREE[2:], order=">")

    found = scanned(content, engine, capture_point=lambda number: f"number {number}")

    assert [window.capture_point for window in found.windows] == ["number 0", "number 1"]
    assert found.scanner.head_changes == 2  # what is at the front was read with the head


@pytest.mark.parametrize("engine", ENGINES)
def test_a_cooked_capture_has_a_window_for_each_interface_of_the_machine(engine: Engine) -> None:
    def cooked(number: int) -> bytes:
        head = b"\x08\x00\0\0" + number.to_bytes(4, "big") + b"\0\1\0\6" + bytes(8)
        return head + frame(1, 2)[14:]

    content = pcap([(T0, cooked(3)), (T0, cooked(70_003))], link=276)

    found = scanned(content, engine, capture_point="any.pcap")

    assert [window.capture_point for window in found.windows] == ["any.pcap:3", "any.pcap:4467"]


@pytest.mark.parametrize("engine", ENGINES)
def test_blocks_that_hold_no_frames_are_passed_over(engine: Engine) -> None:
    content = section() + interface() + block(5, bytes(12)) + block(0x0BAD, b"whatever")
    content += packet(frame(1, 2), 0) + block(4, bytes(4)) + block(10, bytes(40))

    found = scanned(content, engine)

    assert (found.scanner.frames, found.stopped) == (1, None)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_simple_packet_is_as_old_as_the_one_before(engine: Engine) -> None:
    whole = frame(1, 2, 1500)
    content = section() + interface(snaplen=64) + packet(whole, T0 // 1000, snaplen=64)
    content += simple_packet(whole[:64], wire=1500)

    found = scanned(content, engine)

    assert shape(found) == [(0, [("10.0.0.1", 3000, 2)])]
    assert (found.scanner.borrowed_times, found.scanner.simple_ns) == (0, T0)


@pytest.mark.parametrize("engine", ENGINES)
def test_simple_packets_before_any_time_are_told_and_take_the_one_that_is_given(
    engine: Engine,
) -> None:
    whole = frame(1, 2)
    content = section() + interface() + simple_packet(whole, wire=60) * 2
    head, at = read_head(content) or (None, 0)

    unknown, known = (
        Scanner(head, window_seconds=1.0, capture_point="x", engine=engine, simple_ns=simple_ns)
        for simple_ns in (None, T0)
    )
    for scanner in (unknown, known):
        scanner.feed(np.frombuffer(content[at:], dtype=np.uint8))

    assert (unknown.borrowed_times, unknown.first_ns, unknown.simple_ns) == (2, 0, None)
    assert (known.borrowed_times, known.first_ns, known.simple_ns) == (0, T0, T0)


@pytest.mark.parametrize(
    ("content", "form", "at"),
    [
        pytest.param(pcap(THREE), Form.PCAP, 24, id="pcap"),
        pytest.param(pcapng(THREE), Form.PCAPNG, 28 + 32, id="pcapng"),
        pytest.param(pcapng(THREE)[:40], Form.PCAPNG, 28, id="pcapng, of which little is there"),
    ],
)
def test_a_head_says_where_the_first_frame_may_be(content: bytes, form: Form, at: int) -> None:
    found = read_head(content)

    assert found is not None
    assert (found[0].form, found[1]) == (form, at)
    assert pickle.loads(pickle.dumps(found[0])) == found[0]


def test_what_is_no_capture_has_no_head_and_half_a_header_is_damage() -> None:
    assert read_head(b"") is None
    assert read_head(b"PK\x03\x04 a zip") is None
    with pytest.raises(CutOff, match="before its header does"):
        read_head(pcap([])[:23])


DAMAGED = [
    pytest.param(pcap(THREE)[:-10], "ends 10 bytes before", id="pcap cut in a frame"),
    pytest.param(pcap(THREE)[:-98], "8 bytes into a record's header", id="pcap cut in a header"),
    pytest.param(pcap(THREE) + b"\xff" * 40, "fraction", id="pcap with garbage"),
    pytest.param(
        pcap(THREE) + bytes(8) + b"\xff" * 8, "more than any frame", id="pcap, endless record"
    ),
    pytest.param(pcapng(THREE)[:-10], "ends 10 bytes before", id="pcapng cut"),
    pytest.param(
        pcapng(THREE) + b"\1\0\0\0\3\0\0\0", "3 bytes long", id="pcapng, odd length at the end"
    ),
    pytest.param(pcapng(THREE) + b"\6\0\0\0\3\0\0\0", "3 bytes long", id="pcapng, odd length"),
    pytest.param(
        pcapng(THREE) + b"\6\0\0\0\0\0\0\2" + bytes(4), "more than any frame", id="endless block"
    ),
    pytest.param(
        pcapng(THREE) + packet(frame(1, 2), 0, number=9), "interface 9", id="no such interface"
    ),
    pytest.param(
        pcapng(THREE) + section() + simple_packet(frame(1, 2), wire=60),
        "interface 0",
        id="no interface at all",
    ),
    pytest.param(
        pcapng(THREE) + section() + interface() + packet(frame(1, 2), 2**63),
        "calendar",
        id="no such time",
    ),
    pytest.param(
        pcapng(THREE)
        + section()
        + offset_interface(link=1, resolution=6, offset_seconds=-1)
        + packet(frame(1, 2), 0),
        "calendar",
        id="before the epoch",
    ),
    pytest.param(
        pcapng(THREE)
        + section()
        + offset_interface(link=1, resolution=6, offset_seconds=1 << 60)
        + packet(frame(1, 2), 0),
        "calendar",
        id="an interface out of time",
    ),
    pytest.param(pcapng(THREE) + block(6, bytes(8)), "too short", id="a block too short"),
    pytest.param(pcapng(THREE) + block(3, b""), "too short", id="a simple block too short"),
    pytest.param(pcapng(THREE) + block(1, bytes(4)), "too short", id="an interface too short"),
    pytest.param(
        pcapng(THREE) + block(6, bytes(12) + b"\x40\0\0\0\x40\0\0\0" + bytes(8)),
        "longer than the block",
        id="a frame too long",
    ),
    pytest.param(pcapng(THREE) + block(0x0A0D0D0A, bytes(16)), "no byte order", id="no byte order"),
    pytest.param(
        pcapng(THREE) + block(5, bytes(4))[:-4] + b"\1\1\1\1", "lengths differ", id="lengths"
    ),
    pytest.param(
        pcapng(THREE) + packet(frame(1, 2), 0)[:-4] + b"\1\1\1\1",
        "lengths differ",
        id="lengths of a frame's block",
    ),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("damage", "why"), DAMAGED)
def test_a_damaged_capture_gives_what_comes_before_and_says_where_it_stopped(
    engine: Engine, damage: bytes, why: str
) -> None:
    good = {b"\xd4\xc3\xb2\xa1": pcap(THREE), b"\x0a\x0d\x0d\x0a": pcapng(THREE)}[damage[:4]]
    for piece in (None, 50):
        found = scanned(damage, engine, piece=piece)

        assert found.stopped is not None
        assert why in found.stopped.why
        assert str(found.stopped).startswith(f"byte {found.stopped.at}: ")
        whole = len(damage) >= len(good)
        assert found.scanner.frames == (3 if whole else 2)
        assert found.stopped.at >= len(good) if whole else found.stopped.at < len(good)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-6, float("nan"), float("inf")])
def test_a_window_that_makes_no_sense_is_refused(seconds: float) -> None:
    with pytest.raises(UsageError, match="window"):
        check_window(seconds)
    with pytest.raises(UsageError, match="window"):
        Scanner(None, window_seconds=seconds, capture_point="x")
