"""The lab itself, and live migration in it by plain libvirt: the control run, without any transport of ours."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.system.running import assert_nothing_was_lost
from transhume.errors import LabError, UsageError
from transhume.execute.overlay import VxlanOverlay
from transhume.lab import leftovers
from transhume.lab.guests import Counter, hypervisor
from transhume.lab.lab import Lab
from transhume.lab.network import lab_namespaces
from transhume.lab.outside import OutsideConnection
from transhume.lab.spec import plan_lab

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root"),
]

LAB = plan_lab(clouds=2, vms=2, clusters=1, wan_bytes_per_second=25_000_000)
MIB_PER_SECOND = 10
"""Slow enough for a migration of several seconds, in which QEMU before 9.0 loses pages."""

MIGRATE = """
import libvirt, sys
flags = (
    libvirt.VIR_MIGRATE_LIVE
    | libvirt.VIR_MIGRATE_PEER2PEER
    | libvirt.VIR_MIGRATE_PERSIST_DEST
    | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
)
source, vm, destination, bandwidth = sys.argv[1:]
parameters = {libvirt.VIR_MIGRATE_PARAM_BANDWIDTH: int(bandwidth)}
libvirt.open(source).lookupByName(vm).migrateToURI3(destination, parameters, flags)
"""


def start_migration(lab: Lab, vm: str, source: str, destination: str) -> subprocess.Popen[bytes]:
    words = [lab.cloud(source).uri, vm, lab.cloud(destination).spec.peer_uri, str(MIB_PER_SECOND)]
    return subprocess.Popen([sys.executable, "-c", MIGRATE, *words])


def bind(lab: Lab, vm: str, cloud: str) -> tuple[str, ...]:
    overlay, macs = VxlanOverlay(lab.network), [lab.spec.guest(vm).mac]

    async def bind_and_check() -> tuple[str, ...]:
        await overlay.bind(macs, cloud)
        return await overlay.check(macs, cloud)

    return asyncio.run(bind_and_check())


def migrate(lab: Lab, vm: str, source: str, destination: str) -> float:
    began = time.monotonic()
    with start_migration(lab, vm, source, destination) as migration:
        assert migration.wait(timeout=300) == 0
    assert bind(lab, vm, destination) == ()
    return time.monotonic() - began


def guests_by_cloud(lab: Lab) -> dict[str, tuple[str, ...]]:
    return {cloud.name: cloud.guests for cloud in lab.status()}


def counted(lab: Lab, vm: str, role: str) -> Counter:
    return next(counter for counter in lab.counters(vm) if counter.role == role)


def wait_until(condition, *, patience_s: float = 180.0) -> bool:
    deadline = time.monotonic() + patience_s
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return found


def assert_nothing_left(lab: Lab) -> None:
    assert lab_namespaces() == ()
    assert leftovers.find_processes(lab.state) == ()
    assert not lab.state.exists()
    assert str(lab.state) not in Path("/proc/self/mountinfo").read_text()
    while any("/gcc" in line or line.startswith("gcc ") for line in named(lab)):
        time.sleep(0.1)  # it is nobody's any more, and ends by itself
    assert named(lab) == []


def named(lab: Lab) -> list[str]:
    return [line for line in processes() if str(lab.state) in line]


def processes() -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found.append(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
        except OSError:
            continue
    return found


def test_a_guest_survives_live_migration_there_and_back_with_traffic_and_memory_intact(lab):
    """Without a transport of ours: if this fails, the lab's QEMU is to blame, not we."""
    guest = lab.spec.guest("vm1")
    with OutsideConnection(guest.ip) as outside:
        for source, destination in (("a", "b"), ("b", "a")):
            took_s = migrate(lab, "vm1", source, destination)
            before = counted(lab, "vm1", "memory").sweeps
            received = counted(lab, "vm2", "receive").bytes

            assert took_s > 4, "too quick: QEMU 7.2 would have passed, too"
            assert "vm1" in guests_by_cloud(lab)[destination]
            assert "vm1" not in guests_by_cloud(lab)[source]
            # The first sweep to end may have begun before the move; the second has seen all of the memory.
            assert wait_until(lambda n=before: counted(lab, "vm1", "memory").sweeps >= n + 2)
            assert wait_until(lambda n=received: counted(lab, "vm2", "receive").bytes > n)
        survived = outside.survived()

    assert survived.failure is None
    assert survived.bytes > 100_000
    assert_nothing_was_lost(lab)


