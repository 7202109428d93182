"""Where a job stands against its deadline: work left, time left, and what a changeover costs.

The arithmetic of "Can't Be Late" (Wu et al., NSDI 2024): with C left to do, R left to do it in and d for a
changeover, a job that may still be disturbed twice is safe while R >= C + 2d.
"""

from dataclasses import dataclass

from transhume.knowledge.model import Snapshot
from transhume.policies.model import DeadlineGoal


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A job against its deadline, all in seconds."""

    work_left: float
    time_left: float
    changeover: float

    @property
    def slack(self) -> float:
        """What can still be lost before the job is at risk; negative when it is."""
        return self.time_left - self.work_left - 2 * self.changeover

    @property
    def at_risk(self) -> bool:
        """True while there is work left and too little time for it and two changeovers."""
        return self.work_left > 0 and self.slack < 0


def standing(goal: DeadlineGoal, snapshot: Snapshot) -> Standing:
    """Return how a job stands at the snapshot's instant; without word of progress nothing is done yet."""
    changeover = goal.changeover_seconds
    return Standing(
        work_left=goal.work_seconds * (1.0 - snapshot.share_done(goal.progress_job)),
        time_left=(goal.at - snapshot.at).total_seconds(),
        changeover=measured_changeover(snapshot) if changeover is None else changeover,
    )


def measured_changeover(snapshot: Snapshot) -> float:
    """Return how long moves lasted lately (the median), 0 where none was measured."""
    return snapshot.changeover_seconds() or 0.0
