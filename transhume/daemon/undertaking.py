"""The one plan that is being carried out: begun, stopped, taken up again, given up, and its end written down.

Owns what the daemon does when carrying out is hindered. The journal keeps what is open; a new executor takes
it up from there, as after a crash. A plan that stays hindered is given up and left to a person, for the VMs
that it doesn't touch must not wait for ever. Judgement is the loop's, effects are the executor's.
"""

import asyncio
from collections.abc import Callable, Collection, Coroutine, Iterable
from datetime import datetime, timedelta

import structlog

from transhume.daemon.ledger import FencedLedger
from transhume.daemon.perseverance import Trouble, first_cause
from transhume.errors import KnowledgeUnreachable, LeaseLost
from transhume.execute.executor import Executor, World
from transhume.execute.step_transaction import RESULTS
from transhume.knowledge.model import (
    HostName,
    JournalRecord,
    Outcome,
    Phase,
    Plan,
    PlanStatus,
    RevocationNotice,
    Snapshot,
)
from transhume.knowledge.model.undoing import step_of
from transhume.knowledge.store import Store, utc_now

log = structlog.get_logger()

PAUSES_SECONDS = (1.0, 2.0, 4.0, 8.0, 15.0)
"""Before each new attempt at a plan that is hindered; then it is given up."""
PATIENCE_SECONDS, RETRY_SECONDS = 5.0, 0.2
"""How long a daemon that stops waits for the knowledge, to write down what it has finished: a Redis of its own
that was told to end with it is begun again."""
STALE = timedelta(minutes=1)
"""A plan that was never begun, and is older than that when it is found, is made anew instead."""

STOPPED = "the daemon was stopped"
NOTICED = "a revocation notice came in"

Builder = Callable[[FencedLedger, Snapshot], World]
Ended = Callable[[Plan, PlanStatus], None]


