"""What the daemon outlives: its own death at any write, and faults of all that it works with."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.contract.daemon_stage import (
    A1,
    B1,
    CHEAP,
    DEAR,
    ENDED,
    ONE_SERVER,
    TALKERS,
    VMS,
    A,
    Dying,
    Stage,
    hurry,
    notice,
    outcomes,
    set_stage,
    so,
    told,
    until,
)
from transhume.daemon import undertaking
from transhume.errors import HypervisorUnreachable, TemporaryError
from transhume.knowledge import keys, store
from transhume.knowledge.model import (
    Phase,
    Plan,
    PlanId,
    PlanStatus,
)
from transhume.knowledge.model.undoing import reversed_step
from transhume.knowledge.server import Program, run_server
from transhume.knowledge.store import Store
from transhume.knowledge.wire import connect
from transhume.loop import Decision, Loop
from transhume.plan import PlannerSettings


@pytest.fixture
async def stage(client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    hurry(monkeypatch)
    return await set_stage(Store(client), tmp_path)


@ONE_SERVER
@pytest.mark.parametrize("durable", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("fails", [False, True], ids=["move", "undo"])
async def test_dead_at_any_write_its_successor_finishes_or_undoes_the_plan(
    client: Redis,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    durable: bool,
    fails: bool,
) -> None:
    """Every write of journal and outcomes is tried, also those of a group that goes back."""
    hurry(monkeypatch)
    write = 0
    while True:
        write += 1
        await client.flushall()
        stage = await set_stage(Store(client), tmp_path)
        if fails:
            stage.clouds.faults[VMS[1]] = "no memory left there"
        if not await dies(stage, write, durable=durable):
            break
        stage.clouds.faults.clear()
        async with stage.daemon():
            stored, plan = await stage.plan(*ENDED)
        await assert_is_as_the_journal_says(stage, plan)
        assert stored.status in (PlanStatus.DONE, PlanStatus.UNDONE)
        moved = {PlanStatus.DONE: TALKERS, PlanStatus.UNDONE: set()}[stored.status]
        assert (write, stage.at(B1)) == (write, moved)
    assert write > 12


async def dies(stage: Stage, write: int, *, durable: bool) -> bool:
    """Run a daemon that dies at a write; return False where it ended well before."""
    ledgers: list[Dying] = []

    def dying(ledger: Any) -> Dying:
        ledgers.append(Dying(ledger, write, durable=durable))
        return ledgers[-1]

    async def dead_or_ended() -> bool | None:
        if ledgers and ledgers[0].dead.is_set():
            return True
        return False if any(p.status in ENDED for p in await stage.store.plans()) else None

    stage.ledger = dying
    running = asyncio.create_task((await stage.new_daemon()).run())
    await stage.calm()
    await stage.price(A, DEAR)
    dead = await until(dead_or_ended, "the daemon's death, or the plan's end")
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    stage.ledger = lambda ledger: ledger
    return dead


async def assert_is_as_the_journal_says(stage: Stage, plan: Plan) -> None:
    assert await stage.store.open_steps() == ()
    assert stage.clouds.running_at.keys() == set(VMS)
    latest = {line.step: line for line in await stage.store.journal(plan.id)}
    results = await outcomes(stage.store, plan)
    for line in latest.values():
        assert line.phase.final
    for step in plan.steps:
        undone = latest.get(reversed_step(step).id)
        last = undone or latest[step.id]
        there = (last.phase is Phase.COMMITTED) == (undone is None)
        assert stage.clouds.running_at[step.vm] == (step.destination if there else step.source)
        site = step.destination_cloud if there else step.source_cloud
        (interface,) = stage.clouds.vms[step.vm].interfaces
        assert stage.overlay.site_of.get(interface.mac, A) == site
        assert step.vm in results


@ONE_SERVER
async def test_a_plan_that_was_never_begun_is_made_anew_when_it_is_found_too_late(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.write_policy("recommend")
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        _, plan = await stage.plan(PlanStatus.RECOMMENDED)
    lease = stage.store.lease("one that died at once", 60)
    await stage.store.set_plan_status(plan.id, PlanStatus.EXECUTING, await lease.acquire())
    await lease.release()
    monkeypatch.setattr(undertaking, "STALE", timedelta(0))
    async with stage.daemon():
        await stage.plan(PlanStatus.RECOMMENDED)
    assert stage.at(A1) == set(VMS)


@ONE_SERVER
async def test_a_plan_is_taken_up_whatever_the_clock_has_said_since(stage: Stage) -> None:
    """Plans are ordered by when they were made, and a clock that was ahead has made many that seem newer."""
    stage.write_policy("recommend")
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        _, plan = await stage.plan(PlanStatus.RECOMMENDED)
    lease = stage.store.lease("one that died at once", 60)
    token = await lease.acquire()
    for number in range(60):
        ahead = replace(
            plan, id=PlanId(f"ahead-{number}"), made_at=plan.made_at + timedelta(days=1)
        )
        await stage.store.put_plan(ahead, PlanStatus.SUPERSEDED, token)
    await stage.store.set_plan_status(plan.id, PlanStatus.EXECUTING, token)
    await lease.release()
    async with stage.daemon():

        async def ended() -> bool | None:
            return True if (await stage.store.plan(plan.id)).status in ENDED else None

        await until(ended, "the plan to be carried out")
    assert stage.at(B1) == TALKERS


class Sick(Loop):
    """A judgement with a fault in it."""

    fault: Exception | None = None

    def consider(self, *args: Any, **options: Any) -> Decision:
        if self.fault is not None:
            raise self.fault
        return super().consider(*args, **options)


@ONE_SERVER
@pytest.mark.parametrize(
    "fault", [TemporaryError("a moment, please"), ZeroDivisionError()], ids=["foreseen", "not"]
)
async def test_trouble_in_rounds_is_told_once_and_its_end_once(
    stage: Stage, fault: Exception
) -> None:
    sick = Sick(PlannerSettings())
    stage.loop = lambda: sick
    with capture_logs() as logs:
        async with stage.daemon():
            await stage.calm()
            sick.fault = fault
            for dollars in (0.05, 0.06, 0.07, DEAR):
                tried = stage.reconciled
                await stage.price(A, dollars)
                await until(so(lambda tried=tried: stage.reconciled > tried + 1), "a round")
            sick.fault = None
            await stage.plan(PlanStatus.DONE)
    assert (told(logs, "round_put_off"), told(logs, "rounds_go_on")) == (1, 1)


@ONE_SERVER
async def test_a_plan_that_nobody_can_read_hinders_no_round(stage: Stage, client: Redis) -> None:
    """It stood for approval, written by another version; others take its place all the same."""
    stage.write_policy("approve")
    with capture_logs() as logs:
        async with stage.daemon():
            await stage.calm()
            await stage.price(A, DEAR)
            _, plan = await stage.plan(PlanStatus.AWAITING_APPROVAL)
            await client.hset(keys.PLANS, plan.id, "odd")
            await stage.price(A, CHEAP)
            await stage.calm()
    assert told(logs, "round_put_off") == 0


@ONE_SERVER
async def test_no_outcome_of_a_large_plan_is_told_twice(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two moves are many where so few outcomes are looked at."""
    monkeypatch.setattr(store, "OTHER_OUTCOMES", 0)
    await stage.price(A, DEAR)
    async with stage.daemon():
        _, plan = await stage.plan(PlanStatus.DONE)
    assert set(await outcomes(stage.store, plan)) == TALKERS


