"""Words told as steps come out the same whatever they are, and cost next to nothing where they count up."""

import struct
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.execute.migration.coding.pairs import page, pair
from transhume.execute.migration.coding.receiver import Arriving
from transhume.execute.migration.coding.sender import Stream
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
    assert from_steps(to_steps(skeleton, between), between) == skeleton


def test_words_that_count_up_are_told_as_what_they_count_by() -> None:
    words = struct.pack(">4Q", 0x1008, 0x2008, 0x3008, 0x5008)
    told = to_steps(words, np.array([8, 8, 8, 8, 0]))
    assert struct.unpack(">4Q", told) == (0x1008, 0x1000, 0x1000, 0x2000)


def test_a_word_without_a_page_has_a_byte_after_it() -> None:
    records = b"".join(struct.pack(">QB", at, 0) for at in (0x1022, 0x2022, 0x3022))
    told = to_steps(records + struct.pack(">Q", 0x4028), np.array([35, 0]))
    assert told == b"".join(struct.pack(">QB", step, 0) for step in (0x1022, 0x1000, 0x1000)) + (
        struct.pack(">Q", 0x1006)
    )


def test_zero_pages_of_a_guest_cost_less_than_a_bit_each(tmp_path: Path) -> None:
    both = pair(tmp_path)
    raw = b"".join(struct.pack(">QB", at << 12 | ZERO | CONTINUE, 0) for at in range(200_000))
    arrived, transfer = both.send(Stream(owner=1), Arriving(), Split(raw, NO_PAGES))
    assert arrived == raw
    assert transfer.other_wire_bytes < 200_000 / 8


def test_known_pages_in_order_cost_less_than_two_bytes_each(tmp_path: Path) -> None:
    both = pair(tmp_path)
    stream, arriving = Stream(owner=1), Arriving()
    pages = [page(seed) for seed in range(80)]
    both.send(stream, arriving, _as_sent(pages, first=5))
    arrived, transfer = both.send(stream, arriving, _as_sent(pages, first=100_000))
    assert arrived == _as_sent(pages, first=100_000).raw
    assert (transfer.new_pages, transfer.own_pages) == (0, 80)
    assert transfer.wire_bytes < 2 * len(pages)


def _as_sent(pages: list[bytes], *, first: int) -> Split:
    """Put pages into a stream as a hypervisor sends them."""
    headers = (
        struct.pack(">Q", at << 12 | PAGE | CONTINUE) for at in range(first, first + len(pages))
    )
    raw = b"".join(header + page for header, page in zip(headers, pages, strict=True))
    return Split(raw, np.arange(len(pages), dtype=np.int64) * (8 + PAGE_BYTES) + 8)
