"""Live capture on a veth pair in namespaces of its own, against what tcpdump writes at the same time."""

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import aclosing
from pathlib import Path
from random import Random

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether

from transhume.analyze import build_matrix, vms_from_windows
from transhume.deployment.model import CapturePoint
from transhume.errors import UsageError
from transhume.knowledge.model import HostName, TrafficWindow
from transhume.monitor.capture.files import read_windows
from transhume.monitor.capture.live import LiveCapture
from transhume.reach.netns import socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("tcpdump") or not shutil.which("ip"),
        reason="needs root, tcpdump and iproute2",
    ),
]

HERE, THERE = f"thc{os.getpid()}a", f"thc{os.getpid()}b"
SECONDS = 0.5
MACS = [f"52:54:00:00:00:{i:02x}" for i in range(6)]


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def add_pair(name: str) -> None:
    """Make a veth pair: `name` is listened to here, `peer` sends from there."""
    ip("-n", HERE, "link", "add", name, "type", "veth", "peer", "peer", "netns", THERE)
    for netns, device in ((HERE, name), (THERE, "peer")):
        quiet = f"echo 1 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
        ip("netns", "exec", netns, "sh", "-c", quiet)
        ip("-n", netns, "link", "set", device, "up")


@pytest.fixture
def tap() -> Iterator[str]:
    for netns in (HERE, THERE):
        ip("netns", "add", netns)
    try:
        add_pair("vnet0")
        yield "vnet0"
    finally:
        for netns in (HERE, THERE):
            subprocess.run(["ip", "netns", "delete", netns], check=False, capture_output=True)


def frames(count: int, seed: int) -> list[bytes]:
    """Make frames of all sorts among six machines and the world."""
    random = Random(seed)
    made = []
    for _ in range(count):
        one, other = random.sample(range(6), 2)
        ether = Ether(src=MACS[one], dst=MACS[other])
        load = random.randbytes(random.randrange(0, 1400))
        kind = random.randrange(5)
        if kind == 0:
            frame = ether / Dot1Q(vlan=100) / IP(src=f"10.0.0.{one}", dst=f"10.0.0.{other}") / UDP()
        elif kind == 1:
            frame = ether / IPv6(src=f"fd00::{one}", dst=f"fd00::{other}") / UDP()
        elif kind == 2:
            frame = Ether(src=MACS[one], dst="ff:ff:ff:ff:ff:ff") / ARP(
                psrc=f"10.0.0.{one}", pdst=f"10.0.0.{other}", hwsrc=MACS[one]
            )
            load = b""
        else:
            frame = ether / IP(src=f"10.0.0.{one}", dst=f"10.0.0.{other}") / UDP()
        made.append(bytes(frame / load))
    return made


def send(netns: str, device: str, sent: list[bytes]) -> None:
    with socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((device, 0))
        for frame in sent:
            sender.send(frame)


async def collect(
    capture: LiveCapture, into: list[TrafficWindow], enough: Callable[[], bool]
) -> None:
    async with asyncio.timeout(20):
        async with aclosing(capture.windows()) as windows:
            async for window in windows:
                into.append(window)
                if enough():
                    return


def all_frames(windows: list[TrafficWindow]) -> int:
    return sum(pair.frames for window in windows for pair in window.pairs)


def tally(windows: Iterable[TrafficWindow]) -> Counter[tuple[object, ...]]:
    """Say who sent how much to whom in which window, whoever saw it."""
    found: Counter[tuple[object, ...]] = Counter()
    for window in windows:
        for pair in window.pairs:
            found[window.start, pair.source, pair.destination, "bytes"] += pair.bytes
            found[window.start, pair.source, pair.destination, "frames"] += pair.frames
    return found


