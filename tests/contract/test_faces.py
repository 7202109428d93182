"""The commands beside a daemon: what they read from its knowledge, and what they have it do.

Each command is a process of its own, as for a person; the daemon is the real one, on simulated clouds.
"""

import asyncio
import json
import os
import pty
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from rich.console import Console

from tests.contract.daemon_stage import A1, B1, CHEAP, DEAR, VMS, A, Stage, set_stage, until
from tests.contract.decided import NOON, PLAN, STEP
from transhume.cli import asking, following
from transhume.cli.following import follow, outcomes_of
from transhume.daemon import service
from transhume.errors import PermanentError
from transhume.knowledge import keys
from transhume.knowledge.model import (
    CloudName,
    Outcome,
    Plan,
    PlanStatus,
    RevocationNotice,
    Step,
    StepId,
    StepResult,
)
from transhume.knowledge.records import CommandKind, DaemonStatus, PoliciesStatus, StoredPlan
from transhume.knowledge.server import ServerAddress
from transhume.knowledge.store import Store, utc_now

STANDING = (PlanStatus.RECOMMENDED, PlanStatus.AWAITING_APPROVAL)
ALTERNATE_SCREEN, NORMAL_SCREEN = b"\x1b[?1049h", b"\x1b[?1049l"


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def words(self) -> str:
        return " ".join(self.out.split())


class Shell:
    """Runs commands on one daemon's knowledge."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def __call__(self, *words: str, cwd: Path | None = None) -> Said:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "transhume", *words, "--url", self._url),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=os.environ | {"COLUMNS": "80"},
            cwd=cwd,
        )
        out, err = await process.communicate()
        assert process.returncode is not None
        return Said(status=process.returncode, out=out.decode(), err=err.decode())


@pytest.fixture
def transhume(server: ServerAddress) -> Shell:
    return Shell(server.url)


@pytest.fixture
async def store(client: Redis) -> Store:
    """On the real clock, as the commands are."""
    return Store(client)


@pytest.fixture
async def stage(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setattr(service, "DEBOUNCE_SECONDS", 0.01)
    monkeypatch.setattr(service, "QUIET_ROUND_SECONDS", 0.2)
    monkeypatch.setattr(service, "POLICY_SECONDS", 0.01)
    return await set_stage(store, tmp_path)


@asynccontextmanager
async def planned(stage: Stage, mode: str) -> AsyncIterator[StoredPlan]:
    """Have a daemon that has seen cloud a become dear; yield the plan that it has made of that."""
    stage.write_policy(mode)
    await stage.price(A, DEAR)
    async with stage.daemon():
        stored, _plan = await stage.plan(*STANDING)
        yield stored


async def test_status_shows_what_a_daemon_sees_and_decides(
    transhume: Shell, store: Store, stage: Stage
) -> None:
    deadline = utc_now() + timedelta(days=2)
    other = CloudName("other")
    await store.put_notice(RevocationNotice(cloud=other, at=utc_now(), deadline=deadline))
    async with planned(stage, "recommend") as plan:
        person = await transhume("status")
        program = await transhume("status", "--json")

    assert (person.status, person.err) == (0, "")
    assert f"in mode recommend: the daemon (pid {os.getpid()})" in person.words
    assert f"{plan.id} is recommended" in person.out
    assert max(map(len, person.out.splitlines())) <= 80
    sight = program.json
    assert (sight["running"], sight["moves"]) == (True, [])
    assert sight["policies"]["in_force"][0]["name"] == "cheap-but-together"
    assert {cloud["name"]: cloud["vms"] for cloud in sight["clouds"]} == {"a": [*VMS], "b": []}
    assert sight["clouds"][0]["price"]["dollars_per_vcpu_hour"] == DEAR
    assert sight["clouds"][0]["hosts"][0]["used"]["vcpus"] == 4
    assert [notice["cloud"] for notice in sight["notices"]] == ["other"]
    assert [group["vms"] for group in sight["groups"]] == [["vm1", "vm2"], ["vm3", "vm4"]]
    assert (sight["decision"]["plan"], sight["decision"]["status"]) == (plan.id, plan.status)


async def test_status_shows_the_moves_under_way(transhume: Shell, stage: Stage) -> None:
    """And the cut of a group of which one VM has gone ahead."""
    stage.clouds.gate.clear()
    await stage.price(A, DEAR)
    async with stage.daemon():
        await stage.moving()
        said = (await transhume("status", "--json")).json
        stage.clouds.gate.set()

    assert said["decision"]["status"] == "executing"
    move = said["moves"][0]
    assert (move["source"], move["destination"], move["phase"]) == ("a1", "b1", "intended")
    assert move["vm"] in said["clouds"][1]["vms"]
    cut = {tuple(group["vms"]): group["cut_bytes_per_second"] for group in said["groups"]}
    assert cut[VMS[2:]] == 0
    assert (cut[VMS[:2]] > 0) is (len(said["moves"]) == 1)


async def test_a_policy_file_that_is_refused_shows_with_its_mistakes(
    transhume: Shell, store: Store, stage: Stage
) -> None:
    async def refused() -> PoliciesStatus | None:
        status = await store.policies()
        return status if status and status.rejected else None

    async with planned(stage, "recommend"):
        stage.replace_policy("policy: frugal\nmode: perhaps\n")
        await until(refused, "a refusal")
        said = await transhume("status")

    assert "in force: cheap-but-together (recommend)" in said.out
    assert "policy.yaml:2:7:modeisperhaps" in "".join(said.out.split())


async def test_status_tells_since_when_no_daemon_runs(transhume: Shell, store: Store) -> None:
    last = utc_now() - timedelta(minutes=1)
    beat = DaemonStatus(pid=1, holder="gone", mode="auto", started_at=last, at=last)
    await store.put_status(beat)

    person = await transhume("status")
    program = await transhume("status", "--json")

    assert (person.status, program.status) == (3, 3)
    assert "not running since" in person.words
    assert "the last was gone (pid 1)" in person.words
    assert (program.json["running"], program.json["daemon"]["holder"]) == (False, "gone")


async def test_a_daemon_whose_clock_differs_runs_all_the_same(
    transhume: Shell, store: Store
) -> None:
    at = utc_now() - timedelta(hours=1)
    await store.lease("far away", 10).acquire()
    await store.put_status(
        DaemonStatus(pid=1, holder="far away", mode="auto", started_at=at, at=at)
    )
    said = await transhume("status", "--json")
    assert (said.status, said.json["running"]) == (0, True)


async def test_a_damaged_record_is_told_on_stderr_and_json_stays_json(
    transhume: Shell, client: Redis
) -> None:
    await client.hset(keys.PRICES, "a", b"{")
    said = await transhume("status", "--json")
    assert said.json["running"] is False
    assert "unreadable_fact_skipped" in said.err


@pytest.mark.parametrize(
    "words",
    [("--watch", "--json"), ("--watch",)],
    ids=["for a program", "without a terminal"],
)
async def test_watching_is_for_people_at_a_terminal(
    transhume: Shell, words: tuple[str, ...]
) -> None:
    said = await transhume("status", *words)
    assert (said.status, said.out) == (2, "")
    assert "--json" in said.err


async def test_watching_goes_on_until_it_is_interrupted(
    server: ServerAddress, store: Store
) -> None:
    """At a terminal, without a traceback, and the terminal is given back as it was."""
    now = utc_now()
    beat = DaemonStatus(pid=1, holder="ada", mode="auto", started_at=now, at=now)
    await store.put_status(beat)
    ours, theirs = pty.openpty()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "transhume", "status", "--watch", "--url", server.url),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )
    os.close(theirs)
    shown = await asyncio.to_thread(read_until, ours, b"ada")
    await store.put_status(replace(beat, holder="bob"))
    shown += await asyncio.to_thread(read_until, ours, b"bob")
    process.send_signal(signal.SIGINT)
    shown += await asyncio.to_thread(read_until, ours, None)
    os.close(ours)

    assert await process.wait() == -signal.SIGINT
    assert b"Traceback" not in shown
    assert shown.count(ALTERNATE_SCREEN) == shown.count(NORMAL_SCREEN) == 1


def read_until(terminal: int, words: bytes | None) -> bytes:
    """Read what a program writes to a terminal until some words come, or to its end."""
    shown = b""
    while words is None or words not in shown:
        try:
            more = os.read(terminal, 4096)
        except OSError:  # Linux's way to say that nobody has the other end open any more
            more = b""
        if not more:
            assert words is None, f"no {words!r} in {shown!r}"
            break
        shown += more
    return shown


async def test_plan_and_explain_tell_what_is_best_and_move_nothing(
    transhume: Shell, stage: Stage
) -> None:
    async with planned(stage, "recommend") as plan:
        person = await transhume("plan")
        program = await transhume("plan", "--json")
        explained = await transhume("explain", str(plan.id), "vm2")
        unknown = await transhume("explain", "plan-none")
        stays = await transhume("explain", "latest", "vm3")
        of_one = await transhume("explain", "latest", "vm3", "--json")
        mistyped = await transhume("explain", "latest", "vm33")
        as_json = await transhume("history", "--json")
        history = await transhume("history")

    assert "because: asked by hand" in person.out
    assert {step["vm"]: step["destination_cloud"] for step in program.json["steps"]} == {
        "vm1": "b",
        "vm2": "b",
    }
    assert "vm2: a1 (a) to b1 (b), it pays" in explained.out
    assert "vm1: a1" not in explained.out
    assert stays.out.startswith("vm3 stays in a (")
    assert (of_one.json["vm"], of_one.json["destination"]) == ("vm3", None)
    assert (mistyped.status, mistyped.out) == (2, "")
    assert "there is no VM vm33; did you mean vm3" in mistyped.err
    assert (unknown.status, unknown.out) == (2, "")
    assert "there is no plan plan-none" in unknown.err
    assert (as_json.json, history.out) == ([], "no VM was moved yet\n")
    assert stage.at(A1) == set(VMS)


async def test_a_plan_under_other_policies_is_only_a_question(
    transhume: Shell, store: Store, stage: Stage, tmp_path: Path
) -> None:
    other = tmp_path / "stay.yaml"
    other.write_text("policy: stay\nrules: [{forbid: {vm: '*', clouds: [b]}}]\n")
    async with planned(stage, "recommend") as plan:
        said = await transhume("plan", "--json", "--policies", str(other))
        latest = await store.latest_plan()

    assert said.json["policies"] == ["stay"]
    assert "steps" not in said.json
    assert latest == plan


async def test_a_plan_is_made_by_the_policies_in_force_wherever_it_is_asked_for(
    transhume: Shell, stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by those that the same relative path names where the question is asked."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "policy.yaml").write_text("policy: another\n")
    monkeypatch.chdir(tmp_path)
    stage.policy = Path("policy.yaml")
    async with planned(stage, "recommend"):
        said = await transhume("plan", "--json", cwd=elsewhere)

    assert said.json["policies"] == ["cheap-but-together"]


@pytest.mark.parametrize(("mode", "word"), [("approve", "approve"), ("recommend", "apply")])
async def test_a_person_has_a_plan_carried_out(
    transhume: Shell, stage: Stage, mode: str, word: str
) -> None:
    async with planned(stage, mode) as plan:
        done = await transhume(word, "--json")
        again = await transhume(word, str(plan.id))
        history = await transhume("history", "--json")

    assert done.status == 0, done.err
    assert {outcome["vm"]: outcome["result"] for outcome in done.json} == {
        "vm1": "done",
        "vm2": "done",
    }
    assert history.json == done.json[::-1]
    assert stage.at(B1) == set(VMS[:2])
    assert again.status == 2
    assert f"plan {plan.id} is done" in again.err


async def test_a_plan_that_ends_undone_is_a_failure_with_its_reason(
    transhume: Shell, stage: Stage
) -> None:
    stage.clouds.faults[VMS[0]] = "the wire was cut"
    async with planned(stage, "approve"):
        said = await transhume("approve")

    assert said.status == 1
    assert "the wire was cut" in said.words
    assert "the plan is undone" in said.err
    assert stage.at(A1) == set(VMS)


async def test_a_plan_that_nobody_carries_on_is_not_watched_for_ever(
    store: Store, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "SILENCE_SECONDS", 0.3)
    stage.clouds.gate.clear()
    await stage.price(A, DEAR)
    running = asyncio.create_task((await stage.new_daemon()).run())
    _, plan = await stage.plan(PlanStatus.EXECUTING)
    running.cancel()
    await asyncio.wait({running})

    async with asyncio.timeout(60):
        with pytest.raises(PermanentError, match=f"plan {plan.id} out is gone"):
            await follow(store, plan, Console(file=StringIO()))


async def test_all_moves_of_a_large_plan_are_told(store: Store) -> None:
    steps = tuple(replace(STEP, id=StepId(f"s{number}")) for number in range(600))
    plan = replace(PLAN, steps=steps)
    lease = store.lease("the daemon", 10)
    token = await lease.acquire()
    for step in steps:
        await store.add_outcome(ended(plan, step), token)

    assert [outcome.step for outcome in await outcomes_of(store, plan)] == [s.id for s in steps]


def ended(plan: Plan, step: Step) -> Outcome:
    return Outcome(
        plan=plan.id,
        step=step.id,
        vm=step.vm,
        source=step.source,
        destination=step.destination,
        result=StepResult.DONE,
        why="",
        started_at=NOON,
        ended_at=NOON,
        predicted=step.prediction,
        measured=None,
    )


async def test_a_wish_that_nobody_takes_up_is_told_to_be_in_force(
    store: Store, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever begins next obeys it; so nobody is to take it for refused."""
    async with planned(stage, "approve") as plan:
        pass
    monkeypatch.setattr(asking, "PATIENCE_SECONDS", 0.3)
    with pytest.raises(PermanentError, match="still carries it out"):
        await asking._ask(store, plan.id, CommandKind.APPROVE)
    async with stage.daemon():
        assert (await stage.plan(PlanStatus.DONE))[0].id == plan.id


async def test_a_plan_that_is_no_longer_the_best_is_refused(transhume: Shell, stage: Stage) -> None:
    async with planned(stage, "approve") as plan:
        await stage.price(A, CHEAP)
        said = await transhume("approve", str(plan.id))

    assert (said.status, said.out) == (2, "")
    assert stage.at(A1) == set(VMS)


async def test_before_anything_is_known_nothing_is_planned(
    transhume: Shell, tmp_path: Path
) -> None:
    (tmp_path / "stay.yaml").write_text("policy: stay\n")
    said = await transhume("plan", "--policies", str(tmp_path), "--json")
    assert (said.status, said.err) == (0, "")
    assert said.json["reason"] == "no policy applies to any VM that runs on a known host"


async def test_without_a_decision_there_is_nothing_to_tell_or_to_do(transhume: Shell) -> None:
    explained = await transhume("explain")
    approved = await transhume("approve")
    question = await transhume("plan")

    assert [said.status for said in (explained, approved, question)] == [2, 2, 2]
    assert "nothing was decided yet" in explained.err
    assert "there is no plan to carry out" in approved.err
    assert "no policy is in force" in question.err
