"""The one place where the instructions of a plan's transactions become effects.

Talks to hypervisors, the overlay and the ledger, through their protocols. Owns concurrency (the steps of a
stage run at the same time) and nothing of the order of effects, which the transactions decide.
"""

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import assert_never

from transhume.errors import LeaseLost, MoveFailed, OverlayError, TemporaryError
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.protocol import Hypervisors, JobSample
from transhume.execute.instructions import (
    Begun,
    Check,
    Checked,
    DiscardAt,
    Event,
    Finish,
    Found,
    Instruction,
    Look,
    Migrate,
    Migrated,
    MigrationFailed,
    Record,
    Recorded,
    Repoint,
    Repointed,
    ResumeAt,
    Resumed,
    Settle,
)
from transhume.execute.ledger import Ledger
from transhume.execute.migration.transport import Share
from transhume.execute.overlay.protocol import Overlay
from transhume.execute.plan_transaction import PlanTransaction
from transhume.execute.step_transaction import RESULTS, StepTransaction
from transhume.knowledge.model import (
    CloudName,
    HostName,
    JournalRecord,
    MacAddress,
    MoveProgress,
    Outcome,
    Phase,
    Plan,
    PlanStatus,
    Step,
    StepId,
    StepResult,
    VmName,
)
from transhume.knowledge.model.undoing import step_of

MacsOf = Callable[[VmName], Sequence[MacAddress]]
OverlayOf = Callable[[VmName], Overlay]


OptionsOf = Callable[[VmName], MigrationOptions]


def default_options(_vm: VmName) -> MigrationOptions:
    """Return what nobody has said anything else than."""
    return MigrationOptions()


def share_of(plan: Plan, step: Step) -> Share | None:
    """Return what a step may use of its link, and together with which others; None where it needs none."""
    if step.source_cloud == step.destination_cloud:
        return None
    if step.group is None and step.bytes_per_second is None:
        return None
    gang = f"{plan.id}/{step.group or step.id}"
    return Share(gang=gang, bytes_per_second=step.bytes_per_second)


@dataclass(frozen=True, slots=True, kw_only=True)
class World:
    """What the executor acts upon."""

    hypervisors: Hypervisors
    overlay_of: OverlayOf
    """The networks that a VM is on."""
    ledger: Ledger
    macs_of: MacsOf
    clock: Callable[[], datetime]
    options_of: OptionsOf = default_options
    """How each VM is to be moved."""


