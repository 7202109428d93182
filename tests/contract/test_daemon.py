"""The daemon on real servers and simulated clouds: what it does, and what stops it."""

import asyncio
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Literal

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
    PINNED,
    TALKERS,
    VMS,
    A,
    B,
    Stage,
    hurry,
    notice,
    outcomes,
    set_stage,
    so,
    told,
    until,
)
from transhume.daemon.composition import now
from transhume.daemon.ledger import FencedLedger
from transhume.daemon.undertaking import Undertaking
from transhume.errors import KnowledgeUnreachable, LeaseHeld, LeaseLost
from transhume.execute.executor import Executor
from transhume.knowledge import keys
from transhume.knowledge.model import (
    HostName,
    JournalRecord,
    MoveKind,
    Outcome,
    Phase,
    Plan,
    PlanId,
    PlanStatus,
    StepResult,
    SymptomKind,
    VmName,
)
from transhume.knowledge.model.snapshot import LEAST_OUTCOMES
from transhume.knowledge.records import Command, CommandKind
from transhume.knowledge.store import Store
from transhume.loop import Decision, Loop
from transhume.plan import PlannerSettings


@pytest.fixture
async def stage(client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    hurry(monkeypatch)
    return await set_stage(Store(client), tmp_path)


# --- what it does --------------------------------------------------------------------------------


async def test_a_price_rise_moves_exactly_the_group_that_pays(stage: Stage) -> None:
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        _, plan = await stage.plan(*ENDED)
        assert (stage.at(B1), stage.at(A1)) == (TALKERS, PINNED)
        found = await outcomes(stage.store, plan)
    assert found.keys() == TALKERS
    for outcome in found.values():
        assert outcome.result is StepResult.DONE
        assert outcome.measured is not None
        assert outcome.measured.bytes == pytest.approx(outcome.predicted.bytes, rel=0.2)
        assert outcome.measured.downtime_seconds is not None


@pytest.mark.parametrize(
    ("mode", "status", "kind"),
    [
        ("approve", PlanStatus.AWAITING_APPROVAL, CommandKind.APPROVE),
        ("recommend", PlanStatus.RECOMMENDED, CommandKind.APPLY),
    ],
)
async def test_a_plan_waits_for_a_persons_word(
    stage: Stage, mode: str, status: PlanStatus, kind: CommandKind
) -> None:
    stage.write_policy(mode)
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        stored, plan = await stage.plan(status)
        assert not stage.clouds.begun
        await stage.store.send_command(Command(kind=kind, at=now(), subject=plan.id))
        seen = {status}
        while (current := await stage.store.plan(plan.id)).status not in ENDED:
            assert current.status is not None
            seen.add(current.status)
        assert (current.id, current.status) == (stored.id, PlanStatus.DONE)
        assert seen <= {status, PlanStatus.EXECUTING}, "whoever watches takes it for outdated"
        assert stage.at(B1) == TALKERS
        assert len(await stage.store.plans()) == 1


async def test_a_plan_that_is_out_of_date_is_superseded_and_not_carried_out(stage: Stage) -> None:
    stage.write_policy("approve")
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        _, plan = await stage.plan(PlanStatus.AWAITING_APPROVAL)
        await stage.price(A, CHEAP)
        await stage.store.send_command(Command(kind=CommandKind.APPROVE, at=now(), subject=plan.id))
        await stage.plan(PlanStatus.SUPERSEDED)
        await stage.price(A, DEAR)
        await stage.plan(PlanStatus.AWAITING_APPROVAL, past=plan.id)
        assert stage.at(A1) == set(VMS)


async def test_a_wish_for_a_plan_that_does_not_exist_is_refused_once(stage: Stage) -> None:
    for subject in ("no-such-plan", ""):
        await stage.store.send_command(
            Command(kind=CommandKind.APPROVE, at=now(), subject=PlanId(subject))
        )
    with capture_logs() as logs:
        async with stage.daemon():
            await until(so(lambda: told(logs, "command_refused") == 2), "both to be refused")
        async with stage.daemon():
            await stage.calm()
    assert told(logs, "command_refused") == 2


async def test_an_approval_of_days_ago_is_refused(stage: Stage) -> None:
    stage.write_policy("approve")
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        _, plan = await stage.plan(PlanStatus.AWAITING_APPROVAL)
    long_ago = now() - timedelta(days=1, minutes=1)
    await stage.store.send_command(Command(kind=CommandKind.APPROVE, at=long_ago, subject=plan.id))
    with capture_logs() as logs:
        async with stage.daemon():
            await until(so(lambda: told(logs, "command_refused") == 1), "it to be refused")
    assert not stage.clouds.begun


async def test_the_command_to_stop_ends_a_daemon_but_not_its_successor(stage: Stage) -> None:
    daemon = await stage.new_daemon()
    running = asyncio.create_task(daemon.run())
    await stage.store.send_command(Command(kind=CommandKind.STOP, at=now()))
    await asyncio.wait_for(running, 60)
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        await stage.plan(PlanStatus.DONE)


async def test_ten_mistakes_are_told_with_their_places_and_the_old_policy_stays(
    stage: Stage,
) -> None:
    good = stage.policy.read_text()

    async def refused() -> tuple[str, ...] | None:
        status = await stage.store.policies()
        return status.rejected if status is not None and status.rejected else None

    async def accepted() -> bool | None:
        status = await stage.store.policies()
        return True if status is not None and not status.rejected else None

    async with stage.daemon():
        await stage.calm()
        stage.replace_policy(TEN_MISTAKES)
        found = await until(refused, "the file to be refused")
        lines = TEN_MISTAKES.splitlines()
        for told_of, (line, token) in zip(found, MISTAKEN, strict=True):
            assert token in told_of
            column = lines[line - 1].index(token) + 1
            assert told_of.startswith(f"{stage.policy}:{line}:{column}: ")
        status = await stage.store.policies()
        assert status is not None
        assert [policy.name for policy in status.in_force] == ["cheap-but-together"]
        await stage.price(A, DEAR)
        await stage.plan(PlanStatus.DONE)
        assert stage.at(B1) == TALKERS
        stage.replace_policy(good.replace("together\n", "better\n").replace("vm3", "vm1"))
        await until(accepted, "the mended file to be in force")
        # The pin of vm1 is a rule: it brings the pair back, and waits for no cool-down.
        await until(so(lambda: VMS[0] in stage.at(A1)), "the new policy to rule")


TEN_MISTAKES = """\
policy: cheap-but-together
mode: automatic
keep_together: {measured: yes, cut_above: 100}
price: {payback: 45, budget: 12}
elective: {min_gain: 5, hold: soon, cooldown: 6h}
rules:
  - pin: {vm: vm1}
  - quota: {cloud: a, vms: -1}
  - sprad: {tag: db, min: 2}
deadline: {at: 2030-01-01T18:00Z, work: 48h}
"""
MISTAKEN = [
    (2, "automatic"),
    (3, "yes"),
    (3, "100"),
    (4, "45"),
    (4, "12"),
    (5, "5"),
    (5, "soon"),
    (7, "pin"),
    (8, "-1"),
    (9, "sprad"),
]
"""By line and by what stands at the place that a mistake is told of."""


async def test_prices_that_flap_move_no_vm_twice_within_its_cool_down(stage: Stage) -> None:
    flips = 8

    async def noticed(number: int) -> bool | None:
        symptoms = await stage.store.symptoms()
        changes = [s for s in symptoms if s.kind is SymptomKind.PRICE_CHANGED]
        executing = [p for p in await stage.store.plans() if p.status is PlanStatus.EXECUTING]
        return True if len(changes) == number and not executing else None

    async with stage.daemon():
        await stage.calm()
        for flip in range(1, flips + 1):
            await stage.price(A, DEAR if flip % 2 else CHEAP / 4)

            async def this_one(flip: int = flip) -> bool | None:
                return await noticed(flip)

            await until(this_one, f"price change {flip} to be looked at")
    # A successor knows the cool-downs too.
    async with stage.daemon():
        await stage.price(A, CHEAP / 8)
        await stage.calm()
    moved = [outcome.vm for outcome in await stage.store.outcomes()]
    assert sorted(moved) == sorted(TALKERS)


async def test_a_cool_down_outlasts_the_moves_of_many_others(stage: Stage) -> None:
    """What a fleet moves in an hour is more than what moves are learnt from."""
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        await stage.plan(*ENDED)
    found = await stage.store.outcomes()
    lease = stage.store.lease("another daemon", 10)
    token = await lease.acquire()
    for number in range(LEAST_OUTCOMES):
        another = replace(found[0], vm=VmName(f"other{number}"), ended_at=now())
        await stage.store.add_outcome(another, token)
    await lease.release()
    async with stage.daemon():
        await stage.price(A, CHEAP / 8)
        await stage.calm()
    assert (stage.at(B1), stage.at(A1)) == (TALKERS, PINNED)


# --- what stops it -------------------------------------------------------------------------------


async def stopped_amid_a_move(stage: Stage) -> list[Outcome]:
    """Have a daemon stopped while it moves the first of two VMs; return what became of each."""
    stage.clouds.gate.clear()
    async with stage.daemon() as daemon:
        await stage.calm()
        await stage.price(A, DEAR)
        await stage.moving()
        daemon.stop()
        stage.clouds.gate.set()
    (stored,) = await stage.store.plans()
    assert stored.status is PlanStatus.DONE
    assert isinstance(stored.plan, Plan)
    found = await outcomes(stage.store, stored.plan)
    return [found[step.vm] for step in stored.plan.steps]


async def test_a_stop_finishes_the_move_under_way_and_skips_the_rest(
    stage: Stage, client: Redis
) -> None:
    first, second = await stopped_amid_a_move(stage)
    assert (first.result, second.result) == (StepResult.DONE, StepResult.SKIPPED)
    assert second.why == "the daemon was stopped"
    assert stage.at(B1) == {first.vm}
    assert await client.get(keys.LEASE) is None


async def test_a_stop_outlives_a_redis_that_is_begun_again_meanwhile(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Systemd, unless it's told otherwise, sends SIGTERM to the daemon and to its own Redis at once."""
    append, failures = FencedLedger.append_journal, iter([True, True, True])

    async def append_later(ledger: FencedLedger, record: JournalRecord) -> None:
        if record.phase is Phase.MOVED and next(failures, False):
            raise KnowledgeUnreachable("it has just ended")
        await append(ledger, record)

    monkeypatch.setattr(FencedLedger, "append_journal", append_later)
    first, second = await stopped_amid_a_move(stage)
    assert (first.result, second.result) == (StepResult.DONE, StepResult.SKIPPED)


@pytest.fixture
def shunned(monkeypatch: pytest.MonkeyPatch) -> set[HostName]:
    """The hosts that who carries a plan out was told to take nobody back to."""
    found: set[HostName] = set()
    shun = Executor.shun

    def noted(executor: Executor, gone_at: Mapping[HostName, datetime]) -> None:
        found.update(gone_at)
        shun(executor, gone_at)

    monkeypatch.setattr(Executor, "shun", noted)
    return found


async def evacuated_instead_of(stage: Stage, plan: Plan, shunned: set[HostName]) -> Plan:
    """Give notice while a plan's first moves are held; check that it makes way, and return the evacuation."""
    await stage.store.put_notice(notice())
    await until(so(lambda: A1 in shunned), "the notice to be heard")
    stage.clouds.gate.set()
    _, evacuation = await stage.plan(PlanStatus.DONE, past=plan.id)
    assert stage.at(B1) == set(VMS)
    found = await outcomes(stage.store, plan)
    assert StepResult.SKIPPED in {outcome.result for outcome in found.values()}
    return evacuation


async def test_a_notice_stops_an_elective_plan_at_its_next_step_and_evacuates(
    stage: Stage, shunned: set[HostName]
) -> None:
    stage.write_policy(pinned="nobody")
    stage.clouds.gate.clear()
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        await stage.moving()
        _, elective = await stage.plan(PlanStatus.EXECUTING)
        evacuation = await evacuated_instead_of(stage, elective, shunned)
    assert {step.kind for step in evacuation.steps} == {MoveKind.MANDATORY}


@ONE_SERVER
async def test_moves_that_only_mend_a_rule_make_way_for_those_that_a_notice_demands(
    stage: Stage, shunned: set[HostName]
) -> None:
    """While a plan is carried out, nothing else is begun; and there is little time to flee in."""
    stage.clouds.gate.clear()
    async with stage.daemon():
        await stage.calm()
        stage.replace_policy(
            "policy: somewhere-else\nmode: auto\n"
            "rules:\n  - pin: {vm: vm1, cloud: b}\n  - pin: {vm: vm2, cloud: b}\n"
        )
        await stage.moving()
        _, mending = await stage.plan(PlanStatus.EXECUTING)
        evacuation = await evacuated_instead_of(stage, mending, shunned)
    assert {step.kind for step in mending.steps} == {MoveKind.MANDATORY}
    assert len(evacuation.steps) == len(VMS) - 1


@ONE_SERVER
async def test_a_notice_that_is_taken_back_stops_no_plan(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, heed = asyncio.Event(), Undertaking.heed_notice

    async def noted(undertaking: Undertaking) -> None:
        await heed(undertaking)
        heard.set()

    monkeypatch.setattr(Undertaking, "heed_notice", noted)
    elsewhere = replace(notice(), cloud=B, host=HostName("b2"))
    await stage.store.put_notice(elsewhere)
    stage.clouds.gate.clear()
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        await stage.moving()
        heard.clear()
        await stage.store.put_notice(replace(elsewhere, withdrawn=True))
        await until(so(heard.is_set), "the news to be heard")
        stage.clouds.gate.set()
        _, elective = await stage.plan(*ENDED)
        found = await outcomes(stage.store, elective)
    assert {outcome.result for outcome in found.values()} == {StepResult.DONE}


class AfterTheFirst(asyncio.Event):
    """A gate that lets the first through, and then nobody before it's opened."""

    passed = False

    async def wait(self) -> Literal[True]:
        if not self.passed:
            self.passed = True
            return True
        return await super().wait()


@ONE_SERVER
async def test_who_has_left_a_cloud_before_its_notice_is_not_taken_back_when_others_fail(
    stage: Stage, shunned: set[HostName]
) -> None:
    stage.clouds.gate = AfterTheFirst()
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        await until(so(lambda: len(stage.clouds.begun) == 2), "the second to be on its way")
        first, second = stage.clouds.begun
        stage.clouds.faults[second] = "out of memory there"
        _, elective = await stage.plan(PlanStatus.EXECUTING)
        await stage.store.put_notice(notice())
        await until(so(lambda: A1 in shunned), "the notice to be heard")
        stage.clouds.gate.set()
        await stage.plan(*ENDED, past=elective.id)
    found = await stage.store.journal(elective.id)
    assert {str(line.step) for line in found} == {str(step.id) for step in elective.steps}
    assert first in stage.at(B1)


@dataclass
class Slow(Loop):
    """A judgement that, once it has decided to act, doesn't say so before it is let."""

    decided: threading.Event = field(default_factory=threading.Event)
    let: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(PlannerSettings())

    def consider(self, *args: Any, **options: Any) -> Decision:
        decision = super().consider(*args, **options)
        if decision.to_execute is not None:
            self.decided.set()
            self.let.wait(60)
        return decision


@ONE_SERVER
async def test_a_notice_that_comes_while_a_plan_is_made_stops_it_before_its_first_step(
    stage: Stage,
) -> None:
    slow = Slow()
    stage.loop = lambda: slow
    stage.write_policy(pinned="nobody")
    async with stage.daemon():
        await stage.calm()
        await stage.price(A, DEAR)
        await until(so(slow.decided.is_set), "the decision")
        await stage.store.put_notice(notice())
        slow.let.set()
        _, elective = await stage.plan(*ENDED)
        found = await outcomes(stage.store, elective)
        assert {outcome.result for outcome in found.values()} == {StepResult.SKIPPED}
        await until(so(lambda: stage.at(B1) == set(VMS)), "the evacuation")


async def test_a_lost_lease_ends_the_daemon_and_nothing_more_is_written(
    stage: Stage, client: Redis
) -> None:
    stage.lease_seconds = 0.2
    stage.clouds.gate.clear()
    daemon = await stage.new_daemon()
    others = asyncio.all_tasks()
    running = asyncio.create_task(daemon.run())
    await stage.calm()
    await stage.price(A, DEAR)
    await stage.moving()
    await take_lease(stage, client)
    before = await decided(client)
    with pytest.raises(LeaseLost):
        await asyncio.wait_for(running, 60)
    assert asyncio.all_tasks() == others
    assert await decided(client) == before
    assert await client.get(keys.LEASE) == b"another"


async def take_lease(stage: Stage, client: Redis) -> None:
    """Take the pen as when it has run out, however often its holder renews it in between."""
    async with asyncio.timeout(60):
        while True:
            await client.delete(keys.LEASE)
            with suppress(LeaseHeld):
                await stage.store.lease("another", 60).acquire()
                return


async def decided(client: Redis) -> dict[bytes, bytes]:
    """Return, as bytes, all that only the holder of the pen may write."""
    names = [keys.PLANS_STATUS, keys.OPEN_STEPS, keys.GOING, keys.OUTCOMES, keys.COMMANDS_DONE]
    names += [name async for name in client.scan_iter(f"{keys.PREFIX}journal:plan:*")]
    return {name: await client.dump(name) for name in names}
