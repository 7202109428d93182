"""How much of a channel may be on its way."""

import asyncio

from transhume.execute.migration.gateway.credit import Credit, SharedWindow


async def test_without_credit_nothing_more_is_sent_until_some_is_given() -> None:
    credit = Credit(10)
    await credit.take(25)
    waiting = asyncio.create_task(credit.take(1))
    await asyncio.sleep(0)
    credit.give(10)
    await asyncio.sleep(0)
    assert not waiting.done(), "5 were taken beyond the window"
    credit.give(6)
    await asyncio.wait_for(waiting, 5)


async def test_channels_share_a_window_evenly_and_each_has_a_little_however_many_they_are() -> None:
    window = SharedWindow(window_bytes=12, least_bytes=4)
    first = window.join()
    assert await _may_take(first, 11)
    second = window.join()
    assert not await _may_take(first, 1), "11 are on their way, and its part is 6"
    assert await _may_take(second, 6)
    assert not await _may_take(second, 1)

    first.give(5)
    assert not await _may_take(first, 1)
    first.give(1)
    assert await _may_take(first, 1)

    many = [window.join() for _ in range(5)]
    assert await _may_take(many[-1], 4)
    assert not await _may_take(many[-1], 1)


async def test_who_waits_has_the_part_of_one_that_leaves() -> None:
    window = SharedWindow(window_bytes=12, least_bytes=1)
    first, second = window.join(), window.join()
    await first.take(6)
    waiting = asyncio.create_task(first.take(6))
    await asyncio.sleep(0)
    assert not waiting.done()

    window.leave(second)
    window.leave(second)  # which changes nothing
    await asyncio.wait_for(waiting, 5)
    assert not await _may_take(first, 1)


async def _may_take(credit: Credit, amount: int) -> bool:
    """Take it if that needs no waiting; say whether it didn't."""
    taking = asyncio.create_task(credit.take(amount))
    await asyncio.sleep(0)
    if not taking.done():
        taking.cancel()
    return taking.done()
