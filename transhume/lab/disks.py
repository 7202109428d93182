"""Guests' disks, and the image that they begin with: a small Debian, cut from the clouds' root once and cached.

Each cloud has the image at the same path, read-only, and a folder of its own for what its guests write: no
storage is shared. Owns these paths, what is left out of the image, and the commands that make a disk.
"""

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from transhume.errors import LabError
from transhume.knowledge.model import CloudName
from transhume.lab.narration import Narrator
from transhume.lab.root import Root
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


def _commands(path: str, disk: DiskSpec) -> tuple[str, ...]:
    if disk.backed:
        return (f"qemu-img create -q -f qcow2 -b {IMAGE} -F raw {path} {disk.size_mib}M",)
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
    if not place.exists():
        tell("the image of the guests' disks, once")
        _make_image(root, place)
    return place


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
