"""How much of a channel may be on its way: without a limit, one channel that waits would hold up all others.

A hypervisor's multifd channels wait for each other at fixed points. A demultiplexer that blocks on one of them
never comes to the bytes that would free it; so nothing is sent that the destination may not queue.

What is queued there has to be taken in before a guest can go on that has been stopped, also what is queued for
others, because it takes the same processors. So the channels of hypervisors share one channel's window.
"""

import asyncio

WINDOW_BYTES = 32 << 20
"""Raw bytes of a channel that may be undelivered: bandwidth times delay times the ratio of a good stretch."""
LEAST_WINDOW_BYTES = 2 << 20
"""What each of many has all the same: none may wait until another is through."""


class Credit:
    """What is left of one channel's window."""

    def __init__(self, window_bytes: int = WINDOW_BYTES) -> None:
        self._window_bytes = self._left_bytes = window_bytes
        self._given = asyncio.Event()
        self._given.set()

    async def take(self, amount: int) -> None:
        """Wait until something is left, and take an amount; it may take more than is left, once."""
        while self._left_bytes <= 0:
            self._given.clear()
            await self._given.wait()
        self._left_bytes -= amount

    def give(self, amount: int) -> None:
        """Have an amount more."""
        self._left_bytes += amount
        self._given.set()

    def resize(self, window_bytes: int) -> None:
        """Have a larger window, or a smaller one: what is on its way beyond that is waited for."""
        self._left_bytes += window_bytes - self._window_bytes
        self._window_bytes = window_bytes
        self._given.set()


class SharedWindow:
    """One channel's window, in equal parts for all channels that are open.

    Args:
        window_bytes: to share.
        least_bytes: of it that each has, however many they are.
    """

    def __init__(
        self, window_bytes: int = WINDOW_BYTES, least_bytes: int = LEAST_WINDOW_BYTES
    ) -> None:
        self._window_bytes, self._least_bytes = window_bytes, least_bytes
        self._sharers: list[Credit] = []

    def join(self) -> Credit:
        """Have another channel, which has nothing on its way yet."""
        credit = Credit(self._part_bytes(len(self._sharers) + 1))
        self._sharers.append(credit)
        self._share_out()
        return credit

    def leave(self, credit: Credit) -> None:
        """Have a channel less, if it was one of them."""
        if credit in self._sharers:
            self._sharers.remove(credit)
            self._share_out()

    def _share_out(self) -> None:
        for each in self._sharers:
            each.resize(self._part_bytes(len(self._sharers)))

    def _part_bytes(self, sharers: int) -> int:
        return max(self._least_bytes, self._window_bytes // sharers)
