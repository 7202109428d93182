"""The daemon itself: senses, rounds, and the chores beside them, as asyncio tasks of one group.

Owns what happens when: a change in the knowledge wakes a round after a short debounce; a decision to execute
begins an undertaking; a notice stops at its next step what doesn't flee one; a signal stops everything in good
order. A passing fault of any task is told once and outlived; a lost lease ends them all. Judgement is the
loop's, effects are the executor's, and both are handed in.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from transhume.daemon.ledger import FencedLedger
from transhume.daemon.perseverance import Trouble, first_cause, persevere
from transhume.daemon.recording import Recording
from transhume.daemon.senses import Clock, Sense, keep_alive
from transhume.daemon.shadowing import Shadows
from transhume.daemon.undertaking import Undertaking
from transhume.errors import LeaseLost, OverlayError, TemporaryError, UsageError
from transhume.execute.executor import World
from transhume.knowledge.lease import Lease
from transhume.knowledge.model import NoPlan, Plan, PlanId, PlanStatus, Snapshot
from transhume.knowledge.records import (
    ChangeKind,
    Command,
    CommandKind,
    DaemonStatus,
    PoliciesStatus,
    PolicyFile,
)
from transhume.knowledge.store import Store
from transhume.loop import Decision, Loop, perceive
from transhume.plan.expectation import MOST_LOOKED_AT, Executed, executed_plans
from transhume.policies.book import PolicyBook
from transhume.policies.composition import strictest
from transhume.policies.model import Policy, moves_reach
from transhume.quantities import format_duration
from transhume.reach.threads import in_a_loose_thread

if TYPE_CHECKING:
    from transhume.daemon.prewarming import Prewarming

log = structlog.get_logger()

DEBOUNCE_SECONDS = 0.3
QUIET_ROUND_SECONDS = 5.0
POLICY_SECONDS = 1.0
LEASE_SECONDS = 10.0
WORD_HOLDS = timedelta(days=1)
"""How long a person's approval may wait for a daemon."""
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 2.0
"""Between attempts at a chore, short beside the lease."""
FIRST_ASIDE_SECONDS, LONGEST_ASIDE_SECONDS = 5.0, 60.0
"""The same, at what nobody waits for."""

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
    recording: Recording | None = None
    shadows: Shadows | None = None
    prewarming: "Prewarming | None" = None


