"""Whose guests stand still, of those that go over one link; nobody else's memory is read meanwhile.

What would be read has to wait for the link anyway. And a hypervisor that nobody reads from can't come to the
end of its memory, and stop its guest too: of guests that are moved together, and so come to their ends
together, each would stand still for as long as all of them take.
"""

import asyncio
from contextlib import suppress

PATIENCE_SECONDS = 2.0
"""So long after a guest has stopped nobody waits for it any more: its hypervisor may have failed."""


class Standstill:
    """Those of one link, by the numbers of their departures."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._changed = asyncio.Event()

    def begins(self, departure: int) -> None:
        """Take note that a guest has stopped."""
        self._since.setdefault(departure, asyncio.get_running_loop().time())

    def ends(self, departure: int) -> None:
        """Take note that a guest runs again, wherever that is."""
        if self._since.pop(departure, None) is not None:
            self._changed.set()
            self._changed = asyncio.Event()

    async def of_others(self, departure: int) -> None:
        """Wait until no other guest stands still; one that does so itself needn't wait."""
        while departure not in self._since and (left := self._left_seconds()) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def _left_seconds(self) -> float:
        if not self._since:
            return 0.0
        return max(self._since.values()) + PATIENCE_SECONDS - asyncio.get_running_loop().time()
