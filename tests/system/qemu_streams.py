"""A small guest of the lab's own QEMU, and what it sends when it is asked to migrate, byte for byte.

`python -m tests.system.qemu_streams FOLDER` writes the recordings that tests/data/migration is made of.
"""

import gzip
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from transhume.lab.initramfs import pack
from transhume.lab.root import Root, cached_root

MIB = 1 << 20
MEMORY_BYTES = 112 * MIB
PATIENCE_SECONDS = 150.0

# A file that only grows gives pages once; one that is rewritten gives them again and again, little changed.
_INIT = b"""#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t tmpfs tmp /tmp
dd if=/dev/urandom of=/tmp/noise bs=64k count=64 2>/dev/null
cat /proc/kallsyms >/tmp/text
dd if=/dev/zero of=/tmp/rewritten bs=64k count=16 2>/dev/null
echo guest is up
count=0
while :; do
    count=$((count + 1))
    page=$((count % 256))
    echo "$count" | dd of=/tmp/rewritten bs=1 seek=$((page * 4096)) conv=notrunc 2>/dev/null
done
"""

Answer = Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What each connection carried, in the order in which QEMU made them, and QEMU's own account."""

    channels: list[bytes]
    normal: int
    duplicate: int


class Qmp:
    """QEMU's monitor."""

    def __init__(self, path: Path) -> None:
        self._socket = _connected(path)
        self._lines = self._socket.makefile("rwb")
        self._lines.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> Answer:
        """Return what QEMU answers.

        Raises:
            RuntimeError: it refuses.
        """
        words = {name.replace("_", "-"): value for name, value in arguments.items()}
        self._lines.write(json.dumps({"execute": command, "arguments": words}).encode() + b"\n")
        self._lines.flush()
        while True:
            line = self._lines.readline()
            if not line:
                raise RuntimeError(f"QEMU went away at {command}")
            answer = json.loads(line)
            if "error" in answer:
                raise RuntimeError(f"{command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        """Leave QEMU alone."""
        self._lines.close()
        self._socket.close()


class Guest:
    """A QEMU process with 112 MB; it ends with the `with` block."""

    def __init__(
        self, root: Root, folder: Path, *, more: Sequence[str] = (), machine: str = "pc-q35-10.0"
    ) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        initrd = folder / "initrd"
        initrd.write_bytes(
            gzip.compress(pack({"init": _INIT, "bin/busybox": root.busybox.read_bytes()}), 1)
        )
        command = [
            *_qemu_of(root),
            *("-machine", machine, "-accel", "tcg,thread=single,tb-size=32", "-cpu", "qemu64"),
            *("-m", "112M", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-kernel", str(root.kernel), "-initrd", str(initrd)),
            *("-append", "console=ttyS0 quiet panic=-1"),
            *("-chardev", f"file,id=console,path={folder / 'console'}"),
            *("-serial", "chardev:console"),
            *("-qmp", f"unix:{folder / 'qmp'},server=on,wait=off", *more),
        ]
        with (folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *command], stdout=log, stderr=log
            )
        try:
            self.qmp = Qmp(folder / "qmp")
        except BaseException:
            self._end()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.qmp.close()
        self._end()

    def _end(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def pid(self) -> int:
        """The process."""
        return self._process.pid

    def memory(self) -> bytes:
        """Return all of the guest's memory, which has to stand still."""
        path = self._folder / "memory"
        self.qmp.ask("pmemsave", val=0, size=MEMORY_BYTES, filename=str(path))
        try:
            return path.read_bytes()
        finally:
            path.unlink()

    def wait_until_up(self) -> None:
        """Return when the guest's init has filled its files.

        Raises:
            TimeoutError: it never did.
        """
        console = self._folder / "console"
        _wait(lambda: console.exists() and b"guest is up" in console.read_bytes(), console)

    def set_up(
        self, capabilities: Sequence[str] = (), parameters: Mapping[str, object] | None = None
    ) -> None:
        """Switch on so much of migration, and nothing else."""
        on = [c["capability"] for c in self.qmp.ask("query-migrate-capabilities") if c["state"]]
        for names, state in ((set(on) - set(capabilities), False), (set(capabilities), True)):
            switches = [{"capability": name, "state": state} for name in sorted(names)]
            self.qmp.ask("migrate-set-capabilities", capabilities=switches)
        self.qmp.ask("migrate-set-parameters", **(parameters or {}))

    def wait_until_migrated(self) -> Answer:
        """Return QEMU's account of the migration.

        Raises:
            TimeoutError: it doesn't end.
            RuntimeError: it failed.
        """
        _wait(lambda: self._migrated()["status"] in {"completed", "failed"}, "migration")
        found = self._migrated()
        if found["status"] == "failed":
            raise RuntimeError(found.get("error-desc", "migration failed"))
        return found

    def _migrated(self) -> Answer:
        return self.qmp.ask("query-migrate")


def record(
    guest: Guest,
    folder: Path,
    *,
    connections: int = 1,
    capabilities: Sequence[str] = (),
    parameters: Mapping[str, object] | None = None,
) -> Recording:
    """Have a guest migrate to a listener that only writes down what comes; the guest goes on afterwards."""
    path = folder / "migration"
    guest.set_up(capabilities, parameters)
    with _listening(path) as listener:
        guest.qmp.ask("migrate", uri=f"unix:{path}")
        channels = _all_of([_accepted(listener) for _ in range(connections)])
    account = guest.wait_until_migrated()
    guest.qmp.ask("cont")
    return _recording(channels, account)


def record_move(
    source: Guest, destination: Guest, folder: Path, *, postcopy_after_s: float | None = None
) -> Recording:
    """Move a guest for real, with postcopy allowed, and write down what went to the destination."""
    ahead, behind = folder / "ahead", folder / "behind"
    bandwidth = 8 * MIB if postcopy_after_s is not None else 1024 * MIB
    for guest in (source, destination):
        guest.set_up(["postcopy-ram", "return-path"], {"max-bandwidth": bandwidth})
    destination.qmp.ask("migrate-incoming", uri=f"unix:{behind}")
    with _listening(ahead) as listener:
        source.qmp.ask("migrate", uri=f"unix:{ahead}")
        near = _accepted(listener)
    far = _connected(behind)
    back = threading.Thread(target=_relay, args=(far, near, []))
    back.start()
    pieces: list[bytes] = []
    forth = threading.Thread(target=_relay, args=(near, far, pieces))
    forth.start()
    if postcopy_after_s is not None:
        time.sleep(postcopy_after_s)
        source.qmp.ask("migrate-start-postcopy")
    account = source.wait_until_migrated()
    forth.join()
    back.join()
    near.close()
    far.close()
    return _recording([b"".join(pieces)], account)


def _recording(channels: list[bytes], account: Answer) -> Recording:
    ram = account["ram"]
    return Recording(channels=channels, normal=ram["normal"], duplicate=ram["duplicate"])


def _qemu_of(root: Root) -> list[str]:
    share, libraries = root.path / "usr/share", root.path / "usr/lib/x86_64-linux-gnu"
    return [
        *(str(root.path / "usr/lib64/ld-linux-x86-64.so.2"), "--library-path", str(libraries)),
        str(root.path / "usr/bin/qemu-system-x86_64"),
        *("-L", str(share / "qemu"), "-L", str(share / "seabios")),
    ]


@contextmanager
def _listening(path: Path) -> Iterator[socket.socket]:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen(8)
        listener.settimeout(PATIENCE_SECONDS)
        yield listener


def _accepted(listener: socket.socket) -> socket.socket:
    connection, _ = listener.accept()
    connection.settimeout(PATIENCE_SECONDS)
    return connection


def _connected(path: Path) -> socket.socket:
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(path))
        except OSError:
            connection.close()
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return connection


