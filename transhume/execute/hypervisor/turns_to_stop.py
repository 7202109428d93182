"""Whose guest may be stopped next, of those that move over the same link at the same time. Pure.

Each may be stopped as soon as the rest of its memory crosses within its limit, if the link carries nothing
else. Several at once have only a part of it each, and of the processors at its ends, and stand still for
longer than they may. So they are let go one after the other, who asked first before the others, and whoever
waits is held off until then.

Nobody waits for ever: who is let go and isn't through soon, because its hypervisor thinks otherwise, keeps its
limit, and has the next one beside it. Nothing of this outlives the process: whoever takes up its work lets go
of the hypervisors that it has held off.
"""

from transhume.execute.migration.transport import Link

PATIENCE_SECONDS = 3.0
"""How much longer than it may stand still a guest that is let go may take to get through."""
_ABSENT_SECONDS = 1.0
"""Who hasn't asked for so long is waited for by nobody: its hypervisor doesn't answer."""


class TurnsToStop:
    """The moves that want to stop their guests, by link."""

    def __init__(self) -> None:
        self.asking: list[Turn] = []
        """Who was let go, or waits for that, in the order in which they asked first."""

    def join(self, link: Link | None, limit_seconds: float) -> "Turn":
        """Have a move that goes over a link; it doesn't ask for anything yet.

        Args:
            link: None: over one of its own, where it waits for nobody.
            limit_seconds: how long its guest may stand still.
        """
        return Turn(self, link, limit_seconds)


class Turn:
    """One move's."""

    def __init__(self, turns: TurnsToStop, link: Link | None, limit_seconds: float) -> None:
        self._turns, self._link = turns, link
        self._patience_seconds = PATIENCE_SECONDS + limit_seconds
        self._asked = 0.0
        self._let_go: float | None = None

    def may_stop(self, now: float, *, fits: bool, stands_still: bool = False) -> bool:
        """Say whether its guest may be stopped now. To be asked again and again, until the move has ended.

        Args:
            now: monotonic seconds, of one clock for all moves.
            fits: whether what is left crosses within the limit; where it doesn't, or doesn't any more, the move
                neither has a turn nor waits for one.
            stands_still: whether the guest has been stopped already: the turn of one that was let go goes on.
        """
        if not fits and not (stands_still and self._let_go is not None):
            self.end()
            return False
        if self._link is None:
            return True
        self._asked = now
        if self not in self._turns.asking:
            self._turns.asking.append(self)
        if self._let_go is None and self._is_free(now):
            self._let_go = now
        return self._let_go is not None

    def end(self) -> None:
        """Let the next one stop."""
        self._let_go = None
        if self in self._turns.asking:
            self._turns.asking.remove(self)

    def _is_free(self, now: float) -> bool:
        asking = [each for each in self._turns.asking if each._link == self._link]
        before = asking[: asking.index(self)]
        return not any(each._takes(now) for each in asking) and not any(
            each._waits(now) for each in before
        )

    def _takes(self, now: float) -> bool:
        return self._let_go is not None and now - self._let_go < self._patience_seconds

    def _waits(self, now: float) -> bool:
        return self._let_go is None and now - self._asked < _ABSENT_SECONDS
