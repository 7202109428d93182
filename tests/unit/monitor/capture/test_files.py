"""Capture files of both formats, as they come: swapped, cut by snaplen, out of order, damaged."""

import gzip
import io
from datetime import UTC, datetime
from pathlib import Path

import dpkt
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.monitor.capture.capture_writing import (
    block,
    frame,
    interface,
    packet,
    pcap,
    pcapng,
    section,
)
from transhume.errors import UnreadableCapture, UsageError
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.counting import OPEN_WINDOWS, ReadingOptions
from transhume.monitor.capture.files import CaptureReading, read_windows

SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND
THREE = [
    (T0 + 100, frame(1, 2, 60)),
    (T0 + 200, frame(2, 1, 1500)),
    (T0 + SECOND, frame(1, 2, 90)),
]
START = datetime.fromtimestamp(1_900_000_000, UTC)


def written(folder: Path, content: bytes, name: str = "tap.pcap") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


def shape(windows: tuple[TrafficWindow, ...]) -> list[tuple[float, list[tuple[str, int, int]]]]:
    """Say what windows hold: seconds since the first frame's, then sender, bytes and frames."""
    return [
        (
            (window.start - START).total_seconds(),
            [(str(pair.source.ip), pair.bytes, pair.frames) for pair in window.pairs],
        )
        for window in windows
    ]


EXPECTED = [
    (0.0, [("10.0.0.1", 60, 1), ("10.0.0.2", 1500, 1)]),
    (1.0, [("10.0.0.1", 90, 1)]),
]


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pcap(THREE), id="pcap"),
        pytest.param(pcap(THREE, order=">"), id="pcap, big-endian"),
        pytest.param(pcap(THREE, nanoseconds=True), id="pcap, ns"),
        pytest.param(pcap(THREE, order=">", nanoseconds=True), id="pcap, ns, big-endian"),
        pytest.param(pcap(THREE, snaplen=64), id="pcap, snaplen 64"),
        pytest.param(pcapng(THREE), id="pcapng"),
        pytest.param(pcapng(THREE, order=">"), id="pcapng, big-endian"),
        pytest.param(pcapng(THREE, snaplen=64), id="pcapng, snaplen 64"),
        pytest.param(pcapng(THREE[:2]) + pcapng(THREE[2:], order=">"), id="pcapng, two sections"),
        pytest.param(gzip.compress(pcap(THREE)), id="pcap, gzipped"),
        pytest.param(gzip.compress(pcapng(THREE)), id="pcapng, gzipped"),
    ],
)
def test_each_spelling_of_the_same_frames_gives_the_same_windows(
    tmp_path: Path, content: bytes
) -> None:
    """Bytes are by the length on the wire, whatever was kept of each frame."""
    windows, summary = read_windows(written(tmp_path, content), 1.0)

    assert shape(windows) == EXPECTED
    assert (summary.frames, summary.bytes, summary.stopped) == (3, 1650, None)
    assert summary.first == START
    assert summary.last == datetime.fromtimestamp(1_900_000_001, UTC)


