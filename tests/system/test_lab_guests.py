"""Guests like servers, over a WAN with a delay: what they hold, and that plain live migration keeps it."""

import asyncio
import hashlib
import mmap
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from transhume.execute.overlay import VxlanOverlay
from transhume.lab import leftovers
from transhume.lab.delay import PID_FILE
from transhume.lab.guests import Counter, hypervisor
from transhume.lab.lab import Lab
from transhume.lab.spec import DiskSpec, LabSpec, plan_lab
from transhume.reach.netns import socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root"),
]

DELAY_SECONDS = 0.02
MEMORY_MIB = 256


def server_like() -> LabSpec:
    """vm1 can move without storage and works hard; vm2 has a disk of its own."""
    spec = plan_lab(
        clouds=2, vms=2, clusters=1, memory_mib=MEMORY_MIB, wan_delay_seconds=DELAY_SECONDS
    )
    one, two = (replace(guest, sends={}, unique_mib=8) for guest in spec.guests)
    busy = replace(
        one, writer_mib=8, writer_bytes_per_second=1_000_000, disk=DiskSpec(writable=False)
    )
    return replace(spec, guests=(busy, replace(two, working_set_mib=0, disk=DiskSpec(own_mib=2))))


LAB = server_like()


def migrate(lab: Lab, vm: str, source: str, destination: str, *, storage: bool = False) -> None:
    import libvirt

    flags = libvirt.VIR_MIGRATE_NON_SHARED_INC if storage else 0
    flags |= libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER
    flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    peer = lab.cloud(destination).spec.peer_uri
    with hypervisor(lab.cloud(source).uri) as connection:
        connection.lookupByName(vm).migrateToURI3(peer, {}, flags)
    asyncio.run(VxlanOverlay(lab.network).bind([lab.spec.guest(vm).mac], destination))


def by_role(lab: Lab, vm: str) -> dict[str, Counter]:
    return {counter.role: counter for counter in lab.counters(vm)}


def verified_anew(lab: Lab, vm: str) -> dict[str, Counter]:
    """Wait until everything that a guest keeps has been verified, wholly after now."""
    before = by_role(lab, vm)
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        now = by_role(lab, vm)
        # The first round to end may have begun before; the second has seen all.
        if all(now[role].sweeps >= counter.sweeps + 2 for role, counter in before.items()):
            return now
        time.sleep(0.5)
    raise AssertionError(f"{vm} doesn't get on: {before}, {by_role(lab, vm)}")


def qemu_of(lab: Lab, vm: str) -> int:
    folder = lab.cloud("a").home / "libvirt/qemu"
    return int((folder / f"{vm}.pid").read_text())


def memory_of(pid: int) -> Path:
    """Find the memfd that is a guest's memory, as pre-warming does."""
    found = [
        path
        for path in Path(f"/proc/{pid}/fd").iterdir()
        if "memfd:" in str(path.readlink()) and path.stat().st_size == MEMORY_MIB << 20
    ]
    assert len(found) == 1
    return found[0]


def connect_seconds(lab: Lab) -> float:
    here, there = (lab.cloud(name).spec for name in ("a", "b"))
    with socket_in(there.netns) as server, socket_in(here.netns) as client:
        server.bind((there.address, 7100))
        server.listen(1)
        began = time.monotonic()
        client.connect((there.address, 7100))
        return time.monotonic() - began


def test_nothing_comes_back_before_the_delay_has_passed_twice(lab):
    assert connect_seconds(lab) >= 2 * DELAY_SECONDS


def test_the_image_of_the_disk_is_in_the_memory_that_the_memfd_shows(lab):
    """Page for page: what a site knows of the image, it knows of the guest."""
    answer = lab.execute(
        "vm1", "dd if=/disk/usr/bin/perl bs=4096 skip=100 count=1 2>/dev/null | md5sum"
    )
    pages = memory_of(qemu_of(lab, "vm1"))
    with pages.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as memory:
        digests = {
            hashlib.md5(memory[at : at + 4096], usedforsecurity=False).hexdigest()
            for at in range(0, len(memory), 4096)
        }

    assert answer.output.split()[0] in digests


def test_all_that_a_busy_guest_keeps_survives_migration_there_and_back(lab):
    for source, destination in (("a", "b"), ("b", "a")):
        written = by_role(lab, "vm1")["write"].bytes
        migrate(lab, "vm1", source, destination)
        now = verified_anew(lab, "vm1")

        assert set(now) == {"memory", "unique", "write"}
        assert [counter for counter in now.values() if counter.errors] == []
        assert now["write"].bytes > written


def test_a_disk_is_in_its_cloud_alone_and_its_files_are_read_back_as_written(lab):
    now = verified_anew(lab, "vm2")

    assert [counter for counter in now.values() if counter.errors] == []
    assert now["disk"].bytes >= 2 << 20
    assert (lab.cloud("a").home / "disks/vm2.qcow2").exists()
    assert not (lab.cloud("b").home / "disks/vm2.qcow2").exists()


def test_a_disk_moves_with_its_guest_and_back(lab):
    """Without a transport of ours: the control run for storage."""
    for source, destination in (("a", "b"), ("b", "a")):
        lab.make_room("vm2", destination)
        written = by_role(lab, "vm2")["disk"].bytes
        migrate(lab, "vm2", source, destination, storage=True)
        now = verified_anew(lab, "vm2")

        assert [counter for counter in now.values() if counter.errors] == []
        assert now["disk"].bytes >= written


def test_what_delays_the_wan_ends_with_the_lab(lab):
    pid = int((lab.state / PID_FILE).read_text())
    assert pid in leftovers.find_processes(lab.state)

    lab.down()

    assert leftovers.find_processes(lab.state) == ()
    assert not Path(f"/proc/{pid}/exe").exists()