async def test_a_host_that_is_silent_for_a_while_only_delays_the_plan(stage: Stage) -> None:
    silent = HypervisorUnreachable("b1", "qemu:///b1", "connection refused")
    with capture_logs() as logs:
        async with stage.daemon():
            await stage.calm()
            stage.clouds.ailing = silent
            await stage.price(A, DEAR)
            await until(so(lambda: told(logs, "plan_interrupted")), "the silence to be told")
            stage.clouds.ailing = None
            await stage.plan(PlanStatus.DONE)
    assert stage.at(B1) == TALKERS
    assert told(logs, "plan_interrupted") == 1


@ONE_SERVER
@pytest.mark.parametrize(
    "fault",
    [HypervisorUnreachable("b1", "qemu:///b1", "refused"), RuntimeError("nobody foresaw this")],
    ids=["foreseen", "unforeseen"],
)
async def test_a_plan_that_stays_hindered_is_given_up_and_the_daemon_goes_on(
    stage: Stage, fault: Exception
) -> None:
    async with stage.daemon():
        await stage.calm()
        stage.clouds.ailing = fault
        await stage.price(A, DEAR)
        _, plan = await stage.plan(PlanStatus.FAILED)
        found = await outcomes(stage.store, plan)
        assert any("look where the VM runs" in outcome.why for outcome in found.values())
        assert await stage.store.open_steps() == ()
        stage.clouds.ailing = None
        stage.write_policy(pinned="nobody")
        await stage.store.put_notice(notice())
        await until(so(lambda: stage.at(B1) == set(VMS)), "the evacuation")


