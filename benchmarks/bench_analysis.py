"""What a window of a very large site takes: 10,000 VMs of which each pair in a hundred talks, a million pairs.

From the capture's window to what it means, by stage: adding it up to a matrix, finding groups (as one who
looked before, and at the first look), naming their patterns, and finding symptoms. In one process.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TypeVar

import numpy as np

from benchmarks.measuring import Result, Run, Section, report_sections
from transhume.analyze import SymptomMemory, build_matrix, find_groups, find_patterns, watch
from transhume.knowledge.model import (
    Cloud,
    CloudName,
    CommunicationMatrix,
    Group,
    Host,
    HostName,
    Interface,
    MacAddress,
    Placement,
    Resources,
    Snapshot,
    TrafficWindow,
    Vm,
    VmName,
)
from transhume.knowledge.model.addresses import ADDRESS_PAIR, DESTINATION_MAC, SOURCE_MAC

VMS, TEAM, PEERS = 10_000, 100, 100
"""So many VMs, in teams of so many, each talking to so many others: a density of 1 %."""
WITHIN_TEAM = 0.8
WINDOWS = 6
PROMISED_SECONDS = 1.0
BEGAN = datetime(2030, 1, 1, tzinfo=UTC)
MATRIX, FIRST_GROUPS, GROUPS = "matrix", "groups, at the first look", "groups"
PATTERNS, SYMPTOMS = "patterns", "symptoms"
FIRST, ALL = "the first window in all", "a later window in all"
_Found = TypeVar("_Found")


@dataclass(slots=True)
class Stopwatch:
    """What each stage took, window by window."""

    runs: dict[str, list[Run]]

    def time(self, stage: str, work: Callable[[], _Found]) -> _Found:
        """Do some work and note what it took."""
        began, cpu_began = time.monotonic(), time.process_time()
        found = work()
        run = Run(cpu=time.process_time() - cpu_began, wall=time.monotonic() - began)
        self.runs.setdefault(stage, []).append(run)
        return found


def site() -> tuple[tuple[Vm, ...], Snapshot]:
    """Return the VMs, and who runs them: two clouds, a team's VMs side by side."""
    vms = tuple(
        Vm(
            name=VmName(f"vm-{number}"),
            uuid=f"00000000-0000-0000-0000-{number:012}",
            needs=Resources(vcpus=1, memory_bytes=1 << 30),
            interfaces=(Interface(mac=MacAddress(_mac(number).hex(":"))),),
        )
        for number in range(VMS)
    )
    clouds = {CloudName(name): Cloud(name=CloudName(name)) for name in ("campus", "rented")}
    hosts = {
        HostName(f"host-{name}"): Host(name=HostName(f"host-{name}"), cloud=name) for name in clouds
    }
    names = list(hosts)
    host_of = {vm.name: names[number * 2 // VMS] for number, vm in enumerate(vms)}
    return vms, Snapshot(
        version=1,
        at=BEGAN,
        clouds=clouds,
        hosts=hosts,
        vms={vm.name: vm for vm in vms},
        placement=Placement(host_of=host_of),
    )


def _mac(number: int) -> bytes:
    return bytes((0x52, 0x54, 0, 0, number >> 8, number & 0xFF))


def windows() -> tuple[TrafficWindow, ...]:
    """Return seconds of traffic: the same pairs, more or less of it each time."""
    chance = np.random.default_rng(11)
    source = np.repeat(np.arange(VMS), TEAM)
    mate = source // TEAM * TEAM + np.tile(np.arange(TEAM), VMS)
    known = chance.random(len(source)) < WITHIN_TEAM
    friends = np.repeat(np.arange(VMS), PEERS - int(TEAM * WITHIN_TEAM))
    keys = np.r_[
        source[known] * VMS + mate[known], friends * VMS + chance.integers(VMS, size=len(friends))
    ]
    keys = np.unique(keys[keys // VMS != keys % VMS])
    source, destination = keys // VMS, keys % VMS
    macs = np.array([list(_mac(number)) for number in range(VMS)], dtype=np.uint8)
    rows = np.zeros(len(keys), dtype=ADDRESS_PAIR)
    rows["source_mac"], rows["destination_mac"] = macs[source], macs[destination]
    rows["flags"] = SOURCE_MAC | DESTINATION_MAC
    usual = np.where(source // TEAM == destination // TEAM, 200_000.0, 10_000.0)
    found = []
    for second in range(WINDOWS):
        count = (usual * chance.lognormal(0, 0.5, len(keys))).astype(np.int64) + 66
        window = TrafficWindow(
            start=BEGAN + timedelta(seconds=second),
            seconds=1.0,
            capture_point="campus",
            addresses=rows,
            pair=np.arange(len(keys), dtype=np.int32),
            bytes=count,
            payload_bytes=count * 9 // 10,
            frames=count // 1000 + 1,
        )
        found.append(window)
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Look:
    """What a window leaves to the next: the groups, and the symptoms that were told."""

    groups: tuple[Group, ...] = ()
    memory: SymptomMemory | None = None


def look(
    window: TrafficWindow,
    vms: tuple[Vm, ...],
    site_now: Snapshot,
    before: Look,
    stopwatch: Stopwatch,
) -> Look:
    """Do all that is done with one window."""
    first = before.memory is None
    matrix = stopwatch.time(MATRIX, lambda: _matrix(window, vms))
    groups = stopwatch.time(
        FIRST_GROUPS if first else GROUPS, lambda: find_groups(matrix, previous=before.groups)
    )
    patterns = stopwatch.time(PATTERNS, lambda: find_patterns(matrix, groups))
    assert len(groups) == VMS // TEAM, f"{len(groups)} groups found of {VMS // TEAM}"
    now = replace(site_now, at=window.start, matrix=matrix, groups=groups, patterns=patterns)
    _, memory = stopwatch.time(SYMPTOMS, lambda: watch(before.memory, now, ()))
    return Look(groups=groups, memory=memory)


def _matrix(window: TrafficWindow, vms: tuple[Vm, ...]) -> CommunicationMatrix:
    matrix = build_matrix([window], vms)
    assert matrix.total_bytes == window.total_bytes
    return matrix


def main() -> None:
    vms, snapshot = site()
    seen = windows()
    stopwatch = Stopwatch({})
    before = Look()
    for number, window in enumerate(seen):
        whole = partial(look, window, vms, snapshot, before, stopwatch)
        before = stopwatch.time(ALL if number else FIRST, whole)
    results = [Result(name=name, runs=tuple(runs)) for name, runs in stopwatch.runs.items()]
    pairs = len(seen[0].pair)
    title = f"Analysis of a window: {VMS:,} VMs, {pairs:,} pairs"
    section = Section(name="analysis", title=title, results=results, reference=ALL)
    took = next(each for each in results if each.name == ALL).wall
    facts = {"vms": VMS, "pairs": pairs, "promised_wall_seconds": PROMISED_SECONDS, "wall": took}
    report_sections("analysis", [section], facts=facts)
    verdict = "kept" if took < PROMISED_SECONDS else "BROKEN"
    print(f"{verdict}: {took:.2f} s a window; under {PROMISED_SECONDS:g} s promised")


if __name__ == "__main__":
    main()
