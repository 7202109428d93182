"""Who waits while a guest stands still, and for how long."""

import asyncio

import pytest

from transhume.execute.migration.gateway import standstill
from transhume.execute.migration.gateway.standstill import Standstill

STOPPED, OTHER, THIRD = 1, 2, 3


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "PATIENCE_SECONDS", 60.0)


async def waits(still: Standstill, departure: int) -> "asyncio.Task[None]":
    waiting = asyncio.create_task(still.of_others(departure))
    for _ in range(5):
        await asyncio.sleep(0)
    return waiting


async def test_nobody_waits_while_all_guests_run() -> None:
    await Standstill().of_others(OTHER)


async def test_all_others_wait_until_a_guest_runs_again() -> None:
    still = Standstill()
    still.begins(STOPPED)
    others = [await waits(still, each) for each in (OTHER, THIRD)]
    await still.of_others(STOPPED)
    assert not any(each.done() for each in others)
    still.begins(STOPPED)
    still.ends(STOPPED)
    await asyncio.gather(*others)


async def test_guests_that_stand_still_already_dont_wait_for_each_other() -> None:
    still = Standstill()
    still.begins(STOPPED)
    waiting = await waits(still, OTHER)
    still.begins(OTHER)
    still.ends(STOPPED)
    await waiting
    third = await waits(still, THIRD)
    assert not third.done()
    still.ends(OTHER)
    await third


async def test_a_guest_that_never_runs_again_holds_nobody_up_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(standstill, "PATIENCE_SECONDS", 0.05)
    still = Standstill()
    still.begins(STOPPED)
    waiting = await waits(still, OTHER)
    assert not waiting.done()
    await waiting
