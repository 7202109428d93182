"""What was seen on the wire and what it adds up to: windows of frames, matrices, groups, cuts.

A `TrafficWindow` speaks of addresses, as a capture point sees them; a `CommunicationMatrix` speaks of VMs.
Both are columns of numbers, a row for each pair that talked: ten thousand VMs are a hundred million pairs, of
which few talk. Bytes are wire bytes by original length, link-layer header included, unless a name says
otherwise; payload bytes are what the transport carried.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from transhume.knowledge.model.addresses import (
    AddressPairs,
    Endpoint,
    address_pairs,
    endpoints,
)
from transhume.knowledge.model.names import CloudName, GroupId, NetworkName, VmName

Counts = NDArray[np.int64]
Rows = NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairTraffic:
    """What one endpoint sent to another within a window."""

    source: Endpoint
    destination: Endpoint
    bytes: int
    frames: int
    payload_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TrafficWindow:
    """A time bin of the traffic seen at one capture point.

    `start` is a whole multiple of `seconds` since the epoch, so that windows of different capture points
    line up. A frame that passes several capture points is in the window of each: whoever adds windows up
    decides which sighting counts.

    `pair`, `bytes`, `payload_bytes` and `frames` have one row for each pair that talked; `pair` says which row
    of `addresses`. Windows of one reading share `addresses`, which holds rows that this window doesn't name.
    """

    start: datetime
    seconds: float
    capture_point: str
    addresses: AddressPairs
    pair: Rows
    bytes: Counts
    payload_bytes: Counts
    frames: Counts
    dropped_frames: int = 0
    """Frames that the kernel could not hand over: the window is a lower bound when this isn't 0."""
    unreadable_frames: int = 0
    """Frames too short or too odd to tell their addresses; their bytes are counted as nobody's."""
    sampled: float = 1.0
    """The share of the frames that were looked at; below 1 the counts are unbiased estimates."""
    bytes_error: NDArray[np.float64] | None = None
    """The standard error of `bytes`, where the window was sampled."""
    capture_cpu_seconds: float | None = None
    """What capturing the window took of the processors, kernel and reader together, where it was measured."""

    @classmethod
    def of_pairs(
        cls,
        pairs: Iterable[PairTraffic] = (),
        *,
        start: datetime,
        seconds: float,
        capture_point: str,
        dropped_frames: int = 0,
        unreadable_frames: int = 0,
    ) -> "TrafficWindow":
        """Return a window of the pairs given, in their order."""
        given = tuple(pairs)
        return cls(
            start=start,
            seconds=seconds,
            capture_point=capture_point,
            addresses=address_pairs((pair.source, pair.destination) for pair in given),
            pair=np.arange(len(given), dtype=np.int32),
            bytes=np.array([pair.bytes for pair in given], dtype=np.int64),
            payload_bytes=np.array([pair.payload_bytes for pair in given], dtype=np.int64),
            frames=np.array([pair.frames for pair in given], dtype=np.int64),
            dropped_frames=dropped_frames,
            unreadable_frames=unreadable_frames,
        )

    @property
    def pairs(self) -> tuple[PairTraffic, ...]:
        """The rows as records, for people and for small windows."""
        return tuple(
            PairTraffic(
                source=source,
                destination=destination,
                bytes=count,
                payload_bytes=payload,
                frames=frames,
            )
            for (source, destination), count, payload, frames in zip(
                endpoints(self.addresses[self.pair]),
                self.bytes.tolist(),
                self.payload_bytes.tolist(),
                self.frames.tolist(),
                strict=True,
            )
        )

    @property
    def total_bytes(self) -> int:
        """All bytes of the window."""
        return int(self.bytes.sum())

    @property
    def total_frames(self) -> int:
        """All frames of the window."""
        return int(self.frames.sum())


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NetworkTraffic:
    """What each VM exchanged with a named network outside; vectors over the matrix's VMs, in bytes."""

    name: NetworkName
    to: Counts
    from_: Counts


