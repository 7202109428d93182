"""One input of the fuzzer, given to both engines."""

import struct

import numpy as np

from tests.fuzz.guarded import Guarded
from tests.fuzz.seeds import CAPTURE, FRAMES, OPTIONS, RING
from tests.unit.monitor.capture.capture_writing import pcap_of
from tests.unit.monitor.capture.scan.frame_making import LINKS
from tests.unit.monitor.capture.scan.reference import Totals
from tests.unit.monitor.capture.scan.scanning import added
from transhume.monitor.capture.scan import CutOff, Engine, FileHead, Scanner, read_head, resync
from transhume.monitor.capture.scan.head import Octets

_ROOM = Guarded(1 << 16)
_ENGINES = tuple(Engine)

Result = tuple[Totals, int, int, int, int | None, int | None, str]


def try_input(raw: bytes) -> None:
    """Have both engines read an input; an exception says that something is wrong with them."""
    if len(raw) < OPTIONS:
        return
    kind, options, size, more = raw[:OPTIONS]
    rest = raw[OPTIONS:]
    if kind % 4 == CAPTURE:
        _try_capture(rest, options, size)
    elif kind % 4 == FRAMES:
        _try_capture(_capture_of(rest, LINKS[more % len(LINKS)]), options, size)
    elif kind % 4 == RING:
        _same([_ring(rest, options, more, engine) for engine in _ENGINES])
    else:
        _try_places(rest)


def _capture_of(raw: bytes, link: int) -> bytes:
    records, at = [], 0
    while at + 3 <= len(raw):
        kept, wire = struct.unpack_from("<BH", raw, at)
        records.append((len(records) * 1000, raw[at + 3 : at + 3 + kept], wire))
        at += 3 + kept
    return pcap_of(records, link=link)


def _try_capture(content: bytes, options: int, size: int) -> None:
    try:
        found = read_head(content)
    except CutOff:
        return
    if found is not None:
        head, at = found
        _same([_scanned(head, content[at:], at, options, size, engine) for engine in _ENGINES])


def _scanned(  # noqa: PLR0917
    head: FileHead, content: bytes, base: int, options: int, size: int, engine: Engine
) -> Result:
    scanner = _scanner(head, options, engine)
    data, at, end = np.frombuffer(content, dtype=np.uint8), 0, 0
    stopped = ""
    try:
        while end < len(data):
            end = min(end + (size * 4 + 1 if size else len(data)), len(data))
            at += scanner.feed(_guarded(data[at:end], options), base + at)
        scanner.finish(data[at:], base + at)
    except CutOff as cut:
        stopped = str(cut)
    return _result(scanner, stopped)


def _ring(content: bytes, options: int, frames: int, engine: Engine) -> Result:
    scanner, stopped = _scanner(None, options, engine), ""
    data = _guarded(np.frombuffer(content, dtype=np.uint8), options)
    try:
        scanner.feed_block(data, 0, frames % 16, virtio=bool(options & 8))
    except CutOff as cut:
        stopped = str(cut)
    return _result(scanner, stopped)


def _try_places(content: bytes) -> None:
    data = np.frombuffer(content, dtype=np.uint8)
    for capture in (pcap_of([]), b"\x0a\x0d\x0d\x0a" + bytes(24)):
        found = read_head(capture)
        if found is not None:
            resync(_guarded(data, 0), found[0])


def _scanner(head: FileHead | None, options: int, engine: Engine) -> Scanner:
    return Scanner(
        head,
        window_seconds=1.0,
        capture_point="fuzzed",
        engine=engine,
        inner=bool(options & 1),
        captured_length=bool(options & 2),
    )


def _guarded(data: Octets, options: int) -> Octets:
    return _ROOM.first(data) if options & 4 else _ROOM.last(data)


def _result(scanner: Scanner, stopped: str) -> Result:
    totals = added(scanner.take_all())
    return (
        totals,
        scanner.frames,
        scanner.bytes,
        scanner.unreadable_frames,
        scanner.first_ns,
        scanner.last_ns,
        stopped,
    )


def _same(results: list[Result]) -> None:
    one, other = results
    if one != other:
        raise AssertionError(f"{_ENGINES[0]}: {one}\n{_ENGINES[1]}: {other}")
