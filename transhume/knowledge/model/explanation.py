"""Why a decision is as it is, VM by VM: reckoned when it's made, and kept with it.

All amounts are in dollars per hour of the plan's own reckoning: what a move costs once is spread over the time
within which it must have paid. Every number is about one VM (or one bundle), with everybody else where the
decision puts them.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from transhume.knowledge.model.names import CloudName, VmName


class Hindrance(StrEnum):
    """The kinds of what stands against a placement."""

    RULE = "rule"
    """Of a policy, about this VM: a pin, a forbidden cloud."""
    CLOUD = "cloud"
    """It's about to go, gives no answer, is too small, or tells no capacity."""
    NETWORK = "network"
    """Of the overlay, which the cloud lacks."""
    ROOM = "room"
    QUOTA = "quota"
    SPREAD = "spread"
    TOGETHER = "together"
    KEEP_TOGETHER = "keep-together"
    BUDGET = "budget"
    """Of moves."""
    REST = "rest"
    """A cool-down."""
    TRANSIT = "transit"
    """A move under way."""
    GAIN = "gain"
    """Payback or minimum gain."""
    PRICE = "price"
    """The cloud tells none."""
    TIME = "time"
    ORDER = "order"
    """No order of the moves, or no single host, allows it."""
    SEARCH = "search"
    """Nothing that we know of: the plan isn't proved to be the best."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Alternative:
    """Another place, and what it would cost."""

    cloud: CloudName
    stays: bool = False
    """It's where the VM is now."""
    alone: bool = True
    """The VM by itself; False: the whole bundle."""
    dollars_per_hour: float | None = None
    """By how much dearer than what was decided (below zero: cheaper); None where a price is unknown."""
    barred: str = ""
    """What stands against it, for a person; nothing where it could be done."""
    hindrances: tuple[Hindrance, ...] = ()
    """The kind of each thing that stands against it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BillLine:
    """A part of what a VM costs, under the placement before and under the one decided."""

    cause: str
    """One of `CAUSES`."""
    about: str = ""
    """For egress: the VM at the other end, `outside`, or how many other VMs."""
    now: float
    then: float


class Parameter(StrEnum):
    """What may change by itself and turn a decision."""

    VCPU_PRICE = "vcpu-price"
    """Dollars per vCPU-hour of a cloud."""
    GIB_PRICE = "gib-price"
    """Dollars per GiB-hour of a cloud."""
    TRAFFIC = "traffic"
    """Bytes per second, both ways, with a VM, with `outside`, or (about nobody) with all others."""
    VCPUS = "vcpus"
    """Free in a cloud. Where memory is lacking too, it takes both."""
    MEMORY = "memory"
    """Bytes free in a cloud."""
    PAYBACK = "payback"
    """Seconds within which a move must have paid."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TurningPoint:
    """A value of one number, all others as they are, past which another place is the cheaper one."""

    parameter: Parameter
    about: str
    """The cloud or VM that the number is of."""
    now: float
    threshold: float
    cloud: CloudName
    """Where the VM would be then."""
    stays: bool = False
    """It's where the VM is now."""
    alone: bool = True
    """The VM by itself; False: the whole bundle."""

    @property
    def above(self) -> bool:
        """Say whether the number has to rise."""
        return self.threshold > self.now


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a VM goes where it goes, or stays."""

    vm: VmName
    cloud: CloudName
    """Where it is when the decision is made."""
    destination: CloudName | None = None
    """Where it is sent; None where it stays."""
    policies: tuple[str, ...] = ()
    """Those that govern it."""
    reason: str = ""
    demands: tuple[str, ...] = ()
    """The rules and notices that want it gone from where it is."""
    bundle: tuple[VmName, ...] = ()
    """The VMs that move with it for the same reason (the first of them, where they are many)."""
    bundle_size: int = 1
    bill: tuple[BillLine, ...] = ()
    """What the decision changes of the VM's part of the bill; what a pair pays is halved if both move."""
    alternatives: tuple[Alternative, ...] = ()
    """The cheapest first."""
    runner_up: Alternative | None = None
    """The cheapest alternative that nothing stands against."""
    turning_points: tuple[TurningPoint, ...] = ()
    least_gain_dollars_per_hour: float = 0.0
    """What the elective moves of its policy must save together; being cheaper by less isn't enough."""

    @property
    def change_dollars_per_hour(self) -> float:
        """What the VM's part of the bill rises by."""
        return sum(line.then - line.now for line in self.bill)

    @property
    def hindered(self) -> Iterator[Alternative]:
        """The alternatives that would be cheaper, and that something stands against."""
        return (
            other
            for other in self.alternatives
            if other.barred and (other.dollars_per_hour or 0.0) < 0
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """What keeps the whole decision from being cheaper, and what loosening it a little would save."""

    kind: Hindrance
    about: str
    """A cloud, or the words of a rule."""
    looser: str
    """By what it would have to be loosened, for a person: `one more move`."""
    saves_dollars_per_hour: float
    dollars_per_vcpu_hour: float | None = None
    """The same by vCPU, where nothing but vCPUs is lacking."""
    dollars_per_gib_hour: float | None = None
    """The same by GiB, where nothing but memory is."""
    least: bool = False
    """It saves at least that: only moves of single VMs and bundles were tried."""
    vms: tuple[VmName, ...] = ()
    """Those that would go elsewhere."""
