"""What a user asked for, as frozen records: the loader makes them from YAML, the planner weighs them.

Owns the vocabulary of DESIGN-level policies and nothing of their syntax (`schema`) or their reading (`loader`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from fnmatch import fnmatchcase

from transhume.knowledge.model import CloudName, ClusterName, JobName, Vm
from transhume.policies.calendar import Hours
from transhume.policies.extension import PlannerRule


class Mode(StrEnum):
    """What the daemon does with a plan. Ordered from timid to bold; the strictest policy wins."""

    RECOMMEND = "recommend"
    APPROVE = "approve"
    AUTO = "auto"


class Hold(StrEnum):
    """When a rule has to be true: when a plan has ended, or at every instant of it."""

    AT_END = "at-end"
    ALWAYS = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Selector:
    """Which VMs something applies to: all that match any of the parts; no part at all means every VM.

    Names of VMs may be shell patterns (`web-*`).
    """

    vms: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    clusters: tuple[ClusterName, ...] = ()

    def matches(self, vm: Vm) -> bool:
        """Say whether the VM is one of those meant."""
        if not (self.vms or self.tags or self.clusters):
            return True
        return (
            any(fnmatchcase(vm.name, pattern) for pattern in self.vms)
            or any(tag in vm.tags for tag in self.tags)
            or (vm.cluster is not None and vm.cluster in self.clusters)
        )


EVERYTHING = Selector()


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """The selected VMs are in at least `minimum` clouds."""

    who: Selector
    minimum: int
    hold: Hold = Hold.AT_END


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    """The selected VMs are in one cloud."""

    who: Selector


@dataclass(frozen=True, slots=True, kw_only=True)
class Pin:
    """The selected VMs are in this cloud and nowhere else."""

    who: Selector
    cloud: CloudName


@dataclass(frozen=True, slots=True, kw_only=True)
class Forbid:
    """The selected VMs are in none of these clouds."""

    who: Selector
    clouds: tuple[CloudName, ...]
    hold: Hold = Hold.ALWAYS
    why: str = ""
    """What demands it, where that isn't a rule that somebody wrote."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """At most `vms` of the policy's VMs are in the cloud."""

    cloud: CloudName
    vms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyOf:
    """The selected VMs are in some of these clouds and nowhere else."""

    who: Selector
    clouds: tuple[CloudName, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ordered:
    """The selected VMs are in the first of these clouds that has room and isn't dearer by more than it's worth.

    A cloud that isn't listed counts as one more at the end of the list.
    """

    who: Selector
    clouds: tuple[CloudName, ...]
    worth_dollars_per_hour: float = 0.10
    """What being one place further down the list weighs, for each VM."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Python:
    """A rule that a user wrote, about the policy's VMs."""

    name: str
    """Of the entry point that made it."""
    parameters: Mapping[str, object] = field(default_factory=dict)
    rule: PlannerRule = field(compare=False, repr=False)


