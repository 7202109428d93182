"""Time that passes when somebody waits for it, and not otherwise."""

import asyncio
import heapq
from collections.abc import Callable
from itertools import count


class FakeTime:
    """A clock, and calls that it makes when their time has come: as soon as nothing else is under way."""

    def __init__(self) -> None:
        self.now = 0.0
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def clock(self) -> float:
        return self.now

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._order), call))

    def pass_on(self) -> bool:
        """Go to the next call that is due and make it; say whether there was one."""
        if not self._due:
            return False
        due, _, call = heapq.heappop(self._due)
        self.now = max(self.now, due)
        call()
        return True


class HastyTime(FakeTime):
    """The same, in a hurry: what is to be waited for has passed with the loop's next turn."""

    def after(self, seconds: float, call: Callable[[], None]) -> None:
        super().after(seconds, call)
        asyncio.get_running_loop().call_soon(self.pass_on)
