"""One trace on disk while it grows: what a daemon knows, in the files that `transhume replay --traces` reads.

Owns the writing of rows, and which facts have changed since the last. A trace is begun in a folder of another
name, which gets its own when all that a reader needs is in it; rows are appended after that, whole lines at a
time, and a crash can tear the last one only. The reader takes nothing for granted that comes after the last
look (`looks.csv`). When a trace has to end is said in `recording`.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from math import inf
from pathlib import Path

import numpy as np

from transhume.daemon.notice_writing import NoticeRows
from transhume.daemon.recorded_folders import FEDERATION, IN_FORCE, UNFINISHED
from transhume.knowledge.codec import encode
from transhume.knowledge.model import (
    Cloud,
    CloudName,
    CommunicationMatrix,
    Group,
    HostName,
    JobName,
    Outcome,
    PriceTick,
    Progress,
    Resources,
    Snapshot,
    VirtualNetworkName,
    Vm,
    VmName,
)

HEADINGS = {
    "looks.csv": "at",
    "prices.csv": "cloud,at,vcpu,memory,egress,egress_within_region,egress_within_provider",
    "capacity.csv": "host,at,vcpus,memory",
    "notices.csv": "cloud,host,at,deadline,until",
    "progress.csv": "job,at,done,total",
    "traffic.csv": "at,matrix",
}
OUTCOMES = "outcomes.jsonl"
ANALYSIS = {"format": "transhume-analysis", "version": 1}
"""What a matrix of `transhume analyze --json` begins with."""
SHORTEST_TRAFFIC_SECONDS = 5.0
_SPECIAL = frozenset(' /*?[],"')
"""What names in a trace can't have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often something is written, in seconds, and what the replay is told."""

    look_seconds: float = 60.0
    """Between two looks where nothing changes."""
    traffic_seconds: float = 300.0
    """Between two matrices."""
    tick_seconds: float = 60.0
    """Between two instants at which a replay decides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What can't change within a trace."""

    clouds: Mapping[CloudName, Cloud]
    hosts: Mapping[HostName, CloudName]
    links: frozenset[tuple[tuple[CloudName, ...], float, float | None]]
    """Two clouds each, with bytes per second and, if known, the seconds of a round trip."""
    vms: Mapping[VmName, tuple[Resources, str, tuple[str, ...], bool, tuple[str, ...]]]
    """Their needs, clusters, tags, whether it's known what their disks hold, and the networks that matter to
    where they may go."""

    @classmethod
    def of(cls, snapshot: Snapshot) -> "Scene":
        """Return what of a snapshot can be told in a trace: VMs at hosts that have said what they have."""
        hosts = {
            host.name: host.cloud
            for host in snapshot.hosts.values()
            if can_be_named(host.name, host.cloud)
            and host.name in snapshot.capacity
            and snapshot.capacity[host.name].total.vcpus > 0
        }
        clouds = set(hosts.values())
        known = {name: snapshot.clouds[name] for name in sorted(clouds) if name in snapshot.clouds}
        networks = {network for cloud in known.values() for network in _networks(cloud)}
        links = (
            (tuple(sorted(link.clouds)), link.bytes_per_second, link.latency_seconds)
            for link in snapshot.links
            if link.clouds <= clouds and len(link.clouds) == 2
        )
        return cls(
            clouds=known,
            hosts=hosts,
            links=frozenset(links),
            vms={
                name: (
                    vm.needs,
                    vm.cluster or "",
                    tuple(sorted(vm.tags)),
                    vm.disk_bytes > 0,
                    tuple(sorted(vm.networks & networks)),
                )
                for name, vm in snapshot.vms.items()
                if snapshot.placement.host_of.get(name) in hosts and can_be_named(name)
            },
        )


def can_be_named(*names: str) -> bool:
    """Say whether a trace can hold these names."""
    return all(name and name.isprintable() and not _SPECIAL & set(name) for name in names)


