"""What the store keeps beside the model: who runs, what was asked for, what changed, which policies hold.

These records are about running Transhume, not about clouds and VMs, and nothing is planned from them.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from transhume.knowledge.model import NoPlan, Plan, PlanId, PlanStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long the store remembers what happened."""

    windows: timedelta = timedelta(hours=1)
    symptoms: timedelta = timedelta(days=30)
    outcomes: timedelta = timedelta(days=90)
    plans: timedelta = timedelta(days=90)
    """With their journals."""
    commands: timedelta = timedelta(days=1)
    changes: timedelta = timedelta(hours=1)


class ChangeKind(StrEnum):
    """What a change was about."""

    FEDERATION = "federation"
    INVENTORY = "inventory"
    PRICE = "price"
    NOTICE = "notice"
    PROGRESS = "progress"
    WARMTH = "warmth"
    DIRTY_RATES = "dirty-rates"
    DISK_USE = "disk-use"
    WINDOW = "window"
    MATRIX = "matrix"
    GROUPS = "groups"
    SYMPTOM = "symptom"
    PLAN = "plan"
    JOURNAL = "journal"
    OUTCOME = "outcome"
    POLICIES = "policies"
    COMMAND = "command"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something in the knowledge is not as it was. `id` is where to read on from."""

    id: str
    kind: ChangeKind
    subject: str
    """The name of the cloud, job, plan … ; "" where it is about more than one."""


class CommandKind(StrEnum):
    """What a person can ask of a running daemon."""

    APPROVE = "approve"
    APPLY = "apply"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A person's wish. `subject` is the plan's id, or "" where there is none."""

    kind: CommandKind
    at: datetime
    subject: str = ""
    by: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentCommand:
    """A command on its way; `id` tells `Store.finish_command` which one was carried out."""

    id: str
    command: Command


BEGUN = (PlanStatus.EXECUTING, PlanStatus.DONE, PlanStatus.UNDONE, PlanStatus.FAILED)
"""What a plan is that was ever begun."""


class Effect(StrEnum):
    """What was found when a plan's effect was looked at, once."""

    AS_EXPECTED = "as-expected"
    MISSED = "missed"
    """It hasn't come about, and the plan is to be undone."""
    KEPT = "kept"
    """It hasn't come about, and the plan stands all the same."""
    OVERTAKEN = "overtaken"
    """Its VMs have moved on: there is nothing to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A decision as the store keeps it. A `NoPlan` has neither id nor status, and only the last is kept."""

    plan: Plan | NoPlan
    id: PlanId | None = None
    status: PlanStatus | None = None
    since: datetime | None = None
    """When it reached its status."""
    effect: Effect | None = None
    """None as long as nobody has looked at its effect."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonStatus:
    """The heartbeat of a daemon."""

    pid: int
    holder: str
    mode: str
    started_at: datetime
    at: datetime
    """When the heart last beat."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """A policy that is in force, and where it was read."""

    name: str
    source: str
    mode: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoliciesStatus:
    """The policies in force, and what was wrong with files that were refused (`file:line:column: …`)."""

    at: datetime
    in_force: tuple[PolicyFile, ...] = ()
    rejected: tuple[str, ...] = field(default_factory=tuple)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordingStatus:
    """Where a daemon records what it knows."""

    folder: str
    """The traces are in it."""
    trace: str
    """The folder of the one that grows now."""
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowStatus:
    """What policies would have done that aren't in force, beside those that are."""

    at: datetime
    trace: str
    """The folder of what they were replayed over."""
    policies: tuple[str, ...]
    """The files and folders that were replayed."""
    report: str = ""
    """What `transhume replay --json` printed; the last time that it went well."""
    refused: tuple[str, ...] = ()
    """What is wrong with those that weren't (`file:line:column: …`)."""
    why: str = ""
    """Why the last comparison didn't come about; empty where it did."""
