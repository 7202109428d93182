"""A job with a deadline at one instant: what is left, where it runs, what could run it, and at which price.

Owns the records that deadline policies and the replay exchange, and the protocol of a policy. A policy is told
the situation at each tick and answers where the job shall run until the next; it sees nothing of the future.

The rules of the world. A spot machine may be gone at any tick. Whoever starts the job somewhere else first
loses a changeover, in which time passes and money is spent and no work is done. On-demand machines are always
there and stay. All durations are in seconds.
"""

from dataclasses import dataclass
from typing import NewType, Protocol, TypeAlias

ZoneName = NewType("ZoneName", str)

SPECK_SECONDS = 1e-6
"""Less time than this is a rounding error of floating-point sums."""


@dataclass(frozen=True, slots=True)
class Idle:
    """The job stands still and costs nothing."""


@dataclass(frozen=True, slots=True)
class Spot:
    """The job runs on a spot machine of a zone."""

    zone: ZoneName


@dataclass(frozen=True, slots=True)
class OnDemand:
    """The job runs on a machine that nobody takes away."""


Whereabouts: TypeAlias = Idle | Spot | OnDemand
"""Where a job runs; as a decision: where it shall run until the next tick."""

IDLE = Idle()
ON_DEMAND = OnDemand()


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """So much work, to be done by then; the deadline counts from the job's start."""

    work_seconds: float
    deadline_seconds: float
    changeover_seconds: float

    def __post_init__(self) -> None:
        if self.work_seconds <= 0 or self.deadline_seconds <= 0 or self.changeover_seconds < 0:
            raise ValueError("a job has some work, a deadline, and a changeover of 0 or more")

    @property
    def feasible(self) -> bool:
        """Whether on-demand machines alone finish it in time."""
        return self.deadline_seconds >= self.work_seconds + self.changeover_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Zone:
    """Where spot machines may be had, and what one costs."""

    name: ZoneName
    spot_dollars_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Market:
    """What can be rented; spot is never dearer than on demand."""

    zones: tuple[Zone, ...]
    on_demand_dollars_per_hour: float

    def __post_init__(self) -> None:
        if not self.zones:
            raise ValueError("a market has at least one zone")
        if len({zone.name for zone in self.zones}) < len(self.zones):
            raise ValueError("two zones have the same name")
        if any(
            not 0 <= zone.spot_dollars_per_hour <= self.on_demand_dollars_per_hour
            for zone in self.zones
        ):
            raise ValueError("a spot price is 0 or more, and no more than the on-demand price")


@dataclass(frozen=True, slots=True, kw_only=True)
class Situation:
    """What a policy is told at a tick. A revoked spot machine is already gone: the job is then idle."""

    job: Job
    market: Market
    work_left_seconds: float
    time_left_seconds: float
    tick_seconds: float
    """Until the next decision; never longer than the time that is left."""
    running: Whereabouts
    changeover_left_seconds: float
    """What is still lost where it runs now, before work goes on."""
    available: frozenset[ZoneName]
    """The zones that have a spot machine until the next tick."""

    @property
    def slack_seconds(self) -> float:
        """How long the job could still stand still, were there no changeovers."""
        return self.time_left_seconds - self.work_left_seconds

    @property
    def elapsed_seconds(self) -> float:
        """How long ago the job began."""
        return self.job.deadline_seconds - self.time_left_seconds

    @property
    def done_seconds(self) -> float:
        """How much of the work is done."""
        return self.job.work_seconds - self.work_left_seconds


class DeadlinePolicy(Protocol):
    """Decides for one job, tick after tick. What it remembers is its own, so each job has its own policy."""

    def decide(self, situation: Situation) -> Whereabouts:
        """Return where the job shall run until the next tick; a spot zone must be available."""
        ...
