"""What plans of a replay have promised, kept as a daemon does: so that their effect is looked at (`after`)."""

from dataclasses import replace
from datetime import datetime

from transhume.knowledge.model import MoveKind, Plan, PlanId, PlanStatus
from transhume.loop import Decision
from transhume.plan.expectation import MOST_LOOKED_AT, Executed


class Promises:
    """The plans of elective moves that were carried out, the latest last."""

    def __init__(self) -> None:
        self._executed: dict[PlanId, Executed] = {}

    @property
    def executed(self) -> tuple[Executed, ...]:
        """The plans whose effect may be looked at, or which were taken back."""
        return tuple(self._executed.values())

    def heed(self, decision: Decision, at: datetime) -> None:
        """Note what was found of plans, and that one is being taken back."""
        for plan, effect in decision.effects:
            self._executed[plan] = replace(self._executed[plan], effect=effect)
        begun = decision.to_execute
        if begun is not None and begun.undoes in self._executed:
            self._executed[begun.undoes] = replace(self._executed[begun.undoes], undone_at=at)

    def ended(self, plan: Plan, status: PlanStatus, at: datetime) -> None:
        """Note how a plan ended."""
        if plan.undoes is not None:
            taken_back = self._executed.get(plan.undoes)
            if taken_back is not None:
                self._executed[plan.undoes] = replace(taken_back, undone_at=at)
            return
        elective = all(step.kind is MoveKind.ELECTIVE for step in plan.steps)
        if status is PlanStatus.DONE and elective:
            self._executed[plan.id] = Executed(plan=plan, ended_at=at)
            while len(self._executed) > MOST_LOOKED_AT:
                del self._executed[next(iter(self._executed))]
