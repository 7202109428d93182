"""Guests' disks, and the image that they begin with: a small Debian, cut from the clouds' root once and cached.

Each cloud has the image at the same path, read-only, and a folder of its own for what its guests write: no
storage is shared. Owns these paths, what is left out of the image, and the commands that make a disk.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from transhume.errors import LabError, UsageError
from transhume.knowledge.model import CloudName
from transhume.lab.narration import Narrator
from transhume.lab.root import Root, alone_in
from transhume.lab.spec import IMAGE_MIB, DiskSpec, GuestSpec

DISKS = "/opt/disks"
IMAGE = f"{DISKS}/base.img"
"""Where a cloud's processes see them."""

_LEFT_OUT = (
    *("qemu*", "*libvirt*", "virt*", "virsh", "seabios", "libcapstone*"),
    *("modules", "boot", "dev", "cache", "man", "info", "gconv"),
)
"""Names of what makes the root a hypervisor's rather than a server's, and of what servers hardly read."""
_VERSION = 1


def disk_path(guest: GuestSpec) -> str:
    """Return where a cloud's processes see a guest's disk."""
    return f"{DISKS}/{guest.name}.qcow2"


@dataclass(frozen=True, slots=True, kw_only=True)
class Disks:
    """The disks of a lab's guests, and the image file that they begin with."""

    image: Path
    guests: tuple[GuestSpec, ...]

    def commands(self, cloud: CloudName) -> tuple[str, ...]:
        """Return what the shell that prepares a cloud does: show the image there, make its guests' disks."""
        own = (guest for guest in self.guests if guest.cloud == cloud)
        return (
            f"touch disks/{Path(IMAGE).name}",
            f'mount --bind "{self.image}" root{IMAGE}',
            f"mount -o remount,bind,ro root{IMAGE}",
            *(
                f"chroot root {command}"
                for guest in own
                if guest.disk is not None and guest.disk.writable
                for command in _commands(disk_path(guest), guest.disk)
            ),
        )


def receiving_command(guest: GuestSpec) -> tuple[str, ...]:
    """Return the command that makes a disk for a guest's storage to be migrated into, in place of any there is.

    Raises:
        UsageError: the guest has no disk of its own.
    """
    disk = guest.disk
    if disk is None or not disk.writable:
        raise UsageError(f"{guest.name} has no disk that would have to move with it")
    if disk.backed:
        return _over_the_image(disk_path(guest), disk)
    return ("qemu-img", "create", "-q", "-f", "qcow2", disk_path(guest), f"{disk.size_mib}M")


def _over_the_image(path: str, disk: DiskSpec) -> tuple[str, ...]:
    options = ("-f", "qcow2", "-b", IMAGE, "-F", "raw")
    return ("qemu-img", "create", "-q", *options, path, f"{disk.size_mib}M")


def _commands(path: str, disk: DiskSpec) -> tuple[str, ...]:
    if disk.backed:
        return (" ".join(_over_the_image(path, disk)),)
    return (
        f"qemu-img convert -f raw -O qcow2 {IMAGE} {path}",
        f"qemu-img resize -q {path} {disk.size_mib}M",
    )


def cached_image(root: Root, tell: Narrator) -> Path:
    """Return the image that is made of a root; make it where there is none.

    Raises:
        LabError: mkfs.ext4 failed.
    """
    place = root.path.with_name(f"{root.path.name}-image-{_VERSION}.ext4")
    with alone_in(place.parent):
        if not place.exists():
            tell("the image of the guests' disks, once")
            _make_image(root, place)
    return place


def fill_image(image: Path, files: Mapping[str, Path]) -> None:
    """Put files into the top folder of an image that nobody uses.

    Raises:
        LabError: debugfs failed.
    """
    commands = "".join(f"write {path} {name}\n" for name, path in files.items())
    done = subprocess.run(
        ["debugfs", "-w", "-f", "-", str(image)],
        input=commands,
        capture_output=True,
        text=True,
        check=False,
    )
    # It ends well whatever happens, and begins with a line about itself.
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("debugfs ")]
    if done.returncode or complaints:
        told = " ".join(complaints)
        raise LabError(f"the image of the guests' disks can't be filled: {told}")


def _make_image(root: Root, place: Path) -> None:
    with tempfile.TemporaryDirectory(dir=place.parent, prefix=f".{place.name}.") as work:
        tree, unfinished = Path(work, "tree"), Path(work, "image")
        left_out = shutil.ignore_patterns(*_LEFT_OUT)
        shutil.copytree(root.path, tree, symlinks=True, copy_function=os.link, ignore=left_out)
        with unfinished.open("wb") as image:
            image.truncate(IMAGE_MIB << 20)
        done = subprocess.run(
            [
                *("mkfs.ext4", "-q", "-d", str(tree), "-L", "image", "-m", "0", "-N", "32768"),
                # No thread in the guest has to finish what was left for later.
                *("-E", "lazy_itable_init=0,lazy_journal_init=0,nodiscard", str(unfinished)),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"the image of the guests' disks can't be made: {done.stderr.strip()}")
        unfinished.rename(place)
