"""Whoever follows the register ends when it's told to, also over a connection that breaks as it is left."""

import asyncio
from typing import cast

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as Broken

from transhume.knowledge.register import Lost, Register


class Ear:
    """A subscription that never begins, and can't be left in peace."""

    async def aclose(self) -> None:
        raise Broken("reset by peer")

    async def subscribe(self, _channel: str) -> None:
        await asyncio.Event().wait()


class Client:
    def pubsub(self, **_settings: bool) -> Ear:
        return Ear()


async def follow() -> None:
    async for news in Register(cast("Redis", Client()), vni=1).follow():
        assert isinstance(news, Lost)


async def test_it_ends_though_leaving_the_connection_fails() -> None:
    following = asyncio.create_task(follow())
    await asyncio.sleep(0)
    following.cancel()
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await following
    assert following.cancelled()
