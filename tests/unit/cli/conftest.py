"""A knowledge for commands to speak to, as a daemon of its own would keep it."""

import asyncio
from collections.abc import Iterator
from threading import Event, Thread

import pytest

from transhume.knowledge.model import Cloud, CloudName, Host, HostName
from transhume.knowledge.server import open_server
from transhume.knowledge.store import Store

HOME, AWAY = CloudName("home"), CloudName("away")


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The knowledge of a daemon that runs in another thread, as a command sees it."""
    state, found, ready, over = tmp_path_factory.mktemp("s"), [], Event(), Event()

    async def daemon() -> None:
        async with open_server(None, state) as address, Store.connect(address.url) as store:
            hosts = [Host(name=HostName("h1"), cloud=HOME), Host(name=HostName("a1"), cloud=AWAY)]
            await store.put_federation([Cloud(name=HOME), Cloud(name=AWAY)], hosts, [])
            found.append(address.url)
            ready.set()
            await asyncio.to_thread(over.wait)

    thread = Thread(target=lambda: asyncio.run(daemon()), name="daemon")
    thread.start()
    assert ready.wait(30)
    yield found[0]
    over.set()
    thread.join()
