"""What is recorded of snapshots, and that a replay reads back just that."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.unit.plan.worlds import traffic
from transhume.cli.trace_files import load_trace
from transhume.daemon import recording
from transhume.daemon.recorded_folders import in_force, latest_trace, recorded_in, traces_in
from transhume.daemon.recording import Recording
from transhume.daemon.trace_writing import Pace
from transhume.errors import InvalidFile, UsageError
from transhume.knowledge.codec import encode
from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CloudName,
    ClusterName,
    Group,
    GroupId,
    Host,
    HostName,
    Interface,
    JobName,
    Link,
    MacAddress,
    Measurement,
    Outcome,
    Placement,
    PlanId,
    Prediction,
    PriceTick,
    Progress,
    Resources,
    RevocationNotice,
    Snapshot,
    StepId,
    StepResult,
    VirtualNetworkName,
    Vm,
    VmName,
)
from transhume.policies.loader import load_policies
from transhume.replaying import Alternative, compare

START = datetime(2030, 1, 1, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
GIB = 1 << 30
A, B = CloudName("a"), CloudName("b")
ROOM = Resources(vcpus=8, memory_bytes=8 * GIB)
POLICY = b"policy: cheap\nmode: auto\nelective: {hold: 0s}\n"


def price(cloud: CloudName, dollars: float, at: datetime = START) -> PriceTick:
    return PriceTick(cloud=cloud, at=at, dollars_per_vcpu_hour=dollars, egress_dollars_per_gb=1e-05)


def snapshot(minutes: float = 0, **changed: object) -> Snapshot:
    """Return two VMs in a and room in b, some time after the start."""
    at = START + minutes * MINUTE
    hosts = {HostName(f"{c}1"): Host(name=HostName(f"{c}1"), cloud=c) for c in (A, B)}
    vms = {
        VmName(name): Vm(
            name=VmName(name),
            uuid=name,
            needs=Resources(vcpus=1, memory_bytes=GIB),
            cluster=ClusterName("blast"),
            tags=frozenset(("big", "no")),
            dirty_bytes_per_second=1.25e6,
            disk_bytes=3_000_000_001,
        )
        for name in ("vm1", "vm2")
    }
    known = Snapshot(
        version=1,
        at=at,
        clouds={
            A: Cloud(name=A, provider="ours, mostly", region='here: "or" there'),
            B: Cloud(name=B, revocable=True),
        },
        hosts=hosts,
        links=(Link(clouds=frozenset((A, B)), bytes_per_second=1e7 / 3, latency_seconds=0.08),),
        vms=vms,
        placement=Placement(host_of=dict.fromkeys(vms, HostName("a1"))),
        capacity={host: CapacityReport(host=host, at=at, total=ROOM, free=ROOM) for host in hosts},
        prices={
            A: replace(price(A, 0.04), egress_within_region_dollars_per_gb=0.0),
            B: replace(price(B, 1 / 3), egress_within_provider_dollars_per_gb=0.01),
        },
        matrix=traffic(("vm1", "vm2"), {("vm1", "vm2"): 1e6}, {"vm2": 2e3}),
        groups=(
            Group(
                id=GroupId("g1"),
                vms=(VmName("vm1"), VmName("vm2")),
                internal_bytes_per_second=1e6,
                external_bytes_per_second=2e3,
            ),
        ),
    )
    return replace(known, **changed)  # type: ignore[arg-type]


def outcome(step: str, minutes: float) -> Outcome:
    return Outcome(
        plan=PlanId("p"),
        step=StepId(step),
        vm=VmName("vm1"),
        source=HostName("a1"),
        destination=HostName("b1"),
        result=StepResult.DONE,
        why="",
        started_at=START,
        ended_at=START + minutes * MINUTE,
        predicted=Prediction(bytes=1, seconds=1, downtime_seconds=0.1, dollars=0.0),
        measured=Measurement(bytes=GIB // 2, seconds=60.0),
    )


def recorder(folder: Path, **limits: int) -> Recording:
    return Recording(
        folder, lambda: {"x/cheap.yaml": POLICY}, at_most_bytes=limits.get("at_most", 1 << 20)
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "recorded"


def test_what_is_recorded_is_read_back(folder: Path) -> None:
    keeper, first = recorder(folder), snapshot()
    keeper.note(first)
    notice = RevocationNotice(
        cloud=A, host=HostName("a1"), at=START + 3 * MINUTE, deadline=START + 9 * MINUTE
    )
    dear = price(A, 2e-05, START + 2.5 * MINUTE)
    less = {
        **first.capacity,
        HostName("b1"): replace(
            first.capacity[HostName("b1")], total=Resources(vcpus=3, memory_bytes=GIB)
        ),
    }
    keeper.note(snapshot(3, prices={**first.prices, A: dear}, notices=(notice,)))
    keeper.note(snapshot(4, prices={A: dear}, notices=(notice,), capacity=less))
    keeper.note(
        snapshot(
            6,
            capacity={HostName("b1"): less[HostName("b1")]},
            outcomes=(outcome("2", 5), outcome("1", 4)),
        )
    )
    keeper.note(snapshot(8, capacity=less, outcomes=(outcome("3", 7), outcome("2", 5))))

    found = load_trace(folder)
    start = found.at_start()
    assert (found.start, found.end, found.tick_seconds) == (START, START + 8 * MINUTE, 60.0)
    assert (start.clouds, start.hosts, start.links) == (first.clouds, first.hosts, first.links)
    assert start.vms == first.vms
    assert found.host_of == first.placement.host_of
    assert start.prices == first.prices
    assert start.room == dict.fromkeys(first.hosts, ROOM)
    assert start.traffic is not None
    assert first.matrix is not None
    assert start.traffic.matrix.vms == first.matrix.vms
    assert np.array_equal(start.traffic.matrix.bytes, first.matrix.bytes)
    assert np.array_equal(start.traffic.matrix.to_outside, first.matrix.to_outside)
    assert start.traffic.groups == first.groups
    assert [each.step for each in found.outcomes] == ["3", "2", "1"]

    later = dict(found.batches())
    assert later[START + 2.5 * MINUTE].prices[A] == dear
    assert later[START + 3 * MINUTE].notices == (notice,)
    assert later[START + 4 * MINUTE].room[HostName("b1")] == less[HostName("b1")].total
    assert later[START + 6 * MINUTE].notices == (), "taken back"
    assert later[START + 6 * MINUTE].room[HostName("a1")] == ROOM, "silence isn't an end"


def gone_at(folder: Path, minutes: float) -> bool:
    """Say whether the host in a is gone at some time after the start, by what is recorded."""
    at, found = START + minutes * MINUTE, load_trace(folder)
    facts = [found.at_start(), *(facts for since, facts in found.batches() if since <= at)]
    return facts[-1].is_gone(HostName("a1"), at)


def silent() -> dict[HostName, CapacityReport]:
    """Return what there is where a1 gives no answer."""
    there = snapshot().capacity
    return {**there, HostName("a1"): replace(there[HostName("a1")], silent=True)}


NOTICE = RevocationNotice(cloud=A, at=START + MINUTE, deadline=START + 5 * MINUTE)


def test_a_cloud_that_has_gone_is_gone_until_a_host_of_it_answers(folder: Path) -> None:
    """The knowledge forgets notices some time after their deadline, whatever becomes of the cloud."""
    keeper = recorder(folder)
    keeper.note(snapshot())
    keeper.note(snapshot(2, notices=(NOTICE,)))
    keeper.note(snapshot(5.1))
    for minutes in range(6, 30, 2):
        keeper.note(snapshot(minutes, capacity=silent()))
    for minutes in (30, 40):
        keeper.note(snapshot(minutes))
    assert [gone_at(folder, minutes) for minutes in (4, 6, 29, 30.5)] == [False, True, True, False]
    assert len(traces_in(folder)) == 1


def test_a_cloud_that_is_back_soon_was_gone_all_the_same(folder: Path) -> None:
    """Its notice is in force yet: nobody is sent there before it's known whether it has gone."""
    keeper = recorder(folder)
    keeper.note(snapshot())
    keeper.note(snapshot(2, notices=(NOTICE,)))
    keeper.note(snapshot(5.1, notices=(NOTICE,), capacity=silent()))
    keeper.note(snapshot(6, notices=(NOTICE,)))
    for minutes in (7.1, 8, 10):
        keeper.note(snapshot(minutes))
    assert [gone_at(folder, minutes) for minutes in (4, 5.5, 6.5)] == [False, True, False]


