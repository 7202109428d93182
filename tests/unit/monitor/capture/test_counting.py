"""One pass over a capture: blocks of any size, engines that change on the way, memory that doesn't grow."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.stream_memory import stream
from tests.unit.monitor.capture.capture_writing import (
    block,
    frame,
    interface,
    packet,
    pcap,
    pcapng,
    section,
)
from tests.unit.monitor.capture.window_sums import Sums, sums
from transhume.monitor.capture import counting
from transhume.monitor.capture.counting import Counting, ReadingOptions
from transhume.monitor.capture.scan import CutOff, Engine

T0 = 1_900_000_000_000_000_000
MANY = [(T0 + i * 700_000, frame(1 + i * 7 % 40, 9, 60 + i % 1200)) for i in range(2000)]
FEW = MANY[900:1200]


class Given:
    """A source that hands out what it was given, in lots."""

    packed = False
    stopped = None

    def __init__(self, content: bytes, lot: int = 1 << 20) -> None:
        self._stream = io.BytesIO(content)
        self._lot = lot

    @property
    def position(self) -> int:
        return self._stream.tell()

    def read(self, into: memoryview) -> int:
        return self._stream.readinto(into[: self._lot])

    def close(self) -> None:
        self._stream.close()


def counted(content: bytes, lot: int = 1 << 20, **options: object) -> tuple[Sums, Counting]:
    how = ReadingOptions(window_seconds=0.1, **options)  # type: ignore[arg-type]
    found = Counting("tap", how)
    return sums(found.windows(Given(content, lot))), found


def go_on_faster_at(frames: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the fast engine be worth its start after so many frames."""

    def choose(expected: int | None, asked: Engine | None = None) -> Engine:
        return asked or (Engine.NUMBA if expected is None or expected >= frames else Engine.NUMPY)

    monkeypatch.setattr(counting, "choose_engine", choose)


@settings(max_examples=15, deadline=None)
@given(
    block_bytes=st.integers(500, 100_000),
    lot=st.integers(1000, 100_000),
    content=st.sampled_from([pcap(FEW), pcapng(FEW), pcap(FEW, order=">", snaplen=96)]),
)
def test_blocks_of_any_size_give_the_same(block_bytes: int, lot: int, content: bytes) -> None:
    """A record that ends in the next block, or that is longer than a block, is counted as any other."""
    expected, whole = counted(content)

    found, in_blocks = counted(content, lot, block_bytes=block_bytes)

    assert found == expected
    assert in_blocks.totals == whole.totals
    assert in_blocks.totals.frames == len(FEW)
    assert in_blocks.position == len(content)


def test_a_record_longer_than_a_block_is_read_whole() -> None:
    """A captured super-frame is one; the block grows for it."""
    long = [(T0, frame(1, 2) + bytes(3 << 20)), *MANY]

    _, found = counted(pcap(long), block_bytes=4096)

    assert found.totals.frames == 2001


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(pcap(MANY), id="pcap"),
        pytest.param(
            pcapng(MANY[:1000]) + pcapng(MANY[1000:], order=">"), id="pcapng, two sections"
        ),
        pytest.param(
            section()
            + interface(resolution=9)
            + packet(MANY[0][1], T0)
            + b"".join(block(3, len(w).to_bytes(4, "little") + w) for _, w in MANY),
            id="pcapng, frames without a time",
        ),
    ],
)
def test_going_on_with_the_fast_engine_is_not_seen_in_the_result(
    monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """Of a pipe nobody knows beforehand how much it will give."""
    pytest.importorskip("numba")
    expected, whole = counted(content, engine=Engine.NUMPY)
    go_on_faster_at(500, monkeypatch)

    found, changed = counted(content, block_bytes=10_000)

    assert (whole.engine, changed.engine) == (Engine.NUMPY, Engine.NUMBA)
    assert found == expected
    assert changed.totals == whole.totals
    assert changed.head == whole.head


def test_damage_behind_the_change_of_engines_is_told_by_its_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("numba")
    go_on_faster_at(500, monkeypatch)
    content = pcap(MANY)

    _, found = counted(content + b"\xff" * 64, block_bytes=10_000)

    assert isinstance(found.stopped, CutOff)
    assert found.stopped.at == len(content)
    assert found.totals.frames == len(MANY)


def test_an_engine_that_was_asked_for_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    go_on_faster_at(500, monkeypatch)

    _, found = counted(pcap(MANY), engine=Engine.NUMPY, block_bytes=10_000)

    assert found.engine is Engine.NUMPY


def test_a_long_stream_through_a_pipe_takes_no_more_memory_than_a_short_one() -> None:
    """Of a gigabyte as of twenty: `python -m benchmarks.stream_memory` streams these."""
    short, long = stream(100_000_000), stream(1_000_000_000)

    assert long.frames == (1_000_000_000 - 24) // 96
    assert long.windows >= 10
    assert long.most_mib < 300
    assert long.most_mib - short.most_mib < 20
