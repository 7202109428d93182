"""Finds a set of wishes that conflict, as small as can be: any one of them dropped, the others can hold.

By QuickXplain (Junker, AAAI 2004), which asks about k log(n/k) sets for a conflict of k among n wishes: first
of counting alone, in two orders, then of everything. Every set that is returned was proved to conflict as a
whole; it's called minimal only where an arrangement is known for each of its parts.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from transhume.plan.conflict.counting import contradictory
from transhume.plan.conflict.program import Answer, search
from transhume.plan.conflict.question import (
    Arrangement,
    Booleans,
    Question,
    narrowed,
    widened,
)

MOST_SEARCHES = 100
MOST_CELLS = 4_000_000
"""Kinds times places, summed up over all searches: what they may look at together."""
MOST_UNKNOWN = 4
"""Searches that may end without an answer; then only counting is asked."""

Indices = tuple[int, ...]
Test = Callable[[Indices], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Wishes that can't all hold."""

    wishes: Indices
    minimal: bool
    """True only where it's known that any one of them dropped, the others can hold."""


def smallest_conflict(question: Question, known: Iterable[Arrangement] = ()) -> Found | None:
    """Return wishes that conflict; None where all can hold, or where nobody can tell.

    Args:
        question: about which wishes.
        known: arrangements that may keep some of them; each saves searching.
    """
    judge = _Judge(question=question, kept=[question.kept(each) for each in known])
    everything = tuple(range(len(question.wishes)))
    if judge.answer(everything) is not Answer.CONTRADICTS:
        return None
    return judge.narrowed(judge.counted(everything))


@dataclass(kw_only=True)
class _Judge:
    """Answers whether wishes conflict, and remembers."""

    question: Question
    kept: list[Booleans]
    """For each arrangement seen, which wishes it keeps."""
    searches: int = 0
    cells: int = 0
    unknown: int = 0
    known: dict[Indices, Answer] = field(default_factory=dict)

    def answer(self, chosen: Indices) -> Answer:
        chosen = tuple(sorted(chosen))
        if any(kept[list(chosen)].all() for kept in self.kept):
            return Answer.HOLDS
        if chosen not in self.known:
            self.known[chosen] = self._find_out(chosen)
        return self.known[chosen]

    def conflict(self, chosen: Indices) -> bool:
        return self.answer(chosen) is Answer.CONTRADICTS

    def counted(self, everything: Indices) -> Indices:
        """Return the smallest conflict that counting sees, or everything where it sees none."""
        candidates = [everything]
        for order in (everything, everything[::-1]):
            if contradictory(self.question, everything):
                candidates.append(quick_explain(order, self._counting))
        return min((c for c in candidates if c == everything or self._counting(c)), key=len)

    def narrowed(self, conflict: Indices) -> Found:
        """Return what remains of a conflict when everything is taken out that isn't part of it."""
        smaller = quick_explain(conflict, self.conflict)
        remaining = smaller if self.conflict(smaller) else conflict
        minimal = True
        for wish in tuple(remaining):
            others = tuple(each for each in remaining if each != wish)
            answer = self.answer(others)
            if answer is Answer.CONTRADICTS:
                remaining = others
            minimal &= answer is not Answer.UNKNOWN
        return Found(wishes=tuple(sorted(remaining)), minimal=minimal)

    def _counting(self, chosen: Indices) -> bool:
        if any(kept[list(chosen)].all() for kept in self.kept):
            return False
        return contradictory(self.question, tuple(sorted(chosen)))

    def _find_out(self, chosen: Indices) -> Answer:
        if contradictory(self.question, chosen):
            return Answer.CONTRADICTS
        asked, kind = narrowed(self.question, chosen)
        if (
            self.searches >= MOST_SEARCHES
            or self.cells + asked.free.size > MOST_CELLS
            or self.unknown >= MOST_UNKNOWN
        ):
            return Answer.UNKNOWN
        self.searches += 1
        self.cells += asked.free.size
        answer, arrangement = search(asked)
        self.unknown += answer is Answer.UNKNOWN
        if arrangement is not None:
            self.kept.append(self.question.kept(widened(arrangement, kind, self.question)))
        return answer


def quick_explain(candidates: Sequence[int], conflict: Test) -> Indices:
    """Return members of a conflicting set that conflict by themselves; of early ones rather than late ones."""

    def explain(background: Indices, grown: bool, left: Indices) -> Indices:
        if grown and conflict(background):
            return ()
        if len(left) <= 1:
            return left
        half = len(left) // 2
        first, second = left[:half], left[half:]
        of_second = explain(background + first, bool(first), second)
        return explain(background + of_second, bool(of_second), first) + of_second

    return explain((), False, tuple(candidates))


def arrangement_of(kind: np.ndarray, places: int, assignment: np.ndarray) -> Arrangement:
    """Return the arrangement that an assignment of VMs to places makes, given each VM's kind."""
    arrangement = np.zeros((int(kind.max(initial=-1)) + 1, places), dtype=np.int64)
    np.add.at(arrangement, (kind, assignment), 1)
    return arrangement
