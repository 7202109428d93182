"""The file system that guests run from: busybox, the guest's agent and the modules of its devices, in memory.

Owns the init script, the order of the modules and the archive's format ("newc"); what the agent does is in
`guest.c`.
"""

import gzip
import lzma
import re
import stat
from collections.abc import Iterable
from pathlib import Path

from transhume.lab.compiling import SOURCES, compile_program
from transhume.lab.root import Root

COMMANDS_PORT, RECEIVE_PORT, ECHO_PORT = 7001, 7002, 7003

_INIT = f"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs run /run
mkdir -p /run/traffic
for module in $(cat /modules/order); do insmod /modules/$module; done
hostname "$TH_NAME"
ip link set lo up
ip link set eth0 up
ip address add "$TH_ADDRESS" dev eth0
ip route add default via "$TH_GATEWAY"
if [ -n "$TH_ADDRESS6" ]; then
    ip -6 address add "$TH_ADDRESS6" dev eth0
    ip -6 route add default via "$TH_GATEWAY6"
fi
guest receive {RECEIVE_PORT} &
guest echo {ECHO_PORT} &
guest answer {ECHO_PORT} &
if [ -n "$TH_DISK" ]; then
    options=noatime
    [ "$TH_DISK" != ro ] || options=ro,noload
    mount -t ext4 -o $options /dev/vda /disk
    # As of a server that has run for a while: all that it ever read is in memory.
    find /disk -xdev -type f -exec cat {{}} + >/dev/null
    chroot /disk bash -c 'while :; do sleep 3600; done' &
    for number in 1 2; do
        chroot /disk perl -MPOSIX -MIO::Socket -MFile::Temp -MList::Util -e \
            'our %held = map {{ ("key $_" => "value of $_") }} 1 .. 10000; sleep 3600 while 1' &
    done
    words=${{TH_DISK#*:}}
    [ "$TH_DISK" = ro ] || [ -z "$words" ] || guest disk /disk/own $(echo "$words" | tr ':' ' ') &
fi
[ -z "$TH_MEMORY" ] || guest memory $(echo "$TH_MEMORY" | tr ':' ' ') &
[ -z "$TH_UNIQUE" ] || guest unique $(echo "$TH_UNIQUE" | tr ':' ' ') &
[ -z "$TH_WRITE" ] || guest write $(echo "$TH_WRITE" | tr ':' ' ') &
for peer in $(echo "$TH_SENDS" | tr ',' ' '); do
    guest send ${{peer%:*}} {RECEIVE_PORT} ${{peer##*:}} &
done
echo "lab guest is up"
while :; do guest commands {COMMANDS_PORT}; sleep 1; done
"""

_WANTED = ("virtio_pci", "virtio_net", "virtio_blk", "ext4")


def build_initramfs(root: Root, folder: Path) -> Path:
    """Compile the guest's agent and pack it up; return the archive.

    Raises:
        LabError: the compiler failed.
    """
    agent = folder / "guest"
    compile_program(SOURCES / "guest.c", agent)
    modules = load_order(root, _WANTED)
    files = {
        "init": _INIT.encode(),
        "bin/busybox": root.busybox.read_bytes(),
        "bin/guest": agent.read_bytes(),
        "modules/order": "\n".join(f"{name}.ko" for name in modules).encode(),
        **{f"modules/{name}.ko": code for name, code in modules.items()},
    }
    archive = folder / "initrd"
    archive.write_bytes(gzip.compress(pack(files), compresslevel=1, mtime=0))
    return archive


def pack(files: dict[str, bytes]) -> bytes:
    """Make a "newc" archive of executable files, with the folders they need and the usual mount points."""
    folders = {"bin", "modules", "proc", "sys", "dev", "run", "tmp", "disk"}
    members = [(name, stat.S_IFDIR | 0o755, b"") for name in sorted(folders)]
    members += [(name, stat.S_IFREG | 0o755, data) for name, data in files.items()]
    entries = [_entry(n, *member) for n, member in enumerate(members, start=1)]
    return b"".join([*entries, _entry(0, "TRAILER!!!", 0, b"")])


def _entry(inode: int, name: str, mode: int, data: bytes) -> bytes:
    numbers = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    header = b"070701" + b"".join(b"%08x" % number for number in numbers)
    return _padded(header + name.encode() + b"\0") + _padded(data)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def load_order(root: Root, wanted: Iterable[str]) -> dict[str, bytes]:
    """Return the kernel modules that `wanted` comes down to, each after those that it needs itself."""
    found: dict[str, bytes] = {}
    for name in wanted:
        path = root.module(name)
        if path is None or name in found:
            continue  # built in, or there already
        code = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
        needs = re.search(rb"\0depends=([^\0]*)\0", code)
        names = needs[1].decode().split(",") if needs and needs[1] else []
        found |= {k: v for k, v in load_order(root, names).items() if k not in found}
        found[name] = code
    return found
