"""A cloud of the lab: a libvirt daemon in the Debian 13 root, with namespaces and folders of its own.

libvirt keeps its folders in fixed places and refuses to migrate to a host with its own name or UUID: each
daemon therefore has its own network, mount and UTS namespace, private folders over the root's, and an invented
UUID. All mounts are in the daemon's mount namespace and go with its last process.
"""

import subprocess
import uuid
from pathlib import Path

from transhume.errors import LabError
from transhume.lab.disks import DISKS, Disks
from transhume.lab.root import Root
from transhume.lab.spec import CloudSpec
from transhume.reach.netns import NAMED

# Private folder of the cloud, and where its processes see it.
_FOLDERS = {
    "libvirt": "run/libvirt",
    "etc": "etc/libvirt",
    "lib": "var/lib/libvirt",
    "cache": "var/cache/libvirt",
    "log": "var/log/libvirt",
}

_ENTER = """#!/bin/sh
# Run in the cloud's network namespace and in fresh mount and UTS namespaces; ends as the cloud's libvirtd.
set -e
cd "{home}"
echo "{hostname}" >/proc/sys/kernel/hostname
mount --bind "{root}" root
mount -o remount,bind,ro root
mount -t tmpfs tmpfs root/run
mount -t tmpfs tmpfs root/tmp
mount -t tmpfs tmpfs root/opt
mkdir root/run/libvirt root/opt/guest root{disks_at}
mount --bind "{guest}" root/opt/guest
mount --bind disks root{disks_at}
{binds}
mount -t proc proc root/proc
mount -t sysfs sysfs root/sys
# A /dev without /dev/kvm: the lab's guests are emulated, wherever it runs.
mount -t tmpfs -o mode=755 tmpfs root/dev
mkdir root/dev/net root/dev/pts root/dev/shm
for node in null zero full random urandom tty net/tun; do
    touch "root/dev/$node"
    mount --bind "/dev/$node" "root/dev/$node"
done
mount -t devpts -o newinstance,ptmxmode=0666 devpts root/dev/pts
ln -s pts/ptmx root/dev/ptmx
{disks}
exec chroot root libvirtd --daemon --listen --config /etc/libvirt/libvirtd.conf \\
    --pid-file /run/libvirt/libvirtd.pid
"""

_LIBVIRTD_CONF = """listen_tls = 0
listen_tcp = 1
listen_addr = "{address}"
auth_tcp = "none"
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
host_uuid = "{uuid}"
log_outputs = "2:file:/var/log/libvirt/libvirtd.log"
"""

_QEMU_CONF = """user = "root"
group = "root"
security_driver = "none"
dynamic_ownership = 0
cgroup_controllers = []
namespaces = []
stdio_handler = "file"
migration_host = "{address}"
"""


class Cloud:
    """One cloud's daemon and folders, under `<state>/<cloud>`."""

    def __init__(self, spec: CloudSpec, state: Path) -> None:
        self.spec = spec
        self.home = state / spec.name

    @property
    def socket(self) -> Path:
        """The daemon's socket, reachable from the whole machine."""
        return self.home / "libvirt/libvirt-sock"

    @property
    def uri(self) -> str:
        """How this machine's libvirt clients reach the daemon."""
        return f"qemu+unix:///system?socket={self.socket}"

    def start(self, root: Root, guest: Path, disks: Disks | None = None) -> None:
        """Start the daemon and return when it answers; `guest` is the folder of the guests' kernel.

        Raises:
            LabError: it doesn't come up.
        """
        self._write_folders(root, guest, disks)
        log = self.home / "log/start.log"
        with log.open("wb") as output:
            done = subprocess.run(
                [
                    *("nsenter", f"--net={NAMED / self.spec.netns}"),
                    *("unshare", "--mount", "--uts", "sh", str(self.home / "enter.sh")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                start_new_session=True,
            )
        if done.returncode != 0 or not self.socket.is_socket():
            raise LabError(
                f"cloud {self.spec.name}: libvirtd doesn't start: {log.read_text().strip()} "
                f"(see {self.home / 'log/libvirtd.log'})"
            )

    def execute(self, *words: str) -> str:
        """Run a program of the root where the daemon is, and return what it wrote.

        Raises:
            LabError: it failed, or the daemon isn't there.
        """
        try:
            pid = (self.home / "libvirt/libvirtd.pid").read_text().strip()
        except OSError as error:
            raise LabError(f"cloud {self.spec.name} has no daemon: {error}") from error
        namespaces = ("--mount", "--uts", "--net", "--root", "--wd")
        done = subprocess.run(
            ["nsenter", "--target", pid, *namespaces, *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise LabError(f"{' '.join(words)} failed in cloud {self.spec.name}: {done.stderr}")
        return done.stdout

    def _write_folders(self, root: Root, guest: Path, disks: Disks | None) -> None:
        for folder in (*_FOLDERS, "root", "disks"):
            (self.home / folder).mkdir(parents=True)
        script = _ENTER.format(
            home=self.home,
            root=root.path,
            guest=guest,
            hostname=self.spec.netns,
            disks_at=DISKS,
            disks="\n".join(disks.commands(self.spec.name) if disks else ()),
            binds="\n".join(f'mount --bind "{mine}" "root/{at}"' for mine, at in _FOLDERS.items()),
        )
        (self.home / "enter.sh").write_text(script)
        values = {"address": self.spec.address, "uuid": uuid.uuid4()}
        (self.home / "etc/libvirtd.conf").write_text(_LIBVIRTD_CONF.format(**values))
        (self.home / "etc/qemu.conf").write_text(_QEMU_CONF.format(**values))
