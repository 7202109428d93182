"""Moving a lab's guests with their disks, and checking what has arrived."""

import asyncio
import subprocess
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from transhume.daemon.composition import transport_of
from transhume.deployment.loader import load_deployment
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.hypervisor.options import Disks, MigrationOptions
from transhume.execute.hypervisor.protocol import JobSample
from transhume.execute.migration.transport import Direct
from transhume.execute.overlay import VxlanOverlay
from transhume.knowledge.model import HostName, Measurement, VmName
from transhume.lab.guests import Counter, hypervisor
from transhume.lab.lab import Lab
from transhume.lab.spec import DiskSpec, LabSpec, plan_lab
from transhume.reach.libvirt import Connections

T = TypeVar("T")
MIB = 1 << 20
A1, B1 = HostName("a1"), HostName("b1")
VM1, VM2 = VmName("vm1"), VmName("vm2")
COPY = MigrationOptions(disks=Disks.COPY)


def with_disk() -> LabSpec:
    """vm1 has a disk over the image; vm2 has none, and works hard on its memory."""
    plain = plan_lab(
        clouds=2,
        vms=2,
        clusters=1,
        memory_mib=192,
        wan_bytes_per_second=40 * MIB,
        gateways=True,
    )
    one, two = (replace(guest, sends={}) for guest in plain.guests)
    disk = DiskSpec(own_mib=6, own_bytes_per_second=2 * MIB)
    busy = replace(two, memory_mib=112, dirty_bytes_per_second=16 * MIB)
    return replace(plain, guests=(replace(one, disk=disk), busy))


def at_hosts(
    lab: Lab, what: Callable[[LibvirtHosts], Awaitable[T]], *, by_gateways: bool = False
) -> T:
    """Do something with the lab's hosts."""

    async def act() -> T:
        deployment = load_deployment(lab.deployment)
        connections = Connections(deployment.hypervisors)
        transport = transport_of(deployment) if by_gateways else Direct()
        try:
            return await what(LibvirtHosts(connections, transport))
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
    by_gateways: bool = False,
) -> Measurement:
    """Move a guest, and let frames find it if it is one of the lab's."""
    measured = at_hosts(
        lab,
        lambda hosts: hosts.migrate(vm, source, destination, on_sample, options),
        by_gateways=by_gateways,
    )
    if vm in {guest.name for guest in lab.spec.guests}:
        overlay = VxlanOverlay(lab.network)
        asyncio.run(overlay.bind([lab.spec.guest(vm).mac], destination.rstrip("1")))
    return measured


def file_of(lab: Lab, cloud: str, name: str) -> Path:
    """Return where a cloud's file is that its guests have as a disk."""
    return lab.cloud(cloud).home / "disks" / name


def allocated_bytes(path: Path) -> int:
    """Return what a file takes."""
    return path.stat().st_blocks * 512


def counter(lab: Lab, vm: VmName, role: str) -> Counter:
    """Return what a guest has counted in a role."""
    return next(found for found in lab.counters(vm) if found.role == role)


def assert_files_are_read_back_as_written(lab: Lab, vm: VmName) -> None:
    """Wait until every file of the guest's has been verified after now, and written to again."""
    before, deadline = counter(lab, vm, "disk"), time.monotonic() + 300
    while (now := counter(lab, vm, "disk")).sweeps < before.sweeps + 2:
        assert time.monotonic() < deadline, (before, now)
        time.sleep(0.5)
    assert now.errors == 0
    assert now.bytes > before.bytes
    assert lab.execute(vm, "dmesg | grep -E 'I/O error|EXT4-fs (error|warning)'").output == ""


def running_at(lab: Lab) -> dict[str, tuple[str, ...]]:
    """Say which guests run in each cloud."""
    return {cloud.name: cloud.guests for cloud in lab.status()}


def end_with_a_clean_disk(lab: Lab, vm: VmName, cloud: str) -> Path:
    """Let a guest write all out and leave its disk alone, end it, and return the disk's file."""
    lab.execute(vm, "sync; echo u >/proc/sysrq-trigger; sleep 2")
    with hypervisor(lab.cloud(cloud).uri) as connection:
        connection.lookupByName(vm).destroy()
    return file_of(lab, cloud, f"{vm}.qcow2")


def assert_file_system_is_clean(disk: Path, plain: Path) -> None:
    """Check a qcow2 file that nobody uses, and the file system in it; leave what it holds as `plain`."""
    subprocess.run(["qemu-img", "check", "-q", disk], check=True)
    subprocess.run(["qemu-img", "convert", "-O", "raw", disk, plain], check=True)
    checked = subprocess.run(["e2fsck", "-fn", plain], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout
