"""What is to happen when: a world's calendar.

At one instant, what happens by itself comes before what is decided.
"""

import heapq
from collections.abc import Callable
from datetime import datetime
from itertools import count

Action = Callable[[datetime], None]
_BY_ITSELF, _DECIDED = 0, 1


class Agenda:
    """Instants with what is to be done then, in order."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, int, Action]] = []
        self._number = count()
        self._decisions: set[datetime] = set()

    def happens(self, at: datetime, action: Action) -> None:
        """Note something that happens by itself."""
        heapq.heappush(self._heap, (at, _BY_ITSELF, next(self._number), action))

    def decide(self, at: datetime, action: Action) -> None:
        """Note that there may be something to decide; once for each instant."""
        if at not in self._decisions:
            self._decisions.add(at)
            heapq.heappush(self._heap, (at, _DECIDED, next(self._number), action))

    def before(self, until: datetime, *, decisions: bool) -> "tuple[datetime, Action] | None":
        """Take off what comes next before an instant, or at it: by itself, and a decision if so wanted."""
        if not self._heap:
            return None
        at, kind, _, action = self._heap[0]
        if (at, kind) > (until, _DECIDED if decisions else _BY_ITSELF):
            return None
        heapq.heappop(self._heap)
        if kind == _DECIDED:
            self._decisions.discard(at)
        return at, action
