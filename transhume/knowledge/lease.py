"""The pen: one holder at a time may decide, and one that was paused can't write after another took over.

A lease runs out by itself; its fencing token doesn't. Each taking draws a higher token, and each write that
needs the pen carries its token, which the store compares with the highest drawn, in the same transaction.
So a lease that lapsed while nobody wanted it does no harm, and can be renewed.
"""

import os
import socket
from typing import Any

from redis.asyncio import Redis

from transhume.errors import LeaseHeld, LeaseLost
from transhume.knowledge import keys
from transhume.knowledge.wire import reaching, run_script, text

# The token is never below the time in milliseconds: a Redis that lost its memory would otherwise draw the
# same tokens again, and let a holder from before the loss write.
_ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder then return {0, holder} end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local token = math.max(tonumber(redis.call('GET', KEYS[2]) or '0') + 1, now)
redis.call('SET', KEYS[2], string.format('%.0f', token))
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return {token, ''}
"""

_RENEW = """
if redis.call('GET', KEYS[2]) ~= ARGV[3] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

# Moving the fence on makes the token worthless at once, although nobody has drawn the next.
_RELEASE = """
if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end
redis.call('INCR', KEYS[2])
redis.call('DEL', KEYS[1])
return 1
"""


class Lease:
    """A claim to the pen for `seconds` at a time. Whoever has it renews it well before they are over.

    Args:
        client: of the knowledge.
        holder: who claims it.
        seconds: how long it lasts without being renewed.
        names: the keys of the lease and its fence; others than the pen's are for other things to be had alone.
    """

    def __init__(
        self,
        client: Redis,
        holder: str,
        seconds: float,
        names: tuple[str, str] = (keys.LEASE, keys.FENCE),
    ) -> None:
        self._client = client
        self._names = names
        self._milliseconds = max(int(seconds * 1000), 1)
        self.holder = holder
        self.seconds = seconds
        self.token: int | None = None
        """The fencing token, once the pen was taken."""

    async def acquire(self) -> int:
        """Take the pen and return the fencing token.

        Raises:
            LeaseHeld: somebody has it; says who.
        """
        token, holder = await self._run(_ACQUIRE, self.holder, self._milliseconds)
        if not token:
            raise LeaseHeld(text(holder))
        self.token = int(token)
        return self.token

    async def renew(self) -> None:
        """Keep the pen for another `seconds` from now.

        Raises:
            LeaseLost: another has taken it since.
        """
        token = self.token or 0
        if not await self._run(_RENEW, self.holder, self._milliseconds, token):
            raise LeaseLost(token)

    async def release(self) -> None:
        """Give the pen back, if it is still ours; the token is worth nothing from now on."""
        if self.token is not None:
            await self._run(_RELEASE, self.token)
            self.token = None

    async def _run(self, script: str, *arguments: str | int) -> Any:
        return await run_script(self._client, script, self._names, arguments)


def this_process() -> str:
    """Return what a lease names us by."""
    return f"{socket.gethostname()}:{os.getpid()}"


async def holder_of_lease(client: Redis) -> str | None:
    """Return who has the pen, or None where nobody has."""
    async with reaching():
        holder = await client.get(keys.LEASE)
    return None if holder is None else text(holder)


async def forget_dead_holder(client: Redis) -> None:
    """Free the pen of a holder that is known to be dead, rather than wait until its lease runs out."""
    async with reaching():
        await client.delete(keys.LEASE)
