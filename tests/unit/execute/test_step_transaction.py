"""The transaction of one move, driven by a world that may fail or crash at any point."""

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.execute.hypervisor.protocol import Seen, Whereabouts
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
from transhume.execute.step_transaction import StepTransaction
from transhume.knowledge.model import (
    CloudName,
    HostName,
    Measurement,
    MoveKind,
    Phase,
    Prediction,
    Step,
    StepId,
    StepResult,
    VmName,
)

A, B = HostName("a1"), HostName("b1")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOOK = Measurement(bytes=1, seconds=1.0, downtime_seconds=0.1)

STEP = Step(
    id=StepId("s1"),
    vm=VmName("vm1"),
    source=A,
    destination=B,
    source_cloud=CloudName("a"),
    destination_cloud=CloudName("b"),
    kind=MoveKind.ELECTIVE,
    reason="cheaper",
    prediction=Prediction(bytes=1, seconds=1.0, downtime_seconds=0.1, dollars=0.0),
    saving_dollars_per_hour=1.0,
    payback_seconds=1.0,
)


@dataclass
class World:
    """One VM, two hosts, an overlay; each migration and re-pointing may be told to fail."""

    migrations: list[bool] = field(default_factory=list)
    repointings: list[bool] = field(default_factory=list)
    at: HostName = A
    overlay: str = "a"
    journal: list[Phase] = field(default_factory=list)
    finished: Finish | None = None

    def do(self, instruction: Instruction) -> Event | None:
        match instruction:
            case Check():
                return Checked(obstacle=None)
            case Record(phase=phase):
                self.journal.append(phase)
                return Recorded(phase=phase)
            case Migrate(destination=destination):
                if self.migrations and not self.migrations.pop(0):
                    return MigrationFailed(why="refused")
                self.at = destination
                return Migrated(measurement=TOOK)
            case Settle() | Look() | ResumeAt() | DiscardAt():
                return Found(whereabouts=self.seen())
            case Repoint(cloud=cloud):
                if self.repointings and not self.repointings.pop(0):
                    return Repointed(faults=("a site is silent",))
                self.overlay = cloud
                return Repointed()
            case Finish():
                self.finished = instruction
        return None

    def seen(self) -> Whereabouts:
        at = {host: Seen.RUNNING if self.at == host else Seen.ABSENT for host in (A, B)}
        return Whereabouts(source=at[A], destination=at[B])


def drive(world: World, transaction: StepTransaction, first: Event, limit: int = 100) -> bool:
    """Run until it has finished, or crash before the instruction number `limit`."""
    instructions = transaction.handle(first)
    for _ in range(limit):
        if not instructions:
            return True
        instruction, *rest = instructions
        event = world.do(instruction)
        if isinstance(instruction, Finish):
            return True
        assert event is not None
        instructions = [*rest, *transaction.handle(event)]
        transaction.check_invariants()
    return False


def test_a_move_that_goes_well_passes_every_phase_in_order() -> None:
    world = World()
    drive(world, StepTransaction(STEP), Begun())
    assert world.journal == [
        Phase.INTENDED,
        Phase.MOVED,
        Phase.VERIFIED,
        Phase.REPOINTED,
        Phase.COMMITTED,
    ]
    assert world.finished == Finish(result=StepResult.DONE, why="")
    assert (world.at, world.overlay) == (B, "b")


def test_an_obstacle_skips_the_step_and_touches_nothing() -> None:
    transaction = StepTransaction(STEP)
    assert transaction.handle(Begun()) == [Check()]
    assert transaction.handle(Checked(obstacle="vm1 is paused at a1")) == [
        Record(phase=Phase.SKIPPED, note="vm1 is paused at a1"),
        Finish(result=StepResult.SKIPPED, why="vm1 is paused at a1"),
    ]


def test_a_failed_migration_leaves_the_vm_and_its_frames_at_the_source() -> None:
    world = World(migrations=[False])
    drive(world, StepTransaction(STEP), Begun())
    assert world.finished == Finish(result=StepResult.UNDONE, why="refused")
    assert (world.at, world.overlay) == (A, "a")


def test_an_overlay_that_cannot_be_repointed_brings_the_vm_back() -> None:
    world = World(repointings=[False])
    drive(world, StepTransaction(STEP), Begun())
    assert world.finished is not None
    assert world.finished.result is StepResult.UNDONE
    assert (world.at, world.overlay) == (A, "a")


def test_a_vm_that_fled_a_dying_cloud_is_never_brought_back_for_the_overlays_sake() -> None:
    """A site that is down can't be re-pointed, and the revoked one is the first to be down."""
    world = World(repointings=[False])
    drive(world, StepTransaction(replace(STEP, deadline=NOW)), Begun())
    assert world.finished == Finish(result=StepResult.DONE, why="a site is silent")
    assert world.at == B


