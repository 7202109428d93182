"""Something dies, or the WAN goes, at a random moment of a move by gateways; on real guests, again and again.

Afterwards each VM runs exactly once, nothing that it kept is lost, and the next attempt succeeds. A few rounds
each time; `TEST_EFFORT=17` for a hundred and two.
"""

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.effort import examples
from tests.system.gateways import kill_gateway, restart_gateway
from tests.system.running import (
    RunningDaemon,
    assert_nothing_was_lost,
    assert_runs_once,
    deployment_of,
    redis_in,
    settled,
    until,
    where,
    write_pin,
)
from transhume.daemon.composition import transport_of
from transhume.deployment.loader import load_deployment
from transhume.errors import LabError
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.protocol import JobSample
from transhume.execute.hypervisor.switchover import DEFAULT_LIMIT_MS, HELD_OFF_MS
from transhume.execute.migration.transport import Share
from transhume.execute.overlay import VxlanOverlay
from transhume.knowledge.model import HostName, VmName
from transhume.knowledge.store import Store
from transhume.lab.gateways import log_of
from transhume.lab.guests import Counter, hypervisor
from transhume.lab.lab import Lab
from transhume.lab.spec import UNDERLAY, LabSpec, plan_lab
from transhume.reach.libvirt import Connections

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
]

VM = "vm1"
FAULTS = (
    "source gateway",
    "destination gateway",
    "daemon",
    "WAN dropped",
    "WAN stalled",
    "destination QEMU",
)
MOVES_MIB_PER_SECOND = 12
"""However much of the memory needn't cross the WAN: moves take so long that all faults can hit them."""
LATEST_SECONDS = 2.5
"""After the memory began to flow."""
TRIES = 3
"""On a machine that is so busy that a fault comes when the move is over."""
STALL = (("sport", "7443"), ("dport", "7443"))
"""Of what a cloud sends, what is lost without a word."""


def working() -> LabSpec:
    """A guest with a working set and a writer."""
    spec = plan_lab(clouds=2, vms=1, clusters=1, gateways=True, wan_bytes_per_second=6_000_000)
    (guest,) = spec.guests
    guest = replace(guest, writer_mib=4, writer_bytes_per_second=600_000, unique_mib=4)
    return replace(spec, guests=(guest,))


LAB = working()


def in_cloud(lab: Lab, cloud: str, *words: str) -> None:
    command = ["ip", "-netns", lab.cloud(cloud).spec.netns, *words]
    subprocess.run(command, check=True, capture_output=True)


def stall(lab: Lab, cloud: str, change: str) -> None:
    """Add or delete the rules that let the gateways' packets vanish."""
    for number, (which, port) in enumerate(STALL, start=1):
        rule = ("pref", str(number), "ipproto", "tcp", which, port, "blackhole")
        in_cloud(lab, cloud, "rule", change, *rule)


def slow_down(lab: Lab, source: str) -> None:
    """Have the VM leave at no more than a certain rate, as `virsh migrate-setspeed` would."""
    with hypervisor(lab.cloud(source).uri) as connection:
        connection.lookupByName(VM).migrateSetMaxSpeed(MOVES_MIB_PER_SECOND)


def is_on_its_way(lab: Lab, source: str, destination: str) -> bool:
    """Say whether the VM runs at the source, and a QEMU at the destination waits for its memory."""
    import libvirt

    wanted = {source: libvirt.VIR_DOMAIN_RUNNING, destination: libvirt.VIR_DOMAIN_PAUSED}
    for cloud, state in wanted.items():
        with suppress(LabError), hypervisor(lab.cloud(cloud).uri) as connection:
            if connection.lookupByName(VM).state()[0] == state:
                continue
        return False
    return True


def kill_arriving(lab: Lab, source: str, destination: str) -> bool:
    """Kill the QEMU that waits for the VM's memory; say whether it still did, once it stood still."""
    pids = lab.cloud(destination).home / f"libvirt/qemu/{VM}.pid"
    arriving = int(pids.read_text())
    os.kill(arriving, signal.SIGSTOP)
    in_time = is_on_its_way(lab, source, destination)
    os.kill(arriving, signal.SIGKILL if in_time else signal.SIGCONT)
    return in_time


