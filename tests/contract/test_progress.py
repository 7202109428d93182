"""Progress that applications keep in keys of their own, as the daemon's sense reads it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.contract.daemon_stage import until
from transhume.daemon import senses
from transhume.daemon.composition import now
from transhume.daemon.senses import keep_alive, progress_keys
from transhume.errors import UnreadableProgress
from transhume.knowledge.model import JobName, Progress
from transhume.knowledge.store import LONGEST_LINE, Store
from transhume.policies.book import PolicyBook

KEY = JobName("app:blast:done")
POLICY = """\
policy: in-time
deadline: {at: 2040-01-01T18:00Z, work: 48h, progress: {redis: "app:blast:done"}}
"""


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> PolicyBook:
    monkeypatch.setattr(senses, "PROGRESS_SECONDS", 0.005)
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY)
    return PolicyBook([path])


@asynccontextmanager
async def sensing(book: PolicyBook, store: Store) -> AsyncIterator[None]:
    task = asyncio.create_task(keep_alive(progress_keys(book, now), store))
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def known(store: Store, done: float, total: float) -> None:
    async def there() -> bool | None:
        progress = (await store.snapshot()).progress.get(KEY)
        return True if progress and (progress.done, progress.total) == (done, total) else None

    await until(there, f"{done:g}/{total:g} to be known")


async def test_what_the_application_writes_is_known(
    book: PolicyBook, store: Store, client: Redis
) -> None:
    async with sensing(book, store):
        await client.set(KEY, "120/4000")
        await known(store, 120, 4000)
        await client.set(KEY, "0.5")
        await known(store, 0.5, 1)


async def test_a_line_that_stays_does_not_undo_what_was_pushed_since(
    book: PolicyBook, store: Store, client: Redis
) -> None:
    await client.set(KEY, "1/4")
    async with sensing(book, store):
        await known(store, 1, 4)
        await store.put_progress(Progress(job=KEY, at=now(), done=3, total=4))
        with capture_logs() as logs:
            await client.set(KEY, "what?")
            await until(_told(logs, 1), "the next look")
        await known(store, 3, 4)


async def test_nonsense_is_told_once_and_its_end_once(
    book: PolicyBook, store: Store, client: Redis
) -> None:
    with capture_logs() as logs:
        async with sensing(book, store):
            await client.set(KEY, "soon")
            await until(_told(logs, 1), "the first nonsense")
            await client.delete(KEY)
            await client.lpush(KEY, "not", "a", "string")
            await client.delete(KEY)
            await client.set(KEY, "1/2")
            await known(store, 1, 2)
    events = [line["event"] for line in logs]
    assert events[0] == "progress_unreadable"
    assert events[-1] == "progress_readable_again"


@pytest.mark.parametrize("kind", ["list", "too long"])
async def test_a_key_that_holds_no_line_is_a_problem_with_a_name(
    store: Store, client: Redis, kind: str
) -> None:
    if kind == "list":
        await client.lpush(KEY, "1/2")
    else:
        await client.set(KEY, "9" * (LONGEST_LINE + 1))
    with pytest.raises(UnreadableProgress, match=KEY):
        await store.line_of(KEY)


async def test_a_key_that_is_not_there_says_nothing(store: Store) -> None:
    assert await store.line_of(KEY) is None


def _told(logs: list[Any], times: int) -> Any:
    async def question() -> bool | None:
        count = sum(line["event"] == "progress_unreadable" for line in logs)
        return True if count == times else None

    return question
