import asyncio

import pytest

from transhume.execute.migration.gateway.turns import Turns, Urgency


async def test_the_most_urgent_goes_first_and_equals_in_their_order() -> None:
    turns, went = Turns(), []

    async def go(name: str, urgency: Urgency) -> None:
        async with turns.turn(lambda: urgency):
            went.append(name)

    async with asyncio.TaskGroup() as tasks:
        async with turns.turn(lambda: Urgency.WARMING):
            for name, urgency in (
                ("warm", Urgency.WARMING),
                ("disk", Urgency.DISK),
                ("memory 1", Urgency.MEMORY),
                ("memory 2", Urgency.MEMORY),
            ):
                tasks.create_task(go(name, urgency))
            await asyncio.sleep(0)
            assert went == []
    assert went == ["memory 1", "memory 2", "disk", "warm"]


async def test_who_becomes_urgent_while_waiting_goes_before_who_came_earlier() -> None:
    turns, went, stopped = Turns(), [], []

    async def go(name: str) -> None:
        async with turns.turn(lambda: Urgency.STOPPED if name in stopped else Urgency.MEMORY):
            went.append(name)

    async with asyncio.TaskGroup() as tasks:
        async with turns.turn(lambda: Urgency.MEMORY):
            for name in ("first", "second", "third"):
                tasks.create_task(go(name))
            await asyncio.sleep(0)
            stopped.append("third")
    assert went == ["third", "first", "second"]


async def test_who_gives_up_waiting_keeps_nobody_from_their_turn() -> None:
    turns = Turns()
    async with turns.turn(lambda: Urgency.MEMORY):
        waiting = [asyncio.create_task(_once(turns)) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
    await asyncio.wait_for(asyncio.gather(*waiting[1:]), 5)
    assert waiting[0].cancelled()
    await asyncio.wait_for(_once(turns), 5)


async def test_who_is_cancelled_just_when_it_was_their_turn_passes_it_on() -> None:
    turns = Turns()
    async with turns.turn(lambda: Urgency.MEMORY):
        first, second = asyncio.create_task(_once(turns)), asyncio.create_task(_once(turns))
        await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait_for(second, 5)
    with pytest.raises(asyncio.CancelledError):
        await first


async def _once(turns: Turns) -> None:
    async with turns.turn(lambda: Urgency.MEMORY):
        await asyncio.sleep(0)
