"""Folders of traces: what was known of a federation over time, in files that a person or a daemon writes.

    federation.yaml   start and length; clouds, hosts, links, VMs: what there is and where it is at first
    prices.csv/.yaml  a price schedule, as the daemon reads them
    capacity.csv      host,at,vcpus,memory       what a host has for our VMs from then on; 0 vCPUs: it is gone
    notices.csv       cloud,host,at,deadline,until
    availability/     CLOUD.json, as `transhume replay --job` reads them: no machine there, no cloud
    progress.csv      job,at,done,total
    traffic/          matrices by name: *.json of `transhume analyze`, or *.csv of source,destination,rate
    traffic.csv       at,matrix                  which of them holds from when on
    outcomes.json     of `transhume history --json`: moves to calibrate the model of migration on

A daemon that records writes outcomes.jsonl instead, a move a line, and looks.csv: each instant up to which
nothing is missing. What a crash tore off is passed over there, and told.

Only the first is needed. Instants are written as such, or as a duration since the start. `docs/replay.md` is
the reference; what the records mean is in `replaying.trace`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from transhume.cli.availability_files import load_availability
from transhume.cli.exports.result import read_result
from transhume.cli.trace_schema import (
    CapacityRow,
    FederationSchema,
    LookRow,
    NoticeRow,
    PairRow,
    ProgressRow,
    TracedVmSchema,
    TrafficRow,
)
from transhume.cli.watching import warn
from transhume.daemon.recorded_folders import FEDERATION, latest_trace
from transhume.deployment.crosschecks import crosschecks
from transhume.errors import InvalidFile, Mistake, UsageError
from transhume.knowledge.codec import UnreadableRecord, decode
from transhume.knowledge.model import (
    NOTHING,
    Cloud,
    CloudName,
    ClusterName,
    CommunicationMatrix,
    Host,
    HostName,
    Interface,
    JobName,
    Link,
    MacAddress,
    Outcome,
    PriceTick,
    Resources,
    RevocationNotice,
    VirtualNetworkName,
    Vm,
    VmName,
)
from transhume.located_yaml import Located, read_bytes, read_file, read_table, validate
from transhume.located_yaml import decode as decode_text
from transhume.monitor.clouds.price_rows import PriceRow
from transhume.monitor.clouds.prices import load_prices
from transhume.replaying import Facts, HostRoom, JobPace, Trace, Traffic
from transhume.replaying.trace import Change, NewTraffic

LOOKS = "looks.csv"
MAX_TABLE_BYTES = 64 << 20
MATRIX_SECONDS = 300.0
"""What a matrix of rates is taken to have been seen for."""
OUTSIDE = "outside"

Row = TypeVar("Row", bound=BaseModel)


def load_trace(folder: Path) -> Trace:
    """Return the trace in a folder, or the newest of those in a daemon's recording.

    Raises:
        UsageError: the folder isn't there or holds no trace; or a part of it is of something unknown.
        InvalidFile: with every mistake of the first file that has any.
    """
    latest = latest_trace(folder)
    if latest is None:
        raise UsageError(
            f"{folder} holds no {FEDERATION}; name a folder with a trace (docs/replay.md says what is "
            "in it), or give --job and --deadline for deadline policies over availability"
        )
    located = read_file(latest / FEDERATION)
    written = validate(FederationSchema, located, crosschecks, _unknown_hosts, _unknown_networks)
    return _Folder(latest, written, located).trace()


class _Folder:
    def __init__(self, folder: Path, written: FederationSchema, located: Located) -> None:
        self._folder, self._written, self._located = folder, written, located
        self._start = written.start
        self._recorded = (folder / LOOKS).exists()
        self._done: dict[JobName, float] = {}
        self._cloud_of = {
            HostName(host): CloudName(name)
            for name, cloud in written.clouds.items()
            for host in cloud.hosts
        }

    def trace(self) -> Trace:
        written = self._written
        changes: list[Change] = [
            *self._prices(),
            *self._capacity(),
            *self._notices(),
            *self._availability(),
            *self._progress(),
            *self._traffic(),
        ]
        return Trace(
            start=self._start,
            end=self._end(),
            facts=self._facts(),
            host_of={VmName(name): HostName(vm.host) for name, vm in written.vms.items()},
            changes=tuple(changes),
            outcomes=self._outcomes(),
            done=self._done,
            tick_seconds=written.tick,
            deduplication=written.deduplication or 0.0,
            restart_seconds=written.restart,
        )

    def _facts(self) -> Facts:
        written = self._written
        return Facts(
            clouds={
                CloudName(name): Cloud(
                    name=CloudName(name),
                    provider=cloud.provider,
                    region=cloud.region,
                    revocable=cloud.revocable,
                    networks=_networks(cloud.networks),
                )
                for name, cloud in written.clouds.items()
            },
            hosts={host: Host(name=host, cloud=cloud) for host, cloud in self._cloud_of.items()},
            links=tuple(
                Link(
                    clouds=frozenset(map(CloudName, link.between)),
                    bytes_per_second=link.rate,
                    latency_seconds=link.latency,
                )
                for link in written.links
            ),
            vms={VmName(name): _vm(name, vm) for name, vm in written.vms.items()},
            room={
                HostName(host): Resources(vcpus=amount.vcpus, memory_bytes=amount.memory)
                for cloud in written.clouds.values()
                for host, amount in cloud.hosts.items()
            },
        )

    def _when(self, moment: timedelta | datetime) -> datetime:
        return moment if isinstance(moment, datetime) else self._start + moment

    def _end(self) -> datetime:
        if self._written.lasts is not None:
            return self._start + timedelta(seconds=self._written.lasts)
        found = self._rows(LOOKS, LookRow)
        if found is None:
            message = (
                f"how long the trace lasts isn't said; write lasts, as in lasts: 3d, or a {LOOKS}"
            )
            raise InvalidFile((self._located.mistake(("start",), message, at_key=True),))
        return max((self._when(row.at) for row in found[0]), default=self._start)

    def _rows(self, name: str, schema: type[Row]) -> tuple[tuple[Row, ...], Located] | None:
        path = self._folder / name
        return _table(path, schema, may_be_torn=self._recorded) if path.exists() else None

    # --- its files -------------------------------------------------------------------------------

    def _prices(self) -> Iterator[PriceTick]:
        if self._recorded:
            found = self._rows("prices.csv", PriceRow)
            yield from (row.tick(self._start) for row in (found[0] if found else ()))
            return
        for name in ("prices.csv", "prices.yaml"):
            path = self._folder / name
            if not path.exists():
                continue
            for row in load_prices(path).rows:
                tick = row.tick(self._start)
                if tick.cloud not in self._written.clouds:
                    raise UsageError(
                        f"{path}: a price of {tick.cloud}, but {FEDERATION} has no such cloud; "
                        f"known there: {', '.join(self._written.clouds)}"
                    )
                yield tick

    def _capacity(self) -> Iterator[HostRoom]:
        found = self._rows("capacity.csv", CapacityRow)
        for number, row in enumerate(found[0] if found else ()):
            host = HostName(row.host)
            if found and host not in self._cloud_of:
                raise _unknown(found[1], number, "host", row.host, self._cloud_of)
            total = Resources(vcpus=row.vcpus, memory_bytes=row.memory) if row.vcpus else NOTHING
            yield HostRoom(host=host, at=self._when(row.at), total=total)

    def _notices(self) -> Iterator[RevocationNotice]:
        found = self._rows("notices.csv", NoticeRow)
        for number, row in enumerate(found[0] if found else ()):
            assert found is not None
            if row.cloud not in self._written.clouds:
                raise _unknown(found[1], number, "cloud", row.cloud, self._written.clouds)
            there = self._written.clouds[row.cloud].hosts
            if row.host is not None and row.host not in there:
                raise _unknown(found[1], number, "host", row.host, there)
            at, deadline = self._when(row.at), self._when(row.deadline)
            until = self._when(row.until) if row.until is not None else None
            if deadline < at or (until is not None and until < at):
                raise InvalidFile(
                    (
                        found[1].mistake(
                            ("rows", number, "deadline"),
                            "the deadline or the end is before the notice; write at, deadline, until "
                            "in the order of time",
                        ),
                    )
                )
            yield from _notice(row.cloud, row.host, at, deadline, until)

    def _availability(self) -> Iterator[RevocationNotice]:
        """Take each stretch without a machine for the cloud's absence."""
        folder = self._folder / "availability"
        if not folder.is_dir():
            return
        found = load_availability(folder)
        lead = timedelta(seconds=self._written.notice or 0.0)
        for column, zone in enumerate(found.zones):
            if zone not in self._written.clouds:
                raise UsageError(
                    f"{folder / f'{zone}.json'}: {FEDERATION} has no cloud {zone}; name the file "
                    f"after one of {', '.join(self._written.clouds)}"
                )
            for first, after in _absences(found.there[:, column].tolist()):
                gone = self._start + timedelta(seconds=first * found.tick_seconds)
                back = self._start + timedelta(seconds=after * found.tick_seconds)
                at = max(self._start, gone - lead)
                lasts = after < len(found)
                yield from _notice(zone, None, at, gone, back if lasts else None)

    def _progress(self) -> Iterator[JobPace]:
        """Take what was done between two rows for the pace in between.

        What the first row says is done is done at the start, and up to it nothing happens. After the last one
        the job goes on as it did before: in a replay it may have been held up.
        """
        found = self._rows("progress.csv", ProgressRow)
        by_job: dict[str, list[ProgressRow]] = defaultdict(list)
        for number, row in enumerate(found[0] if found else ()):
            if found and not row.total > 0:
                message = "the total is no more than 0; write how much work there is in all"
                raise InvalidFile((found[1].mistake(("rows", number, "total"), message),))
            by_job[row.job].append(row)
        for job, rows in by_job.items():
            ordered = sorted(rows, key=lambda row: self._when(row.at))
            self._done[JobName(job)] = min(1.0, ordered[0].done / ordered[0].total)
            yield JobPace(job=JobName(job), at=self._start, share_per_second=0.0)
            for row, later in pairwise(ordered):
                seconds = (self._when(later.at) - self._when(row.at)).total_seconds()
                share = later.done / later.total - row.done / row.total
                pace = max(0.0, share) / max(seconds, 1e-9)
                yield JobPace(job=JobName(job), at=self._when(row.at), share_per_second=pace)

    def _traffic(self) -> Iterator[NewTraffic]:
        known = dict(self._matrices())
        found = self._rows("traffic.csv", TrafficRow)
        if found is None:
            for path, traffic in known.values():
                begins = traffic.matrix.start if path.suffix == ".json" else self._start
                yield NewTraffic(at=begins, traffic=traffic)
            return
        for number, row in enumerate(found[0]):
            if row.matrix not in known:
                raise _unknown(found[1], number, "matrix", row.matrix, known)
            yield NewTraffic(at=self._when(row.at), traffic=known[row.matrix][1])

    def _matrices(self) -> Iterator[tuple[str, tuple[Path, Traffic]]]:
        for path in sorted((self._folder / "traffic").glob("*")):
            if path.suffix == ".json":
                matrix, groups = read_result(path)
                self._warn_of_strangers(path, matrix)
                yield path.stem, (path, Traffic(matrix=matrix, known_groups=groups))
            elif path.suffix == ".csv":
                yield path.stem, (path, Traffic(matrix=self._matrix(path)))

    def _warn_of_strangers(self, path: Path, matrix: CommunicationMatrix) -> None:
        """Warn of VMs that the trace doesn't have: by other names, what they say would be missed in silence."""
        strangers = [vm for vm in matrix.vms if vm not in self._written.vms]
        if strangers:
            count = f"{len(strangers)} of its {len(matrix.vms)} VMs"
            some = ", ".join(strangers[:12])
            warn([f"{path}: {count} aren't in {FEDERATION} ({some}): what they say doesn't count"])

    def _matrix(self, path: Path) -> CommunicationMatrix:
        rows, located = _table(path, PairRow)
        vms = tuple(map(VmName, self._written.vms))
        number = {str(vm): n for n, vm in enumerate(vms)}
        to_outside = [0] * len(vms)
        pairs: list[tuple[int, int, int]] = []
        for n, row in enumerate(rows):
            for column, name in (("source", row.source), ("destination", row.destination)):
                if name not in number and not (column == "destination" and name == OUTSIDE):
                    raise _unknown(located, n, column, name, number)
            count = round(row.rate * MATRIX_SECONDS)
            if row.destination == OUTSIDE and OUTSIDE not in number:
                to_outside[number[row.source]] += count
            else:
                pairs.append((number[row.source], number[row.destination], count))
        return CommunicationMatrix.of_pairs(
            start=self._start,
            seconds=MATRIX_SECONDS,
            vms=vms,
            source=[pair[0] for pair in pairs],
            destination=[pair[1] for pair in pairs],
            bytes=[pair[2] for pair in pairs],
            to_outside=to_outside,
        )

    def _outcomes(self) -> tuple[Outcome, ...]:
        path = self._folder / "outcomes.jsonl"
        if path.exists():
            return tuple(reversed(list(_outcome_lines(path, may_be_torn=self._recorded))))
        path = self._folder / "outcomes.json"
        if not path.exists():
            return ()
        try:
            found = json.loads(read_bytes(path, at_most=MAX_TABLE_BYTES))
            rows = TypeAdapter(list[dict[str, object]]).validate_python(found)
            return tuple(decode(Outcome, json.dumps(row)) for row in rows)
        except (ValueError, ValidationError, UnreadableRecord) as error:
            message = f"these are no moves ({error}); write `transhume history --json` into it"
            raise InvalidFile((Mistake(str(path), 1, 1, message),)) from error


