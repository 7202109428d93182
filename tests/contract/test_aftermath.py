"""The daemon's look back at what a plan promised: on a real server, with prices that change."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

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
    outcomes,
    set_stage,
    told,
    until,
)
from transhume.daemon.composition import now
from transhume.knowledge import keys, reading
from transhume.knowledge.model import MoveKind, Plan, PlanId, PlanStatus, StepResult, SymptomKind
from transhume.knowledge.records import Command, CommandKind, Effect
from transhume.knowledge.store import Store

HOPEFUL = f"""\
policy: cheap-but-together
mode: {{mode}}
keep_together: {{{{measured: true, cut_above: 100kB/s}}}}
elective: {{{{min_gain: 5%, hold: 0s, cooldown: 6h}}}}
after: {{{{expect: [price], within: {{within}}, else: {{otherwise}}}}}}
rules:
  - pin: {{{{vm: {VMS[2]}, cloud: a}}}}
"""


@pytest.fixture
async def stage(client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    hurry(monkeypatch)
    return await set_stage(Store(client), tmp_path)


def expect(
    stage: Stage, *, within: str = "3s", otherwise: str = "undo", mode: str = "auto"
) -> None:
    stage.replace_policy(HOPEFUL.format(mode=mode, within=within, otherwise=otherwise))


async def gone_to_b(stage: Stage) -> Plan:
    """Let the price in a rise, and wait until the talkers have gone to b."""
    await stage.calm()
    await stage.price(A, DEAR)
    _, plan = await stage.plan(PlanStatus.DONE)
    assert stage.at(B1) == TALKERS
    return plan


async def found(stage: Stage, plan: Plan) -> Effect:
    async def looked() -> Effect | None:
        return (await stage.store.plan(plan.id)).effect

    return await until(looked, "somebody to look at the effect")


async def plans(stage: Stage) -> list[PlanId]:
    return [stored.id for stored in await stage.store.plans() if stored.id]


async def test_a_plan_whose_effect_does_not_come_about_is_taken_back_once(stage: Stage) -> None:
    expect(stage)
    with capture_logs() as logs:
        async with stage.daemon():
            plan = await gone_to_b(stage)
            await stage.price(B, 2 * DEAR)
            stored, undo = await stage.plan(*ENDED, past=plan.id)
            assert (stored.status, undo.undoes) == (PlanStatus.DONE, plan.id)
            assert stage.at(A1) == TALKERS | PINNED
            assert await found(stage, plan) is Effect.MISSED
            # Now b is cheap again, and the moves would pay: they rest.
            await stage.price(B, CHEAP)
            rounds = stage.reconciled

            async def some_rounds() -> bool | None:
                return True if stage.reconciled > rounds + 5 else None

            await until(some_rounds, "more rounds")
            assert await plans(stage) == [undo.id, plan.id]

    assert {step.kind for step in undo.steps} == {MoveKind.ELECTIVE}
    assert undo.trigger.startswith(f"{plan.id} was to save ")
    assert {o.result for o in (await outcomes(stage.store, undo)).values()} == {StepResult.DONE}
    symptoms = [s for s in await stage.store.symptoms() if s.kind is SymptomKind.EFFECT_MISSED]
    assert [(s.subject, s.detail) for s in symptoms] == [(plan.id, undo.trigger)]
    assert told(logs, "effect_looked_at") == 1


@ONE_SERVER
async def test_an_effect_is_looked_at_whatever_was_recommended_since(
    stage: Stage, client: Redis
) -> None:
    """Prices that change back and forth make another recommendation each time."""
    expect(stage)
    async with stage.daemon():
        plan = await gone_to_b(stage)
        await stage.price(B, 2 * DEAR)
        token = int(await client.get(keys.FENCE) or 0)
        for number in range(60):
            another = replace(plan, id=PlanId(f"another-{number}"), made_at=now())
            await stage.store.put_plan(another, PlanStatus.SUPERSEDED, token)
        assert await found(stage, plan) is Effect.MISSED


@ONE_SERVER
async def test_an_effect_is_looked_at_though_many_moves_were_made_since(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of the plan itself aren't among the latest any more, and they didn't rest for as long."""
    monkeypatch.setattr(reading, "LEAST_OUTCOMES", 1)
    stage.replace_policy(
        HOPEFUL.replace("cooldown: 6h", "cooldown: 0s").format(
            mode="auto", within="3s", otherwise="undo"
        )
    )
    async with stage.daemon():
        plan = await gone_to_b(stage)
        await stage.price(B, 0.8 * DEAR)
        assert await found(stage, plan) is Effect.KEPT


@ONE_SERVER
async def test_a_plan_that_keeps_its_promise_stands_and_is_looked_at_once(stage: Stage) -> None:
    expect(stage, within="1s")
    with capture_logs() as logs:
        async with stage.daemon():
            plan = await gone_to_b(stage)
            assert await found(stage, plan) is Effect.AS_EXPECTED
            await stage.price(B, 2 * DEAR)
            rounds = stage.reconciled

            async def some_rounds() -> bool | None:
                return True if stage.reconciled > rounds + 5 else None

            await until(some_rounds, "more rounds")
            assert stage.at(B1) == TALKERS
    assert told(logs, "effect_looked_at") == 1


@ONE_SERVER
async def test_where_the_policy_says_keep_it_is_told_and_nothing_moves(stage: Stage) -> None:
    expect(stage, otherwise="keep")
    async with stage.daemon():
        plan = await gone_to_b(stage)
        await stage.price(B, 2 * DEAR)
        assert await found(stage, plan) is Effect.KEPT

        async def symptom() -> str | None:
            kinds = {s.kind: s.detail for s in await stage.store.symptoms()}
            return kinds.get(SymptomKind.EFFECT_MISSED)

        assert (await until(symptom, "a symptom")).endswith("it is kept")
        assert stage.at(B1) == TALKERS


@ONE_SERVER
async def test_a_daemon_that_comes_after_takes_back_what_the_one_before_had_done(
    stage: Stage,
) -> None:
    """What is to be looked at is in the knowledge, in nobody's memory."""
    expect(stage)
    async with stage.daemon():
        plan = await gone_to_b(stage)
        await stage.price(B, 2 * DEAR)
    assert (await stage.store.plan(plan.id)).effect is None

    async with stage.daemon():
        stored, undo = await stage.plan(*ENDED, past=plan.id)

    assert (stored.status, undo.undoes) == (PlanStatus.DONE, plan.id)
    ended = (await stage.store.plan(plan.id)).since
    assert ended is not None
    assert undo.made_at >= ended + timedelta(seconds=3)
    assert stage.at(A1) == TALKERS | PINNED


@ONE_SERVER
async def test_a_way_back_that_waits_for_approval_is_taken_when_a_person_says_so(
    stage: Stage,
) -> None:
    expect(stage)
    async with stage.daemon():
        plan = await gone_to_b(stage)
        expect(stage, mode="approve")
        await stage.price(B, 2 * DEAR)
        waiting, undo = await stage.plan(PlanStatus.AWAITING_APPROVAL, past=plan.id)
        assert undo.undoes == plan.id
        assert waiting.id is not None
        assert stage.at(B1) == TALKERS
        await stage.store.send_command(
            Command(kind=CommandKind.APPROVE, at=now(), subject=waiting.id)
        )
        stored, _ = await stage.plan(*ENDED, past=plan.id)

    assert (stored.id, stored.status) == (undo.id, PlanStatus.DONE)
    assert stage.at(A1) == TALKERS | PINNED
