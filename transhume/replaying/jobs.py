"""Jobs with deadlines in a replay: how far they are, when they stood still, and whether they were in time.

A job works while all its VMs run, at its recorded pace, or at the pace that its policy's `work` says. It stands
still while a VM of it is down, and for the changeover of each of its moves: what the policy says, or else as
long as the move takes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from transhume.knowledge.model import JobName, VmName
from transhume.policies.model import DeadlineGoal


@dataclass(slots=True, kw_only=True)
class JobState:
    """A job, and how far it is."""

    name: str
    """The job's name, or the policy's where it gives none."""
    goal: DeadlineGoal
    members: frozenset[VmName]
    done: float = 0.0
    """The share of the whole."""
    held_until: datetime | None = None
    """It stands still until then."""
    down: set[VmName] = field(default_factory=set)
    finished_at: datetime | None = None
    halted_seconds: float = 0.0

    def move_begins(self, vm: VmName, at: datetime, move_seconds: float) -> None:
        """Take note of a move of one of the job's VMs; moves at one time hold it up one after the other."""
        if vm not in self.members or self.finished_at is not None:
            return
        lasts = self.goal.changeover_seconds
        seconds = move_seconds if lasts is None else lasts
        begins = max(at, self.held_until) if self.held_until else at
        self.held_until = begins + timedelta(seconds=seconds)

    def pass_time(self, since: datetime, until: datetime, paces: Mapping[JobName, float]) -> None:
        """Let the job work from one instant to another, in which nothing else happens."""
        if self.finished_at is not None:
            return
        begins = since
        if self.down & self.members:
            begins = until
        elif self.held_until is not None and self.held_until > since:
            begins = min(until, self.held_until)
        self.halted_seconds += (begins - since).total_seconds()
        pace = self._pace(paces)
        seconds = (until - begins).total_seconds()
        left = 1.0 - self.done
        if left <= 1e-12:
            self.finished_at, self.done = since, 1.0
        elif pace > 0 and pace * seconds >= left - 1e-12:
            self.finished_at = begins + timedelta(seconds=left / pace)
            self.done = 1.0
        else:
            self.done += pace * seconds

    def late_seconds(self, end: datetime) -> float:
        """Return by how much the deadline was missed, as far as can be told at the end; 0 where it wasn't."""
        ended = self.finished_at or end
        return max(0.0, (ended - self.goal.at).total_seconds())

    def _pace(self, paces: Mapping[JobName, float]) -> float:
        known = paces.get(self.goal.progress_job) if self.goal.progress_job else None
        return 1.0 / max(self.goal.work_seconds, 1e-9) if known is None else known
