"""Starting, watching and ending a real `transhume run` on a lab."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import yaml

from transhume.deployment.loader import load_deployment
from transhume.errors import KnowledgeUnreachable
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.migration.transport import Direct
from transhume.execute.overlay import VxlanOverlay
from transhume.knowledge.model import HostName, Outcome, Plan, PlanStatus, VmName
from transhume.knowledge.server import ServerAddress, find_program, find_server, run_server
from transhume.knowledge.store import Store
from transhume.lab.lab import Lab
from transhume.lab.outside import OutsideConnection
from transhume.reach.libvirt import Connections

T = TypeVar("T")

PINNED = """
policy: pinned
mode: auto
rules:
"""

TRANSHUME = (sys.executable, "-m", "transhume")


class RunningDaemon:
    """A daemon as a process of its own, with its log in a file."""

    def __init__(self, config: Path, policies: Path, log: Path) -> None:
        words = ["run", "--config", str(config), "--policies", str(policies)]
        self._log_path = log
        self._log = log.open("ab")
        self._said_before_bytes = log.stat().st_size
        self._process = subprocess.Popen(
            [*TRANSHUME, *words], stdout=self._log, stderr=self._log, start_new_session=True
        )

    def __enter__(self) -> "RunningDaemon":
        return self

    def __exit__(self, *_error: object) -> None:
        if self._process.poll() is None:
            self.kill()
        self._log.close()

    @property
    def log(self) -> str:
        """What it has told so far."""
        return self._log_path.read_text(errors="replace")

    def stop(self) -> int:
        """Ask it to end, once it has begun, and return its exit status."""
        while (
            self._log_path.stat().st_size == self._said_before_bytes
            and self._process.poll() is None
        ):
            time.sleep(0.1)
        self._process.send_signal(signal.SIGTERM)
        return self._process.wait(timeout=60)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait(timeout=60)


def deployment_of(lab: Lab, folder: Path, **changes: object) -> Path:
    """Write the lab's deployment file anew with some keys replaced.

    `rooms` sets hosts' vCPUs; `remote` names hosts whose capture is not the daemon's.
    """
    written = yaml.safe_load(lab.deployment.read_text())
    rooms, remote = changes.pop("rooms", {}), changes.pop("remote", ())
    assert isinstance(rooms, dict)
    assert isinstance(remote, tuple)
    for cloud in written["clouds"].values():
        for host, described in cloud["hosts"].items():
            if host in rooms:
                described["capacity"]["vcpus"] = rooms[host]
            described["capture"]["remote"] = host in remote
    written["knowledge"] = {"state_dir": str(folder / "state")}
    written["prices"] = {"file": str(lab.deployment.parent / "prices.yaml")}
    written |= changes
    path = folder / "transhume.yaml"
    path.write_text(yaml.safe_dump(written))
    return path


def prices(folder: Path, *rows: str) -> dict[str, str]:
    """Write a price schedule; return how a deployment file names it."""
    path = folder / "prices.yaml"
    path.write_text("\n".join(["prices:", *(f"  - {row}" for row in rows), ""]))
    return {"file": str(path)}


def where(lab: Lab) -> dict[str, list[str]]:
    """Say, for each VM, the clouds that run it (which should be one)."""
    found: dict[str, list[str]] = {}
    for cloud in lab.status():
        for guest in cloud.guests:
            found.setdefault(str(guest), []).append(str(cloud.name))
    return found


async def until(
    question: Callable[[], Awaitable[T | None]], what: str, *, seconds: float = 180.0
) -> T:
    """Ask again and again until there is an answer."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = await question()
        if answer is not None:
            return answer
        await asyncio.sleep(0.2)
    raise AssertionError(f"waited {seconds} s for {what}, in vain")


async def goes_on(connection: OutsideConnection) -> None:
    """Wait until more has come back by a connection."""
    before = connection.survived().bytes

    async def more() -> bool | None:
        found = connection.survived()
        assert found.failure is None, found.failure
        return found.bytes > before or None

    await until(more, "more from a guest by its connection")


