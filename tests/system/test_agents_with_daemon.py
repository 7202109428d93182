"""The daemon moves real guests between sites that have agents."""

import asyncio
import os
import signal
from pathlib import Path

import pytest

from tests.system.agents import agents_of, config_of, is_consistent, knowledge_of, overlay
from tests.system.running import (
    RunningDaemon,
    assert_nothing_was_lost,
    goes_on,
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
        asyncio.run(until(lambda: is_consistent(config), "a consistent overlay"))
        assert "a tunnel to" in overlay(["trace", "vm1", "vm2"], config).stdout
        asyncio.run(goes_on(connection))
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
        asyncio.run(until(lambda: more_than(lab, before), "what vm2 sends from c"))
        start_agent("c", lab.state)
        asyncio.run(until(lambda: is_consistent(config), "a consistent overlay"))
        assert daemon.stop() == 0, daemon.log
    assert_nothing_was_lost(lab)
