"""What a move will take: bytes, seconds, the guest's pause and dollars, learnt from past moves.

    bytes    = memory x factor x inflation + disks (see `disk_estimate`)
    seconds  = bytes / link rate + (memory + disks) x drag + overhead
    dollars  = bytes x egress price of the source cloud (0 within a cloud)
             + seconds x compute price at the destination (both ends are occupied while a VM moves)

The inflation is what a guest adds by rewriting memory that was sent already: 1 / (1 - dirty rate / link rate),
bounded: a guest that writes faster than that is slowed by its hypervisor, and the prediction says that the move
doesn't converge without. Between clouds, a rewritten byte takes less than one on the wire where gateways carry
it: how much is the geometric mean of what they made of past moves.

The factor is how much of a VM's memory goes over the wire; it's the geometric mean of what past moves took over
memory and inflation, so that one odd move in either direction weighs little. Where a VM's memory is known
beforehand at the destination, because it was sent ahead or went that way before (see `returns`), only the rest
of it is sent; no factor is learnt from moves of such VMs.

The drag is how much longer moves took than their link needed, for each byte of memory and of copied disks:
where processors are slower than links, all of it has to be read and looked up all the same. It's the median of
past moves, of those within clouds and of those between them. So are the rounds, and what gateways computed for
each byte.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from transhume.knowledge.model import (
    BYTES_PER_GB,
    SECONDS_PER_HOUR,
    CloudName,
    Measurement,
    Prediction,
    PriceTick,
    Snapshot,
    StepResult,
    Vm,
    VmName,
)
from transhume.plan.disk_estimate import LEAST_UNKNOWN, DiskEstimate
from transhume.plan.past_moves import LEARNT_FROM, Past, past_moves
from transhume.plan.returns import Carried, Returns
from transhume.plan.settings import PlannerSettings
from transhume.policies.model import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Drag:
    """What moves take beside bytes on a link, learnt from past ones."""

    inner_seconds_per_byte: float = 0.0
    """Of what is read of a VM, within a cloud."""
    crossing_seconds_per_byte: float = 0.0
    cpu_seconds_per_byte: float | None = None
    """Of a gateway's processor; None until it's known."""
    rounds: int | None = None

    def seconds(self, read_bytes: float, *, crosses: bool) -> float:
        """Return how much longer a move takes than its link needs."""
        each = self.crossing_seconds_per_byte if crosses else self.inner_seconds_per_byte
        return read_bytes * each

    def cpu_seconds(self, read_bytes: float, *, crosses: bool) -> float | None:
        """Return what it costs a gateway, where one has told and may take part."""
        each = self.cpu_seconds_per_byte
        return read_bytes * each if crosses and each is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimator:
    """Predicts moves. Build it with `learnt_from`."""

    snapshot: Snapshot
    settings: PlannerSettings
    factor: float
    downtime_seconds: float
    drag: Drag = field(default_factory=Drag)
    thinning: float = 1.0
    """What becomes of a byte of memory on its way between clouds, by deduplication and compression."""
    unknown: Mapping[tuple[VmName, CloudName], float] = field(default_factory=dict)
    """The share of a VM's memory that a cloud doesn't know, where that isn't all of it."""
    returns: Returns = field(default_factory=Returns)
    """Of memory."""
    disks: DiskEstimate = field(default_factory=DiskEstimate)

    @classmethod
    def learnt_from(
        cls, snapshot: Snapshot, settings: PlannerSettings, policies: Sequence[Policy] = ()
    ) -> "Estimator":
        """Settle the factor and the pause from the latest moves, or from the settings' assumptions.

        Args:
            snapshot: what is known.
            settings: the assumptions.
            policies: those that say whose disks are copied.
        """
        novice = cls(
            snapshot=snapshot,
            settings=settings,
            factor=settings.memory_factor,
            downtime_seconds=settings.downtime_seconds,
        )
        latest = snapshot.outcomes[:LEARNT_FROM]
        past = tuple(past_moves(snapshot, snapshot.outcomes))
        carried = Carried.of(past, lambda move: move.measured.transfer is not None)
        first = [
            move for move, since in carried.latest if since is None and not _was_warm(move.measured)
        ]
        done = [o.measured for o in latest if o.result is StepResult.DONE and o.measured]
        thinnings = list(_thinnings(first))
        novice = replace(
            novice, thinning=statistics.geometric_mean(thinnings) if thinnings else 1.0
        )
        factors = [factor for move in first if (factor := novice._factor_of(move)) is not None]
        novice = replace(
            novice, factor=statistics.geometric_mean(factors) if factors else novice.factor
        )
        pauses = [m.downtime_seconds for m in done if m.downtime_seconds is not None]
        return cls(
            snapshot=snapshot,
            settings=settings,
            factor=novice.factor,
            downtime_seconds=statistics.median(pauses) if pauses else novice.downtime_seconds,
            thinning=novice.thinning,
            drag=novice._drag(past[:LEARNT_FROM], done),
            unknown={
                (each.vm, each.cloud): max(LEAST_UNKNOWN, 1.0 - each.known_share)
                for each in snapshot.warmth
            },
            returns=Returns.learnt_from(carried, novice._factor_of, novice.factor, snapshot.at),
            disks=DiskEstimate.learnt_from(snapshot, policies, past, settings),
        )

    def predict(
        self, vm: Vm, source: CloudName, destination: CloudName, price: PriceTick, egress: float
    ) -> Prediction:
        """Return what a move takes.

        Args:
            vm: who moves.
            source: the cloud that it leaves.
            destination: the cloud that it goes to.
            price: what the destination asks.
            egress: dollars for each 10^9 bytes that leave the source.
        """
        way = self._way(vm, source, destination)
        count, seconds = self._taken(vm, way)
        crossing = count / BYTES_PER_GB * egress if way.crosses else 0.0
        twice = price.compute_dollars_per_hour(vm.needs) * seconds / SECONDS_PER_HOUR
        return Prediction(
            bytes=round(count),
            seconds=seconds,
            downtime_seconds=self.downtime_seconds,
            dollars=crossing + twice,
            converges=self.rewritten(vm, way.rate, crosses=way.crosses) < 1,
            rounds=self.drag.rounds,
            cpu_seconds=self.drag.cpu_seconds(way.read_bytes, crosses=way.crosses),
            disk_bytes=round(way.disk_bytes),
        )

    def seconds(self, vm: Vm, source: CloudName, destination: CloudName) -> float:
        """Return how long a move takes."""
        return self._taken(vm, self._way(vm, source, destination))[1]

    def _way(self, vm: Vm, source: CloudName, destination: CloudName) -> "_Way":
        disks = self.disks.copied(vm, source, destination)
        return _Way(
            rate=self.link_rate(source, destination),
            crosses=source != destination,
            unknown=min(
                self.unknown.get((vm.name, destination), 1.0),
                max(LEAST_UNKNOWN, self.returns.unknown(vm.name, source, destination)),
            ),
            read_bytes=vm.needs.memory_bytes + disks.read_bytes,
            disk_bytes=disks.sent_bytes,
        )

    def _taken(self, vm: Vm, way: "_Way") -> tuple[float, float]:
        """Return the bytes of a move and its seconds."""
        inflation = self.inflation(vm, way.rate, crosses=way.crosses)
        memory = vm.needs.memory_bytes * self.factor * inflation * way.unknown
        count = memory + way.disk_bytes
        dragged = self.drag.seconds(way.read_bytes, crosses=way.crosses)
        return count, count / way.rate + dragged + self.settings.overhead_seconds

    def link_rate(self, source: CloudName, destination: CloudName) -> float:
        """Return the bytes per second that a move gets of a path: its part of it, where several share it."""
        return self._path_rate(source, destination) / self.settings.moves_per_link

    def share(self, source: CloudName, destination: CloudName) -> float | None:
        """Return what of a link between clouds a move is to keep to; None where that would be a guess."""
        return None if self.is_guess(source, destination) else self.link_rate(source, destination)

    def is_guess(self, source: CloudName, destination: CloudName) -> bool:
        """Say whether nobody told what a path carries."""
        return source == destination or not self.snapshot.bytes_per_second_between(
            source, destination
        )

    def _path_rate(self, source: CloudName, destination: CloudName) -> float:
        if source == destination:
            return self.settings.inner_bytes_per_second
        known = self.snapshot.bytes_per_second_between(source, destination)
        return known if known else self.settings.link_bytes_per_second

    def rewritten(self, vm: Vm, rate: float, *, crosses: bool = True) -> float:
        """Return which share of what a path carries the guest rewrites meanwhile; from 1 on it never ends."""
        thinning = self.thinning if crosses else 1.0
        return (vm.dirty_bytes_per_second or 0.0) * thinning / rate

    def inflation(self, vm: Vm, rate: float, *, crosses: bool = True) -> float:
        """Return how many times over the memory is sent because the guest rewrites it meanwhile."""
        most = self.settings.max_dirty_inflation
        share = self.rewritten(vm, rate, crosses=crosses)
        return most if share >= 1 else min(most, 1 / (1 - share))

    def _factor_of(self, move: Past) -> float | None:
        """Return what a move sent of the VM's memory; None where nobody can tell."""
        vm, count = move.vm, move.measured.memory_bytes
        if vm.disk_bytes and move.measured.disk_bytes is None:
            return None  # its disks may be among the bytes
        if count <= 0 or not math.isfinite(count) or vm.needs.memory_bytes <= 0:
            return None
        rate = self.link_rate(move.source, move.destination)
        return count / (vm.needs.memory_bytes * self.inflation(vm, rate, crosses=move.crosses))

    def _drag(self, past: Sequence[Past], done: Sequence[Measurement]) -> Drag:
        spent: dict[bool, list[float]] = {True: [], False: []}
        computed = []
        for move in past:
            read = _bytes_read(move)
            if not read:
                continue
            rate = self.link_rate(move.source, move.destination)
            linked = _bytes_on_the_wire(move) / rate + self.settings.overhead_seconds
            spent[move.crosses].append(max(0.0, move.measured.seconds - linked) / read)
            transfer = move.measured.transfer
            if transfer is not None and transfer.cpu_seconds > 0:
                computed.append(transfer.cpu_seconds / read)
        rounds = [m.rounds for m in done if m.rounds is not None]
        return Drag(
            inner_seconds_per_byte=_median(spent[False]) or 0.0,
            crossing_seconds_per_byte=_median(spent[True]) or 0.0,
            cpu_seconds_per_byte=_median(computed),
            rounds=round(statistics.median(rounds)) if rounds else None,
        )


