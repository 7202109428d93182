"""The same frames captured at every point that they pass, at the same time: each counts once, as it was sent.

Two hypervisors in network namespaces, each a bridge with taps, joined by an uplink; five VMs in namespaces of
their own talk to each other by TCP and UDP while tcpdump writes down what passes taps, bridges and both ends of
the uplink.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from itertools import permutations
from pathlib import Path

import pytest

from tests.system.tcpdump import Tcpdump
from transhume.analyze import build_matrix
from transhume.knowledge.model import (
    NOTHING,
    CommunicationMatrix,
    Interface,
    MacAddress,
    TrafficWindow,
    Vm,
    VmName,
)
from transhume.monitor.capture.files import read_windows
from transhume.reach.netns import inside, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(
        os.geteuid() != 0 or not all(map(shutil.which, ("tcpdump", "ip", "tc"))),
        reason="needs root, tcpdump and iproute2",
    ),
]

VMS = range(1, 6)
HOST_OF = {1: "left", 2: "left", 3: "left", 4: "right", 5: "right"}
POINTS = [(HOST_OF[vm], f"tap{vm}") for vm in VMS] + [
    (host, device) for host in ("left", "right") for device in ("br0", "uplink")
]
TAPS = [f"tap{vm}" for vm in VMS]
AN_HOUR = 3600.0
"""One window holds it all: a frame near the end of a shorter one may be in the next at another point."""
PORT = 7777
OPTIONS = ("-s", "96", "-B", "16384")
TIME_WAIT = "06"
"""A connection that both ends have closed, in `/proc/net/tcp`."""


def netns(name: str) -> str:
    return f"thds{os.getpid()}{name}"


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)


def mac(vm: int) -> str:
    return f"52:54:00:00:0d:{vm:02x}"


def address(vm: int) -> str:
    return f"10.77.0.{vm}"


def add_device(where: str, name: str, other: str, peer: str) -> None:
    """Make a veth pair without IPv6 and super-frames, so that each frame is one at every point."""
    ip("-n", netns(where), "link", "add", name, "type", "veth", "peer", peer, "netns", netns(other))
    for space, device in ((where, name), (other, peer)):
        quiet = f"echo 1 >/proc/sys/net/ipv6/conf/{device}/disable_ipv6"
        ip("netns", "exec", netns(space), "sh", "-c", quiet)
        ip("-n", netns(space), "link", "set", device, "gso_max_segs", "1")


def add_bridge(host: str, ports: Sequence[str]) -> None:
    ip("-n", netns(host), "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
    quiet = "echo 1 >/proc/sys/net/ipv6/conf/br0/disable_ipv6"
    ip("netns", "exec", netns(host), "sh", "-c", quiet)
    for port in ports:
        ip("-n", netns(host), "link", "set", port, "master", "br0", "up")
    ip("-n", netns(host), "link", "set", "br0", "up")


def add_vm(vm: int) -> None:
    add_device(HOST_OF[vm], f"tap{vm}", f"vm{vm}", "eth0")
    space = netns(f"vm{vm}")
    ip("-n", space, "link", "set", "eth0", "address", mac(vm), "up")
    ip("-n", space, "address", "add", f"{address(vm)}/24", "dev", "eth0")
    for other in VMS:
        if other != vm:
            ip("-n", space, "neighbour", "add", address(other), "lladdr", mac(other), "dev", "eth0")


@pytest.fixture
def two_hosts() -> Iterator[None]:
    spaces = [netns(name) for name in ("left", "right", *(f"vm{vm}" for vm in VMS))]
    with ExitStack() as cleaning:
        for space in spaces:
            ip("netns", "add", space)
            cleaning.callback(
                subprocess.run, ["ip", "netns", "delete", space], check=False, capture_output=True
            )
        for vm in VMS:
            add_vm(vm)
        add_device("left", "uplink", "right", "uplink")
        for host in ("left", "right"):
            add_bridge(host, [*(f"tap{vm}" for vm in VMS if HOST_OF[vm] == host), "uplink"])
        await_forwarding()
        yield


def await_forwarding() -> None:
    """Wait until the bridges have noticed that their ports are up."""
    deadline = time.monotonic() + 20
    for host, device in POINTS:
        if device == "br0":
            continue
        show = ["ip", "-n", netns(host), "-d", "link", "show", device]
        while (
            "state forwarding"
            not in subprocess.run(show, check=True, capture_output=True, text=True).stdout
        ):
            assert time.monotonic() < deadline, f"{device} of {host} forwards nothing"
            time.sleep(0.05)


@contextmanager
def captured(folder: Path) -> Iterator[None]:
    """Capture at all points until the block ends."""
    with ExitStack() as stack:
        running = [
            stack.enter_context(
                Tcpdump(netns(host), device, folder / f"{host}-{device}.pcap", *OPTIONS)
            )
            for host, device in POINTS
        ]
        for each in running:
            each.wait_until_it_listens()
        yield
        said = [each.end() for each in running]
    assert all("0 packets dropped by kernel" in text for text in said)


def windows(folder: Path, *devices: str) -> list[TrafficWindow]:
    """Read what was captured at some devices, or at all."""
    return [
        window
        for host, device in POINTS
        if not devices or device in devices
        for window in read_windows(folder / f"{host}-{device}.pcap", AN_HOUR)[0]
    ]


def matrix(seen: list[TrafficWindow]) -> CommunicationMatrix:
    return build_matrix(
        seen,
        [
            Vm(
                name=VmName(f"vm{vm}"),
                uuid=str(vm),
                needs=NOTHING,
                interfaces=(Interface(mac=MacAddress(mac(vm))),),
            )
            for vm in VMS
        ],
    )


def sent_bytes() -> list[int]:
    """Return what each VM's interface has sent, as its kernel counts it."""
    found = []
    for vm in VMS:
        with inside(netns(f"vm{vm}")):
            counters = Path("/proc/thread-self/net/dev").read_text().splitlines()
        [eth0] = [line.split() for line in counters if line.strip().startswith("eth0:")]
        found.append(int(eth0[9]))
    return found


