"""What waits in the tap of a VM that has stopped: on real taps, bridges and tunnels.

The taps are held by a process that doesn't read them, as by a QEMU whose VM doesn't run.
"""

import asyncio
import fcntl
import os
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.system.overlay_frames import EVERYONE, drained, ear, frame, settle
from tests.system.overlay_sites import (
    FIXED,
    MAC,
    MOVER,
    MOVER_IP,
    NETWORK,
    PORT,
    index,
    netns_of,
    plug,
    three_sites,
)
from tests.system.test_overlay_agents import VM, Stage, stage
from transhume.execute.overlay import nftables
from transhume.execute.overlay.agent.events import Awaited, Runs
from transhume.execute.overlay.plane import SitePlane
from transhume.execute.overlay.routes import Route
from transhume.execute.overlay.salvage import Salvager
from transhume.execute.overlay.salvage.taps import held
from transhume.knowledge.model import Interface, IpAddress, MacAddress
from transhume.reach.netns import inside, netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

TAP = "mover"
SENDER = MacAddress("52:54:00:00:00:55")
OTHER = MacAddress("52:54:00:00:00:77")
SITE_A, SITE_B, _ = NETWORK.sites
HERE = Route(mac=MAC, vtep=None, device=TAP)
ON_TO_B = Route(mac=MAC, vtep=IpAddress(SITE_B.vtep), detour=True)
PATIENCE_SECONDS = 60.0
_SET_INTERFACE, _SET_HEADER_BYTES, _SET_OFFLOADS = 0x400454CA, 0x400454D8, 0x400454D0
_ADD_PORT, _SET_FLAGS, _UP = 0x89A2, 0x8914, 0x0001
_TAP_WITH_HEADER, _SEVERAL_QUEUES = 0x0002 | 0x1000 | 0x4000, 0x0100
_CHECKSUM_TCP4_ECN = 0x01 | 0x02 | 0x08
_NEEDS_CHECKSUM, _TCP4 = 1, 1
_SOL_PACKET, _WITH_HEADER = 263, 15
_VIRTIO_HEADER = struct.Struct("<BBHHHH")


@dataclass
class Owner:
    """A process that has a tap open and doesn't read it."""

    process: "subprocess.Popen[bytes]"

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


@contextmanager
def tap_at(
    site: str, *, queues: int = 1, header_bytes: int = 12, blocking: bool = False
) -> Iterator[Owner]:
    """Plug a tap into a site's bridge; it's gone when its owner is."""
    with ExitStack() as stack:
        opened = [_queue(site, queues, header_bytes, blocking) for _ in range(queues)]
        try:
            process = subprocess.Popen(["sleep", "600"], pass_fds=opened)
        finally:
            for each in opened:
                os.close(each)
        owner = Owner(process)
        stack.callback(owner.end)
        _plug_in(site)
        yield owner


def _queue(site: str, queues: int, header_bytes: int, blocking: bool) -> int:
    flags = _TAP_WITH_HEADER | (_SEVERAL_QUEUES if queues > 1 else 0)
    with inside(netns_of(site)):
        opened = os.open("/dev/net/tun", os.O_RDWR | (0 if blocking else os.O_NONBLOCK))
        fcntl.ioctl(opened, _SET_INTERFACE, struct.pack("16sH22x", TAP.encode(), flags))
    fcntl.ioctl(opened, _SET_HEADER_BYTES, struct.pack("i", header_bytes))
    fcntl.ioctl(opened, _SET_OFFLOADS, _CHECKSUM_TCP4_ECN)
    return opened


def _plug_in(site: str) -> None:
    """Make the tap a port of the bridge, by the old way: netlink's would want the event loop's thread."""
    with inside(netns_of(site)), closing(socket.socket(type=socket.SOCK_DGRAM)) as control:
        fcntl.ioctl(control, _SET_FLAGS, struct.pack("16sH22x", TAP.encode(), _UP))
        port = struct.pack("16si20x", b"br0", socket.if_nametoindex(TAP))
        fcntl.ioctl(control, _ADD_PORT, port)


