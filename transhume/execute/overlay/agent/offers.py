"""What a site has still to tell the register: of each address the newest, however long telling takes."""

import asyncio
from collections.abc import Iterable

from transhume.knowledge.model import Binding, MacAddress


class Offers:
    """Bindings that wait to be told: never more than there are addresses."""

    def __init__(self) -> None:
        self._waiting: dict[MacAddress, Binding] = {}
        self._any = asyncio.Event()

    def add(self, bindings: Iterable[Binding]) -> None:
        """Have bindings told; what they supersede needn't be any more."""
        for binding in bindings:
            if binding.supersedes(self._waiting.get(binding.mac)):
                self._waiting[binding.mac] = binding
        self._any.set()

    async def take(self) -> tuple[Binding, ...]:
        """Return all that waits, as soon as anything does; then nothing waits any more."""
        await self._any.wait()
        self._any.clear()
        waiting, self._waiting = self._waiting, {}
        return tuple(waiting.values())
