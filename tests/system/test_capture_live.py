"""Live capture on a veth pair in namespaces of its own, by every method, against what tcpdump writes."""

import asyncio
import ctypes
import fcntl
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import aclosing, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from random import Random

import numpy as np
import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6NDOptDstLLAddr, IPv6, IPv6ExtHdrDestOpt
from scapy.layers.l2 import ARP, Dot1Q, Ether

from tests.system.tcpdump import Tcpdump
from transhume.deployment.model import CaptureMethod, CapturePoint
from transhume.errors import UsageError
from transhume.knowledge.model import HostName, TrafficWindow
from transhume.knowledge.model.addresses import CLAIM
from transhume.monitor.capture.bpf.counting import Counter as KernelCounter
from transhume.monitor.capture.bpf.syscalls import Direction
from transhume.monitor.capture.bpf.tap import KernelTap
from transhume.monitor.capture.bpf.tcx import TcxAttachment
from transhume.monitor.capture.interfaces import Interfaces
from transhume.monitor.capture.live import LiveCapture
from transhume.monitor.capture.methods import Opener, Tap
from transhume.monitor.capture.scan import Scanner, read_head
from transhume.reach.netns import inside, netlink_in, socket_in

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
METHODS = (CaptureMethod.TCX, CaptureMethod.CLSACT, CaptureMethod.RING)
IN_THE_KERNEL = METHODS[:2]
SENDER = Path(__file__).parents[2] / "benchmarks" / "live" / "sender.c"

each_method = pytest.mark.parametrize("method", METHODS)


def ip(*words: str) -> str:
    return subprocess.run(["ip", *words], check=True, capture_output=True, text=True).stdout


def tc(*words: str) -> str:
    return subprocess.run(
        ["tc", "-n", HERE, *words], check=True, capture_output=True, text=True
    ).stdout


def add_pair(name: str, *, number: int | None = None) -> None:
    """Make a veth pair: `name` is listened to here, `peer` sends from there."""
    numbered = ("index", str(number)) if number else ()
    ip("-n", HERE, "link", "add", name, *numbered, "type", "veth", "peer", "peer", "netns", THERE)
    for netns, device in ((HERE, name), (THERE, "peer")):
        hush(netns, device)
        ip("-n", netns, "link", "set", device, "up")


def hush(netns: str, device: str) -> None:
    """Keep the kernel from sending frames of its own accord."""
    quiet = f"echo 1 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
    ip("netns", "exec", netns, "sh", "-c", quiet)


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


def point(method: CaptureMethod = CaptureMethod.AUTO, **more: object) -> CapturePoint:
    found = CapturePoint(
        host=HostName("h"), interfaces=("vnet*",), netns=HERE, method=method, cpu_budget=1.0
    )
    return replace(found, **more)


# --- frames ------------------------------------------------------------------------------------------


def frames(count: int, seed: int) -> list[bytes]:
    """Make frames of all sorts among six machines and the world."""
    random = Random(seed)
    return [bytes(frame(random)) for _ in range(count)]


def frame(random: Random) -> Ether:
    one, other = random.sample(range(6), 2)
    ether = Ether(src=MACS[one], dst=MACS[other])
    v4 = IP(src=f"10.0.0.{one}", dst=f"10.0.0.{other}")
    v6 = IPv6(src=f"fd00::{one}", dst=f"fd00::{other}")
    load = random.randbytes(random.randrange(0, 1400))
    broadcast = Ether(src=MACS[one], dst="ff:ff:ff:ff:ff:ff")
    asks = ARP(psrc=f"10.0.0.{one}", pdst=f"10.0.0.{other}", hwsrc=MACS[one])
    kinds: list[Callable[[], Ether]] = [
        lambda: ether / Dot1Q(vlan=100) / v4 / UDP() / load,
        lambda: (
            ether / Dot1Q(vlan=5) / Dot1Q(vlan=6) / v6 / TCP(options=[("NOP", None)] * 4) / load
        ),
        lambda: ether / v6 / UDP() / load,
        lambda: ether / v6 / IPv6ExtHdrDestOpt() / TCP() / load,
        lambda: broadcast / asks,
        lambda: broadcast / ARP(psrc="0.0.0.0", pdst=f"10.0.0.{other}", hwsrc=MACS[one]),
        lambda: ether / v4 / TCP() / load,
        lambda: ether / v4 / UDP() / load,
        lambda: ether / IP(src=v4.src, dst=v4.dst, frag=100, proto=17) / load,
        lambda: ether / IP(src=v4.src, dst=v4.dst, proto=47) / load,
        lambda: Ether(src=MACS[one], dst=MACS[other], type=0x88CC) / load[:60],
        lambda: advertisement(one, other),
        lambda: lease(one, other),
    ]
    return random.choice(kinds)()