def tap_is_at(site: str) -> bool:
    with inside(netns_of(site)):
        return TAP in {name for _, name in socket.if_nameindex()}


def eventually(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def in_its_tap(site: str) -> list[bytes]:
    """Take the frames out that wait in the tap at a site."""
    (tap,) = held({MAC: TAP}, netns_of(site), "thvr99").values()
    with closing(tap):
        return [bytes(each) for _, each in tap._frames()]


@pytest.fixture
def sites() -> Iterator[dict[str, SitePlane]]:
    """Three sites, whose VM is at `a` behind no tap yet, with its new interface plugged in at `b`."""
    with three_sites(), ExitStack() as stack:
        with netlink_in(MOVER) as mover:
            mover.link("del", index=index(mover, "eth0"))
        plug(MOVER, netns_of("b"), "eth0", TAP, MOVER_IP, address=str(MAC))
        made = {each.name: stack.enter_context(SitePlane(NETWORK, each)) for each in NETWORK.sites}
        for plane in made.values():
            plane.set_up()
        made["b"].apply([HERE])
        yield made


@pytest.fixture
def mouth(sites) -> Iterator[socket.socket]:
    """Sends raw frames, each after a header, from the endpoint at `a`."""
    with closing(socket_in(FIXED["a"], socket.AF_PACKET, socket.SOCK_RAW, 0)) as opened:
        opened.setsockopt(_SOL_PACKET, _WITH_HEADER, 1)
        opened.bind(("eth0", 0))
        yield opened


@pytest.fixture
def new_place(sites) -> Iterator[socket.socket]:
    """Hears what comes to the VM's new interface."""
    with closing(ear(MOVER, "eth0")) as opened:
        yield opened


def say(mouth: socket.socket, payload: bytes, to: MacAddress = MAC) -> None:
    mouth.send(bytes(10) + frame(to, SENDER, payload))


def numbered(first: int, end: int) -> list[bytes]:
    return [b"%d" % number for number in range(first, end)]


def heard(opened: socket.socket, to: MacAddress = MAC) -> list[bytes]:
    settle()
    wanted = frame(to, SENDER, b"")[:14]
    return [each[14:].rstrip(b"\0") for each in drained(opened) if each.startswith(wanted)]


async def salvager_holding(site=SITE_A) -> Salvager:
    salvager = Salvager(NETWORK, site)
    salvager.hold({MAC: TAP})
    while salvager._finding:
        await asyncio.sleep(0.01)
    return salvager


async def switch(planes: dict[str, SitePlane], salvager: Salvager) -> None:
    planes["a"].apply([ON_TO_B])
    salvager.send_on([MAC])


@pytest.mark.parametrize("header_bytes", [10, 12])
async def test_what_waits_arrives_once_in_order_and_only_what_is_for_the_vm(
    sites, mouth, new_place, header_bytes: int
):
    with tap_at("a", header_bytes=header_bytes):
        sites["a"].apply([HERE])
        await wait_until_heard_at_b(mouth, new_place)
        salvager = await salvager_holding()
        for payload in numbered(0, 100):
            say(mouth, payload)
            say(mouth, payload, EVERYONE)
            say(mouth, payload, OTHER)

        await switch(sites, salvager)
        for payload in numbered(100, 110):
            say(mouth, payload)

        settle()
        came = drained(new_place)
        assert payloads(came, MAC) == numbered(0, 110)
        assert payloads(came, EVERYONE) == numbered(0, 100), "these find their way by themselves"
        assert payloads(came, OTHER) == []


async def test_several_queues_are_all_emptied(sites, mouth, new_place):
    with tap_at("a", queues=4):
        sites["a"].apply([HERE])
        await wait_until_heard_at_b(mouth, new_place)
        salvager = await salvager_holding()
        for number in range(64):
            source = MacAddress(f"52:54:00:00:02:{number:02x}")
            mouth.send(bytes(10) + frame(MAC, source, b"x"))

        await switch(sites, salvager)

        settle()
        sources = [each[6:12] for each in drained(new_place) if each[14:15] == b"x"]
        assert sorted(sources) == [bytes.fromhex(f"5254000002{n:02x}") for n in range(64)]


async def test_datagrams_whose_checksum_is_left_to_the_device_arrive_whole(sites, mouth, new_place):
    """The endpoint's own stack leaves it out, because its interface says that it can do that."""
    with tap_at("a"):
        sites["a"].apply([HERE])
        await wait_until_heard_at_b(mouth, new_place)
        salvager = await salvager_holding()
        datagrams = socket.SOCK_DGRAM
        with (
            closing(socket_in(FIXED["a"], kind=datagrams)) as sender,
            closing(socket_in(MOVER, kind=datagrams)) as receiver,
        ):
            receiver.bind(("", PORT))
            receiver.settimeout(PATIENCE_SECONDS)
            sender.sendto(b"whole" * 100, (MOVER_IP, PORT))

            await switch(sites, salvager)

            assert receiver.recv(65536) == b"whole" * 100


async def test_a_segment_too_long_for_any_wire_arrives_whole(sites, mouth, new_place):
    """What TCP leaves to the device to cut up: each byte once, and with right checksums."""
    data = os.urandom(8_000)
    with tap_at("a"):
        sites["a"].apply([HERE])
        await wait_until_heard_at_b(mouth, new_place)
        salvager = await salvager_holding()
        header = _VIRTIO_HEADER.pack(_NEEDS_CHECKSUM, _TCP4, 54, 1_000, 34, 16)
        mouth.send(header + tcp_frame(data))

        await switch(sites, salvager)

        settle()
        pieces = {
            struct.unpack_from("!I", each, 38)[0]: each[54:]
            for each in drained(new_place)
            if each[12:14] == b"\x08\0" and each[23] == socket.IPPROTO_TCP
        }
        assert b"".join(piece for _, piece in sorted(pieces.items())) == data


def tcp_frame(data: bytes) -> bytes:
    """Return a TCP segment, its checksum begun as for a device that completes it."""
    source, to = (socket.inet_aton(each) for each in ("10.99.0.1", MOVER_IP))
    length = 20 + len(data)
    begun = _sum(source + to + struct.pack("!HH", socket.IPPROTO_TCP, length))
    tcp = struct.pack("!HHIIBBHHH", 40_000, PORT, 1, 1, 5 << 4, 0x10, 1_000, begun, 0)
    ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + length, 1, 0x4000, 64, socket.IPPROTO_TCP, 0)
    checked = struct.pack("!H", ~_sum(ip + source + to) & 0xFFFF)
    addresses = frame(MAC, SENDER, b"")[:12]
    return addresses + b"\x08\0" + ip[:10] + checked + source + to + tcp + data


