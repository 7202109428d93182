"""How we talk to Redis: one way to connect, one way to run a script, and its failures in our words.

Owns the client's settings. Leaves out what is said over the wire: that is `keys`, `transaction` and `store`.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.client import PubSub
from redis.exceptions import RedisError

from transhume.errors import KnowledgeUnreachable
from transhume.knowledge.urls import why_unreadable, without_password

BLOCK_SECONDS = 2.0
"""How long one blocking read waits; well below what a server may take to answer."""
ANSWER_SECONDS = 10.0
"""After that long without an answer a server counts as hanging."""


def connect(url: str) -> Redis:
    """Return a client for a redis-py URL; it connects when first used.

    Raises:
        KnowledgeUnreachable: the URL makes no sense.
    """
    # With a time-out of its own the client sends inside `asyncio.wait_for`, which before Python 3.12 can
    # swallow a cancellation that comes as the sending ends: a daemon told to stop would go on.
    try:
        return Redis.from_url(url, protocol=2, socket_timeout=None)
    except ValueError as error:
        raise KnowledgeUnreachable(
            f"{without_password(url)}: {why_unreadable(url, error)}"
        ) from error


@asynccontextmanager
async def reaching() -> AsyncIterator[None]:
    """Turn the client's errors, and silence, into `KnowledgeUnreachable`: the loop knows how to retry that."""
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            yield
    except (RedisError, OSError) as error:
        seen = str(error) or f"no answer for {ANSWER_SECONDS:.0f} s"
        raise KnowledgeUnreachable(
            f"the knowledge doesn't answer ({seen}); is its Redis, or the daemon that runs it, up?"
        ) from error


@asynccontextmanager
async def one_connection(client: Redis) -> AsyncIterator[Redis]:
    """Have a client that keeps to one connection, which is given back whatever happens.

    Leaving redis-py's own way, a task that is cancelled just then would keep it.
    """
    single = client.client()
    try:
        yield await single.initialize()
    finally:
        await asyncio.shield(single.aclose())


@asynccontextmanager
async def listening(client: Redis, channel: str) -> AsyncIterator[PubSub]:
    """Have a subscription to a channel, and leave it in peace.

    A connection that is broken can fail once more when it's left, also because the task is to end: that error
    never takes the place of the cancellation.

    Raises:
        KnowledgeUnreachable: the knowledge doesn't answer.
    """
    ear = client.pubsub(ignore_subscribe_messages=True)
    try:
        async with reaching():
            await ear.subscribe(channel)
        yield ear
    except (RedisError, OSError, KnowledgeUnreachable):
        _heed_cancellation()
        raise
    finally:
        with suppress(RedisError, OSError):
            await ear.aclose()  # type: ignore[no-untyped-call]


async def news_of(
    client: Redis, channel: str, resync_seconds: float
) -> AsyncGenerator[bytes | None, None]:
    """Yield what is published; None whenever everything is to be read: at once, and every `resync_seconds`.

    Raises:
        KnowledgeUnreachable: the knowledge doesn't answer; begin again later, nothing is missed by that.
    """
    loop = asyncio.get_running_loop()
    async with listening(client, channel) as ear:
        while True:
            yield None
            until = loop.time() + resync_seconds
            while (left := until - loop.time()) > 0:
                async with reaching():
                    message = await ear.get_message(timeout=min(left, BLOCK_SECONDS))
                if message is not None:
                    yield message["data"]


async def run_script(
    client: Redis, script: str, keys: Sequence[str], arguments: Sequence[str | bytes | int]
) -> Any:
    """Run a Lua script; nobody sees its writes half done."""
    async with reaching():
        return await client.eval(script, len(keys), *keys, *arguments)


def text(value: bytes | str) -> str:
    """Return what Redis answered as text; what isn't UTF-8 is marked rather than refused."""
    return value if isinstance(value, str) else value.decode(errors="replace")


def _heed_cancellation() -> None:
    """Raise the cancellation of the running task, where an error in tidying up has taken its place."""
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
