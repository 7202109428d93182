"""Plans, the journal and the pen: what only one may write, and what must outlive any crash."""

import asyncio
import gc
import os
import signal
import warnings
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.contract.decided import NOON, PLAN, PREDICTION, STEP
from transhume.errors import KnowledgeUnreachable, LeaseHeld, LeaseLost, UsageError
from transhume.knowledge import keys
from transhume.knowledge.codec import UnreadableRecord
from transhume.knowledge.lease import holder_of_lease
from transhume.knowledge.model import (
    Cloud,
    CloudName,
    CostRate,
    Host,
    JournalRecord,
    Measurement,
    MoveProgress,
    NoPlan,
    Outcome,
    Phase,
    Placement,
    PlanId,
    PlanStatus,
    Resources,
    StepResult,
    Vm,
)
from transhume.knowledge.model.undoing import reversed_step
from transhume.knowledge.records import Retention
from transhume.knowledge.server import Program, run_server
from transhume.knowledge.store import Store
from transhume.knowledge.wire import connect

NO_PLAN = NoPlan(
    made_at=NOON,
    made_from_version=4,
    policies=("cheap",),
    trigger="a price rose",
    reason="nothing pays",
    before=CostRate(compute=2.0),
)


WRITING_TURNS = 200
"""Of the event loop: more than a line of the journal takes."""


def line(phase: Phase, second: int = 0) -> JournalRecord:
    at = NOON + timedelta(seconds=second)
    return JournalRecord(plan=PLAN.id, step=STEP.id, vm=STEP.vm, phase=phase, at=at)


OUTCOME = Outcome(
    plan=PLAN.id,
    step=STEP.id,
    vm=STEP.vm,
    source=STEP.source,
    destination=STEP.destination,
    result=StepResult.DONE,
    why="verified at a1",
    started_at=NOON,
    ended_at=NOON + timedelta(seconds=20),
    predicted=PREDICTION,
    measured=Measurement(bytes=1 << 29, seconds=18.0),
)


# --- the pen


async def test_only_one_has_the_pen_and_the_other_learns_who(store: Store, client: Redis) -> None:
    await store.lease("ada", 60).acquire()
    with pytest.raises(LeaseHeld, match="ada"):
        await store.lease("bob", 60).acquire()
    assert await holder_of_lease(client) == "ada"


async def test_of_many_who_reach_for_the_pen_one_gets_it(store: Store) -> None:
    takings = [store.lease(f"daemon {i}", 60).acquire() for i in range(10)]
    results = await asyncio.gather(*takings, return_exceptions=True)
    assert sum(isinstance(result, int) for result in results) == 1


async def test_a_released_pen_can_be_taken_and_the_old_token_is_worthless(store: Store) -> None:
    ada = store.lease("ada", 60)
    old = await ada.acquire()
    await ada.release()
    with pytest.raises(LeaseLost):
        await store.put_plan(PLAN, PlanStatus.RECOMMENDED, old)
    assert await store.lease("bob", 60).acquire() > old


async def test_a_paused_holder_can_write_nothing_after_its_lease_was_taken(
    store: Store, client: Redis
) -> None:
    ada, bob = store.lease("ada", 60), store.lease("bob", 60)
    old = await ada.acquire()
    await store.put_plan(PLAN, PlanStatus.AWAITING_APPROVAL, old)
    await client.pexpire(keys.LEASE, 0)  # ada was paused for longer than her lease
    new = await bob.acquire()
    assert new > old
    before = {key: await client.dump(key) for key in sorted(await client.keys("*"))}

    for write in (
        store.put_plan(replace(PLAN, id=PlanId("p2")), PlanStatus.RECOMMENDED, old),
        store.put_plan(NO_PLAN, None, old),
        store.set_plan_status(PLAN.id, PlanStatus.EXECUTING, old),
        store.append_journal(line(Phase.INTENDED), old),
        store.add_outcome(OUTCOME, old),
        store.finish_command("1-0", old),
        ada.renew(),
    ):
        with pytest.raises(LeaseLost):
            await write
    await ada.release()

    assert {key: await client.dump(key) for key in sorted(await client.keys("*"))} == before
    assert await holder_of_lease(client) == "bob"


async def test_a_lease_runs_out_by_itself_and_can_be_renewed_while_nobody_took_it(
    store: Store, client: Redis
) -> None:
    ada = store.lease("ada", 60)
    token = await ada.acquire()
    assert 0 < await client.pttl(keys.LEASE) <= 60_000
    await client.pexpire(keys.LEASE, 0)
    await store.put_plan(PLAN, None, token)
    await ada.renew()
    assert await holder_of_lease(client) == "ada"