def _sum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


async def test_a_tap_is_let_go_of_once_it_was_emptied(sites):
    with tap_at("a") as owner:
        salvager = await salvager_holding()
        await switch(sites, salvager)
        owner.end()
        eventually(lambda: not tap_is_at("a"), "somebody keeps it")


async def test_a_tap_is_let_go_of_when_its_owner_ends(sites):
    """A VM that is destroyed while its move was announced leaves nothing behind."""
    with tap_at("a") as owner:
        salvager = await salvager_holding()
        assert salvager.at_hand
        owner.end()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while tap_is_at("a"):
                await asyncio.sleep(0.01)
        salvager.close()


async def test_a_tap_is_let_go_of_when_it_isnt_wanted_any_more(sites):
    with tap_at("a") as owner:
        salvager = await salvager_holding()
        salvager.hold({})
        owner.end()
        eventually(lambda: not tap_is_at("a"), "somebody keeps it")


async def test_a_tap_of_the_same_name_elsewhere_is_left_alone(sites, mouth, new_place):
    with tap_at("c"):
        salvager = await salvager_holding()
        assert not salvager.at_hand
        with tap_at("a"):
            sites["a"].apply([HERE])
            await wait_until_heard_at_b(mouth, new_place)
            salvager = await salvager_holding()
            say(mouth, b"here")
            await switch(sites, salvager)
            assert heard(new_place) == [b"here"]


