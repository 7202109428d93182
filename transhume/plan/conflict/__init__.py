"""Says what can't all hold: rules, notices, capacities and limits that conflict, as few of them as it can.

Asked only where a plan leaves something broken. Counting answers most questions at once; for the rest HiGHS
looks for an arrangement. It knows clouds, not hosts, and no order of moves: what those rule out comes from the
planner, as bans.
"""

from collections.abc import Iterable, Mapping

from transhume.knowledge.model import Conflict
from transhume.plan.conflict.question import gather
from transhume.plan.conflict.reading import read_wishes
from transhume.plan.conflict.smallest import arrangement_of, smallest_conflict
from transhume.plan.constraints import Assignment
from transhume.plan.money import Bill
from transhume.plan.rules import Ruling
from transhume.plan.situation import Situation

__all__ = ["find_conflict"]


def find_conflict(
    situation: Situation,
    bill: Bill,
    ruling: Ruling,
    *,
    bans: Mapping[tuple[int, int], str],
    tried: Iterable[Assignment] = (),
) -> Conflict | None:
    """Return what can't all hold in a situation; None where all can, or where that couldn't be told.

    Args:
        situation: VMs, places and policies.
        bill: what moves take.
        ruling: what is broken.
        bans: places that turned out to be impossible for a VM, with why.
        tried: assignments that keep some of what is wanted: they save searching.
    """
    question, kind = gather(read_wishes(situation, bill, ruling, bans))
    known = [
        arrangement_of(kind, len(situation.places), assignment)
        for assignment in (situation.home, *tried)
    ]
    found = smallest_conflict(question, known)
    if found is None:
        return None
    return Conflict(
        members=tuple(question.wishes[wish].member for wish in found.wishes),
        minimal=found.minimal,
    )
