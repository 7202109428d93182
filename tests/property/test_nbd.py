"""Whatever a client sends and however it is cut, the bytes stay; pages are where the slow reading has them."""

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.execute.migration.nbd.client import (
    DISCONNECT,
    EXTENDED_HEADERS,
    FLAGS,
    GO,
    LIST,
    PAGE,
    WRITE,
    option,
    read_slowly,
    request,
    write,
)
from transhume.execute.migration.nbd import NbdSplitter

DATA = bytes(range(1, 252)) * 120

lengths = st.one_of(st.integers(0, 5).map(lambda n: n * PAGE), st.integers(0, 5 * PAGE))
offsets = st.one_of(
    st.integers(0, 1 << 30).map(lambda n: n * PAGE),
    st.integers(0, 1 << 40).map(lambda n: n * 512),
    st.integers(0, (1 << 64) - 1),
)
writes = st.builds(
    lambda offset, length, extended: write(offset, DATA[:length], extended=extended),
    offsets,
    lengths,
    st.booleans(),
)
others = st.builds(
    lambda kind, offset, length, extended: request(kind, offset, length, extended=extended),
    st.sampled_from([k for k in range(8) if k not in (WRITE, DISCONNECT)]),
    offsets,
    st.integers(0, (1 << 32) - 1),
    st.booleans(),
)
options = st.builds(option, st.sampled_from([LIST, EXTENDED_HEADERS, GO]), st.binary(max_size=40))
streams = st.builds(
    lambda first, asked: FLAGS + b"".join(first) + option(GO, b"export") + b"".join(asked),
    st.lists(options, max_size=3),
    st.lists(st.one_of(writes, others), max_size=8),
)


@st.composite
def cuts(draw: st.DrawFn, stream: bytes) -> list[int]:
    """Draw where a stream is cut: anywhere, or in pieces of one length."""
    if draw(st.booleans()):
        step = draw(st.integers(1, 9000))
        return list(range(step, len(stream), step))
    return sorted(draw(st.sets(st.integers(0, len(stream)), max_size=12)))


def pieces(stream: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *places, len(stream)]
    return [stream[a:b] for a, b in pairwise(edges)]


class Feed:
    """Collects what a splitter gives out."""

    def __init__(self) -> None:
        self.splitter = NbdSplitter()
        self.out = bytearray()
        self.pages: list[int] = []

    def take(self, piece: bytes) -> None:
        split = self.splitter.split(piece)
        found = split.pages.tolist()
        assert all(0 <= page <= len(split.raw) - PAGE for page in found)
        self.pages += [len(self.out) + page for page in found]
        self.out += split.raw
        assert self.splitter.held_bytes < PAGE

    def flush(self) -> None:
        split = self.splitter.flush()
        assert not len(split.pages)
        self.out += split.raw
        assert self.splitter.held_bytes == 0

    def check(self, stream: bytes) -> None:
        assert bytes(self.out) == stream
        assert all(b - a >= PAGE for a, b in pairwise(self.pages))
        assert self.splitter.understanding.pages == len(self.pages)


@settings(max_examples=examples(150))
@given(data=st.data(), stream=streams)
def test_cut_anyhow_a_sound_stream_has_the_pages_of_the_slow_reading(
    data: st.DataObject, stream: bytes
) -> None:
    feed = Feed()
    for piece in pieces(stream, data.draw(cuts(stream))):
        feed.take(piece)
    assert feed.splitter.held_bytes == 0
    feed.check(stream)
    assert feed.pages == read_slowly(stream).places
    assert feed.splitter.understanding.opaque_from is None


@settings(max_examples=examples(150))
@given(data=st.data(), stream=streams)
def test_flushed_anyhow_a_sound_stream_is_understood_to_its_end(
    data: st.DataObject, stream: bytes
) -> None:
    """A flush costs the page that it cuts and no other."""
    feed, cut = Feed(), set[int]()
    for piece in pieces(stream, data.draw(cuts(stream))):
        feed.take(piece)
        if data.draw(st.booleans()):
            if feed.splitter.held_bytes:
                cut.add(len(feed.out))
            feed.flush()
    feed.flush()
    feed.check(stream)
    assert feed.splitter.understanding.opaque_from is None
    places = read_slowly(stream).places
    assert set(places) - set(feed.pages) == set(places) & cut
    assert set(feed.pages) <= set(places)


@settings(max_examples=examples(300))
@given(data=st.data(), stream=streams)
def test_a_damaged_stream_comes_out_as_it_went_in(data: st.DataObject, stream: bytes) -> None:
    damaged = bytearray(stream)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(damaged) - 1))
        match data.draw(st.sampled_from(["change", "remove", "insert"])):
            case "change":
                damaged[place] = data.draw(st.integers(0, 255))
            case "remove":
                del damaged[place : place + data.draw(st.integers(1, 40))]
            case _:
                damaged[place:place] = data.draw(st.binary(max_size=40))
        if not damaged:
            return
    feed, sound = Feed(), bytes(damaged)
    for piece in pieces(sound, data.draw(cuts(sound))):
        feed.take(piece)
        if data.draw(st.booleans()):
            feed.flush()
    feed.flush()
    feed.check(sound)


@settings(max_examples=examples(100))
@given(stream=st.binary(max_size=300))
def test_any_bytes_at_all_come_out_as_they_went_in(stream: bytes) -> None:
    feed = Feed()
    for i in range(len(stream)):
        feed.take(stream[i : i + 1])
    feed.flush()
    feed.check(stream)
