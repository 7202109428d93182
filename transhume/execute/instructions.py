"""The events that a step's transaction takes and the instructions that it gives: data, no behaviour."""

from dataclasses import dataclass

from transhume.execute.hypervisor.protocol import Whereabouts
from transhume.knowledge.model import CloudName, HostName, Measurement, Phase, StepResult

# --- events: what has happened -------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """The step is to be carried out from its beginning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """A step was found open in the journal; this is how far it had come."""

    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """The pre-checks are done; `obstacle` says what stands in the way, if anything."""

    obstacle: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The journal has made a phase durable."""

    phase: Phase


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrated:
    """The hypervisor says that the VM has moved."""

    measurement: Measurement


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationFailed:
    """The hypervisor says that the VM has not moved."""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Both hosts were asked for the VM."""

    whereabouts: Whereabouts


@dataclass(frozen=True, slots=True, kw_only=True)
class Repointed:
    """The overlay sends the VM's frames to a cloud, checked at every site; or says what is wrong."""

    faults: tuple[str, ...] = ()


Event = Begun | Resumed | Checked | Recorded | Migrated | MigrationFailed | Found | Repointed

# --- instructions: what to do next ---------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """Ask the hypervisors whether the move is possible now. Answered by `Checked`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Make a phase durable. Answered by `Recorded`, unless the phase is final."""

    phase: Phase
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Migrate:
    """Move the VM. Answered by `Migrated` or `MigrationFailed`."""

    source: HostName
    destination: HostName


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """Wait for a migration that somebody began, then look. Answered by `Found`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Ask both hosts for the VM. Answered by `Found`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResumeAt:
    """Let the paused VM run on at a host, then look. Answered by `Found`."""

    host: HostName


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscardAt:
    """End the paused copy at a host, then look. Answered by `Found`."""

    host: HostName


@dataclass(frozen=True, slots=True, kw_only=True)
class Repoint:
    """Point the overlay at a cloud, and check it everywhere. Answered by `Repointed`."""

    cloud: CloudName


@dataclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """The step has ended. Nothing follows."""

    result: StepResult
    why: str


Instruction = Check | Record | Migrate | Settle | Look | ResumeAt | DiscardAt | Repoint | Finish