async def test_tokens_rise_even_when_the_server_lost_its_memory(
    store: Store, client: Redis
) -> None:
    old = await store.lease("ada", 60).acquire()
    await client.flushall()
    await asyncio.to_thread(_next_millisecond)
    assert await store.lease("bob", 60).acquire() > old


def _next_millisecond() -> None:
    import time

    start = time.time_ns() // 1_000_000
    while time.time_ns() // 1_000_000 <= start:
        pass


# --- plans


async def test_a_plan_is_read_back_with_its_status(store: Store, token: int) -> None:
    await store.put_plan(PLAN, PlanStatus.AWAITING_APPROVAL, token)
    stored = await store.plan(PLAN.id)
    assert (stored.plan, stored.status, stored.since) == (PLAN, PlanStatus.AWAITING_APPROVAL, NOON)
    assert await store.latest_plan() == stored
    assert await store.plans() == (stored,)


async def test_of_decisions_to_do_nothing_only_the_last_is_kept(store: Store, token: int) -> None:
    assert await store.latest_plan() is None
    await store.put_plan(PLAN, None, token)
    await store.put_plan(NO_PLAN, None, token)
    latest = await store.latest_plan()
    assert latest is not None
    assert (latest.plan, latest.id, latest.status) == (NO_PLAN, None, None)
    assert [stored.id for stored in await store.plans()] == [PLAN.id]


async def test_plans_that_were_begun_are_found_among_any_number_of_recommendations(
    store: Store, token: int
) -> None:
    ends = (PlanStatus.DONE, PlanStatus.UNDONE, PlanStatus.FAILED, PlanStatus.EXECUTING)
    for minutes, status in enumerate(ends):
        plan = replace(PLAN, id=PlanId(status), made_at=NOON + timedelta(minutes=minutes))
        await store.put_plan(plan, status, token)
    idle = (PlanStatus.RECOMMENDED, PlanStatus.AWAITING_APPROVAL, PlanStatus.SUPERSEDED)
    for number in range(60):
        plan = replace(PLAN, id=PlanId(f"p{number}"), made_at=NOON + timedelta(hours=1))
        await store.put_plan(plan, idle[number % 3], token)
    assert [stored.id for stored in await store.begun_plans(NOON, 50)] == [
        *map(str, reversed(ends))
    ]
    late = NOON + timedelta(minutes=2)
    assert [stored.id for stored in await store.begun_plans(late)] == ["executing", "failed"]
    assert [stored.id for stored in await store.begun_plans(NOON, 1)] == ["executing"]
    assert await store.begun_plans(NOON + timedelta(hours=2)) == ()


@pytest.mark.parametrize("written", ["odd", None], ids=["damaged", "gone"])
async def test_a_last_plan_that_nobody_can_read_is_passed_over_and_told_once(
    store: Store, client: Redis, token: int, written: str | None
) -> None:
    await store.put_plan(PLAN, None, token)
    await (client.hset(keys.PLANS, PLAN.id, written) if written else client.delete(keys.PLANS))
    with capture_logs() as logs:
        assert await store.latest_plan() is await store.latest_plan() is None
    assert [line["where"] for line in logs] == [f"{keys.PLANS} {PLAN.id}"]


async def test_a_status_changes_only_from_the_expected_one(store: Store, token: int) -> None:
    await store.put_plan(PLAN, PlanStatus.RECOMMENDED, token)
    approved, executing = PlanStatus.AWAITING_APPROVAL, PlanStatus.EXECUTING
    assert not await store.set_plan_status(PLAN.id, executing, token, expected=approved)
    assert (await store.plan(PLAN.id)).status is PlanStatus.RECOMMENDED
    assert await store.set_plan_status(PLAN.id, approved, token, PlanStatus.RECOMMENDED)
    assert await store.set_plan_status(PLAN.id, executing, token)
    assert (await store.plan(PLAN.id)).status is executing


async def test_a_plan_that_is_not_there_is_the_askers_mistake(store: Store, token: int) -> None:
    with pytest.raises(UsageError, match="nope"):
        await store.plan(PlanId("nope"))
    with pytest.raises(UsageError, match="nope"):
        await store.set_plan_status(PlanId("nope"), PlanStatus.DONE, token)


async def test_old_plans_are_forgotten_but_not_one_being_executed(
    client: Redis, token: int
) -> None:
    store = Store(client, clock=lambda: NOON, retention=Retention(plans=timedelta(days=1)))
    old, busy = PlanId("old"), PlanId("busy")
    for name in (old, busy):
        plan = replace(PLAN, id=name, made_at=NOON - timedelta(days=2))
        await store.put_plan(plan, PlanStatus.EXECUTING, token)
        await store.append_journal(replace(line(Phase.COMMITTED), plan=name), token)
    await store.set_plan_status(old, PlanStatus.DONE, token)
    await store.put_plan(PLAN, None, token)
    assert {stored.id for stored in await store.plans()} == {"p1", "busy"}
    assert await store.journal(old) == ()
    assert len(await store.journal(busy)) == 1