async def test_a_tap_that_would_hold_us_up_is_left_alone(sites):
    """Who reads it waiting would have us wait too."""
    with tap_at("a", blocking=True):
        salvager = await salvager_holding()
        assert not salvager.at_hand


async def wait_until_heard_at_b(mouth: socket.socket, new_place: socket.socket) -> None:
    """Send until it is: a device that has just come up swallows its first frames."""
    for _ in range(50):
        say(mouth, b"?", EVERYONE)
        if heard(new_place, EVERYONE):
            in_its_tap("a")
            return
    raise TimeoutError("the tunnels don't carry broadcasts")


def payloads(frames: list[bytes], to: MacAddress) -> list[bytes]:
    wanted = frame(to, SENDER, b"")[:14]
    return [each[14:].rstrip(b"\0") for each in frames if each.startswith(wanted)]


@pytest.fixture
def folder(sites, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose path is short enough for sockets, while there are three sites."""
    return tmp_path_factory.mktemp("o")


async def test_an_agent_sends_on_what_waits_when_an_announced_vm_stops(
    sites, mouth, new_place, folder: Path
):
    with tap_at("a") as owner:
        async with stage(folder) as made:
            await wait_until_heard_at_b(mouth, new_place)
            async with made.overlay.hand_over(VM, [MAC], "a", "b"):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while not made.salvagers["a"].at_hand:
                        await asyncio.sleep(0.02)
                await prepared_at_b(made)
                # What is sent on can be there before the word that it will be.
                made.wires["b"].sever()
                for payload in numbered(0, 100):
                    say(mouth, payload)
                made.stop("a")
                async with asyncio.timeout(PATIENCE_SECONDS):
                    while taps_held_by_us():
                        await asyncio.sleep(0.02)
                for payload in numbered(100, 110):
                    say(mouth, payload)
                assert heard(new_place) == numbered(0, 110)
            owner.end()
            eventually(lambda: not tap_is_at("a"), "somebody keeps it")


async def prepared_at_b(made: Stage) -> None:
    """Let the VM's state begin to arrive, and wait until the agent there is ready for its frames."""
    made.hypervisors["b"].tell(Awaited(vm=VM, interfaces=(Interface(mac=MAC, device=TAP, ips=()),)))
    async with asyncio.timeout(PATIENCE_SECONDS):
        while MAC not in nftables.table_text(netns_of("b"), "netdev", "transhume_99"):
            await asyncio.sleep(0.02)


async def test_an_agent_sends_on_what_waits_for_a_vm_that_migrated_though_nobody_announced_it(
    sites, mouth, new_place, folder: Path
):
    with tap_at("a") as owner:
        async with stage(folder) as made:
            await wait_until_heard_at_b(mouth, new_place)
            made.stop("a", migrates=True)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not made.salvagers["a"].at_hand:
                    await asyncio.sleep(0.02)
            for payload in numbered(0, 100):
                say(mouth, payload)
            made.hypervisors["b"].here = True
            made.hypervisors["b"].tell(
                Runs(vm=VM, interfaces=(Interface(mac=MAC, device=TAP, ips=()),))
            )
            async with asyncio.timeout(PATIENCE_SECONDS):
                while taps_held_by_us():
                    await asyncio.sleep(0.02)
            for payload in numbered(100, 110):
                say(mouth, payload)
            assert heard(new_place) == numbered(0, 110)
        owner.end()
        eventually(lambda: not tap_is_at("a"), "somebody keeps it")


async def test_an_agent_leaves_alone_what_waits_when_nobody_has_announced_anything(
    sites, mouth, new_place, folder: Path
):
    with tap_at("a"):
        async with stage(folder) as made:
            await wait_until_heard_at_b(mouth, new_place)
            for payload in numbered(0, 10):
                say(mouth, payload)
            made.stop("a")
            await asyncio.sleep(0.5)
            assert taps_held_by_us() == 0
            assert heard(new_place) == []
            assert payloads(in_its_tap("a"), MAC) == numbered(0, 10)


def taps_held_by_us() -> int:
    links = []
    for each in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            links.append(str(each.readlink()))
    return sum(link.endswith("/net/tun") for link in links)