def _vm(name: str, written: TracedVmSchema) -> Vm:
    return Vm(
        name=VmName(name),
        uuid=name,
        needs=Resources(vcpus=written.vcpus, memory_bytes=written.memory),
        cluster=ClusterName(written.cluster) if written.cluster else None,
        tags=frozenset(written.tags),
        dirty_bytes_per_second=written.dirty,
        disk_bytes=written.disks,
        interfaces=tuple(
            Interface(mac=MacAddress(""), network=VirtualNetworkName(name))
            for name in written.networks
        ),
    )


def _networks(written: list[str] | None) -> frozenset[VirtualNetworkName] | None:
    return None if written is None else frozenset(map(VirtualNetworkName, written))


def _whole_lines(path: Path, *, may_be_torn: bool) -> str:
    """Return a file's text; where a crash may have torn its last line off, without that one, and say so."""
    raw = read_bytes(path, at_most=MAX_TABLE_BYTES)
    whole, newline, torn = raw.rpartition(b"\n")
    if may_be_torn and torn:
        warn(
            [
                f"{path}: its last line is torn off and isn't read; the recording stopped in the middle"
            ]
        )
        raw = whole + newline
    return decode_text(raw, str(path))


def _outcome_lines(path: Path, *, may_be_torn: bool) -> Iterator[Outcome]:
    for number, line in enumerate(_whole_lines(path, may_be_torn=may_be_torn).splitlines(), 1):
        try:
            yield decode(Outcome, line)
        except UnreadableRecord as error:
            message = f"this is no move ({error}); remove the line"
            raise InvalidFile((Mistake(str(path), number, 1, message),)) from error


