"""What a sender says before it sends: what the peer should have of a tenant's pages, and which images it has.

Owns the order of offers and answers on a new link. What follows from them is the domain's affair.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(slots=True)
class _Catalogue:
    """One of the peer's that a domain is learning."""

    number: int
    name: str
    blocks: int
    known: int = 0
    """How many of its blocks the domain knows."""


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
        """In the lists that are fetched over this link."""
        self._fetched: dict[str, list[bytes]] = {}
        """What has come of those that aren't whole yet, by their names."""
        self._unlearnt: dict[int, list[_Catalogue]] = {}
        """Catalogues of which more is to be fetched, by domains."""
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
        catalogues = [
            _listed(number, each) for number, each in enumerate(answer.get("catalogues", []))
        ]
        self._domains.listed(desk.domain.peer, tenant, [each.name for each in catalogues])
        self._unlearnt[known.number] = [each for each in catalogues if self._has_room_for(each)]
        if answer.get("residents"):
            self._residents[known.number] = 0
        return known.number

    async def learn(self, desk: Desk, domain: int, until: float) -> None:
        """Learn what images at the peer hold, and what was found since the last time in the memory of its VMs.

        Args:
            desk: the domain's.
            domain: its number.
            until: what isn't learnt by then (monotonic) is left to the next time.

        Raises:
            ProtocolError: the peer makes no sense.
            LinkLost: the link is no more.
        """
        unlearnt = self._unlearnt[domain]
        while unlearnt and await self._learn_some(desk, domain, unlearnt[0], until):
            del unlearnt[0]
        while not unlearnt and time.monotonic() < until:
            if not await self._learn_residents(desk, domain):
                return

    async def _learn_some(
        self, desk: Desk, domain: int, catalogue: _Catalogue, until: float
    ) -> bool:
        """Learn more of a catalogue; say whether that was the last."""
        name, start = catalogue.name, catalogue.known
        digests = self._domains.digests(name)
        if digests is None:
            digests = await self._fetch_some(domain, catalogue, until)
            if len(digests) >= catalogue.blocks:
                if name_of(digests).hex() != name:
                    raise ProtocolError("a catalogue that lists other blocks than its name says")
                self._domains.learn(name, digests)
        loop = asyncio.get_running_loop()
        know = desk.domain.know_catalogue
        await loop.run_in_executor(desk.coder, know, catalogue.number, digests[start:], start)
        catalogue.known = len(digests)
        if self._domains.digests(name) is None:
            return False
        self._fetched.pop(name, None)
        return True

    async def _fetch_some(
        self, domain: int, catalogue: _Catalogue, until: float
    ) -> Sequence[bytes]:
        """Return what has come of a list by now, whichever domain it was asked for."""
        fetched = self._fetched.setdefault(catalogue.name, [])
        while (start := len(fetched)) < catalogue.blocks and time.monotonic() < until:
            words = {"domain": domain, "catalogue": catalogue.number, "from": start}
            more = await self._ask_for_digests(words)
            if not more:
                raise ProtocolError("a list of blocks that ends early")
            fetched += more[: catalogue.blocks - start]
        return fetched

    async def _learn_residents(self, desk: Desk, domain: int) -> bool:
        """Learn some more of what VMs at the peer have; say whether there was any."""
        if domain not in self._residents or self._blocks >= _MOST_BLOCKS:
            return False
        start = self._residents[domain]
        digests = await self._ask_for_digests({"domain": domain, "residents": start})
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(desk.coder, desk.domain.know_residents, start, digests)
        self._blocks += len(digests)
        self._residents[domain] += len(digests)
        return bool(digests)

    def _has_room_for(self, catalogue: _Catalogue) -> bool:
        name = catalogue.name
        if name in self._fetched or self._domains.digests(name) is not None:
            return True
        if self._blocks + catalogue.blocks > _MOST_BLOCKS:
            log.warning("catalogue_too_large", blocks=catalogue.blocks, most_blocks=_MOST_BLOCKS)
            return False
        self._blocks += catalogue.blocks
        self._fetched[name] = []
        return True

    async def _ask_for_digests(self, words: Mapping[str, object]) -> list[bytes]:
        content = (await self._ask(Kind.WANT, words)).content
        if len(content) % DIGEST_BYTES:
            raise ProtocolError("a list of blocks that is none")
        return [content[at : at + DIGEST_BYTES] for at in range(0, len(content), DIGEST_BYTES)]


def _listed(number: int, listed: object) -> _Catalogue:
    """Return a catalogue that a peer lists, of which nothing is known yet."""
    match listed:
        case {"name": str(name), "blocks": int(blocks)} if blocks >= 0:
            return _Catalogue(number, name, blocks)
    raise ProtocolError("a catalogue without name or size")
