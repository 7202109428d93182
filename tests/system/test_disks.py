"""Guests whose disks go along, by libvirt's own NBD, and the options of migrations as hypervisors obey them."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.migration.methods import ByLibvirt, Told, by_libvirt
from tests.system.disk_moves import (
    A1,
    B1,
    COPY,
    MIB,
    VM1,
    VM2,
    allocated_bytes,
    assert_file_system_is_clean,
    assert_files_are_read_back_as_written,
    at_hosts,
    counter,
    end_with_a_clean_disk,
    file_of,
    move,
    running_at,
    with_disk,
)
from tests.system.running import RunningDaemon, deployment_of, knowledge, until, write_pin
from transhume.daemon.composition import transport_of
from transhume.deployment.loader import load_deployment
from transhume.deployment.model import NO_COMMON_FILES, CommonFiles
from transhume.errors import DirtyRateUnknown, DiskUseUnknown, MoveFailed
from transhume.execute.hypervisor.disk_copying import DiskCopying
from transhume.execute.hypervisor.disks import Copies
from transhume.execute.hypervisor.left_copies import NAMESPACE, PREFIX, write_record
from transhume.execute.hypervisor.options import (
    AutoConverge,
    Compression,
    MigrationOptions,
)
from transhume.execute.hypervisor.protocol import JobSample
from transhume.execute.migration.splitting import PAGE_BYTES
from transhume.execute.overlay import VxlanOverlay
from transhume.knowledge.model import HostName, Measurement, Outcome, Prediction, VmName
from transhume.knowledge.store import Store
from transhume.lab.disks import DISKS, IMAGE, cached_image
from transhume.lab.domain_xml import domain_xml
from transhume.lab.guests import hypervisor
from transhume.lab.lab import Lab
from transhume.lab.narration import silent
from transhume.lab.root import cached_root
from transhume.reach.libvirt import Connections

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
]

LAB = with_disk()
VM3 = VmName("vm3")
OVER_IMAGE = replace(COPY, common_files=CommonFiles(base_images=(IMAGE,)))


def test_a_host_tells_how_much_disks_hold(lab: Lab) -> None:
    """All of it, and what is over the image that all hosts have; a mistake is told with its reason."""
    over = allocated_bytes(file_of(lab, "a", "vm1.qcow2"))
    beneath = allocated_bytes(cached_image(cached_root(silent), silent))

    def held(common: CommonFiles) -> int:
        return at_hosts(lab, lambda h: h.disk_use(VM1, A1, common))

    assert held(OVER_IMAGE.common_files) == pytest.approx(over, abs=8 * MIB), "the guest writes"
    assert held(NO_COMMON_FILES) == pytest.approx(over + beneath, abs=8 * MIB)
    assert held(CommonFiles(shared_folders=(DISKS,))) == 0
    with pytest.raises(DiskUseUnknown, match="nobody"):
        at_hosts(lab, lambda h: h.disk_use(VmName("nobody"), A1, NO_COMMON_FILES))


def test_a_disk_over_an_image_that_both_sites_have_goes_along_by_what_is_over_it(lab: Lab) -> None:
    measured = move(lab, VM1, A1, B1, OVER_IMAGE)

    assert_files_are_read_back_as_written(lab, VM1)
    assert "vm1" in running_at(lab)["b"]
    assert not file_of(lab, "a", "vm1.qcow2").exists(), "the move leaves nothing behind"
    assert allocated_bytes(file_of(lab, "b", "vm1.qcow2")) < 100 * MIB
    assert measured.bytes > 16 * MIB
    assert measured.disk_bytes
    assert 0 < measured.memory_bytes < measured.bytes


def test_a_move_whose_time_is_up_leaves_the_guest_and_nothing_at_the_destination(lab: Lab) -> None:
    limited = replace(COPY, time_limit_seconds=3.0, bytes_per_second=4 * MIB)
    with pytest.raises(MoveFailed, match="aborted: not done in 3 s"):
        move(lab, VM1, B1, A1, limited)

    assert not file_of(lab, "a", "vm1.qcow2").exists()
    assert "vm1" in running_at(lab)["b"]
    assert_files_are_read_back_as_written(lab, VM1)


def test_a_file_of_the_same_name_is_not_overwritten(lab: Lab) -> None:
    """Nobody but its owner knows what it is: the VM's own file there was removed after it had left."""
    stranger = file_of(lab, "a", "vm1.qcow2")
    stranger.write_bytes(b"somebody's")
    try:
        with pytest.raises(MoveFailed, match="isn't overwritten"):
            move(lab, VM1, B1, A1, COPY)
        assert stranger.read_bytes() == b"somebody's"
    finally:
        stranger.unlink()
    assert "vm1" in running_at(lab)["b"]