def connections_are_closing() -> bool:
    """Say whether a VM may still have to say that a connection is over, once more perhaps."""
    for vm in VMS:
        with inside(netns(f"vm{vm}")):
            rows = Path("/proc/thread-self/net/tcp").read_text().splitlines()[1:]
        if any(row.split()[3] != TIME_WAIT for row in rows):
            return True
    return False


def datagrams(source: int, destination: int) -> tuple[int, int]:
    """Return how many datagrams of which length one VM sends another: no two pairs alike."""
    return 20 + 3 * source + destination, 100 * source + 10 * destination


def send_datagrams() -> None:
    with ExitStack() as listening:
        for vm in VMS:  # nobody may answer that the port is closed
            receiver = socket_in(netns(f"vm{vm}"), socket.AF_INET, socket.SOCK_DGRAM)
            listening.enter_context(receiver).bind((address(vm), PORT))
        _send_datagrams()


def _send_datagrams() -> None:
    for source, destination in permutations(VMS, 2):
        count, length = datagrams(source, destination)
        with socket_in(netns(f"vm{source}"), socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(count):
                sender.sendto(bytes(length), (address(destination), PORT))


def send_stream(source: int, destination: int, amount: int) -> None:
    """Send over TCP until the other end has it all."""
    with (
        socket_in(netns(f"vm{destination}")) as listening,
        socket_in(netns(f"vm{source}")) as sender,
        ThreadPoolExecutor(1) as pool,
    ):
        for each in (listening, sender):
            each.settimeout(30)
        listening.bind((address(destination), PORT))
        listening.listen()
        sender.connect((address(destination), PORT))
        receiver, _ = listening.accept()
        with receiver:
            received = pool.submit(read_all, receiver)
            sender.sendall(bytes(amount))
            sender.shutdown(socket.SHUT_WR)
            assert received.result() == amount


def read_all(receiver: socket.socket) -> int:
    receiver.settimeout(30)
    received = 0
    while part := receiver.recv(1 << 16):
        received += len(part)
    return received


STREAMS = ((1, 2), (1, 4), (5, 3), (4, 5))
STREAMED = 300_000


def talk() -> list[int]:
    """Send all datagrams and streams; return how many bytes each VM's interface sent."""
    before = sent_bytes()
    send_datagrams()
    for source, destination in STREAMS:
        send_stream(source, destination, STREAMED)
    while connections_are_closing():
        time.sleep(0.05)
    time.sleep(0.5)
    return [after - so_far for after, so_far in zip(sent_bytes(), before, strict=True)]


def assert_payload_as_sent(found: CommunicationMatrix) -> None:
    """Compare with what was handed to sockets; TCP may have sent some of a stream twice."""
    counted = found.dense(found.payload_bytes)
    for source, destination in permutations(VMS, 2):
        count, length = datagrams(source, destination)
        beyond = counted[source - 1, destination - 1] - count * length
        if (source, destination) in STREAMS:
            assert STREAMED <= beyond < 1.2 * STREAMED
        else:
            assert beyond == 0


def test_each_frame_counts_once(two_hosts: None, tmp_path: Path) -> None:
    with captured(tmp_path):
        sent = talk()

    seen = windows(tmp_path)
    found, by_taps = matrix(seen), matrix(windows(tmp_path, *TAPS))

    assert sum(window.total_bytes for window in seen) > 4 * sum(sent), "it was seen often"
    assert found.total_bytes == found.bytes.sum() == sum(sent)
    assert found.dense().sum(axis=1).tolist() == sent
    assert_payload_as_sent(found)
    assert found.dense().tolist() == by_taps.dense().tolist()
    assert found.dense(found.frames).tolist() == by_taps.dense(by_taps.frames).tolist()


def test_what_the_uplink_lost_was_sent_all_the_same(two_hosts: None, tmp_path: Path) -> None:
    shaping = "root tbf rate 5mbit burst 5kb limit 10kb"
    subprocess.run(
        [
            "ip",
            "netns",
            "exec",
            netns("left"),
            "tc",
            "qdisc",
            "add",
            "dev",
            "uplink",
            *shaping.split(),
        ],
        check=True,
    )
    with captured(tmp_path):
        sent = talk()

    found, by_taps = matrix(windows(tmp_path)), matrix(windows(tmp_path, *TAPS))
    arrived = matrix(windows(tmp_path, "tap4", "tap5"))

    assert arrived.dense()[:3, 3:].sum() < found.dense()[:3, 3:].sum(), "some was lost"
    assert found.dense().sum(axis=1).tolist() == sent
    assert found.dense().tolist() == by_taps.dense().tolist()


def test_without_the_sources_taps_what_arrived_counts(two_hosts: None, tmp_path: Path) -> None:
    """Of VMs at a host where nobody captures taps, the other host's taps and the bridge tell."""
    with captured(tmp_path):
        sent = talk()

    found = matrix(windows(tmp_path, "br0", "uplink", "tap4", "tap5"))

    assert found.dense().sum(axis=1).tolist() == sent
    assert_payload_as_sent(found)
