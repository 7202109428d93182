"""One TCP stream through VXLAN in WireGuard, beside the same stream through WireGuard alone.

Two sites in network namespaces, joined by a veth that carries real 1500-byte packets (no segmentation offload),
with the underlay's own device, addresses and guard; behind each a VM's namespace on a bridge with a VXLAN port.
The two ways are measured in turns. Told are the rates, which on a busy machine say little, and what a byte
costs in CPU time: of wireguard-go at both ends (which limits the rate), and of sender and receiver with it.
`make bench-overlay SECTIONS=encrypted`, as root.
"""

import ctypes
import fcntl
import os
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

from pyroute2 import netns as namespaces
from rich.console import Console

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.execute.overlay.plane import SitePlane
from transhume.execute.overlay.underlay import interface
from transhume.execute.overlay.underlay.device import Device, DeviceSetting, PeerSetting
from transhume.execute.overlay.underlay.keys import private_key, public_key
from transhume.execute.overlay.underlay.mesh import open_device
from transhume.execute.overlay.underlay.settings import TunnelNetwork, UnderlaySettings
from transhume.execute.overlay.underlay.userspace_device import UserspaceDevice
from transhume.execute.overlay.underlay.wireguard_text import base64_key
from transhume.knowledge.model import IpAddress, SiteName
from transhume.reach.netns import inside, netlink_in, socket_in

NAMES = (SiteName("a"), SiteName("b"))
WIRE = {name: f"172.31.7.{number}" for number, name in enumerate(NAMES, start=1)}
VM_IP = {name: f"10.77.7.{number}" for number, name in enumerate(NAMES, start=1)}
TUNNELS = TunnelNetwork(
    fixed={name: IpAddress(f"100.64.7.{number}") for number, name in enumerate(NAMES, start=1)}
)
PORT, LISTEN_PORT, VNI = 5201, 51820, 7
VM_MTU = 1370
PIECE_BYTES = 1 << 20
ASKED = 0.85
_SIOCETHTOOL, _OFFLOADS = 0x8946, (0x1F, 0x24, 0x2C)
"""To set segmentation by TCP, by the kernel, and the putting together of what was received."""

SENDER = """
import socket, sys, time
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=30) as out:
    out.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"cubic")
    piece, end = bytes(int(sys.argv[4])), time.monotonic() + float(sys.argv[3])
    begin = time.process_time()
    while time.monotonic() < end:
        out.sendall(piece)
print(time.process_time() - begin)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stream:
    """One stream, measured."""

    received_bytes: int
    seconds: float
    program_seconds: float
    """CPU time of wireguard-go at both ends; 0 where the kernel encrypts."""
    end_seconds: float
    """CPU time of the sender and the receiver, with what the kernel does on their behalf."""

    @property
    def bits_per_second(self) -> float:
        """How fast the stream was."""
        return 8 * self.received_bytes / self.seconds

    @property
    def cpu_seconds_per_byte(self) -> float:
        """What it cost, all in all."""
        return (self.program_seconds + self.end_seconds) / self.received_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Encrypted:
    """What was measured, a stream a turn."""

    program: str
    """Who encrypted: "kernel" or "wireguard-go"."""
    alone: tuple[Stream, ...]
    overlay: tuple[Stream, ...]

    @property
    def share(self) -> float:
        """The rate through the overlay over that of WireGuard alone, by medians."""
        over, alone = (
            median(stream.bits_per_second for stream in each) for each in (self.overlay, self.alone)
        )
        return over / alone

    @property
    def share_by_cpu(self) -> float:
        """The share that CPU time allows: a byte's cost alone over its cost through the overlay."""
        over, alone = (
            median(stream.cpu_seconds_per_byte for stream in each)
            for each in (self.overlay, self.alone)
        )
        return alone / over


def measure_encrypted(folder: Path, *, rounds: int = 7, seconds: float = 4.0) -> Encrypted:
    """Measure in turns, which way comes first alternating; needs root and WireGuard of either kind.

    Args:
        folder: for keys.
        rounds: how many turns.
        seconds: how long each stream sends.
    """
    alone: list[Stream] = []
    overlay: list[Stream] = []
    ways = (
        (alone, site_of(NAMES[0]), site_of(NAMES[1]), TUNNELS.address(NAMES[1])),
        (overlay, vm_of(NAMES[0]), vm_of(NAMES[1]), VM_IP[NAMES[1]]),
    )
    with two_sites(folder) as devices:
        programs = [
            device.pid for device in devices if isinstance(device, UserspaceDevice) and device.pid
        ]
        for _, near, far, to in ways:
            stream_between(near, far, to, 0.5, programs)
        for turn in range(rounds):
            for found, near, far, to in ways if turn % 2 else reversed(ways):
                found.append(stream_between(near, far, to, seconds, programs))
        program = devices[0].kind
    return Encrypted(program=program, alone=tuple(alone), overlay=tuple(overlay))


