"""The way by site agents: each site looks after itself, and a move is announced before it begins.

The agents are processes, and share a Redis, as everywhere; they are told of the neighbours, which no hypervisor
has.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime

import yaml

from benchmarks.overlay.way import Moving, Places, Way
from transhume.execute.overlay import ByAgents, VxlanOverlay
from transhume.knowledge.model import VmName
from transhume.knowledge.store import Store
from transhume.lab import agents
from transhume.lab.lab import Lab


def _now() -> datetime:
    return datetime.now(UTC)


class SiteAgents:
    """Agents at all sites of a lab, as long as the way is joined."""

    def __init__(self, lab: Lab, store: Store) -> None:
        self._lab = lab
        network = replace(lab.network, agents=True)
        self._sites = [site.name for site in network.sites]
        self._register = store.register(network.vni)
        self._overlay = ByAgents(network, self._register, _now)
        self._processes: list[int] = []
        self._announced = AsyncExitStack()

    async def join(self, places: Places) -> None:
        """Start the agents, and enter those of whom no hypervisor tells."""
        guests = {guest.mac for guest in self._lab.spec.guests}
        strangers = {mac: site for mac, site in places.items() if mac not in guests}
        await asyncio.to_thread(_describe, self._lab, strangers)
        await asyncio.to_thread(self._start)
        for mac, site in places.items():
            await self._overlay.adopt([mac], site)
        late = await self._overlay.check(list(places), next(iter(places.values())))
        if late and not all("bound to" in each for each in late):
            raise TimeoutError("; ".join(late))

    async def before(self, moving: Moving) -> None:
        """Announce the move."""
        vm, macs = VmName(moving.guest.name), [moving.guest.mac]
        announced = self._overlay.hand_over(vm, macs, moving.source, moving.destination)
        await self._announced.enter_async_context(announced)

    async def after(self, moving: Moving) -> None:
        """See that all have followed.

        Raises:
            TimeoutError: one hasn't.
        """
        await self._announced.aclose()
        faults = await self._overlay.check([moving.guest.mac], moving.destination)
        if faults:
            raise TimeoutError("; ".join(faults))

    async def leave(self) -> None:
        """End the agents, remove what they made, and forget what they knew."""
        await asyncio.to_thread(self._end)
        await VxlanOverlay(self._lab.network).remove()
        known = (await self._register.read()).entries
        await self._register.retire([entry.binding for entry in known])

    def _start(self) -> None:
        for site in self._sites:
            agents.log_of(site, self._lab.state).unlink(missing_ok=True)
        self._processes = [agents.start_agent(site, self._lab.state) for site in self._sites]
        agents.wait_for_agents(self._sites, self._lab.state)

    def _end(self) -> None:
        for process in self._processes:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGTERM)
        for process in self._processes:
            with suppress(ChildProcessError):
                os.waitpid(process, 0)


@asynccontextmanager
async def agents_opened(lab: Lab) -> AsyncIterator[Way]:
    """Make a Redis for a lab's agents, and the configuration that they go by."""
    url = await asyncio.to_thread(_prepare, lab)
    async with Store.connect(url, clock=_now) as store:
        yield SiteAgents(lab, store)


def _prepare(lab: Lab) -> str:
    _describe(lab, {})
    agents.start_knowledge(lab.state)
    return _url(lab)


def _url(lab: Lab) -> str:
    return f"unix://{lab.state / agents.SOCKET}"


def _describe(lab: Lab, strangers: Places) -> None:
    """Write down what agents go by, and who is at a site though no hypervisor has him."""
    written = yaml.safe_load(lab.deployment.read_text())
    written["overlay"]["agents"] = True
    written["knowledge"] = {"url": _url(lab)}
    for name, cloud in written["clouds"].items():
        here = [{"mac": str(mac)} for mac, site in strangers.items() if site == name]
        cloud["overlay"]["addresses"] = here
    (lab.state / agents.CONFIGURATION).write_text(yaml.safe_dump(written))