class Undertaking:
    """Carries plans out, one at a time.

    Args:
        store: the knowledge.
        ledger: the part of it that is written with the pen.
        world: makes what an executor acts upon.
        ended: is told how each plan ended, once that is written down.
    """

    def __init__(self, store: Store, ledger: FencedLedger, world: Builder, ended: Ended) -> None:
        self._store = store
        self._ledger = ledger
        self._world = world
        self._ended = ended
        self._plan: Plan | None = None
        self._executor: Executor | None = None
        self._known: Collection[RevocationNotice] = ()
        """The notices that the plan was made in sight of."""
        self._gone_at: dict[HostName, datetime] = {}
        """When hosts will be gone, as was known when a notice came in last, while a plan is carried out."""
        self._why_stopped = ""
        self._makes_way = False
        """Whether a notice has come in that the plan wasn't made in sight of."""
        self._daemon_stops = asyncio.Event()
        self._patient_until = float("inf")
        """By the loop's clock, once the daemon stops."""

    @property
    def busy(self) -> bool:
        """True from a plan's beginning until its end is written down."""
        return self._plan is not None

    def stop(self) -> None:
        """Finish the moves under way and begin nothing new, now or later."""
        if not self._daemon_stops.is_set():
            self._patient_until = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        self._daemon_stops.set()
        self._stop_executor(STOPPED)

    async def heed_notice(self) -> None:
        """Begin nothing more of a plan but what flees as well, and take nobody back to what is about to go.

        There is an evacuation to be planned. A notice that was taken back stops nothing.
        """
        if self._plan is not None:
            snapshot = await self._store.snapshot()
            self._make_way(snapshot)
            self._gone_at = snapshot.host_deadlines()
            if self._executor is not None:
                self._executor.shun(self._gone_at)

    def _make_way(self, snapshot: Snapshot) -> None:
        if any(notice not in self._known for notice in snapshot.notices):
            self._makes_way = True
        if self._makes_way and self._executor is not None:
            self._executor.make_way(NOTICED)

    def begin(self, plan: Plan, known: Collection[RevocationNotice]) -> Coroutine[None, None, None]:
        """Be busy with a plan from now on; return what carries it out, to its end or until `stop`.

        It raises `LeaseLost` when another daemon has taken over. `known` are the notices that the plan was
        made in sight of.
        """
        self._plan, self._executor, self._why_stopped = plan, None, ""
        self._known, self._makes_way = known, False
        if self._daemon_stops.is_set():
            self._why_stopped = STOPPED
        return self._carry_out(plan)

    async def recover(self) -> None:
        """Finish or undo each plan that was left half way, by a crash or by a fault."""
        for stored in await self._store.executing_plans():
            plan = stored.plan
            if not isinstance(plan, Plan):
                continue
            snapshot = await self._store.snapshot()
            begun = await self._store.journal(plan.id)
            if not begun and stored.since and snapshot.at - stored.since > STALE:
                await self._ledger.set_plan_status(plan.id, PlanStatus.SUPERSEDED)
                continue
            log.warning("plan_resumed", plan=plan.id)
            known = [notice for notice in snapshot.notices if notice.at <= plan.made_at]
            await self.begin(plan, known)

    def _stop_executor(self, why: str) -> None:
        self._why_stopped = why
        if self._executor is not None:
            self._executor.stop(why)

    # --- one plan ----------------------------------------------------------------------------

    async def _carry_out(self, plan: Plan) -> None:
        trouble = Trouble("plan_interrupted", "plan_goes_on", plan=plan.id)
        pauses = list(PAUSES_SECONDS)
        try:
            while (hindrance := await _hindrance(self._attempt(plan))) is not None:
                trouble.tell(hindrance)
                if await self._daemon_stops_within(pauses[0]):
                    if isinstance(hindrance, KnowledgeUnreachable) and self._is_patient():
                        await asyncio.sleep(RETRY_SECONDS)
                        continue
                    log.warning("plan_left_open", plan=plan.id, hint="the next start takes it up")
                    return
                if isinstance(hindrance, KnowledgeUnreachable):
                    continue
                if len(pauses) == 1:
                    await _hindrance(self._give_up(plan, hindrance))
                pauses = pauses[1:] or pauses
        finally:
            self._plan = self._executor = None
            self._gone_at = {}

    async def _attempt(self, plan: Plan) -> None:
        """Go on from where the journal says that the plan stands."""
        latest = _latest(await self._store.journal(plan.id))
        snapshot = await self._store.snapshot()
        world = self._world(self._ledger, snapshot)
        self._executor = executor = Executor(plan, world, tuple(latest.values()))
        self._make_way(snapshot)
        executor.shun(snapshot.host_deadlines() | self._gone_at)
        if self._why_stopped:
            executor.stop(self._why_stopped)
        await self._conclude(plan, await executor.carry_out())

    async def _conclude(self, plan: Plan, status: PlanStatus) -> None:
        await self._complete_outcomes(plan)
        await self._ledger.set_plan_status(plan.id, status)
        log.info("plan_ended", plan=plan.id, status=status)
        self._ended(plan, status)

    async def _give_up(self, plan: Plan, hindrance: Exception) -> None:
        """Leave what is hindered to a person; the next attempt takes back what it can, and writes the end."""
        log.error("plan_given_up", plan=plan.id, why=str(hindrance), hint="look where its VMs run")
        why = f"given up, look where the VM runs: {hindrance}"
        latest = _latest(await self._store.journal(plan.id))
        for step in self._executor.hindered if self._executor else ():
            if step.id in latest and latest[step.id].phase.final:
                continue
            await self._ledger.append_journal(
                JournalRecord(
                    plan=plan.id,
                    step=step.id,
                    vm=step.vm,
                    phase=Phase.FAILED,
                    at=utc_now(),
                    note=why,
                )
            )
        self._stop_executor(why)

    async def _complete_outcomes(self, plan: Plan) -> None:
        """Add the outcomes that a crash, or giving up, has kept from being written: cool-downs rest on them."""
        told = await self._store.outcomes_of(plan)
        known = {(outcome.step, outcome.result) for outcome in told}
        journal = await self._store.journal(plan.id)
        for end in _latest(journal).values():
            began = next(record.at for record in journal if record.step == end.step)
            step = step_of(plan, end.step)
            if step is not None and end.phase.final and (end.step, RESULTS[end.phase]) not in known:
                await self._ledger.add_outcome(
                    Outcome(
                        plan=plan.id,
                        step=step.id,
                        vm=step.vm,
                        source=step.source,
                        destination=step.destination,
                        result=RESULTS[end.phase],
                        why=end.note,
                        started_at=began,
                        ended_at=end.at,
                        predicted=step.prediction,
                        measured=None,
                    )
                )

    def _is_patient(self) -> bool:
        return asyncio.get_running_loop().time() < self._patient_until

    async def _daemon_stops_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                return await self._daemon_stops.wait()
        except TimeoutError:
            return False


async def _hindrance(work: Coroutine[None, None, None]) -> Exception | None:
    """Return what kept work from being done, or None where it is done; raise `LeaseLost` alone."""
    try:
        await work
    except Exception as error:  # noqa: BLE001  (told by the caller, who tries again)
        cause = first_cause(error)
        if isinstance(cause, LeaseLost):
            raise cause from None
        return cause if isinstance(cause, Exception) else error
    return None


def _latest(journal: Iterable[JournalRecord]) -> dict[str, JournalRecord]:
    return {record.step: record for record in journal}
