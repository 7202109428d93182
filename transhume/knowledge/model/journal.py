"""The phases of a step as the journal keeps them: each record is durable before the effect that follows it."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from transhume.knowledge.model.decision import Transfer
from transhume.knowledge.model.names import PlanId, StepId, VmName


class Phase(StrEnum):
    """How far a step has come. The executor writes a phase, then acts on it."""

    INTENDED = "intended"
    """The pre-checks passed; the migration is about to start."""
    MOVED = "moved"
    """The hypervisor says that the VM runs at the destination; that is about to be verified."""
    VERIFIED = "verified"
    """The VM runs there and nowhere else; the overlay is about to be re-pointed."""
    REPOINTED = "repointed"
    """Every cloud's overlay sends frames to the destination; about to be verified and committed."""
    COMMITTED = "committed"
    UNDOING = "undoing"
    """Something failed: the overlay and, where it had gone, the VM are about to be put back."""
    UNDONE = "undone"
    SKIPPED = "skipped"
    FAILED = "failed"
    """Not undone either: a person has to look."""

    @property
    def final(self) -> bool:
        """True where nothing is left to do."""
        return self in (Phase.COMMITTED, Phase.UNDONE, Phase.SKIPPED, Phase.FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class JournalRecord:
    """One durable line: this step of this plan has reached this phase."""

    plan: PlanId
    step: StepId
    vm: VmName
    phase: Phase
    at: datetime
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveProgress:
    """How a running migration is doing, as the hypervisor tells."""

    plan: PlanId
    step: StepId
    vm: VmName
    at: datetime
    bytes_sent: int
    bytes_remaining: int
    bytes_per_second: float
    dirty_bytes_per_second: float
    transfer: Transfer | None = None
    """What became of the bytes so far, where gateways carry them."""
    rounds: int | None = None
    """For which time the hypervisor goes through the memory, where it tells."""
