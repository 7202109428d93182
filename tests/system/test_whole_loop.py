"""The whole loop on real guests: packets, prices and notices in; live migrations out."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
from pathlib import Path

import pytest

from tests.system.running import (
    TRANSHUME,
    RunningDaemon,
    assert_nothing_was_lost,
    bring_home,
    deployment_of,
    finished_plan,
    goes_on,
    knowledge,
    prices,
    until,
    where,
)
from transhume.knowledge.model import PlanStatus, StepId, StepResult
from transhume.knowledge.model.undoing import UNDO_SUFFIX
from transhume.knowledge.store import Store
from transhume.lab.guests import hypervisor
from transhume.lab.lab import Lab
from transhume.lab.outside import OutsideConnection
from transhume.lab.spec import plan_lab

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
]

EXAMPLES = Path(__file__).parents[2] / "policies"
LAB = plan_lab(clouds=2, vms=6, wan_bytes_per_second=40_000_000)
BLAST, WEB = {"vm1", "vm3", "vm5"}, {"vm2", "vm4", "vm6"}

LICENCE = """
policy: licence
mode: auto
rules:
  - pin: {vm: vm2, cloud: a}
"""


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    folder = tmp_path / "policies"
    folder.mkdir()
    return folder


async def groups(state: Path) -> list[set[str]]:
    async with Store.connect(await knowledge(state)) as store:
        return [set(group.vms) for group in (await store.snapshot()).groups]


def history(config: Path) -> list[dict[str, dict[str, float]]]:
    words = ["history", "--json", "--config", str(config)]
    return json.loads(subprocess.check_output([*TRANSHUME, *words], timeout=180))


def test_a_price_rise_moves_exactly_the_group_that_pays_and_no_connection_breaks(
    lab: Lab, tmp_path: Path, policies: Path
) -> None:
    """The web cluster talks to a VM whose licence is bound to a: moving the rest of it wouldn't pay."""
    shutil.copy(EXAMPLES / "cheap-but-on-time.yaml", policies)
    (policies / "licence.yaml").write_text(LICENCE)
    rise = prices(
        tmp_path,
        "{cloud: a, at: 0s, vcpu: 0.04/h, memory: 0.005/GiB/h, egress: 0.09/GB}",
        "{cloud: b, at: 0s, vcpu: 0.05/h, memory: 0.005/GiB/h, egress: 0.09/GB}",
        "{cloud: a, at: 20s, vcpu: 0.20/h, memory: 0.005/GiB/h, egress: 0.09/GB}",
    )
    config = deployment_of(lab, tmp_path, prices=rise)
    with (
        OutsideConnection(lab.spec.guest("vm1").ip) as moved,
        OutsideConnection(lab.spec.guest("vm2").ip) as stayed,
        RunningDaemon(config, policies, tmp_path / "log") as daemon,
    ):
        plan, status, outcomes = asyncio.run(finished_plan(tmp_path / "state"))
        assert status is PlanStatus.DONE, daemon.log
        assert {step.vm for step in plan.steps} == BLAST
        assert sorted(asyncio.run(groups(tmp_path / "state")), key=min) == [BLAST, WEB]
        assert where(lab) == {vm: ["b"] for vm in BLAST} | {vm: ["a"] for vm in WEB}
        for outcome in outcomes:
            assert outcome.result is StepResult.DONE
            assert outcome.measured is not None
            assert outcome.measured.bytes > 10e6
            assert outcome.measured.downtime_seconds is not None
        told = history(config)
        assert len(told) == len(BLAST)
        assert all(line["measured"]["bytes"] and line["predicted"]["bytes"] for line in told)
        for connection in (moved, stayed):
            asyncio.run(goes_on(connection))  # as the guests go on talking, so must the connections
        assert daemon.stop() == 0, daemon.log
    assert_nothing_was_lost(lab)