async def test_outcomes_come_newest_first_and_are_in_the_snapshot(store: Store, token: int) -> None:
    later = replace(OUTCOME, ended_at=NOON + timedelta(hours=1), result=StepResult.SKIPPED)
    await store.add_outcome(OUTCOME, token)
    await store.add_outcome(later, token)
    assert await store.outcomes() == (later, OUTCOME)
    assert (await store.snapshot()).outcomes == (later, OUTCOME)


# --- the journal


@pytest.fixture
async def placed(store: Store, token: int) -> Store:
    """A store in which v1 is on h1, and a plan is about to take it to a1."""
    home, away = Cloud(name=CloudName("home")), Cloud(name=CloudName("away"))
    hosts = [Host(name=STEP.source, cloud=home.name), Host(name=STEP.destination, cloud=away.name)]
    vm = Vm(name=STEP.vm, uuid="1", needs=Resources(vcpus=1, memory_bytes=1 << 30))
    await store.put_federation([home, away], hosts, [])
    await store.put_inventory([vm], [], Placement(host_of={STEP.vm: STEP.source}), [])
    await store.put_plan(PLAN, PlanStatus.EXECUTING, token)
    return store


FORWARD = (Phase.INTENDED, Phase.MOVED, Phase.VERIFIED, Phase.REPOINTED)


@pytest.mark.parametrize(
    ("phases", "on", "moving"),
    [
        *(pytest.param(FORWARD[: i + 1], "a1", True, id=FORWARD[i]) for i in range(4)),
        pytest.param((*FORWARD, Phase.COMMITTED), "a1", False, id="committed"),
        pytest.param((*FORWARD[:2], Phase.UNDOING), "h1", True, id="undoing"),
        pytest.param((*FORWARD[:2], Phase.UNDOING, Phase.UNDONE), "h1", False, id="undone"),
        pytest.param((Phase.SKIPPED,), "h1", False, id="skipped"),
        pytest.param((*FORWARD[:2], Phase.FAILED), "h1", False, id="failed"),
    ],
)
async def test_a_vm_counts_as_being_where_its_open_step_takes_it(
    placed: Store, token: int, phases: tuple[Phase, ...], on: str, moving: bool
) -> None:
    for phase in phases:
        await placed.append_journal(line(phase), token)
    seen = await placed.snapshot()
    assert seen.placement.host_of == {"v1": on}
    assert seen.moving == ({"v1"} if moving else set())
    assert [record.phase for record in await placed.open_steps()] == ([phases[-1]] * moving)
    assert [record.phase for record in await placed.journal(PLAN.id)] == list(phases)


async def test_who_is_cancelled_as_he_writes_keeps_no_connection(
    placed: Store, client: Redis, token: int
) -> None:
    """Whatever he waits for just then."""
    await placed.append_journal(line(Phase.INTENDED), token)
    kept = 0
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for turns in range(WRITING_TURNS):
            writing = asyncio.create_task(placed.append_journal(line(Phase.INTENDED), token))
            for _ in range(turns):
                await asyncio.sleep(0)
            writing.cancel()
            await asyncio.wait({writing})
        kept = len(client.connection_pool._in_use_connections)
        del writing
        gc.collect()
    assert (kept, [str(each.message) for each in told]) == (0, [])


async def test_an_inventory_read_during_a_move_does_not_put_the_vm_back(
    placed: Store, token: int
) -> None:
    await placed.append_journal(line(Phase.INTENDED), token)
    vms = (await placed.snapshot()).vms.values()
    await placed.put_inventory(vms, [], Placement(host_of={STEP.vm: STEP.source}), [])
    assert (await placed.snapshot()).placement.host_of == {"v1": "a1"}


async def test_an_inventory_asked_for_before_a_move_ended_does_not_put_the_vm_back(
    placed: Store, token: int
) -> None:
    """One host that gives no answer keeps an inventory waiting for longer than a move takes."""
    before = (await placed.last_inventory()).arrivals
    for phase in (*FORWARD, Phase.COMMITTED):
        await placed.append_journal(line(phase), token)
    vms = (await placed.snapshot()).vms.values()
    late = Placement(host_of={STEP.vm: STEP.source})
    await placed.put_inventory(vms, [], late, [], before)
    assert (await placed.snapshot()).placement.host_of == {"v1": "a1"}
    await placed.put_inventory(vms, [], late, [], (await placed.last_inventory()).arrivals)
    assert (await placed.snapshot()).placement.host_of == {"v1": "h1"}
    assert (await placed.last_inventory()).arrivals == {}