def test_without_a_known_image_the_whole_disk_goes_along_and_a_stale_copy_is_replaced(
    lab: Lab,
) -> None:
    """The copy there is one that a crash might have left: the VM's record knows of it."""
    _record_a_left_copy(lab, "b", A1)
    file_of(lab, "a", "vm1.qcow2").write_bytes(b"half a disk")

    measured = move(lab, VM1, B1, A1, COPY)

    assert_files_are_read_back_as_written(lab, VM1)
    moved = file_of(lab, "a", "vm1.qcow2")
    told = json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", moved]))
    assert told["virtual-size"] == 2048 * MIB
    assert "backing-filename" not in told
    assert measured.bytes > 100 * MIB
    assert not file_of(lab, "b", "vm1.qcow2").exists()


def test_through_gateways_every_block_of_a_disk_arrives_as_the_guest_left_it(lab: Lab) -> None:
    """It writes while it is moved, and is held at the destination until both disks have been compared."""
    left, arrived = (file_of(lab, cloud, "vm1.qcow2") for cloud in "ab")
    allocated = allocated_bytes(left)

    measured = asyncio.run(_moved_by_gateways_and_held(lab))

    with hypervisor(lab.cloud("b").uri) as connection:
        domain = connection.lookupByName(VM1)
        _flush_disks(domain)
        compared = ["qemu-img", "compare", "-U", "-s", str(left), str(arrived)]
        assert subprocess.run(compared, check=False).returncode == 0
        domain.resume()
    left.unlink()
    assert_files_are_read_back_as_written(lab, VM1)
    memory, disks = measured.memory, measured.disks
    assert memory is not None
    assert disks is not None
    assert disks.raw_bytes > allocated
    assert disks.site_pages * PAGE_BYTES > 0.8 * allocated, "the image is at both sites"
    assert measured.disk_bytes == disks.wire_bytes < allocated / 5
    assert memory.raw_bytes > 16 * MIB
    assert memory.wire_bytes == measured.memory_bytes > disks.wire_bytes / 10


async def _moved_by_gateways_and_held(lab: Lab) -> Measurement:
    held = Told(flags=("VIR_MIGRATE_PAUSED",))
    transport = transport_of(load_deployment(lab.deployment))
    options = replace(COPY, keep_left_copies=True)
    async with by_libvirt(held, transport)(lab) as method:
        assert isinstance(method, ByLibvirt)
        measured = await method.hosts.migrate(VM1, A1, B1, lambda _sample: None, options)
    await VxlanOverlay(lab.network).bind([lab.spec.guest(VM1).mac], "b")
    return measured


def _flush_disks(domain: object) -> None:
    """Have a hypervisor write out what it still knows of the tables of its disks."""
    import libvirt_qemu

    told = libvirt_qemu.qemuMonitorCommand(domain, '{"execute": "query-block"}', 0)
    for device in json.loads(told)["return"]:
        words = f"qemu-io {device['inserted']['node-name']} flush"
        libvirt_qemu.qemuMonitorCommand(
            domain, words, libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
        )


COPYING = "policy: copying\nmode: auto\nmigration: {disks: copy}\n"


def test_a_daemon_predicts_what_a_disk_takes_and_learns_from_what_it_took(
    lab: Lab, tmp_path: Path
) -> None:
    """At first all that the disk holds, and for the way back no more than most of it took on the way out."""
    allocated = allocated_bytes(file_of(lab, "b", "vm1.qcow2"))
    policies, state = tmp_path / "policies", tmp_path / "state"
    policies.mkdir()
    (policies / "copying.yaml").write_text(COPYING)
    config = deployment_of(lab, tmp_path, disks={"base_images": [IMAGE]})
    with RunningDaemon(config, policies, tmp_path / "log") as daemon:
        held = asyncio.run(_disk_bytes(state))
        out_predicted, out_measured = _moved_by_policy(lab, state, policies, "a")
        back_predicted, back_measured = _moved_by_policy(lab, state, policies, "b")
        assert daemon.stop() == 0, daemon.log
    assert held == pytest.approx(allocated, abs=16 * MIB)
    assert out_predicted.disk_bytes == pytest.approx(allocated, abs=16 * MIB)
    assert out_measured.disk_bytes
    assert out_measured.disks is not None
    site_bytes = out_measured.disks.site_pages * PAGE_BYTES
    assert site_bytes > 0.8 * allocated, "the image is at both sites"
    assert back_predicted.disk_bytes == pytest.approx(out_measured.disk_bytes, rel=0.2)
    assert back_measured.disk_bytes is not None
    assert_files_are_read_back_as_written(lab, VM1)


