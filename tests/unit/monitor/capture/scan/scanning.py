"""Captures through an engine, in pieces of any size, and what comes out in the reference's terms."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from tests.unit.monitor.capture.scan.reference import Totals
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.scan import CutOff, Engine, Scanner, read_head


@dataclass(frozen=True)
class Scanned:
    totals: Totals
    scanner: Scanner
    windows: list[TrafficWindow]
    stopped: CutOff | None


def scanned(
    content: bytes,
    engine: Engine,
    *,
    seconds: float = 1.0,
    piece: int | None = None,
    inner: bool = False,
    captured_length: bool = False,
    capture_point: str | Callable[[int], str] = "point",
) -> Scanned:
    """Scan a whole capture, whose records may come in pieces."""
    begun = read_head(content)
    assert begun is not None
    head, at = begun
    scanner = Scanner(
        head,
        window_seconds=seconds,
        capture_point=capture_point,
        engine=engine,
        inner=inner,
        captured_length=captured_length,
    )
    stopped = None
    try:
        feed(scanner, content, at, piece or len(content))
    except CutOff as cut:
        stopped = cut
    windows = list(scanner.take_all())
    return Scanned(added(windows), scanner, windows, stopped)


def feed(scanner: Scanner, content: bytes, at: int, piece: int) -> None:
    data, end = np.frombuffer(content, dtype=np.uint8), at
    while end < len(content):
        end = min(end + piece, len(content))
        at += scanner.feed(data[at:end], at)
    scanner.finish(data[at:], at)


def added(windows: Iterable[TrafficWindow]) -> Totals:
    """Return windows in the reference's terms."""
    found: dict[tuple[int, bytes], tuple[int, int, int]] = {}
    for window in windows:
        number = round(window.start.timestamp() / window.seconds)
        rows = window.addresses[window.pair]
        columns = (window.bytes, window.payload_bytes, window.frames)
        for row, *counts in zip(rows, *(column.tolist() for column in columns), strict=True):
            before = found.get((number, row.tobytes()), (0, 0, 0))
            found[number, row.tobytes()] = (
                before[0] + counts[0],
                before[1] + counts[1],
                before[2] + counts[2],
            )
    return found
