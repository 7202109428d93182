"""The overlay as the executor asks for it, where each site has an agent: told through the knowledge.

A VM's move is announced before it begins, so that the agent at its source can send its frames on at the very
moment at which it stops. What the executor says afterwards is that nothing else is believed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta

from transhume.deployment.model import OverlayNetwork
from transhume.errors import KnowledgeUnreachable, OverlayError
from transhume.execute.overlay.tracing import is_silent, late_sites
from transhume.knowledge.model import (
    Binding,
    BindingState,
    HandOver,
    MacAddress,
    SiteName,
    VmName,
)
from transhume.knowledge.register import Register

PATIENCE_SECONDS = 10.0
_LOOK_SECONDS = 0.1
_RETRY_SECONDS = 1.0
_HOLDS = timedelta(seconds=60)
"""How long an announcement holds without being renewed: whoever made it may have died."""


class ByAgents:
    """One virtual network, whose sites look after themselves.

    Args:
        network: it.
        register: where its agents look.
        clock: the time as they know it.
    """

    def __init__(
        self, network: OverlayNetwork, register: Register, clock: Callable[[], datetime]
    ) -> None:
        self._network = network
        self._sites = {SiteName(site.name) for site in network.sites}
        self._register = register
        self._clock = clock

    async def join(self) -> None:
        """Do nothing: each agent joins its site."""

    def obstacle(self, macs: Sequence[MacAddress], site: str) -> str | None:
        """Say whether a site lacks the network."""
        return self._network.obstacle_at(site) if macs else None

    async def bind(self, macs: Sequence[MacAddress], site: str) -> None:
        """Say that addresses are at a site; nothing changes where that is known."""
        if why := self.obstacle(macs, site):
            raise OverlayError(why)
        known = (await self._register.read()).bindings
        changed = (_at(known.get(mac), mac, SiteName(site), self._register.vni) for mac in macs)
        await self._register.put([binding for binding in changed if binding is not None])

    async def adopt(self, macs: Sequence[MacAddress], site: str) -> None:
        """Enter addresses that no site has told of; the sites know better than any inventory."""
        known = (await self._register.read()).bindings
        await self.bind([mac for mac in macs if mac not in known], site)

    async def check(self, macs: Sequence[MacAddress], site: str) -> tuple[str, ...]:
        """Wait for a while until the agents have followed; say which hasn't.

        While a site sends on what comes for these addresses, only it and the one that has them have to: the
        frames of others arrive by the longer way. One that says nothing any more isn't taken to do so; one that
        says anything meanwhile is there, whatever its clock says.
        """
        revision = (await self._register.read()).revision
        said = {name: told.at for name, told in (await self._register.statuses()).items()}
        deadline = time.monotonic() + PATIENCE_SECONDS
        while behind := await self._late(revision, frozenset(macs), SiteName(site), said):
            if time.monotonic() > deadline:
                return behind
            await asyncio.sleep(_LOOK_SECONDS)
        known = (await self._register.read()).bindings
        places = {mac: _place(known.get(mac)) for mac in macs}
        return tuple(
            f"{mac} is bound to {place or 'no site'}, not {site}"
            for mac, place in places.items()
            if place != site
        )

    @asynccontextmanager
    async def hand_over(
        self, vm: VmName, macs: Sequence[MacAddress], source: str, destination: str
    ) -> AsyncIterator[None]:
        """Announce a move for as long as the context lasts."""
        if source == destination or not {source, destination} <= self._sites:
            yield
            return
        announced = HandOver(
            vm=vm,
            vni=self._register.vni,
            macs=tuple(macs),
            source=SiteName(source),
            destination=SiteName(destination),
            until=self._clock(),
        )
        said = await self._announce(announced)
        renewing = asyncio.create_task(self._renew(announced, said), name=f"hand-over of {vm}")
        try:
            yield
        finally:
            renewing.cancel()
            with suppress(KnowledgeUnreachable):
                await self._register.end(vm)

    async def _renew(self, announced: HandOver, said: bool) -> None:
        while True:
            await asyncio.sleep(_HOLDS.total_seconds() / 3 if said else _RETRY_SECONDS)
            said = await self._announce(announced)

    async def _announce(self, announced: HandOver) -> bool:
        """Say it, and return whether that could be.

        A move isn't put off for this: without it, the overlay follows when the VM runs there.
        """
        try:
            await self._register.begin(replace(announced, until=self._clock() + _HOLDS))
        except KnowledgeUnreachable:
            return False
        return True

    async def remove(self) -> None:
        """Do nothing: the agents' sites stay as they are."""

    async def _late(
        self,
        revision: int,
        macs: frozenset[MacAddress],
        owner: SiteName,
        said: Mapping[SiteName, datetime],
    ) -> tuple[str, ...]:
        now = self._clock()
        statuses = {
            site: told if told.at == said.get(site) else replace(told, at=now)
            for site, told in (await self._register.statuses()).items()
        }
        sending_on = {
            site
            for site, told in statuses.items()
            if site in self._sites and not is_silent(told, now) and macs <= {*told.detours}
        }
        needed = {owner, *sending_on} if sending_on else self._sites
        return late_sites(sorted(needed), revision, statuses, now)


def _place(known: Binding | None) -> SiteName | None:
    return None if known is None or known.state is BindingState.GONE else known.site


def _at(known: Binding | None, mac: MacAddress, site: SiteName, vni: int) -> Binding | None:
    """Return what says that an address is at a site; None where that is known already."""
    if known is None:
        return Binding(vni=vni, mac=mac, site=site, sequence=1)
    if known.site == site and known.state is not BindingState.GONE:
        if known.state is BindingState.SETTLED:
            return None
        return replace(known, state=BindingState.SETTLED, origin=None)
    moved = replace(known, sequence=known.sequence + 1, site=site)
    return replace(moved, state=BindingState.SETTLED, origin=None)
