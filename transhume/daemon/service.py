"""The daemon itself: senses, rounds and the one plan that is being carried out, as asyncio tasks.

Owns what happens when: a change in the knowledge wakes a round after a short debounce; a decision to execute
starts the executor; a notice stops an elective plan at its next step; a signal stops everything in good
order. Judgement is the loop's, effects are the executor's, and both are handed in.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog

from transhume.daemon.ledger import FencedLedger
from transhume.daemon.senses import Clock, Sense, keep_alive
from transhume.errors import Error, LeaseLost, TemporaryError, UsageError
from transhume.execute.executor import Executor, World
from transhume.knowledge.lease import Lease
from transhume.knowledge.model import (
    MoveKind,
    NoPlan,
    Plan,
    PlanId,
    PlanStatus,
    Snapshot,
)
from transhume.knowledge.records import (
    ChangeKind,
    CommandKind,
    DaemonStatus,
    PoliciesStatus,
    PolicyFile,
)
from transhume.knowledge.store import Store
from transhume.loop import Decision, Loop, perceive
from transhume.policies.book import PolicyBook
from transhume.policies.composition import strictest

log = structlog.get_logger()

DEBOUNCE_SECONDS = 0.3
QUIET_ROUND_SECONDS = 5.0
POLICY_SECONDS = 1.0
LEASE_SECONDS = 10.0
RETRY_SECONDS = 5.0

FACTS = frozenset(
    (
        ChangeKind.FEDERATION,
        ChangeKind.INVENTORY,
        ChangeKind.PRICE,
        ChangeKind.NOTICE,
        ChangeKind.PROGRESS,
    )
)
"""What wakes a round at once; traffic is looked at in the quiet rounds."""
APPROVABLE = (PlanStatus.RECOMMENDED, PlanStatus.AWAITING_APPROVAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a daemon is put together from."""

    store: Store
    lease: Lease
    token: int
    loop: Loop
    book: PolicyBook
    senses: Sequence[Sense]
    world: Callable[[FencedLedger, Snapshot], World]
    reconcile: Callable[[Snapshot], Awaitable[None]]
    """Brings the overlay in line with where VMs are."""
    clock: Clock
    traffic_horizon_seconds: float = 300.0


