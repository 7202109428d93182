"""Whose guests stand still, of those that go over one link; nobody else's memory is read meanwhile.

What would be read has to wait for the link anyway. And a hypervisor that nobody reads from can't come to the
end of its memory, and stop its guest too: of guests that are moved together, and so come to their ends
together, each would stand still for as long as all of them take. What was read before waits as well, until all
of the guest is on its way: it would fill the time in which the guest's hypervisor makes the next piece ready,
and each piece of it takes longer than that.
"""

import asyncio
from collections.abc import Collection
from contextlib import suppress

PATIENCE_SECONDS = 2.0
"""So long after a guest has stopped nobody waits for it any more: its hypervisor may have failed."""


class Standstill:
    """Those of one link, by the numbers of their departures."""

    def __init__(self) -> None:
        self._since: dict[int, float] = {}
        self._unsent: set[int] = set()
        """Those of which there is more to be sent."""
        self._changed = asyncio.Event()

    def __contains__(self, departure: int) -> bool:
        return departure in self._since

    def begins(self, departure: int) -> None:
        """Take note that a guest has stopped, or that more is to be sent of one that has."""
        self._since.setdefault(departure, asyncio.get_running_loop().time())
        self._unsent.add(departure)
        self._tell()

    def all_is_sent(self, departure: int) -> None:
        """Take note that all of a guest is on its way."""
        self._unsent.discard(departure)
        self._tell()

    def ends(self, departure: int) -> None:
        """Take note that a guest runs again, wherever that is."""
        self._since.pop(departure, None)
        self.all_is_sent(departure)

    async def of_others(self, departure: int) -> None:
        """Wait until no other guest stands still; one that does so itself needn't wait."""
        await self._wait_for(self._since, departure)

    async def until_others_are_sent(self, departure: int) -> None:
        """Wait until all of those that stand still is on its way; one that does so itself needn't wait."""
        await self._wait_for(self._unsent, departure)

    async def _wait_for(self, those: Collection[int], departure: int) -> None:
        while departure not in self._since and (left := self._left_seconds(those)) > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    def _left_seconds(self, those: Collection[int]) -> float:
        if not those:
            return 0.0
        latest = max(self._since[each] for each in those)
        return latest + PATIENCE_SECONDS - asyncio.get_running_loop().time()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