class _Way(NamedTuple):
    """What there is to a VM's move from one cloud to another."""

    rate: float
    """Bytes per second."""
    crosses: bool
    unknown: float
    """The share of its memory that the destination doesn't know."""
    read_bytes: float
    disk_bytes: float
    """Sent, of disks that go along."""


def _bytes_read(move: Past) -> int:
    """Return what was read of a VM; 0 where nobody can tell."""
    held, copied = move.vm.disk_bytes, move.measured.disk_bytes
    if (held and copied is None) or (copied and not held):
        return 0
    return move.vm.needs.memory_bytes + (held if copied else 0)


def _bytes_on_the_wire(move: Past) -> int:
    """Return what went over the wire, without the holes of disks, which hypervisors by themselves count."""
    measured = move.measured
    if measured.disks is not None or not measured.disk_bytes:
        return measured.bytes
    return measured.memory_bytes + min(measured.disk_bytes, move.vm.disk_bytes)


def _median(found: list[float]) -> float | None:
    return statistics.median(found) if found else None


def _was_warm(measured: Measurement) -> bool:
    """Say whether most of a VM's memory was known where it went."""
    memory = measured.memory
    return memory is not None and memory.mostly_sent_before


def _thinnings(first: Iterable[Past]) -> Iterator[float]:
    """Yield what became of a byte on its way, for each move by gateways of memory that wasn't known."""
    for move in first:
        memory = move.measured.memory
        if memory is not None and memory.raw_bytes > 0 and memory.wire_bytes > 0:
            yield min(1.0, memory.wire_bytes / memory.raw_bytes)
