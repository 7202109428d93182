"""From what Redis answered to records: whatever can't be read is passed over and reported, once.

Other programs write facts too (a site's own price feed, a person with `redis-cli`), and nothing that they write
may stop the daemon. Owns doubts and the assembling of a `Snapshot`; leaves the asking to `store`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

import structlog
from redis.asyncio import Redis

from transhume.knowledge import keys
from transhume.knowledge.codec import UnreadableRecord, decode
from transhume.knowledge.decisions import hosts_arrived_at
from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CommunicationMatrix,
    DirtyRate,
    DiskUse,
    Group,
    Host,
    HostName,
    LastInventory,
    Link,
    Outcome,
    Pattern,
    Placement,
    PriceTick,
    Progress,
    RevocationNotice,
    Snapshot,
    VirtualCluster,
    Vm,
    VmName,
    Warmth,
)
from transhume.knowledge.model.snapshot import LEAST_OUTCOMES
from transhume.knowledge.transaction import milliseconds
from transhume.knowledge.wire import reaching, text

T = TypeVar("T")
log = structlog.get_logger(__name__)

MOST_DOUBTS = 10_000

_HASHES = (
    keys.CLOUDS,
    keys.HOSTS,
    keys.LINKS,
    keys.VMS,
    keys.CLUSTERS,
    keys.PLACEMENT,
    keys.ARRIVED,
    keys.GOING,
    keys.CAPACITY,
    keys.PRICES,
    keys.PRICES_AHEAD,
    keys.NOTICES,
    keys.PROGRESS,
    keys.WARMTH,
    keys.DIRTY_RATES,
    keys.DISK_USE,
    keys.GROUPS,
    keys.PATTERNS,
)


class Reader:
    """Decodes answers, and remembers which doubts it has told already."""

    def __init__(self) -> None:
        self._told: set[tuple[str, str]] = set()

    def record(self, cls: type[T], data: bytes | None, where: str) -> T | None:
        """Return the record, or None where there is none that can be read."""
        if data is None:
            return None
        try:
            return decode(cls, data)
        except UnreadableRecord as error:
            self.doubt(where, str(error))
            return None

    def records(self, cls: type[T], values: Mapping[bytes, bytes], key: str) -> tuple[T, ...]:
        """Return the readable records of a hash, ordered by field."""
        read = (
            self.record(cls, value, f"{key} {text(field)}")
            for field, value in sorted(values.items())
        )
        return tuple(record for record in read if record is not None)

    def entries(self, cls: type[T], entries: Iterable[Any], key: str) -> tuple[T, ...]:
        """Return the readable records of a stretch of a stream."""
        read = (
            self.record(cls, fields.get(b"record", b""), f"{key} {text(entry)}")
            for entry, fields in entries
        )
        return tuple(record for record in read if record is not None)

    def doubt(self, where: str, seen: str) -> None:
        """Report that something was passed over; the same thing is reported once."""
        if (where, seen) in self._told:
            return
        if len(self._told) >= MOST_DOUBTS:
            self._told.clear()
        self._told.add((where, seen))
        log.warning("unreadable_fact_skipped", where=where, seen=seen)


async def read_snapshot(
    client: Redis, reader: Reader, at: datetime, outcomes_for: timedelta
) -> Snapshot:
    """Read everything a plan is made from as it was at one instant, with all outcomes since so long before."""
    async with client.pipeline(transaction=True) as pipe:
        for key in _HASHES:
            pipe.hgetall(key)
        pipe.get(keys.VERSION)
        pipe.get(keys.MATRIX)
        pipe.xrevrange(keys.OUTCOMES, count=LEAST_OUTCOMES)
        pipe.xrevrange(keys.OUTCOMES, min=max(0, milliseconds(at - outcomes_for)))
        async with reaching():
            *answers, late = await pipe.execute(raise_on_error=False)
    names = (*_HASHES, keys.VERSION, keys.MATRIX, keys.OUTCOMES)
    facts = _without_errors(names, answers, reader)
    if isinstance(late, list) and len(late) > LEAST_OUTCOMES:
        facts[keys.OUTCOMES] = late
    return _assemble(facts, reader, at)


async def read_last_inventory(client: Redis, reader: Reader) -> LastInventory:
    """Read what was known of the hypervisors at one instant."""
    names = (keys.VMS, keys.PLACEMENT, keys.ARRIVED, keys.CAPACITY)
    async with client.pipeline(transaction=True) as pipe:
        for key in names:
            pipe.hgetall(key)
        async with reaching():
            answers = await pipe.execute(raise_on_error=False)
    facts = _without_errors(names, answers, reader)
    reports = reader.records(CapacityReport, facts[keys.CAPACITY], keys.CAPACITY)
    return LastInventory(
        vms={vm.name: vm for vm in reader.records(Vm, facts[keys.VMS], keys.VMS)},
        placement=Placement(
            host_of={VmName(vm): HostName(host) for vm, host in _settled(facts).items()}
        ),
        capacity={report.host: report for report in reports},
        arrivals={text(vm): arrival for vm, arrival in facts[keys.ARRIVED].items()},
    )


def _settled(facts: Mapping[str, Any]) -> dict[str, str]:
    """Return where VMs are but for moves under way."""
    return _plain(facts[keys.PLACEMENT]) | hosts_arrived_at(_plain(facts[keys.ARRIVED]))


def _without_errors(names: Sequence[str], answers: Sequence[Any], reader: Reader) -> dict[str, Any]:
    """Return the answers by key, and take a key of a foreign type for an empty one."""
    facts = dict(zip(names, answers, strict=True))
    for name, answer in facts.items():
        if isinstance(answer, Exception):
            reader.doubt(name, str(answer))
            facts[name] = {} if name in _HASHES else None
    return facts


def _assemble(facts: Mapping[str, Any], reader: Reader, at: datetime) -> Snapshot:
    def read(cls: type[T], key: str) -> tuple[T, ...]:
        return reader.records(cls, facts[key], key)

    version = facts[keys.VERSION]

    clouds = {cloud.name: cloud for cloud in read(Cloud, keys.CLOUDS)}
    hosts = {host.name: host for host in read(Host, keys.HOSTS) if host.cloud in clouds}
    rates = {each.vm: each.bytes_per_second for each in read(DirtyRate, keys.DIRTY_RATES)}
    on_disks = {each.vm: each.bytes for each in read(DiskUse, keys.DISK_USE)}
    vms = {
        vm.name: _sampled(vm, rates.get(vm.name), on_disks.get(vm.name))
        for vm in read(Vm, keys.VMS)
    }
    going = _plain(facts[keys.GOING])
    host_of = _settled(facts) | {vm: host for vm, host in going.items() if host}
    return Snapshot(
        version=int(version) if version and version.isdigit() else 0,
        at=at,
        clouds=clouds,
        hosts=hosts,
        links=read(Link, keys.LINKS),
        vms=vms,
        clusters={cluster.name: cluster for cluster in read(VirtualCluster, keys.CLUSTERS)},
        placement=Placement(host_of=_known(host_of, vms, hosts)),
        moving=frozenset(VmName(vm) for vm in going),
        capacity={report.host: report for report in read(CapacityReport, keys.CAPACITY)},
        prices={tick.cloud: tick for tick in read(PriceTick, keys.PRICES)},
        prices_ahead=_to_come(read(PriceTick, keys.PRICES_AHEAD), at),
        notices=_in_force(read(RevocationNotice, keys.NOTICES), at),
        progress={progress.job: progress for progress in read(Progress, keys.PROGRESS)},
        matrix=reader.record(CommunicationMatrix, facts[keys.MATRIX], keys.MATRIX),
        groups=read(Group, keys.GROUPS),
        patterns=read(Pattern, keys.PATTERNS),
        warmth=tuple(each for each in read(Warmth, keys.WARMTH) if each.vm in vms),
        outcomes=reader.entries(Outcome, facts[keys.OUTCOMES] or (), keys.OUTCOMES),
    )


def _sampled(vm: Vm, dirty_bytes_per_second: float | None, disk_bytes: int | None) -> Vm:
    if dirty_bytes_per_second is not None:
        vm = replace(vm, dirty_bytes_per_second=dirty_bytes_per_second)
    return vm if disk_bytes is None else replace(vm, disk_bytes=disk_bytes)


def _plain(values: Mapping[bytes, bytes]) -> dict[str, str]:
    return {text(field): text(value) for field, value in values.items()}


def _known(
    host_of: Mapping[str, str], vms: Mapping[VmName, Vm], hosts: Mapping[HostName, Host]
) -> dict[VmName, HostName]:
    """Leave out placements that name a VM or host which isn't there (any more)."""
    return {
        VmName(vm): HostName(host)
        for vm, host in sorted(host_of.items())
        if vm in vms and host in hosts
    }


def _to_come(ticks: Iterable[PriceTick], at: datetime) -> tuple[PriceTick, ...]:
    return tuple(sorted((t for t in ticks if t.at > at), key=lambda t: (t.at, t.cloud)))


def _in_force(notices: Iterable[RevocationNotice], at: datetime) -> tuple[RevocationNotice, ...]:
    valid = (notice for notice in notices if notice.is_in_force(at))
    return tuple(sorted(valid, key=lambda notice: (notice.deadline, notice.cloud)))