def advertisement(one: int, other: int) -> Ether:
    return (
        Ether(src=MACS[one], dst=MACS[other])
        / IPv6(src=f"fd00::{one}", dst=f"fd00::{other}")
        / ICMPv6ND_NA(tgt=f"fd00::1:{one}")
        / ICMPv6NDOptDstLLAddr(lladdr=MACS[other])
    )


def lease(one: int, other: int) -> Ether:
    return (
        Ether(src=MACS[one], dst=MACS[other])
        / IP(src=f"10.0.0.{one}", dst="255.255.255.255")
        / UDP(sport=67, dport=68)
        / BOOTP(op=2, yiaddr=f"10.0.1.{other}", chaddr=bytes.fromhex(MACS[other].replace(":", "")))
        / DHCP(options=[("server_id", "10.0.0.1"), ("message-type", "ack"), "end"])
    )


def send(netns: str, device: str, sent: Iterable[bytes]) -> None:
    with socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((device, 0))
        for each in sent:
            sender.send(each)


def flood(sender: Path, count: int, size: int = 0) -> None:
    subprocess.run(
        ["ip", "netns", "exec", THERE, str(sender), "peer", str(count), str(size)],
        check=True,
        capture_output=True,
    )


@pytest.fixture(scope="module")
def sender(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not shutil.which("gcc"):
        pytest.skip("needs gcc")
    made = tmp_path_factory.mktemp("sender") / "sender"
    subprocess.run(["gcc", "-O2", "-o", str(made), str(SENDER)], check=True)
    return made


# --- what was seen -----------------------------------------------------------------------------------


Rows = Counter[tuple[bytes, str]]


def rows(windows: Iterable[TrafficWindow]) -> Rows:
    """Say how much there was of each row of addresses, whenever it came."""
    found: Rows = Counter()
    for window in windows:
        for row, bytes_, payload, count in zip(
            window.addresses[window.pair],
            window.bytes.tolist(),
            window.payload_bytes.tolist(),
            window.frames.tolist(),
            strict=True,
        ):
            key = row.tobytes()
            found[key, "bytes"] += bytes_
            found[key, "payload"] += payload
            found[key, "frames"] += count
            found[key, "claimed"] |= int(bool(row["flags"] & CLAIM))
    return found


def all_frames(windows: Iterable[TrafficWindow]) -> int:
    return sum(window.total_frames for window in windows)


def read_file(path: Path) -> list[TrafficWindow]:
    content = path.read_bytes()
    found = read_head(content)
    assert found is not None
    head, at = found
    scanner = Scanner(head, window_seconds=SECONDS, capture_point="file")
    rest = np.frombuffer(content, np.uint8)[at:]
    assert scanner.feed(rest, at) == len(rest)
    return list(scanner.take_all())


class Listening:
    """A capture that runs, and the windows that it gave so far."""

    def __init__(self, capture: LiveCapture) -> None:
        self.capture = capture
        self.windows: list[TrafficWindow] = []

    async def run(self) -> None:
        async with aclosing(self.capture.windows()) as windows:
            async for window in windows:
                self.windows.append(window)

    async def until(self, enough: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not enough():
                await asyncio.sleep(0.02)

    async def to_the_end(self, of_frames: int) -> None:
        """Wait for so many frames, and a window longer, for those that nobody expects."""
        await self.until(lambda: all_frames(self.windows) >= of_frames)
        count = len(self.windows)
        await self.until(lambda: len(self.windows) > count)


@contextmanager
def cancelling(task: asyncio.Task[None]) -> Iterator[None]:
    try:
        yield
    finally:
        task.cancel()


async def listening(
    where: CapturePoint, then: Callable[[Listening], Awaitable[None]], *, seconds: float = SECONDS
) -> list[TrafficWindow]:
    """Do something while a capture runs; return what it gave."""
    found = Listening(LiveCapture(where, seconds))
    running = asyncio.create_task(found.run())
    with cancelling(running):
        async with asyncio.timeout(180):  # the compiled scanner may have to be compiled first
            while not found.capture.methods:
                await asyncio.sleep(0.01)
                if running.done():
                    await running
        await then(found)
    await asyncio.gather(running, return_exceptions=True)
    return found.windows


@pytest.fixture
def tcpdump(tap: str, tmp_path: Path) -> Iterator[Callable[[], Path]]:
    """Run tcpdump on the tap; calling the fixture ends it and returns the file."""
    file = tmp_path / "tap.pcap"
    options = ("-s", "600", "-U", "--time-stamp-precision=nano")
    with Tcpdump(HERE, tap, file, *options) as running:
        running.wait_until_it_listens()

        def end() -> Path:
            running.end()
            return file

        yield end


# --- the same windows by every method ----------------------------------------------------------------


@each_method
async def test_every_method_counts_what_tcpdump_wrote(
    tap: str, tcpdump: Callable[[], Path], method: CaptureMethod
) -> None:
    """Both directions, tags, IPv6 with extensions, fragments, ARP; bytes, payload, frames, claims."""
    inwards, outwards = frames(400, seed=1), frames(400, seed=2)

    async def both_ways(found: Listening) -> None:
        await asyncio.to_thread(send, THERE, "peer", inwards)
        await asyncio.to_thread(send, HERE, tap, outwards)
        await found.to_the_end(800)

    live = await listening(point(method), both_ways)
    from_file = read_file(await asyncio.to_thread(tcpdump))

    assert rows(live) == rows(from_file)
    assert sum(window.total_bytes for window in live) == sum(map(len, inwards + outwards))
    assert all_frames(live) == 800
    assert sum(window.dropped_frames for window in live) == 0
    assert all(window.sampled == 1.0 and window.bytes_error is None for window in live)
    assert all(window.capture_cpu_seconds is not None for window in live)
    assert {window.capture_point for window in live} == {"h/vnet0"}


@each_method
async def test_a_tag_that_the_kernel_took_off_is_counted(
    tap: str, tcpdump: Callable[[], Path], method: CaptureMethod
) -> None:
    """An incoming frame's tag is beside the frame by the time that anybody sees it."""
    tagged = Ether(src=MACS[0], dst=MACS[1]) / Dot1Q(vlan=100) / IP() / UDP() / (b"x" * 100)
    with socket_in(HERE, socket.AF_PACKET, socket.SOCK_RAW, 0) as witness:
        witness.bind((tap, 3))

        async def send_tagged(found: Listening) -> None:
            await asyncio.to_thread(send, THERE, "peer", [bytes(tagged)] * 50)
            await found.to_the_end(50)

        live = await listening(point(method), send_tagged)
        assert witness.recv(2048)[12:14] == b"\x08\x00"

    assert rows(live) == rows(read_file(await asyncio.to_thread(tcpdump)))
    assert sum(window.total_bytes for window in live) == 50 * (14 + 4 + 20 + 8 + 100)


@each_method
async def test_frames_fall_into_the_window_in_which_they_came(
    tap: str, method: CaptureMethod
) -> None:
    """Sent in the middle of windows, however late we come to read them."""
    sent = frames(10, seed=5)
    came: list[float] = []

    async def now_and_then(found: Listening) -> None:
        while len(came) < 3:
            await asyncio.sleep(1 - (time.time() - 0.4) % 1)
            before = time.time() // 1
            send(THERE, "peer", sent)
            if (time.time() + 0.1) // 1 == before:  # else the machine is too busy to aim
                came.append(before)
            time.sleep(0.9)  # noqa: ASYNC251  (the reader is to be late)
        await found.to_the_end(30)

    live = await listening(point(method), now_and_then, seconds=1.0)

    found = {window.start.timestamp(): window.total_frames for window in live}
    assert [found[at] for at in came] == [10, 10, 10]


@each_method
async def test_an_idle_interface_gives_empty_windows_at_whole_multiples(
    tap: str, method: CaptureMethod
) -> None:
    async def for_a_while(found: Listening) -> None:
        await found.until(lambda: len(found.windows) >= 4)

    live = await listening(point(method), for_a_while, seconds=0.25)

    assert [window.pairs for window in live[:4]] == [()] * 4
    starts = [window.start.timestamp() for window in live[:4]]
    assert starts == [starts[0] + 0.25 * i for i in range(4)]
    assert starts[0] % 0.25 == 0


@pytest.mark.parametrize("set_by", [-3600.0, 86400.0], ids=["back", "on"])
@pytest.mark.parametrize("method", IN_THE_KERNEL)
async def test_a_clock_that_is_set_keeps_no_traffic_back(
    tap: str, method: CaptureMethod, set_by: float
) -> None:
    """A hypervisor whose clock ran wrong until somebody told it the time."""
    wrong_by = 0.0
    clocked = await open_tap(method, lambda: time.time() + wrong_by)
    with closing(clocked):
        send(THERE, "peer", frames(10, seed=8))
        wrong_by = set_by
        send(THERE, "peer", frames(20, seed=9))
        windows: list[TrafficWindow] = []
        async with asyncio.timeout(30):
            while all_frames(windows) < 30:
                await asyncio.sleep(0.05)
                windows += clocked.windows_over(time.time() + wrong_by)

    assert all_frames(windows) == 30
    assert len(windows) < 200  # and not one for each half second of a day


# --- super-frames ------------------------------------------------------------------------------------


@each_method
async def test_a_super_frame_counts_as_the_segments_that_it_is_cut_into(
    tap: str, method: CaptureMethod
) -> None:
    """The same transfer with and without offloading: about the same frames and bytes are counted.

    Of a byte that was sent: TCP says some again where the machine is busy.
    """
    for netns, device, address in ((HERE, tap, "10.9.0.1"), (THERE, "peer", "10.9.0.2")):
        ip("-n", netns, "address", "add", f"{address}/24", "dev", device)

    sent: list[int] = []

    async def transfer(found: Listening) -> None:
        sent.append(await asyncio.to_thread(transmit, 20_000_000))
        await found.until(lambda: sum(w.payload_bytes.sum() for w in found.windows) >= 20_000_000)
        await found.to_the_end(0)

    cut_late = largest_pair(await listening(point(method), transfer))
    for netns, device in ((HERE, tap), (THERE, "peer")):
        switch_offloads_off(netns, device)
    cut_early = largest_pair(await listening(point(method), transfer))

    late, early = sent
    assert cut_late["payload"] == pytest.approx(late, rel=0.01)
    assert cut_late["frames"] / late == pytest.approx(cut_early["frames"] / early, rel=0.05)
    assert cut_late["bytes"] / late == pytest.approx(cut_early["bytes"] / early, rel=0.01)


TCP_BYTES_SENT_AT = 200
"""In the kernel's `tcp_info`."""


def transmit(count: int) -> int:
    """Send so many bytes by TCP; return how many were sent, those among them that were sent again."""
    with socket_in(HERE) as server, socket_in(THERE) as client:
        server.bind(("10.9.0.1", 0))
        server.listen()
        client.connect(server.getsockname())
        accepted, _ = server.accept()
        reading = threading.Thread(target=read_all, args=(accepted, count))
        reading.start()
        client.sendall(bytes(count))
        reading.join()
        told = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        (sent,) = struct.unpack_from("=Q", told, TCP_BYTES_SENT_AT)
        assert sent >= count
        return int(sent)


def read_all(accepted: socket.socket, count: int) -> None:
    with accepted:
        while count:
            count -= len(accepted.recv(1 << 20))


def largest_pair(windows: list[TrafficWindow]) -> dict[str, int]:
    found = rows(windows)
    (row, _), _ = Counter({k: v for k, v in found.items() if k[1] == "bytes"}).most_common(1)[0]
    return {column: found[row, column] for column in ("bytes", "payload", "frames")}


def switch_offloads_off(netns: str, device: str) -> None:
    """Switch segmentation and receive offloads off (the ioctls behind ethtool -K)."""
    with socket_in(netns, socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in (0x1F, 0x24, 0x2C):  # ETHTOOL_STSO, SGSO, SGRO
            value = ctypes.create_string_buffer(struct.pack("=II", command, 0))
            request = struct.pack("16sP16x", device.encode(), ctypes.addressof(value))
            fcntl.ioctl(control, 0x8946, request)


# --- sampling ----------------------------------------------------------------------------------------


@each_method
async def test_a_sample_tells_the_whole_within_its_error(
    tap: str, sender: Path, method: CaptureMethod
) -> None:
    async with opened(method) as found:
        found.sample(0.2)
        await wait_for_windows(found, 3)  # what was looked at before is over
        sent = 100_000
        sending = asyncio.create_task(asyncio.to_thread(flood, sender, sent))
        windows = []
        while not sending.done():  # unread for long, a ring has no room
            windows += await wait_for_windows(found, 1)
        windows += await windows_past(found, time.time())

    seen = [window for window in windows if len(window.pair)]
    assert all(window.sampled == pytest.approx(0.2, abs=1e-6) for window in seen)
    expected = 717.0 * sent
    errors = [window.bytes_error for window in seen]
    assert all(error is not None for error in errors)
    error = float(np.sqrt(sum(float((e**2).sum()) for e in errors if e is not None)))
    total = sum(window.total_bytes for window in seen)
    assert 0.001 < error / expected < 0.02
    assert abs(total - expected) < 4 * error + 0.005 * expected
    frame_error = np.sqrt(sent * (1 - 0.2) / 0.2)
    assert abs(all_frames(seen) - sent) < 4 * frame_error


class opened:  # noqa: N801  (reads as a word where it is used)
    """The tap of the one interface, without the loop around it."""

    def __init__(self, method: CaptureMethod) -> None:
        self._method = method

    async def __aenter__(self) -> Tap:
        self._tap = await open_tap(self._method, time.time)
        return self._tap

    async def __aexit__(self, *_: object) -> None:
        self._tap.close()


async def open_tap(method: CaptureMethod, clock: Callable[[], float]) -> Tap:
    with Interfaces(HERE) as interfaces:
        (interface,) = (each for each in interfaces.present() if each.name == "vnet0")
    tap = await Opener(point(method), SECONDS, clock).open(interface)
    assert tap is not None
    return tap


async def wait_for_windows(tap: Tap, count: int) -> list[TrafficWindow]:
    found: list[TrafficWindow] = []
    async with asyncio.timeout(30):
        while len(found) < count:
            await asyncio.sleep(0.05)
            tap.read()
            found += tap.windows_over(time.time())
    return found


async def windows_past(tap: Tap, moment: float) -> list[TrafficWindow]:
    """Read until the window is over that a moment is in."""
    found = await wait_for_windows(tap, 1)
    while found[-1].start.timestamp() + found[-1].seconds <= moment:
        found += await wait_for_windows(tap, 1)
    return found


async def test_capture_over_its_budget_samples(tap: str, sender: Path) -> None:
    async def keep_sending(found: Listening) -> None:
        while not found.windows or found.windows[-1].sampled >= 0.5:
            await asyncio.to_thread(flood, sender, 20_000)

    live = await listening(point(cpu_budget=0.001), keep_sending)

    assert live[0].sampled == 1.0
    assert live[-1].sampled < 0.5
    assert live[-1].bytes_error is not None


# --- what is lost is told ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", IN_THE_KERNEL)
async def test_nothing_is_lost_at_the_highest_rate(
    tap: str, sender: Path, method: CaptureMethod
) -> None:
    async def at_full_rate(found: Listening) -> None:
        await asyncio.to_thread(flood, sender, 300_000, 64)
        await found.to_the_end(300_000)

    live = await listening(point(method), at_full_rate)

    assert all_frames(live) == 300_000
    assert sum(window.total_bytes for window in live) == 300_000 * 64
    assert sum(window.dropped_frames for window in live) == 0


async def test_what_found_no_room_in_the_kernels_table_is_told(tap: str) -> None:
    """Its bytes are in the sum all the same, as nobody's."""
    with inside(HERE):
        number = socket.if_nametoindex(tap)

    def attach(program: int) -> TcxAttachment:
        with inside(HERE):
            return TcxAttachment(program, number, list(Direction))

    full = KernelTap(
        CaptureMethod.TCX,
        KernelCounter(has_link_layer=True, most_pairs=16),
        attach,
        seconds=SECONDS,
        capture_point="h/vnet0",
        clock=time.time,
    )
    plain = bytes(Ether(src=MACS[0], dst=MACS[1]) / IP(src="10.1.0.0") / UDP())
    sent = [plain[:28] + i.to_bytes(2, "big") + plain[30:] for i in range(3000)]
    with closing(full):
        may_run_on = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {min(may_run_on)})  # each processor has a memory of recent pairs
        send(THERE, "peer", sent)
        os.sched_setaffinity(0, may_run_on)
        windows = await windows_past(full, time.time())

    assert sum(window.total_bytes for window in windows) == sum(map(len, sent))
    dropped = sum(window.dropped_frames for window in windows)
    assert dropped > 1000
    assert all_frames(windows) + dropped == 3000


async def test_what_the_ring_had_no_room_for_is_told(tap: str, sender: Path) -> None:
    """The reader is stopped while more comes than the ring holds."""
    async with opened(CaptureMethod.RING) as found:
        await asyncio.to_thread(flood, sender, 200_000)
        windows = await windows_past(found, time.time())

    dropped = sum(window.dropped_frames for window in windows)
    assert dropped > 50_000
    assert all_frames(windows) + dropped == 200_000


# --- coming and going --------------------------------------------------------------------------------


@each_method
async def test_interfaces_that_come_and_go_are_listened_to_while_they_are_there(
    tap: str, method: CaptureMethod
) -> None:
    """A VM that migrates in brings a tap, and takes it away when it leaves."""

    async def come_and_go(found: Listening) -> None:
        ip("-n", HERE, "link", "delete", tap)
        await found.until(lambda: not found.capture.methods)
        add_pair("vnet7")
        await found.until(lambda: "vnet7" in found.capture.methods)
        await asyncio.to_thread(send, THERE, "peer", frames(50, seed=3))
        ip("-n", HERE, "link", "delete", "vnet7")
        await found.until(lambda: all_frames(found.windows) >= 50)

    live = await listening(point(method), come_and_go)

    assert {window.capture_point for window in live if len(window.pair)} == {"h/vnet7"}
    assert all_frames(live) == 50


@each_method
async def test_an_interface_made_anew_under_its_old_name_and_number_is_listened_to(
    tap: str, method: CaptureMethod
) -> None:
    """A guest that is started again: nothing about its tap looks different, but ours isn't attached to it."""
    with inside(HERE):
        number = socket.if_nametoindex(tap)

    async def again(found: Listening) -> None:
        await asyncio.to_thread(send, THERE, "peer", frames(20, seed=6))
        [before] = found.capture._taps.values()
        ip("-n", HERE, "link", "delete", tap)
        add_pair(tap, number=number)
        await found.until(lambda: any(each is not before for each in found.capture._taps.values()))
        await asyncio.to_thread(send, THERE, "peer", frames(30, seed=7))
        await found.until(lambda: all_frames(found.windows) >= 50)

    live = await listening(point(method), again)

    assert all_frames(live) == 50


@pytest.fixture
def few_files() -> Iterator[None]:
    """Have a limit that ten interfaces reach, as a hundred and twenty do the usual one."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened = len(list(Path("/proc/self/fd").iterdir()))
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 40, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


async def test_a_host_may_have_more_interfaces_than_files_are_let_be_open_at_first(
    tap: str, few_files: None
) -> None:
    more = {f"vnet{number}" for number in range(1, 10)}
    for name in more:
        ip("-n", HERE, "link", "add", name, "type", "veth", "peer", f"of{name}")

    async def look(found: Listening) -> None:
        await found.until(lambda: found.capture.methods.keys() == more | {tap})

    await listening(point(), look)


@each_method
async def test_cancelling_leaves_no_descriptor_and_no_program(
    tap: str, method: CaptureMethod
) -> None:
    def open_descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    async def nothing(found: Listening) -> None:
        await found.until(lambda: bool(found.windows))

    await listening(point(method), nothing, seconds=0.2)  # whatever is opened once and kept
    before = open_descriptors()
    await listening(point(method), nothing, seconds=0.2)

    assert open_descriptors() == before
    assert programs_at(tap) == 0
    assert "clsact" not in tc("qdisc", "show", "dev", tap)


def programs_at(tap: str) -> int:
    """Return how many programs are attached by tcx (BPF_PROG_QUERY)."""
    with inside(HERE):
        number = socket.if_nametoindex(tap)
        total = 0
        for direction in Direction:
            attributes = ctypes.create_string_buffer(struct.pack("=II", number, direction), 128)
            system_call = {"x86_64": 321}.get(os.uname().machine, 280)
            libc = ctypes.CDLL(None, use_errno=True)
            assert libc.syscall(system_call, 16, attributes, 128) == 0
            total += struct.unpack_from("=I", attributes, 24)[0]
    return total


LISTENER = """
import asyncio
from transhume.deployment.model import CaptureMethod, CapturePoint
from transhume.monitor.capture.live import LiveCapture
async def listen():
    point = CapturePoint(host="h", interfaces=("vnet*",), netns="{netns}", method=CaptureMethod("{method}"))
    async for window in LiveCapture(point, 0.2).windows():
        print("listening", flush=True)
asyncio.run(listen())
"""


def listen_and_die(method: CaptureMethod) -> int:
    """Capture in a process of its own, and kill it; return its number."""
    code = LISTENER.format(netns=HERE, method=method)
    running = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert running.stdout is not None
        while (line := running.stdout.readline()) != "listening\n":
            assert line
        if method is CaptureMethod.TCX:
            assert programs_at("vnet0") == 2
    finally:
        running.kill()
        running.communicate()
    return running.pid


def test_a_killed_capture_by_tcx_leaves_nothing(tap: str) -> None:
    listen_and_die(CaptureMethod.TCX)

    deadline = time.monotonic() + 60
    while programs_at(tap) and time.monotonic() < deadline:
        time.sleep(0.01)  # the kernel lets go of a dead process's descriptors a little later
    assert programs_at(tap) == 0


async def test_what_a_killed_capture_left_is_removed_by_the_next_and_nothing_else(
    tap: str,
) -> None:
    pid = listen_and_die(CaptureMethod.CLSACT)
    assert f":{pid}:" in tc("filter", "show", "dev", tap, "ingress")
    with closing(KernelCounter(has_link_layer=True)) as foreign:
        await asyncio.to_thread(add_pair_with_foreign_filter, "vnet9", foreign.program)

    async def look(found: Listening) -> None:
        await found.until(lambda: found.capture.methods.keys() == {tap, "vnet9"})
        assert f":{pid}:" not in tc("filter", "show", "dev", tap, "ingress")
        assert tc("filter", "show", "dev", tap, "egress").count("transhume:") == 1
        assert tc("filter", "show", "dev", "vnet9", "ingress").count("transhume:") == 1
        await found.until(lambda: bool(found.windows))

    await listening(point(CaptureMethod.CLSACT), look)

    assert "clsact" not in tc("qdisc", "show", "dev", tap)
    assert "clsact" in tc("qdisc", "show", "dev", "vnet9")
    left = tc("filter", "show", "dev", "vnet9", "ingress")
    assert "foreign" in left
    assert "transhume:" not in left


def add_pair_with_foreign_filter(name: str, program: int) -> None:
    """Make an interface that somebody else has put a filter at."""
    ip("-n", HERE, "link", "add", name, "type", "veth", "peer", "other")
    ip("-n", HERE, "link", "set", name, "up")
    with inside(HERE):
        number = socket.if_nametoindex(name)
    with netlink_in(HERE) as netlink:
        netlink.tc("add", "clsact", number)
        netlink.tc(
            "add-filter", "bpf", number, 0, fd=program, name="foreign", parent=0xFFFFFFF2, prio=1,
            protocol=3, direct_action=True,
        )  # fmt: skip


# --- which method ------------------------------------------------------------------------------------


async def test_the_kernel_counts_where_it_can(tap: str) -> None:
    async def look(found: Listening) -> None:
        assert found.capture.methods == {"vnet0": CaptureMethod.TCX}

    await listening(point(), look)


async def test_windows_too_short_for_the_kernel_are_counted_by_a_ring(tap: str) -> None:
    """A frame's own time tells its window, however short that is."""
    sent: list[float] = []

    async def short(found: Listening) -> None:
        assert found.capture.methods == {"vnet0": CaptureMethod.RING}
        sent.append(time.time())
        send(THERE, "peer", frames(1, seed=4))
        sent.append(time.time())
        await found.until(lambda: all_frames(found.windows) >= 1)

    live = await listening(point(), short, seconds=0.05)

    (window,) = (window for window in live if len(window.pair))
    assert sent[0] - 0.05 <= window.start.timestamp() <= sent[1]


async def test_a_method_that_was_asked_for_and_does_not_work_is_refused(tap: str) -> None:
    capture = LiveCapture(point(CaptureMethod.TCX), 0.05)

    with pytest.raises(UsageError, match=r"tcx: windows of less than 0.2 s take a ring"):
        await anext(capture.windows())


async def test_a_namespace_that_is_not_there_is_named() -> None:
    nowhere = CapturePoint(host=HostName("h"), netns="nowhere")

    with pytest.raises(UsageError, match="no network namespace nowhere"):
        await anext(LiveCapture(nowhere, 1.0).windows())
