"""What a source makes of the images that a peer says it has."""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
from math import inf
from pathlib import Path

import pytest

from transhume.execute.migration.content.catalogue import name_of
from transhume.execute.migration.content.references import Space, reference
from transhume.execute.migration.gateway import agreement
from transhume.execute.migration.gateway.agreement import Agreement
from transhume.execute.migration.gateway.domain import StoreLimits
from transhume.execute.migration.gateway.domains import Desk, Domains
from transhume.execute.migration.gateway.messages import Kind, Message, ProtocolError

NUMBER = 7


def digests(*blocks: str) -> list[bytes]:
    return [sha256(block.encode()).digest() for block in blocks]


class Peer:
    """Has nothing of what was sent, and lists images, and VMs' pages, so many at once."""

    def __init__(
        self,
        *images: Sequence[bytes],
        names: Mapping[int, bytes] | None = None,
        residents: Sequence[bytes] = (),
        at_once: int = 100,
    ) -> None:
        self.images, self.names, self.residents = images, names or {}, residents
        self.at_once = at_once
        self.wanted: list[object] = []

    async def ask(self, kind: Kind, words: Mapping[str, object]) -> Message:
        if kind is Kind.WANT:
            index, start = words.get("catalogue"), words.get("from", words.get("residents"))
            assert isinstance(start, int)
            self.wanted.append(index)
            found = self.images[index] if isinstance(index, int) else self.residents
            some = found[start : start + self.at_once]
            return Message(Kind.DIGESTS, NUMBER, b"".join(some))
        listed = [
            {"name": self.names.get(index, name_of(image)).hex(), "blocks": len(image)}
            for index, image in enumerate(self.images)
        ]
        answer = json.dumps({"next": 0, "catalogues": listed, "residents": bool(self.residents)})
        return Message(Kind.KNOWN, NUMBER + (words["tenant"] != "t"), answer.encode())


@pytest.fixture
def domains(tmp_path: Path) -> Iterator[Domains]:
    found = Domains(StoreLimits(folder=tmp_path))
    yield found
    found.close()


async def known_of(domains: Domains, peer: Peer) -> Desk:
    return await learnt(domains, peer, "there")


async def learnt(domains: Domains, peer: Peer, at: str) -> Desk:
    desk, agreement = domains.desk(at, "t"), Agreement(domains, peer.ask)
    assert await agreement.open_domain(desk, "t") == NUMBER
    await agreement.learn(desk, NUMBER, inf)
    return desk


async def test_blocks_of_a_peers_images_are_known_and_asked_for_once(domains: Domains) -> None:
    peer = Peer(digests("a", "b"), digests("c"))
    await known_of(domains, peer)
    desk = await known_of(domains, peer)
    find = desk.domain.sender.index.find
    assert find(digests("b")[0]) == reference(Space.FIRST_CATALOGUE, 1)
    assert find(digests("c")[0]) == reference(Space.FIRST_CATALOGUE + 1, 0)
    assert peer.wanted == [0, 1]


async def test_an_image_that_no_peer_has_any_more_is_forgotten(domains: Domains) -> None:
    """Images that are built anew each night would fill a gateway's memory, little by little."""
    old, new = digests("a", "b"), digests("a", "c")
    await learnt(domains, Peer(old), "elsewhere")
    await known_of(domains, Peer(old))
    await known_of(domains, Peer(new))
    assert domains.digests(name_of(old).hex()) is not None, "the other peer has it"
    await learnt(domains, Peer(new), "elsewhere")
    assert domains.digests(name_of(old).hex()) is None
    assert domains.digests(name_of(new).hex()) is not None


async def test_a_list_that_isnt_what_its_name_says_is_refused_and_not_kept(
    domains: Domains,
) -> None:
    name = name_of(digests("a"))
    peer = Peer(digests("made up"), names={0: name})
    with pytest.raises(ProtocolError, match="other blocks than its name"):
        await known_of(domains, peer)
    assert domains.digests(name.hex()) is None


async def test_images_without_end_are_passed_over(
    domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "_MOST_BLOCKS", 3)
    peer = Peer(digests("a", "b"), digests("c", "d"), digests("e"))
    desk = await known_of(domains, peer)
    find = desk.domain.sender.index.find
    assert find(digests("c")[0]) is None
    assert find(digests("e")[0]) == reference(Space.FIRST_CATALOGUE + 2, 0)
    assert peer.wanted == [0, 2]


class Clock:
    """Goes on by one second each time it's asked."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        self.now += 1.0
        return self.now


async def test_a_migration_waits_for_long_lists_for_a_time_and_the_next_learns_the_rest(
    domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(agreement, "time", clock)
    image, residents = digests("a", "b", "c", "d", "e"), digests("f", "g", "h")
    peer = Peer(image, digests("i"), residents=residents, at_once=2)
    desk, agreed = domains.desk("there", "t"), Agreement(domains, peer.ask)
    await agreed.open_domain(desk, "t")
    known = []
    while len(known) < 4:
        await agreed.learn(desk, NUMBER, clock.now + 3)
        known.append(
            [name for name in "abcdefghi" if desk.domain.sender.index.find(*digests(name))]
        )

    assert ["".join(each) for each in known] == ["abcd", "abcdei", "abcdefghi", "abcdefghi"]
    assert domains.digests(name_of(image).hex()) == image
    assert peer.wanted == [0, 0, 0, 1, None, None, None]


async def test_an_image_that_was_learnt_meanwhile_for_another_tenant_isnt_asked_for_any_more(
    domains: Domains,
) -> None:
    peer = Peer(digests("a", "b", "c"), at_once=2)
    desk, agreed = domains.desk("there", "t"), Agreement(domains, peer.ask)
    await agreed.open_domain(desk, "t")
    await agreed.learn(desk, NUMBER, 0.0)
    await learnt(domains, peer, "elsewhere")
    peer.wanted.clear()
    await agreed.learn(desk, NUMBER, inf)

    assert not peer.wanted
    assert desk.domain.sender.index.find(*digests("c")) == reference(Space.FIRST_CATALOGUE, 2)


async def test_what_was_fetched_of_a_list_serves_all_tenants_and_is_counted_once(
    domains: Domains, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock()
    monkeypatch.setattr(agreement, "time", clock)
    monkeypatch.setattr(agreement, "_MOST_BLOCKS", 5)
    image = digests("a", "b", "c", "d", "e")
    peer = Peer(image, at_once=2)
    agreed, numbers = Agreement(domains, peer.ask), {"t": NUMBER, "u": NUMBER + 1}
    desks = {tenant: domains.desk("there", tenant) for tenant in numbers}
    for tenant, number in numbers.items():
        assert await agreed.open_domain(desks[tenant], tenant) == number
        await agreed.learn(desks[tenant], number, clock.now + 2)
    for tenant, number in numbers.items():
        await agreed.learn(desks[tenant], number, inf)

    assert peer.wanted == [0, 0, 0]
    for desk in desks.values():
        found = [desk.domain.sender.index.find(each) for each in image]
        assert found == [reference(Space.FIRST_CATALOGUE, index) for index in range(5)]