Rule = Spread | Together | Pin | Forbid | Quota | AnyOf | Ordered | Python


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepTogether:
    """Groups found in the traffic are not split when the cut would exceed this rate."""

    cut_above_bytes_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceGoal:
    """What the applications may cost, and how soon a move must have paid for itself."""

    budget_dollars_per_hour: float | None = None
    payback_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyGoal:
    """What it's worth that VMs which talk are near each other."""

    dollars_per_gb_ms: float
    """For 10^9 bytes that a VM exchanges with another, either way, and a millisecond of round trip."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationTerms:
    """How VMs may be moved, once it's settled that they are."""

    pause_seconds: float | None = None
    """What the guest may stand still for; None: as the hypervisor likes."""
    at_most_seconds: float | None = None
    """A migration that takes longer is broken off; None: none is."""
    post_copy_after_seconds: float | None = None
    """After so long the guest goes on at the destination, and fetches what is missing; None: never."""
    copy_disks: bool = False
    """Whether disks that only the source has go along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailabilityGoal:
    """Where the VMs are best off, and whether a revocation notice moves them."""

    prefer: tuple[CloudName, ...] = ()
    evacuate_on_notice: bool = True


class DeadlineStrategy(StrEnum):
    """When a job with a deadline may run on revocable machines."""

    UNIFORM_PROGRESS = "uniform-progress"
    FORESIGHT = "foresight"
    GREEDY = "greedy"
    ON_DEMAND = "on-demand"


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineGoal:
    """A job has to be done by an instant."""

    at: datetime
    work_seconds: float
    """Machine time that the whole job needs when nothing disturbs it."""
    progress_job: JobName | None = None
    """The job whose `Progress` says how much is done."""
    changeover_seconds: float | None = None
    """How long a move slows the job; None: as measured from past moves."""
    strategy: DeadlineStrategy = DeadlineStrategy.UNIFORM_PROGRESS


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveBudget:
    """A bound on elective moves: within any `per_seconds`, or each time that hours of the week begin."""

    moves: int | None = None
    bytes: int | None = None
    dollars: float | None = None
    """What the moves cost once."""
    per_seconds: float | None = None
    hours: Hours | None = None

    @property
    def frozen(self) -> bool:
        """Say whether nothing at all may move."""
        return 0 in (self.moves, self.bytes, self.dollars)

    def counts_since(self, now: datetime) -> datetime | None:
        """Return from when on moves are counted; None while the budget has nothing to say."""
        if self.hours is not None:
            opening = self.hours.opening_at(now)
            return opening.start if opening else None
        return now - timedelta(seconds=self.per_seconds or 0.0)

    @property
    def longest_seconds(self) -> float:
        """For how long moves may be counted."""
        return self.per_seconds or timedelta(days=1).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class ElectiveLimits:
    """What keeps moves that aren't needed from being made too eagerly."""

    min_gain: float = 0.05
    """The share of the running cost that a plan must save."""
    hold_seconds: float = 0.0
    """How long the reason for a plan must have lasted."""
    cooldown_seconds: float = 3600.0
    """A VM that moved is not moved again, unless it must be, for this long."""
    budgets: tuple[MoveBudget, ...] = ()

    @property
    def longest_seconds(self) -> float:
        """For how long a move may count."""
        return max(self.cooldown_seconds, *(each.longest_seconds for each in self.budgets), 0.0)


LONGEST_PLANS = timedelta(days=2)
"""How long before its effect is looked at a plan may have been made, beside the time that it was given."""


class Otherwise(StrEnum):
    """What follows where a plan's effect hasn't come about."""

    UNDO = "undo"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """What must have come true some time after a plan, and what follows if it hasn't."""

    expect: tuple[str, ...]
    within_seconds: float
    otherwise: Otherwise = Otherwise.UNDO

    @property
    def longest_seconds(self) -> float:
        """For how long a move may be looked back at: until its plan's time has come, and as long again."""
        return 2 * self.within_seconds + LONGEST_PLANS.total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One policy file."""

    name: str
    source: str
    applies_to: Selector = EVERYTHING
    mode: Mode = Mode.RECOMMEND
    rules: tuple[Rule, ...] = ()
    keep_together: KeepTogether | None = None
    price: PriceGoal | None = None
    latency: LatencyGoal | None = None
    availability: AvailabilityGoal = field(default_factory=AvailabilityGoal)
    deadline: DeadlineGoal | None = None
    elective: ElectiveLimits = field(default_factory=ElectiveLimits)
    after: Expectation | None = None
    migration: MigrationTerms | None = None

    def governs(self, vm: Vm) -> bool:
        """Say whether the policy is about this VM."""
        return self.applies_to.matches(vm)


def moves_reach(policies: Iterable[Policy]) -> timedelta:
    """Return for how long moves count, by what limits elective ones and by what is expected of them."""
    asked = (each for policy in policies for each in (policy.elective, policy.after) if each)
    longest = (each.longest_seconds for each in asked)
    return timedelta(seconds=max(longest, default=0.0))