def _all_of(connections: list[socket.socket]) -> list[bytes]:
    found: list[list[bytes]] = [[] for _ in connections]
    readers = [
        threading.Thread(target=_relay, args=(connection, None, pieces))
        for connection, pieces in zip(connections, found, strict=True)
    ]
    for reader in readers:
        reader.start()
    for reader, connection in zip(readers, connections, strict=True):
        reader.join()
        connection.close()
    return [b"".join(pieces) for pieces in found]


def _relay(source: socket.socket, sink: socket.socket | None, pieces: list[bytes]) -> None:
    while piece := source.recv(MIB):
        pieces.append(piece)
        if sink is not None:
            sink.sendall(piece)
    if sink is not None:
        sink.shutdown(socket.SHUT_WR)


def _wait(condition: Any, what: object) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"in vain: {what}")
        time.sleep(0.05)


MULTIFD = {"multifd-channels": 2, "max-bandwidth": 100 * MIB}
SLOW = {"max-bandwidth": 24 * MIB, "downtime-limit": 100}
DIRTY_DISK = (
    *("-blockdev", '{"driver":"null-co","node-name":"disk","size":1073741824,"read-zeroes":true}'),
    *("-device", "virtio-blk-pci,drive=disk"),
)
SHARED = (
    *("-S", "-object", "memory-backend-memfd,id=ram,size=112M,share=on"),
    *("-machine", "memory-backend=ram"),
)
"""Memory that both ends might have in common: where it is left out, the list of memory blocks has addresses."""
GROWING = (
    *("-S", "-m", "112M,maxmem=256M", "-object", "memory-backend-ram,id=more,size=64M"),
    *("-device", "virtio-mem-pci,memdev=more,requested-size=0"),
)
"""Memory that can grow: its device sends a section of its own before any memory.

The guest never runs: emulated, with such a device, QEMU 10.0 dies of an assertion of its own when it migrates
(tlb_reset_dirty_range_all).
"""


