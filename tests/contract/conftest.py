from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from redis.asyncio import Redis

from transhume.knowledge.server import (
    Program,
    ServerAddress,
    ServerKind,
    find_program,
    find_wheel,
    run_server,
)
from transhume.knowledge.store import Store
from transhume.knowledge.wire import connect

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)


def _program(kind: ServerKind) -> Program:
    found = find_wheel() if kind is ServerKind.WHEEL else find_program()
    if found is None or found.kind is not kind:
        pytest.skip(f"NOT TESTED: there is no {kind} on this machine")
    return found


@pytest.fixture(params=[ServerKind.REDIS, ServerKind.WHEEL], ids=str)
def program(request: pytest.FixtureRequest) -> Program:
    """Each server that we promise to work with."""
    return _program(request.param)


@pytest.fixture
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory whose path is short enough for a socket."""
    return tmp_path_factory.mktemp("s")


@pytest.fixture
async def server(program: Program, state: Path) -> AsyncIterator[ServerAddress]:
    async with run_server(program, state) as address:
        yield address


@pytest.fixture
async def client(server: ServerAddress) -> AsyncIterator[Redis]:
    async with connect(server.url) as client:
        yield client


class Clock:
    def __init__(self) -> None:
        self.now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def store(client: Redis, clock: Clock) -> Store:
    return Store(client, clock=clock)


@pytest.fixture
async def token(store: Store) -> int:
    return await store.lease("the test", 60).acquire()
