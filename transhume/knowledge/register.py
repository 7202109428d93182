"""The overlay's register: which site has each address of a virtual network, for all sites' agents.

Whoever knows better writes, without the pen: a binding is taken only if its sequence number is higher than what
is there, in one script, so the order of messages doesn't matter. Each one taken has a revision; an agent that
has carried out everything up to a revision says so, and others can wait for that. What is published may be
missed: whoever follows is told when to read all anew.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from transhume.errors import KnowledgeUnreachable
from transhume.knowledge import keys
from transhume.knowledge.codec import UnreadableRecord, decode, encode
from transhume.knowledge.model import (
    AgentStatus,
    Binding,
    HandOver,
    MacAddress,
    SiteName,
    VmName,
)
from transhume.knowledge.wire import (
    ANSWER_SECONDS,
    BLOCK_SECONDS,
    listening,
    reaching,
    run_script,
)
from transhume.knowledge.written_addresses import usable_ips, usable_mac

# Names are compared byte by byte, as agents compare them: Lua would go by the server's locale.
_PUT = """
local certainties = {moving = 0, settled = 1, gone = 2}
local function is_after(name, other)
    for i = 1, math.min(#name, #other) do
        if name:byte(i) ~= other:byte(i) then return name:byte(i) > other:byte(i) end
    end
    return #name > #other
end
local function supersedes(sequence, site, certainty, known)
    local old = cjson.decode(string.match(known, '^%d+ (.*)$'))
    if sequence ~= old.sequence then return sequence > old.sequence end
    if site ~= old.site then return is_after(site, old.site) end
    return certainty > (certainties[old.state] or 0)
end
local taken = {}
for i = 1, #ARGV, 5 do
    local mac, sequence, site, certainty, record = unpack(ARGV, i, i + 4)
    local known = redis.call('HGET', KEYS[1], mac)
    local readable, higher = pcall(supersedes, tonumber(sequence), site, tonumber(certainty), known)
    if higher or not readable then
        local revision = redis.call('INCR', KEYS[2])
        local stored = string.format('%d', revision) .. ' ' .. record
        redis.call('HSET', KEYS[1], mac, stored)
        redis.call('PUBLISH', KEYS[3], stored)
        taken[#taken + 1] = revision
    else
        taken[#taken + 1] = 0
    end
end
return taken
"""

_RETIRE = """
local retired = 0
for i = 1, #ARGV, 2 do
    local known = redis.call('HGET', KEYS[1], ARGV[i])
    local readable, newer = pcall(function()
        return cjson.decode(string.match(known, '^%d+ (.*)$')).sequence > tonumber(ARGV[i + 1])
    end)
    if known and not (readable and newer) then
        retired = retired + redis.call('HDEL', KEYS[1], ARGV[i])
    end
end
if retired > 0 then
    redis.call('PUBLISH', KEYS[3], string.format('%d', redis.call('INCR', KEYS[2])) .. ' ')
end
return retired
"""

_READ = "return {redis.call('GET', KEYS[2]) or '0', redis.call('HVALS', KEYS[1])}"

T = TypeVar("T")

_MOST_AT_ONCE = 500
_RETRY_SECONDS = 0.5

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A binding in the register, and the revision at which it was taken."""

    binding: Binding
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    """All that the register holds, as of a revision."""

    revision: int
    entries: tuple[Entry, ...]

    @property
    def bindings(self) -> dict[MacAddress, Binding]:
        """The bindings by address."""
        return {entry.binding.mac: entry.binding for entry in self.entries}


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOvers:
    """All moves that are about to happen."""

    hand_overs: tuple[HandOver, ...]


@dataclass(frozen=True, slots=True)
class Lost:
    """The knowledge can't be reached for now; a `Whole` follows when it can."""


News = Entry | Whole | HandOvers | Lost


class Register:
    """One virtual network's register, in a Redis.

    Args:
        client: of the knowledge.
        vni: the network's number.
        silence_seconds: after so long without a word, who follows takes the knowledge for unreachable.
    """

    def __init__(self, client: Redis, vni: int, *, silence_seconds: float = ANSWER_SECONDS) -> None:
        self._client = client
        self.vni = vni
        self._silence_seconds = silence_seconds
        self._keys = keys.overlay(vni)

    async def put(self, bindings: Iterable[Binding]) -> dict[MacAddress, int]:
        """Offer bindings; return the revision of each one that was taken, by address.

        Raises:
            KnowledgeUnreachable: the knowledge doesn't answer.
        """
        offered = list(bindings)
        taken: dict[MacAddress, int] = {}
        for start in range(0, len(offered), _MOST_AT_ONCE):
            some = offered[start : start + _MOST_AT_ONCE]
            found = await self._run(_PUT, *(part for each in some for part in _written(each)))
            pairs = zip(some, map(int, found), strict=True)
            taken |= {binding.mac: revision for binding, revision in pairs if revision}
        return taken

    async def retire(self, bindings: Iterable[Binding]) -> None:
        """Forget addresses altogether, and their sequences, unless they have moved since.

        Raises:
            KnowledgeUnreachable: the knowledge doesn't answer.
        """
        gone = [part for each in bindings for part in (each.mac, each.sequence)]
        for start in range(0, len(gone), 2 * _MOST_AT_ONCE):
            await self._run(_RETIRE, *gone[start : start + 2 * _MOST_AT_ONCE])

    async def read(self) -> Whole:
        """Return all that the register holds.

        Raises:
            KnowledgeUnreachable: the knowledge doesn't answer.
        """
        revision, stored = await self._run(_READ)
        entries = map(_entry, stored)
        return Whole(revision=int(revision), entries=tuple(e for e in entries if e is not None))

    async def begin(self, hand_over: HandOver) -> None:
        """Announce that a VM is about to move.

        Raises:
            KnowledgeUnreachable: the knowledge doesn't answer.
        """
        async with reaching(), self._client.pipeline() as both:
            both.hset(self._keys.hand_overs, hand_over.vm, encode(hand_over))
            both.publish(self._keys.channel, b"hand-over")
            await both.execute()

    async def end(self, vm: VmName) -> None:
        """Announce that it isn't about to move any more: it has, or it won't.

        Raises:
            KnowledgeUnreachable: the knowledge doesn't answer.
        """
        async with reaching(), self._client.pipeline() as both:
            both.hdel(self._keys.hand_overs, vm)
            both.publish(self._keys.channel, b"hand-over")
            await both.execute()

    async def hand_overs(self) -> HandOvers:
        """Return the moves that are about to happen."""
        async with reaching():
            found = await self._client.hvals(self._keys.hand_overs)
        return HandOvers(hand_overs=_readable(HandOver, found))

    async def report(self, status: AgentStatus) -> None:
        """Say how a site's agent does."""
        async with reaching():
            await self._client.hset(self._keys.agents, status.site, encode(status))

    async def statuses(self) -> dict[SiteName, AgentStatus]:
        """Return what each site's agent said last."""
        async with reaching():
            found = await self._client.hvals(self._keys.agents)
        return {status.site: status for status in _readable(AgentStatus, found)}

    async def follow(self) -> AsyncIterator[News]:
        """Yield all that is known, then each change; all of it again after a break. Never ends by itself."""
        while True:
            try:
                async for news in self._follow_once():
                    yield news
            except (RedisError, OSError, KnowledgeUnreachable) as error:
                log.warning("register_lost", vni=self.vni, why=str(error))
                yield Lost()
                await asyncio.sleep(_RETRY_SECONDS)

    async def _follow_once(self) -> AsyncIterator[News]:
        async with listening(self._client, self._keys.channel) as ear:
            whole = await self._read_amid(ear)
            last, caught_up = whole.revision, False
            yield whole
            yield await self.hand_overs()
            async for said in self._heard(ear):
                if said is None:
                    caught_up = True
                elif said == b"hand-over":
                    yield await self.hand_overs()
                elif (entry := _entry(said)) is not None and entry.revision == last + 1:
                    last = entry.revision
                    yield entry
                # A revision that there was before: the knowledge has lost its memory, and counts anew.
                elif entry is None or entry.revision > last or caught_up:
                    whole = await self._read_amid(ear)
                    last, caught_up = whole.revision, False
                    yield whole

    async def _read_amid(self, ear: PubSub) -> Whole:
        """Read all, and have marked in what is published where it goes on after that, at the latest."""
        whole = await self.read()
        await ear.ping()
        return whole

    async def _heard(self, ear: PubSub) -> AsyncIterator[bytes | None]:
        """Yield what is published, None for an answer; ask now and then whether anybody is there."""
        heard = time.monotonic()
        while True:
            timeout = min(BLOCK_SECONDS, self._silence_seconds / 4)
            message = await ear.get_message(timeout=timeout)
            if message is not None:
                heard = time.monotonic()
                if message["type"] in ("message", "pong"):
                    yield message["data"] if message["type"] == "message" else None
            elif time.monotonic() - heard > self._silence_seconds:
                raise KnowledgeUnreachable(
                    f"the knowledge has said nothing for {self._silence_seconds:g} s"
                )
            else:
                await ear.ping()

    async def _run(self, script: str, *arguments: str | bytes | int) -> Any:
        return await run_script(
            self._client,
            script,
            (self._keys.bindings, self._keys.revision, self._keys.channel),
            arguments,
        )


def _written(binding: Binding) -> tuple[str | bytes | int, ...]:
    return binding.mac, binding.sequence, binding.site, binding.certainty, encode(binding)


def _entry(stored: bytes) -> Entry | None:
    """Read what the register stores; None for what was retired, or nobody can read."""
    revision, _, record = stored.partition(b" ")
    with suppress(UnreadableRecord, ValueError):
        binding = _usable(decode(Binding, record))
        return Entry(binding=binding, revision=int(revision)) if binding is not None else None
    return None


def _usable(binding: Binding) -> Binding | None:
    """Return a binding with the addresses that a kernel takes; None where it's of no MAC address."""
    of = f"the register, site {binding.site}"
    mac, ips = usable_mac(binding.mac, of), usable_ips(binding.ips, f"{of}, {binding.mac}")
    return replace(binding, mac=mac, ips=ips) if mac is not None else None


def _readable(cls: type[T], stored: Iterable[bytes | str]) -> tuple[T, ...]:
    """Read what can be read; what can't is left out, and told."""
    found = []
    for each in stored:
        try:
            found.append(decode(cls, each))
        except UnreadableRecord as error:
            log.warning("record_unreadable", record=cls.__name__, why=str(error))
    return tuple(found)