class Daemon:
    """Runs rounds until it is stopped."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self._ledger = FencedLedger(parts.store, parts.token)
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._executor: Executor | None = None
        self._executing: asyncio.Task[None] | None = None

    def stop(self) -> None:
        """Stop in good order: a move under way is finished, nothing new is begun."""
        self._stopping.set()
        self._wake.set()
        if self._executor is not None:
            self._executor.stop("the daemon was stopped")

    async def run(self) -> None:
        """Recover what a crash left open, then run until stopped.

        Raises `LeaseLost` when another daemon has taken over.
        """
        await self._recover()
        background = [keep_alive(sense, self._store) for sense in self._parts.senses]
        background += [self._renew(), self._watch_policies(), self._listen(), self._obey()]
        try:
            async with asyncio.TaskGroup() as tasks:
                running = [tasks.create_task(coroutine) for coroutine in background]
                try:
                    await self._rounds()
                finally:
                    for task in running:
                        task.cancel()
        except* LeaseLost as lost:
            raise lost.exceptions[0] from None
        finally:
            await self._parts.lease.release()

    # --- rounds ------------------------------------------------------------------------------

    async def _rounds(self) -> None:
        while not self._stopping.is_set():
            await self._next_reason()
            if self._executing is not None:
                if not self._executing.done():
                    continue
                self._executing.result()
                self._executing = None
            if not self._stopping.is_set():
                await self._round()
        if self._executing is not None:
            await self._executing

    async def _next_reason(self) -> None:
        """Wait for a change, and a moment more for what comes with it; or for the quiet round."""
        try:
            async with asyncio.timeout(QUIET_ROUND_SECONDS):
                await self._wake.wait()
        except TimeoutError:
            return
        await asyncio.sleep(DEBOUNCE_SECONDS)
        self._wake.clear()

    async def _round(self) -> None:
        try:
            snapshot = await self._perceive()
            if not snapshot.vms:
                return
            await self._parts.reconcile(snapshot)
            decision = await self._decide(snapshot, forced=False)
            if decision.to_execute is not None:
                self._start(decision.to_execute, snapshot)
        except TemporaryError as error:
            log.warning("round_put_off", why=str(error))

    async def _perceive(self) -> Snapshot:
        snapshot = await self._store.snapshot()
        horizon = self._parts.traffic_horizon_seconds
        windows = await self._store.windows(snapshot.at - timedelta(seconds=horizon))
        seen = await asyncio.to_thread(perceive, snapshot, windows, horizon_seconds=horizon)
        if seen.matrix is not None:
            await self._store.put_matrix(seen.matrix)
            await self._store.put_groups(seen.groups)
        return seen

    async def _decide(self, snapshot: Snapshot, *, forced: bool) -> Decision:
        policies = self._parts.book.policies
        decision = await asyncio.to_thread(
            self._parts.loop.consider, snapshot, policies, forced=forced
        )
        for symptom in decision.symptoms:
            await self._store.add_symptom(symptom)
            log.info("symptom", kind=symptom.kind, detail=symptom.detail)
        if decision.status is not None:
            await self._supersede()
            await self._store.put_plan(decision.result, decision.status, self._parts.token)
            _tell(decision)
        return decision

    async def _supersede(self) -> None:
        """Mark the plan that stood for approval until now."""
        latest = await self._store.latest_plan()
        if latest is not None and latest.id is not None and latest.status in APPROVABLE:
            await self._store.set_plan_status(latest.id, PlanStatus.SUPERSEDED, self._parts.token)

    # --- carrying out ------------------------------------------------------------------------

    def _start(self, plan: Plan, snapshot: Snapshot) -> None:
        world = self._parts.world(self._ledger, snapshot)
        self._executor = Executor(plan, world)
        self._executing = asyncio.create_task(self._carry_out(plan), name=f"plan {plan.id}")

    async def _carry_out(self, plan: Plan) -> None:
        assert self._executor is not None
        log.info("plan_started", plan=plan.id, moves=len(plan.steps))
        try:
            status = await self._executor.carry_out()
        except* TemporaryError as group:
            # The journal keeps the open steps; they are taken up again as after a crash.
            log.warning("plan_interrupted", plan=plan.id, why=str(group.exceptions[0]))
            await asyncio.sleep(RETRY_SECONDS)
            await self._recover()
        else:
            await self._conclude(plan, status)
        finally:
            self._executor = None

    async def _conclude(self, plan: Plan, status: PlanStatus) -> None:
        await self._store.set_plan_status(plan.id, status, self._parts.token)
        self._parts.loop.ended(plan, status, self._parts.clock())
        log.info("plan_ended", plan=plan.id, status=status)
        self._wake.set()

    async def _recover(self) -> None:
        """Finish or undo each plan that was under way when this daemon's predecessor ended."""
        for stored in await self._store.plans(limit=50):
            if stored.status is not PlanStatus.EXECUTING or not isinstance(stored.plan, Plan):
                continue
            log.warning("plan_resumed", plan=stored.plan.id)
            journal = await self._store.journal(stored.plan.id)
            latest = {record.step: record for record in journal}
            snapshot = await self._store.snapshot()
            world = self._parts.world(self._ledger, snapshot)
            await self._parts.reconcile(snapshot)
            executor = Executor(stored.plan, world, tuple(latest.values()))
            await self._conclude(stored.plan, await executor.carry_out())

    # --- what else goes on -------------------------------------------------------------------

    async def _listen(self) -> None:
        """Wake a round when a fact changes; stop an elective plan when a notice comes in."""
        async for change in self._store.changes(await self._store.last_change()):
            if change.kind is ChangeKind.NOTICE and self._executor is not None:
                self._make_way(self._executor)
            if change.kind in FACTS:
                self._wake.set()

    def _make_way(self, executor: Executor) -> None:
        if all(step.kind is MoveKind.ELECTIVE for step in executor.plan.steps):
            executor.stop("a revocation notice came in")

    async def _watch_policies(self) -> None:
        rejected: tuple[str, ...] = ()
        await self._publish_policies(rejected)
        while True:
            await asyncio.sleep(POLICY_SECONDS)
            change = await asyncio.to_thread(self._parts.book.refresh)
            if change is None:
                continue
            rejected = tuple(str(mistake) for mistake in change.mistakes)
            for mistake in rejected:
                log.error("policy_refused", mistake=mistake)
            await self._publish_policies(rejected)
            self._wake.set()

    async def _publish_policies(self, rejected: tuple[str, ...]) -> None:
        in_force = tuple(
            PolicyFile(name=policy.name, source=policy.source, mode=policy.mode)
            for policy in self._parts.book.policies
        )
        log.info("policies_in_force", names=[policy.name for policy in in_force])
        await self._store.put_policies(
            PoliciesStatus(at=self._parts.clock(), in_force=in_force, rejected=rejected)
        )

    async def _renew(self) -> None:
        started = self._parts.clock()
        while True:
            await self._parts.lease.renew()
            mode = strictest(policy.mode for policy in self._parts.book.policies)
            await self._store.put_status(
                DaemonStatus(
                    pid=os.getpid(),
                    holder=self._parts.lease.holder,
                    mode=mode,
                    started_at=started,
                    at=self._parts.clock(),
                )
            )
            await asyncio.sleep(LEASE_SECONDS / 4)

    async def _obey(self) -> None:
        """Carry out what the command line asks for, each wish once."""
        started = self._parts.clock()
        async for sent in self._store.commands():
            command = sent.command
            try:
                if command.kind is not CommandKind.STOP:
                    await self._approve(PlanId(command.subject))
                elif command.at >= started:
                    self.stop()
            except Error as error:
                log.warning("command_refused", command=command.kind, why=str(error))
            await self._store.finish_command(sent.id, self._parts.token)

    async def _approve(self, plan_id: PlanId) -> None:
        """Execute a plan that a person approved, if it still is what the planner would do."""
        stored = await self._store.plan(plan_id)
        if not isinstance(stored.plan, Plan) or stored.status not in APPROVABLE:
            raise UsageError(f"plan {plan_id} is {stored.status}: there is nothing to approve")
        if self._executing is not None:
            raise UsageError(f"plan {plan_id} has to wait: another one is being carried out")
        snapshot = await self._perceive()
        decision = await self._decide(snapshot, forced=True)
        if not _same_moves(decision.result, stored.plan):
            await self._store.set_plan_status(plan_id, PlanStatus.SUPERSEDED, self._parts.token)
            raise UsageError(
                f"plan {plan_id} is out of date; see `transhume plan` for what is best now"
            )
        await self._store.set_plan_status(plan_id, PlanStatus.EXECUTING, self._parts.token)
        self._start(stored.plan, snapshot)


def _same_moves(result: Plan | NoPlan, plan: Plan) -> bool:
    return isinstance(result, Plan) and {(s.vm, s.destination) for s in result.steps} == {
        (s.vm, s.destination) for s in plan.steps
    }


def _tell(decision: Decision) -> None:
    result = decision.result
    if isinstance(result, NoPlan):
        log.info("nothing_to_do", why=result.reason, trigger=result.trigger)
        return
    log.info(
        "plan_made",
        plan=result.id,
        status=decision.status,
        moves=len(result.steps),
        saving_dollars_per_hour=round(result.saving_dollars_per_hour, 6),
        trigger=result.trigger,
        waiting=decision.waiting,
    )
