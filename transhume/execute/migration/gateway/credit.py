"""How much of a channel may be on its way: without a limit, one channel that waits would hold up all others.

A hypervisor's multifd channels wait for each other at fixed points. A demultiplexer that blocks on one of them
never comes to the bytes that would free it; so nothing is sent that the destination may not queue.
"""

import asyncio

WINDOW_BYTES = 32 << 20
"""Raw bytes of a channel that may be undelivered: bandwidth times delay times the ratio of a good stretch."""


class Credit:
    """What is left of one channel's window."""

    def __init__(self, window_bytes: int = WINDOW_BYTES) -> None:
        self._left = window_bytes
        self._given = asyncio.Event()
        self._given.set()

    async def take(self, amount: int) -> None:
        """Wait until something is left, and take an amount; it may take more than is left, once."""
        while self._left <= 0:
            self._given.clear()
            await self._given.wait()
        self._left -= amount

    def give(self, amount: int) -> None:
        """Have an amount more."""
        self._left += amount
        self._given.set()