@pytest.fixture
def tcpdump(tap: str, tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Run tcpdump on the tap; calling the fixture ends it and returns the file."""
    file = tmp_path / "tap.pcap"
    command = ["tcpdump", "-n", "-i", tap, "-w", str(file), "-s", "96", "-U"]
    command += ["--time-stamp-precision=nano", "--immediate-mode"]
    running = subprocess.Popen(
        ["ip", "netns", "exec", HERE, *command], stderr=subprocess.PIPE, text=True
    )
    assert running.stderr is not None
    while "listening on" not in running.stderr.readline():
        pass

    def end() -> Path:
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=10)
        return file

    try:
        yield end
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
        running.stderr.close()


async def test_a_capture_gives_the_same_matrix_live_and_from_the_file_that_tcpdump_wrote(
    tap: str, tcpdump: Callable[[], Path]
) -> None:
    """Both directions of the tap, VLAN tags, IPv6, ARP: window by window, byte by byte."""
    inwards, outwards = frames(1500, seed=1), frames(1500, seed=2)
    live: list[TrafficWindow] = []
    point = CapturePoint(host=HostName("h"), interfaces=("vnet*",), netns=HERE)
    collecting = asyncio.create_task(
        collect(LiveCapture(point, SECONDS), live, lambda: all_frames(live) >= 3000)
    )
    await asyncio.sleep(0)  # it listens once it has run up to its first wait
    await asyncio.to_thread(send, THERE, "peer", inwards)
    await asyncio.to_thread(send, HERE, tap, outwards)
    await collecting

    from_file, summary = read_windows(await asyncio.to_thread(tcpdump), SECONDS)

    assert summary.stopped is None
    assert summary.bytes == sum(map(len, inwards + outwards))
    assert sum(window.dropped_frames for window in live) == 0
    assert tally(live) == tally(from_file)
    vms = vms_from_windows(from_file)
    start, seconds = from_file[0].start, 10.0
    one = build_matrix(live, vms, start=start, seconds=seconds)
    other = build_matrix(from_file, vms, start=start, seconds=seconds)
    assert len(vms) == 6
    assert (one.bytes == other.bytes).all()
    assert (one.frames == other.frames).all()
    assert one.total_bytes == other.total_bytes == summary.bytes


async def test_interfaces_that_come_and_go_are_listened_to_while_they_are_there(tap: str) -> None:
    """A VM that migrates in brings a tap, and takes it away when it leaves."""
    seen: list[TrafficWindow] = []
    point = CapturePoint(host=HostName("h"), interfaces=("vnet*",), netns=HERE)

    def points() -> set[str]:
        return {window.capture_point for window in seen}

    capture = LiveCapture(point, 0.1)
    ip("-n", HERE, "link", "delete", tap)
    collecting = asyncio.create_task(collect(capture, seen, lambda: all_frames(seen) >= 50))
    await asyncio.sleep(0)
    add_pair("vnet7")
    async with asyncio.timeout(10):
        while "h/vnet7" not in points():
            await asyncio.sleep(0.05)
    send(THERE, "peer", frames(50, seed=3))
    ip("-n", HERE, "link", "delete", "vnet7")
    await collecting

    assert points() == {"h/vnet7"}
    assert all_frames(seen) == 50


async def test_an_idle_interface_gives_empty_windows_at_whole_multiples(tap: str) -> None:
    seen: list[TrafficWindow] = []
    point = CapturePoint(host=HostName("h"), interfaces=("vnet*",), netns=HERE)

    await collect(LiveCapture(point, 0.25), seen, lambda: len(seen) >= 4)

    assert [window.pairs for window in seen] == [()] * 4
    assert all(window.start.timestamp() % 0.25 == 0 for window in seen)


async def test_cancelling_closes_every_socket(tap: str) -> None:
    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = open_descriptors()
    point = CapturePoint(host=HostName("h"), interfaces=("vnet*",), netns=HERE)
    task = asyncio.create_task(collect(LiveCapture(point, 0.1), [], lambda: False))
    async with asyncio.timeout(5):
        while open_descriptors() == before:
            await asyncio.sleep(0.01)

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert open_descriptors() == before


async def test_a_namespace_that_is_not_there_is_named() -> None:
    point = CapturePoint(host=HostName("h"), netns="nowhere")

    with pytest.raises(UsageError, match="no network namespace nowhere"):
        await anext(LiveCapture(point, 1.0).windows())


async def test_frames_between_two_looks_keep_the_time_at_which_they_came(tap: str) -> None:
    """The window is told by the kernel's stamp, not by when we got round to reading."""
    seen: list[TrafficWindow] = []
    point = CapturePoint(host=HostName("h"), interfaces=("vnet*",), netns=HERE)
    collecting = asyncio.create_task(
        collect(LiveCapture(point, 0.05), seen, lambda: all_frames(seen) >= 1)
    )
    await asyncio.sleep(0)
    before = time.time()
    send(THERE, "peer", frames(1, seed=4))
    after = time.time()
    await collecting

    (window,) = (window for window in seen if window.pairs)
    assert before - 0.05 <= window.start.timestamp() <= after