def recordings(root: Root, folder: Path) -> Iterator[tuple[str, Recording]]:
    """Yield recordings of every kind of stream, with the names that the tests know them by."""
    with Guest(root, folder / "guest", more=DIRTY_DISK) as guest:
        guest.wait_until_up()
        yield "plain", record(guest, folder, parameters=SLOW)
        xbzrle = {**SLOW, "xbzrle-cache-size": 64 * MIB}
        yield "xbzrle", record(guest, folder, capabilities=["xbzrle"], parameters=xbzrle)
        guest.qmp.ask("block-dirty-bitmap-add", node="disk", name="changed")
        yield "dirty-bitmap", record(guest, folder, capabilities=["dirty-bitmaps"])
        for name, more in (
            ("multifd", {}),
            ("multifd-legacy-zeros", {"zero-page-detection": "legacy"}),
            ("multifd-zstd", {"multifd-compression": "zstd"}),
        ):
            wanted = {**MULTIFD, "zero-page-detection": "multifd", **more}
            yield (
                name,
                record(guest, folder, connections=3, capabilities=["multifd"], parameters=wanted),
            )
        for name, after_s in (("postcopy-capable", None), ("postcopy", 1.0)):
            more = (*DIRTY_DISK, "-incoming", "defer")
            with Guest(root, folder / f"destination-{name}", more=more) as destination:
                yield name, record_move(guest, destination, folder, postcopy_after_s=after_s)
            if after_s is None:
                guest.qmp.ask("cont")
    with Guest(root, folder / "shared", more=SHARED) as guest:
        yield "ignore-shared", record(guest, folder, capabilities=["x-ignore-shared"])
    with Guest(root, folder / "growing", more=GROWING) as guest:
        yield "virtio-mem", record(guest, folder)


def main(folder: Path) -> None:
    """Write every recording into a folder, a file for each connection."""
    root = cached_root(lambda *_: None)
    for name, recording in recordings(root, folder):
        for number, channel in enumerate(recording.channels):
            (folder / f"{name}.{number}").write_bytes(channel)
        sizes = [len(channel) for channel in recording.channels]
        print(name, sizes, recording.normal, recording.duplicate, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