def test_undoing_that_fails_three_times_asks_for_a_person() -> None:
    world = World(migrations=[True, False, False, False], repointings=[False])
    drive(world, StepTransaction(STEP), Begun())
    assert world.finished is not None
    assert world.finished.result is StepResult.FAILED
    assert world.at == B


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        pytest.param(Seen.PAUSED, Seen.RUNNING, DiscardAt(host=A), id="moved, old copy left"),
        pytest.param(Seen.RUNNING, Seen.PAUSED, DiscardAt(host=B), id="not moved, new copy left"),
        pytest.param(Seen.PAUSED, Seen.ABSENT, ResumeAt(host=A), id="stopped at the source"),
        pytest.param(Seen.ABSENT, Seen.PAUSED, ResumeAt(host=B), id="not yet resumed there"),
        pytest.param(Seen.PAUSED, Seen.PAUSED, ResumeAt(host=A), id="only the source is whole"),
    ],
)
def test_a_crash_in_the_switch_over_ends_with_one_running_copy(
    source: Seen, destination: Seen, expected: Instruction
) -> None:
    transaction = StepTransaction(STEP)
    transaction.handle(Resumed(phase=Phase.INTENDED))
    seen = Whereabouts(source=source, destination=destination)
    assert transaction.handle(Found(whereabouts=seen)) == [expected]


@pytest.mark.parametrize("seen", [Seen.RUNNING, Seen.ABSENT])
def test_two_running_copies_or_none_is_never_repaired_by_guessing(seen: Seen) -> None:
    transaction = StepTransaction(STEP)
    transaction.handle(Resumed(phase=Phase.INTENDED))
    record, finish = transaction.handle(
        Found(whereabouts=Whereabouts(source=seen, destination=seen))
    )
    assert isinstance(record, Record)
    assert record.phase is Phase.FAILED
    assert isinstance(finish, Finish)


@pytest.mark.parametrize(
    ("source", "destination", "migrating"),
    [
        pytest.param(Seen.STRANDED, Seen.STRANDED, False, id="both ends know"),
        pytest.param(
            Seen.STRANDED, Seen.RUNNING, True, id="the destination still waits for the rest"
        ),
        pytest.param(Seen.STRANDED, Seen.PAUSED, False, id="paused at both ends"),
        pytest.param(Seen.PAUSED, Seen.STRANDED, True, id="the source doesn't know yet"),
        pytest.param(Seen.ABSENT, Seen.STRANDED, False, id="the source is gone"),
    ],
)
def test_a_vm_that_is_stranded_in_post_copy_is_left_to_a_person(
    source: Seen, destination: Seen, migrating: bool
) -> None:
    """Its copy at the source is older than its disks, and has pages that exist nowhere else."""
    transaction = StepTransaction(STEP)
    transaction.handle(Recorded(phase=Phase.INTENDED))
    transaction.handle(MigrationFailed(why="the path broke"))
    seen = Whereabouts(source=source, destination=destination, migrating=migrating)
    record, finish = transaction.handle(Found(whereabouts=seen))
    assert isinstance(record, Record)
    assert record.phase is Phase.FAILED
    assert isinstance(finish, Finish)
    assert finish.result is StepResult.FAILED
    assert "--postcopy-resume" in finish.why


def test_a_migration_still_running_after_a_crash_is_waited_for() -> None:
    transaction = StepTransaction(STEP)
    assert transaction.handle(Resumed(phase=Phase.INTENDED)) == [Settle()]
    busy = Whereabouts(source=Seen.RUNNING, destination=Seen.PAUSED, migrating=True)
    assert transaction.handle(Found(whereabouts=busy)) == [Settle()]


@given(
    crashes=st.lists(st.integers(0, 12), max_size=4),
    migrations=st.lists(st.booleans(), max_size=6),
    repointings=st.lists(st.booleans(), max_size=6),
)
def test_whatever_fails_and_whenever_it_crashes_the_overlay_follows_the_vm(
    crashes: list[int], migrations: list[bool], repointings: list[bool]
) -> None:
    """The last life isn't killed, so every story ends: done, undone, or handed to a person."""
    world = World(migrations=migrations, repointings=repointings)
    first: Event = Begun()
    for limit in [*crashes, 100]:
        if drive(world, StepTransaction(STEP), first, limit):
            break
        if world.journal and world.journal[-1].final:
            # The record is durable: nobody takes the step up again.
            break
        first = Resumed(phase=world.journal[-1]) if world.journal else Begun()
    final = world.journal[-1]
    assert final.final
    if final is Phase.COMMITTED:
        assert (world.at, world.overlay) == (B, "b")
    if final is Phase.UNDONE:
        assert (world.at, world.overlay) == (A, "a")