def test_a_cloud_that_stays_in_spite_of_its_notice_takes_no_vms_with_it(folder: Path) -> None:
    keeper = recorder(folder)
    for minutes in (0, 2, 4, 5.1, 6, 8, 10):
        keeper.note(snapshot(minutes, notices=(NOTICE,) if 2 <= minutes < 5 else ()))
    assert not any(gone_at(folder, minutes) for minutes in (4, 5, 5.5, 7, 9))
    assert dict(load_trace(folder).batches())[START + MINUTE].notices == (NOTICE,)


def test_a_price_holds_from_when_it_was_known_where_a_later_one_was_before_it(folder: Path) -> None:
    """A feed that goes back to an older price, and one told by a clock that is hours ahead."""
    keeper = recorder(folder)
    keeper.note(snapshot(prices={A: price(A, 0.1)}))
    keeper.note(snapshot(10, prices={A: price(A, 0.2, START + 9 * MINUTE)}))
    keeper.note(snapshot(20, prices={A: price(A, 0.3, START + 5 * MINUTE)}))
    keeper.note(snapshot(30, prices={A: price(A, 0.4, START + 90 * MINUTE)}))
    keeper.note(snapshot(40, prices={A: price(A, 0.4, START + 90 * MINUTE)}))
    told = [
        (at, facts.prices[A].dollars_per_vcpu_hour) for at, facts in load_trace(folder).batches()
    ]
    assert told == [
        (START + minutes * MINUTE, dollars) for minutes, dollars in ((9, 0.2), (20, 0.3), (30, 0.4))
    ]