async def strike(
    lab: Lab, fault: str, ends: tuple[str, str], daemon: RunningDaemon, random: Random
) -> bool:
    """Have something happen that isn't undone by itself, but for the WAN that is dropped.

    Say whether it came in time.
    """
    source, destination = ends
    match fault:
        case "source gateway":
            kill_gateway(lab, source)
        case "destination gateway":
            kill_gateway(lab, destination)
        case "daemon":
            daemon.kill()
        case "WAN dropped":
            cloud = random.choice(ends)
            in_cloud(lab, cloud, "link", "set", UNDERLAY, "down")
            await asyncio.sleep(random.uniform(1.0, 8.0))
            in_cloud(lab, cloud, "link", "set", UNDERLAY, "up")
        case "WAN stalled":
            stall(lab, source, "add")
        case _:
            return await asyncio.to_thread(kill_arriving, lab, source, destination)
    return True


def repair(lab: Lab, fault: str, source: str, destination: str) -> None:
    match fault:
        case "source gateway":
            restart_gateway(lab, source)
        case "destination gateway":
            restart_gateway(lab, destination)
        case "WAN stalled":
            stall(lab, source, "del")


async def run_until(lab: Lab, config: Path, policy: Path, log: Path, url: str) -> None:
    """Run a daemon until what is open has ended, and the VM is where it was asked to be or isn't."""
    with RunningDaemon(config, policy, log) as daemon:
        async with Store.connect(url) as store:
            await until(lambda: settled(store), f"recovery\n{daemon.log}")
        assert await asyncio.to_thread(daemon.stop) == 0, daemon.log


def by_role(lab: Lab) -> dict[str, Counter]:
    return {counter.role: counter for counter in lab.counters(VM)}


async def assert_goes_on(lab: Lab, *, sweeps: int) -> None:
    """See that the VM goes on to write, and to verify what it keeps, so often, without an error ever.

    After two sweeps, one of them was wholly after now.
    """
    before = await asyncio.to_thread(by_role, lab)

    async def verified() -> bool | None:
        now = await asyncio.to_thread(by_role, lab)
        kept = [role for role in before if role in ("memory", "unique", "write")]
        assert kept
        swept = all(now[role].sweeps >= before[role].sweeps + sweeps for role in kept)
        return (swept and now["write"].bytes > before["write"].bytes) or None

    await until(verified, f"{VM} to get on after {before}", seconds=300)
    await asyncio.to_thread(assert_nothing_was_lost, lab)


async def attempt(lab: Lab, folder: Path, fault: str, random: Random) -> bool:
    """Have something happen amid a move, and see that what must hold does; False where it came too late."""
    source, destination = ("a", "b") if where(lab)[VM] == ["a"] else ("b", "a")
    policy, log = write_pin(folder, VM, destination), folder / "log"
    await asyncio.to_thread(slow_down, lab, source)
    async with redis_in(folder / "r") as redis, Store.connect(redis.url) as store:
        config = deployment_of(lab, folder, knowledge={"url": redis.url}, window="1s")
        with RunningDaemon(config, policy, log) as daemon:

            async def flowing() -> bool | None:
                return any(m.bytes_sent > 0 for m in await store.move_progress()) or None

            await until(flowing, f"memory to flow\n{daemon.log}", seconds=60)
            await asyncio.sleep(random.uniform(0, LATEST_SECONDS))
            in_time = await asyncio.to_thread(is_on_its_way, lab, source, destination)
            try:
                if in_time:
                    in_time = await strike(lab, fault, (source, destination), daemon, random)
                if fault != "daemon" or not in_time:
                    await until(lambda: settled(store), f"the end of it\n{daemon.log}")
                    assert await asyncio.to_thread(daemon.stop) == 0, daemon.log
            finally:
                if in_time:
                    await asyncio.to_thread(repair, lab, fault, source, destination)
        if fault == "daemon" and in_time:
            await run_until(lab, config, policy, log, redis.url)
        place = await assert_runs_once(lab, VM)
        await asyncio.to_thread(assert_nothing_was_lost, lab)
        how = ("moved" if place == destination else "undone") if in_time else "too late"
        print(f"\n{fault}, {source} to {destination}: {how}")
        if place != destination:
            await assert_next_attempt_succeeds(lab, store, config, policy, destination)
    assert await assert_runs_once(lab, VM) == destination
    return in_time


