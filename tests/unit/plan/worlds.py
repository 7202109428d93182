"""Small federations for the planner's tests, written as tables."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count

from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CloudName,
    ClusterName,
    CommunicationMatrix,
    Group,
    GroupId,
    Host,
    HostName,
    Link,
    Measurement,
    Outcome,
    Placement,
    PlanId,
    Prediction,
    PriceTick,
    Resources,
    RevocationNotice,
    Snapshot,
    StepId,
    StepResult,
    Vm,
    VmName,
    total,
)

NOW = datetime(2030, 1, 1, 12, 0, tzinfo=UTC)
MIB = 1 << 20
MB = 1e6
SMALL = Resources(vcpus=1, memory_bytes=96 * MIB)
_numbers = count()


def vm(
    name: str, *, cluster: str | None = None, tags: Sequence[str] = (), needs: Resources = SMALL
) -> Vm:
    return Vm(
        name=VmName(name),
        uuid=name,
        needs=needs,
        cluster=ClusterName(cluster) if cluster else None,
        tags=frozenset(tags),
    )


def price(cloud: str, vcpu: float, *, egress: float = 0.05, gib: float = 0.0) -> PriceTick:
    return PriceTick(
        cloud=CloudName(cloud),
        at=NOW,
        dollars_per_vcpu_hour=vcpu,
        dollars_per_gib_hour=gib,
        egress_dollars_per_gb=egress,
    )


def traffic(
    vms: Sequence[str],
    rates: Mapping[tuple[str, str], float],
    outside: Mapping[str, float] | None = None,
) -> CommunicationMatrix:
    """Return the matrix of steady streams, in bytes per second; `outside` is as a VM's name."""
    seconds = 100.0
    to_outside = outside or {}
    return CommunicationMatrix.of_pairs(
        start=NOW,
        seconds=seconds,
        vms=tuple(VmName(name) for name in vms),
        source=[vms.index(one) for one, _ in rates],
        destination=[vms.index(other) for _, other in rates],
        bytes=[int(rate * seconds) for rate in rates.values()],
        to_outside=[int(to_outside.get(name, 0.0) * seconds) for name in vms],
    )


def ring(members: Sequence[str], rate: float) -> dict[tuple[str, str], float]:
    """Return streams from each member to the next."""
    return {
        (one, other): rate
        for one, other in zip(members, [*members[1:], members[0]], strict=True)
        if one != other
    }


def group(name: str, *members: str) -> Group:
    return Group(
        id=GroupId(name),
        vms=tuple(VmName(m) for m in members),
        internal_bytes_per_second=1e6,
        external_bytes_per_second=0.0,
    )


def ways(milliseconds: Mapping[tuple[str, str], float], *, rate: float = 12.5e6) -> list[Link]:
    """Return links between clouds, by their round trips."""
    return [
        Link(
            clouds=frozenset(map(CloudName, ends)),
            bytes_per_second=rate,
            latency_seconds=length / 1000,
        )
        for ends, length in milliseconds.items()
    ]


def world(
    placement: Mapping[str, Sequence[Vm]],
    *,
    room: Mapping[str, int | Resources],
    prices: Sequence[PriceTick] = (),
    matrix: CommunicationMatrix | None = None,
    groups: Sequence[Group] = (),
    notices: Sequence[RevocationNotice] = (),
    outcomes: Sequence[Outcome] = (),
    moving: Sequence[str] = (),
    wan: float = 12.5e6,
    links: Sequence[Link] = (),
    version: int = 7,
) -> Snapshot:
    """Return a snapshot.

    Args:
        placement: VMs by host. A host's cloud is the part of its name before the digits: a1 is in a.
        room: what each host holds in all; a number means that many small VMs.
    """
    hosts = {
        HostName(name): Host(name=HostName(name), cloud=CloudName(name.rstrip("0123456789")))
        for name in room
    }
    vms = {v.name: v for there in placement.values() for v in there}
    clouds = {host.cloud for host in hosts.values()}
    capacity = {}
    for name, amount in room.items():
        whole = (
            amount
            if isinstance(amount, Resources)
            else Resources(vcpus=amount, memory_bytes=amount * SMALL.memory_bytes)
        )
        used = total(v.needs for v in placement.get(name, ()))
        capacity[HostName(name)] = CapacityReport(
            host=HostName(name), at=NOW, total=whole, free=whole - used
        )
    return Snapshot(
        version=version,
        at=NOW,
        clouds={cloud: Cloud(name=cloud) for cloud in clouds},
        hosts=hosts,
        links=tuple(links)
        or tuple(
            Link(clouds=frozenset((one, other)), bytes_per_second=wan)
            for one in clouds
            for other in clouds
            if one < other
        ),
        vms=vms,
        placement=Placement(
            host_of={v.name: HostName(host) for host, there in placement.items() for v in there}
        ),
        moving=frozenset(VmName(name) for name in moving),
        capacity=capacity,
        prices={tick.cloud: tick for tick in prices},
        notices=tuple(notices),
        matrix=matrix,
        groups=tuple(groups),
        outcomes=tuple(outcomes),
    )


def notice(cloud: str, seconds: float, host: str | None = None) -> RevocationNotice:
    return RevocationNotice(
        cloud=CloudName(cloud),
        at=NOW,
        deadline=NOW + timedelta(seconds=seconds),
        host=HostName(host) if host else None,
    )


def moved(
    name: str,
    *,
    ago: float,
    source: str = "b1",
    destination: str = "a1",
    measured: Measurement | None = None,
) -> Outcome:
    """Return the outcome of a move that ended a number of seconds ago."""
    ended = NOW - timedelta(seconds=ago)
    return Outcome(
        plan=PlanId("p"),
        step=StepId(f"p-{next(_numbers)}"),
        vm=VmName(name),
        source=HostName(source),
        destination=HostName(destination),
        result=StepResult.DONE,
        why="",
        started_at=ended - timedelta(seconds=10),
        ended_at=ended,
        predicted=Prediction(bytes=1, seconds=1.0, downtime_seconds=0.1, dollars=0.0),
        measured=measured,
    )
