"""Who waits while a guest stands still, and for how long."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from transhume.execute.migration.gateway import standstill
from transhume.execute.migration.gateway.departure import Departure
from transhume.execute.migration.gateway.domain import StoreLimits
from transhume.execute.migration.gateway.domains import Domains
from transhume.execute.migration.gateway.standstill import Standstill
from transhume.knowledge.model import Transfer

Wait = Callable[[Standstill, int], Coroutine[None, None, None]]

STOPPED, OTHER, THIRD = 1, 2, 3


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standstill, "PATIENCE_SECONDS", 60.0)


async def waits(
    still: Standstill, departure: int, how: Wait = Standstill.of_others
) -> "asyncio.Task[None]":
    waiting = asyncio.create_task(how(still, departure))
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


async def test_who_waits_and_is_stopped_itself_waits_no_longer() -> None:
    still = Standstill()
    still.begins(STOPPED)
    waiting = [
        await waits(still, OTHER),
        await waits(still, OTHER, Standstill.until_others_are_sent),
    ]
    still.begins(OTHER)
    await asyncio.gather(*waiting)
    assert STOPPED in still
    assert OTHER in still


async def test_what_was_read_of_others_waits_until_all_of_a_guest_is_sent() -> None:
    still = Standstill()
    still.begins(STOPPED)
    sending = await waits(still, OTHER, Standstill.until_others_are_sent)
    reading = await waits(still, OTHER)
    await still.until_others_are_sent(STOPPED)
    assert not sending.done()
    still.all_is_sent(STOPPED)
    await sending
    assert not reading.done()
    assert STOPPED in still
    still.ends(STOPPED)
    await reading
    assert STOPPED not in still


async def test_a_guest_of_which_more_turns_up_is_waited_for_again() -> None:
    still = Standstill()
    still.begins(STOPPED)
    still.all_is_sent(STOPPED)
    still.begins(STOPPED)
    sending = await waits(still, OTHER, Standstill.until_others_are_sent)
    assert not sending.done()
    still.ends(STOPPED)
    await sending


async def test_a_guest_of_which_more_is_heard_is_waited_for_longer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(standstill, "PATIENCE_SECONDS", 0.2)
    still = Standstill()
    still.begins(STOPPED)
    await still.of_others(OTHER)
    still.begins(STOPPED)
    assert not still.may_send(OTHER)
    waiting = await waits(still, OTHER)
    assert not waiting.done()
    await waiting


async def test_a_guest_that_never_runs_again_holds_nobody_up_for_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(standstill, "PATIENCE_SECONDS", 0.05)
    still = Standstill()
    still.begins(STOPPED)
    waiting = await waits(still, OTHER)
    assert not waiting.done()
    await waiting


async def test_news_without_end_of_a_guest_hold_nobody_up_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nor do stops that are over at once, and begin again."""
    monkeypatch.setattr(standstill, "LONGEST_SECONDS", 0.1)
    still = Standstill()
    still.begins(STOPPED)
    waiting = await waits(still, OTHER)
    assert not waiting.done()
    await waiting
    still.begins(STOPPED)
    await still.of_others(OTHER)
    still.ends(STOPPED)
    still.begins(STOPPED)
    await still.of_others(OTHER)
    still.forget(STOPPED)
    assert STOPPED not in still


async def test_each_part_that_is_sent_of_a_guest_is_news_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a piece in many parts nothing else is heard for as long as they take."""
    now = [0.0]
    monkeypatch.setattr(standstill, "PATIENCE_SECONDS", 2.0)
    desk = Domains(StoreLimits(folder=tmp_path)).desk("b", "t")
    departure = Departure(STOPPED, "vm1", desk, 0, Standstill(), read_bytes=4 << 20, channels={1})
    monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: now[0])
    departure.stands_still()
    for _ in range(4):
        now[0] += 1.5
        assert not departure.standstill.may_send(OTHER)
        departure.has_sent(Transfer(raw_bytes=1 << 20))
    now[0] += 2.5
    assert departure.standstill.may_send(OTHER)
