"""Guests' disks: what is made in which cloud, and what the image holds."""

import shutil
import subprocess
from dataclasses import replace

import pytest

from transhume.errors import LabError, UsageError
from transhume.lab.disks import Disks, cached_image, fill_image, receiving_command
from transhume.lab.narration import silent
from transhume.lab.root import Root
from transhume.lab.spec import IMAGE_MIB, DiskSpec, plan_lab


def commands(tmp_path, cloud: str, *disks: DiskSpec | None) -> list[str]:
    spec = plan_lab(clouds=2, vms=len(disks))
    guests = [replace(guest, disk=disk) for guest, disk in zip(spec.guests, disks, strict=True)]
    found = Disks(image=tmp_path / "image", guests=tuple(guests)).commands(spec.cloud(cloud).name)
    return [command for command in found if command.startswith("chroot")]


def test_disks_are_made_where_their_guests_start_and_nowhere_else(tmp_path):
    assert len(commands(tmp_path, "a", DiskSpec(), DiskSpec())) == 2
    assert commands(tmp_path, "b", DiskSpec(), DiskSpec()) == []


def test_a_guest_without_a_disk_or_with_the_image_itself_needs_none(tmp_path):
    assert commands(tmp_path, "a", None, DiskSpec(writable=False)) == []


def test_a_disk_refers_to_the_image_unless_it_is_to_be_a_copy(tmp_path):
    (backed,) = commands(tmp_path, "a", DiskSpec(size_mib=4096), None)
    copied, resized = commands(tmp_path, "a", DiskSpec(size_mib=4096, backed=False), None)

    assert "-b /opt/disks/base.img" in backed
    assert backed.endswith("4096M")
    assert "convert" in copied
    assert resized.endswith("4096M")


def test_room_for_storage_that_arrives_is_empty_beyond_what_the_image_has():
    guest = plan_lab(vms=1, clusters=1).guests[0]
    backed = receiving_command(replace(guest, disk=DiskSpec()))
    copied = receiving_command(replace(guest, disk=DiskSpec(backed=False)))

    assert "/opt/disks/base.img" in backed
    assert "/opt/disks/base.img" not in copied
    assert "convert" not in copied
    assert backed[-2:] == copied[-2:] == ("/opt/disks/vm1.qcow2", "2048M")


@pytest.mark.parametrize("disk", [None, DiskSpec(writable=False)], ids=["none", "image"])
def test_a_guest_without_a_disk_of_its_own_needs_no_room(disk):
    guest = replace(plan_lab(vms=1, clusters=1).guests[0], disk=disk)

    with pytest.raises(UsageError, match="vm1 has no disk that would have to move"):
        receiving_command(guest)


@pytest.fixture
def root(tmp_path) -> Root:
    path = tmp_path / "cache" / "trixie-0"
    for name in (
        "usr/bin/bash",
        "usr/bin/qemu-img",
        "usr/lib/modules/6.12/a.ko",
        "boot/vmlinuz-6.12",
    ):
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(name.encode() * 1000)
    (path / "bin").symlink_to("usr/bin")
    return Root(path=path)


def listed(image, folder: str) -> str:
    asked = ["debugfs", "-R", f"ls -p {folder}", str(image)]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout


@pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="e2fsprogs isn't installed")
def test_the_image_holds_what_a_server_has_and_not_what_makes_the_root_a_hypervisor(root):
    image = cached_image(root, silent)

    assert image.stat().st_size == IMAGE_MIB << 20
    assert "/bash/" in listed(image, "/usr/bin")
    assert "qemu" not in listed(image, "/usr/bin")
    assert "modules" not in listed(image, "/usr/lib")
    assert "/usr/" in listed(image, "/")
    assert "boot" not in listed(image, "/")


@pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="e2fsprogs isn't installed")
def test_the_image_is_sound_and_made_once(root):
    image = cached_image(root, silent)
    made = image.stat().st_mtime_ns

    assert cached_image(root, silent).stat().st_mtime_ns == made
    subprocess.run(["e2fsck", "-fn", str(image)], check=True, capture_output=True)
    assert sorted(path.name for path in image.parent.iterdir()) == sorted(
        [image.name, root.path.name, "lock"]
    )


@pytest.mark.skipif(not shutil.which("mkfs.ext4"), reason="e2fsprogs isn't installed")
def test_an_image_is_filled_with_files_or_it_is_said_that_it_has_no_room(tmp_path):
    image, small, large = (tmp_path / name for name in ("image", "small", "large"))
    with image.open("wb") as file:
        file.truncate(4 << 20)
    subprocess.run(["mkfs.ext4", "-q", image], check=True)
    small.write_bytes(b"all of it")
    large.write_bytes(bytes(range(256)) * (8 << 12))

    fill_image(image, {"mine": small})

    read = ["debugfs", "-R", "cat /mine", image]
    assert subprocess.run(read, capture_output=True, check=True).stdout == b"all of it"
    with pytest.raises(LabError, match="can't be filled"):
        fill_image(image, {"more": large})
