"""Capture files that were cut anywhere, or made of anything: no crash, and nothing lost that was whole."""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random

import dpkt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.monitor.capture.capture_writing import Stamped, frame, pcap, pcapng
from tests.unit.monitor.capture.scan.scanning import feed, scanned
from transhume.analyze import build_matrix, vms_from_windows
from transhume.errors import UnreadableCapture
from transhume.monitor.capture.files import read_windows
from transhume.monitor.capture.scan import CutOff, Engine, Scanner, read_head

ENGINES = [pytest.param(engine, id=engine.value) for engine in Engine]
SECOND = 1_000_000_000
TAIL = 4096


def traffic(count: int = 120) -> list[Stamped]:
    """Return frames among six machines over some seconds."""
    random = Random(1)
    made, at = [], 1_900_000_000 * SECOND
    for _ in range(count):
        at += random.randrange(SECOND // 10)
        one, other = random.sample(range(1, 7), 2)
        made.append((at, frame(one, other, random.randrange(60, 300))))
    return made


def ends(content: bytes, frames: list[Stamped], *, overhead: int, padded: bool) -> list[int]:
    """Return the offsets at which each frame's record is complete."""
    lengths = [overhead + len(w) + (-len(w) % 4 if padded else 0) for _, w in frames]
    at = len(content) - sum(lengths)
    found = []
    for length in lengths:
        at += length
        found.append(at)
    return found


FORMATS = [
    pytest.param(pcap, 16, False, id="pcap"),
    pytest.param(pcapng, 32, True, id="pcapng"),
]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(("write", "overhead", "padded"), FORMATS)
def test_a_capture_cut_at_any_byte_gives_exactly_the_frames_before_the_cut(
    engine: Engine, write: Callable[..., bytes], overhead: int, padded: bool
) -> None:
    frames = traffic()
    content = write(frames)
    complete = ends(content, frames, overhead=overhead, padded=padded)

    head, at = read_head(content) or (None, 0)

    for cut in range(len(content) - TAIL, len(content) + 1):
        scanner = Scanner(head, window_seconds=1.0, capture_point="x", engine=engine)
        stopped = None
        try:
            feed(scanner, content[:cut], at, cut)
        except CutOff as found:
            stopped = found.at
        whole = sum(1 for end in complete if end <= cut)
        assert scanner.frames == whole
        assert scanner.bytes == sum(len(raw) for _, raw in frames[:whole])
        assert stopped == (None if cut in complete else complete[whole - 1])


@pytest.mark.parametrize(("write", "overhead", "padded"), FORMATS)
def test_a_file_cut_short_gives_the_frames_before_the_cut_and_says_where_that_is(
    tmp_path: Path, write: Callable[..., bytes], overhead: int, padded: bool
) -> None:
    frames = traffic()
    content = write(frames)
    complete = ends(content, frames, overhead=overhead, padded=padded)
    path = tmp_path / "cut"

    for cut in range(len(content) - TAIL, len(content) + 1, 97):
        path.write_bytes(content[:cut])
        windows, summary = read_windows(path, 1.0)
        whole = sum(1 for end in complete if end <= cut)
        assert summary.frames == whole
        assert sum(window.total_bytes for window in windows) == summary.bytes
        assert cut in complete or str(summary.stopped).startswith(f"byte {complete[whole - 1]}:")


@pytest.mark.parametrize(
    "write", [pytest.param(pcap, id="pcap"), pytest.param(pcapng, id="pcapng")]
)
def test_a_capture_with_any_damage_is_read_as_far_as_it_goes(write: Callable[..., bytes]) -> None:
    """Bytes are changed at random: no crash, and both engines say the same of what is left."""
    content = write(traffic())
    random = Random(2)
    for _ in range(400):
        damaged = bytearray(content)
        for _ in range(random.randrange(1, 6)):
            damaged[random.randrange(4, len(damaged))] = random.randrange(256)
        one, other = (scanned(bytes(damaged), engine) for engine in Engine)
        assert 0 <= one.scanner.frames <= 2 * 120
        assert one.totals == other.totals
        assert str(one.stopped) == str(other.stopped)


@settings(max_examples=examples(80), deadline=None)
@given(
    start=st.sampled_from([b"", pcap([])[:24], pcap([])[:10], pcapng([]), pcapng([])[:30]]),
    rest=st.binary(max_size=300),
)
def test_no_file_is_too_odd_to_be_refused_in_good_order(
    tmp_path_factory: pytest.TempPathFactory, start: bytes, rest: bytes
) -> None:
    path = tmp_path_factory.mktemp("odd") / "file"
    path.write_bytes(start + rest)
    try:
        read_windows(path, 1.0)
    except UnreadableCapture:
        assert not start


def test_the_matrix_is_what_dpkt_adds_up(tmp_path: Path) -> None:
    """dpkt reads whole frames; we read the same ones cut by snaplen."""
    frames = traffic(2000)
    expected: Counter[tuple[str, str]] = Counter()
    for _, raw in dpkt.pcap.Reader(io.BytesIO(pcap(frames))):
        ip = dpkt.ip.IP(raw[14:34])
        expected[".".join(map(str, ip.src)), ".".join(map(str, ip.dst))] += len(raw)
    path = tmp_path / "cut-by-snaplen"
    path.write_bytes(pcap(frames, snaplen=64))

    windows, _ = read_windows(path, 1.0)
    vms = vms_from_windows(windows)
    matrix = build_matrix(windows, vms, start=windows[0].start, seconds=10)

    found = zip(
        matrix.source.tolist(), matrix.destination.tolist(), matrix.bytes.tolist(), strict=True
    )
    assert {(vms[i].name, vms[j].name): count for i, j, count in found} == expected
