"""`kill -9` between any two lines of a move's journal, on real guests: each VM runs exactly once afterwards."""

import asyncio
import os
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.system.redis_gate import Gate
from tests.system.running import (
    RunningDaemon,
    assert_nothing_was_lost,
    assert_runs_once,
    deployment_of,
    settled,
    until,
    where,
    write_pin,
)
from transhume.knowledge.lease import forget_dead_holder
from transhume.knowledge.model import Phase, PlanStatus, StepResult
from transhume.knowledge.server import ServerAddress
from transhume.knowledge.store import Store
from transhume.lab.lab import Lab
from transhume.lab.outside import OutsideConnection
from transhume.lab.spec import plan_lab

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
]

LINES = (Phase.INTENDED, Phase.MOVED, Phase.VERIFIED, Phase.REPOINTED, Phase.COMMITTED)
VM = "vm1"
LAB = plan_lab(clouds=2, vms=2, clusters=1, wan_bytes_per_second=25_000_000)


def ends(lab: Lab) -> tuple[str, str]:
    """Return the cloud that the VM is in, and the other one."""
    return ("a", "b") if where(lab)[VM] == ["a"] else ("b", "a")


def deployment(lab: Lab, folder: Path, url: str) -> Path:
    return deployment_of(lab, folder, knowledge={"url": url}, window="1s")


async def free_lease(redis: ServerAddress) -> None:
    """Spare the next daemon the wait for the lease of the one that was killed, which the other test keeps."""
    client = Redis.from_url(redis.url)
    try:
        await forget_dead_holder(client)
    finally:
        await client.aclose()


async def recover(lab: Lab, folder: Path, redis: ServerAddress, policy: Path) -> StepResult:
    """Start a daemon again, wait until it has finished or undone what was open; return how, and stop it."""
    config = deployment(lab, folder, redis.url)
    with RunningDaemon(config, policy, folder / "log") as daemon:
        async with Store.connect(redis.url) as store:
            status = await until(lambda: settled(store), f"recovery\n{daemon.log}")
            (result,) = [outcome.result for outcome in await store.outcomes()]
        assert await asyncio.to_thread(daemon.stop) == 0, daemon.log
    assert status is (PlanStatus.DONE if result is StepResult.DONE else PlanStatus.UNDONE)
    return result


@pytest.mark.parametrize("durable", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("phase", LINES)
async def test_killed_at_any_line_of_the_journal_the_vm_runs_exactly_once(
    lab: Lab, tmp_path: Path, redis: ServerAddress, phase: Phase, *, durable: bool
) -> None:
    source, destination = ends(lab)
    policy = write_pin(tmp_path, VM, destination)
    behind = Path(redis.url.removeprefix("unix://").split("?")[0])
    socket = behind.with_name("gate")
    with OutsideConnection(lab.spec.guest(VM).ip) as outside:
        async with Gate(redis=behind, socket=socket, phase=phase, durable=durable) as gate:
            config = deployment(lab, tmp_path, f"unix://{socket}")
            with RunningDaemon(config, policy, tmp_path / "log") as daemon:
                async with asyncio.timeout(120):
                    await gate.shut.wait()
                daemon.kill()
        await free_lease(redis)
        result = await recover(lab, tmp_path, redis, policy)
        place = {StepResult.DONE: destination, StepResult.UNDONE: source}
        assert await assert_runs_once(lab) == place[result]
        assert outside.survived().failure is None
    await asyncio.to_thread(assert_nothing_was_lost, lab)


async def test_killed_while_the_memory_is_on_its_way_the_vm_runs_exactly_once(
    lab: Lab, tmp_path: Path, redis: ServerAddress
) -> None:
    """The hypervisors go on without us; whoever comes after finds the VM where it has arrived."""
    _, destination = ends(lab)
    policy = write_pin(tmp_path, VM, destination)
    config = deployment(lab, tmp_path, redis.url)
    async with Store.connect(redis.url) as store:
        with RunningDaemon(config, policy, tmp_path / "log") as daemon:

            async def flowing() -> bool | None:
                return any(m.bytes_sent > 10_000_000 for m in await store.move_progress()) or None

            await until(flowing, "memory to flow", seconds=60)
            daemon.kill()
    assert await recover(lab, tmp_path, redis, policy) is StepResult.DONE
    assert await assert_runs_once(lab) == destination
    await asyncio.to_thread(assert_nothing_was_lost, lab)