@pytest.mark.parametrize(
    ("resolution", "ticks"),
    [
        pytest.param(None, T0 // 1000, id="microseconds, as when nothing is said"),
        pytest.param(3, T0 // 1_000_000, id="milliseconds"),
        pytest.param(0x80 | 20, (T0 // SECOND) << 20, id="powers of two"),
    ],
)
def test_a_pcapng_interface_says_what_a_tick_is(
    tmp_path: Path, resolution: int | None, ticks: int
) -> None:
    content = section() + interface(resolution=resolution) + packet(frame(1, 2), ticks)

    windows, _ = read_windows(written(tmp_path, content), 1.0)

    assert [window.start for window in windows] == [START]


def test_each_pcapng_interface_has_its_own_link_type(tmp_path: Path) -> None:
    whole = frame(1, 2)
    content = section() + interface(link=1) + interface(link=101)
    content += packet(whole, 0) + packet(whole[14:], 0, number=1)

    windows, summary = read_windows(written(tmp_path, content), 1.0)

    assert [
        (window.capture_point, pair.source.mac, pair.source.ip)
        for window in windows
        for pair in window.pairs
    ] == [
        (f"{tmp_path}/tap.pcap:0", "52:54:00:00:00:01", "10.0.0.1"),
        (f"{tmp_path}/tap.pcap:1", "", "10.0.0.1"),
    ]
    assert summary.interfaces == ("Ethernet", "IP")


def test_blocks_that_hold_no_frames_are_passed_over(tmp_path: Path) -> None:
    content = section() + interface() + block(5, bytes(12)) + block(0x0BAD, b"whatever")
    content += packet(frame(1, 2), 0) + block(4, bytes(4))

    _, summary = read_windows(written(tmp_path, content), 1.0)

    assert (summary.frames, summary.stopped) == (1, None)


def test_a_simple_packet_is_as_old_as_the_one_before(tmp_path: Path) -> None:
    whole = frame(1, 2, 1500)
    simple = block(3, len(whole).to_bytes(4, "little") + whole[:64])
    content = section() + interface(snaplen=64) + packet(whole, T0 // 1000, snaplen=64) + simple

    windows, _ = read_windows(written(tmp_path, content), 1.0)

    assert shape(windows) == [(0.0, [("10.0.0.1", 3000, 2)])]


def test_a_frame_at_a_border_is_in_the_window_that_begins_there(tmp_path: Path) -> None:
    """In floating point, 0.1-second windows put some of these a window too early."""
    frames = [(T0 + tenth * SECOND // 10, frame(1, 2)) for tenth in range(50)]

    windows, _ = read_windows(written(tmp_path, pcap(frames)), 0.1)

    assert len(windows) == 50
    assert all(pair.frames == 1 for window in windows for pair in window.pairs)


def test_frames_out_of_order_are_in_their_own_windows(tmp_path: Path) -> None:
    late = [(T0 + s * SECOND, frame(1, 2)) for s in (3, 1, 2, 0, 3, 1)]

    windows, summary = read_windows(written(tmp_path, pcap(late)), 1.0)

    assert [(at, pairs[0][2]) for at, pairs in shape(windows)] == [(0, 1), (1, 2), (2, 1), (3, 2)]
    assert summary.first == START


def test_a_frame_later_than_the_open_windows_gets_a_window_that_adds_to_the_first(
    tmp_path: Path,
) -> None:
    """Memory is bounded: a window that was handed out is not kept in case there is more."""
    seconds = [0, *range(1, OPEN_WINDOWS + 2), 0]
    frames = [(T0 + s * SECOND, frame(1, 2)) for s in seconds]

    options = ReadingOptions(window_seconds=1.0, block_bytes=100)

    windows, _ = read_windows(written(tmp_path, pcap(frames)), options)

    assert [at for at, _ in shape(windows)].count(0) == 2


def test_unreadable_frames_are_counted_and_their_bytes_are_nobodys(tmp_path: Path) -> None:
    (window,), summary = read_windows(written(tmp_path, pcap([(T0, bytes(900))], link=105)), 1.0)

    assert window.unreadable_frames == summary.unreadable_frames == 1
    assert [(pair.source.mac, pair.source.ip, pair.bytes) for pair in window.pairs] == [
        ("", None, 900)
    ]


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        pytest.param(b"", "is empty", id="empty"),
        pytest.param(b"PK\x03\x04 a zip", "begins with 50 4b 03 04", id="something else"),
        pytest.param(gzip.compress(b"a letter"), "no pcap", id="gzip of something else"),
    ],
)
def test_what_is_no_capture_is_refused_with_what_was_seen(
    tmp_path: Path, content: bytes, seen: str
) -> None:
    with pytest.raises(UnreadableCapture, match=seen):
        read_windows(written(tmp_path, content), 1.0)


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UnreadableCapture, match=r"/nowhere/tap\.pcap: No such file"):
        read_windows(Path("/nowhere/tap.pcap"), 1.0)


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        pytest.param(pcap(THREE)[:-10], "ends 10 bytes before", id="pcap cut in a frame"),
        pytest.param(
            pcap(THREE)[:-98], "8 bytes into a record's header", id="pcap cut in a header"
        ),
        pytest.param(pcap(THREE) + b"\xff" * 40, "fraction", id="pcap with garbage"),
        pytest.param(
            pcap(THREE) + bytes(8) + b"\xff" * 8, "more than any frame", id="pcap, endless record"
        ),
        pytest.param(pcapng(THREE)[:-10], "ends 10 bytes before", id="pcapng cut"),
        pytest.param(pcapng(THREE) + b"\1\0\0\0\3\0\0\0", "3 bytes long", id="pcapng, odd length"),
        pytest.param(
            pcapng(THREE) + packet(frame(1, 2), 0, number=9), "interface 9", id="no such interface"
        ),
        pytest.param(
            pcapng(THREE) + pcapng([])[:28] + interface() + packet(frame(1, 2), 2**63),
            "calendar",
            id="no such time",
        ),
        pytest.param(pcapng(THREE) + block(6, bytes(8)), "too short", id="a block too short"),
        pytest.param(
            pcapng(THREE) + block(0x0A0D0D0A, bytes(16)), "no byte order", id="no byte order"
        ),
        pytest.param(
            pcapng(THREE) + block(5, bytes(4))[:-4] + b"\1\1\1\1", "lengths differ", id="lengths"
        ),
    ],
)
def test_a_damaged_file_gives_what_comes_before_and_says_where_it_stopped(
    tmp_path: Path, damage: bytes, why: str
) -> None:
    _, summary = read_windows(written(tmp_path, damage), 1.0)

    assert summary.frames >= 2
    assert summary.stopped is not None
    assert summary.stopped.startswith("byte ")
    assert why in summary.stopped


def test_a_gzip_file_cut_short_gives_what_comes_before(tmp_path: Path) -> None:
    many = [(T0 + i * 1000, frame(1 + i % 5, 9, 100 + i)) for i in range(900)]
    content = gzip.compress(pcap(many))

    _, summary = read_windows(written(tmp_path, content[: len(content) // 2]), 1.0)

    assert 0 < summary.frames < 900
    assert summary.stopped is not None
    assert "gzip" in summary.stopped


def test_the_position_grows_to_the_size_of_the_file_on_disk(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(pcap(THREE)))
    reading = CaptureReading(path, 1.0)

    before, _, after = reading.position, list(reading), reading.position

    assert (before, after) == (0, path.stat().st_size)


@pytest.mark.parametrize("seconds", [0.0, -1.0, 1e-6, float("nan"), float("inf")])
def test_a_window_that_makes_no_sense_is_refused(tmp_path: Path, seconds: float) -> None:
    with pytest.raises(UsageError, match="window"):
        CaptureReading(tmp_path / "any", seconds)


@settings(max_examples=50, deadline=None)
@example(frames=[(15_624_999_999_501, frame(1, 1, 34))])  # dpkt rounds this up to a whole second
@given(
    frames=st.lists(
        st.tuples(
            st.integers(min_value=0, max_value=4_000_000_000_000_000),
            st.builds(frame, st.integers(1, 250), st.integers(1, 250), st.integers(34, 200)),
        ),
        max_size=30,
    )
)
def test_what_dpkt_writes_and_reads_adds_up_to_the_same(
    tmp_path_factory: pytest.TempPathFactory, frames: list[tuple[int, bytes]]
) -> None:
    buffer = io.BytesIO()
    writer = dpkt.pcap.Writer(buffer)
    for at, whole in frames:
        writer.writepkt_time(whole, at / SECOND)
    path = written(tmp_path_factory.mktemp("dpkt"), buffer.getvalue())

    windows, summary = read_windows(path, 1.0)

    read_by_dpkt = list(dpkt.pcap.Reader(io.BytesIO(buffer.getvalue())))
    assert summary.frames == len(read_by_dpkt)
    assert summary.bytes == sum(len(whole) for _, whole in read_by_dpkt)
    assert sum(p.bytes for w in windows for p in w.pairs) == summary.bytes