def test_a_notice_of_two_minutes_evacuates_a_cloud_group_by_group_as_far_as_there_is_room(
    lab: Lab, tmp_path: Path, policies: Path
) -> None:
    """Here `transhume capture` is the ears of a's host, as it would be on a machine of its own."""
    bring_home(lab, "a")
    shutil.copy(EXAMPLES / "evacuate-on-notice.yaml", policies)
    config = deployment_of(lab, tmp_path, rooms={"b1": 4}, remote=("a1",))
    with RunningDaemon(config, policies, tmp_path / "log") as daemon:
        asyncio.run(knowledge(tmp_path / "state"))
        with subprocess.Popen([*TRANSHUME, "capture", "a1", "--config", str(config)]) as ears:
            asyncio.run(until_groups_are_known(tmp_path / "state"))
            ears.send_signal(signal.SIGINT)
            assert ears.wait(timeout=60) == 0
        told = subprocess.check_output(
            [*TRANSHUME, "notice", "a", "--in", "120s", "--json", "--config", str(config)]
        )
        deadline = json.loads(told)["deadline"]
        plan, status, outcomes = asyncio.run(finished_plan(tmp_path / "state"))
        assert status is PlanStatus.DONE, daemon.log
        order = [step.vm for step in plan.steps]
        assert len(order) == 4
        assert set(order[:3]) in (BLAST, WEB), "a whole group goes first"
        assert set(plan.unplaced) == (BLAST | WEB) - set(order)
        assert all("b" in why for why in plan.unplaced.values())
        assert plan.made_at < outcomes[0].started_at
        assert max(outcome.ended_at for outcome in outcomes).isoformat() < deadline
        assert where(lab) == {vm: ["b" if vm in order else "a"] for vm in BLAST | WEB}
        assert daemon.stop() == 0, daemon.log
    assert_nothing_was_lost(lab)


async def until_groups_are_known(state: Path) -> None:
    async with Store.connect(await knowledge(state)) as store:

        async def known() -> bool | None:
            return len((await store.snapshot()).groups) == 2 or None

        await until(known, "the groups to be found")


def test_a_move_that_fails_takes_the_moves_of_its_group_back(
    lab: Lab, tmp_path: Path, policies: Path
) -> None:
    """The destination's QEMU of the second VM is killed while memory flows; the first VM returns."""
    bring_home(lab, "a")
    slow_down(lab, "a")
    shutil.copy(EXAMPLES / "cheap-but-on-time.yaml", policies)
    (policies / "licence.yaml").write_text(LICENCE)
    dear = prices(
        tmp_path,
        "{cloud: a, at: 0s, vcpu: 0.20/h, memory: 0.005/GiB/h, egress: 0.09/GB}",
        "{cloud: b, at: 0s, vcpu: 0.05/h, memory: 0.005/GiB/h, egress: 0.09/GB}",
    )
    config = deployment_of(lab, tmp_path, prices=dear)
    with (
        OutsideConnection(lab.spec.guest("vm1").ip) as outside,
        RunningDaemon(config, policies, tmp_path / "log") as daemon,
    ):
        victim = asyncio.run(second_under_way(tmp_path / "state"))
        os.kill(qemu_of(victim, netns=lab.cloud("b").spec.netns), signal.SIGKILL)
        plan, status, outcomes = asyncio.run(finished_plan(tmp_path / "state"))
        assert status is PlanStatus.UNDONE, daemon.log
        results = {outcome.step: outcome.result for outcome in outcomes}
        first, second, third = (step.id for step in plan.steps)
        assert results[first] is StepResult.DONE
        assert results[second] is StepResult.UNDONE
        assert results[third] is StepResult.SKIPPED
        assert results[StepId(first + UNDO_SUFFIX)] is StepResult.DONE
        assert set(map(tuple, where(lab).values())) == {("a",)}
        assert outside.survived().failure is None
        assert daemon.stop() == 0, daemon.log
    assert_nothing_was_lost(lab)


def slow_down(lab: Lab, cloud: str) -> None:
    """Have the VMs leave at no more than 12 MiB/s, which leaves time to do something to them on their way."""
    with hypervisor(lab.cloud(cloud).uri) as connection:
        for domain in connection.listAllDomains():
            domain.migrateSetMaxSpeed(12)


async def second_under_way(state: Path) -> str:
    """Wait until memory of a second VM flows, and return its name."""
    async with Store.connect(await knowledge(state)) as store:

        async def flowing() -> str | None:
            done = {outcome.vm for outcome in await store.outcomes()}
            moving = [m for m in await store.move_progress() if m.vm not in done]
            return next((m.vm for m in moving if done and m.bytes_sent > 5_000_000), None)

        return await until(flowing, "a second move")


def qemu_of(vm: str, *, netns: str) -> int:
    """Find the QEMU of a VM in one of the lab's clouds."""
    inside = (Path("/run/netns") / netns).stat().st_ino
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes()
            namespace = (process / "ns" / "net").stat().st_ino
        except OSError:
            continue  # it has just ended
        if f"guest={vm},".encode() in words and namespace == inside:
            return int(process.name)
    raise AssertionError(f"{netns} runs no QEMU of {vm}")