async def _disk_bytes(state: Path) -> int:
    async with Store.connect(await knowledge(state)) as store:

        async def told() -> int | None:
            vm = (await store.snapshot()).vms.get(VM1)
            return vm.disk_bytes or None if vm is not None else None

        return await until(told, "the daemon to know what the disk holds")


def _moved_by_policy(
    lab: Lab, state: Path, policies: Path, cloud: str
) -> tuple[Prediction, Measurement]:
    """Have the daemon move the guest to a cloud; return what it predicted and measured."""
    write_pin(policies, VM1, cloud)

    async def arrived() -> tuple[Prediction, Measurement]:
        async with Store.connect(await knowledge(state)) as store:

            async def ended() -> Outcome | None:
                return next(
                    (o for o in await store.outcomes() if o.destination == f"{cloud}1"), None
                )

            outcome = await until(ended, f"the move to {cloud}")
            assert outcome.measured is not None, outcome.why
            return outcome.predicted, outcome.measured

    return asyncio.run(arrived())


def test_at_last_the_file_system_is_clean(lab: Lab, tmp_path: Path) -> None:
    """After all these moves, with gateways and without."""
    disk = end_with_a_clean_disk(lab, VM1, "b")
    assert_file_system_is_clean(disk, tmp_path / "disk.raw")


def _record_a_left_copy(lab: Lab, cloud: str, left_at: HostName) -> None:
    import libvirt

    record = write_record([(left_at, f"{DISKS}/vm1.qcow2")])
    both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    with hypervisor(lab.cloud(cloud).uri) as connection:
        domain = connection.lookupByName(VM1)
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, record, PREFIX, NAMESPACE, both)


DISK = """<disk type='file' device='disk'><driver name='qemu' type='{format}'/><source file='{path}'/>
<target dev='{target}' bus='virtio'/>{more}</disk>"""


OWN = DISK.format(path=f"{DISKS}/own.raw", format="raw", target="vda", more="")
READ = DISK.format(path=IMAGE, format="raw", target="vdb", more="<readonly/>")
SHAREABLE = DISK.format(path=f"{DISKS}/one.raw", format="raw", target="vdc", more="<shareable/>")
UNSAID = DISK.format(path=f"{DISKS}/two.raw", format="raw", target="vdd", more="")
BOTH_SEE = ("one.raw", "two.raw")


@contextmanager
def guest_with(lab: Lab, *disks: str) -> Iterator[None]:
    """Run another guest in a; all but own.raw are one file for both clouds."""
    for name in ("own.raw", *BOTH_SEE):
        with file_of(lab, "a", name).open("wb") as file:
            file.truncate(8 * MIB)
    for name in BOTH_SEE:
        os.link(file_of(lab, "a", name), file_of(lab, "b", name))
    guest = replace(lab.spec.guests[1], number=3)
    xml = domain_xml(guest).replace("</devices>", "".join(disks) + "</devices>")
    with hypervisor(lab.cloud("a").uri) as connection:
        connection.createXML(xml)
    try:
        yield
    finally:
        for site in ("a", "b"):
            with hypervisor(lab.cloud(site).uri) as connection:
                for domain in connection.listAllDomains():
                    if domain.name() == VM3:
                        domain.destroy()
            for name in ("own.raw", *BOTH_SEE):
                file_of(lab, site, name).unlink(missing_ok=True)


def test_what_is_shared_is_left_alone_even_where_libvirt_has_doubts(lab: Lab) -> None:
    """The files lie on a file system that libvirt doesn't know as shared: it refuses, and none is touched."""

    async def needed() -> Copies:
        connections = Connections(load_deployment(lab.deployment).hypervisors)
        try:
            return await DiskCopying(connections).needed(VM3, A1, B1, COPY)
        finally:
            connections.close()

    with guest_with(lab, OWN, READ, SHAREABLE, UNSAID):
        assert [copy.target for copy in asyncio.run(needed()).disks] == ["vda"]
        with pytest.raises(MoveFailed, match=r"(?i)unsafe"):
            move(lab, VM3, A1, B1, COPY)
        assert [file_of(lab, "a", name).stat().st_nlink for name in BOTH_SEE] == [2, 2]
        assert not file_of(lab, "b", "own.raw").exists()
        assert VM3 in running_at(lab)["a"]


