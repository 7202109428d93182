"""What the front of a capture file tells: when its first frame was, and about how many frames there are.

Owns looking without reading: files of a rotated set are put in order by it, and by it we guess whether the fast
engine is worth its start.
"""

from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from transhume.monitor.capture.blocks import Block
from transhume.monitor.capture.scan import (
    FEW_FRAMES,
    CutOff,
    Engine,
    FileHead,
    Scanner,
    read_head,
)
from transhume.monitor.capture.sources import Source, open_source

_GLIMPSE_BYTES = 16 << 10
"""Some dozens of frames; hundreds of files may have to be looked at."""
_MOST_BYTES = 4 << 20
"""How far a first frame is looked for: interface descriptions and the like may come before it."""
_PACKED_TIMES = 4
"""What a packed file is taken to unpack to."""
_MANY_FRAMES = 10_000_000
"""From here on more of them change nothing."""
_SMALLEST_RECORD = 16 + 34
"""A frame is hardly captured with less than its addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Glimpse:
    """What the front of a capture tells."""

    head: FileHead
    first_ns: int | None
    """When its first frame was; None where none was found."""
    record_bytes: float
    """What a frame takes in the file, in the mean of the first."""


def begins_like_a_capture(path: Path) -> bool:
    """Say whether a file begins with a capture's header.

    Raises:
        OSError: it can't be read.
    """
    block = Block(_GLIMPSE_BYTES, 0)
    with closing(open_source(path, stop=Event())) as source:
        block.fill_up(source)
    return _head(block) is not None


def glimpse(path: Path) -> Glimpse | None:
    """Look at the front of a file; None where it is no capture.

    Raises:
        OSError: it can't be read.
    """
    with closing(open_source(path, stop=Event())) as source:
        return _glimpse(source)


def _glimpse(source: Source) -> Glimpse | None:
    block = Block(_GLIMPSE_BYTES, 0)
    more = block.fill_up(source)
    found = _head(block)
    if found is None:
        return None
    head, taken = found
    block.drop(taken)
    scanner = Scanner(head, window_seconds=1.0, capture_point="", engine=Engine.NUMPY)
    try:
        block.drop(scanner.feed(block.data, block.base))
        while more and not scanner.frames and block.base < _MOST_BYTES:
            more = block.fill_up(source)
            block.drop(scanner.feed(block.data, block.base))
    except CutOff:
        pass  # what the reading will say in its place
    return Glimpse(
        head=scanner.head or head,
        first_ns=scanner.first_ns,
        record_bytes=max(block.base / max(scanner.frames, 1), _SMALLEST_RECORD),
    )


def _head(block: Block) -> tuple[FileHead, int] | None:
    """Return the head and its length; None for what is none, or not a whole one."""
    try:
        return read_head(block.data.tobytes())
    except CutOff:
        return None


def expected_frames(paths: Iterable[Path], *, enough: int = _MANY_FRAMES) -> int:
    """Guess how many frames files hold in all; stop guessing at `enough`.

    What isn't a regular file counts as nothing: nobody knows how much it will give.
    """
    files = [path for path in paths if path.is_file()]
    most = sum(_PACKED_TIMES * path.stat().st_size for path in files) // _SMALLEST_RECORD
    if most < FEW_FRAMES:
        return most
    expected = 0.0
    for path in files:
        if expected >= enough:
            break
        expected += _expected_frames(path)
    return int(expected)


def _expected_frames(path: Path) -> float:
    try:
        with closing(open_source(path, stop=Event())) as source:
            found = _glimpse(source)
            times = _PACKED_TIMES if source.packed else 1
        return 0 if found is None else times * path.stat().st_size / found.record_bytes
    except OSError:
        return 0  # whoever reads it will say why it can't be read