class Executor:
    """Carries out one plan.

    Args:
        plan: what to carry out.
        world: what to act upon.
        journal: the latest record of each step of this plan, where it was begun before a crash.
    """

    def __init__(self, plan: Plan, world: World, journal: Sequence[JournalRecord] = ()) -> None:
        self.plan = plan
        self.world = world
        self._open = {record.step: record.phase for record in journal if not record.phase.final}
        self._transaction = PlanTransaction(
            plan,
            {record.step: RESULTS[record.phase] for record in journal if record.phase.final},
        )
        self._interruptions: list[tuple[Step, Exception]] = []

    @property
    def hindered(self) -> tuple[Step, ...]:
        """The steps, undoings among them, that something kept from ending."""
        return tuple(step for step, _ in self._interruptions)

    def stop(self, why: str) -> None:
        """Begin no further step. Steps under way are finished: stopping is safe at any time."""
        self._transaction.stop(why)

    def make_way(self, why: str) -> None:
        """Begin no further step but those that flee, and what they need."""
        self._transaction.make_way(why)

    def shun(self, gone_at: Mapping[HostName, datetime]) -> None:
        """Take nobody back to hosts that will be gone, nor send anybody there who doesn't flee before.

        What is under way is finished.
        """
        self._transaction.shun(gone_at)

    async def carry_out(self) -> PlanStatus:
        """Finish what a crash left open, and the rest of the plan beside it; return how it ended.

        Raises `LeaseLost`, in a group, when another daemon has taken over: every step is dropped at once.
        What else hinders a step (a host that doesn't answer) is raised when the steps beside it have ended;
        the journal keeps that step open, for an executor after this one.
        """
        transaction = self._transaction
        async with asyncio.TaskGroup() as tasks:

            def start(step: Step, first: Event) -> asyncio.Task[None]:
                transaction.begin(step)
                return tasks.create_task(self._run(step, first), name=f"move {step.vm}")

            running = {start(step, Resumed(phase=phase)) for step, phase in self._left_open()}
            while running := running | {start(step, Begun()) for step in transaction.ready()}:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        self._raise_interruptions()
        for step, why in transaction.left_out():
            await self._leave_out(step, why)
        return transaction.status()

    def _left_open(self) -> Iterator[tuple[Step, Phase]]:
        for step_id, phase in self._open.items():
            step = step_of(self.plan, StepId(step_id))
            if step is not None:
                yield step, phase

    def _raise_interruptions(self) -> None:
        if self._interruptions:
            raise ExceptionGroup("steps were interrupted", [why for _, why in self._interruptions])

    async def _leave_out(self, step: Step, why: str) -> None:
        now = self.world.clock()
        await self._record(step, Phase.SKIPPED, why)
        await self._add_outcome(StepTransaction(step), StepResult.SKIPPED, why, now)

    async def _run(self, step: Step, first: Event) -> None:
        """Carry a step out; a fault leaves it open, and its VM's neighbours go on."""
        try:
            await self._drive(step, first)
        except LeaseLost:
            raise
        except Exception as error:  # noqa: BLE001  (told by whoever carries the plan out)
            self._interruptions.append((step, error))

    async def _drive(self, step: Step, first: Event) -> None:
        transaction = StepTransaction(step)
        started = self.world.clock()
        instructions = transaction.handle(first)
        while instructions:
            instruction, *rest = instructions
            if isinstance(instruction, Finish):
                await self._add_outcome(transaction, instruction.result, instruction.why, started)
                self._transaction.finished(step, instruction.result)
                return
            event = await self._do(step, instruction)
            instructions = [*rest, *transaction.handle(event)]

    async def _do(self, step: Step, instruction: Instruction) -> Event:
        hypervisors = self.world.hypervisors
        match instruction:
            case Check():
                obstacle = await hypervisors.obstacle(step.vm, step.source, step.destination)
                return Checked(obstacle=obstacle or self._beyond_the_overlay(step))
            case Record(phase=phase, note=note):
                await self._record(step, phase, note)
                return Recorded(phase=phase)
            case Migrate():
                return await self._migrate(step, instruction)
            case Settle():
                at_most = self.world.options_of(step.vm).time_limit_seconds
                await hypervisors.settle(step.vm, step.source, step.destination, at_most)
                return await self._look(step)
            case Look():
                return await self._look(step)
            case ResumeAt(host=host):
                await hypervisors.resume(step.vm, host)
                return await self._look(step)
            case DiscardAt(host=host):
                await hypervisors.discard(step.vm, host)
                return await self._look(step)
            case Repoint(cloud=cloud):
                return await self._repoint(step, cloud)
            case Finish():
                raise AssertionError("Finish is no effect")
            case _:
                assert_never(instruction)

    async def _look(self, step: Step) -> Found:
        seen = await self.world.hypervisors.whereabouts(step.vm, step.source, step.destination)
        return Found(whereabouts=seen)

    async def _migrate(self, step: Step, order: Migrate) -> Event:
        samples: asyncio.Queue[JobSample] = asyncio.Queue()
        reporter = asyncio.create_task(self._report(step, samples), name=f"progress of {step.vm}")
        try:
            async with self._handed_over(step, order):
                measurement = await self.world.hypervisors.migrate(
                    step.vm,
                    order.source,
                    order.destination,
                    samples.put_nowait,
                    replace(self.world.options_of(step.vm), share=share_of(self.plan, step)),
                )
        except MoveFailed as error:
            return MigrationFailed(why=error.seen)
        finally:
            reporter.cancel()
            await asyncio.gather(reporter, return_exceptions=True)
        return Migrated(measurement=measurement)

    def _beyond_the_overlay(self, step: Step) -> str | None:
        if step.source_cloud == step.destination_cloud:
            return None
        macs, overlay = self.world.macs_of(step.vm), self.world.overlay_of(step.vm)
        return overlay.obstacle(macs, step.destination_cloud)

    def _handed_over(self, step: Step, order: Migrate) -> AbstractAsyncContextManager[None]:
        """Let the overlay know of a move, which may be one back."""
        ends = step.source_cloud, step.destination_cloud
        source, destination = ends if order.source == step.source else ends[::-1]
        macs, overlay = self.world.macs_of(step.vm), self.world.overlay_of(step.vm)
        return overlay.hand_over(step.vm, macs, source, destination)

    async def _report(self, step: Step, samples: "asyncio.Queue[JobSample]") -> None:
        while True:
            sample = await samples.get()
            progress = MoveProgress(
                plan=self.plan.id,
                step=step.id,
                vm=step.vm,
                at=self.world.clock(),
                bytes_sent=sample.bytes_sent,
                bytes_remaining=sample.bytes_remaining,
                bytes_per_second=sample.bytes_per_second,
                dirty_bytes_per_second=sample.dirty_bytes_per_second,
                transfer=sample.transfer,
                rounds=sample.rounds,
            )
            # A sample that can't be written is lost; the move, and the next sample, are not.
            with suppress(TemporaryError):
                await self.world.ledger.put_move_progress(progress)

    async def _repoint(self, step: Step, cloud: CloudName) -> Repointed:
        macs, overlay = self.world.macs_of(step.vm), self.world.overlay_of(step.vm)
        try:
            await overlay.bind(macs, cloud)
            return Repointed(faults=await overlay.check(macs, cloud))
        except OverlayError as error:
            return Repointed(faults=(str(error),))

    async def _record(self, step: Step, phase: Phase, note: str) -> None:
        await self.world.ledger.append_journal(
            JournalRecord(
                plan=self.plan.id,
                step=step.id,
                vm=step.vm,
                phase=phase,
                at=self.world.clock(),
                note=note,
            )
        )

    async def _add_outcome(
        self, transaction: StepTransaction, result: StepResult, why: str, started: datetime
    ) -> None:
        step = transaction.step
        await self.world.ledger.add_outcome(
            Outcome(
                plan=self.plan.id,
                step=step.id,
                vm=step.vm,
                source=step.source,
                destination=step.destination,
                result=result,
                why=why,
                started_at=started,
                ended_at=self.world.clock(),
                predicted=step.prediction,
                measured=transaction.measurement,
            )
        )