@ONE_SERVER
async def test_an_undoing_that_stays_hindered_is_given_up_too(stage: Stage) -> None:
    """The destination dies for good between the first move of a group and the failure of the second."""
    async with stage.daemon():
        await stage.calm()
        stage.clouds.faults[VMS[1]] = "no memory left there"
        stage.clouds.stuck = VMS[0]
        await stage.price(A, DEAR)
        _, plan = await stage.plan(PlanStatus.FAILED)
        told_of = {
            outcome.step: outcome.why
            for outcome in await stage.store.outcomes()
            if outcome.plan == plan.id
        }
        (undoing,) = (reversed_step(step) for step in plan.steps if step.vm == VMS[0])
        assert "look where the VM runs" in told_of[undoing.id]
        assert await stage.store.open_steps() == ()


@ONE_SERVER
async def test_a_plan_that_comes_to_nothing_is_not_made_again_and_again(stage: Stage) -> None:
    """A VM that a person has paused is skipped: without patience, each round would try once more."""
    stage.clouds.suspended = frozenset(TALKERS)
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        _, plan = await stage.plan(PlanStatus.UNDONE)
        _, held = await stage.plan(PlanStatus.RECOMMENDED, past=plan.id)
        seen = stage.reconciled
        await until(so(lambda: stage.reconciled > seen + 3), "more rounds")
        assert [stored.id for stored in await stage.store.plans()] == [held.id, plan.id]


@ONE_SERVER
async def test_a_server_that_restarts_is_waited_for(
    program: Program, state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch)
    with capture_logs() as logs:
        async with connect(f"unix://{state}/knowledge/socket") as client:
            async with run_server(program, state):
                stage = await set_stage(Store(client), tmp_path)
                stage.clouds.gate.clear()
                daemon = await stage.new_daemon()
                running = asyncio.create_task(daemon.run())
                await stage.calm()
                await stage.price(A, DEAR)
                await stage.moving()
            stage.clouds.gate.set()
            await until(so(lambda: told(logs, "plan_interrupted")), "the plan to suffer")
            await until(so(lambda: told(logs, "chore_failed")), "the chores to suffer")
            async with run_server(program, state):
                await stage.plan(*ENDED)
                await stage.price(A, CHEAP)
                await stage.calm()
                daemon.stop()
                await asyncio.wait_for(running, 60)
    assert told(logs, "plan_interrupted") == 1
    assert told(logs, "chore_failed") == told(logs, "chore_recovered") <= 4
