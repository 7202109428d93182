"""The records of a schedule: what has to move, what must be true meanwhile, and who moves when.

A *leg* is one live migration. A move is one leg, or two where its VM is parked on the way, because room that
others need first is where it stands, and what it needs isn't free yet.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from transhume.knowledge.model import CloudName, HostName, Resources, VmName

Link = frozenset[CloudName]
"""The path between two clouds, or (of one member) the network within a cloud."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A VM's way from host to host, before it becomes a step."""

    vm: VmName
    source: HostName
    destination: HostName
    source_cloud: CloudName
    destination_cloud: CloudName
    needs: Resources
    seconds: float
    unit: str
    """Moves of one unit follow one another: a group."""
    urgency: tuple[float, ...] = ()
    """Units with the least go first; while one whose first number is less could still begin, none begins."""
    ends_within: float = math.inf
    """Seconds after the start by which the move must have ended, or it isn't begun."""

    @property
    def link(self) -> Link:
        """The path that the move occupies."""
        return frozenset((self.source_cloud, self.destination_cloud))

    @property
    def rank(self) -> float:
        """The class that the move belongs to: mandatory moves before elective ones."""
        return self.urgency[0] if self.urgency else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AlwaysSpread:
    """These VMs are in at least `minimum` clouds at every instant."""

    vms: frozenset[VmName]
    minimum: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Berth:
    """A host that a VM could be parked on, on its way, and what the two legs take."""

    host: HostName
    cloud: CloudName
    seconds_in: float
    seconds_out: float
    dollars: float
    """What parking costs over the direct way."""


Berths = Callable[[Move], Sequence[Berth]]
"""Where a VM may be parked, rules and prices considered, room and order not."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Talk:
    """What two VMs would cost while they are in different clouds, by where they are."""

    one: VmName
    other: VmName
    bytes_per_second: tuple[float, float]
    """From the first to the second, and back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Chatter:
    """Who talks to whom among the VMs that move, and what a byte costs from cloud to cloud."""

    talks: tuple[Talk, ...] = ()
    dollars_per_byte: Mapping[tuple[CloudName, CloudName], float] = field(default_factory=dict)

    def dollars_per_second(self, talk: Talk, one: CloudName, other: CloudName) -> float:
        """Return what a pair's traffic costs with its VMs in these clouds."""
        if one == other:
            return 0.0
        there, back = talk.bytes_per_second
        forth = there * self.dollars_per_byte.get((one, other), 0.0)
        return forth + back * self.dollars_per_byte.get((other, one), 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What the moves of one schedule have to do with each other and with what stays."""

    free: Mapping[HostName, Resources]
    """What each host could take before the first move."""
    cloud_of: Mapping[VmName, CloudName]
    """Where each VM is before the first move."""
    spreads: tuple[AlwaysSpread, ...] = ()
    """What must be true at every instant; one that isn't at first isn't asked for."""
    moves_per_link: int = 1
    """How many moves share a link at a time."""
    moves_per_host: int | None = None
    """How many moves a host takes part in at a time, coming and going; None for any number."""
    berths: Berths = lambda _move: ()
    chatter: Chatter = field(default_factory=Chatter)


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One migration, and what it waits for: places in the list of legs."""

    move: Move
    """From where this leg begins to where it ends."""
    start: float
    end: float
    makes_room_for: VmName | None = None
    """Whom the VM is parked for; None unless this leg leads to a berth."""
    after: tuple[int, ...] = ()
    """Legs that must have ended: they hold the link or the host until then."""
    relies_on: tuple[int, ...] = ()
    """Legs that must have been done: they make room, bring the VM here, or keep a spread."""
    stage: int = 0
    """Legs of one stage don't wait for each other."""

    @property
    def waits_for(self) -> frozenset[int]:
        """Everything that must have ended before this leg begins."""
        return frozenset(self.after) | frozenset(self.relies_on)


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The legs in the order in which they begin, and the moves that can't be made."""

    legs: tuple[Leg, ...]
    stuck: Mapping[VmName, str]
    """Moves that no order allows, or not in time, each with why."""

    @property
    def stages(self) -> tuple[tuple[Move, ...], ...]:
        """The moves by stage."""
        count = max((leg.stage for leg in self.legs), default=-1) + 1
        return tuple(
            tuple(leg.move for leg in self.legs if leg.stage == number) for number in range(count)
        )

    @property
    def makespan(self) -> float:
        """Seconds from the first beginning to the last end."""
        return max((leg.end for leg in self.legs), default=0.0)

    def finished_after(self) -> dict[VmName, float]:
        """Return how many seconds after the start each VM is predicted to have arrived."""
        return {leg.move.vm: leg.end for leg in self.legs}
