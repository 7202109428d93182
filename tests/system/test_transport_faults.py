"""Something dies, or the WAN goes, at a random moment of a move by gateways; on real guests, again and again.

Afterwards each VM runs exactly once, nothing that it kept is lost, and the next attempt succeeds. A few rounds
each time; `TEST_EFFORT=17` for a hundred and two.
"""

import asyncio
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from tests.effort import examples
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
from transhume.knowledge.server import ServerAddress, find_program, run_server
from transhume.knowledge.store import Store
from transhume.lab import leftovers
from transhume.lab.gateways import CONFIGURATION, CONTROL, log_of, start_gateway, wait_for_gateway
from transhume.lab.guests import Counter, hypervisor
from transhume.lab.lab import Lab
from transhume.lab.network import lab_namespaces
from transhume.lab.spec import UNDERLAY, LabSpec, plan_lab

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
LATEST_SECONDS = 1.5
"""After the memory began to flow."""
STALL = (("sport", "7443"), ("dport", "7443"))
"""Of what a cloud sends, what is lost without a word."""


def working() -> LabSpec:
    """A guest with a working set and a writer, over a WAN on which moves take some seconds."""
    spec = plan_lab(clouds=2, vms=1, clusters=1, gateways=True, wan_bytes_per_second=6_000_000)
    (guest,) = spec.guests
    guest = replace(guest, writer_mib=8, writer_bytes_per_second=300_000, unique_mib=4)
    return replace(spec, guests=(guest,))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert lab_namespaces() == (), "a lab is up, and this would remove it: transhume lab down"
    built = Lab(tmp_path_factory.mktemp("lab") / "state")
    try:
        built.up(working())
        yield built
    finally:
        built.down()


@pytest.fixture
async def redis(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[ServerAddress]:
    program = find_program()
    assert program is not None, "apt-get install redis-server"
    async with run_server(program, tmp_path_factory.mktemp("r")) as address:
        yield address


def in_cloud(lab: Lab, cloud: str, *words: str) -> None:
    command = ["ip", "-netns", lab.cloud(cloud).spec.netns, *words]
    subprocess.run(command, check=True, capture_output=True)


def stall(lab: Lab, cloud: str, change: str) -> None:
    """Add or delete the rules that let the gateways' packets vanish."""
    for number, (which, port) in enumerate(STALL, start=1):
        rule = ("pref", str(number), "ipproto", "tcp", which, port, "blackhole")
        in_cloud(lab, cloud, "rule", change, *rule)


def kill_gateway(lab: Lab, cloud: str) -> None:
    configuration = str(lab.cloud(cloud).home / CONFIGURATION)
    found = [
        pid
        for pid in leftovers.find_processes(lab.state)
        if configuration in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    ]
    assert len(found) == 1, found
    os.kill(found[0], signal.SIGKILL)


def restart_gateway(lab: Lab, cloud: str) -> None:
    (lab.cloud(cloud).home / CONTROL).unlink(missing_ok=True)
    start_gateway(lab.cloud(cloud))
    wait_for_gateway(lab.cloud(cloud))


def kill_arriving(lab: Lab, source: str, destination: str) -> bool:
    """Kill the QEMU that waits for the VM's memory; False where the VM is about to be there, or is."""
    import libvirt

    with hypervisor(lab.cloud(source).uri) as here, hypervisor(lab.cloud(destination).uri) as there:
        names = {domain.name() for domain in there.listAllDomains()}
        if VM not in names or VM not in {domain.name() for domain in here.listAllDomains()}:
            return False
        states = [each.lookupByName(VM).state()[0] for each in (here, there)]
        if states != [libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_PAUSED]:
            return False
        pids = lab.cloud(destination).home / f"libvirt/qemu/{VM}.pid"
        os.kill(int(pids.read_text()), signal.SIGKILL)
        return True


async def strike(
    lab: Lab, fault: str, ends: tuple[str, str], daemon: RunningDaemon, random: Random
) -> None:
    """Have something happen that isn't undone by itself, but for the WAN that is dropped."""
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
            killed = await asyncio.to_thread(kill_arriving, lab, source, destination)
            print("" if killed else "\nit came too late")


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

    await until(verified, f"{VM} to get on after {before}", seconds=90)
    await asyncio.to_thread(assert_nothing_was_lost, lab)


@pytest.mark.parametrize("number", range(examples(len(FAULTS))))
async def test_whatever_dies_the_vm_runs_exactly_once_and_the_next_attempt_succeeds(
    lab: Lab, tmp_path: Path, redis: ServerAddress, number: int
) -> None:
    fault, random = FAULTS[number % len(FAULTS)], Random(number)
    source, destination = ("a", "b") if where(lab)[VM] == ["a"] else ("b", "a")
    policy, log = write_pin(tmp_path, VM, destination), tmp_path / "log"
    config = deployment_of(lab, tmp_path, knowledge={"url": redis.url})
    async with Store.connect(redis.url) as store:
        with RunningDaemon(config, policy, log) as daemon:

            async def flowing() -> bool | None:
                return any(m.bytes_sent > 0 for m in await store.move_progress()) or None

            await until(flowing, f"memory to flow\n{daemon.log}", seconds=60)
            await asyncio.sleep(random.uniform(0, LATEST_SECONDS))
            try:
                await strike(lab, fault, (source, destination), daemon, random)
                if fault != "daemon":
                    await until(lambda: settled(store), f"the end of it\n{daemon.log}")
                    assert await asyncio.to_thread(daemon.stop) == 0, daemon.log
            finally:
                await asyncio.to_thread(repair, lab, fault, source, destination)
        if fault == "daemon":
            await run_until(lab, config, policy, log, redis.url)
        place = await assert_runs_once(lab, VM)
        await asyncio.to_thread(assert_nothing_was_lost, lab)
        print(f"\n{number} {fault}: {'moved' if place == destination else 'undone'}")
        if place != destination:
            with RunningDaemon(config, policy, log) as daemon:

                async def moved() -> bool | None:
                    found = await asyncio.to_thread(where, lab)
                    return (found[VM] == [destination] and await settled(store) is not None) or None

                logs = [log_of(lab.cloud(name)) for name in "ab"]
                await until(moved, f"the next attempt; see {log}, {logs}")
                assert await asyncio.to_thread(daemon.stop) == 0, daemon.log
    assert await assert_runs_once(lab, VM) == destination
    # Errors stay counted: what a round has spoilt is seen at the end of its series, too.
    await assert_goes_on(lab, sweeps=2 if number % len(FAULTS) == len(FAULTS) - 1 else 0)
