"""A plan as one transaction: which steps to start, and what to take back when one of them fails.

    elective plan   a step that fails takes its group with it: what has moved goes back, what hasn't stays
    mandatory       the rest goes on: a VM that can be saved is saved

Pure state: `ready()` says which steps may start now, `finished()` takes how one ended, `status()` says how the
whole stands. Steps are started stage by stage. The undoing of a done step is a step of its own, with its
own lines in the journal, so that a crash in the middle of it is like any other.
"""

from collections import Counter
from dataclasses import replace

from transhume.knowledge.model import (
    MoveKind,
    Plan,
    PlanStatus,
    Step,
    StepId,
    StepResult,
)

UNDO_SUFFIX = "~undo"
UNDO_ATTEMPTS = 3


def reversed_step(step: Step) -> Step:
    """Return the step that takes a done step back."""
    return replace(
        step,
        id=StepId(step.id + UNDO_SUFFIX),
        source=step.destination,
        destination=step.source,
        source_cloud=step.destination_cloud,
        destination_cloud=step.source_cloud,
        reason=f"undoes the move to {step.destination_cloud}",
        saving_dollars_per_hour=-step.saving_dollars_per_hour,
        payback_seconds=None,
        deadline=None,
    )


def step_of(plan: Plan, step_id: StepId) -> Step | None:
    """Return the step of a plan, or the undoing of one, that has this id."""
    wanted = step_id.removesuffix(UNDO_SUFFIX)
    found = next((step for step in plan.steps if step.id == wanted), None)
    return reversed_step(found) if found and wanted != step_id else found


class PlanTransaction:
    """The state of a plan that is being carried out.

    Args:
        plan: what to carry out.
        results: how steps ended before a crash; they aren't begun again.
    """

    def __init__(self, plan: Plan, results: dict[StepId, StepResult] | None = None) -> None:
        self.plan = plan
        self.results: dict[StepId, StepResult] = dict(results or {})
        self.running: set[StepId] = set()
        self.stopped = False
        self._attempts: Counter[StepId] = Counter()
        self._why_stopped = ""

    def ready(self) -> list[Step]:
        """Return the steps to start now: undoings first, else the earliest stage that isn't through."""
        undoings = [s for s in self._undoings() if self._to_undo(s)]
        if undoings:
            return [] if self.running else undoings[:1]
        waiting = [s for s in self.plan.steps if self._waits(s)]
        if self.stopped or not waiting:
            return []
        stage = min(step.stage for step in waiting)
        if any(s.id in self.running and s.stage < stage for s in self.plan.steps):
            return []
        return [step for step in waiting if step.stage == stage and step.id not in self.running]

    def begin(self, step: Step) -> None:
        """Note that a step has been started."""
        self.running.add(step.id)
        self._attempts[step.id] += 1

    def finished(self, step: Step, result: StepResult) -> None:
        """Note how a step ended."""
        self.running.discard(step.id)
        self.results[step.id] = result

    def stop(self, why: str) -> None:
        """Start no further step; those that run are finished."""
        self.stopped, self._why_stopped = True, why

    def left_out(self) -> list[tuple[Step, str]]:
        """Return the steps that were never begun and won't be, each with why."""
        return [
            (step, self._why_stopped if self.stopped else "a move of its group failed")
            for step in self.plan.steps
            if step.id not in self.results and step.id not in self.running
        ]

    def status(self) -> PlanStatus:
        """Say how the plan stands; `EXECUTING` as long as something runs or may still start.

        A plan is done where something of it stands; one of which every step was skipped is not.
        """
        if self.running or self.ready():
            return PlanStatus.EXECUTING
        in_vain = any(self.results.get(s.id) is not StepResult.DONE for s in self._undoings())
        if StepResult.FAILED in self.results.values() or in_vain:
            return PlanStatus.FAILED
        kept = any(
            self.results.get(step.id) is StepResult.DONE
            and self.results.get(reversed_step(step).id) is not StepResult.DONE
            for step in self.plan.steps
        )
        return PlanStatus.DONE if kept else PlanStatus.UNDONE

    def _to_undo(self, undoing: Step) -> bool:
        """Say whether an undoing is still to be done; one that a crash cut short is begun again."""
        result = self.results.get(undoing.id)
        again = result is StepResult.UNDONE and self._attempts[undoing.id] < UNDO_ATTEMPTS
        return result is None or again

    def _waits(self, step: Step) -> bool:
        return step.id not in self.results and not self._spoiled(step)

    def _spoiled(self, step: Step) -> bool:
        """Say whether another step's failure means that this one must not stand."""
        if step.kind is MoveKind.MANDATORY:
            return False
        return any(
            self.results.get(other.id) in (StepResult.UNDONE, StepResult.FAILED)
            for other in self.plan.steps
            if other.id != step.id and _same_fate(step, other)
        )

    def _undoings(self) -> list[Step]:
        return [
            reversed_step(step)
            for step in reversed(self.plan.steps)
            if self.results.get(step.id) is StepResult.DONE and self._spoiled(step)
        ]


def _same_fate(one: Step, other: Step) -> bool:
    return one.group is not None and one.group == other.group