def stream_between(near: str, far: str, to: str, seconds: float, programs: Sequence[int]) -> Stream:
    """Send a TCP stream from one namespace to an address in another, for so long."""
    with closing(socket_in(far)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.settimeout(30)
        listener.bind(("", PORT))
        listener.listen()
        words = [sys.executable, "-c", SENDER, to, str(PORT), str(seconds), str(PIECE_BYTES)]
        with inside(near):
            sender = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        with sender:
            receiver, _ = listener.accept()
            before, ours = sum(map(_cpu_of, programs)), time.process_time()
            with receiver:
                received, took = _received(receiver)
            ours = time.process_time() - ours
            theirs = float(sender.stdout.read()) if sender.stdout else 0.0
    return Stream(
        received_bytes=received,
        seconds=took,
        program_seconds=sum(map(_cpu_of, programs)) - before,
        end_seconds=ours + theirs,
    )


def _cpu_of(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _received(receiver: socket.socket) -> tuple[int, float]:
    receiver.settimeout(30)
    buffer = bytearray(PIECE_BYTES)
    total, begin = 0, time.monotonic()
    while got := receiver.recv_into(buffer):
        total += got
    return total, time.monotonic() - begin


def site_of(name: SiteName) -> str:
    """Return a site's namespace."""
    return f"thbench-w{name}"


def vm_of(name: SiteName) -> str:
    """Return the namespace of a site's VM."""
    return f"thbench-w{name}-vm"


@contextmanager
def two_sites(folder: Path) -> Iterator[list[Device]]:
    """Have the sites, their tunnel and their VMs; yield the WireGuard devices."""
    everything = [*map(site_of, NAMES), *map(vm_of, NAMES)]
    made: list[str] = []
    devices: list[Device] = []
    try:
        for netns in everything:
            namespaces.create(netns)
            made.append(netns)
            with inside(netns):
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        _wire()
        devices = _tunnel(folder)
        for name in NAMES:
            _vm(name)
        yield devices
    finally:
        for device in devices:
            device.remove()
        for netns in made:
            with suppress(FileNotFoundError):
                namespaces.remove(netns)


def _wire() -> None:
    near, far = map(site_of, NAMES)
    with netlink_in(near) as here, netlink_in(far) as there:
        here.link("add", ifname="wan0", kind="veth", peer={"ifname": "wan0", "net_ns_fd": far})
        for netlink, name in ((here, NAMES[0]), (there, NAMES[1])):
            index = netlink.link_lookup(ifname="wan0")[0]
            netlink.addr("add", index=index, address=WIRE[name], prefixlen=24)
            netlink.link("set", index=index, state="up")
    for name in NAMES:
        _no_offload(site_of(name), "wan0")


def _no_offload(netns: str, device: str) -> None:
    """Let only packets of real length leave: a veth would pass on super-frames whole."""
    with inside(netns), closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as asking:
        for command in _OFFLOADS:
            off = ctypes.create_string_buffer(struct.pack("II", command, 0))
            request = struct.pack("16sP16x", device.encode(), ctypes.addressof(off))
            fcntl.ioctl(asking, _SIOCETHTOOL, request)


def _tunnel(folder: Path) -> list[Device]:
    keys = {name: private_key(folder / f"{name}.key") for name in NAMES}
    devices: list[Device] = []
    for ours, other in (NAMES, NAMES[::-1]):
        settings = UnderlaySettings(
            site=ours,
            identity=folder,
            key_file=folder / f"{ours}.key",
            device=f"thbench-w{ours}",
            netns=site_of(ours),
            tunnels=TUNNELS,
            tcp_ports=frozenset({PORT}),
        )
        device = open_device(settings.device, settings.netns)
        devices.append(device)
        device.ensure()
        device.configure(DeviceSetting(private_key=keys[ours], listen_port=LISTEN_PORT))
        interface.set_up(settings)
        peer = PeerSetting(
            public_key=base64_key(public_key(keys[other])),
            allowed_ips=(f"{TUNNELS.address(other)}/32",),
        )
        begins = ours == NAMES[0]
        device.change([replace(peer, endpoint=f"{WIRE[other]}:{LISTEN_PORT}") if begins else peer])
    return devices


def _vm(name: SiteName) -> None:
    network = OverlayNetwork(
        vni=VNI,
        sites=tuple(
            OverlaySite(
                name=each,
                bridge="br0",
                underlay=f"thbench-w{each}",
                vtep=TUNNELS.address(each),
                netns=site_of(each),
            )
            for each in NAMES
        ),
    )
    (own,) = (site for site in network.sites if site.name == name)
    with netlink_in(site_of(name)) as netlink, netlink_in(vm_of(name)) as vm:
        netlink.link("add", ifname="br0", kind="bridge")
        bridge = netlink.link_lookup(ifname="br0")[0]
        netlink.link("set", index=bridge, state="up")
        peer = {"ifname": "vm", "net_ns_fd": site_of(name)}
        vm.link("add", ifname="eth0", kind="veth", peer=peer)
        index = vm.link_lookup(ifname="eth0")[0]
        vm.addr("add", index=index, address=VM_IP[name], prefixlen=24)
        vm.link("set", index=index, mtu=VM_MTU, state="up")
        port = netlink.link_lookup(ifname="vm")[0]
        netlink.link("set", index=port, mtu=VM_MTU, master=bridge, state="up")
    with SitePlane(network, own, floods_unknown=True) as plane:
        plane.set_up()


def measure_all(console: Console) -> dict[str, Any]:
    """Measure and print; return what was found."""
    with TemporaryDirectory() as folder:
        found = measure_encrypted(Path(folder))
    for name, streams in (("alone", found.alone), ("VXLAN in it", found.overlay)):
        rate = median(stream.bits_per_second for stream in streams) / 1e6
        cost = median(stream.cpu_seconds_per_byte for stream in streams) * 1e9
        console.print(f"{found.program}, {name}: {rate:.0f} Mbit/s, {cost:.1f} ns of CPU a byte")
    console.print(
        f"share: {found.share:.2f}; by CPU time: {found.share_by_cpu:.2f} (asked: {ASKED})"
    )
    return asdict(found) | {"share": found.share, "share_by_cpu": found.share_by_cpu}