def test_a_job_is_as_far_as_it_was(folder: Path) -> None:
    keeper, job = recorder(folder), JobName("frames")
    for minutes, done in ((0, 30.0), (10, 40.0), (20, 60.0)):
        progress = Progress(job=job, at=START + minutes * MINUTE, done=done, total=120.0)
        keeper.note(snapshot(minutes, progress={job: progress}))
    found = load_trace(folder)
    assert found.done == {job: 0.25}
    paces = [facts.paces[job] for _, facts in found.batches()]
    assert paces == pytest.approx([20 / 120 / 600])
    assert found.at_start().paces[job] == pytest.approx(10 / 120 / 600)


def test_the_same_snapshots_give_the_same_bytes_and_the_same_replay(tmp_path: Path) -> None:
    told = []
    for name in ("one", "two"):
        keeper = recorder(tmp_path / name)
        for minutes in range(0, 120, 2):
            tick = price(A, 0.04 if minutes < 60 else 0.9, START + minutes * MINUTE)
            keeper.note(snapshot(minutes, prices={A: tick, B: price(B, 0.05)}))
        trace = latest_trace(tmp_path / name)
        assert trace is not None
        files = {
            str(path.relative_to(tmp_path / name)): path.read_bytes()
            for path in sorted(trace.rglob("*"))
            if path.is_file()
        }
        ours = in_force(trace)
        assert ours is not None
        alternative = Alternative(name="in-force", policies=load_policies([ours]))
        told.append((files, encode(compare(load_trace(trace), [alternative]))))
    assert told[0] == told[1]
    assert b'"elective_moves":2' in told[0][1]