@pytest.mark.parametrize(
    ("phases", "on", "moving"),
    [
        pytest.param(FORWARD[:1], "h1", True, id="on its way back"),
        pytest.param((*FORWARD, Phase.COMMITTED), "h1", False, id="back"),
        pytest.param((*FORWARD[:1], Phase.UNDOING, Phase.UNDONE), "a1", False, id="not back"),
    ],
)
async def test_a_vm_counts_as_being_where_an_undoing_takes_it(
    placed: Store, token: int, phases: tuple[Phase, ...], on: str, moving: bool
) -> None:
    for phase in (*FORWARD, Phase.COMMITTED):
        await placed.append_journal(line(phase), token)
    seen = await placed.snapshot()
    await placed.put_inventory(seen.vms.values(), [], seen.placement, [])
    for phase in phases:
        await placed.append_journal(replace(line(phase), step=reversed_step(STEP).id), token)
    seen = await placed.snapshot()
    assert seen.placement.host_of == {"v1": on}
    assert seen.moving == ({"v1"} if moving else set())


async def test_a_damaged_open_step_is_an_error_and_not_passed_over(
    placed: Store, client: Redis, token: int
) -> None:
    await placed.append_journal(line(Phase.INTENDED), token)
    await client.hset(keys.OPEN_STEPS, "p1 s1", "{")
    with pytest.raises(UnreadableRecord):
        await placed.open_steps()
    assert (await placed.snapshot()).moving == {"v1"}


async def test_progress_of_a_move_is_there_until_its_step_is_over(
    placed: Store, token: int
) -> None:
    progress = MoveProgress(
        plan=PLAN.id,
        step=STEP.id,
        vm=STEP.vm,
        at=NOON,
        bytes_sent=1,
        bytes_remaining=2,
        bytes_per_second=3.0,
        dirty_bytes_per_second=4.0,
    )
    await placed.append_journal(line(Phase.INTENDED), token)
    await placed.put_move_progress(progress)
    assert await placed.move_progress() == (progress,)
    await placed.append_journal(line(Phase.COMMITTED), token)
    assert await placed.move_progress() == ()


async def test_a_journal_record_outlives_a_server_killed_right_after_it(
    program: Program, state: Path
) -> None:
    """Again and again on the same files; the fence must not go back either."""
    written, tokens = [], []
    for second, phase in enumerate(FORWARD):
        async with run_server(program, state) as address:
            async with Store.connect(address.url) as store:
                assert list(await store.journal(PLAN.id)) == written
                tokens.append(await store.lease("ada", 60).acquire())
                record = line(phase, second)
                await store.append_journal(record, tokens[-1])
                written.append(record)
                async with connect(address.url) as client:
                    os.kill((await client.info("server"))["process_id"], signal.SIGKILL)
                with pytest.raises(KnowledgeUnreachable):
                    await store.snapshot()
    assert tokens == sorted(set(tokens))


# --- all of it at once


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    turns=st.lists(
        st.tuples(
            st.sampled_from(("ada", "bob", "cyd")),
            st.sampled_from(("acquire", "write", "renew", "release", "lapse")),
        ),
        max_size=30,
    )
)
def test_whatever_holders_do_only_the_last_who_took_the_pen_writes(
    program: Program, tmp_path_factory: pytest.TempPathFactory, turns: list[tuple[str, str]]
) -> None:
    async def play() -> None:
        async with (
            run_server(program, tmp_path_factory.mktemp("s")) as address,
            connect(address.url) as client,
        ):
            await _play(Store(client), client, turns)

    asyncio.run(play())


async def _play(store: Store, client: Redis, turns: list[tuple[str, str]]) -> None:
    leases = {name: store.lease(name, 60) for name in ("ada", "bob", "cyd")}
    kept: dict[str, int] = {}  # a holder that hangs may still use a token that it gave back
    writer, lapsed, highest = None, True, 0
    for name, act in turns:
        match act:
            case "acquire" if lapsed:
                kept[name] = await leases[name].acquire()
                assert kept[name] > highest
                writer, lapsed, highest = name, False, kept[name]
            case "acquire":
                with pytest.raises(LeaseHeld):
                    await leases[name].acquire()
            case "write" if name == writer:
                await store.add_outcome(OUTCOME, kept[name])
            case "write":
                with pytest.raises(LeaseLost):
                    await store.add_outcome(OUTCOME, kept.get(name, 0))
            case "renew" if name == writer:
                await leases[name].renew()
                lapsed = False
            case "renew":
                with pytest.raises(LeaseLost):
                    await leases[name].renew()
            case "release":
                await leases[name].release()
                if name == writer:
                    writer, lapsed = None, True
            case "lapse":
                await client.delete(keys.LEASE)
                lapsed = True
