"""Replays a job against an availability that was recorded or generated, and accounts for time and money.

Deterministic: the same policy, job and ticks give the same outcome. A tick goes like this: what was revoked is
gone, the policy decides, and time passes. A changeover costs its time at the price of where the job goes, and
no work is done in it; one longer than a tick goes on in the next. The job ends within a tick exactly when its
work is done, and pays for that part only.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from transhume.knowledge.model import SECONDS_PER_HOUR
from transhume.plan.deadline.availability import Availability
from transhume.plan.deadline.situation import (
    IDLE,
    SPECK_SECONDS,
    DeadlinePolicy,
    Idle,
    Job,
    Market,
    OnDemand,
    Situation,
    Spot,
    Whereabouts,
    ZoneName,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a job came to. Seconds on machines are those that were paid for, changeovers with them."""

    cost_dollars: float
    on_demand_seconds: float
    spot_seconds: Mapping[ZoneName, float]
    idle_seconds: float
    on_demand_work_seconds: float
    spot_work_seconds: float
    took_seconds: float
    moves: int
    """How often it was started or moved anywhere, its first start with them."""
    missed: bool

    @property
    def all_spot_seconds(self) -> float:
        """What was paid for on spot machines, of all zones."""
        return sum(self.spot_seconds.values())


def replay(
    policy: DeadlinePolicy,
    job: Job,
    market: Market,
    availability: Availability,
    *,
    start_tick: int = 0,
) -> Outcome:
    """Run a job under a policy from a tick on, to its end or its deadline.

    Raises:
        ValueError: the ticks end before the deadline, zones and market differ, or the policy chose a zone that
            wasn't available.
    """
    if {zone.name for zone in market.zones} != set(availability.zones):
        raise ValueError("the market and the availability name different zones")
    if not 0 <= start_tick < availability.starts_for(job.deadline_seconds):
        raise ValueError(f"from tick {start_tick} on, the ticks end before the deadline")
    run = _Run(job, market)
    sets = _zone_sets(availability, start_tick, job.deadline_seconds)
    for available in sets:
        if run.over:
            break
        run.tick(policy, available, min(availability.tick_seconds, run.time_left_seconds))
    return run.outcome()


def _zone_sets(
    availability: Availability, start_tick: int, seconds: float
) -> list[frozenset[ZoneName]]:
    """Return the zones that are there at each tick; equal sets are one object."""
    rows = availability.there[start_tick : start_tick + availability.ticks_for(seconds)]
    known: dict[bytes, frozenset[ZoneName]] = {}
    return [
        known.setdefault(
            row.tobytes(),
            frozenset(name for name, there in zip(availability.zones, row, strict=True) if there),
        )
        if row.tobytes() not in known
        else known[row.tobytes()]
        for row in rows
    ]


@dataclass(slots=True)
class _Run:
    """A job on its way."""

    job: Job
    market: Market
    running: Whereabouts = IDLE
    changeover_left_seconds: float = 0.0
    work_left_seconds: float = field(init=False)
    time_left_seconds: float = field(init=False)
    spot_seconds: dict[ZoneName, float] = field(init=False)
    on_demand_seconds: float = 0.0
    idle_seconds: float = 0.0
    on_demand_work_seconds: float = 0.0
    spot_work_seconds: float = 0.0
    moves: int = 0

    def __post_init__(self) -> None:
        self.work_left_seconds = self.job.work_seconds
        self.time_left_seconds = self.job.deadline_seconds
        self.spot_seconds = {zone.name: 0.0 for zone in self.market.zones}

    @property
    def over(self) -> bool:
        return self.done or self.time_left_seconds <= SPECK_SECONDS

    @property
    def done(self) -> bool:
        return self.work_left_seconds <= SPECK_SECONDS

    def tick(
        self, policy: DeadlinePolicy, available: frozenset[ZoneName], tick_seconds: float
    ) -> None:
        if isinstance(self.running, Spot) and self.running.zone not in available:
            self._go(IDLE)
        decision = policy.decide(
            Situation(
                job=self.job,
                market=self.market,
                work_left_seconds=self.work_left_seconds,
                time_left_seconds=self.time_left_seconds,
                tick_seconds=tick_seconds,
                running=self.running,
                changeover_left_seconds=self.changeover_left_seconds,
                available=available,
            )
        )
        if isinstance(decision, Spot) and decision.zone not in available:
            raise ValueError(f"the policy chose {decision.zone}, which has no spot machine now")
        if decision != self.running:
            self._go(decision)
        self._pass(tick_seconds)

    def _go(self, to: Whereabouts) -> None:
        self.running = to
        started = not isinstance(to, Idle)
        self.moves += started
        self.changeover_left_seconds = self.job.changeover_seconds if started else 0.0

    def _pass(self, seconds: float) -> None:
        if isinstance(self.running, Idle):
            self.idle_seconds += seconds
            self.time_left_seconds -= seconds
            return
        lost = min(self.changeover_left_seconds, seconds)
        worked = min(self.work_left_seconds, seconds - lost)
        self.work_left_seconds -= worked
        self.changeover_left_seconds -= lost
        paid = lost + worked if self.done else seconds
        self.time_left_seconds -= paid
        if isinstance(self.running, OnDemand):
            self.on_demand_seconds += paid
            self.on_demand_work_seconds += worked
        else:
            self.spot_seconds[self.running.zone] += paid
            self.spot_work_seconds += worked

    def outcome(self) -> Outcome:
        dollars = self.on_demand_seconds * self.market.on_demand_dollars_per_hour + sum(
            self.spot_seconds[zone.name] * zone.spot_dollars_per_hour for zone in self.market.zones
        )
        return Outcome(
            cost_dollars=dollars / SECONDS_PER_HOUR,
            on_demand_seconds=self.on_demand_seconds,
            spot_seconds=self.spot_seconds,
            idle_seconds=self.idle_seconds,
            on_demand_work_seconds=self.on_demand_work_seconds,
            spot_work_seconds=self.spot_work_seconds,
            took_seconds=self.job.deadline_seconds - self.time_left_seconds,
            moves=self.moves,
            missed=not self.done,
        )
