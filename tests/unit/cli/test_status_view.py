"""What `transhume status` shows: all that matters, in 80 columns, safe for hostile names."""

import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from transhume.cli.sight import (
    CloudSight,
    DecisionSight,
    GroupSight,
    HostSight,
    MoveSight,
    Sight,
    nothing,
)
from transhume.cli.views.status import MOST_NAMES, status
from transhume.knowledge.model import (
    CloudName,
    Conflict,
    ConflictKind,
    ConflictMember,
    GroupId,
    HostName,
    JobName,
    MoveProgress,
    Phase,
    PlanId,
    PlanStatus,
    PriceTick,
    Progress,
    Resources,
    RevocationNotice,
    StepId,
    Symptom,
    SymptomKind,
    VmName,
)
from transhume.knowledge.records import (
    DaemonStatus,
    PoliciesStatus,
    PolicyFile,
    RecordingStatus,
    ShadowStatus,
)

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOME, AWAY = CloudName("home"), CloudName("away")
VMS = tuple(VmName(f"vm{number}") for number in range(1, 4))
DAEMON = DaemonStatus(
    pid=4711,
    holder="node-1:4711",
    mode="auto",
    started_at=NOW - timedelta(hours=3),
    at=NOW - timedelta(seconds=2),
)
PLAN, STEP = PlanId("plan-4f2a"), StepId("plan-4f2a-1")
MOVE = MoveSight(
    plan=PLAN,
    step=STEP,
    vm=VMS[0],
    source=HostName("h1"),
    destination=HostName("a1"),
    phase=Phase.INTENDED,
    since=NOW - timedelta(seconds=9),
    progress=MoveProgress(
        plan=PLAN,
        step=STEP,
        vm=VMS[0],
        at=NOW,
        bytes_sent=30_000_000,
        bytes_remaining=60_000_000,
        bytes_per_second=12e6,
        dirty_bytes_per_second=1e6,
        rounds=3,
    ),
)
DECISION = DecisionSight(
    at=NOW - timedelta(seconds=20),
    plan=PLAN,
    status=PlanStatus.EXECUTING,
    moves=3,
    saving_dollars_per_hour=0.44,
    standing="optimal (proved)",
    why="home's price changed",
    unplaced=(),
)
BUSY = Sight(
    at=NOW,
    running=True,
    daemon=DAEMON,
    policies=PoliciesStatus(
        at=NOW,
        in_force=(PolicyFile(name="cheap", source="p/cheap.yaml", mode="auto"),),
        rejected=("p/legal.yaml:3:7: forbid.clouds is empty; name a cloud",),
    ),
    clouds=(
        CloudSight(
            name=HOME,
            price=PriceTick(cloud=HOME, at=NOW, dollars_per_vcpu_hour=0.2),
            hosts=(
                HostSight(
                    name=HostName("h1"),
                    used=Resources(vcpus=3, memory_bytes=3 << 30),
                    total=Resources(vcpus=8, memory_bytes=16 << 30),
                ),
            ),
            vms=VMS,
        ),
        CloudSight(name=AWAY, price=None, hosts=(HostSight(name=HostName("a1")),), vms=()),
    ),
    homeless=(VmName("stray"),),
    notices=(
        RevocationNotice(
            cloud=AWAY,
            host=HostName("a1"),
            at=NOW,
            deadline=NOW + timedelta(seconds=95),
        ),
    ),
    jobs=(Progress(job=JobName("blast"), at=NOW, done=120, total=4000),),
    groups=(
        GroupSight(
            id=GroupId("g-vm1"),
            vms=VMS,
            clouds=(AWAY, HOME),
            internal_bytes_per_second=1.2e6,
            cut_bytes_per_second=7e5,
            cut_dollars_per_hour=0.25,
        ),
    ),
    decision=DECISION,
    moves=(MOVE,),
    symptoms=(
        Symptom(
            kind=SymptomKind.PRICE_CHANGED,
            subject="home",
            at=NOW - timedelta(minutes=4),
            detail="home's price changed: vCPU hour $0.04 to $0.2 (+400%)",
        ),
    ),
)


def lines(sight: Sight) -> list[str]:
    """Print in 80 columns; runs of blanks count as one."""
    out = io.StringIO()
    Console(file=out, width=80, highlight=False).print(status(sight))
    printed = [line.rstrip() for line in out.getvalue().splitlines()]
    assert max(map(len, printed), default=0) <= 80
    return [" ".join(line.split()) for line in printed]


