"""A plan as one transaction: which steps to start, and what to take back when one of them fails.

    elective plan   a step that fails takes its group with it: what has moved goes back, what hasn't stays
    mandatory       the rest goes on, before others are taken back: a VM that can be saved is saved
    parked VM       an elective one goes on to its destination or goes back, whatever happens, a stop included
    notice          who has left a host that is about to go stays where it is: back there it would be lost;
                    nobody is sent to one that goes no later than what he flees; and nothing more is begun but
                    what flees in time, and what that needs: others have to flee, too

A step starts when what it waits for has ended, undoings of that too, and only if what it relies on was done
(`Step.relies_on`): a VM that didn't leave has left no room. What relies on an elective step that is taken back
is taken back before it.

Pure state: `ready()` says which steps may start now, `finished()` takes how one ended, `status()` says how the
whole stands. The undoing of a done step is a step of its own, with its own lines in the journal, so that a
crash in the middle of it is like any other. Undoings go through the plan in reverse, one at a time.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from transhume.knowledge.model import (
    GroupId,
    HostName,
    MoveKind,
    Plan,
    PlanStatus,
    Step,
    StepId,
    StepResult,
    VmName,
)
from transhume.knowledge.model.undoing import UNDO_SUFFIX, reversed_step

UNDO_ATTEMPTS = 3


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
        self._flees = False
        """Whether it's stopped but for what flees."""
        self._fleeing = self._needed_by(s.id for s in plan.steps if s.deadline is not None)
        self._gone_at: dict[HostName, datetime] = {}
        """When each shunned host will be gone."""
        self._waits_for = _waits_for(plan)
        self._mates: dict[GroupId, list[Step]] = defaultdict(list)
        self._onward: dict[StepId, Step] = {}
        """The second step of each VM that is parked, by its first."""
        latest: dict[VmName, Step] = {}
        for step in plan.steps:
            if step.group is not None:
                self._mates[step.group].append(step)
            if step.vm in latest:
                self._onward[latest[step.vm].id] = step
            latest[step.vm] = step

    def ready(self) -> list[Step]:
        """Return the steps to start now: all that wait for nothing any more, and undoings before elective ones.

        Who must move doesn't wait until others are back where they were, unless it's for their room.
        """
        verdict = self._verdict()
        over = self.results.keys() | verdict.lost
        settled = over - {StepId(step.removesuffix(UNDO_SUFFIX)) for step in self.running}
        free = [
            step
            for step in self.plan.steps
            if step.id not in over and step.id not in self.running
            if self._waits_for[step.id] <= settled and (not self.stopped or self._goes_on(step))
        ]
        undoings = [s for s in self._undoings() if self._to_undo(s)]
        if not undoings:
            return free
        spoiled = self._relying_on(verdict.spoiled)
        needed = [s for s in free if s.kind is MoveKind.MANDATORY and s.id not in spoiled]
        return needed or ([] if self.running else undoings[:1])

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
        self.stopped, self._why_stopped, self._flees = True, why, False

    def make_way(self, why: str) -> None:
        """Start no further step but those that have to be made in time, and what they rely on."""
        if not self.stopped:
            self.stopped, self._why_stopped, self._flees = True, why, True

    def shun(self, gone_at: Mapping[HostName, datetime]) -> None:
        """Take nobody back to these hosts from now on, nor into the room of who has left them.

        Nobody is sent there but who leaves a host that will be gone before.
        """
        self._gone_at = dict(gone_at)

    def left_out(self) -> list[tuple[Step, str]]:
        """Return the steps that were never begun and won't be, each with why."""
        return [
            (step, self._why_left_out(step))
            for step in self.plan.steps
            if step.id not in self.results and step.id not in self.running
        ]

    def status(self) -> PlanStatus:
        """Say how the plan stands; `EXECUTING` as long as something runs or may still start.

        A plan is done where something of it stands; one of which every step was skipped is not.
        """
        if self.running or self.ready():
            return PlanStatus.EXECUTING
        stuck = any(self._is_stuck(step.id) for step in self.plan.steps)
        if StepResult.FAILED in self.results.values() or stuck:
            return PlanStatus.FAILED
        kept = any(
            self.results.get(step.id) is StepResult.DONE
            and self.results.get(reversed_step(step).id) is not StepResult.DONE
            for step in self.plan.steps
        )
        return PlanStatus.DONE if kept else PlanStatus.UNDONE

    def _relying_on(self, steps: Collection[StepId]) -> set[StepId]:
        """Return these steps, and all that rely on any of them, by however many others."""
        found, known = set(steps), -1
        while known < (known := len(found)):
            found.update(s.id for s in self.plan.steps if not found.isdisjoint(s.relies_on))
        return found

    def _needed_by(self, steps: Iterable[StepId]) -> set[StepId]:
        """Return these steps, and all that any of them relies on, by however many others."""
        found, known = set(steps), -1
        while known < (known := len(found)):
            found.update(*(s.relies_on for s in self.plan.steps if s.id in found))
        return found

    def _to_undo(self, undoing: Step) -> bool:
        """Say whether an undoing is still to be done; one that a crash cut short is begun again."""
        return undoing.id not in self.results or self._may_be_tried_again(undoing.id)

    def _is_stuck(self, step: StepId) -> bool:
        """Say whether a step stands because its undoing was in vain."""
        undoing = StepId(step + UNDO_SUFFIX)
        ended = undoing in self.results and not self._may_be_tried_again(undoing)
        return ended and self._stands(step)

    def _may_be_tried_again(self, undoing: StepId) -> bool:
        result = self.results.get(undoing)
        return result is StepResult.UNDONE and self._attempts[undoing] < UNDO_ATTEMPTS

    def _kept(self) -> frozenset[StepId]:
        """Return the steps that stay: those that have left a shunned host, and whatever any of them relies on.

        What mandatory moves rely on stays as well: going back would be at their cost. So does what those rely
        on that failed, or can't be taken back: they are where it would go, or may be.
        """
        steps = self.plan.steps
        begun = [s for s in steps if s.id in self.running or self._stands(s.id)]
        failed = [s for s in steps if self.results.get(s.id) is StepResult.FAILED]
        staying = {s.id for s in begun if s.kind is MoveKind.MANDATORY or self._is_stuck(s.id)}
        kept = {step.id for step in begun if step.source in self._gone_at}
        known = -1
        while known < (known := len(kept)):
            # Who was parked after that isn't taken back to parking.
            kept |= {self._onward[step].id for step in kept & self._onward.keys()}
            relying = [step for step in begun if step.id in kept | staying]
            kept = kept.union(*(step.relies_on for step in (*relying, *failed)))
        return frozenset(kept)

    def _goes_on(self, step: Step) -> bool:
        """Say whether a step is begun even when others aren't any more.

        It takes a parked VM on; or it flees, or is needed for that, where others only make way.
        """
        return (self._flees and step.id in self._fleeing) or any(
            onward.id == step.id and self._stands(first) for first, onward in self._onward.items()
        )

    def _stands(self, step: StepId) -> bool:
        """Say whether a step was done and hasn't been taken back."""
        undone = self.results.get(StepId(step + UNDO_SUFFIX)) is StepResult.DONE
        return self.results.get(step) is StepResult.DONE and not undone

    def _in_vain(self, step: StepId) -> bool:
        """Say whether a step has ended, and whoever relies on it can't; also where its undoing failed."""
        failed = self.results.get(StepId(step + UNDO_SUFFIX)) is StepResult.FAILED
        return step in self.results and (failed or not self._stands(step))

    def _verdict(self) -> "_Verdict":
        """Draw the conclusions from how steps have ended, until no more follow."""
        verdict = _Verdict(spoiled=set(), lost=set(), kept=self._kept())
        known = -1
        while known < (known := len(verdict.spoiled) + len(verdict.lost)):
            for step in self.plan.steps:
                if step.id not in verdict.lost and self._is_lost(step, verdict):
                    verdict.lost.add(step.id)
                if step.id not in verdict.spoiled and self._is_spoiled(step, verdict):
                    verdict.spoiled.add(step.id)
        return verdict

    def _is_lost(self, step: Step, verdict: "_Verdict") -> bool:
        if step.id in self.results or step.id in self.running:
            return False
        if step.id in verdict.spoiled or self._leads_nowhere(step):
            return True
        return any(other in verdict.lost or self._in_vain(other) for other in step.relies_on)

    def _leads_nowhere(self, step: Step) -> bool:
        """Say whether a step's destination will be gone no later than what the VM flees."""
        gone_at = self._gone_at.get(step.destination)
        return gone_at is not None and (step.deadline is None or gone_at <= step.deadline)

    def _is_spoiled(self, step: Step, verdict: "_Verdict") -> bool:
        if step.kind is MoveKind.MANDATORY or step.id in verdict.kept:
            return False
        onward = self._onward.get(step.id)
        return (
            any(other in verdict.spoiled for other in step.relies_on)
            or (onward is not None and self._strands(step, onward, verdict))
            or any(
                other.id in verdict.spoiled
                or (self._in_vain(other.id) and self.results[other.id] is not StepResult.SKIPPED)
                for other in self._mates.get(step.group or GroupId(""), ())
                if other.id != step.id
            )
        )

    def _strands(self, first: Step, onward: Step, verdict: "_Verdict") -> bool:
        """Say whether the second step of a parked VM won't be made, so that the first must not stand."""
        if onward.id in verdict.lost or self._in_vain(onward.id):
            return True
        idle = self.stopped and not self.running and onward.id not in self.results
        idle = idle and not self._flight_goes_on(verdict)
        parked = idle and self._stands(first.id)
        return parked and not self._waits_for[onward.id] <= self.results.keys()

    def _flight_goes_on(self, verdict: "_Verdict") -> bool:
        """Say whether a step that flees, or is needed for that, may be begun now."""
        over = self.results.keys() | verdict.lost
        return self._flees and any(self._waits_for[s] <= over for s in self._fleeing - over)

    def _undoings(self) -> list[Step]:
        spoiled = self._verdict().spoiled
        return [
            reversed_step(step)
            for step in reversed(self.plan.steps)
            if self.results.get(step.id) is StepResult.DONE and step.id in spoiled
        ]

    def _why_left_out(self, step: Step) -> str:
        if self.stopped and not (self._flees and step.id in self._fleeing):
            return self._why_stopped
        if step.id in self._verdict().spoiled:
            return "a move of its group failed"
        if self._leads_nowhere(step):
            return f"{step.destination} is about to go as well"
        return "a move that it relies on wasn't made"


@dataclass(frozen=True, slots=True)
class _Verdict:
    """What follows from how steps have ended."""

    spoiled: set[StepId]
    """Elective steps that must not stand: another of the group failed or is taken back, the second step of a
    parked VM can't be made, or what they rely on is taken back."""
    kept: frozenset[StepId]
    """Steps that stand whatever happens: back they would be lost, or be at the cost of others."""
    lost: set[StepId]
    """Steps that were never begun and won't be: they're spoiled, they lead to where everybody has to leave, or
    what they rely on wasn't done."""


def _waits_for(plan: Plan) -> dict[StepId, frozenset[StepId]]:
    """Return what must have ended before each step: all earlier stages, where the plan names nothing."""
    if any(step.after or step.relies_on for step in plan.steps):
        return {step.id: frozenset((*step.after, *step.relies_on)) for step in plan.steps}
    return {
        step.id: frozenset(other.id for other in plan.steps if other.stage < step.stage)
        for step in plan.steps
    }