def _table(
    path: Path, schema: type[Row], *, may_be_torn: bool = False
) -> tuple[tuple[Row, ...], Located]:
    text = _whole_lines(path, may_be_torn=may_be_torn)
    located = read_table(text, str(path), key="rows", columns=tuple(schema.model_fields))

    class Table(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
        rows: list[schema]  # type: ignore[valid-type]

    return tuple(validate(Table, located).rows), located


def _notice(
    cloud: str, host: str | None, at: datetime, deadline: datetime, until: datetime | None
) -> Iterator[RevocationNotice]:
    where = HostName(host) if host else None
    name = CloudName(cloud)
    yield RevocationNotice(cloud=name, host=where, at=at, deadline=deadline)
    if until is not None:
        yield RevocationNotice(cloud=name, host=where, at=until, deadline=deadline, withdrawn=True)


def _absences(there: list[bool]) -> Iterator[tuple[int, int]]:
    """Yield the first tick of each stretch without a machine, and the first after it."""
    first: int | None = None
    for tick, is_there in enumerate([*there, True]):
        if not is_there and first is None:
            first = tick
        elif is_there and first is not None:
            yield first, tick
            first = None


def _unknown_hosts(located: Located) -> Iterator[Mistake]:
    hosts = [
        host
        for cloud in located.mapping("clouds")
        for host in located.mapping("clouds", cloud, "hosts")
    ]
    for name in located.mapping("vms"):
        host = located.get(("vms", name, "host"))
        if isinstance(host, str) and host not in hosts:
            known = ", ".join(hosts) or "none"
            yield located.mistake(
                ("vms", name, "host"), f"there is no host {host}; known here: {known}"
            )


def _unknown_networks(located: Located) -> Iterator[Mistake]:
    """Find networks of VMs that no cloud has, where all clouds say what they have: nothing could move."""
    clouds = [("clouds", name, "networks") for name in located.mapping("clouds")]
    if any(located.get(path) is None for path in clouds):
        return
    had = (each for path in clouds for each in located.entries(*path))
    known = dict.fromkeys(each for each in had if isinstance(each, str))
    for vm in located.mapping("vms"):
        for number, network in enumerate(located.entries("vms", vm, "networks")):
            if isinstance(network, str) and network not in known:
                yield located.mistake(
                    ("vms", vm, "networks", number),
                    f"no cloud has a network {network}; known here: {', '.join(known) or 'none'}",
                )


def _unknown(
    located: Located, row: int, column: str, name: str, known: Iterable[str]
) -> InvalidFile:
    some = ", ".join(list(known)[:12]) or "none"
    message = f"there is no {column} {name} in the trace; known there: {some}"
    return InvalidFile((located.mistake(("rows", row, column), message),))
