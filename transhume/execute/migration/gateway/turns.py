"""Whose frame is encoded next: one at a time, the more urgent first.

Frames are decoded in the order in which they were encoded, so urgency has to be heeded before encoding.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import IntEnum


class Urgency(IntEnum):
    """Lower goes first."""

    STOPPED = 0
    """The guest stands still until it has arrived."""
    MEMORY = 1
    DISK = 2
    WARMING = 3


class Turns:
    """A lock that goes to the most urgent of those that wait, and among them to the first."""

    def __init__(self) -> None:
        self._taken = False
        self._waiting: list[tuple[Callable[[], Urgency], asyncio.Future[None]]] = []

    @asynccontextmanager
    async def turn(self, urgency: Callable[[], Urgency]) -> AsyncIterator[None]:
        """Wait for a turn, and have it while the context lasts.

        Args:
            urgency: says it whenever somebody is chosen: a guest may stop while its memory waits.
        """
        await self._take(urgency)
        try:
            yield
        finally:
            self._pass_on()

    async def _take(self, urgency: Callable[[], Urgency]) -> None:
        if not self._taken:
            self._taken = True
            return
        mine: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((urgency, mine))
        try:
            await mine
        except asyncio.CancelledError:
            if mine.done() and not mine.cancelled():
                self._pass_on()
            raise

    def _pass_on(self) -> None:
        self._waiting = [each for each in self._waiting if not each[1].done()]
        if self._waiting:
            chosen = min(self._waiting, key=lambda each: each[0]())  # of the most urgent, the first
            self._waiting.remove(chosen)
            chosen[1].set_result(None)
        else:
            self._taken = False