def test_a_migration_goes_on_when_the_client_that_asked_for_it_is_killed(lab):
    """Which is why, after a crash, the executor must wait for what is under way before it judges."""
    migration = start_migration(lab, "vm2", "a", "b")
    with hypervisor(lab.cloud("a").uri) as connection:
        domain = connection.lookupByName("vm2")
        assert wait_until(lambda: domain.jobStats().get("memory_processed", 0) > 0)
        migration.send_signal(signal.SIGKILL)
        migration.wait()

        assert wait_until(lambda: "vm2" in guests_by_cloud(lab)["b"])
        assert wait_until(lambda: "vm2" not in guests_by_cloud(lab)["a"])
    assert bind(lab, "vm2", "b") == ()
    assert lab.execute("vm2", "echo alive").output == "alive\n"


def test_a_command_in_a_guest_gives_its_output_and_exit_status(lab):
    answer = lab.execute("vm1", "hostname; exit 3")

    assert (answer.output, answer.status) == ("vm1\n", 3)


def test_an_unknown_guest_is_refused_with_the_names_of_those_there_are(lab):
    with pytest.raises(UsageError, match="no VM vm9; it has vm1, vm2"):
        lab.execute("vm9", "true")


def test_a_second_lab_is_refused(lab):
    with pytest.raises(LabError, match="there is a lab already"):
        Lab(lab.state.with_name("other")).up(LAB)


def test_the_deployment_file_describes_the_lab(lab):
    from transhume.deployment.loader import load_deployment

    found = load_deployment(lab.deployment)

    assert found.networks == (lab.network,)
    assert {h.uri for h in found.hypervisors} == {lab.cloud("a").uri, lab.cloud("b").uri}


class TestWithoutTheSharedLab:
    """Each of these builds a lab of its own: they come last, and need the shared one to be gone."""

    @pytest.fixture(autouse=True)
    def _no_shared_lab(self, lab):
        lab.down()

    def test_down_leaves_nothing_and_may_be_repeated(self, tmp_path):
        lab = Lab(tmp_path / "state")
        lab.up(plan_lab(clouds=1, vms=1, clusters=1))

        lab.down()
        assert_nothing_left(lab)
        lab.down()
        assert_nothing_left(lab)

    @pytest.mark.parametrize(
        "stage", ["network", "the guests' kernel", "libvirt daemons", "overlay", "guests"]
    )
    def test_down_finds_what_a_killed_up_has_left(self, tmp_path, stage):
        lab = Lab(tmp_path / "state")
        self.kill_up_at(stage, lab.state)

        lab.down()

        assert_nothing_left(lab)

    def kill_up_at(self, stage: str, state: Path) -> None:
        code = (
            "import sys; from pathlib import Path\n"
            "from transhume.lab.lab import Lab; from transhume.lab.spec import plan_lab\n"
            "Lab(Path(sys.argv[1])).up(plan_lab(clouds=2, vms=2, clusters=1, wan_delay_seconds=0.005),\n"
            "    lambda stage, detail='': print(stage, flush=True))"
        )
        with subprocess.Popen(
            [sys.executable, "-c", code, str(state)], stdout=subprocess.PIPE, text=True
        ) as up:
            assert up.stdout is not None
            assert any(line.startswith(stage) for line in up.stdout)
            up.kill()