async def assert_next_attempt_succeeds(
    lab: Lab, store: Store, config: Path, policy: Path, destination: str
) -> None:
    log = config.with_name("log")
    with RunningDaemon(config, policy, log) as daemon:

        async def moved() -> bool | None:
            found = await asyncio.to_thread(where, lab)
            return (found[VM] == [destination] and await settled(store) is not None) or None

        logs = [log_of(lab.cloud(name)) for name in "ab"]
        await until(moved, f"the next attempt; see {log}, {logs}")
        assert await asyncio.to_thread(daemon.stop) == 0, daemon.log


@pytest.mark.parametrize("number", range(examples(len(FAULTS))))
async def test_whatever_dies_the_vm_runs_exactly_once_and_the_next_attempt_succeeds(
    lab: Lab, tmp_path: Path, number: int
) -> None:
    fault, random = FAULTS[number % len(FAULTS)], Random(number)
    for tried in range(TRIES):
        folder = tmp_path / str(tried)
        folder.mkdir()
        if await attempt(lab, folder, fault, random):
            break
    else:
        pytest.fail(f"{TRIES} times the move was over before anything happened to it")
    # Errors stay counted: what a round has spoilt is seen at the end of its series, too.
    await assert_goes_on(lab, sweeps=2 if number % len(FAULTS) == len(FAULTS) - 1 else 0)


def downtime_limit_ms(lab: Lab, cloud: str) -> int:
    with hypervisor(lab.cloud(cloud).uri) as connection:
        return int(connection.lookupByName(VM).migrateGetMaxDowntime())


async def test_a_guest_is_held_off_only_as_long_as_somebody_steers_its_move(lab: Lab) -> None:
    source, destination = ("a", "b") if where(lab)[VM] == ["a"] else ("b", "a")
    ends = HostName(f"{source}1"), HostName(f"{destination}1")
    deployment = load_deployment(lab.deployment)
    connections = Connections(deployment.hypervisors)
    hosts = LibvirtHosts(connections, transport_of(deployment))
    flowing = asyncio.Event()

    def heard(sample: JobSample) -> None:
        if sample.rounds == 1 and sample.bytes_sent > 0:
            flowing.set()

    options = MigrationOptions(
        bytes_per_second=4 << 20, share=Share(gang="g", bytes_per_second=3e6)
    )
    try:
        moving = asyncio.create_task(hosts.migrate(VmName(VM), *ends, heard, options))
        async with asyncio.timeout(60):
            await flowing.wait()
        assert downtime_limit_ms(lab, source) == HELD_OFF_MS
        moving.cancel()
        await asyncio.gather(moving, return_exceptions=True)
        assert where(lab)[VM] == [source]
        assert downtime_limit_ms(lab, source) == DEFAULT_LIMIT_MS

        # What a daemon leaves behind that dies meanwhile.
        with hypervisor(lab.cloud(source).uri) as connection:
            connection.lookupByName(VM).migrateSetMaxDowntime(HELD_OFF_MS)
        moved = await hosts.migrate(VmName(VM), *ends, lambda _: None)
    finally:
        connections.close()
    assert where(lab)[VM] == [destination]
    assert moved.transfer is not None
    (guest,) = lab.spec.guests
    await VxlanOverlay(lab.network).bind([guest.mac], destination)
    await assert_goes_on(lab, sweeps=0)
