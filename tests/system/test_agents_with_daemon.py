"""The daemon moves real guests between sites that have agents."""

import asyncio
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.system.running import (
    TRANSHUME,
    RunningDaemon,
    assert_nothing_was_lost,
    deployment_of,
    settled,
    until,
    where,
    write_pins,
)
from transhume.knowledge.model import PlanStatus
from transhume.knowledge.store import Store
from transhume.lab.agents import start_agent
from transhume.lab.lab import Lab
from transhume.lab.outside import OutsideConnection
from transhume.lab.spec import plan_lab

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
]

LAB = plan_lab(clouds=3, vms=2, clusters=1, wan_delay_seconds=0.01, place={"vm2": "c"}, agents=True)


def config_of(lab: Lab, folder: Path) -> Path:
    """Return a deployment with the knowledge that the agents share."""
    written = yaml.safe_load(lab.deployment.read_text())
    return deployment_of(lab, folder, knowledge=written["knowledge"])


def knowledge_of(lab: Lab) -> str:
    return str(yaml.safe_load(lab.deployment.read_text())["knowledge"]["url"])


def overlay(words: list[str], config: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*TRANSHUME, "overlay", *words, "--config", str(config)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def is_consistent(config: Path) -> str | None:
    found = await asyncio.to_thread(overlay, ["check"], config)
    return found.stdout if found.returncode == 0 else None


async def last_plan(lab: Lab) -> PlanStatus:
    async with Store.connect(knowledge_of(lab)) as store:

        async def ended() -> PlanStatus | None:
            status = await settled(store)
            return status if status in (PlanStatus.DONE, PlanStatus.UNDONE) else None

        return await until(ended, "a plan to be carried out")


async def runs_at(lab: Lab, cloud: str) -> bool | None:
    return (await asyncio.to_thread(where, lab))["vm1"] == [cloud] or None


def received_from_vm2(lab: Lab) -> int:
    """Return the bytes that vm1 has received from the VM that stays at c."""
    return sum(counter.bytes for counter in lab.counters("vm1") if counter.role == "receive")


async def more_than(lab: Lab, before: int) -> bool | None:
    return await asyncio.to_thread(received_from_vm2, lab) > before or None


def agents_of(site: str, state: Path) -> list[int]:
    """Return the processes that are a site's agent."""
    wanted = [b"agent", b"--site", site.encode(), b"--config", os.fsencode(state / "agents.yaml")]
    found = []
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            try:
                words = (process / "cmdline").read_bytes().split(b"\0")[:-1]
            except OSError:
                continue
            if words[-len(wanted) :] == wanted:
                found.append(int(process.name))
    return found


def test_a_planned_move_keeps_connections_and_leaves_the_overlay_consistent(
    lab: Lab, tmp_path: Path
) -> None:
    config = config_of(lab, tmp_path)
    policies = write_pins(tmp_path, {"vm1": "b", "vm2": "c"})
    with (
        OutsideConnection(lab.spec.guest("vm1").ip) as connection,
        RunningDaemon(config, policies, tmp_path / "log") as daemon,
    ):
        assert asyncio.run(last_plan(lab)) is PlanStatus.DONE, daemon.log
        assert where(lab)["vm1"] == ["b"]
        asyncio.run(until(lambda: is_consistent(config), "a consistent overlay", seconds=30))
        assert "a tunnel to" in overlay(["trace", "vm1", "vm2"], config).stdout
        before = connection.survived()
        asyncio.run(asyncio.sleep(2))
        assert connection.survived().failure is None
        assert connection.survived().bytes > before.bytes
        assert daemon.stop() == 0, daemon.log
    assert_nothing_was_lost(lab)


def test_a_move_goes_on_while_a_third_sites_agent_is_dead(lab: Lab, tmp_path: Path) -> None:
    """Its frames take the longer way, by the site that the VM has left, until it has an agent again."""
    config = config_of(lab, tmp_path)
    (dead,) = agents_of("c", lab.state)
    os.kill(dead, signal.SIGKILL)
    away = "a" if where(lab)["vm1"] == ["b"] else "b"
    policies = write_pins(tmp_path, {"vm1": away, "vm2": "c"})
    with RunningDaemon(config, policies, tmp_path / "log") as daemon:
        asyncio.run(until(lambda: runs_at(lab, away), "the VM to arrive"))
        assert asyncio.run(last_plan(lab)) is PlanStatus.DONE, daemon.log
        before = received_from_vm2(lab)
        asyncio.run(until(lambda: more_than(lab, before), "what vm2 sends from c", seconds=30))
        start_agent("c", lab.state)
        asyncio.run(until(lambda: is_consistent(config), "a consistent overlay", seconds=30))
        assert daemon.stop() == 0, daemon.log
    assert_nothing_was_lost(lab)