@dataclass(frozen=True, kw_only=True, eq=False)
class CommunicationMatrix:
    """Bytes, payload bytes and frames by source VM and destination VM over a stretch of time.

    Sparse: `source`, `destination` (rows of `vms`) and the counts are columns of equal length, one entry for
    each ordered pair that talked, sorted by source, then destination, no pair twice. What VMs exchange with
    anybody else is in the `to_outside` and `from_outside` vectors (bytes), of which `networks` is the part that
    has a name; broadcast and multicast from VMs is `multicast_bytes`; what belongs to no VM at either end is
    `unattributed_bytes`. Nothing is lost in between: the parts add up to the windows.
    """

    start: datetime
    seconds: float
    vms: tuple[VmName, ...]
    source: Rows
    destination: Rows
    bytes: Counts
    payload_bytes: Counts
    frames: Counts
    to_outside: Counts
    from_outside: Counts
    networks: tuple[NetworkTraffic, ...] = ()
    multicast_bytes: int = 0
    unattributed_bytes: int = 0
    dropped_frames: int = 0
    bytes_error: float = 0.0
    """The standard error of the sum of `bytes`; 0 unless windows were sampled."""

    @classmethod
    def of_pairs(
        cls,
        *,
        start: datetime,
        seconds: float,
        vms: Sequence[VmName],
        source: ArrayLike = (),
        destination: ArrayLike = (),
        bytes: ArrayLike = (),  # noqa: A002  (the field's name)
        payload_bytes: ArrayLike | None = None,
        frames: ArrayLike | None = None,
        to_outside: ArrayLike | None = None,
        from_outside: ArrayLike | None = None,
        networks: Sequence[NetworkTraffic] = (),
        multicast_bytes: int = 0,
        unattributed_bytes: int = 0,
        dropped_frames: int = 0,
        bytes_error: float = 0.0,
    ) -> "CommunicationMatrix":
        """Return the matrix of pairs in any order; what is given for a pair twice adds up.

        What isn't given is 0.
        """
        count = len(vms)
        rows = np.asarray(source, dtype=np.int64)
        keys = rows * count + np.asarray(destination, dtype=np.int64)
        pairs, at = np.unique(keys, return_inverse=True)

        def added(values: ArrayLike | None) -> Counts:
            found = np.zeros(len(pairs), dtype=np.int64)
            if values is not None:
                np.add.at(found, at, np.asarray(values, dtype=np.int64))
            return found

        def vector(values: ArrayLike | None) -> Counts:
            empty = np.zeros(count, dtype=np.int64)
            return empty if values is None else np.asarray(values, dtype=np.int64)

        return cls(
            start=start,
            seconds=seconds,
            vms=tuple(vms),
            source=(pairs // max(count, 1)).astype(np.int32),
            destination=(pairs % max(count, 1)).astype(np.int32),
            bytes=added(bytes),
            payload_bytes=added(payload_bytes),
            frames=added(frames),
            to_outside=vector(to_outside),
            from_outside=vector(from_outside),
            networks=tuple(networks),
            multicast_bytes=multicast_bytes,
            unattributed_bytes=unattributed_bytes,
            dropped_frames=dropped_frames,
            bytes_error=bytes_error,
        )

    @classmethod
    def of_dense(
        cls, values: ArrayLike, *, start: datetime, seconds: float, vms: Sequence[VmName]
    ) -> "CommunicationMatrix":
        """Return the matrix of a square array of bytes by source and destination."""
        square = np.asarray(values, dtype=np.int64).reshape(len(vms), len(vms))
        source, destination = np.nonzero(square)
        return cls.of_pairs(
            start=start,
            seconds=seconds,
            vms=vms,
            source=source,
            destination=destination,
            bytes=square[source, destination],
        )

    @classmethod
    def empty(
        cls, *, start: datetime, seconds: float, vms: Sequence[VmName]
    ) -> "CommunicationMatrix":
        """Return the matrix of a silence."""
        return cls.of_pairs(start=start, seconds=seconds, vms=vms)

    @property
    def total_bytes(self) -> int:
        """All bytes that the matrix accounts for."""
        return (
            int(self.bytes.sum() + self.to_outside.sum() + self.from_outside.sum())
            + self.multicast_bytes
            + self.unattributed_bytes
        )

    @cached_property
    def bytes_per_second(self) -> NDArray[np.float64]:
        """Bytes per second of each entry."""
        return self.bytes / max(self.seconds, 1e-9)

    def dense(self, values: NDArray[np.generic] | None = None) -> NDArray[np.generic]:
        """Return a square array of one value for each entry (bytes, unless given), 0 elsewhere.

        For some hundreds of VMs: it takes memory by the square of their number.
        """
        column = self.bytes if values is None else values
        square = np.zeros((len(self.vms), len(self.vms)), dtype=column.dtype)
        square[self.source, self.destination] = column
        return square

    def rate(self) -> NDArray[np.float64]:
        """Return bytes per second by source and destination VM, as a square array (see `dense`)."""
        return self.dense().astype(np.float64) / max(self.seconds, 1e-9)

    def between(self, source: int, destination: int) -> int:
        """Return the bytes that one row's VM sent to another's."""
        first, last = np.searchsorted(self.source, [source, source + 1])
        at = first + int(np.searchsorted(self.destination[first:last], destination))
        found = at < last and self.destination[at] == destination
        return int(self.bytes[at]) if found else 0

    def crossing(
        self, cloud_of: Callable[[VmName], CloudName]
    ) -> Mapping[tuple[CloudName, CloudName], float]:
        """Return the cut of a placement: bytes per second by ordered pair of different clouds."""
        clouds = [cloud_of(vm) for vm in self.vms]
        names = sorted(set(clouds))
        number = {name: at for at, name in enumerate(names)}
        where = np.array([number[cloud] for cloud in clouds], dtype=np.int64)
        source, destination = where[self.source], where[self.destination]
        crosses = source != destination
        pairs, at = np.unique(
            source[crosses] * len(names) + destination[crosses], return_inverse=True
        )
        rates = np.bincount(at, self.bytes_per_second[crosses], len(pairs))
        return {
            (names[pair // len(names)], names[pair % len(names)]): rate
            for pair, rate in zip(pairs.tolist(), rates.tolist(), strict=True)
        }


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MatrixSeries:
    """Matrices of consecutive stretches of time of equal length, over the same VMs; silent ones included."""

    vms: tuple[VmName, ...]
    seconds: float
    matrices: tuple[CommunicationMatrix, ...] = field(default=())


@dataclass(frozen=True, slots=True, kw_only=True)
class UnattributedTraffic:
    """What a pair of addresses exchanged of which neither is a VM's."""

    source: Endpoint
    destination: Endpoint
    bytes: int
    frames: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """VMs that talk mostly to each other."""

    id: GroupId
    vms: tuple[VmName, ...]
    internal_bytes_per_second: float
    external_bytes_per_second: float
    confidence: float = 1.0
    """How well the group was found again in parts of the time, 0 to 1."""

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
