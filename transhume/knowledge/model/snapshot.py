"""One consistent, versioned read of all that is known: what the planner plans from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from statistics import median

from transhume.knowledge.model.decision import Outcome, StepResult
from transhume.knowledge.model.market import (
    CapacityReport,
    PriceTick,
    Progress,
    RevocationNotice,
    Warmth,
)
from transhume.knowledge.model.names import (
    CloudName,
    ClusterName,
    HostName,
    JobName,
    MacAddress,
    VmName,
)
from transhume.knowledge.model.shapes import Pattern
from transhume.knowledge.model.topology import Cloud, Host, Link, Placement, VirtualCluster, Vm
from transhume.knowledge.model.traffic import CommunicationMatrix, Group

LEAST_OUTCOMES = 500
"""In a snapshot, where there are so many: what moves take is learnt from them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """All that is known at one version of the knowledge.

    `placement` counts a VM on its way as being where it is going. `notices` holds only those in force, for a
    while after their deadlines too.
    `matrix` is the recent past (the daemon's traffic horizon) as one matrix; None before the first window.
    """

    version: int
    at: datetime
    clouds: Mapping[CloudName, Cloud] = field(default_factory=dict)
    hosts: Mapping[HostName, Host] = field(default_factory=dict)
    links: tuple[Link, ...] = ()
    vms: Mapping[VmName, Vm] = field(default_factory=dict)
    clusters: Mapping[ClusterName, VirtualCluster] = field(default_factory=dict)
    placement: Placement = field(default_factory=Placement)
    moving: frozenset[VmName] = frozenset()
    """VMs with an open step in the journal: not to be moved again before it ends."""
    capacity: Mapping[HostName, CapacityReport] = field(default_factory=dict)
    prices: Mapping[CloudName, PriceTick] = field(default_factory=dict)
    prices_ahead: tuple[PriceTick, ...] = ()
    """Prices that are certain to come, the earliest first."""
    notices: tuple[RevocationNotice, ...] = ()
    progress: Mapping[JobName, Progress] = field(default_factory=dict)
    matrix: CommunicationMatrix | None = None
    groups: tuple[Group, ...] = ()
    patterns: tuple[Pattern, ...] = ()
    """The shapes of the groups' traffic."""
    outcomes: tuple[Outcome, ...] = ()
    """The latest first: `LEAST_OUTCOMES`, or more where whoever read it looks further back."""
    warmth: tuple[Warmth, ...] = ()
    """VMs whose memory is known in part where they may go."""

    def cloud_of(self, vm: VmName) -> CloudName:
        """Return the cloud that a VM is in, or is going to."""
        return self.hosts[self.placement.host_of[vm]].cloud

    def macs_of(self, vm: VmName) -> tuple[MacAddress, ...]:
        """Return the addresses of a VM's interfaces."""
        return tuple(interface.mac for interface in self.vms[vm].interfaces)

    def hosts_of(self, cloud: CloudName) -> tuple[Host, ...]:
        """Return the hosts of a cloud, by name."""
        return tuple(
            sorted((h for h in self.hosts.values() if h.cloud == cloud), key=lambda h: h.name)
        )

    def changeover_seconds(self) -> float | None:
        """Return how long moves lasted lately, the median; None where none was measured."""
        lasted = [
            outcome.measured.seconds
            for outcome in self.outcomes
            if outcome.result is StepResult.DONE and outcome.measured is not None
        ]
        return median(lasted) if lasted else None

    def share_done(self, job: JobName | None) -> float:
        """Return how much of a job is done, from 0 to 1; without word of it, nothing is."""
        progress = self.progress.get(job) if job else None
        if progress is None or progress.total <= 0:
            return 0.0
        return min(1.0, max(0.0, progress.done / progress.total))

    def host_deadlines(self) -> dict[HostName, datetime]:
        """Return when each host under a notice will be gone: the earliest, where several say so."""
        deadlines: dict[HostName, datetime] = {}
        for notice in sorted(self.notices, key=lambda n: n.deadline, reverse=True):
            if notice.withdrawn:
                continue
            for host in self.hosts.values():
                if host.cloud == notice.cloud and notice.host in (None, host.name):
                    deadlines[host.name] = notice.deadline
        return deadlines

    def silent_hosts(self) -> frozenset[HostName]:
        """Return the hosts that gave no answer when they were asked last."""
        return frozenset(host for host, report in self.capacity.items() if report.silent)

    def bytes_per_second_between(self, one: CloudName, other: CloudName) -> float | None:
        """Return what the path between two clouds carries, or None where nobody said."""
        ends = frozenset((one, other))
        return next((link.bytes_per_second for link in self.links if link.clouds == ends), None)
