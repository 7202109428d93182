"""The sites' records of the underlay, in real servers."""

import asyncio
from contextlib import aclosing
from dataclasses import replace

from transhume.knowledge import keys
from transhume.knowledge.model import SignedEndpoint, SiteName
from transhume.knowledge.underlay import UnderlayDirectory

A, B = (
    SignedEndpoint(site=SiteName(name), statement="{}", certificate="-", signature=name)
    for name in "ab"
)
NEWER = replace(A, signature="newer")


async def test_what_was_put_is_there_by_site(client):
    directory = UnderlayDirectory(client)
    for record in (B, A, NEWER):
        await directory.put(record)

    assert await directory.all() == (NEWER, B)


async def test_a_site_that_is_gone_is_forgotten(client):
    directory = UnderlayDirectory(client)
    await directory.put(A)
    await directory.forget("a")

    assert await directory.all() == ()


async def test_a_watcher_gets_all_first_and_then_each_new_one(client):
    directory = UnderlayDirectory(client)
    await directory.put(A)
    async with aclosing(directory.watch(60)) as watching:
        first = await anext(watching)
        for record in (B, NEWER):
            await directory.put(record)

        assert first == (A,)
        assert [await anext(watching), await anext(watching)] == [(B,), (NEWER,)]


async def test_a_watcher_gets_all_again_after_a_while(client):
    directory = UnderlayDirectory(client)
    await directory.put(A)
    async with aclosing(directory.watch(0.1)) as watching, asyncio.timeout(20):
        assert [await anext(watching), await anext(watching)] == [(A,), (A,)]


async def test_what_others_write_there_stops_nobody(client):
    directory = UnderlayDirectory(client)
    await directory.put(A)
    await client.hset(keys.UNDERLAY, "x", "nonsense")
    async with aclosing(directory.watch(60)) as watching:
        assert await anext(watching) == (A,)
        await client.publish(keys.UNDERLAY_NEWS, b"\xff nonsense")
        await directory.put(B)

        assert [await anext(watching), await anext(watching)] == [(), (B,)]
