"""One pass over a capture's bytes: blocks in, windows out.

Owns the block of memory that is read into, what of it is carried over to the next, when windows are handed out,
and which engine counts. Memory stays the same however long the capture is: a window is handed out once some
later ones are open, and a frame that comes later still gets a window of its own, which adds to the first one's.
Where nobody knows how much there is to count, the pass begins with the engine that is ready at once and goes on
with the fast one when that has become worth its start; the counts are the same.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.blocks import BLOCK_BYTES, Block
from transhume.monitor.capture.point_names import point_name
from transhume.monitor.capture.scan import (
    CutOff,
    Engine,
    FileHead,
    Form,
    Scanner,
    choose_engine,
    read_head,
)
from transhume.monitor.capture.sources import Source
from transhume.monitor.capture.unpacking import MAGIC_BYTES

OPEN_WINDOWS = 4
"""How many windows are kept open for frames that come out of order."""
_HEAD_BYTES = 64 << 10
"""What of a stream is waited for before its head is read, so that the head has all interfaces."""


class NoCapture(Exception):
    """The bytes are no capture: they begin with `first`."""

    def __init__(self, first: bytes) -> None:
        self.first = first[:4]
        seen = f"begins with {self.first.hex(' ')}" if first else "is empty"
        super().__init__(f"is no pcap or pcapng file (it {seen}); tcpdump -w writes one")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadingOptions:
    """How captures are read."""

    window_seconds: float
    inner: bool = False
    """Whether the frames within VXLAN, GRE and IP-in-IP are counted in place of those that carry them."""
    captured_length: bool = False
    """Whether the bytes that were kept of a frame are counted in place of those on the wire."""
    engine: Engine | None = None
    """Who counts; None takes what is quicker for the work."""
    expected_frames: int | None = None
    """How many frames there are to count in all files; guessed by their size unless given."""
    block_bytes: int = BLOCK_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    """What was counted in all."""

    frames: int = 0
    bytes: int = 0
    unreadable_frames: int = 0
    first_ns: int | None = None
    last_ns: int | None = None

    def __add__(self, other: "Totals | Scanner") -> "Totals":
        return Totals(
            frames=self.frames + other.frames,
            bytes=self.bytes + other.bytes,
            unreadable_frames=self.unreadable_frames + other.unreadable_frames,
            first_ns=_known(min, self.first_ns, other.first_ns),
            last_ns=_known(max, self.last_ns, other.last_ns),
        )


def _known(choose: Callable[[int, int], int], one: int | None, other: int | None) -> int | None:
    if one is None or other is None:
        return other if one is None else one
    return choose(one, other)


class Counting:
    """One pass over a source, or over a part of one.

    Args:
        point: what the capture point is called.
        options: how to count.
        head: what is known of the capture where the source begins; None where that is its very beginning.
        front: what was known at the capture's very beginning, where `head` is given.
        base: the number of the source's first byte in the capture.
        simple_ns: the time of the frame before, where it is known: pcapng frames without a time take it over.
    """

    def __init__(
        self,
        point: str,
        options: ReadingOptions,
        *,
        head: FileHead | None = None,
        front: FileHead | None = None,
        base: int = 0,
        simple_ns: int | None = None,
    ) -> None:
        self._point = point
        self._options = options
        self._block = Block(options.block_bytes, base)
        self._before = Totals()
        self._borrowed_before = 0
        self._scanner: Scanner | None = None
        self.stopped: CutOff | None = None
        """Where the bytes stop being a capture; None while they don't."""
        self._front = front
        if head is not None:
            self._scanner = self._new_scanner(head, self._first_engine(), simple_ns)

    @property
    def totals(self) -> Totals:
        """What was counted until now."""
        return self._before if self._scanner is None else self._before + self._scanner

    @property
    def engine(self) -> Engine | None:
        """Who counts now; None before the head was read."""
        return None if self._scanner is None else self._scanner.engine

    @property
    def position(self) -> int:
        """The number of the first byte that was not counted."""
        return self._block.base

    @property
    def head(self) -> FileHead | None:
        """What is known of the capture where the pass is."""
        return None if self._scanner is None else self._scanner.head

    @property
    def front(self) -> FileHead | None:
        """What was known of the capture at its very beginning."""
        return self._front

    @property
    def simple_ns(self) -> int | None:
        """The time that the next pcapng frame without one would take over, where there is any."""
        return None if self._scanner is None else self._scanner.simple_ns

    def windows(self, source: Source, *, ends: bool = True) -> Iterator[TrafficWindow]:
        """Count a source to its end, and hand out its windows.

        Unless the capture `ends` with the source, the front of a record at its end is no damage: `position` is
        where it begins.

        Raises:
            NoCapture: the source is none; no window was handed out.
            OSError: it can't be read on.
        """
        try:
            while self._block.fill(source):
                yield from self._count()
            self._begin(all_there=True)
            self._scan()
            if ends:
                self._running.finish(self._block.data, self._block.base)
        except CutOff as cut:
            self.stopped = cut
        if self._scanner is not None:
            yield from self._scanner.take_all()

    @property
    def borrowed_times(self) -> int:
        """How many frames would have the time of a frame before the first, of which we don't know."""
        now = 0 if self._scanner is None else self._scanner.borrowed_times
        return self._borrowed_before + now

    @property
    def _running(self) -> Scanner:
        assert self._scanner is not None, "the head is read first"
        return self._scanner

    @property
    def _head_now(self) -> FileHead:
        head = self._running.head
        assert head is not None, "files have one"
        return head

    def _count(self) -> Iterator[TrafficWindow]:
        """Count what the block holds now; hand out windows whose time has passed."""
        if not self._begin():
            return
        self._scan()
        if self._outgrown():
            yield from self._running.take_all()
            self._go_on_faster()
        if self._running.crowded:
            yield from self._running.take_all()
        while self._running.open_bins > OPEN_WINDOWS:
            yield from self._running.take_oldest()

    def _scan(self) -> None:
        self._block.drop(self._running.feed(self._block.data, self._block.base))

    def _begin(self, *, all_there: bool = False) -> bool:
        """Read the head unless it was read; return whether it is."""
        if self._scanner is not None:
            return True
        data = self._block.data
        found = self._read_head(data[:_HEAD_BYTES].tobytes(), all_there=all_there)
        if found is None:
            return False
        self._front, taken = found
        self._block.drop(taken)
        self._scanner = self._new_scanner(self._front, self._first_engine(), None)
        return True

    def _read_head(self, first: bytes, *, all_there: bool) -> tuple[FileHead, int] | None:
        """Return the head and its length; None while more of it may come."""
        if len(first) < MAGIC_BYTES and not all_there:
            return None
        try:
            found = read_head(first)
        except CutOff:
            if all_there:
                raise
            return None
        if found is None:
            raise NoCapture(first)
        waits = found[0].form is Form.PCAPNG and len(first) < _HEAD_BYTES and not all_there
        return None if waits else found

    # --- engines ---------------------------------------------------------------------------------

    def _first_engine(self) -> Engine:
        return choose_engine(self._options.expected_frames or 0, self._options.engine)

    def _new_scanner(self, head: FileHead, engine: Engine, simple_ns: int | None) -> Scanner:
        return Scanner(
            head,
            window_seconds=self._options.window_seconds,
            capture_point=self._point_of,
            engine=engine,
            inner=self._options.inner,
            captured_length=self._options.captured_length,
            simple_ns=simple_ns,
        )

    def _outgrown(self) -> bool:
        """Say whether there was so much to count that the fast engine has become worth its start."""
        if self._options.engine is not None or self._running.engine is Engine.NUMBA:
            return False
        return choose_engine(self._running.frames) is Engine.NUMBA

    def _go_on_faster(self) -> None:
        old = self._running
        self._before += old
        self._borrowed_before += old.borrowed_times
        self._scanner = self._new_scanner(self._head_now, Engine.NUMBA, old.simple_ns)

    def _point_of(self, interface: int) -> str:
        assert self._front is not None, "it is known before the first frame"
        return point_name(self._point, self._front, self._head_now, interface)
