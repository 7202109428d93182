"""Words told as steps come out the same whatever they are, and cost next to nothing where they count up."""

import random
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.execute.migration.coding.pairs import page, pair
from transhume.execute.migration.coding.frame import deflate
from transhume.execute.migration.coding.prepared import Stream
from transhume.execute.migration.coding.receiver import Arriving
from transhume.execute.migration.coding.steps import from_steps, to_steps
from transhume.execute.migration.splitting import PAGE_BYTES, Split

PAGE, ZERO, CONTINUE = 0x08, 0x02, 0x20
NO_PAGES = np.empty(0, np.int64)


@given(
    st.lists(st.one_of(st.sampled_from([0, 8, 9, 17, 18, 26]), st.integers(0, 60)), min_size=1),
    st.data(),
)
def test_any_skeleton_comes_back(gaps: list[int], data: st.DataObject) -> None:
    size = sum(gaps)
    skeleton = data.draw(st.binary(min_size=size, max_size=size))
    between = np.array(gaps, np.int64)
    assert from_steps(bytes(to_steps(skeleton, between)), between) == skeleton


@given(st.binary(min_size=1, max_size=60))
def test_whatever_a_peer_tells_makes_as_many_bytes(told: bytes) -> None:
    assert len(from_steps(told, np.array([len(told) - 1]))) == len(told) - 1


def test_words_that_count_up_are_told_as_what_they_count_by() -> None:
    words = struct.pack(">4Q", 0x1008, 0x2008, 0x3008, 0x5008)
    told = to_steps(words, np.array([8, 8, 8, 8, 0]))
    assert struct.unpack(">4QB", told) == (0x1008, 0x1000, 0x1000, 0x2000, 0)


def test_a_word_without_a_page_has_a_byte_after_it() -> None:
    records = zero_pages(0x1, 3)
    told = to_steps(records + struct.pack(">Q", 0x4028), np.array([35, 0]))
    assert told == b"".join(struct.pack(">QB", step, 0) for step in (0x1022, 0x1000, 0x1000)) + (
        struct.pack(">QB", 0x1006, 0)
    )


@pytest.mark.parametrize("cut", range(9))
def test_zero_pages_of_a_guest_cost_less_than_half_a_bit_each(tmp_path: Path, cut: int) -> None:
    both = pair(tmp_path)
    raw = zero_pages(0, 200_000)[cut : cut - 9]
    arrived, transfer = both.send(Stream(owner=1), Arriving(), Split(raw, NO_PAGES))
    assert arrived == raw
    assert transfer.other_wire_bytes < 200_000 / 16


def test_zero_pages_before_a_page_cost_next_to_nothing_wherever_the_piece_was_cut(
    tmp_path: Path,
) -> None:
    both = pair(tmp_path)
    headers = zero_pages(0, 5000)[5:] + struct.pack(">Q", 5000 << 12 | PAGE | CONTINUE)
    split = Split(headers + page(1), np.array([len(headers)]))
    arrived, transfer = both.send(Stream(owner=1), Arriving(), split)
    assert arrived == split.raw
    assert transfer.other_wire_bytes < 5000 / 16


@pytest.mark.parametrize("size", [(2 << 20) - 1, 2 << 20, (2 << 20) + 1])
def test_what_has_no_records_is_compressed_as_it_is(size: int) -> None:
    words = [word.encode() for word in ("memory", "page", "guest", "device", "section", "stream")]
    text = b" ".join(random.Random(1).choices(words, k=size // 4))[:size]
    told = to_steps(text, np.array([size]))
    assert told[:-1] == text
    assert len(deflate(told)) < 1.01 * len(deflate(text))


def test_known_pages_in_order_cost_less_than_two_bytes_each(tmp_path: Path) -> None:
    both = pair(tmp_path)
    stream, arriving = Stream(owner=1), Arriving()
    pages = [page(seed) for seed in range(80)]
    both.send(stream, arriving, _as_sent(pages, first=5))
    arrived, transfer = both.send(stream, arriving, _as_sent(pages, first=100_000))
    assert arrived == _as_sent(pages, first=100_000).raw
    assert (transfer.new_pages, transfer.own_pages) == (0, 80)
    assert transfer.wire_bytes < 2 * len(pages)


def zero_pages(first: int, count: int) -> bytes:
    """Tell of zero pages as a hypervisor does."""
    return b"".join(
        struct.pack(">QB", at << 12 | ZERO | CONTINUE, 0) for at in range(first, first + count)
    )


def _as_sent(pages: list[bytes], *, first: int) -> Split:
    """Put pages into a stream as a hypervisor sends them."""
    headers = (
        struct.pack(">Q", at << 12 | PAGE | CONTINUE) for at in range(first, first + len(pages))
    )
    raw = b"".join(header + page for header, page in zip(headers, pages, strict=True))
    return Split(raw, np.arange(len(pages), dtype=np.int64) * (8 + PAGE_BYTES) + 8)
