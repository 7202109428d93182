"""A site that has less room than before: what it forgets is forgotten at both ends, and nothing is missing."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.execute.migration.coding.pairs import page, split_of
from transhume.execute.migration.coding.prepared import Stream, prepare
from transhume.execute.migration.coding.receiver import Arriving
from transhume.execute.migration.content import page_log
from transhume.execute.migration.gateway.domain import Domain, StoreLimits

MIB = 1 << 20
PAGES = [page(number) for number in range(3000)]


@pytest.fixture
def ends(tmp_path: Path) -> Iterator[tuple[Domain, Domain]]:
    """Have a tenant's domain as two sites see it, with links in both directions."""
    limits = StoreLimits(folder=tmp_path, memory_bytes=8 * MIB, total_bytes=64 * MIB)
    a, b = (Domain(peer=peer, tenant="t", limits=limits) for peer in ("b", "a"))
    link(a, b)
    link(b, a)
    yield a, b
    for each in (a, b):
        each.close()


def link(source: Domain, destination: Domain) -> None:
    """Make a new link from one to the other, as gateways do."""
    answer = destination.answer(source.offer())
    destination.drop_stale()
    assert source.agree(answer)
    source.let_go(answer["first"])
    while source.look_back():
        pass


def send(source: Domain, destination: Domain, pages: list[bytes]) -> int:
    """Send pages, and see them arrive; return how many were new."""
    new, stream, arriving = 0, Stream(owner=1), Arriving()
    for at in range(0, len(pages), 500):
        split = split_of(pages[at : at + 500])
        source.forget_surplus()
        pieces, transfer = source.sender.encode(prepare(stream, split))
        assert destination.receiver is not None
        assert destination.receiver.decode(arriving, b"".join(pieces)) == split.raw
        new += transfer.new_pages
    return new


def test_pages_stay_where_they_were_sent_from_until_the_peer_has_followed(
    ends: tuple[Domain, Domain],
) -> None:
    a, b = ends
    send(a, b, PAGES)
    while b.look_back():
        pass
    a.have_kept(1 * MIB)
    a.forget_surplus()
    assert a.news_of_forgotten() is not None

    assert send(b, a, PAGES) == 0, "it hasn't heard of that yet"


def test_what_is_to_be_forgotten_is_told_once(ends: tuple[Domain, Domain]) -> None:
    a, b = ends
    send(a, b, PAGES)
    assert a.news_of_forgotten() is None
    a.have_kept(8 * MIB)
    a.forget_surplus()
    first = a.news_of_forgotten()
    assert first == a.sender.index.first > 0
    assert a.news_of_forgotten() is None


def test_what_a_lost_link_left_untold_is_told_by_the_next(ends: tuple[Domain, Domain]) -> None:
    a, b = ends
    send(a, b, PAGES)
    while b.look_back():
        pass
    a.have_kept(4 * MIB)
    a.forget_surplus()
    first = a.news_of_forgotten()  # and the link is lost with it

    link(a, b)
    assert a.sender.log.first == first, "b has followed"
    assert b.receiver is not None
    assert b.receiver.log.first == first
    link(b, a)
    assert send(b, a, PAGES) == first
    assert send(a, b, PAGES[-500:]) == 0


def test_a_peer_is_told_when_there_is_less_room_and_when_there_is_more(
    ends: tuple[Domain, Domain], monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = ends
    send(a, b, PAGES)
    assert b.news_of_room() is None
    with monkeypatch.context() as patch:
        patch.setattr(page_log, "spare_bytes", lambda _: 2 * MIB)
        told = b.news_of_room()
        assert told is not None
        assert told < 64 * MIB
        assert b.news_of_room() is None, "once"
        a.have_kept(told)
        assert a.sender.limit_bytes == told
    assert b.news_of_room() == 64 * MIB


def test_a_disk_that_doesnt_say_what_it_has_is_taken_for_full(
    ends: tuple[Domain, Domain], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_folder: Path) -> int:
        raise OSError(5, "Input/output error")

    a, b = ends
    monkeypatch.setattr(page_log, "spare_bytes", fails)
    assert send(a, b, PAGES) == len(PAGES)
    assert a.sender.log.room_bytes == 8 * MIB + a.sender.log.disk_bytes


def test_a_disk_that_nothing_can_be_written_to_has_no_room(
    ends: tuple[Domain, Domain], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is mounted to be read only, say, as disks with faults are: it has free blocks all the same."""

    def is_read_only(path: Path, mode: int) -> bool:
        return not mode & os.W_OK

    monkeypatch.setattr(os, "access", is_read_only)
    a, _ = ends
    assert a.sender.log.room_bytes == 8 * MIB


def test_who_forgot_a_peers_pages_refers_to_none_of_them(ends: tuple[Domain, Domain]) -> None:
    """Though the peer offers the log of before again, by its name."""
    a, b = ends
    send(a, b, PAGES[:500])
    while b.look_back():
        pass
    assert send(b, a, PAGES[:500]) == 0
    b.forget_peer()
    answer = b.answer(a.offer())
    b.drop_stale()
    if not a.agree(answer):
        assert a.agree(b.answer(a.offer()))
    a.look_back()
    assert send(a, b, PAGES[500:1000]) == 500
    while b.look_back():
        pass
    assert send(b, a, PAGES[:500]) == 500
    assert send(b, a, PAGES[500:1000]) == 0
