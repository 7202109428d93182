"""Deadlines in force: for each job, whether its VMs may be in revocable clouds now.

Where a policy has a deadline and there are revocable clouds with prices, its strategy (Uniform Progress,
foresight, greedy, on demand) is asked as in a replay. The answer becomes one more rule of the policy, which
forbids the revocable clouds that it doesn't name. The planner and its checker treat it as any other: VMs leave
such clouds though nothing pays for it (when the safety net says so), and others aren't moved in. Whether a
cloud that the answer does name is worth the moves is for prices to say.

A cluster isn't stopped: *waiting* means staying on machines that stay, or going there. The even pace of Uniform
Progress counts from when the policy was first heeded, with what was left then; only that is remembered, and
what foresight has seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from transhume.knowledge.model import CloudName, Snapshot
from transhume.plan.deadline.comparison import POLICIES
from transhume.plan.deadline.looking import Look, look, revocable_clouds
from transhume.plan.deadline.situation import (
    DeadlinePolicy,
    Job,
    Market,
    Situation,
    Spot,
    Zone,
    ZoneName,
)
from transhume.plan.settings import PlannerSettings
from transhume.policies.model import EVERYTHING, DeadlineGoal, Forbid, Policy
from transhume.quantities import format_duration

TICK_SECONDS = 60.0
"""Decisions are taken anew at each look; the safety net assumes that the next is so far away."""


class DeadlineKeeper:
    """Asks each policy's strategy at each look, and remembers what strategies have to."""

    def __init__(self, settings: PlannerSettings) -> None:
        self._settings = settings
        self._jobs: dict[str, _Kept] = {}

    def heed(self, snapshot: Snapshot, policies: Sequence[Policy]) -> tuple[Policy, ...]:
        """Return the policies, with revocable clouds forbidden where a deadline demands it."""
        names = {policy.name for policy in policies}
        self._jobs = {name: kept for name, kept in self._jobs.items() if name in names}
        return tuple(self._heeded(snapshot, policy, policies) for policy in policies)

    def _heeded(self, snapshot: Snapshot, policy: Policy, policies: Sequence[Policy]) -> Policy:
        revocable, goal = revocable_clouds(snapshot), policy.deadline
        if goal is None or not revocable:
            return policy
        seen = look(snapshot, policy, policies, self._settings)
        if seen is None:
            return policy
        kept = self._jobs.get(policy.name)
        if kept is None or (kept.goal, kept.revocable) != (goal, revocable):
            kept = self._jobs[policy.name] = _Kept.begun(goal, revocable, seen)
        if not seen.on_the_way:
            kept.decide(seen)
        elif not kept.why:  # nothing was ever answered
            return policy
        clouds = tuple(sorted(revocable - kept.open_clouds))
        if not clouds:
            return policy
        rule = Forbid(who=EVERYTHING, clouds=clouds, why=f"policy {policy.name}: {kept.why}")
        return replace(policy, rules=(*policy.rules, rule))


@dataclass(slots=True, kw_only=True)
class _Kept:
    """What is remembered of a job."""

    goal: DeadlineGoal
    revocable: frozenset[CloudName]
    strategy: DeadlinePolicy
    work_seconds: float
    deadline_seconds: float
    open_clouds: frozenset[CloudName] = frozenset()
    """The revocable clouds that the last answer leaves open."""
    why: str = ""

    @classmethod
    def begun(cls, goal: DeadlineGoal, revocable: frozenset[CloudName], seen: Look) -> "_Kept":
        """Begin with the work and the time that are left at this look."""
        zones = (Zone(name=ZoneName(c), spot_dollars_per_hour=0.0) for c in sorted(revocable))
        to_watch = Market(zones=tuple(zones), on_demand_dollars_per_hour=0.0)
        return cls(
            goal=goal,
            revocable=revocable,
            strategy=POLICIES[goal.strategy](to_watch),
            work_seconds=seen.work_left_seconds,
            deadline_seconds=seen.time_left_seconds,
        )

    def decide(self, seen: Look) -> None:
        """Ask the strategy, and note what it leaves open and why."""
        answer = self.strategy.decide(self._situation(seen))
        left = (
            f"{format_duration(seen.work_left_seconds)} of work and "
            f"{format_duration(seen.time_left_seconds)} until the deadline"
        )
        self.open_clouds = frozenset()
        if isinstance(answer, Spot):
            self.open_clouds = seen.in_use | {CloudName(answer.zone)}
            self.why = f"{self.goal.strategy} prefers {answer.zone}"
        elif isinstance(seen.running, Spot):
            self.why = f"{left} leave no time for a revocation"
        else:
            self.why = f"with {left}, {self.goal.strategy} wants machines that stay"

    def _situation(self, seen: Look) -> Situation:
        return Situation(
            job=Job(
                work_seconds=self.work_seconds,
                deadline_seconds=self.deadline_seconds,
                changeover_seconds=seen.changeover_seconds,
            ),
            market=seen.market,
            work_left_seconds=seen.work_left_seconds,
            time_left_seconds=seen.time_left_seconds,
            tick_seconds=min(TICK_SECONDS, seen.time_left_seconds),
            running=seen.running,
            changeover_left_seconds=0.0,
            available=seen.available,
        )
