"""Bins of time: frames at borders and out of order, silence, drops, and memory that stays bounded."""

from datetime import UTC, datetime

import numpy as np
import pytest

from tests.unit.monitor.capture.capture_writing import frame, pcap
from tests.unit.monitor.capture.scan.scanning import added, scanned
from transhume.monitor.capture.scan import Engine, Scanner, counts, read_head

ENGINES = [pytest.param(engine, id=engine.value) for engine in Engine]
SECOND = 1_000_000_000
T0 = 1_900_000_000 * SECOND
HEAD, _ = read_head(pcap([])) or (None, 0)


def scanner_of(engine: Engine, seconds: float = 1.0) -> Scanner:
    return Scanner(HEAD, window_seconds=seconds, capture_point="point", engine=engine)


def feed(scanner: Scanner, frames: list[tuple[int, bytes]]) -> None:
    records = np.frombuffer(pcap(frames)[24:], dtype=np.uint8)
    assert scanner.feed(records) == len(records)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_frame_at_a_border_is_in_the_window_that_begins_there(engine: Engine) -> None:
    """In floating point, 0.1-second windows put some of these a window too early."""
    frames = [(T0 + tenth * SECOND // 10, frame(1, 2)) for tenth in range(50)]

    windows = scanned(pcap(frames), engine, seconds=0.1).windows

    assert len(windows) == 50
    assert all(pair.frames == 1 for window in windows for pair in window.pairs)


@pytest.mark.parametrize("engine", ENGINES)
def test_frames_out_of_order_are_in_their_own_windows(engine: Engine) -> None:
    seconds = (3, 1, 2, 0, 3, 1)
    found = scanned(pcap([(T0 + s * SECOND, frame(1, 2)) for s in seconds]), engine)

    assert [(window.start.second, window.total_frames) for window in found.windows] == [
        (40, 1),
        (41, 2),
        (42, 1),
        (43, 2),
    ]
    assert all(len(window.pair) == 1 for window in found.windows)


@pytest.mark.parametrize("engine", ENGINES)
def test_bins_are_handed_out_once_and_the_oldest_first(engine: Engine) -> None:
    scanner = scanner_of(engine)
    feed(scanner, [(T0 + s * SECOND, frame(1, 2)) for s in (2, 0, 1)])
    first = scanner.bin_at(T0)

    assert scanner.open_bins == 3
    (oldest,) = scanner.take_oldest()
    assert oldest.start == datetime.fromtimestamp(T0 // SECOND, UTC)
    assert [window.start.second for window in scanner.take_before(first + 2)] == [41]
    feed(scanner, [(T0, frame(2, 1))])
    assert [(w.start.second, w.total_frames) for w in scanner.take_all()] == [(40, 1), (42, 1)]
    assert scanner.open_bins == 0
    assert list(scanner.take_oldest()) == list(scanner.take_all()) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_silence_and_drops_have_windows_too(engine: Engine) -> None:
    scanner = scanner_of(engine)
    first = scanner.bin_at(T0)
    scanner.touch(first)
    scanner.add_dropped(first + 1, 5)
    scanner.add_dropped(first + 1, 2)
    feed(scanner, [(T0 + SECOND, frame(1, 2))])

    silent, dropped = scanner.take_all()

    assert (silent.total_frames, silent.dropped_frames, silent.capture_point) == (0, 0, "point")
    assert (dropped.total_frames, dropped.dropped_frames) == (1, 7)


@pytest.mark.parametrize("engine", ENGINES)
def test_windows_share_their_addresses(engine: Engine) -> None:
    scanner = scanner_of(engine)
    feed(scanner, [(T0, frame(1, 2)), (T0 + SECOND, frame(1, 2))])
    one, other = scanner.take_all()
    feed(scanner, [(T0, frame(3, 4))])
    (later,) = scanner.take_all()

    assert one.addresses is other.addresses
    assert len(one.addresses) == 1
    assert (later.addresses[:1] == one.addresses).all()
    assert later.pair.tolist() == [1]


@pytest.mark.parametrize("engine", ENGINES)
def test_frames_that_jump_between_bins_are_added_up_in_bounded_memory(engine: Engine) -> None:
    """Each jump begins a run; runs of a bin are merged before there are too many."""
    scanner = scanner_of(engine)
    many = 40_000
    frames = [(T0 + (i % 3) * SECOND, frame(1 + i % 7, 9)) for i in range(many)]
    for begin in range(0, many, 5000):
        feed(scanner, frames[begin : begin + 5000])

    windows = list(scanner.take_all())

    assert [window.total_frames for window in windows] == [13_334, 13_333, 13_333]
    assert all(len(window.pair) == 7 for window in windows)
    assert scanner._counts._full == []


@pytest.mark.parametrize("engine", ENGINES)
def test_merging_changes_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = [(T0 + (i * 7 % 11) * SECOND, frame(1 + i % 50, 51 + i % 3)) for i in range(30_000)]
    content = pcap(frames)
    expected = scanned(content, engine).totals
    monkeypatch.setattr(counts, "_MOST_FULL_CELLS", 5000)
    monkeypatch.setattr(counts, "_USUAL_CELLS", 4096)

    assert scanned(content, engine, piece=100_000).totals == expected


@pytest.mark.parametrize("engine", ENGINES)
def test_pairs_that_are_over_are_forgotten_when_there_are_too_many(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody who makes addresses up can't fill the memory; what was handed out stays as it was."""
    monkeypatch.setattr(counts, "MOST_PAIRS", 1000)
    scanner = scanner_of(engine)
    pairs = [(i, j) for i in range(1, 51) for j in range(51, 91)]
    first = [(T0, frame(*pair)) for pair in pairs]
    second = [(T0 + SECOND, frame(*pair)) for pair in pairs[:3]]

    feed(scanner, first + second)
    assert scanner.crowded
    (one,) = scanner.take_oldest()
    before = added([one])
    assert not scanner.crowded
    feed(scanner, [*second, (T0 + SECOND, frame(200, 201))])
    (other,) = scanner.take_oldest()

    assert added([one]) == before
    assert len(one.pair) == len(pairs)
    assert len(other.addresses) == 4
    assert sorted((str(p.source.ip), p.frames) for p in other.pairs) == [
        ("10.0.0.1", 2),
        ("10.0.0.1", 2),
        ("10.0.0.1", 2),
        ("10.0.0.200", 1),
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_many_pairs_are_told_apart(engine: Engine) -> None:
    frames = [(T0, frame(1 + i % 250, 1 + i // 250)) for i in range(60_000)]

    (window,) = scanned(pcap(frames), engine, piece=1 << 20).windows

    assert len(window.pair) == 60_000
    assert (window.frames == 1).all()
    assert window.pair.tolist() == list(range(60_000))