def bring_home(lab: Lab, cloud: str) -> None:
    """Move every VM that is elsewhere to a cloud, without the daemon."""
    _bring(lab, {str(guest.name): cloud for guest in lab.spec.guests})


def gather(lab: Lab) -> None:
    """Move every VM back to where it began."""
    _bring(lab, {str(guest.name): str(guest.cloud) for guest in lab.spec.guests})


def _bring(lab: Lab, homes: Mapping[str, str]) -> None:
    async def move() -> None:
        connections = Connections(load_deployment(lab.deployment).hypervisors)
        hosts, overlay = LibvirtHosts(connections, Direct()), VxlanOverlay(lab.network)
        for vm, clouds in where(lab).items():
            home = homes[vm]
            if clouds != [home]:
                source = HostName(f"{clouds[0]}1")
                await hosts.migrate(VmName(vm), source, HostName(f"{home}1"), lambda _sample: None)
                if not lab.spec.agents:  # which see for themselves
                    await overlay.bind([lab.spec.guest(vm).mac], home)
        connections.close()

    asyncio.run(move())


@asynccontextmanager
async def redis_in(folder: Path) -> AsyncIterator[ServerAddress]:
    """Run a Redis in a folder, whose path must be short."""
    program = find_program()
    assert program is not None, "apt-get install redis-server"
    async with run_server(program, folder) as address:
        yield address


def assert_nothing_was_lost(lab: Lab) -> None:
    """Ask the guests' own counters: every byte right, no connection broken, memory intact."""
    for guest in lab.spec.guests:
        for counter in lab.counters(guest.name):
            assert counter.errors == 0, (guest.name, counter)
            assert counter.connections <= 1 or counter.role == "echo", (guest.name, counter)


def write_pin(folder: Path, vm: str, cloud: str) -> Path:
    """Ask for a VM to be in a cloud: a mandatory move, which no cool-down holds back."""
    return write_pins(folder, {vm: cloud})


def write_pins(folder: Path, cloud_of: Mapping[str, str]) -> Path:
    """Ask for VMs to be in clouds; whoever isn't named may go along with them."""
    path = folder / "pin.yaml"
    rules = "".join(f"  - pin: {{vm: {vm}, cloud: {cloud}}}\n" for vm, cloud in cloud_of.items())
    path.write_text(PINNED + rules)
    return path


async def knowledge(state: Path) -> str:
    """Return the URL of a daemon's own Redis, once it has one."""

    async def found() -> str | None:
        try:
            return find_server(None, state).url
        except KnowledgeUnreachable:
            return None

    return await until(found, "the daemon's Redis")


async def finished_plan(state: Path) -> tuple[Plan, PlanStatus, tuple[Outcome, ...]]:
    """Wait until the daemon has carried a plan out; return it with its outcomes."""
    async with Store.connect(await knowledge(state)) as store:

        async def ended() -> tuple[Plan, PlanStatus] | None:
            for stored in await store.plans():
                if stored.status in (PlanStatus.DONE, PlanStatus.UNDONE, PlanStatus.FAILED):
                    assert isinstance(stored.plan, Plan)
                    return stored.plan, stored.status
            return None

        plan, status = await until(ended, "a plan to be carried out")
        outcomes = [o for o in await store.outcomes() if o.plan == plan.id]
        return plan, status, tuple(reversed(outcomes))


async def settled(store: Store) -> PlanStatus | None:
    """Return how the plan stands once nothing of it is open."""
    latest = await store.plans(limit=1)
    if not latest or latest[0].status in (None, PlanStatus.EXECUTING):
        return None
    return None if await store.open_steps() else latest[0].status


async def assert_runs_once(lab: Lab, vm: str = "vm1") -> str:
    """Check both clouds and the overlay at every site; return the cloud of a VM."""
    found = await asyncio.to_thread(where, lab)
    assert {name: len(clouds) for name, clouds in found.items()} == {
        guest.name: 1 for guest in lab.spec.guests
    }
    for name, (cloud,) in found.items():
        faults = await VxlanOverlay(lab.network).check([lab.spec.guest(name).mac], cloud)
        assert faults == ()
    return found[vm][0]
