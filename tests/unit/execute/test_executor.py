"""The executor on simulated clouds: effects, outcomes, undoing, and taking up after a crash."""

import asyncio
from dataclasses import dataclass, field, fields, replace

import pytest

from tests.unit.execute.plans import NOW, clouds, plan, step
from transhume.errors import HypervisorUnreachable, LeaseLost
from transhume.execute.executor import Executor, World, share_of
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.protocol import OnSample, Whereabouts
from transhume.execute.migration.transport import Share
from transhume.knowledge.model import (
    HostName,
    JournalRecord,
    Measurement,
    MoveProgress,
    Outcome,
    Phase,
    PlanStatus,
    StepResult,
    VmName,
)
from transhume.lab.simulated import SimulatedClouds, SimulatedOverlay


@dataclass
class Notebook:
    """A ledger in memory; dies with `LeaseLost` before a given line, as a daemon that was replaced."""

    lines: list[JournalRecord] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    progress: list[MoveProgress] = field(default_factory=list)
    dies_before: int = 10_000

    async def append_journal(self, record: JournalRecord) -> None:
        if len(self.lines) == self.dies_before:
            raise LeaseLost(1)
        self.lines.append(record)

    async def put_move_progress(self, progress: MoveProgress) -> None:
        self.progress.append(progress)

    async def add_outcome(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def latest(self) -> list[JournalRecord]:
        return list({line.step: line for line in self.lines}.values())


def world(
    hosts: SimulatedClouds, notebook: Notebook, overlay: SimulatedOverlay | None = None
) -> World:
    known = overlay or SimulatedOverlay()
    return World(
        hypervisors=hosts,
        overlay_of=lambda _vm: known,
        ledger=notebook,
        macs_of=lambda vm: [i.mac for i in hosts.vms[vm].interfaces],
        clock=lambda: NOW,
    )


async def test_a_plan_moves_its_vms_and_tells_predicted_beside_measured() -> None:
    hosts, notebook, overlay = clouds(), Notebook(), SimulatedOverlay()
    status = await Executor(plan(step(1), step(2)), world(hosts, notebook, overlay)).carry_out()
    assert status is PlanStatus.DONE
    assert hosts.running_at == {"vm1": "b1", "vm2": "b1", "vm3": "a1"}
    assert set(overlay.site_of.values()) == {"b"}
    for outcome in notebook.outcomes:
        assert outcome.result is StepResult.DONE
        assert outcome.measured is not None
        assert outcome.measured.bytes == outcome.predicted.bytes
    assert notebook.progress


async def test_the_overlay_is_told_of_each_move_before_it_begins_also_of_one_back() -> None:
    hosts, overlay = clouds(), SimulatedOverlay()
    hosts.faults[VmName("vm2")] = "out of memory there"
    steps = plan(step(1), step(2, stage=1))
    await Executor(steps, world(hosts, Notebook(), overlay)).carry_out()
    assert overlay.announced == [("vm1", "a", "b"), ("vm2", "a", "b"), ("vm1", "b", "a")]


async def test_a_failed_move_brings_its_group_back_and_says_why() -> None:
    hosts, notebook = clouds(), Notebook()
    hosts.faults[VmName("vm2")] = "out of memory there"
    status = await Executor(plan(step(1), step(2, stage=1)), world(hosts, notebook)).carry_out()
    assert status is PlanStatus.UNDONE
    assert set(hosts.running_at.values()) == {"a1"}
    assert "out of memory there" in [outcome.why for outcome in notebook.outcomes]


async def test_nobody_is_moved_to_where_the_vms_network_isnt() -> None:
    hosts, notebook, overlay = clouds(), Notebook(), SimulatedOverlay(lacking=("b",))
    await Executor(plan(step(1)), world(hosts, notebook, overlay)).carry_out()
    assert notebook.outcomes[0].result is StepResult.SKIPPED
    assert "the network isn't at b" in notebook.outcomes[0].why
    assert hosts.running_at["vm1"] == "a1"


async def test_a_full_destination_skips_the_step() -> None:
    hosts, notebook = clouds(room=1), Notebook()
    hosts.running_at[VmName("vm3")] = HostName("b1")
    status = await Executor(plan(step(1)), world(hosts, notebook)).carry_out()
    assert status is PlanStatus.UNDONE
    assert notebook.outcomes[0].result is StepResult.SKIPPED
    assert "no room" in notebook.outcomes[0].why


@pytest.mark.parametrize("line", range(10))
async def test_whoever_takes_over_at_any_line_of_the_journal_finishes_the_plan(line: int) -> None:
    hosts, notebook, overlay = clouds(), Notebook(dies_before=line), SimulatedOverlay()
    the_plan = plan(step(1), step(2, stage=1))
    with pytest.raises(ExceptionGroup) as died:
        await Executor(the_plan, world(hosts, notebook, overlay)).carry_out()
    assert died.group_contains(LeaseLost)
    notebook.dies_before = 10_000
    status = await Executor(
        the_plan, world(hosts, notebook, overlay), notebook.latest()
    ).carry_out()
    assert status in (PlanStatus.DONE, PlanStatus.UNDONE)
    there = "b1" if status is PlanStatus.DONE else "a1"
    assert hosts.running_at == {"vm1": there, "vm2": there, "vm3": "a1"}
    assert all(record.phase.final for record in notebook.latest())


class HalfSilent(SimulatedClouds):
    """Clouds in which whoever asks after vm1 gets no answer."""

    async def obstacle(self, vm: VmName, source: HostName, destination: HostName) -> str | None:
        if vm == "vm1":
            raise HypervisorUnreachable(source, "qemu+tcp://a1/system", "timed out")
        return await SimulatedClouds.obstacle(self, vm, source, destination)


async def test_a_step_that_is_interrupted_leaves_its_neighbours_alone() -> None:
    plain, notebook = clouds(), Notebook()
    hosts = HalfSilent(**{each.name: getattr(plain, each.name) for each in fields(plain)})
    the_plan = plan(step(1, mandatory=True), step(2, mandatory=True))
    executor = Executor(the_plan, world(hosts, notebook))
    with pytest.raises(ExceptionGroup) as interrupted:
        await executor.carry_out()
    assert interrupted.group_contains(HypervisorUnreachable)
    assert executor.hindered == the_plan.steps[:1]
    assert hosts.running_at == {"vm1": "a1", "vm2": "b1", "vm3": "a1"}
    status = await Executor(the_plan, world(plain, notebook), notebook.latest()).carry_out()
    assert status is PlanStatus.DONE
    assert plain.running_at == {"vm1": "b1", "vm2": "b1", "vm3": "a1"}


class Waiting(SimulatedClouds):
    """Clouds in which nobody learns where vm1 is before all others are elsewhere."""

    async def whereabouts(self, vm: VmName, source: HostName, destination: HostName) -> Whereabouts:
        while vm == "vm1" and self.running_at["vm2"] != "b1":
            await asyncio.sleep(0)
        return await SimulatedClouds.whereabouts(self, vm, source, destination)


async def test_others_dont_wait_for_a_step_that_a_crash_left_open() -> None:
    plain, notebook = clouds(), Notebook()
    hosts = Waiting(**{each.name: getattr(plain, each.name) for each in fields(plain)})
    the_plan = plan(step(1, mandatory=True), step(2, mandatory=True))
    left_open = JournalRecord(
        plan=the_plan.id,
        step=the_plan.steps[0].id,
        vm=VmName("vm1"),
        phase=Phase.INTENDED,
        at=NOW,
    )
    async with asyncio.timeout(10):
        status = await Executor(the_plan, world(hosts, notebook), [left_open]).carry_out()
    assert status is PlanStatus.DONE
    assert hosts.running_at["vm2"] == "b1"


async def test_stopping_finishes_the_move_under_way_and_leaves_the_rest() -> None:
    hosts, notebook = clouds(), Notebook()
    executor = Executor(plan(step(1), step(2, stage=1)), world(hosts, notebook))
    running = asyncio.create_task(executor.carry_out())
    while not notebook.lines:
        await asyncio.sleep(0)
    executor.stop("the daemon was stopped")
    await running
    assert hosts.running_at == {"vm1": "b1", "vm2": "a1", "vm3": "a1"}
    assert notebook.outcomes[-1].why == "the daemon was stopped"


class Asked(SimulatedClouds):
    """Clouds that remember how they were asked to move VMs."""

    shares: dict[VmName, Share | None]

    async def migrate(
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        on_sample: OnSample,
        options: MigrationOptions | None = None,
    ) -> Measurement:
        assert options is not None
        self.shares[vm] = options.share
        return await SimulatedClouds.migrate(self, vm, source, destination, on_sample, options)


async def test_a_group_has_one_budget_and_a_vm_alone_its_own_share() -> None:
    simulated = clouds()
    hosts = Asked(
        hosts=simulated.hosts,
        vms=simulated.vms,
        link_bytes_per_second=simulated.link_bytes_per_second,
        speedup=simulated.speedup,
        running_at=simulated.running_at,
    )
    hosts.shares = {}
    mates = [replace(step(number), bytes_per_second=1e6) for number in (1, 2)]
    alone = replace(step(3, group=None), bytes_per_second=2e6)
    await Executor(plan(*mates, alone), world(hosts, Notebook())).carry_out()
    assert hosts.shares == {
        "vm1": Share(gang="p1/g1", bytes_per_second=1e6),
        "vm2": Share(gang="p1/g1", bytes_per_second=1e6),
        "vm3": Share(gang="p1/s3", bytes_per_second=2e6),
    }


def test_a_move_that_shares_no_link_has_no_share() -> None:
    inner = replace(step(1), destination_cloud=step(1).source_cloud, bytes_per_second=1e6)
    assert share_of(plan(inner), inner) is None
    unlimited = step(1, group=None)
    assert share_of(plan(unlimited), unlimited) is None


class Outlived(SimulatedClouds):
    """Clouds in which a migration goes on, although whoever began it is gone."""

    waited_for: list[float | None]

    async def settle(
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        at_most_seconds: float | None = None,
    ) -> None:
        self.waited_for.append(at_most_seconds)


async def test_a_step_that_is_taken_up_has_no_longer_than_its_vm_may_take() -> None:
    plain, notebook = clouds(), Notebook()
    hosts = Outlived(**{each.name: getattr(plain, each.name) for each in fields(plain)})
    hosts.waited_for = []
    limited = replace(
        world(hosts, notebook), options_of=lambda _vm: MigrationOptions(time_limit_seconds=60.0)
    )
    begun = JournalRecord(
        plan=plan().id, step=step(1).id, vm=step(1).vm, phase=Phase.INTENDED, at=NOW, note=""
    )
    await Executor(plan(step(1)), limited, (begun,)).carry_out()
    assert hosts.waited_for == [60.0]
