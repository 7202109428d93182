"""What was seen on the wire and what it adds up to: windows of frames, matrices, groups, cuts.

A `TrafficWindow` speaks of addresses, as a capture point sees them; a `CommunicationMatrix` speaks of VMs.
Bytes are wire bytes by original length, Ethernet header included, unless a name says otherwise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from transhume.knowledge.model.names import CloudName, GroupId, IpAddress, MacAddress, VmName


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """One end of a frame: its MAC address, and its IP address where the frame has one."""

    mac: MacAddress
    ip: IpAddress | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTraffic:
    """What one endpoint sent to another within a window."""

    source: Endpoint
    destination: Endpoint
    bytes: int
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TrafficWindow:
    """A time bin of the traffic seen at one capture point.

    `start` is a whole multiple of `seconds` since the epoch, so that windows of different capture points
    line up. A frame that passes several capture points is in the window of each: whoever adds windows up
    takes the largest sighting of a pair, not their sum.
    """

    start: datetime
    seconds: float
    capture_point: str
    pairs: tuple[PairTraffic, ...]
    dropped_frames: int = 0
    """Frames that the kernel could not hand over: the window is a lower bound when this isn't 0."""
    unreadable_frames: int = 0
    """Frames too short or too odd to tell their addresses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommunicationMatrix:
    """Bytes and frames by source VM and destination VM over a stretch of time.

    `bytes[i, j]` is what `vms[i]` sent to `vms[j]`. What VMs exchange with anybody else is in the
    `to_outside` and `from_outside` vectors (bytes); broadcast and multicast from VMs is `multicast_bytes`;
    what belongs to no VM at either end is `unattributed_bytes`. Nothing is lost in between: the parts
    add up to the windows.
    """

    start: datetime
    seconds: float
    vms: tuple[VmName, ...]
    bytes: NDArray[np.int64]
    frames: NDArray[np.int64]
    to_outside: NDArray[np.int64]
    from_outside: NDArray[np.int64]
    multicast_bytes: int = 0
    unattributed_bytes: int = 0
    dropped_frames: int = 0

    @classmethod
    def empty(
        cls, *, start: datetime, seconds: float, vms: tuple[VmName, ...]
    ) -> "CommunicationMatrix":
        """Return the matrix of a silence."""
        n = len(vms)
        return cls(
            start=start,
            seconds=seconds,
            vms=vms,
            bytes=np.zeros((n, n), dtype=np.int64),
            frames=np.zeros((n, n), dtype=np.int64),
            to_outside=np.zeros(n, dtype=np.int64),
            from_outside=np.zeros(n, dtype=np.int64),
        )

    @property
    def total_bytes(self) -> int:
        """All bytes that the matrix accounts for."""
        return (
            int(self.bytes.sum() + self.to_outside.sum() + self.from_outside.sum())
            + self.multicast_bytes
            + self.unattributed_bytes
        )

    def rate(self) -> NDArray[np.float64]:
        """Return bytes per second by source and destination VM."""
        return self.bytes / max(self.seconds, 1e-9)

    def crossing(
        self, cloud_of: Callable[[VmName], CloudName]
    ) -> Mapping[tuple[CloudName, CloudName], float]:
        """Return the cut of a placement: bytes per second by ordered pair of different clouds."""
        clouds = [cloud_of(vm) for vm in self.vms]
        rate = self.rate()
        found: dict[tuple[CloudName, CloudName], float] = {}
        for i, j in zip(*np.nonzero(self.bytes), strict=True):
            if clouds[i] != clouds[j]:
                pair = (clouds[i], clouds[j])
                found[pair] = found.get(pair, 0.0) + float(rate[i, j])
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """VMs that talk mostly to each other."""

    id: GroupId
    vms: tuple[VmName, ...]
    internal_bytes_per_second: float
    external_bytes_per_second: float

    @property
    def cohesion(self) -> float:
        """The share of the members' traffic that stays in the group, 0 to 1."""
        both = self.internal_bytes_per_second + self.external_bytes_per_second
        return self.internal_bytes_per_second / both if both else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The traffic that crosses clouds under a placement, and what crossing costs."""

    bytes_per_second: Mapping[tuple[CloudName, CloudName], float]
    dollars_per_hour: float

    @property
    def total_bytes_per_second(self) -> float:
        """All that crosses, over all pairs of clouds."""
        return sum(self.bytes_per_second.values())
