"""Parts of a capture file, which can be read at the same time, and what makes a whole of them again.

Where a record begins can't be told by looking at one place: a part is begun where a chain of plausible records
does, which may be wrong (a captured transfer of a capture file holds such chains). So each part says where it
really ended, and a part counts only if it was begun just there and with what is known of the capture there.
Where not, that stretch is read again from where the part before ended: the whole is the same as if the file had
been read in one go, whatever the guess was worth. How often that happened is told.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import numpy as np

from transhume.knowledge.model import TrafficWindow
from transhume.knowledge.model.addresses import AddressPairs
from transhume.monitor.capture.counting import Counting, ReadingOptions, Totals
from transhume.monitor.capture.scan import CutOff, Engine, FileHead, read_head, resync
from transhume.monitor.capture.sources import StoredFile, open_source

_LOOK_BYTES = 128 << 10
"""How much is looked at for the chain of records that a part is begun with. More than the largest frames; and
little, because one process cuts for all that read.
"""
_HEAD_BYTES = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What must be known at a place of a capture to read it on from there."""

    at: int = 0
    head: FileHead | None = None
    """None at the very beginning, where it is read."""
    front: FileHead | None = None
    """What was known before the first frame."""
    simple_ns: int | None = None
    """The time that a pcapng frame without one takes over, where it is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """The bytes of a file from `known.at` to before `end`."""

    path: Path
    known: Known
    end: int
    is_last: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PartRead:
    """What a part held."""

    part: Part
    windows: tuple[TrafficWindow, ...]
    totals: Totals
    after: Known
    """What is known behind its last whole record."""
    borrowed_times: int
    """Frames without a time, that had none to take over."""
    cut: CutOff | None
    """Where and why the capture can't be read on."""
    engine: Engine | None


def cut(path: Path, part_bytes: int) -> Iterator[Part]:
    """Cut a stored file that isn't packed into parts of about a size; into one where it can't be cut.

    Raises:
        OSError: it can't be read.
    """
    size = path.stat().st_size
    begun = Known()
    for known in _begins(path, size, part_bytes):
        yield Part(path=path, known=begun, end=known.at, is_last=False)
        begun = known
    yield Part(path=path, known=begun, end=size, is_last=True)


def can_be_cut(path: Path) -> bool:
    """Say whether a file is stored, and not packed.

    Raises:
        OSError: it can't be read.
    """
    if not path.is_file():
        return False
    with closing(open_source(path, stop=Event())) as source:
        return not source.packed


def _begins(path: Path, size: int, part_bytes: int) -> Iterator[Known]:
    """Yield where parts can be begun, the first excepted."""
    with closing(StoredFile(path)) as file:
        first = np.empty(min(_HEAD_BYTES, size), dtype=np.uint8)
        file.read(first.data)
        front = _head(first.tobytes())
        if front is None:
            return
        before = 0
        for wanted in range(part_bytes, size, part_bytes):
            at = _begin(path, max(wanted, before + 1), min(wanted + part_bytes, size), front)
            if at is not None and before < at < size:
                yield Known(at=at, head=front, front=front)
                before = at


def _head(first: bytes) -> FileHead | None:
    try:
        found = read_head(first)
    except CutOff:
        return None
    return None if found is None else found[0]


def _begin(path: Path, wanted: int, end: int, head: FileHead) -> int | None:
    """Return the first place from `wanted` to before `end` where records seem to begin."""
    look = np.empty(_LOOK_BYTES, dtype=np.uint8)
    for at in range(wanted, end, _LOOK_BYTES // 2):
        with closing(StoredFile(path, at, min(at + _LOOK_BYTES, end))) as file:
            count = file.read(look.data)
        found = resync(look[:count], head)
        if found is not None:
            return at + found
    return None


def read_part(part: Part, point: str, options: ReadingOptions) -> PartRead:
    """Count the whole records of a part.

    Raises:
        OSError: it can't be read.
        NoCapture: it is the beginning of something else.
    """
    known = part.known
    counting = Counting(
        point,
        options,
        head=known.head,
        front=known.front,
        base=known.at,
        simple_ns=known.simple_ns,
    )
    with closing(StoredFile(part.path, known.at, part.end)) as file:
        windows = sharing_addresses(counting.windows(file, ends=part.is_last))
    return PartRead(
        part=part,
        windows=windows,
        totals=counting.totals,
        after=Known(
            at=counting.position,
            head=counting.head,
            front=counting.front,
            simple_ns=counting.simple_ns,
        ),
        borrowed_times=counting.borrowed_times,
        cut=counting.stopped,
        engine=counting.engine,
    )


def sharing_addresses(windows: Iterable[TrafficWindow]) -> tuple[TrafficWindow, ...]:
    """Return windows with as few tables of addresses as can be, for a message that holds them all.

    A scanner's table grows, and each window has what it was then: a front of one and the same array.
    """
    given = tuple(windows)
    longest: dict[int, AddressPairs] = {}
    for window in given:
        table = window.addresses
        if len(table) >= len(longest.get(_memory(table), ())):
            longest[_memory(table)] = table
    return tuple(replace(window, addresses=longest[_memory(window.addresses)]) for window in given)


def _memory(table: AddressPairs) -> int:
    """Return where an array begins; as long as all are alive, no two tables begin at the same place."""
    return int(table.__array_interface__["data"][0])


class Joining:
    """Makes a whole of the parts of a file, given in their order.

    Args:
        read: reads a part that has to be read again.
    """

    def __init__(self, read: Callable[[Part], PartRead]) -> None:
        self._read = read
        self.known = Known()
        """What is known where the parts joined so far end."""
        self.totals = Totals()
        self.parts_read_again = 0
        self.stopped: CutOff | None = None
        self.engine: Engine | None = None

    @property
    def is_over(self) -> bool:
        """Whether the capture can't be read on, so that no part counts any more."""
        return self.stopped is not None

    def fits(self, part: Part) -> bool:
        """Say whether a part was begun where it must be, and with what is known of the capture there."""
        known = self.known
        return known.at == part.known.at and known.head == part.known.head

    def in_its_turn(self, part: Part) -> Part:
        """Return a part as it must be read, now that what comes before it is known."""
        return replace(part, known=self.known)

    def add(self, found: PartRead) -> Iterator[TrafficWindow]:
        """Take the next part, after reading it again where it was begun wrongly; yield its windows."""
        if self.is_over:
            return
        lacks_time = found.borrowed_times and self.known.simple_ns is not None
        if not self.fits(found.part) or lacks_time:
            self.parts_read_again += 1
            found = self._read(self.in_its_turn(found.part))
        self.known = found.after
        self.totals += found.totals
        self.stopped = found.cut
        self.engine = found.engine or self.engine
        yield from found.windows