class Watching:
    """Asks the source's QEMU, in the middle of a migration, how it goes about it."""

    def __init__(self, lab: Lab, cloud: str) -> None:
        self._uri = lab.cloud(cloud).uri
        self.parameters: dict[str, object] = {}
        self.capabilities: dict[str, bool] = {}

    def __call__(self, sample: JobSample) -> None:
        if not sample.bytes_sent or self.parameters:
            return
        with hypervisor(self._uri) as connection:
            self.parameters = _ask(connection, "query-migrate-parameters")
            told = _ask(connection, "query-migrate-capabilities")
        self.capabilities = {one["capability"]: one["state"] for one in told}


def _ask(connection: object, command: str) -> object:
    import libvirt_qemu

    domain = connection.lookupByName(VM2)
    answer = libvirt_qemu.qemuMonitorCommand(domain, json.dumps({"execute": command}), 0)
    return json.loads(answer)["return"]


def test_several_channels_and_limits_are_in_force_while_memory_flows(lab: Lab) -> None:
    watching = Watching(lab, "a")
    options = MigrationOptions(
        channels=3,
        bytes_per_second=16 * MIB,
        downtime_limit_ms=900,
        switchover_bytes_per_second=12 * MIB,
        auto_converge=AutoConverge(initial_percent=70, increment_percent=20),
    )

    move(lab, VM2, A1, B1, options, on_sample=watching)

    assert watching.capabilities["multifd"]
    assert watching.capabilities["auto-converge"]
    wanted = {
        "multifd-channels": 3,
        "max-bandwidth": 16 * MIB,
        "downtime-limit": 900,
        "avail-switchover-bandwidth": 12 * MIB,
        "cpu-throttle-initial": 70,
        "cpu-throttle-increment": 20,
    }
    assert {name: watching.parameters[name] for name in wanted} == wanted


@pytest.mark.parametrize(
    ("options", "capability", "method"),
    [
        pytest.param(
            MigrationOptions(channels=2, compression=Compression.ZSTD), "multifd", "zstd", id="zstd"
        ),
        pytest.param(
            MigrationOptions(compression=Compression.XBZRLE), "xbzrle", "none", id="xbzrle"
        ),
    ],
)
def test_qemus_own_compressions_are_to_be_had(
    lab: Lab, options: MigrationOptions, capability: str, method: str
) -> None:
    source, destination = (A1, B1) if "vm2" in running_at(lab)["a"] else (B1, A1)
    watching = Watching(lab, source.rstrip("1"))
    slowed = replace(
        options, bytes_per_second=16 * MIB, auto_converge=AutoConverge(initial_percent=90)
    )

    move(lab, VM2, source, destination, slowed, on_sample=watching)

    assert watching.capabilities[capability]
    assert watching.parameters["multifd-compression"] == method


def test_a_guest_that_writes_too_fast_is_moved_by_post_copy(lab: Lab) -> None:
    source, destination = (A1, B1) if "vm2" in running_at(lab)["a"] else (B1, A1)
    options = MigrationOptions(
        bytes_per_second=8 * MIB, post_copy_after_seconds=4, auto_converge=None
    )

    measured = move(lab, VM2, source, destination, options)

    assert 4 < measured.seconds < 60
    assert "vm2" in running_at(lab)[destination.rstrip("1")]
    assert counter(lab, VM2, "memory").errors == 0


def test_a_guest_that_writes_too_fast_is_given_up_on_when_its_time_is_up(lab: Lab) -> None:
    source, destination = (A1, B1) if "vm2" in running_at(lab)["a"] else (B1, A1)
    options = MigrationOptions(
        bytes_per_second=4 * MIB, time_limit_seconds=4, auto_converge=None, downtime_limit_ms=50
    )

    with pytest.raises(MoveFailed, match="aborted: not done in 4 s"):
        move(lab, VM2, source, destination, options)

    assert running_at(lab)[source.rstrip("1")] == ("vm2",)
    assert counter(lab, VM2, "memory").errors == 0


def test_how_fast_a_guest_writes_is_sampled(lab: Lab) -> None:
    host = A1 if "vm2" in running_at(lab)["a"] else B1

    # Of so small a guest QEMU samples some fifty pages, and a crowded machine lets it write less than asked.
    samples = (at_hosts(lab, lambda h: h.dirty_rate(VM2, host, 2)) for _ in range(15))

    assert 1 * MIB <= next(filter(None, samples), 0) <= 112 * MIB
    with pytest.raises(DirtyRateUnknown, match="nobody"):
        at_hosts(lab, lambda h: h.dirty_rate(VmName("nobody"), host, 1))
