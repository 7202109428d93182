"""The splitter in the path of QEMU's own NBD client and server: the same disk arrives, blocks are found."""

import json
import os
import random
import select
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.unit.execute.migration.nbd.client import WRITE, read_slowly
from transhume.execute.migration.nbd import NbdSplitter
from transhume.execute.migration.splitting import Split
from transhume.lab.root import CACHE

pytestmark = pytest.mark.skipif(
    shutil.which("qemu-nbd") is None, reason="NOT TESTED: needs qemu-img and qemu-nbd (qemu-utils)"
)

MIB = 1 << 20
PAGE = 4096
LINGER_S = 0.005


class Relay:
    """Stands between a client and a server: requests through a splitter, replies as they are."""

    def __init__(self, listen: Path, server: Path, *, seed: int) -> None:
        self.splitter = NbdSplitter()
        self.sent = bytearray()
        self.pages: list[int] = []
        self._random = random.Random(seed)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(listen))
        self._listener.listen(1)
        self._server = server
        self._thread = threading.Thread(target=self._carry, name="relay", daemon=True)

    def __enter__(self) -> "Relay":
        self._thread.start()
        return self

    def __exit__(self, error: type[BaseException] | None, *_more: object) -> None:
        self._listener.close()
        if error is None:
            self._thread.join(30)
            assert not self._thread.is_alive()

    def _carry(self) -> None:
        client, _ = self._listener.accept()
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._server))
        replies = threading.Thread(target=_pump, args=(server, client), name="replies", daemon=True)
        replies.start()
        with client, server:
            while True:
                if not select.select([client], [], [], LINGER_S)[0]:
                    self._send(server, self.splitter.flush())
                    continue
                piece = client.recv(self._random.choice((1000, 65536, MIB, 2 * MIB)))
                if not piece:
                    break
                self._send(server, self.splitter.split(piece))
            self._send(server, self.splitter.flush())
            with suppress(OSError):  # after a goodbye the server has gone
                server.shutdown(socket.SHUT_WR)
            replies.join(10)

    def _send(self, server: socket.socket, split: Split) -> None:
        self.pages += [len(self.sent) + page for page in split.pages.tolist()]
        self.sent += split.raw
        if split.raw:  # after a goodbye the server has gone, and takes not even nothing
            server.sendall(split.raw)


def _pump(source: socket.socket, destination: socket.socket) -> None:
    with suppress(OSError):  # the other side has hung up
        while piece := source.recv(65536):
            destination.sendall(piece)


@contextmanager
def exported(image: Path, at: Path) -> Iterator[Path]:
    words = ["qemu-nbd", "--socket", str(at), "--format", "raw", "--export-name", "disk"]
    with subprocess.Popen([*words, "--persistent", str(image)]) as server:
        try:
            wait_for(at)
            yield at
        finally:
            server.terminate()


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"no {path}"
        time.sleep(0.02)


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    """A raw disk of 48 MiB: data, holes, and blocks of zeroes that are allocated."""
    made = tmp_path / "disk.raw"
    content = bytearray(48 * MIB)
    content[: 8 * MIB] = random.Random(1).randbytes(8 * MIB)
    content[20 * MIB : 29 * MIB + 5 * PAGE] = random.Random(2).randbytes(9 * MIB + 5 * PAGE)
    made.write_bytes(content)
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    made = tmp_path / "target.raw"
    with made.open("wb") as file:
        file.truncate(48 * MIB)
    return made


def assert_blocks_were_found(relay: Relay, disk: Path) -> None:
    """All that was written is pages, but for what lingered too long; each is the disk's at its place."""
    stream, content = bytes(relay.sent), disk.read_bytes()
    reading = read_slowly(stream)
    written = sum(length for kind, _, length in reading.requests if kind == WRITE)
    assert written >= 17 * MIB
    assert relay.splitter.understanding.opaque_from is None
    assert set(relay.pages) <= set(reading.places)
    assert len(relay.pages) >= 0.9 * len(reading.places)
    sent = {stream[place : place + PAGE] for place in reading.places}
    blocks = {content[i : i + PAGE] for i in range(0, len(content), PAGE)}
    assert len(blocks & sent) >= 0.99 * len(blocks), "the rest was written in smaller parts"


