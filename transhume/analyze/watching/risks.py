"""Risks: deadlines that may be missed, told once until they are clearly safe again.

At risk is a job from the moment that less time is left than its work and two changeovers need; safe again it is
when a third changeover would fit, and a twentieth of the work.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from transhume.analyze.deadlines import Standing, standing
from transhume.analyze.watching import News
from transhume.knowledge.model import Snapshot
from transhume.policies.model import Policy
from transhume.quantities import format_duration

SPARE = 0.05
"""The share of the work left that there must be time for besides, before a job is safe again."""


@dataclass(frozen=True, slots=True)
class RisksTold:
    """The policies whose deadline was told to be at risk and isn't clearly safe since.

    A job may have several: what is safe by one may be late by another.
    """

    policies: frozenset[str] = frozenset()

    @classmethod
    def as_of(cls, snapshot: Snapshot, policies: Iterable[Policy]) -> "RisksTold":
        """Return the memory of one who was told what is at risk in a snapshot."""
        return cls().look(snapshot, policies)[1]

    def look(self, now: Snapshot, policies: Iterable[Policy]) -> tuple[News, "RisksTold"]:
        """Return the jobs that have come to be at risk, and what is told then."""
        news: News = []
        told = set()
        for policy in policies:
            if policy.deadline is None:
                continue
            job = str(policy.deadline.progress_job or policy.name)
            stands = standing(policy.deadline, now)
            if stands.at_risk and policy.name not in self.policies:
                news.append((job, _described(job, stands)))
            if stands.at_risk or (policy.name in self.policies and not _is_safe(stands)):
                told.add(policy.name)
        return news, RisksTold(frozenset(told))


def _is_safe(stands: Standing) -> bool:
    spare = max(stands.changeover, SPARE * stands.work_left)
    return stands.work_left <= 0 or (stands.slack >= spare and stands.slack > 0)


def _described(job: str, stands: Standing) -> str:
    return (
        f"{job} is at risk: {format_duration(stands.work_left)} of work"
        f" and two changeovers of {format_duration(stands.changeover)}"
        f" in {format_duration(stands.time_left)}"
    )
