"""A lab with all that looks at one guest: neighbours in each cloud, the world outside, and a bystander.

Owns what is plugged in and what runs as long as the lab: a checked conversation from everywhere, and one that
is bulk. Pingers and those that listen are new for each move, so that what they tell is the move's.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from transhume.knowledge.model import CloudName, IpAddress, MacAddress
from transhume.lab.lab import Lab
from transhume.lab.neighbours import Neighbour, plug_bystander, plug_neighbour
from transhume.lab.probes import (
    BY_KERNEL,
    FLOOD_WORDS,
    Flooded,
    Passed,
    Pings,
    Probe,
    Talk,
    compile_probe,
    ping_words,
    read_flooded,
    read_passed,
    read_pings,
    read_talk,
    talk_words,
    tap_words,
)
from transhume.lab.spec import GATEWAY_MAC, OUTSIDE, OUTSIDE_ADDRESS, GuestSpec

OUTSIDE_NAME, BULK = "outside", "bulk"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often everybody says how much.

    An emulated guest answers 2,000 pings a second beside the rest; of 4,000 it loses 2 %, and what waited while
    it stood still has to be caught up with. So one pinger can be as fast as is asked for: the one outside, from
    where every site is equally far.
    """

    outside_ping_seconds: float = 0.001
    ping_seconds: float = 0.01
    ping_port: int = BY_KERNEL
    talk_seconds: float = 0.04
    talk_bytes: int = 500
    bulk_seconds: float = 0.02
    bulk_bytes: int = 4_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """What all probes saw while something happened."""

    pings: Mapping[str, Pings]
    """By cloud, and from outside."""
    passed: Mapping[str, tuple[Passed, ...]]
    """At the guest's interface, by cloud."""
    flooded: tuple[Flooded, ...]
    talks: Mapping[str, Talk]
    """By cloud, from outside, and bulk; bytes since the stand was opened."""


class Stand:
    """The probes of one lab."""

    def __init__(self, lab: Lab, guest: GuestSpec, cadence: Cadence) -> None:
        self.lab = lab
        self.guest = guest
        self.cadence = cadence
        self.neighbours: dict[CloudName, Neighbour] = {}
        self._program = Path()
        self._bystander = ""
        self._talks: dict[str, Probe] = {}
        self._watching: dict[str, Probe] = {}

    @property
    def places(self) -> dict[MacAddress, str]:
        """At which sites the neighbours and the guests' way out are."""
        near = {neighbour.mac: str(cloud) for cloud, neighbour in self.neighbours.items()}
        return {**near, GATEWAY_MAC: "edge"}

    @property
    def peers(self) -> dict[str, IpAddress]:
        """The addresses of those that ping."""
        near = {str(cloud): neighbour.ip for cloud, neighbour in self.neighbours.items()}
        return {**near, OUTSIDE_NAME: OUTSIDE_ADDRESS}

    @property
    def _namespaces(self) -> dict[str, str]:
        near = {str(cloud): neighbour.netns for cloud, neighbour in self.neighbours.items()}
        return {**near, OUTSIDE_NAME: OUTSIDE}

    def plug(self) -> None:
        """Plug everybody in. Blocking, and not for a thread with an event loop."""
        clouds = self.lab.spec.clouds
        self._program = compile_probe(self.lab.state)
        self.neighbours = {cloud.name: plug_neighbour(cloud) for cloud in clouds}
        self._bystander = plug_bystander(clouds)

    @asynccontextmanager
    async def talking(self) -> AsyncIterator[None]:
        """Have a conversation from everywhere for as long as the context lasts; the guest must be reachable."""
        ip, cadence = self.guest.ip, self.cadence
        words = talk_words(ip, cadence.talk_seconds, cadence.talk_bytes)
        asked = {name: (netns, words) for name, netns in self._namespaces.items()}
        last = self.neighbours[self.lab.spec.clouds[-1].name]
        asked[BULK] = (last.netns, talk_words(ip, cadence.bulk_seconds, cadence.bulk_bytes))
        async with AsyncExitStack() as stack:
            for name, (netns, said) in asked.items():
                running = Probe.running(self._program, netns, *said)
                self._talks[name] = await stack.enter_async_context(running)
            await self.talks()  # which all tell once they are connected
            yield
        self._talks.clear()

    async def end_talks(self) -> Mapping[str, Talk]:
        """End the conversations when all has come back, and return how they fared."""
        return {name: read_talk(await probe.end()) for name, probe in self._talks.items()}

    async def talks(self) -> Mapping[str, Talk]:
        """Return how the conversations fared since they were asked before."""
        return {name: read_talk(await probe.report()) for name, probe in self._talks.items()}

    @asynccontextmanager
    async def watching(self) -> AsyncIterator[None]:
        """Ping from everywhere and listen for as long as the context lasts; ask `watched` at its end."""
        async with AsyncExitStack() as stack:

            async def run(name: str, netns: str, *words: str) -> None:
                running = Probe.running(self._program, netns, *words)
                self._watching[name] = await stack.enter_async_context(running)

            await self.talks()
            await run("floods", self._bystander, *FLOOD_WORDS)
            for cloud in self.lab.spec.clouds:
                await run(
                    f"tap {cloud.name}",
                    cloud.netns,
                    *tap_words(self.guest.mac, self.cadence.ping_port),
                )
            for name, netns in self._namespaces.items():
                await run(f"ping {name}", netns, *self._ping_words(name))
            yield
        self._watching.clear()

    def _ping_words(self, name: str) -> tuple[str, ...]:
        cadence, outside = self.cadence, name == OUTSIDE_NAME
        seconds = cadence.outside_ping_seconds if outside else cadence.ping_seconds
        return ping_words(self.guest.ip, seconds, cadence.ping_port)

    async def watched(self) -> Watched:
        """End the pingers and those that listen, and return what all have seen."""
        names = tuple(self._namespaces)
        ends = [self._watching[f"ping {name}"].end() for name in names]
        pings = dict(zip(names, map(read_pings, await asyncio.gather(*ends)), strict=True))
        clouds = [str(cloud.name) for cloud in self.lab.spec.clouds]
        return Watched(
            pings=pings,
            passed={
                name: read_passed(await self._watching[f"tap {name}"].end()) for name in clouds
            },
            flooded=read_flooded(await self._watching["floods"].end()),
            talks=await self.talks(),
        )
