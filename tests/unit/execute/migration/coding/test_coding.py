import errno
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from tests.unit.execute.migration.coding.pairs import page, pair, parts_of, split_of
from transhume.execute.migration.coding.frame import BadFrame
from transhume.execute.migration.coding.prepared import Stream, prepare
from transhume.execute.migration.coding.receiver import Arriving
from transhume.execute.migration.content import page_log
from transhume.execute.migration.content.catalogue import index_image
from transhume.execute.migration.content.references import Space
from transhume.execute.migration.content.vault import Vault
from transhume.execute.migration.splitting import PAGE_BYTES, Split


@pytest.mark.parametrize("level", [1, 9, None], ids=["compressed", "harder", "raw"])
def test_what_arrives_is_what_was_sent(tmp_path: Path, level: int | None) -> None:
    both, stream, arriving = pair(tmp_path), Stream(owner=1), Arriving()
    for split in (
        split_of([page(1), page(2), page(1)]),
        Split(b"only a few words"),
        split_of([page(2), page(3)], gap=b""),
        Split(b"x" * 100 + page(3) + b"y" * 5000, np.array([100], np.int64)),
    ):
        assert both.send(stream, arriving, split, level=level)[0] == bytes(split.raw)


def test_levels_may_change_from_piece_to_piece(tmp_path: Path) -> None:
    both, stream, arriving = pair(tmp_path), Stream(owner=1), Arriving()
    for number, level in enumerate((1, 19, 19, None, 9, 1, None, 1)):
        split = split_of([page(number), page(100 + number)])
        assert both.send(stream, arriving, split, level=level)[0] == split.raw


def test_each_page_is_sent_once_and_told_apart_by_why(tmp_path: Path) -> None:
    both = pair(tmp_path)
    one, there = Stream(owner=1), Arriving()
    _, first = both.send(one, there, split_of([page(1), page(2), page(1)]))
    assert (first.new_pages, first.own_pages, first.cluster_pages) == (2, 1, 0)
    other, there = Stream(owner=2), Arriving()
    _, second = both.send(other, there, split_of([page(1), page(2), page(3), page(3)]))
    assert (second.new_pages, second.own_pages, second.cluster_pages) == (1, 1, 2)
    assert second.wire_bytes < 2 * PAGE_BYTES


