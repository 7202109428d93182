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
"""So long after the last news of a guest nobody waits for it any more: its hypervisor may have failed."""
LONGEST_SECONDS = 15.0
"""So long after the first news nobody does, whatever else comes of it: its hypervisor may be lying."""


class Standstill:
    """Those of one link, by the numbers of their departures."""

    def __init__(self) -> None:
        self._heard_at: dict[int, float] = {}
        self._began_at: dict[int, float] = {}
        """Also of those that have gone on since."""
        self._unsent: set[int] = set()
        """Those of which there is more to be sent."""
        self._changed = asyncio.Event()

    def __contains__(self, departure: int) -> bool:
        return departure in self._heard_at

    def begins(self, departure: int) -> None:
        """Take note that a guest has stopped, or that more of one that has is read or sent."""
        known, now = departure in self, asyncio.get_running_loop().time()
        self._heard_at[departure] = now
        self._began_at.setdefault(departure, now)
        self._unsent.add(departure)
        if not known:
            self._tell()

    def all_is_sent(self, departure: int) -> None:
        """Take note that all of a guest is on its way."""
        if departure in self._unsent:
            self._unsent.remove(departure)
            self._tell()

    def ends(self, departure: int) -> None:
        """Take note that a guest runs again, wherever that is."""
        if departure in self:
            del self._heard_at[departure]
            self._unsent.discard(departure)
            self._tell()

    def forget(self, departure: int) -> None:
        """Take note that nothing more comes of a departure."""
        self.ends(departure)
        self._began_at.pop(departure, None)

    async def of_others(self, departure: int) -> None:
        """Wait until no other guest stands still; one that does so itself needn't wait."""
        await self._wait_for(self._heard_at, departure)

    async def until_others_are_sent(self, departure: int) -> None:
        """Wait until all of those that stand still is on its way; one that does so itself needn't wait."""
        await self._wait_for(self._unsent, departure)

    def may_send(self, departure: int) -> bool:
        """Say whether all others that stand still are on their way, or needn't be waited for."""
        return self._left_seconds(self._unsent, departure) <= 0

    async def _wait_for(self, those: Collection[int], departure: int) -> None:
        while (left := self._left_seconds(those, departure)) > 0:
            with suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._changed.wait()

    def _left_seconds(self, those: Collection[int], departure: int) -> float:
        if departure in self or not those:
            return 0.0
        until = (
            min(self._heard_at[each] + PATIENCE_SECONDS, self._began_at[each] + LONGEST_SECONDS)
            for each in those
        )
        return max(until) - asyncio.get_running_loop().time()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()