class Daemon:
    """Runs rounds until it is stopped."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._store = parts.store
        self._wake = asyncio.Event()
        self._stopping = asyncio.Event()
        self._thinking = asyncio.Lock()
        """Held while a plan is decided on and begun: the rounds and a person's word may both do that."""
        self._undertaking = Undertaking(
            parts.store, FencedLedger(parts.store, parts.token), parts.world, self._ended
        )
        self._tasks = asyncio.TaskGroup()
        self._in_doubt = True
        """A plan may have been left half way: by a crash before our time, or by a fault of now."""
        self._round_trouble = Trouble("round_put_off", "rounds_go_on")
        self._overlay_trouble = Trouble("overlay_not_in_line", "overlay_in_line_again")
        self._heard: str | None = None
        self._rejected: tuple[str, ...] = ()
        self._started_at = parts.clock()

    def stop(self) -> None:
        """Stop in good order: a move under way is finished, nothing new is begun."""
        self._stopping.set()
        self._wake.set()
        self._undertaking.stop()

    async def run(self) -> None:
        """Recover what a crash left open, then run until stopped.

        Raises `LeaseLost` when another daemon has taken over.
        """
        try:
            async with self._tasks:
                background = [
                    self._tasks.create_task(task, name=name) for name, task in self._background()
                ]
                await self._rounds()
                for task in background:
                    task.cancel()
        except ExceptionGroup as group:
            raise first_cause(group) from group
        finally:
            with suppress(TemporaryError):
                await self._parts.lease.release()

    def _background(self) -> Iterator[tuple[str, Coroutine[None, None, None]]]:
        for sense in self._parts.senses:
            yield sense.name, keep_alive(sense, self._store)
        for name, chore in (
            ("lease", self._renew),
            ("policies", self._watch_policies),
            ("changes", self._listen),
            ("commands", self._obey),
        ):
            trouble = Trouble("chore_failed", "chore_recovered", chore=name)
            yield (
                name,
                persevere(
                    chore,
                    trouble,
                    first_pause=FIRST_PAUSE_SECONDS,
                    longest_pause=LONGEST_PAUSE_SECONDS,
                ),
            )
        yield from self._asides()

    def _asides(self) -> Iterator[tuple[str, Coroutine[None, None, None]]]:
        """Yield what the loop doesn't need: recording, comparing other policies, keeping VMs warm."""
        for name, aside in (
            ("recording", self._parts.recording),
            ("shadow", self._parts.shadows),
            ("prewarming", self._parts.prewarming),
        ):
            if aside is not None:
                trouble = Trouble("chore_failed", "chore_recovered", chore=name)
                yield (
                    name,
                    persevere(
                        partial(aside.keep, self._store),
                        trouble,
                        first_pause=FIRST_ASIDE_SECONDS,
                        longest_pause=LONGEST_ASIDE_SECONDS,
                    ),
                )

    # --- rounds ------------------------------------------------------------------------------

    async def _rounds(self) -> None:
        while not self._stopping.is_set():
            if self._in_doubt:
                await self._think(self._recover)
            await self._next_reason()
            if not self._in_doubt:
                await self._think(self._round)
        while self._undertaking.busy:
            self._wake.clear()
            await self._wake.wait()

    async def _think(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do a part of a round, unless there is something to wait for; what goes wrong is told once."""
        async with self._thinking:
            if self._stopping.is_set() or self._undertaking.busy:
                return
            try:
                await work()
            except LeaseLost:
                raise
            except Exception as error:  # noqa: BLE001  (the next round looks at everything again)
                self._in_doubt = True
                self._round_trouble.tell(error)

    async def _recover(self) -> None:
        await self._undertaking.recover()
        self._parts.loop.forget()
        self._in_doubt = False

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
        snapshot = await self._perceive()
        if self._parts.recording is not None:
            self._parts.recording.offer(snapshot)
        if snapshot.vms:
            await self._reconcile(snapshot)
            decision = await self._decide(snapshot)
            if decision.to_execute is not None:
                self._begin(decision.to_execute, snapshot)
        self._round_trouble.over()

    async def _reconcile(self, snapshot: Snapshot) -> None:
        """Bring the overlay in line; a site that can't be reached keeps nobody from being evacuated."""
        try:
            await self._parts.reconcile(snapshot)
        except (OverlayError, TemporaryError) as error:
            self._overlay_trouble.tell(error)
        else:
            self._overlay_trouble.over()

    async def _perceive(self) -> Snapshot:
        snapshot = await self._store.snapshot(moves_reach(self._parts.book.policies))
        horizon = self._parts.traffic_horizon_seconds
        windows = await self._store.windows(snapshot.at - timedelta(seconds=horizon))
        seen = await asyncio.to_thread(perceive, snapshot, windows, horizon_seconds=horizon)
        if seen.matrix is not None:
            await self._store.put_matrix(seen.matrix)
            await self._store.put_groups(seen.groups, seen.patterns)
        return seen

    async def _decide(self, snapshot: Snapshot) -> Decision:
        policies = self._parts.book.policies
        executed = await self._executed(policies)
        decision = await asyncio.to_thread(self._parts.loop.consider, snapshot, policies, executed)
        for plan, effect in decision.effects:
            await self._store.note_effect(plan, effect, self._parts.token)
            log.info("effect_looked_at", plan=plan, effect=effect)
        for symptom in decision.symptoms:
            await self._store.add_symptom(symptom)
            log.info("symptom", kind=symptom.kind, detail=symptom.detail)
        if decision.status is not None:
            await self._supersede()
            await self._store.put_plan(decision.result, decision.status, self._parts.token)
            _tell(decision)
        return decision

    async def _executed(self, policies: Sequence[Policy]) -> tuple[Executed, ...]:
        """Return the plans whose effect somebody may want to see; none where no policy does."""
        longest = [policy.after.longest_seconds for policy in policies if policy.after]
        if not longest:
            return ()
        since = self._parts.clock() - timedelta(seconds=max(longest))
        return executed_plans(await self._store.begun_plans(since, limit=MOST_LOOKED_AT))

    async def _supersede(self) -> None:
        """Mark the plan that stood for approval until now."""
        latest = await self._store.latest_plan()
        if latest is not None and latest.id is not None and latest.status in APPROVABLE:
            await self._store.set_plan_status(latest.id, PlanStatus.SUPERSEDED, self._parts.token)

    def _begin(self, plan: Plan, snapshot: Snapshot) -> None:
        work = self._undertaking.begin(plan, snapshot.notices)
        self._tasks.create_task(work, name=f"plan {plan.id}").add_done_callback(
            lambda _task: self._wake.set()
        )
        log.info("plan_started", plan=plan.id, moves=len(plan.steps))

    def _ended(self, plan: Plan, status: PlanStatus) -> None:
        self._parts.loop.ended(plan, status, self._parts.clock())

    # --- what else goes on -------------------------------------------------------------------

    # Each chore yields when it has done something, and is begun anew after a fault (`persevere`).

    async def _listen(self) -> AsyncIterator[None]:
        """Wake a round when a fact changes; have a plan make way when a notice comes in."""
        newest = await self._store.last_change()
        yield
        self._heard = self._heard or newest
        async for change in self._store.changes(self._heard):
            if change.kind is ChangeKind.NOTICE:
                await self._undertaking.heed_notice()
            if change.kind in FACTS:
                self._wake.set()
            self._heard = change.id

    async def _watch_policies(self) -> AsyncIterator[None]:
        while True:
            await self._publish_policies()
            yield
            while (change := await in_a_loose_thread(self._parts.book.refresh)) is None:
                await asyncio.sleep(POLICY_SECONDS)
            self._rejected = tuple(str(mistake) for mistake in change.mistakes)
            for mistake in self._rejected:
                log.error("policy_refused", mistake=mistake)
            self._wake.set()

    async def _publish_policies(self) -> None:
        in_force = tuple(map(_as_anywhere, self._parts.book.policies))
        log.info("policies_in_force", names=[policy.name for policy in in_force])
        for doubt in self._parts.book.doubts:
            log.warning("policy_doubted", doubt=str(doubt))
        await self._store.put_policies(
            PoliciesStatus(at=self._parts.clock(), in_force=in_force, rejected=self._rejected)
        )

    async def _renew(self) -> AsyncIterator[None]:
        while True:
            await self._parts.lease.renew()
            mode = strictest(policy.mode for policy in self._parts.book.policies)
            await self._store.put_status(
                DaemonStatus(
                    pid=os.getpid(),
                    holder=self._parts.lease.holder,
                    mode=mode,
                    started_at=self._started_at,
                    at=self._parts.clock(),
                )
            )
            yield
            await asyncio.sleep(self._parts.lease.seconds / 4)

    async def _obey(self) -> AsyncIterator[None]:
        """Carry out what the command line asks for, each wish once."""
        await self._store.last_change()
        yield
        async for sent in self._store.commands():
            command = sent.command
            try:
                if command.kind is not CommandKind.STOP:
                    self._refuse_old(command)
                    await self._approve(PlanId(command.subject))
                elif command.at >= self._started_at:
                    self.stop()
            except (LeaseLost, TemporaryError):
                self._in_doubt = True
                raise
            except Exception as error:  # noqa: BLE001  (told; the next command may be a sound one)
                Trouble("command_refused", "", command=command.kind).tell(error)
            await self._store.finish_command(sent.id, self._parts.token)
            yield

    def _refuse_old(self, command: Command) -> None:
        """Raise `UsageError` where a person's word was given so long ago that it holds no more."""
        age = self._parts.clock() - command.at
        if age > WORD_HOLDS:
            long_ago = format_duration(age.total_seconds())
            raise UsageError(
                f"plan {command.subject} was approved {long_ago} ago, while no daemon ran; say so anew"
            )

    async def _approve(self, plan_id: PlanId) -> None:
        """Execute a plan that a person approved, if it still is what the planner would do."""
        async with self._thinking:
            stored = await self._store.plan(plan_id)
            if not isinstance(stored.plan, Plan) or stored.status not in APPROVABLE:
                raise UsageError(f"plan {plan_id} is {stored.status}: there is nothing to approve")
            if self._undertaking.busy or self._stopping.is_set() or self._in_doubt:
                raise UsageError(f"plan {plan_id} has to wait: another one is being carried out")
            snapshot = await self._perceive()
            policies = self._parts.book.policies
            executed = await self._executed(policies)
            best = await asyncio.to_thread(self._parts.loop.rethink, snapshot, policies, executed)
            if not _same_moves(best, stored.plan):
                await self._store.set_plan_status(plan_id, PlanStatus.SUPERSEDED, self._parts.token)
                self._parts.loop.forget()
                self._wake.set()
                raise UsageError(
                    f"plan {plan_id} is out of date; see `transhume plan` for what is best now"
                )
            await self._store.set_plan_status(plan_id, PlanStatus.EXECUTING, self._parts.token)
            self._begin(stored.plan, snapshot)


def _as_anywhere(policy: Policy) -> PolicyFile:
    """Say which file a policy is in, for whoever isn't in the folder where we were started."""
    source = str(Path(policy.source).absolute())
    return PolicyFile(name=policy.name, source=source, mode=policy.mode)


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