def test_pages_that_found_no_room_are_new_again_and_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk that older pages go to is full for a while."""
    both, stream, arriving = pair(tmp_path), Stream(owner=1), Arriving()
    kept, lost = [page(n) for n in range(1500)], [page(2000 + n) for n in range(1500)]
    both.send(stream, arriving, split_of(kept))
    with monkeypatch.context() as patch:
        patch.setattr(Vault, "put", _full)
        patch.setattr(page_log, "_SEGMENTS_WITHOUT_A_PLACE", 0)
        with pytest.raises(OSError, match="No space"):
            both.sender.encode(prepare(Stream(owner=2), split_of(lost)))

    for again, new_pages in ((split_of(lost), len(lost)), (split_of(kept), 0)):
        raw, transfer = both.send(stream, arriving, again)
        assert raw == again.raw
        assert transfer.new_pages == new_pages
    for each in (both.sender.log, both.receiver.log):
        each.close()


def _full(*_segment: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_page_that_was_changed_a_little_costs_little(tmp_path: Path) -> None:
    both, stream, arriving = pair(tmp_path), Stream(owner=1), Arriving()
    both.send(stream, arriving, split_of([page(n) for n in range(100)]))
    changed = [page(n)[:2000] + b"changed!" + page(n)[2008:] for n in range(100)]
    _, transfer = both.send(stream, arriving, split_of(changed))
    assert transfer.new_pages == 100
    assert transfer.new_wire_bytes < 0.2 * 100 * PAGE_BYTES


def test_blocks_of_an_image_at_the_destination_are_not_sent(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(b"".join(page(n) for n in range(5)))
    catalogue = index_image(image)
    both = pair(tmp_path)
    both.receiver.add_space(Space.FIRST_CATALOGUE, catalogue.read)
    both.sender.index.add_elsewhere(Space.FIRST_CATALOGUE, catalogue.digests)
    split = split_of([page(4), page(9), page(0)])
    arrived, transfer = both.send(Stream(owner=1), Arriving(), split)
    assert arrived == split.raw
    assert (transfer.site_pages, transfer.new_pages) == (2, 1)


def test_an_image_that_was_changed_is_never_taken_for_what_it_was(tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(page(1))
    catalogue = index_image(image)
    both = pair(tmp_path)
    both.receiver.add_space(Space.FIRST_CATALOGUE, catalogue.read)
    both.sender.index.add_elsewhere(Space.FIRST_CATALOGUE, catalogue.digests)
    image.write_bytes(page(2))
    with pytest.raises(BadFrame, match="changed"):
        both.send(Stream(owner=1), Arriving(), split_of([page(1)]))


def test_what_comes_back_refers_to_what_was_sent_before(tmp_path: Path) -> None:
    out, back = pair(tmp_path), pair(tmp_path)
    out.send(Stream(owner=1), Arriving(), split_of([page(1), page(2)]))
    back.receiver.add_space(Space.REVERSE, out.sender.log.read)
    back.sender.index.add_elsewhere(
        Space.REVERSE,
        prepare(Stream(owner=1), split_of([page(1), page(2)])).digests,
    )
    split = split_of([page(2), page(1)])
    arrived, transfer = back.send(Stream(owner=1), Arriving(), split)
    assert arrived == split.raw
    assert (transfer.site_pages, transfer.new_pages) == (2, 0)


def test_a_log_over_its_limit_forgets_its_oldest_pages(tmp_path: Path) -> None:
    limit = 300 * PAGE_BYTES
    both, stream, arriving = pair(tmp_path, limit_bytes=limit), Stream(owner=1), Arriving()
    sent = []
    for start in range(0, 2000, 50):
        sent += [page(n) for n in range(start, start + 50)]
        arrived, _ = both.send(stream, arriving, split_of(sent[-50:] + sent[-200:-150]))
        assert arrived == split_of(sent[-50:] + sent[-200:-150]).raw
        forgotten = both.sender.surplus()
        if forgotten is not None:
            both.sender.forget_below(forgotten)
            both.receiver.log.forget_below(forgotten)
            both.sender.log.forget_below(forgotten)
        assert both.sender.log.kept_bytes <= limit
    assert both.sender.index.find(prepare(stream, split_of(sent[:1])).digests[0]) is None


@pytest.mark.parametrize("place", [0, 4, 8, 20, 30, 60, 100, -1])
def test_a_damaged_frame_never_gives_a_wrong_byte(tmp_path: Path, place: int) -> None:
    """A bit that nobody reads may change; whatever matters is found out."""
    both, stream, split = pair(tmp_path), Stream(owner=1), split_of([page(1), page(2)])
    pieces, _ = both.sender.encode(prepare(stream, split))
    damaged = bytearray(b"".join(pieces))
    damaged[place] ^= 0x10
    try:
        assert both.receiver.decode(Arriving(), bytes(damaged)) == split.raw
    except BadFrame:
        return
    assert place == 100, "only this bit is padding"


def test_a_frame_that_is_left_out_or_told_twice_is_found_out(tmp_path: Path) -> None:
    both, stream = pair(tmp_path), Stream(owner=1)
    frames = [
        b"".join(both.sender.encode(prepare(stream, split_of([page(n)])), level=None)[0])
        for n in range(3)
    ]
    arriving = Arriving()
    both.receiver.decode(arriving, frames[0])
    with pytest.raises(BadFrame):
        both.receiver.decode(arriving, frames[2])
    with pytest.raises(BadFrame):
        both.receiver.decode(arriving, frames[0])


@pytest.mark.parametrize("kept", [0, 10, 40, 57, 58, 59, 200])
def test_a_frame_that_is_cut_short_is_found_out(tmp_path: Path, kept: int) -> None:
    both, stream = pair(tmp_path), Stream(owner=1)
    pieces, _ = both.sender.encode(prepare(stream, split_of([page(1), page(1)])))
    with pytest.raises(BadFrame):
        both.receiver.decode(Arriving(), b"".join(pieces)[:kept])


def test_a_piece_of_nothing_isnt_sent_and_changes_nothing(tmp_path: Path) -> None:
    """A splitter that holds a part of a page has nothing to give out when only a few bytes more come."""
    both, stream, arriving = pair(tmp_path), Stream(owner=1), Arriving()
    both.send(stream, arriving, split_of([page(1)]))

    prepare(stream, Split(b""))

    split = split_of([page(2)])
    assert both.send(stream, arriving, split)[0] == bytes(split.raw)


@pytest.mark.parametrize(
    ("known", "cuts"),
    [
        (range(12), [12 * PAGE_BYTES]),
        ((), [4 * PAGE_BYTES] * 3),
        ((0, 1, 2, 3, 10), [8 * PAGE_BYTES, 4 * PAGE_BYTES]),
        (range(7), [12 * PAGE_BYTES]),
    ],
    ids=["known", "new", "known here and there", "hardly more than may be"],
)
def test_a_piece_is_encoded_as_far_as_it_is_known_and_a_little_more(
    tmp_path: Path, known: Sequence[int], cuts: list[int]
) -> None:
    both = pair(tmp_path)
    both.send(Stream(owner=1), Arriving(), split_of([page(number) for number in known]))
    stream, arriving = Stream(owner=2), Arriving()
    whole = split_of([page(number) for number in range(12)], gap=b"")

    parts = list(parts_of(both, prepare(stream, whole), 4 * PAGE_BYTES))

    assert [len(part.split.raw) for part in parts] == cuts
    frames = [b"".join(both.sender.encode(part)[0]) for part in parts]
    assert b"".join(both.receiver.decode(arriving, frame) for frame in frames) == whole.raw


@pytest.mark.parametrize("before", [0, 20_000])
def test_what_is_no_page_is_cut_anywhere_but_in_pages(tmp_path: Path, before: int) -> None:
    both, limit = pair(tmp_path), 2 * PAGE_BYTES
    raw = b"a" * before + page(1) + b"b" * 20_000
    whole = Split(raw, np.array([before], np.int64))

    parts = list(parts_of(both, prepare(Stream(owner=1), whole), limit))

    assert b"".join(bytes(part.split.raw) for part in parts) == raw
    assert all(len(part.split.raw) <= limit * 5 // 4 for part in parts)
    assert sum(len(part.split.pages) for part in parts) == 1
    (with_page,) = (part for part in parts if len(part.split.pages))
    at = int(with_page.split.pages[0])
    assert bytes(with_page.split.raw[at : at + PAGE_BYTES]) == page(1)
