"""What is sent through a domain arrives as it was; what a liar makes of a frame never gives other bytes."""

import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.effort import examples
from tests.unit.execute.migration.coding.pairs import page, pair, parts_of
from transhume.execute.migration.coding.frame import BadFrame
from transhume.execute.migration.coding.prepared import Stream, prepare
from transhume.execute.migration.coding.receiver import Arriving
from transhume.execute.migration.splitting import PAGE_BYTES, Split

PIECES = st.lists(st.one_of(st.integers(0, 30), st.binary(max_size=50)), max_size=12)
"""Numbers are pages."""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as made:
        yield Path(made)


def made_of(pieces: list[int | bytes]) -> Split:
    raw, offsets = b"", []
    for piece in pieces:
        if isinstance(piece, int):
            offsets.append(len(raw))
            raw += page(piece)
        else:
            raw += piece
    return Split(raw, np.array(offsets, np.int64))


@settings(max_examples=examples(60), deadline=None)
@given(
    data=st.lists(st.tuples(st.integers(0, 2), PIECES, st.sampled_from([1, 9, None])), max_size=12)
)
def test_several_streams_arrive_as_they_were(
    folder: Path, data: list[tuple[int, list[int | bytes], int | None]]
) -> None:
    both = pair(folder, limit_bytes=20 * PAGE_BYTES)
    streams = [(Stream(owner=n), Arriving()) for n in range(3)]
    for number, pieces, level in data:
        split = made_of(pieces)
        arrived, transfer = both.send(*streams[number], split, level=level)
        assert arrived == split.raw
        assert transfer.raw_bytes == len(split.raw)
        assert transfer.other_bytes == len(split.raw) - len(split.pages) * PAGE_BYTES
        pages = transfer.new_pages + transfer.own_pages + transfer.cluster_pages
        assert pages + transfer.site_pages == len(split.pages)
        if (forgotten := both.sender.surplus()) is not None:
            both.sender.forget_below(forgotten)
            both.receiver.log.forget_below(forgotten)
            both.sender.log.forget_below(forgotten)


@settings(max_examples=examples(60), deadline=None)
@given(pieces=PIECES, known=PIECES, most_unknown_bytes=st.integers(PAGE_BYTES, 6 * PAGE_BYTES))
def test_parts_of_a_piece_arrive_as_the_piece(
    folder: Path,
    pieces: list[int | bytes],
    known: list[int | bytes],
    most_unknown_bytes: int,
) -> None:
    both, split = pair(folder), made_of(pieces)
    both.send(Stream(owner=0), Arriving(), made_of(known))
    stream, arriving = Stream(owner=1), Arriving()
    arrived = b""
    for part in parts_of(both, prepare(stream, split), most_unknown_bytes):
        coded, transfer = both.sender.encode(part)
        assert transfer.new_pages * PAGE_BYTES + transfer.other_bytes <= most_unknown_bytes * 5 // 4
        arrived += both.receiver.decode(arriving, b"".join(coded))
    assert arrived == split.raw
    more = made_of([7, b"more"])
    assert both.send(stream, arriving, more)[0] == more.raw


@settings(max_examples=examples(150), deadline=None)
@given(
    pieces=PIECES,
    changes=st.lists(
        st.tuples(st.integers(0, 1 << 16), st.integers(0, 255)), min_size=1, max_size=4
    ),
    cut=st.integers(0, 40),
)
def test_a_changed_frame_gives_the_same_bytes_or_none(
    folder: Path, pieces: list[int | bytes], changes: list[tuple[int, int]], cut: int
) -> None:
    both, split = pair(folder), made_of(pieces)
    coded, _ = both.sender.encode(prepare(Stream(owner=0), split))
    frame = bytearray(b"".join(coded))
    for place, value in changes:
        frame[place % len(frame)] = value
    if cut > 30:
        del frame[len(frame) - cut :]
    with suppress(BadFrame):
        assert both.receiver.decode(Arriving(), bytes(frame)) == split.raw
