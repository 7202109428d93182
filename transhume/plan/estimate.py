"""What a move will take: bytes, seconds, the guest's pause and dollars, learnt from past moves.

    bytes    = memory x factor x inflation
    seconds  = bytes / link rate + memory x drag + overhead
    dollars  = bytes x egress price of the source cloud (0 within a cloud)
             + seconds x compute price at the destination (both ends are occupied while a VM moves)

The inflation is what a guest adds by rewriting memory that was sent already: 1 / (1 - dirty rate / link rate),
bounded: a guest that writes faster than that is slowed by its hypervisor, and the prediction says that the move
doesn't converge without. Between clouds, a rewritten byte takes less than one on the wire where gateways carry
it: how much is the geometric mean of what they made of past moves.

The factor is how much of a VM's memory goes over the wire; it's the geometric mean of what past moves took over
memory and inflation, so that one odd move in either direction weighs little. Where a VM's memory is known
beforehand at the destination, only the rest of it is sent; no factor is learnt from moves of such VMs.

The drag is how much longer moves took than their link needed, for each byte of memory: where processors are
slower than links, memory has to be read and looked up all the same. It's the median of past moves, of those
within clouds and of those between them. So are the rounds, and what gateways computed for each byte of memory.
"""

import math
import statistics
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from transhume.knowledge.model import (
    BYTES_PER_GB,
    SECONDS_PER_HOUR,
    CloudName,
    Measurement,
    Outcome,
    Prediction,
    PriceTick,
    Snapshot,
    StepResult,
    Vm,
    VmName,
)
from transhume.plan.settings import PlannerSettings