def test_a_disk_that_is_copied_through_it_arrives_and_its_blocks_are_found(
    tmp_path: Path, disk: Path, target: Path
) -> None:
    with exported(target, tmp_path / "nbd.s") as server:
        with Relay(tmp_path / "relay.s", server, seed=1) as relay:
            uri = f"nbd+unix:///disk?socket={tmp_path / 'relay.s'}"
            convert = ["qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", str(disk), uri]
            subprocess.run(convert, check=True, timeout=60)

    assert target.read_bytes() == disk.read_bytes()
    assert_blocks_were_found(relay, disk)


class Qemu:
    """A QEMU of the lab's root without any machine, for its block layer."""

    def __init__(self, root: Path) -> None:
        libraries = root / "usr/lib/x86_64-linux-gnu"
        self._process = subprocess.Popen(
            [
                str(root / "usr/lib64/ld-linux-x86-64.so.2"),
                *("--library-path", str(libraries)),
                str(root / "usr/bin/qemu-system-x86_64"),
                *("-machine", "none", "-nodefaults", "-nographic", "-qmp", "stdio"),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "QEMU_MODULE_DIR": str(libraries / "qemu")},
        )
        self.ask("qmp_capabilities")

    def ask(self, command: str, **arguments: object) -> object:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        words = {"execute": command, "arguments": arguments}
        self._process.stdin.write(json.dumps(words).encode() + b"\n")
        self._process.stdin.flush()
        for line in self._process.stdout:
            if not line.startswith(b"{"):
                continue  # what qemu-io prints
            answer = json.loads(line)
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]
        raise AssertionError("QEMU has gone")

    def write(self, node: str, words: str) -> None:
        """Write to a node as a guest would: above the filter by which a mirror job sees writes."""
        self.ask("human-monitor-command", **{"command-line": f'qemu-io {node} "{words}"'})

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def qemu() -> Iterator[Qemu]:
    root = next(CACHE.glob("trixie-*"), None)
    if root is None:
        pytest.skip(f"NOT TESTED: no root of the lab in {CACHE}")
    started = Qemu(root)
    try:
        yield started
    finally:
        started.end()


def test_a_mirrored_disk_that_is_written_to_meanwhile_arrives_and_its_blocks_are_found(
    tmp_path: Path, disk: Path, target: Path, qemu: Qemu
) -> None:
    """The job that libvirt starts for a migration's disks."""
    with exported(target, tmp_path / "nbd.s") as server:
        with Relay(tmp_path / "relay.s", server, seed=2) as relay:
            qemu.ask("blockdev-add", **_file_node(disk))
            qemu.ask("blockdev-add", **_nbd_node(tmp_path / "relay.s"))
            mirror = {
                "sync": "full",
                "copy-mode": "write-blocking",
                "speed": 20 * MIB,
                "filter-node-name": "top",
            }
            qemu.ask(
                "blockdev-mirror", **{"job-id": "m", "device": "disk", "target": "nbd", **mirror}
            )
            for place, length in ((0, 3 * PAGE), (512, 512), (30 * MIB - 1024, 2 * PAGE)):
                qemu.write("top", f"write -P 90 {place} {length}")
                qemu.write("top", f"write -P 91 {place + 21 * MIB} {length}")
            while _job(qemu)["status"] != "ready":
                time.sleep(0.05)
            qemu.write("top", f"write -P 92 {40 * MIB + 512} {3 * PAGE}")
            qemu.ask("job-complete", id="m")
            while _job(qemu)["status"] != "concluded":
                time.sleep(0.05)
            qemu.end()

    assert target.read_bytes() == disk.read_bytes()
    assert_blocks_were_found(relay, disk)


def _file_node(disk: Path) -> dict[str, object]:
    file = {"driver": "file", "filename": str(disk)}
    return {"driver": "raw", "node-name": "disk", "file": file}


def _nbd_node(relay: Path) -> dict[str, object]:
    server = {"type": "unix", "path": str(relay)}
    return {"driver": "nbd", "node-name": "nbd", "server": server, "export": "disk"}


def _job(qemu: Qemu) -> dict[str, object]:
    jobs = qemu.ask("query-jobs")
    assert isinstance(jobs, list)
    return next((job for job in jobs if job["id"] == "m"), {"status": "concluded"})
