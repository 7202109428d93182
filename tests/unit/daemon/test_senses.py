"""A sense is kept alive through passing faults, and what can't pass ends the daemon."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from transhume.daemon import senses
from transhume.daemon.senses import Sense, keep_alive
from transhume.errors import PermanentError, TemporaryError
from transhume.knowledge.store import Store

STORE = cast("Store", None)


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(senses, "FIRST_PAUSE_SECONDS", 0.0)


def told(logs: list[Any]) -> list[str]:
    return [line["event"] for line in logs]


async def test_a_fault_is_told_once_and_its_end_once() -> None:
    attempts = 0

    async def perceive(_store: Store) -> AsyncIterator[None]:
        nonlocal attempts
        attempts += 1
        if attempts <= 3:
            raise TemporaryError("no answer")
        yield
        raise PermanentError("enough")

    with capture_logs() as logs, pytest.raises(PermanentError):
        await keep_alive(Sense(name="prices", perceive=perceive), STORE)
    assert told(logs) == ["sense_failed", "sense_recovered"]
    assert attempts == 4


async def test_a_fault_that_nobody_foresaw_is_outlived_and_told_with_its_traceback() -> None:
    attempts = 0

    async def perceive(_store: Store) -> AsyncIterator[None]:
        nonlocal attempts
        attempts += 1
        if attempts == 1:
            raise ZeroDivisionError
        yield
        raise PermanentError("enough")

    with capture_logs() as logs, pytest.raises(PermanentError):
        await keep_alive(Sense(name="prices", perceive=perceive), STORE)
    assert told(logs) == ["sense_failed", "sense_recovered"]
    assert isinstance(logs[0]["exc_info"], ZeroDivisionError)


async def test_a_cancelled_sense_closes_what_it_opened() -> None:
    closed = asyncio.Event()
    began = asyncio.Event()

    async def perceive(_store: Store) -> AsyncIterator[None]:
        try:
            began.set()
            await asyncio.Event().wait()
            yield
        finally:
            closed.set()

    task = asyncio.create_task(keep_alive(Sense(name="traffic", perceive=perceive), STORE))
    await began.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert closed.is_set()
