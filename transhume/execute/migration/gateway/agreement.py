"""What a sender says before it sends: what the peer should have of a tenant's pages, and which images it has.

Owns the order of offers and answers on a new link. What follows from them is the domain's affair.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping

import structlog

from transhume.execute.migration.content.catalogue import name_of
from transhume.execute.migration.content.digests import DIGEST_BYTES
from transhume.execute.migration.gateway.domains import Desk, Domains
from transhume.execute.migration.gateway.messages import Kind, Message, ProtocolError

Ask = Callable[[Kind, Mapping[str, object]], Awaitable[Message]]
"""Asks the peer, and returns its answer; that has the number of the question."""

_MOST_OFFERS = 2
"""The second is of an empty log, which anybody has."""
_MOST_BLOCKS = 1 << 22
"""Of all of a peer's images and VMs: 16 GiB, whose digests take some hundreds of MB here."""

log = structlog.get_logger()


class Agreement:
    """Opens domains on one link.

    Args:
        domains: this gateway's.
        ask: asks the peer.
    """

    def __init__(self, domains: Domains, ask: Ask) -> None:
        self._domains = domains
        self._ask = ask
        self._blocks = 0
        """In the lists that were fetched over this link."""
        self._residents: dict[int, int] = {}
        """How many pages of VMs there are known, by domains that have any."""

    async def open_domain(self, desk: Desk, tenant: str) -> int:
        """Agree on a tenant's pages, and return the number that the domain has on this link.

        Raises:
            ProtocolError: the peer makes no sense.
            LinkLost: the link is no more.
        """
        loop = asyncio.get_running_loop()
        for _ in range(_MOST_OFFERS):
            known = await self._ask(Kind.DOMAIN, {"tenant": tenant, **desk.domain.offer()})
            answer = known.words
            if await loop.run_in_executor(desk.coder, desk.domain.agree, answer):
                break
        else:
            raise ProtocolError("the peer has pages that were never sent")
        catalogues = [_named(listed) for listed in answer.get("catalogues", [])]
        self._domains.listed(desk.domain.peer, tenant, [name for name, _ in catalogues])
        for index, (name, blocks) in enumerate(catalogues):
            await self._learn_catalogue(desk, known.number, index, name, blocks)
        if answer.get("residents"):
            self._residents[known.number] = 0
        return known.number

    async def learn_residents(self, desk: Desk, domain: int) -> None:
        """Learn what has been found since the last time in the memory of VMs at the peer.

        Raises:
            ProtocolError: the peer makes no sense.
            LinkLost: the link is no more.
        """
        loop = asyncio.get_running_loop()
        while domain in self._residents and self._blocks < _MOST_BLOCKS:
            start = self._residents[domain]
            digests = await self._ask_for_digests({"domain": domain, "residents": start})
            if not digests:
                return
            self._blocks += len(digests)
            self._residents[domain] += len(digests)
            await loop.run_in_executor(desk.coder, desk.domain.know_residents, start, digests)

    async def _learn_catalogue(
        self, desk: Desk, domain: int, index: int, name: str, blocks: int
    ) -> None:
        digests = self._domains.digests(name)
        if digests is None:
            if self._blocks + blocks > _MOST_BLOCKS:
                log.warning("catalogue_too_large", blocks=blocks, most_blocks=_MOST_BLOCKS)
                return
            self._blocks += blocks
            digests = await self._fetch_digests(domain, index, blocks)
            if name_of(digests).hex() != name:
                raise ProtocolError("a catalogue that lists other blocks than its name says")
            self._domains.learn(name, digests)
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(desk.coder, desk.domain.know_catalogue, index, digests)

    async def _fetch_digests(self, domain: int, index: int, blocks: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < blocks:
            words = {"domain": domain, "catalogue": index, "from": len(found)}
            more = await self._ask_for_digests(words)
            if not more:
                raise ProtocolError("a list of blocks that ends early")
            found += more
        return found[:blocks]

    async def _ask_for_digests(self, words: Mapping[str, object]) -> list[bytes]:
        content = (await self._ask(Kind.WANT, words)).content
        if len(content) % DIGEST_BYTES:
            raise ProtocolError("a list of blocks that is none")
        return [content[at : at + DIGEST_BYTES] for at in range(0, len(content), DIGEST_BYTES)]


def _named(listed: object) -> tuple[str, int]:
    """Return the name and the number of blocks of a catalogue that a peer lists."""
    match listed:
        case {"name": str(name), "blocks": int(blocks)} if blocks >= 0:
            return name, blocks
    raise ProtocolError("a catalogue without name or size")