@pytest.mark.parametrize(
    "line",
    [
        "daemon running for 3h in mode auto: node-1:4711 (pid 4711)",
        "policies in force: cheap (auto)",
        "p/legal.yaml:3:7: forbid.clouds is empty; name a cloud",
        "decision plan-4f2a is executing (20s ago): 3 moves, saves $0.44/h, optimal",
        "(proved); home's price changed",
        "why: transhume explain",
        "host a1 of away will be gone in 1m 35s",
        "vm1 h1 → a1 intended 33% 90 MB 12 MB/s 9s",
        "round 3",
        "home $0.2 $0 $0 3 vm1, vm2, vm3",
        "away – – – 0",
        "h1 home 3/8 3.22 GB/17.2 GB",
        "a1 away – –",
        "on no host: stray",
        "g-vm1 away, home 1.2 MB/s 700 kB/s $0.25/h vm1, vm2, vm3",
        "blast: 120 of 4000 done",
        "4m ago home's price changed: vCPU hour $0.04 to $0.2 (+400%)",
    ],
)
def test_it_says(line: str) -> None:
    assert line in lines(BUSY)


def test_since_when_no_daemon_runs_is_said_and_who_was_the_last() -> None:
    gone = replace(BUSY, running=False, daemon=replace(DAEMON, at=NOW - timedelta(minutes=3)))
    said = " ".join(lines(gone)[:2])
    since = (NOW - timedelta(minutes=3)).astimezone()
    assert f"not running since {since:%Y-%m-%d %H:%M:%S}, 3m ago" in said
    assert "the last was node-1:4711 (pid 4711)" in said


def test_where_nothing_is_known_one_line_says_so() -> None:
    assert lines(nothing()) == ["daemon not running; no heartbeat is known"]


def test_a_notice_that_is_over_is_told_as_such() -> None:
    late = replace(BUSY, at=BUSY.notices[0].deadline + timedelta(seconds=30))
    assert "host a1 of away was to be gone 30s ago" in "\n".join(lines(late))


def test_what_there_is_none_of_takes_no_room() -> None:
    calm = replace(BUSY, notices=(), moves=(), groups=(), jobs=(), symptoms=(), homeless=())
    said = "\n".join(lines(calm))
    for title in ("notices", "moves under way", "groups", "jobs", "last symptoms", "on no host"):
        assert title not in said


def test_doing_nothing_comes_with_its_reason() -> None:
    idle = replace(DECISION, plan=None, status=None, moves=0, why="no rule is broken")
    said = lines(replace(BUSY, decision=replace(idle, unplaced=(VmName("vm2"),))))
    assert "decision nothing to do (20s ago): no rule is broken" in said
    assert "fits nowhere: vm2" in said


def test_what_cant_all_hold_is_told_with_the_decision() -> None:
    members = (
        ConflictMember(kind=ConflictKind.RULE, text="rule 1 of policy cheap (vm1 in b only)"),
        ConflictMember(kind=ConflictKind.CAPACITY, text="the capacity of b (0 vCPUs)"),
    )
    stuck = replace(DECISION, conflict=Conflict(members=members, minimal=True))

    said = " ".join(lines(replace(BUSY, decision=stuck)))

    assert "can't all hold" in said
    assert "capacity of b" in said


def test_a_move_that_only_the_journal_knows_is_shown_too() -> None:
    bare = replace(MOVE, source=None, destination=None, progress=None)
    assert "vm1 intended – – – 9s" in lines(replace(BUSY, moves=(bare,)))


def test_many_vms_and_long_names_stay_within_the_width() -> None:
    many = tuple(VmName(f"a-rather-long-name-of-a-vm-{number}") for number in range(300))
    long_cloud = replace(
        BUSY.clouds[0], name=CloudName("a-cloud-with-a-name-that-goes-on-and-on-" * 2), vms=many
    )
    said = " ".join(lines(replace(BUSY, clouds=(long_cloud,), homeless=many)))
    assert f"and {300 - MOST_NAMES} more" in said


@pytest.mark.parametrize("name", ["[bold]x[/]", "[/nothing]", "a\x1b[2Jb"], ids=repr)
def test_names_are_shown_and_never_obeyed(name: str) -> None:
    cloud = replace(BUSY.clouds[0], name=CloudName(name))
    said = "\n".join(lines(replace(BUSY, clouds=(cloud,))))
    assert "\x1b" not in said
    assert name.replace("\x1b", "\ufffd") in said


def test_a_recording_and_its_shadow_are_told_with_what_went_wrong() -> None:
    recording = RecordingStatus(
        folder="/rec", trace="/rec/20300101T000000Z", since=NOW - timedelta(hours=2)
    )
    shadow = ShadowStatus(
        at=NOW - timedelta(minutes=5),
        trace=recording.trace,
        policies=("a.yaml", "b.yaml"),
        refused=("c.yaml:3:7: odd",),
        why="it took longer than 300 s",
    )
    said = lines(replace(BUSY, recording=recording, shadow=shadow))
    assert "recording begun 2h ago, in /rec/20300101T000000Z" in said
    assert "shadow 2 compared 5m ago: transhume shadow" in said
    assert "refused: c.yaml:3:7: odd" in said
    assert "the last comparison came to nothing: it took longer than 300 s" in said
