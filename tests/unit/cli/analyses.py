"""Builds an analysis for the tests of what is made of one."""

from datetime import UTC, datetime, timedelta

import numpy as np

from transhume.cli.analysis import Analysis
from transhume.knowledge.model import (
    NOTHING,
    UNKNOWN_MAC,
    CloudName,
    CommunicationMatrix,
    Cut,
    Endpoint,
    Forecast,
    Group,
    GroupId,
    Interface,
    IpAddress,
    MacAddress,
    MatrixSeries,
    NetworkName,
    NetworkTraffic,
    Pattern,
    PatternKind,
    TrafficPhase,
    UnattributedTraffic,
    Vm,
    VmName,
)
from transhume.monitor.capture.files import CaptureSummary

START = datetime(2030, 1, 1, tzinfo=UTC)
NAMES = ("web", 'a "quoted", name', "<db> & Söhne")


def analysis(names: tuple[str, ...] = NAMES) -> Analysis:
    """Return two seconds of three VMs: the first sends to the second, then the second to the third."""
    vms = tuple(map(VmName, names))
    first = matrix(vms, 0, [(0, 1, 1000, 900, 2)])
    second = matrix(vms, 1, [(0, 1, 500, 450, 1), (1, 2, 5_000_000_000, 4_900_000_000, 4_000_000)])
    whole = CommunicationMatrix.of_pairs(
        start=START,
        seconds=2.0,
        vms=vms,
        source=[0, 1],
        destination=[1, 2],
        bytes=[1500, 5_000_000_000],
        payload_bytes=[1350, 4_900_000_000],
        frames=[3, 4_000_000],
        to_outside=[70, 0, 0],
        from_outside=[0, 30, 0],
        networks=[
            NetworkTraffic(
                name=NetworkName("campus"), to=np.array([60, 0, 0]), from_=np.array([0, 0, 0])
            )
        ],
        multicast_bytes=11,
        unattributed_bytes=22,
        dropped_frames=3,
    )
    group = Group(
        id=GroupId("g-web"),
        vms=vms,
        internal_bytes_per_second=2.5e9,
        external_bytes_per_second=0.0,
        confidence=0.75,
    )
    pattern = Pattern(kind=PatternKind.PIPELINE, score=0.875, vms=vms, group=group.id)
    return Analysis(
        summaries=(summary(),),
        vms=tuple(vm(name, number) for number, name in enumerate(vms, 1)),
        matrix=whole,
        series=MatrixSeries(vms=vms, seconds=1.0, matrices=(first, second)),
        unattributed=(
            UnattributedTraffic(
                source=Endpoint(mac=UNKNOWN_MAC, ip=IpAddress("192.0.2.1")),
                destination=Endpoint(mac=MacAddress("52:54:00:00:00:09")),
                bytes=22,
                frames=1,
            ),
        ),
        groups=(group,),
        patterns={group.id: pattern},
        pattern=pattern,
        phases=(TrafficPhase(start=START, seconds=2.0, bytes_per_second=2.5e9, pattern=pattern),),
        forecast=Forecast(matrices=(second,), error=0.125, method="the last again"),
        cut=Cut(bytes_per_second={(CloudName("a"), CloudName("b")): 750.0}, dollars_per_hour=0.25),
        cut_is_billed=True,
    )


def matrix(
    vms: tuple[VmName, ...], second: int, rows: list[tuple[int, int, int, int, int]]
) -> CommunicationMatrix:
    source, destination, count, payload, frames = zip(*rows, strict=True)
    return CommunicationMatrix.of_pairs(
        start=START + timedelta(seconds=second),
        seconds=1.0,
        vms=vms,
        source=source,
        destination=destination,
        bytes=count,
        payload_bytes=payload,
        frames=frames,
    )


def summary(stopped: str | None = None) -> CaptureSummary:
    return CaptureSummary(
        path="tap0.pcap",
        capture_point="tap0",
        frames=4_000_003,
        bytes=5_000_001_633,
        first=START,
        last=START + timedelta(seconds=2),
        unreadable_frames=0,
        stopped=stopped,
    )


def vm(name: VmName, number: int) -> Vm:
    interface = Interface(
        mac=MacAddress(f"52:54:00:00:00:{number:02x}"), ips=(IpAddress(f"10.0.0.{number}"),)
    )
    return Vm(name=name, uuid=name, needs=NOTHING, interfaces=(interface,))