class TraceFolder:
    """A trace that grows. One thread at a time; whoever gets an `OSError` begins another one."""

    def __init__(self, path: Path, snapshot: Snapshot, pace: Pace) -> None:
        """Begin a trace at a snapshot's instant; `path` must not be there yet."""
        self.path, self.scene, self.start = path, Scene.of(snapshot), snapshot.at
        self.bytes = 0
        self._pace = pace
        self._folder = path.with_name(path.name + UNFINISHED)
        self._looked: datetime | None = None
        self._prices: dict[CloudName, PriceTick] = {}
        self._priced: dict[CloudName, datetime] = {}
        self._room: dict[HostName, Resources] = {
            host: snapshot.capacity[host].total for host in self.scene.hosts
        }
        self._notices = NoticeRows(self.scene.hosts)
        self._progress: dict[JobName, Progress] = {}
        self._outcomes: set[tuple[str, ...]] = set()
        self._traffic: CommunicationMatrix | None = None
        self._traffic_at: datetime | None = None
        self._matrices = self._sets = 0
        self._policies: Mapping[str, bytes] | None = None
        (self._folder / "traffic").mkdir(parents=True)
        for name, heading in HEADINGS.items():
            self._write(name, heading + "\n")
        self._write(OUTCOMES, "")
        self._write(FEDERATION, _federation(snapshot, self.scene, pace))
        self.look(snapshot)
        self._folder.rename(path)
        self._folder = path

    @property
    def lasted(self) -> timedelta:
        """How long the trace is by now."""
        return (self._looked or self.start) - self.start

    def note(self, snapshot: Snapshot) -> None:
        """Write down what is new in a snapshot; older ones than the last look are passed over."""
        if self._looked is not None and snapshot.at <= self._looked:
            return
        at = snapshot.at
        self._append("prices.csv", self._new_prices(snapshot))
        self._append("capacity.csv", self._new_room(snapshot))
        self._append("notices.csv", self._notices.new(snapshot))
        self._append("progress.csv", self._new_progress(snapshot))
        self._append(OUTCOMES, self._new_outcomes(snapshot))
        if snapshot.matrix is not None and self._traffic_is_due(snapshot.matrix, at):
            self._add_matrix(snapshot.matrix, snapshot.groups, at)
        if self._looked is None or (at - self._looked).total_seconds() >= self._pace.look_seconds:
            self.looked(at)

    def look(self, snapshot: Snapshot) -> None:
        """Write down what is new, and that this was the state of things."""
        self.note(snapshot)
        self.looked(snapshot.at)

    def looked(self, at: datetime) -> None:
        """Let the trace last up to an instant."""
        if self._looked is None or at > self._looked:
            self._append("looks.csv", [_instant(at)])
            self._looked = at

    def keep_policies(self, sources: Mapping[str, bytes]) -> None:
        """Keep the policy files that are in force from now on, as they are."""
        if sources == self._policies:
            return
        self._sets += 1
        unfinished = self._folder / "policies" / f"{self._sets}{UNFINISHED}"
        folder = unfinished / IN_FORCE
        folder.mkdir(parents=True)
        for number, (name, raw) in enumerate(sources.items(), 1):
            (folder / f"{number:02}-{Path(name).stem}.yaml").write_bytes(raw)
            self.bytes += len(raw)
        unfinished.rename(unfinished.with_suffix(""))
        self._policies = dict(sources)

    # --- what is new -----------------------------------------------------------------------------

    def _new_prices(self, snapshot: Snapshot) -> Iterator[str]:
        for cloud, tick in sorted(snapshot.prices.items()):
            if cloud in self.scene.clouds and self._prices.get(cloud) != tick:
                self._prices[cloud] = tick
                at = self._priced[cloud] = self._price_began(tick, snapshot.at)
                yield (
                    f"{cloud},{_instant(at)},{_number(tick.dollars_per_vcpu_hour)}/h,"
                    f"{_number(tick.dollars_per_gib_hour)}/GiB/h,"
                    f"{_number(tick.egress_dollars_per_gb)}/GB,"
                    f"{_per_gb(tick.egress_within_region_dollars_per_gb)},"
                    f"{_per_gb(tick.egress_within_provider_dollars_per_gb)}"
                )

    def _price_began(self, tick: PriceTick, now: datetime) -> datetime:
        """Return since when a price holds: what it says may be before the last one, or in time to come."""
        at = min(tick.at, now)
        before = self._priced.get(tick.cloud)
        return at if before is None or at >= before else now

    def _new_room(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield what hosts have where that is something else; a host's silence isn't taken for its end."""
        for host, before in self._room.items():
            report = snapshot.capacity.get(host)
            if report is not None and report.total != before and report.total.vcpus > 0:
                self._room[host] = report.total
                total = report.total
                yield f"{host},{_instant(snapshot.at)},{total.vcpus},{total.memory_bytes}B"

    def _new_progress(self, snapshot: Snapshot) -> Iterator[str]:
        for job, progress in sorted(snapshot.progress.items()):
            if self._progress.get(job) == progress or not 0 < progress.total < inf:
                continue
            self._progress[job] = progress
            told = job.strip() and job.isprintable() and not {",", '"'} & set(job)
            if told and 0 <= progress.done < inf:
                yield (
                    f"{job},{_instant(progress.at)},{_number(progress.done)},"
                    f"{_number(progress.total)}"
                )

    def _new_outcomes(self, snapshot: Snapshot) -> Iterator[str]:
        """Yield those that weren't told yet; one snapshot may look further back than the one before."""
        for outcome in reversed(snapshot.outcomes):
            if (identity := _identity(outcome)) not in self._outcomes:
                self._outcomes.add(identity)
                yield encode(outcome).decode()

    # --- traffic ---------------------------------------------------------------------------------

    def _traffic_is_due(self, matrix: CommunicationMatrix, at: datetime) -> bool:
        """Say whether a matrix is to be written: sooner where the last one had seen little."""
        if self._traffic is None or self._traffic_at is None:
            return True
        pause = min(
            self._pace.traffic_seconds, max(self._traffic.seconds, SHORTEST_TRAFFIC_SECONDS)
        )
        if (at - self._traffic_at).total_seconds() < pause:
            return False
        return (matrix.start, matrix.seconds) != (self._traffic.start, self._traffic.seconds)

    def _add_matrix(
        self, matrix: CommunicationMatrix, groups: tuple[Group, ...], at: datetime
    ) -> None:
        self._matrices += 1
        name = f"{self._matrices:06}"
        text = json.dumps(_analysis(matrix, groups, self.scene.vms))
        unfinished = self._folder / "traffic" / f"{name}{UNFINISHED}"
        unfinished.write_text(text, encoding="utf-8")
        unfinished.rename(unfinished.with_suffix(".json"))
        self.bytes += len(text)
        self._append("traffic.csv", [f"{_instant(at)},{name}"])
        self._traffic, self._traffic_at = matrix, at

    # --- files -----------------------------------------------------------------------------------

    def _append(self, name: str, rows: Iterable[str]) -> None:
        text = "".join(f"{row}\n" for row in rows)
        if text:
            self._write(name, text)

    def _write(self, name: str, text: str) -> None:
        raw = text.encode()
        with (self._folder / name).open("ab") as file:
            file.write(raw)
        self.bytes += len(raw)


def _federation(snapshot: Snapshot, scene: Scene, pace: Pace) -> str:
    """Return what there is, a thing a line: JSON within, which is YAML too, as names may be any words."""
    lines = [
        "# Recorded by transhume run. It lasts up to the last line of looks.csv.",
        f"start: {_instant(snapshot.at)}",
        f"tick: {_number(pace.tick_seconds)}s",
        "clouds:",
    ]
    for name, known in scene.clouds.items():
        hosts = {
            host: _amount(snapshot.capacity[host].total)
            for host, cloud in sorted(scene.hosts.items())
            if cloud == name
        }
        told: dict[str, object] = {
            "provider": known.provider,
            "region": known.region,
            "revocable": known.revocable,
        }
        if known.networks is not None:
            told["networks"] = _networks(known)
        lines.append(f"  {_plain(name)}: {_plain({**told, 'hosts': hosts})}")
    lines.append("links:" if scene.links else "links: []")
    for ends, rate, latency in sorted(scene.links, key=lambda link: link[0]):
        way: dict[str, object] = {"between": list(ends), "rate": f"{_number(rate)}B/s"}
        if latency is not None:
            way["latency"] = f"{_number(latency)}s"
        lines.append(f"  - {_plain(way)}")
    lines.append("vms:")
    for vm, (*_, networks) in scene.vms.items():
        told = _vm(snapshot.vms[vm], snapshot.placement.host_of[vm])
        if networks:
            told["networks"] = networks
        lines.append(f"  {_plain(vm)}: {_plain(told)}")
    return "\n".join(lines) + "\n"


def _vm(vm: Vm, host: HostName) -> dict[str, object]:
    found: dict[str, object] = {"host": host, **_amount(vm.needs)}
    if vm.dirty_bytes_per_second is not None:
        found["dirty"] = f"{_number(vm.dirty_bytes_per_second)}B/s"
    if vm.disk_bytes:
        found["disks"] = f"{vm.disk_bytes}B"
    if vm.cluster is not None and can_be_named(vm.cluster):
        found["cluster"] = vm.cluster
    tags = sorted(filter(can_be_named, vm.tags))
    return {**found, "tags": tags} if tags else found


def _networks(cloud: Cloud) -> list[VirtualNetworkName]:
    return sorted(filter(can_be_named, cloud.networks or ()))


def _amount(amount: Resources) -> dict[str, object]:
    return {"vcpus": amount.vcpus, "memory": f"{amount.memory_bytes}B"}


def _identity(outcome: Outcome) -> tuple[str, ...]:
    return outcome.plan, outcome.step, outcome.result


def _analysis(
    matrix: CommunicationMatrix, groups: tuple[Group, ...], known: Mapping[VmName, object]
) -> dict[str, object]:
    """Return the part of an analysis that a replay reads; VMs that the trace doesn't have are left out."""
    ours = np.array([vm in known for vm in matrix.vms], dtype=bool)
    number = np.cumsum(ours) - 1
    between = ours[matrix.source] & ours[matrix.destination]
    columns = (matrix.bytes, matrix.payload_bytes, matrix.frames)
    pairs = np.stack(
        [
            number[matrix.source[between]],
            number[matrix.destination[between]],
            *(column[between] for column in columns),
        ],
        axis=1,
    )
    return {
        **ANALYSIS,
        "start": matrix.start.isoformat(),
        "seconds": matrix.seconds,
        "vms": [{"name": vm} for vm in matrix.vms if vm in known],
        "pairs": pairs.tolist(),
        "to_outside": matrix.to_outside[ours].tolist(),
        "from_outside": matrix.from_outside[ours].tolist(),
        "multicast_bytes": matrix.multicast_bytes,
        "unattributed": {"bytes": matrix.unattributed_bytes},
        "dropped_frames": matrix.dropped_frames,
        "groups": [_group(group) for group in groups if all(vm in known for vm in group.vms)],
    }


def _group(group: Group) -> dict[str, object]:
    return {
        "id": group.id,
        "vms": list(group.vms),
        "internal_bytes_per_second": group.internal_bytes_per_second,
        "external_bytes_per_second": group.external_bytes_per_second,
        "confidence": group.confidence,
    }


def _plain(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _instant(at: datetime) -> str:
    return at.isoformat()


def _per_gb(dollars: float | None) -> str:
    return "" if dollars is None else f"{_number(dollars)}/GB"


def _number(value: float) -> str:
    """Write a number exactly, and without an exponent."""
    return format(Decimal(repr(float(value))), "f")
