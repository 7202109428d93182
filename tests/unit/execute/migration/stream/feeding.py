"""Feeds a splitter, and checks at every step what holds whatever is fed."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field

from transhume.execute.migration.splitting import PAGE_BYTES, Split, Understanding
from transhume.execute.migration.stream import QemuSplitter


@dataclass
class Fed:
    """A splitter, all that it was given, and all that it gave out."""

    splitter: QemuSplitter = field(default_factory=QemuSplitter)
    taken: bytearray = field(default_factory=bytearray)
    given: bytearray = field(default_factory=bytearray)
    pages: list[int] = field(default_factory=list)
    flushed_at: set[int] = field(default_factory=set)

    @property
    def understanding(self) -> Understanding:
        return self.splitter.understanding

    def split(self, data: bytes | memoryview) -> None:
        self.taken += data
        self._check(self.splitter.split(data))

    def flush(self) -> None:
        self._check(self.splitter.flush())
        assert self.splitter.held_bytes == 0
        assert len(self.given) == len(self.taken)
        self.flushed_at.add(len(self.given))

    def _check(self, split: Split) -> None:
        offsets = split.pages.tolist()
        assert split.pages.dtype == "int64"
        for offset in offsets:
            assert 0 <= offset <= len(split.raw) - PAGE_BYTES
            place = len(self.given) + offset
            assert not self.pages or place >= self.pages[-1] + PAGE_BYTES
            self.pages.append(place)
        begin = len(self.given)
        self.given += split.raw
        assert self.taken[begin : len(self.given)] == split.raw
        held = self.splitter.held_bytes
        assert held < PAGE_BYTES
        assert len(self.given) + held == len(self.taken)


def uncut(pages: Iterable[int], places: set[int]) -> list[int]:
    """Return the pages that none of these places lies within."""
    ordered = sorted(places)
    return [p for p in pages if bisect_right(ordered, p) == bisect_left(ordered, p + PAGE_BYTES)]


def fed(stream: bytes, sizes: Iterable[int] = (), flushes: Iterable[bool] = ()) -> Fed:
    """Feed a stream in pieces of these sizes, over and over, with flushes after some; then flush."""
    found, at = Fed(), 0
    sizes, flushes = list(sizes) or [len(stream) or 1], list(flushes) or [False]
    number = 0
    while at < len(stream):
        end = at + max(1, sizes[number % len(sizes)])
        found.split(memoryview(stream)[at:end] if number % 2 else stream[at:end])
        if flushes[number % len(flushes)]:
            found.flush()
        at, number = end, number + 1
    found.flush()
    assert found.given == stream
    return found


def expect_the_same_of_pieces(stream: bytes, sizes: Iterable[int], flushes: Iterable[bool]) -> Fed:
    """Check that a stream in pieces is understood as the whole is, but for pages that a flush cuts."""
    whole, pieces = fed(stream), fed(stream, sizes, flushes)
    assert pieces.understanding == whole.understanding
    assert pieces.pages == uncut(whole.pages, pieces.flushed_at)
    assert "a mistake of ours" not in whole.understanding.why_opaque
    return whole
