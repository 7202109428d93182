"""Guests whose disks go along, by libvirt's own NBD, and the options of migrations as hypervisors obey them."""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import pytest

from transhume.deployment.loader import load_deployment
from transhume.errors import DirtyRateUnknown, MoveFailed
from transhume.execute.hypervisor.disk_copying import DiskCopying
from transhume.execute.hypervisor.disks import Copies
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.hypervisor.options import (
    AutoConverge,
    Compression,
    Disks,
    MigrationOptions,
)
from transhume.execute.hypervisor.protocol import JobSample
from transhume.execute.migration.transport import Direct
from transhume.execute.overlay import VxlanOverlay
from transhume.knowledge.model import HostName, Measurement, VmName
from transhume.lab.disks import DISKS, IMAGE
from transhume.lab.domain_xml import domain_xml
from transhume.lab.guests import Counter, hypervisor
from transhume.lab.lab import Lab
from transhume.lab.network import lab_namespaces
from transhume.lab.spec import DiskSpec, LabSpec, plan_lab
from transhume.reach.libvirt import Connections

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
]

T = TypeVar("T")
MIB = 1 << 20
A1, B1 = HostName("a1"), HostName("b1")
VM1, VM2, VM3 = VmName("vm1"), VmName("vm2"), VmName("vm3")
COPY = MigrationOptions(disks=Disks.COPY)
OVER_IMAGE = replace(COPY, base_images=(IMAGE,))


def spec() -> LabSpec:
    """vm1 has a disk over the image; vm2 has none, and works hard on its memory."""
    plain = plan_lab(clouds=2, vms=2, clusters=1, memory_mib=192, wan_bytes_per_second=40 * MIB)
    one, two = (replace(guest, sends={}) for guest in plain.guests)
    disk = DiskSpec(own_mib=16, own_bytes_per_second=2 * MIB)
    busy = replace(two, memory_mib=112, dirty_bytes_per_second=16 * MIB)
    return replace(plain, guests=(replace(one, disk=disk), busy))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    assert lab_namespaces() == (), "a lab is up, and this would remove it: transhume lab down"
    built = Lab(tmp_path_factory.mktemp("lab") / "state")
    try:
        built.up(spec())
        yield built
    finally:
        built.down()


def at_hosts(lab: Lab, what: Callable[[LibvirtHosts], Awaitable[T]]) -> T:
    """Do something with the lab's hosts."""

    async def act() -> T:
        connections = Connections(load_deployment(lab.deployment).hypervisors)
        try:
            return await what(LibvirtHosts(connections, Direct()))
        finally:
            connections.close()

    return asyncio.run(act())


def move(
    lab: Lab,
    vm: VmName,
    source: HostName,
    destination: HostName,
    options: MigrationOptions,
    *,
    on_sample: Callable[[JobSample], None] = lambda _sample: None,
) -> Measurement:
    """Move a guest, and let frames find it."""
    measured = at_hosts(lab, lambda h: h.migrate(vm, source, destination, on_sample, options))
    if vm != VM3:
        overlay = VxlanOverlay(lab.network)
        asyncio.run(overlay.bind([lab.spec.guest(vm).mac], destination.rstrip("1")))
    return measured


def file_of(lab: Lab, cloud: str, name: str) -> Path:
    return lab.cloud(cloud).home / "disks" / name


def allocated_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


def counter(lab: Lab, vm: VmName, role: str) -> Counter:
    return next(found for found in lab.counters(vm) if found.role == role)


def files_are_read_back_as_written(lab: Lab, vm: VmName) -> None:
    """Wait until every file of the guest's has been verified after now, and written to again."""
    before, deadline = counter(lab, vm, "disk"), time.monotonic() + 90
    while (now := counter(lab, vm, "disk")).sweeps < before.sweeps + 2:
        assert time.monotonic() < deadline, (before, now)
        time.sleep(0.5)
    assert now.errors == 0
    assert now.bytes > before.bytes
    assert lab.execute(vm, "dmesg | grep -E 'I/O error|EXT4-fs (error|warning)'").output == ""


def running_at(lab: Lab) -> dict[str, tuple[str, ...]]:
    return {cloud.name: cloud.guests for cloud in lab.status()}


def test_a_disk_over_an_image_that_both_sites_have_goes_along_by_what_is_over_it(lab: Lab) -> None:
    measured = move(lab, VM1, A1, B1, OVER_IMAGE)

    files_are_read_back_as_written(lab, VM1)
    assert "vm1" in running_at(lab)["b"]
    assert not file_of(lab, "a", "vm1.qcow2").exists(), "the move leaves nothing behind"
    assert allocated_bytes(file_of(lab, "b", "vm1.qcow2")) < 100 * MIB
    assert measured.bytes > 16 * MIB


def test_a_move_whose_time_is_up_leaves_the_guest_and_nothing_at_the_destination(lab: Lab) -> None:
    limited = replace(COPY, time_limit_seconds=3.0, bytes_per_second=4 * MIB)
    with pytest.raises(MoveFailed, match="aborted: not done in 3 s"):
        move(lab, VM1, B1, A1, limited)

    assert not file_of(lab, "a", "vm1.qcow2").exists()
    assert "vm1" in running_at(lab)["b"]
    files_are_read_back_as_written(lab, VM1)


def test_a_file_of_the_same_name_is_not_overwritten(lab: Lab) -> None:
    """Nobody but its owner knows what it is."""
    stranger = file_of(lab, "a", "vm1.qcow2")
    # Unlike a copy that was left there, it isn't in the VM's record: that names a1, so forget the record.
    _forget_record(lab, "b")
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
    limited = replace(COPY, time_limit_seconds=2.0, bytes_per_second=4 * MIB)
    with pytest.raises(MoveFailed, match="aborted"):
        move(lab, VM1, B1, A1, limited)
    file_of(lab, "a", "vm1.qcow2").write_bytes(b"half a disk")

    measured = move(lab, VM1, B1, A1, COPY)

    files_are_read_back_as_written(lab, VM1)
    moved = file_of(lab, "a", "vm1.qcow2")
    told = json.loads(subprocess.check_output(["qemu-img", "info", "-U", "--output=json", moved]))
    assert told["virtual-size"] == 2048 * MIB
    assert "backing-filename" not in told
    assert measured.bytes > 100 * MIB
    assert not file_of(lab, "b", "vm1.qcow2").exists()


def test_at_last_the_file_system_is_clean(lab: Lab, tmp_path: Path) -> None:
    move(lab, VM1, A1, B1, COPY)
    files_are_read_back_as_written(lab, VM1)
    lab.execute(VM1, "sync; echo u >/proc/sysrq-trigger; sleep 2")
    with hypervisor(lab.cloud("b").uri) as connection:
        connection.lookupByName(VM1).destroy()
    plain = tmp_path / "disk.raw"
    source = file_of(lab, "b", "vm1.qcow2")
    subprocess.run(["qemu-img", "check", "-q", source], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "raw", source, plain], check=True)
    checked = subprocess.run(["e2fsck", "-fn", plain], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


def _forget_record(lab: Lab, cloud: str) -> None:
    import libvirt

    from transhume.execute.hypervisor.left_copies import NAMESPACE, PREFIX

    both = libvirt.VIR_DOMAIN_AFFECT_LIVE | libvirt.VIR_DOMAIN_AFFECT_CONFIG
    with hypervisor(lab.cloud(cloud).uri) as connection:
        domain = connection.lookupByName(VM1)
        domain.setMetadata(libvirt.VIR_DOMAIN_METADATA_ELEMENT, None, PREFIX, NAMESPACE, both)


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