LEARNT_FROM = 50
"""How many of the latest moves the factor and the pause are learnt from."""
LEAST_UNKNOWN = 0.02
"""Of a VM's memory, what is sent however warm it is: it goes on changing, and references take bytes too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Drag:
    """What moves take beside bytes on a link, learnt from past ones."""

    inner_seconds_per_byte: float = 0.0
    """Of a VM's memory, within a cloud."""
    crossing_seconds_per_byte: float = 0.0
    cpu_seconds_per_byte: float | None = None
    """Of a gateway's processor; None until it's known."""
    rounds: int | None = None

    def seconds(self, vm: Vm, *, crosses: bool) -> float:
        """Return how much longer a move takes than its link needs."""
        each = self.crossing_seconds_per_byte if crosses else self.inner_seconds_per_byte
        return vm.needs.memory_bytes * each

    def cpu_seconds(self, vm: Vm, *, crosses: bool) -> float | None:
        """Return what it costs a gateway, where one has told and may take part."""
        each = self.cpu_seconds_per_byte
        return vm.needs.memory_bytes * each if crosses and each is not None else None


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

    @classmethod
    def learnt_from(cls, snapshot: Snapshot, settings: PlannerSettings) -> "Estimator":
        """Settle the factor and the pause from the latest moves, or from the settings' assumptions."""
        novice = cls(
            snapshot=snapshot,
            settings=settings,
            factor=settings.memory_factor,
            downtime_seconds=settings.downtime_seconds,
        )
        done = [
            (o, o.measured)
            for o in snapshot.outcomes[:LEARNT_FROM]
            if o.result is StepResult.DONE and o.measured is not None
        ]
        thinnings = list(_thinnings(done))
        novice = replace(
            novice, thinning=statistics.geometric_mean(thinnings) if thinnings else 1.0
        )
        factors = list(novice._factors(done))
        pauses = [m.downtime_seconds for _, m in done if m.downtime_seconds is not None]
        return cls(
            snapshot=snapshot,
            settings=settings,
            factor=statistics.geometric_mean(factors) if factors else novice.factor,
            downtime_seconds=statistics.median(pauses) if pauses else novice.downtime_seconds,
            thinning=novice.thinning,
            drag=novice._drag(done),
            unknown={
                (each.vm, each.cloud): max(LEAST_UNKNOWN, 1.0 - each.known_share)
                for each in snapshot.warmth
            },
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
        rate, crosses = self.link_rate(source, destination), source != destination
        unknown = self.unknown.get((vm.name, destination), 1.0)
        count, seconds = self.transfer(vm, rate, unknown=unknown, crosses=crosses)
        crossing = count / BYTES_PER_GB * egress if crosses else 0.0
        twice = price.compute_dollars_per_hour(vm.needs) * seconds / SECONDS_PER_HOUR
        return Prediction(
            bytes=round(count),
            seconds=seconds,
            downtime_seconds=self.downtime_seconds,
            dollars=crossing + twice,
            converges=self.rewritten(vm, rate, crosses=crosses) < 1,
            rounds=self.drag.rounds,
            cpu_seconds=self.drag.cpu_seconds(vm, crosses=crosses),
        )

    def transfer(
        self, vm: Vm, rate: float, *, unknown: float = 1.0, crosses: bool = True
    ) -> tuple[float, float]:
        """Return the bytes of a move and its seconds, at so many bytes per second.

        Args:
            vm: who moves.
            rate: of the path.
            unknown: the share of its memory that the destination doesn't know.
            crosses: whether it's a path between clouds.
        """
        inflation = self.inflation(vm, rate, crosses=crosses)
        count = vm.needs.memory_bytes * self.factor * inflation * unknown
        dragged = self.drag.seconds(vm, crosses=crosses)
        return count, count / rate + dragged + self.settings.overhead_seconds

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

    def _factors(self, done: list[tuple[Outcome, Measurement]]) -> Iterator[float]:
        for vm, rate, crosses, measured in self._known(done):
            sent = vm.needs.memory_bytes * self.inflation(vm, rate, crosses=crosses)
            if not _was_warm(measured) and measured.bytes > 0 and math.isfinite(measured.bytes):
                yield measured.bytes / sent

    def _drag(self, done: list[tuple[Outcome, Measurement]]) -> Drag:
        spent: dict[bool, list[float]] = {True: [], False: []}
        computed = []
        for vm, rate, crosses, measured in self._known(done):
            linked = measured.bytes / rate + self.settings.overhead_seconds
            spent[crosses].append(max(0.0, measured.seconds - linked) / vm.needs.memory_bytes)
            if measured.transfer is not None and measured.transfer.cpu_seconds > 0:
                computed.append(measured.transfer.cpu_seconds / vm.needs.memory_bytes)
        rounds = [m.rounds for _, m in done if m.rounds is not None]
        return Drag(
            inner_seconds_per_byte=_median(spent[False]) or 0.0,
            crossing_seconds_per_byte=_median(spent[True]) or 0.0,
            cpu_seconds_per_byte=_median(computed),
            rounds=round(statistics.median(rounds)) if rounds else None,
        )

    def _known(
        self, done: list[tuple[Outcome, Measurement]]
    ) -> Iterator[tuple[Vm, float, bool, Measurement]]:
        """Yield the VM of each move that is still known, its rate, and whether it left its cloud."""
        for outcome, measured in done:
            vm = self.snapshot.vms.get(outcome.vm)
            ends = [self.snapshot.hosts.get(h) for h in (outcome.source, outcome.destination)]
            if vm is None or vm.needs.memory_bytes <= 0 or None in ends:
                continue
            source, destination = (host.cloud for host in ends if host is not None)
            yield vm, self.link_rate(source, destination), source != destination, measured


def _median(found: list[float]) -> float | None:
    return statistics.median(found) if found else None


def _was_warm(measured: Measurement) -> bool:
    """Say whether most of a VM's memory was known where it went."""
    transfer = measured.transfer
    return transfer is not None and transfer.own_pages > transfer.new_pages


def _thinnings(done: Iterable[tuple[Outcome, Measurement]]) -> Iterator[float]:
    """Yield what became of a byte on its way, for each move by gateways that was no visit before."""
    for _, measured in done:
        transfer = measured.transfer
        if transfer is None or _was_warm(measured):
            continue
        if transfer.raw_bytes > 0 and transfer.wire_bytes > 0:
            yield min(1.0, transfer.wire_bytes / transfer.raw_bytes)
