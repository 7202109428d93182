"""One move as a transaction: a state machine that is given events and answers with instructions.

    Check ─> INTENDED ─> Migrate ─> MOVED ─> Look ─> VERIFIED ─> Repoint ─> REPOINTED ─> COMMITTED
                             │                 │                    │
                             └── still at the source ── Repoint ────┼──────────────────> UNDONE
                                                                    └─ UNDOING ─ Migrate back ─┘

Owns the order of effects and what a crash between any two of them means; does nothing itself (`executor` does).
Whatever has happened, the machine goes by where the VM *is* (`Look`), not by what it was told.
"""

from typing import assert_never

from transhume.execute.hypervisor.protocol import Seen, Whereabouts
from transhume.execute.instructions import (
    Begun,
    Check,
    Checked,
    DiscardAt,
    Event,
    Finish,
    Found,
    Instruction,
    Look,
    Migrate,
    Migrated,
    MigrationFailed,
    Record,
    Recorded,
    Repoint,
    Repointed,
    ResumeAt,
    Resumed,
    Settle,
)
from transhume.knowledge.model import Measurement, Phase, Step, StepResult

UNDO_ATTEMPTS = 3
REMEDIES = 3


class StepTransaction:
    """The state of one step's move."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.phase: Phase | None = None
        self.measurement: Measurement | None = None
        self.trouble = ""
        self._undo_attempts = 0
        self._remedies = 0

    def check_invariants(self) -> None:
        """Raise when the state contradicts itself; tests call it after every event."""
        if self.phase in (Phase.UNDOING, Phase.UNDONE, Phase.FAILED) and not self.trouble:
            raise AssertionError(f"{self.phase} without a reason")
        if self._undo_attempts > UNDO_ATTEMPTS or self._remedies > REMEDIES:
            raise AssertionError("went on trying beyond its limit")

    def handle(self, event: Event) -> list[Instruction]:
        """Take what has happened and return what to do next, in order."""
        match event:
            case Begun():
                return [Check()]
            case Resumed(phase=phase):
                self.phase = phase
                self.trouble = f"interrupted when the step was {phase}"
                return [Settle()]
            case Checked(obstacle=obstacle):
                if obstacle is not None:
                    return self._end(Phase.SKIPPED, obstacle)
                return [Record(phase=Phase.INTENDED)]
            case Recorded(phase=phase):
                return self._after_record(phase)
            case Migrated(measurement=measurement):
                return self._after_migration(measurement)
            case MigrationFailed(why=why):
                self.trouble = why
                return [Settle()]
            case Found(whereabouts=whereabouts):
                return self._after_look(whereabouts)
            case Repointed(faults=faults):
                return self._after_repoint(faults)
            case _:
                assert_never(event)

    def _after_record(self, phase: Phase) -> list[Instruction]:
        self.phase = phase
        match phase:
            case Phase.INTENDED:
                return [Migrate(source=self.step.source, destination=self.step.destination)]
            case Phase.MOVED | Phase.UNDOING:
                return [Look()]
            case Phase.VERIFIED:
                return [Repoint(cloud=self.step.destination_cloud)]
            case Phase.REPOINTED:
                return self._end(Phase.COMMITTED, "")
            case _:
                return []

    def _after_migration(self, measurement: Measurement) -> list[Instruction]:
        if self.phase is Phase.UNDOING:
            return [Look()]
        self.measurement = measurement
        return [Record(phase=Phase.MOVED)]

    def _after_look(self, seen: Whereabouts) -> list[Instruction]:
        step = self.step
        match (seen.source, seen.destination):
            case (Seen.STRANDED, _) | (_, Seen.STRANDED):
                return self._fail(
                    f"the migration of {step.vm} broke in post-copy: {step.source} and {step.destination} "
                    f"each have a part of its memory, and nothing was touched; end neither copy, and resume "
                    f"it by `virsh migrate --postcopy --postcopy-resume` (see docs/when-things-fail.md)"
                )
            case _ if seen.migrating:
                return [Settle()]
            case (Seen.ABSENT, Seen.RUNNING):
                return self._at_destination()
            case (Seen.RUNNING, Seen.ABSENT):
                return self._at_source()
            case (Seen.PAUSED, Seen.RUNNING):
                return self._remedy(DiscardAt(host=step.source))
            case (Seen.RUNNING, Seen.PAUSED):
                return self._remedy(DiscardAt(host=step.destination))
            case (Seen.PAUSED, Seen.ABSENT | Seen.PAUSED):
                # Where both are paused only the source is known to be whole.
                return self._remedy(ResumeAt(host=step.source))
            case (Seen.ABSENT, Seen.PAUSED):
                return self._remedy(ResumeAt(host=step.destination))
            case (Seen.RUNNING, Seen.RUNNING):
                return self._fail(f"{step.vm} runs at both {step.source} and {step.destination}")
            case _:
                return self._fail(f"{step.vm} runs at neither {step.source} nor {step.destination}")

    def _at_destination(self) -> list[Instruction]:
        match self.phase:
            case Phase.INTENDED:
                return [Record(phase=Phase.MOVED)]
            case Phase.MOVED:
                return [Record(phase=Phase.VERIFIED)]
            case Phase.UNDOING:
                return self._move_back()
            case _:
                return [Repoint(cloud=self.step.destination_cloud)]

    def _at_source(self) -> list[Instruction]:
        if self.phase is Phase.UNDOING:
            return [Repoint(cloud=self.step.source_cloud)]
        self.trouble = self.trouble or f"{self.step.vm} is still at {self.step.source}"
        return [Record(phase=Phase.UNDOING, note=self.trouble)]

    def _move_back(self) -> list[Instruction]:
        if self._undo_attempts == UNDO_ATTEMPTS:
            return self._fail(f"{self.trouble}; moving back failed {UNDO_ATTEMPTS} times")
        self._undo_attempts += 1
        return [Migrate(source=self.step.destination, destination=self.step.source)]

    def _remedy(self, instruction: DiscardAt | ResumeAt) -> list[Instruction]:
        if self._remedies == REMEDIES:
            return self._fail(f"{self.step.vm} stays paused at {instruction.host}")
        self._remedies += 1
        return [instruction]

    def _after_repoint(self, faults: tuple[str, ...]) -> list[Instruction]:
        if self.phase is Phase.UNDOING:
            if faults:
                return self._fail(f"{self.trouble}; and back at the source: {'; '.join(faults)}")
            return self._end(Phase.UNDONE, self.trouble)
        if faults and self.step.deadline is not None:
            # Back into a cloud that is about to go would be worse; the overlay is mended in later rounds.
            return self._end(Phase.COMMITTED, "; ".join(faults))
        if faults:
            self.trouble = "; ".join(faults)
            return [Record(phase=Phase.UNDOING, note=self.trouble)]
        if self.phase is Phase.REPOINTED:
            return self._end(Phase.COMMITTED, "")
        return [Record(phase=Phase.REPOINTED)]

    def _fail(self, why: str) -> list[Instruction]:
        self.trouble = why
        return self._end(Phase.FAILED, why)

    def _end(self, phase: Phase, why: str) -> list[Instruction]:
        self.phase = phase
        self.trouble = why
        return [Record(phase=phase, note=why), Finish(result=RESULTS[phase], why=why)]


RESULTS = {
    Phase.COMMITTED: StepResult.DONE,
    Phase.UNDONE: StepResult.UNDONE,
    Phase.SKIPPED: StepResult.SKIPPED,
    Phase.FAILED: StepResult.FAILED,
}
