"""What a source makes of the images that a peer says it has."""

import json
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256
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
    """Has nothing of what was sent, and lists images."""

    def __init__(self, *images: Sequence[bytes], names: Mapping[int, bytes] | None = None) -> None:
        self.images, self.names = images, names or {}
        self.wanted: list[int] = []

    async def ask(self, kind: Kind, words: Mapping[str, object]) -> Message:
        if kind is Kind.WANT:
            index = words["catalogue"]
            assert isinstance(index, int)
            self.wanted.append(index)
            return Message(Kind.DIGESTS, NUMBER, b"".join(self.images[index]))
        listed = [
            {"name": self.names.get(index, name_of(image)).hex(), "blocks": len(image)}
            for index, image in enumerate(self.images)
        ]
        answer = json.dumps({"next": 0, "catalogues": listed})
        return Message(Kind.KNOWN, NUMBER, answer.encode())


@pytest.fixture
def domains(tmp_path: Path) -> Iterator[Domains]:
    found = Domains(StoreLimits(folder=tmp_path))
    yield found
    found.close()


async def known_of(domains: Domains, peer: Peer) -> Desk:
    desk = domains.desk("there", "t")
    assert await Agreement(domains, peer.ask).open_domain(desk, "t") == NUMBER
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
    other = domains.desk("elsewhere", "t")
    await Agreement(domains, Peer(old).ask).open_domain(other, "t")
    await known_of(domains, Peer(old))
    await known_of(domains, Peer(new))
    assert domains.digests(name_of(old).hex()) is not None, "the other peer has it"
    await Agreement(domains, Peer(new).ask).open_domain(other, "t")
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