@pytest.mark.parametrize(
    "file", ["looks.csv", "prices.csv", "outcomes.jsonl", "traffic.csv", "capacity.csv"]
)
def test_a_torn_last_line_is_passed_over_and_told(
    folder: Path, file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    keeper = recorder(folder)
    keeper.note(snapshot())
    keeper.note(snapshot(5, outcomes=(outcome("1", 4),)))
    whole = load_trace(folder)
    assert "torn off" not in capsys.readouterr().err
    trace = latest_trace(folder)
    assert trace is not None
    with (trace / file).open("a") as growing:
        growing.write("2030-01-01T00:07")
    torn = load_trace(folder)
    assert "torn off" in capsys.readouterr().err
    assert (torn.end, torn.outcomes, len(torn.changes)) == (
        whole.end,
        whole.outcomes,
        len(whole.changes),
    )


def test_networks_are_recorded_where_somebody_says_which_a_cloud_has(folder: Path) -> None:
    blue, green = map(VirtualNetworkName, ("blue", "green"))
    base = snapshot()
    clouds = {
        A: replace(base.clouds[A], networks=frozenset((blue, green))),
        B: replace(base.clouds[B], networks=frozenset((blue,))),
    }
    interfaces = tuple(
        Interface(mac=MacAddress(f"52:54:00:00:00:0{n}"), network=network)
        for n, network in enumerate((green, VirtualNetworkName(""), VirtualNetworkName("old")))
    )
    vms = {**base.vms, VmName("vm1"): replace(base.vms[VmName("vm1")], interfaces=interfaces)}
    keeper = recorder(folder)
    prices = {A: price(A, 0.9), B: price(B, 0.05)}
    for minutes in range(0, 60, 2):
        keeper.note(snapshot(minutes, vms=vms, clouds=clouds, prices=prices))
    facts = load_trace(folder).at_start()
    assert facts.clouds == clouds
    assert {name: vm.networks for name, vm in facts.vms.items()} == {"vm1": {green}, "vm2": set()}

    ours = in_force(traces_in(folder)[0])
    assert ours is not None
    alternative = Alternative(name="in-force", policies=load_policies([ours]))
    told = encode(compare(load_trace(folder), [alternative]))
    assert b'"elective_moves":1' in told, "vm2 alone has a way to b"


def test_the_networks_of_vms_that_change_begin_another_trace(folder: Path) -> None:
    base = snapshot()
    clouds = {A: replace(base.clouds[A], networks=frozenset((VirtualNetworkName("blue"),)))}
    joined = Interface(mac=MacAddress("52:54:00:00:00:01"), network=VirtualNetworkName("blue"))
    vm1 = replace(base.vms[VmName("vm1")], interfaces=(joined,))
    keeper = recorder(folder)
    for minutes in (0, 5):
        keeper.note(snapshot(minutes, clouds={**base.clouds, **clouds}))
    keeper.note(snapshot(10, clouds={**base.clouds, **clouds}, vms={**base.vms, vm1.name: vm1}))
    assert [load_trace(trace).start for trace in traces_in(folder)] == [START, START + 10 * MINUTE]


def test_disks_of_which_it_becomes_known_what_they_hold_begin_another_trace(folder: Path) -> None:
    base = snapshot()
    unknown = {name: replace(vm, disk_bytes=0) for name, vm in base.vms.items()}
    keeper = recorder(folder)
    for minutes in (0, 5):
        keeper.note(snapshot(minutes, vms=unknown))
    keeper.note(snapshot(10))
    before, after = map(load_trace, traces_in(folder))
    assert {vm.disk_bytes for vm in before.facts.vms.values()} == {0}
    assert {vm.disk_bytes for vm in after.facts.vms.values()} == {3_000_000_001}


def test_what_was_seen_after_the_last_look_does_not_count(folder: Path) -> None:
    keeper = recorder(folder)
    keeper.note(snapshot())
    keeper.note(snapshot(0.5, prices={A: price(A, 9.0, START + MINUTE / 4), B: price(B, 1.0)}))
    found = load_trace(folder)
    assert found.end == START
    assert found.at_start().prices[A].dollars_per_vcpu_hour == 0.04


def others() -> Iterator[tuple[str, dict[str, object]]]:
    base = snapshot()
    new = replace(base.vms[VmName("vm1")], name=VmName("vm3"))
    at_b = Placement(host_of={**base.placement.host_of, VmName("vm3"): HostName("b1")})
    yield "a VM more", {"vms": {**base.vms, VmName("vm3"): new}, "placement": at_b}
    grown = replace(base.vms[VmName("vm1")], needs=Resources(vcpus=2, memory_bytes=GIB))
    yield "a VM that grew", {"vms": {**base.vms, VmName("vm1"): grown}}
    yield "another link", {"links": (Link(clouds=frozenset((A, B)), bytes_per_second=1.0),)}
    yield "another cloud", {"clouds": {**base.clouds, A: Cloud(name=A, revocable=True)}}


@pytest.mark.parametrize("changed", [pytest.param(c, id=name) for name, c in others()])
def test_what_a_trace_cannot_tell_begins_another(folder: Path, changed: dict[str, object]) -> None:
    keeper = recorder(folder)
    for minutes in (0, 5):
        keeper.note(snapshot(minutes))
    for minutes in (10, 15):
        keeper.note(snapshot(minutes, **changed))
    assert [load_trace(trace).start for trace in traces_in(folder)] == [START, START + 10 * MINUTE]
    assert load_trace(folder).end == START + 15 * MINUTE, "a folder of traces is its newest"


def test_a_vm_that_ends_begins_another_trace_and_one_that_is_lost_does_not(folder: Path) -> None:
    keeper, base = recorder(folder), snapshot()
    one = {VmName("vm1"): base.vms[VmName("vm1")]}
    notice = RevocationNotice(cloud=A, at=START, deadline=START + MINUTE)
    keeper.note(base)
    for minutes in range(2, 30, 2):
        keeper.note(snapshot(minutes, vms=one, notices=(notice,)))
    assert len(traces_in(folder)) == 1
    for minutes in range(30, 40, 2):
        keeper.note(snapshot(minutes, vms=one))
    assert [len(load_trace(trace).host_of) for trace in traces_in(folder)] == [2, 1]


def test_where_the_clock_is_set_back_another_trace_begins(folder: Path) -> None:
    """Nothing would be recorded until it has caught up, which may take a day."""
    keeper = recorder(folder)
    for minutes in (600, 602, 601.5, 603, 0, 2, 4):
        keeper.note(snapshot(minutes))
    assert [load_trace(trace).end for trace in traces_in(folder)] == [
        START + 4 * MINUTE,
        START + 603 * MINUTE,
    ]


def test_the_oldest_traces_make_room(folder: Path) -> None:
    keeper = recorder(folder, at_most=12 << 10)
    with capture_logs() as logs:
        for minutes in range(500):
            tick = price(A, 0.04 + minutes / 1e5, START + minutes * MINUTE)
            keeper.note(snapshot(minutes, prices={A: tick}))
            kept = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            assert kept <= (12 << 10) + 1024
    events = [line["event"] for line in logs]
    assert events.count("trace_removed") > 2
    assert events.count("trace_begun") == events.count("trace_removed") + len(traces_in(folder))
    assert load_trace(folder).end == START + 499 * MINUTE


@pytest.mark.parametrize("name", ["", " "])
def test_a_job_without_a_name_leaves_the_trace_readable(folder: Path, name: str) -> None:
    progress = Progress(job=JobName(name), at=START, done=1.0, total=2.0)
    recorder(folder).note(snapshot(progress={progress.job: progress}))
    assert load_trace(folder).done == {}


def test_what_somebody_else_keeps_beside_the_traces_is_never_removed(folder: Path) -> None:
    """A trace made by hand, one that was recorded and given a name to keep it, and what is no trace at all."""
    mine = [folder / name for name in ("by-hand", "2029-incident", "20290101T000000Z kept")]
    for trace in mine:
        trace.mkdir(parents=True)
        (trace / "federation.yaml").write_bytes(bytes(1 << 20))
    other = folder / "policies.new"
    other.mkdir()
    keeper = recorder(folder, at_most=12 << 10)
    for minutes in range(200):
        tick = price(A, 0.04 + minutes / 1e5, START + minutes * MINUTE)
        keeper.note(snapshot(minutes, prices={A: tick}))
    assert all(path.is_dir() for path in (*mine, other))
    assert {*traces_in(folder)} == {*mine, *recorded_in(folder)} > {*mine}
    assert latest_trace(folder) == recorded_in(folder)[-1]


def test_so_many_short_traces_are_not_kept(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a daemon that is begun again and again."""
    monkeypatch.setattr(recording, "MOST_TRACES", 3)
    for minutes in range(0, 60, 10):
        keeper = recorder(folder)
        keeper.note(snapshot(minutes))
        keeper.note(snapshot(minutes + 5))
    assert [load_trace(trace).start for trace in traces_in(folder)] == [
        START + minutes * MINUTE for minutes in (30, 40, 50)
    ]


def test_a_fault_of_the_disk_ends_a_trace_and_the_next_look_begins_another(folder: Path) -> None:
    keeper = recorder(folder)
    for minutes in (0, 5):
        keeper.note(snapshot(minutes))
    first = keeper.trace
    assert first is not None
    (first / "prices.csv").unlink()
    (first / "prices.csv").mkdir()
    changed = {A: price(A, 0.9, START + 6 * MINUTE)}
    with pytest.raises(OSError):  # noqa: PT011  (whatever the disk says)
        keeper.note(snapshot(6, prices=changed))
    keeper.note(snapshot(7, prices=changed))
    assert keeper.trace not in (None, first)
    assert load_trace(folder).start == START + 7 * MINUTE


def test_policies_in_force_are_kept_as_they_are_and_the_latest_count(folder: Path) -> None:
    sources = {"b/cheap.yaml": POLICY, "a/other.yaml": POLICY.replace(b"cheap", b"other")}
    keeper = Recording(folder, lambda: sources, at_most_bytes=1 << 20)
    keeper.note(snapshot())
    trace = keeper.trace
    assert trace is not None
    ours = in_force(trace)
    assert ours is not None
    assert [policy.name for policy in load_policies([ours])] == ["cheap", "other"]
    del sources["a/other.yaml"]
    keeper.note(snapshot(1))
    latest = in_force(trace)
    assert latest is not None
    assert latest != ours
    assert latest.name == ours.name
    assert [policy.name for policy in load_policies([latest])] == ["cheap"]


def test_names_that_a_trace_cannot_hold_are_left_out_and_told_once(folder: Path) -> None:
    base, odd = snapshot(), VmName("a VM, odd")
    vms = {**base.vms, odd: replace(base.vms[VmName("vm1")], name=odd)}
    placement = Placement(host_of=dict.fromkeys(vms, HostName("a1")))
    chatty = traffic(("vm1", odd, "vm2"), {("vm1", odd): 1e6, ("vm1", "vm2"): 2e6})
    keeper = recorder(folder)
    with capture_logs() as logs:
        for minutes in (0, 5):
            keeper.note(snapshot(minutes, vms=vms, placement=placement, matrix=chatty))
    assert [line["names"] for line in logs if line["event"] == "recording_leaves_out"] == [[odd]]
    found = load_trace(folder)
    assert found.host_of.keys() == {"vm1", "vm2"}
    assert len(traces_in(folder)) == 1
    start = found.at_start().traffic
    assert start is not None
    assert start.matrix.vms == ("vm1", "vm2")
    assert start.matrix.bytes_per_second.tolist() == pytest.approx([2e6])


def test_a_trace_without_its_length_says_so(tmp_path: Path) -> None:
    (tmp_path / "federation.yaml").write_text(
        "start: 2030-01-01T00:00Z\nclouds: {a: {hosts: {a1: {vcpus: 1, memory: 1GiB}}}}\n"
        "vms: {vm1: {host: a1, vcpus: 1, memory: 1GiB}}\n"
    )
    with pytest.raises(InvalidFile, match=r"federation.yaml:1:1: .*write lasts"):
        load_trace(tmp_path)


def test_a_folder_without_a_trace_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="holds no federation"):
        load_trace(folder)


def test_the_pace_of_matrices_is_their_horizon_once_enough_was_seen(folder: Path) -> None:
    keeper = Recording(folder, dict, at_most_bytes=1 << 20, pace=Pace(traffic_seconds=300.0))
    base = snapshot().matrix
    assert base is not None
    for seconds in range(0, 1200, 5):
        at = START + timedelta(seconds=seconds)
        seen = replace(base, start=at, seconds=min(300.0, 5.0 + seconds))
        keeper.note(snapshot(seconds / 60, matrix=seen))
    trace = keeper.trace
    assert trace is not None
    rows = (trace / "traffic.csv").read_text().splitlines()[1:]
    instants = [(datetime.fromisoformat(row.split(",")[0]) - START).total_seconds() for row in rows]
    assert instants == [0, 5, 15, 35, 75, 155, 315, 615, 915]


HANGS = """
import asyncio, sys, threading
from pathlib import Path
from tests.unit.daemon.test_recording import snapshot
from transhume.cli.logs import log_to_stderr
from transhume.daemon import recording
from transhume.daemon.recording import Recording
from transhume.daemon.trace_writing import TraceFolder

log_to_stderr(as_json=True)
recording.FINISH_SECONDS = 0.1
told = threading.Event()

def hang(*_):
    told.set()
    threading.Event().wait()

class Store:
    async def put_recording(self, _status):
        TraceFolder.looked = hang
        told.set()

policies = hang if sys.argv[2] == "while it is written to" else dict

async def record(kept):
    async for _ in kept.keep(Store()):
        pass

async def main():
    kept = Recording(Path(sys.argv[1]), policies, at_most_bytes=1 << 30)
    kept.offer(snapshot())
    recording = asyncio.create_task(record(kept))
    await asyncio.to_thread(told.wait)
    recording.cancel()
    await asyncio.wait({recording})

asyncio.run(main())
"""


@pytest.mark.parametrize("when", ["while it is written to", "between"])
def test_a_disk_that_hangs_keeps_no_process_from_ending(folder: Path, when: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", HANGS, str(folder), when],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, b"")
    last = json.loads(done.stderr.splitlines()[-1])
    assert (last["event"], last["why"]) == ("recording_not_finished", "the disk doesn't answer")
