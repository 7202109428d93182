"""The lab's probes, against guests that behave and guests that don't, made of namespaces."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pyroute2 import netns as namespaces

from transhume.knowledge.model import IpAddress, MacAddress
from transhume.lab.initramfs import ECHO_PORT
from transhume.lab.outside import pattern
from transhume.lab.probes import (
    FLOOD_WORDS,
    Pings,
    Probe,
    compile_probe,
    ping_words,
    read_flooded,
    read_passed,
    read_pings,
    read_talk,
    talk_words,
    tap_words,
)
from transhume.reach.netns import inside, netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

NEAR, FAR = "thtest-near", "thtest-far"
NEAR_IP, FAR_IP = IpAddress("10.98.0.1"), IpAddress("10.98.0.2")
MAC = MacAddress("52:54:00:00:00:98")
EVERYTHING = "0003"
"""What a packet socket listens to, in `/proc/net/packet`."""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compile_probe(tmp_path_factory.mktemp("state"))


@pytest.fixture
def cable() -> Iterator[None]:
    """Two namespaces, joined; the near end's interface is named as a hypervisor names a guest's."""
    ends = ((NEAR, "vnet7", NEAR_IP), (FAR, "eth0", FAR_IP))
    try:
        for netns, _, _ in ends:
            namespaces.create(netns)
        with netlink_in(NEAR) as near:
            peer = {"ifname": "eth0", "net_ns_fd": FAR, "address": MAC}
            near.link("add", ifname="vnet7", kind="veth", peer=peer)
        for netns, name, ip in ends:
            with netlink_in(netns) as netlink:
                index = netlink.link_lookup(ifname=name)[0]
                netlink.addr("add", index=index, address=ip, prefixlen=24)
                netlink.link("set", index=index, state="up")
        yield
    finally:
        for netns, _, _ in ends:
            with suppress(FileNotFoundError):
                namespaces.remove(netns)


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


async def listening(netns: str) -> None:
    """Wait until somebody listens to all that passes in a namespace."""

    def somebody_does() -> bool:
        with inside(netns):
            rows = Path("/proc/thread-self/net/packet").read_text().splitlines()[1:]
        return any(row.split()[3] == EVERYTHING for row in rows)

    await until(somebody_does)


class Answering(asyncio.DatagramProtocol):
    """Answers datagrams, each as often as it is told to."""

    def __init__(self, *how_often: int) -> None:
        self._how_often = how_often
        self._number = 0
        self.quiet = False

    async def some_more(self, datagrams: int = 50) -> None:
        """Wait until so many more have been answered."""
        goal = self._number + datagrams
        await until(lambda: self._number >= goal)

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        if not self.quiet:
            for _ in range(self._how_often[self._number % len(self._how_often)]):
                self._transport.sendto(data, addr)
            self._number += 1


@asynccontextmanager
async def answering(*how_often: int) -> AsyncIterator[Answering]:
    ear = socket_in(FAR, kind=socket.SOCK_DGRAM)
    ear.bind((FAR_IP, ECHO_PORT))
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(
        lambda: Answering(*how_often), sock=ear
    )
    try:
        yield protocol
    finally:
        transport.close()


async def pinged(program: Path, far: Answering) -> Pings:
    async with Probe.running(program, NEAR, *ping_words(FAR_IP, 0.001)) as probe:
        await far.some_more(200)
        return read_pings(await probe.end())


async def test_a_pinger_finds_nothing_wrong_where_nothing_is(program: Path, cable: None) -> None:
    async with answering(1) as far:
        pings = await pinged(program, far)

    assert pings.sent == pings.received > 10
    assert (pings.lost, pings.duplicates, pings.reordered, pings.losses) == (0, 0, 0, ())
    assert 0 < pings.least_trip <= pings.median_trip


async def test_a_pinger_counts_what_is_lost_and_what_comes_twice(
    program: Path, cable: None
) -> None:
    async with answering(1, 0, 1, 2) as far:
        pings = await pinged(program, far)

    assert abs(pings.lost - pings.sent / 4) <= 1
    assert abs(pings.duplicates - pings.sent / 4) <= 1
    assert {loss.count for loss in pings.losses} == {1}


async def test_a_pinger_notes_when_nothing_came_back(program: Path, cable: None) -> None:
    loop = asyncio.get_running_loop()
    async with answering(1) as far:
        started = loop.time()
        async with Probe.running(program, NEAR, *ping_words(FAR_IP, 0.001)) as probe:
            await far.some_more()
            far.quiet, began = True, loop.time()
            await asyncio.sleep(0.2)
            far.quiet, ended = False, loop.time()
            await far.some_more()
            pings = read_pings(await probe.end())

    silence = pings.longest_between(began, ended)
    assert silence.seconds >= 0.15
    assert silence in pings.silences
    # Those that still waited to be answered when it fell silent are lost as well, however early they were sent.
    assert pings.lost_between(started, ended) == pings.lost > 10


async def test_a_silence_that_never_ended_counts(program: Path, cable: None) -> None:
    async with answering(1) as far:
        async with Probe.running(program, NEAR, *ping_words(FAR_IP, 0.001)) as probe:
            await far.some_more()
            far.quiet = True
            await asyncio.sleep(0.3)
            pings = read_pings(await probe.end())

    assert pings.longest.seconds >= 0.25


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, spoil: bool) -> None:
    while data := await reader.read(65536):
        writer.write(bytes([data[0] ^ 1]) + data[1:] if spoil else data)
    writer.close()


@pytest.mark.parametrize("spoil", [False, True], ids=["right", "spoilt"])
async def test_every_byte_of_a_conversation_is_checked(
    program: Path, cable: None, spoil: bool
) -> None:
    ear = socket_in(FAR)
    ear.bind((FAR_IP, ECHO_PORT))
    server = await asyncio.start_server(lambda r, w: echo(r, w, spoil), sock=ear)
    async with server:
        async with Probe.running(program, NEAR, *talk_words(FAR_IP, 0.01, 30_000)) as probe:
            first = read_talk(await probe.report())
            last = read_talk(await probe.end())

    assert 0 < first.sent <= last.sent == last.echoed
    assert (last.wrong > 0) == spoil
    assert last.failure is None


async def test_a_conversation_says_what_the_guest_expects(program: Path, cable: None) -> None:
    heard, hung_up = bytearray(), asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while len(heard) < 100_000:
            heard.extend(await reader.read(65536))
        writer.close()
        hung_up.set()

    ear = socket_in(FAR)
    ear.bind((FAR_IP, ECHO_PORT))
    async with await asyncio.start_server(listen, sock=ear):
        async with Probe.running(program, NEAR, *talk_words(FAR_IP, 0.01, 30_000)) as probe:
            await hung_up.wait()
            talk = read_talk(await probe.end())

    assert bytes(heard) == pattern(0, len(heard))
    assert talk.failure is not None


async def test_what_passes_a_guests_interface_is_noted_by_peer_and_direction(
    program: Path, cable: None
) -> None:
    async with answering(1) as far, Probe.running(program, NEAR, *tap_words(MAC)) as watching:
        await listening(NEAR)
        pings = await pinged(program, far)
        passed = read_passed(await watching.end())

    assert {(row.tap, row.from_vm, row.count) for row in passed} == {
        ("vnet7", False, pings.sent),
        ("vnet7", True, pings.received),
    }


async def test_what_passed_before_the_end_is_told_though_the_watcher_comes_to_it_late(
    program: Path, cable: None
) -> None:
    async with answering(1) as far, Probe.running(program, NEAR, *tap_words(MAC)) as watching:
        await listening(NEAR)
        watching._process.send_signal(signal.SIGSTOP)
        pings = await pinged(program, far)
        ending = asyncio.create_task(watching.end())
        await asyncio.sleep(0.1)
        watching._process.send_signal(signal.SIGCONT)
        passed = read_passed(await ending)

    assert {row.count for row in passed} == {pings.sent}


async def test_a_unicast_frame_for_somebody_else_was_flooded(program: Path, cable: None) -> None:
    strange = MacAddress("52:54:00:00:00:97")
    with socket_in(NEAR, socket.AF_PACKET, socket.SOCK_RAW) as mouth:
        mouth.bind(("vnet7", 0))
        async with Probe.running(program, FAR, *FLOOD_WORDS) as watching:
            await listening(FAR)
            for mac in (strange, strange, "ff:ff:ff:ff:ff:ff", MAC):
                mouth.send(bytes.fromhex(str(mac).replace(":", "")) + bytes(6) + b"\x88\xb5" + b"x")
            flooded = read_flooded(await watching.end())

    assert [(row.mac, row.count) for row in flooded if row.mac == strange] == [(strange, 2)]
    assert {row.mac for row in flooded} == {strange}
