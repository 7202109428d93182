"""What was decided and what came of it: costs, plans, steps, outcomes.

A `Plan` names the version of the knowledge it was made from. Its steps are in the order in which they are to
be begun; each says which others must have ended before. A VM that is parked on its way has two steps in a plan,
which are one move.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from enum import StrEnum

from transhume.knowledge.model.explanation import Explanation, Limit
from transhume.knowledge.model.names import CloudName, GroupId, HostName, PlanId, StepId, VmName


@dataclass(frozen=True, slots=True, kw_only=True)
class CostRate:
    """What a placement costs, in dollars per hour, by cause; each field is a cause."""

    compute: float = 0.0
    egress: float = 0.0
    migration: float = 0.0
    """The one-time cost of the moves, spread over the horizon."""
    risk: float = 0.0
    lateness: float = 0.0
    preference: float = 0.0
    """What policies would rather have, in dollars that nobody is billed for."""
    latency: float = 0.0
    """What policies say that the way between VMs which talk weighs, in dollars that nobody is billed for."""

    @property
    def total(self) -> float:
        """The sum over the causes."""
        return self.running + self.migration

    @property
    def running(self) -> float:
        """What goes on costing once the moves are done."""
        billed = self.compute + self.egress + self.risk + self.lateness
        return billed + self.preference + self.latency


CAUSES = tuple(cause.name for cause in fields(CostRate))


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What a move is expected to take."""

    bytes: int
    seconds: float
    downtime_seconds: float
    dollars: float
    converges: bool = True
    """False: the guest rewrites its memory faster than its share of the path carries. Unless the hypervisor
    slows it, or it goes on at the destination before all of it is there, the move doesn't end."""
    rounds: int | None = None
    """How often the hypervisor goes through the memory; None until past moves have told."""
    cpu_seconds: float | None = None
    """Of a processor of the source's gateway; None without one, or until past moves have told."""
    disk_bytes: int = 0
    """Of `bytes`, those of disks that go along."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer:
    """What became of a migration's bytes on their way: why most of them needn't be sent. Transfers add up."""

    raw_bytes: int = 0
    """What came from the hypervisor."""
    wire_bytes: int = 0
    """What it became, without TLS and TCP."""
    zero_pages: int = 0
    """Told of as zero by the hypervisor."""
    own_pages: int = 0
    """Sent before by the same VM, in this migration or an earlier one, or beforehand."""
    cluster_pages: int = 0
    """Sent before by another VM."""
    site_pages: int = 0
    """Known at the destination otherwise: in an image, or because they came from there."""
    new_pages: int = 0
    new_wire_bytes: int = 0
    """What the new pages became, by compression and what is like them in the window."""
    other_bytes: int = 0
    """What isn't pages: headers, the state of devices, what isn't understood."""
    other_wire_bytes: int = 0
    """What that became, with the frames' own bookkeeping."""
    cpu_seconds: float = 0.0
    """Of a processor of the source's gateway: finding pages, hashing and encoding."""

    @property
    def mostly_sent_before(self) -> bool:
        """Whether more of it had been sent before by the same VM than was new."""
        return self.own_pages > self.new_pages

    def __add__(self, other: "Transfer") -> "Transfer":
        """Return both together."""
        return Transfer(
            raw_bytes=self.raw_bytes + other.raw_bytes,
            wire_bytes=self.wire_bytes + other.wire_bytes,
            zero_pages=self.zero_pages + other.zero_pages,
            own_pages=self.own_pages + other.own_pages,
            cluster_pages=self.cluster_pages + other.cluster_pages,
            site_pages=self.site_pages + other.site_pages,
            new_pages=self.new_pages + other.new_pages,
            new_wire_bytes=self.new_wire_bytes + other.new_wire_bytes,
            other_bytes=self.other_bytes + other.other_bytes,
            other_wire_bytes=self.other_wire_bytes + other.other_wire_bytes,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
        )

    def __sub__(self, part: "Transfer") -> "Transfer":
        """Return what is left without a part of it."""
        return Transfer(
            raw_bytes=self.raw_bytes - part.raw_bytes,
            wire_bytes=self.wire_bytes - part.wire_bytes,
            zero_pages=self.zero_pages - part.zero_pages,
            own_pages=self.own_pages - part.own_pages,
            cluster_pages=self.cluster_pages - part.cluster_pages,
            site_pages=self.site_pages - part.site_pages,
            new_pages=self.new_pages - part.new_pages,
            new_wire_bytes=self.new_wire_bytes - part.new_wire_bytes,
            other_bytes=self.other_bytes - part.other_bytes,
            other_wire_bytes=self.other_wire_bytes - part.other_wire_bytes,
            cpu_seconds=self.cpu_seconds - part.cpu_seconds,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """What a move took. Downtime is the guest's pause as seen from outside, where it was observed."""

    bytes: int
    """On the wire where a gateway counted them, else as the hypervisor tells."""
    seconds: float
    downtime_seconds: float | None = None
    transfer: Transfer | None = None
    """Where gateways carried it."""
    rounds: int | None = None
    """How often the hypervisor went through the memory, where it told."""
    disk_bytes: int | None = None
    """Of `bytes`, what the disks took that went along; None where nobody counted them."""
    disks: Transfer | None = None
    """Of `transfer`, the disks' part."""

    @property
    def memory_bytes(self) -> int:
        """What it took without disks."""
        return max(0, self.bytes - (self.disk_bytes or 0))

    @property
    def memory(self) -> Transfer | None:
        """What became of all but the disks, where gateways carried it."""
        if self.transfer is None or self.disks is None:
            return self.transfer
        return self.transfer - self.disks


class MoveKind(StrEnum):
    """Whether a move must be made (a rule or a notice demands it) or should (it pays)."""

    MANDATORY = "mandatory"
    ELECTIVE = "elective"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One live migration of one VM from one host to another."""

    id: StepId
    vm: VmName
    source: HostName
    destination: HostName
    source_cloud: CloudName
    destination_cloud: CloudName
    kind: MoveKind
    reason: str
    """Why this VM goes there, for a person."""
    prediction: Prediction
    saving_dollars_per_hour: float
    """What the plan's bill falls by through this move, given the plan's other moves."""
    payback_seconds: float | None
    """Time after which the move has earned its cost; None where it saves nothing (a mandatory move)."""
    stage: int = 0
    """Steps of one stage don't wait for each other."""
    group: GroupId | None = None
    deadline: datetime | None = None
    """The move must be done by then, or it is of no use."""
    after: tuple[StepId, ...] = ()
    """Steps that must have ended: they hold a link or a host. Where no step of a plan names any, nor relies
    on any, stages run one after the other."""
    relies_on: tuple[StepId, ...] = ()
    """Steps without which this one can't be: they make room for it, bring its VM, or keep a spread."""
    starts_after_seconds: float = 0.0
    """When the step is predicted to begin, counted from the plan's beginning."""
    bytes_per_second: float | None = None
    """Its share of the link; None within a cloud, and where nobody said what the link carries."""
    split_dollars: float = 0.0
    """What traffic costs, once, that crosses clouds only while the plan is being carried out."""

    @property
    def ends_after_seconds(self) -> float:
        """When the step is predicted to end, counted from the plan's beginning."""
        return self.starts_after_seconds + self.prediction.seconds


class ConflictKind(StrEnum):
    """What a member of a conflict is: each is something that a person could give up or change."""

    RULE = "rule"
    NOTICE = "notice"
    CAPACITY = "capacity"
    TIME = "time"
    """What links carry before a notice's deadline."""
    TRAFFIC = "traffic"
    """A measured group that a policy keeps together."""
    PRICE = "price"
    """A cloud that tells no price isn't used where that isn't needed."""
    NETWORK = "network"
    """One that some clouds lack."""
    ORDER = "order"
    """A host or an order of the moves that was looked for and not found."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConflictMember:
    """A rule, notice, capacity or limit that can't hold beside the others of its conflict."""

    kind: ConflictKind
    text: str
    """What it is, for a person."""
    policy: str | None = None
    rule: int | None = None
    """Which of the policy's rules, counted from 1."""
    cloud: CloudName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Conflict:
    """What can't all hold: no placement keeps every one of the members."""

    members: tuple[ConflictMember, ...]
    minimal: bool
    """True only where it's known that any one of them dropped, the others can hold."""

    @property
    def sentence(self) -> str:
        """What can't all hold, for a person; every face says it in these words."""
        listed = "; ".join(member.text for member in self.members)
        if len(self.members) == 1:
            return f"this can't hold, whatever else gives way: {listed}"
        if self.minimal:
            return f"these can't all hold: {listed}. Without any one of them the others could"
        return f"these can't all hold: {listed}. Some must give way; fewer may be to blame"


class PlanStatus(StrEnum):
    """Where a plan is in its life."""

    RECOMMENDED = "recommended"
    AWAITING_APPROVAL = "awaiting-approval"
    EXECUTING = "executing"
    DONE = "done"
    UNDONE = "undone"
    FAILED = "failed"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Moves that are worth making together, with what they cost and bring."""

    id: PlanId
    made_at: datetime
    made_from_version: int
    policies: tuple[str, ...]
    trigger: str
    """The symptom that made the planner think, for a person."""
    steps: tuple[Step, ...]
    before: CostRate
    after: CostRate
    horizon_seconds: float
    optimal: bool
    """True only where it was proved that no placement is better."""
    bound_dollars_per_hour: float | None = None
    """What the bill of the best placement can't be below, proved; None where nothing was.

    Nothing is proved of the way there: what this plan's costs (parking, split groups) is in both.

    The bill after the plan, less by how much its objective can be above the best one's at most. The objective
    is the bill, but for moves that must pay within a payback time: those it spreads over that.
    """
    unplaced: Mapping[VmName, str] = field(default_factory=dict)
    """VMs that a rule or notice wants moved and that fit nowhere, each with why."""
    undoes: PlanId | None = None
    """The plan whose moves this one takes back, because their effect hasn't come about."""
    conflict: Conflict | None = None
    """What can't all hold, where something is not as it should be and that is why."""
    explanations: Mapping[VmName, Explanation] = field(default_factory=dict)
    """Why the VMs go where they go, or stay: those that move, and of the others the most interesting."""
    limits: tuple[Limit, ...] = ()
    """What keeps the plan from being cheaper, the dearest first."""

    @property
    def ways(self) -> Mapping[VmName, tuple[CloudName, CloudName]]:
        """From which cloud to which each VM goes; where it's parked in between is neither."""
        origins = {step.vm: step.source_cloud for step in reversed(self.steps)}
        ends = {step.vm: step.destination_cloud for step in self.steps}
        return {vm: (origins[vm], end) for vm, end in ends.items()}

    @property
    def moves(self) -> frozenset[tuple[VmName, CloudName]]:
        """Where each VM ends up: plans with the same moves are the same thing tried again."""
        return frozenset((vm, end) for vm, (_, end) in self.ways.items())

    @property
    def saving_dollars_per_hour(self) -> float:
        """What the bill falls by, the amortised cost of the moves included."""
        return self.before.total - self.after.total

    @property
    def gap(self) -> float | None:
        """By which share of the best possible bill the plan's can be above it; None where that isn't known."""
        bound = self.bound_dollars_per_hour
        if bound is None or bound <= 0:
            return 0.0 if bound == self.after.total else None
        return max(0.0, self.after.total / bound - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class NoPlan:
    """Nothing is worth doing, and why."""

    made_at: datetime
    made_from_version: int
    policies: tuple[str, ...]
    trigger: str
    reason: str
    before: CostRate
    best_alternative: CostRate | None = None
    unplaced: Mapping[VmName, str] = field(default_factory=dict)
    conflict: Conflict | None = None
    explanations: Mapping[VmName, Explanation] = field(default_factory=dict)
    limits: tuple[Limit, ...] = ()


class StepResult(StrEnum):
    """How a step ended. Skipped (no longer needed or no longer possible) is not failed."""

    DONE = "done"
    UNDONE = "undone"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of a step, beside what was predicted."""

    plan: PlanId
    step: StepId
    vm: VmName
    source: HostName
    destination: HostName
    result: StepResult
    why: str
    started_at: datetime
    ended_at: datetime
    predicted: Prediction
    measured: Measurement | None
