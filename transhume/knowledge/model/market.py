"""What changes by itself: prices, capacity, notices, progress of jobs; and the symptoms read from them."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from transhume.knowledge.model.names import CloudName, HostName, JobName, VmName
from transhume.knowledge.model.topology import Resources

BYTES_PER_GB = 1e9
BYTES_PER_GIB = float(1 << 30)
SECONDS_PER_HOUR = 3600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceTick:
    """What a cloud asks from an instant on."""

    cloud: CloudName
    at: datetime
    dollars_per_vcpu_hour: float
    dollars_per_gib_hour: float = 0.0
    egress_dollars_per_gb: float = 0.0
    """For each 10^9 bytes that leave this cloud, for outside or a cloud of which nothing else is said."""
    egress_within_region_dollars_per_gb: float | None = None
    """The same, to other clouds of its provider and region; None: as to anywhere."""
    egress_within_provider_dollars_per_gb: float | None = None
    """The same, to its provider's clouds in other regions; None: as to anywhere."""

    @property
    def within_region_dollars_per_gb(self) -> float:
        """What a GB costs to other clouds of its provider and region."""
        special = self.egress_within_region_dollars_per_gb
        return self.egress_dollars_per_gb if special is None else special

    @property
    def within_provider_dollars_per_gb(self) -> float:
        """What a GB costs to clouds of its provider in other regions."""
        special = self.egress_within_provider_dollars_per_gb
        return self.egress_dollars_per_gb if special is None else special

    def compute_dollars_per_hour(self, needs: Resources) -> float:
        """Return what running a VM with these needs costs an hour."""
        return (
            needs.vcpus * self.dollars_per_vcpu_hour
            + needs.memory_bytes / BYTES_PER_GIB * self.dollars_per_gib_hour
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityReport:
    """What a host has, all in all, and how much of it no VM uses at an instant."""

    host: HostName
    at: datetime
    total: Resources
    free: Resources
    silent: bool = False
    """True where the host gave no answer: this is what was known of it, and nobody is to be sent there."""


LINGERS = timedelta(minutes=2)
"""How long after its deadline a cloud may still answer that then goes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationNotice:
    """A cloud (or one of its hosts) says that it will be gone at `deadline`."""

    cloud: CloudName
    at: datetime
    deadline: datetime
    host: HostName | None = None
    withdrawn: bool = False
    """True when the cloud took its notice back: it is there again."""

    def is_in_force(self, at: datetime) -> bool:
        """Say whether it counts at an instant: who still answers some time after the deadline, stays."""
        return not self.withdrawn and at - self.deadline < LINGERS


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a job is, in its own unit of work."""

    job: JobName
    at: datetime
    done: float
    total: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Warmth:
    """How much of a VM the site of a cloud that it may go to knows beforehand."""

    vm: VmName
    cloud: CloudName
    at: datetime
    known_share: float
    """Of the pages of its memory that aren't zero; 0 to 1."""
    known_disk_bytes: int = 0
    """Of what its disks hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirtyRate:
    """How fast a VM writes to its memory, as its hypervisor has sampled it lately."""

    vm: VmName
    at: datetime
    bytes_per_second: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DiskUse:
    """What the disks of a VM hold that may be its host's own, as that host has told lately."""

    vm: VmName
    at: datetime
    bytes: int


class SymptomKind(StrEnum):
    """The reasons to think again."""

    PRICE_CHANGED = "price-changed"
    NOTICE = "notice"
    CAPACITY_BACK = "capacity-back"
    GROUP_SPLIT = "group-split"
    DEADLINE_AT_RISK = "deadline-at-risk"
    POLICY_CHANGED = "policy-changed"
    RULE_BROKEN = "rule-broken"
    VM_LOST = "vm-lost"
    EFFECT_MISSED = "effect-missed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Symptom:
    """An analysed reason to think again."""

    kind: SymptomKind
    subject: str
    """What it is about: the name of a cloud, group, job or VM."""
    at: datetime
    detail: str
    """One line for a person, with the numbers."""
