"""The default gateway at three sites on real bridges and tunnels, with a world outside that sees who comes.

The mover is a namespace with one interface, whose other end is put into the bridge of the site where it runs,
as a VM's is. The site agents are real; only the hypervisors are stand-ins.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from pyroute2 import netns as namespaces

from tests.system.overlay_frames import ear, settle, wan_ears
from tests.system.overlay_sites import (
    FIXED,
    MAC,
    MOVER,
    MOVER_IP,
    NETWORK,
    SITES,
    index,
    make_bridge,
    netns_of,
    plug,
    three_sites,
)
from tests.system.test_overlay_agents import TAP, VM, VTEPS, Stage, Wire, now
from transhume.deployment.model import GatewaySettings, OverlayNetwork
from transhume.errors import OverlayError
from transhume.execute.overlay import ByAgents, nftables
from transhume.execute.overlay.agent.assembly import watch_bridge
from transhume.execute.overlay.agent.events import Runs
from transhume.execute.overlay.agent.service import LEASE_SECONDS, Agent, Senses
from transhume.execute.overlay.agent.site import SiteAddresses
from transhume.execute.overlay.gateway import SiteGateway, forwarding, with_gateway
from transhume.execute.overlay.gateway.families import IPV4, IPV6, Family, link_local_of
from transhume.execute.overlay.gateway.forwarding import forwards, let_all_forward
from transhume.execute.overlay.gateway.layout import host_addresses, namespace
from transhume.execute.overlay.plane import SitePlane
from transhume.knowledge.model import Flow, IpAddress, MacAddress, SiteName
from transhume.knowledge.server import find_program, run_server
from transhume.knowledge.store import Store
from transhume.reach import sysctl
from transhume.reach.netns import inside, netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

OUT, OUT_IP, ECHO = "thtest-out", "203.0.113.100", 7
OUT_IP6 = "2001:db8:203::100"
SEEN_AS = {site: f"203.0.113.{number}" for number, site in enumerate(SITES, start=1)}
SEEN_AS6 = {site: f"2001:db8:203::{number}" for number, site in enumerate(SITES, start=1)}
GATEWAY_IP, GATEWAY_MAC = "10.99.0.254", MacAddress("52:54:00:7a:ff:01")
GATEWAY_IP6, GATEWAY_LINK_LOCAL = "fd99::254", link_local_of(GATEWAY_MAC)
MOVER_IP6 = "fd99::99"
NEAREST = GatewaySettings(ip=GATEWAY_IP, prefix_length=24, mac=GATEWAY_MAC)
BOTH = replace(NEAREST, ip6=GATEWAY_IP6)
PATIENCE_SECONDS = 90.0


@dataclass(frozen=True, kw_only=True)
class World:
    """The outside as one family knows it, and a gateway that leads there."""

    family: Family
    out: str
    seen_as: dict[str, str]
    mover: str
    nearest: GatewaySettings

    @property
    def home(self) -> GatewaySettings:
        return replace(self.nearest, exit_at_home=True, home="c")


V4 = World(family=IPV4, out=OUT_IP, seen_as=SEEN_AS, mover=MOVER_IP, nearest=NEAREST)
V6 = World(family=IPV6, out=OUT_IP6, seen_as=SEEN_AS6, mover=MOVER_IP6, nearest=BOTH)
in_both = pytest.mark.parametrize("world", [V4, V6], ids=["IPv4", "IPv6"])


def network_with(settings: GatewaySettings, uplinks: tuple[str, ...] = SITES) -> OverlayNetwork:
    sites = tuple(
        replace(site, uplink="out0" if site.name in uplinks else None) for site in NETWORK.sites
    )
    return replace(NETWORK, gateway=settings, sites=sites)


@contextmanager
def sites_and_outside() -> Iterator[None]:
    """Three sites, each with an uplink to the outside; remove all, gateways too."""
    with three_sites():
        namespaces.create(OUT)
        try:
            with netlink_in(OUT) as out:
                bridge = make_bridge(out, 1500)
                out.addr("add", index=bridge, address=OUT_IP, prefixlen=24)
            for site, address in SEEN_AS.items():
                plug(netns_of(site), OUT, "out0", f"to-{site}", address)
            for netns in (MOVER, *FIXED.values()):
                with netlink_in(netns) as netlink:
                    netlink.route("add", dst="default", gateway=GATEWAY_IP)
            yield
        finally:
            for site in SITES:
                for vni in (98, 99):
                    with suppress(FileNotFoundError):
                        namespaces.remove(namespace(vni, site))
            namespaces.remove(OUT)


def speak_ipv6() -> None:
    """Give IPv6 to all but the WAN. The mover knows its router as guests learn it, by a link-local address."""
    for netns in (OUT, MOVER, *FIXED.values(), *map(netns_of, SITES)):
        with inside(netns):
            for each in sysctl.entries("ipv6/conf"):
                sysctl.write(f"ipv6/conf/{each}/accept_dad", "0")
                sysctl.write(f"ipv6/conf/{each}/disable_ipv6", "0")
    _add_ipv6(OUT, "br0", OUT_IP6)
    for site, address in SEEN_AS6.items():
        _add_ipv6(netns_of(site), "out0", address)
    _add_ipv6(MOVER, "eth0", MOVER_IP6, router=GATEWAY_LINK_LOCAL)
    for number, netns in enumerate(FIXED.values(), start=1):
        _add_ipv6(netns, "eth0", f"fd99::{number}", router=GATEWAY_IP6)


def _add_ipv6(netns: str, device: str, address: str, *, router: str | None = None) -> None:
    with netlink_in(netns) as netlink:
        number = index(netlink, device)
        netlink.addr("add", index=number, address=address, prefixlen=64)
        if router is not None:
            netlink.route("add", dst="::/0", gateway=router, oif=number, family=socket.AF_INET6)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with sites_and_outside():
        yield tmp_path_factory.mktemp("g")


def put_cable(source: str, destination: str) -> None:
    """Put the far end of the mover's cable into another site's bridge; the mover's end stays as it is."""
    if source == destination:
        return
    with netlink_in(netns_of(source)) as old, netlink_in(netns_of(destination)) as new:
        old.link("set", index=index(old, "mover"), net_ns_fd=netns_of(destination))
        moved = index(new, "mover")
        new.link("set", index=moved, master=index(new, "br0"), state="up")


@dataclass
class GatewayStage(Stage):
    """Three sites whose agents keep the gateway, and a VM."""

    network: OverlayNetwork = NETWORK
    at: str = "a"

    async def _run(self, site: str) -> None:
        description = next(each for each in self.network.sites if each.name == site)
        known = self.hypervisors[site]
        with (
            SitePlane(self.network, description) as first,
            SitePlane(self.network, description) as second,
        ):
            async with Store.connect(f"unix://{self.wires[site].socket}", clock=now) as store:
                senses = Senses(
                    run=(known.run, partial(watch_bridge, self.network, description)),
                    look=known.look,
                )
                senses = with_gateway(senses, self.network, description, store, now)
                fixed = frozenset(each.mac for each in senses.fixed)
                vni = self.network.vni
                self.addresses[site] = SiteAddresses(SiteName(site), vni, VTEPS, fixed=fixed)
                await Agent(
                    addresses=self.addresses[site],
                    planes=(first, second),
                    register=store.register(vni),
                    lease=store.agent_lease(vni, site, f"test:{site}", LEASE_SECONDS),
                    senses=senses,
                    clock=now,
                ).run()

    async def resume(self, site: str) -> None:
        await asyncio.to_thread(put_cable, self.at, site)
        self.at = site
        for name, known in self.hypervisors.items():
            known.here = name == site
        self.hypervisors[site].tell(Runs(vm=VM, interfaces=(TAP,)))

    async def move(self, source: str, destination: str, *, known: int = 0) -> None:
        """Move the VM as the executor does, which takes longer than news of `known` connections take."""
        there = next(each for each in _gateways(self.network) if each.site == destination)

        async def heard() -> bool:
            return len(await asyncio.to_thread(there.held)) >= known

        async with self.overlay.hand_over(VM, [MAC], source, destination):
            await self.announced(source)
            await self.eventually(heard)
            self.stop(source)
            await asyncio.sleep(0.05)
            await self.resume(destination)

    async def eventually(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await holds():
                await asyncio.sleep(0.5)

    async def anchored_at(self, site: str, least: int = 1) -> None:
        """Wait until a site says that it keeps connections of a VM that is elsewhere."""

        async def says_so() -> bool:
            statuses = await self.store.register(self.network.vni).statuses()
            return statuses[SiteName(site)].anchored >= least

        await self.eventually(says_so)


@asynccontextmanager
async def stage(folder: Path, network: OverlayNetwork) -> AsyncIterator[GatewayStage]:
    assert network.gateway is not None
    speaks_ipv6 = network.gateway.ip6 is not None
    if speaks_ipv6:
        await asyncio.to_thread(speak_ipv6)
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(run_server(find_program(), folder))
        store = await stack.enter_async_context(Store.connect(server.url, clock=now))
        overlay = ByAgents(network, store.register(network.vni), now)
        made = GatewayStage(overlay, store, folder, network=network)
        for site in SITES:
            made.wires[site] = Wire(folder / "knowledge/socket", folder / f"{site}.sock")
            await made.wires[site].serve(stack)
            await made.start(site)
        for ip in (OUT_IP, *((OUT_IP6,) if speaks_ipv6 else ())):
            await stack.enter_async_context(outside(ip))
        try:
            await made.settled_at("a")
            await made.eventually(partial(_gateways_stand, network))
            yield made
        finally:
            for site in made.agents:
                await made.kill(site)


async def _gateways_stand(network: OverlayNetwork) -> bool:
    for gateway in _gateways(network):
        if await asyncio.to_thread(gateway.faults):
            return False
    return True


def _gateways(network: OverlayNetwork) -> list[SiteGateway]:
    assert network.gateway is not None
    return [SiteGateway(network, site, network.gateway) for site in network.sites]


# --- the world outside, and who talks to it --------------------------------------------------------


@asynccontextmanager
async def outside(ip: str) -> AsyncIterator[None]:
    """Echo what comes, after a line that says from whom it seems to be."""
    loop = asyncio.get_running_loop()
    with (
        closing(socket_in(OUT, _number(ip))) as stream,
        closing(socket_in(OUT, _number(ip), socket.SOCK_DGRAM)) as datagrams,
    ):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for each in (stream, datagrams):
            each.bind((ip, ECHO))
            each.setblocking(False)
        server = await asyncio.start_server(_echo, sock=stream)
        transport, _ = await loop.create_datagram_endpoint(_EchoDatagrams, sock=datagrams)
        try:
            yield
        finally:
            transport.close()
            server.close()


def _number(ip: str) -> int:
    return socket.AF_INET6 if ":" in ip else socket.AF_INET


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, port = writer.get_extra_info("peername")[:2]
    writer.write(f"{host}:{port}\n".encode())
    with suppress(OSError, asyncio.CancelledError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


class _EchoDatagrams(asyncio.DatagramProtocol):
    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, peer: tuple[str, int]) -> None:
        self._transport.sendto(f"{peer[0]}:{peer[1]} ".encode() + data, peer)


@dataclass
class Stream:
    """A connection to the outside over which blocks go there and back, each byte checked."""

    peer: str
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    blocks: int = 0
    working: "asyncio.Task[None] | None" = None

    @classmethod
    async def open(cls, world: World = V4) -> "Stream":
        opened = socket_in(MOVER, world.family.number)
        opened.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await loop.sock_connect(opened, (world.out, ECHO))
            reader, writer = await asyncio.open_connection(sock=opened)
            peer = (await reader.readline()).decode().strip()
        made = cls(peer, reader, writer)
        made.working = asyncio.create_task(made._work())
        return made

    async def _work(self) -> None:
        while True:
            block = struct.pack("!I", self.blocks) * 500
            self.writer.write(block)
            assert await self.reader.readexactly(len(block)) == block
            self.blocks += 1
            await asyncio.sleep(0.005)

    async def goes_on(self, blocks: int = 20) -> None:
        """See that so many more blocks come back whole."""
        assert self.working is not None
        until = self.blocks + blocks
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.blocks < until:
                if self.working.done():
                    self.working.result()
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        assert self.working is not None
        self.working.cancel()
        await asyncio.gather(self.working, return_exceptions=True)
        self.writer.close()


@dataclass
class Datagrams:
    """Datagrams to the outside and back from one port."""

    socket: socket.socket
    peers: set[str] = field(default_factory=set)
    received: int = 0
    working: "asyncio.Task[None] | None" = None

    @classmethod
    async def open(cls, world: World = V4) -> "Datagrams":
        opened = socket_in(MOVER, world.family.number, socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.connect((world.out, ECHO))
        made = cls(opened)
        made.working = asyncio.create_task(made._work())
        await made.goes_on()
        return made

    async def _work(self) -> None:
        loop, number = asyncio.get_running_loop(), 0
        while True:
            number += 1
            payload = struct.pack("!I", number) * 100
            with suppress(OSError):
                await loop.sock_sendall(self.socket, payload)
            with suppress(TimeoutError, OSError):
                async with asyncio.timeout(0.05):
                    peer, _, data = (await loop.sock_recv(self.socket, 2048)).partition(b" ")
                    assert data == data[:4] * 100
                    self.peers.add(peer.decode())
                    self.received += 1
            await asyncio.sleep(0.005)

    async def goes_on(self, datagrams: int = 20) -> None:
        until = self.received + datagrams
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.received < until:
                await asyncio.sleep(0.02)

    async def close(self) -> None:
        assert self.working is not None
        self.working.cancel()
        await asyncio.gather(self.working, return_exceptions=True)
        self.socket.close()


async def seen_as(world: World = V4) -> str:
    """Open a connection, and return the address as which the outside sees it."""
    stream = await Stream.open(world)
    await stream.goes_on(2)
    await stream.close()
    return stream.peer.rpartition(":")[0]


# --- where it answers, and where traffic leaves ----------------------------------------------------


@pytest.mark.parametrize("ip", [GATEWAY_IP, GATEWAY_IP6, GATEWAY_LINK_LOCAL])
async def test_the_gateway_answers_at_each_site_with_the_same_mac_and_asks_nobody_else(
    ip: str, folder: Path
) -> None:
    async with stage(folder, network_with(BOTH if ":" in ip else NEAREST)):
        with wan_ears() as ears:
            for site in SITES:
                assert await asyncio.to_thread(_gateways_mac, site, ip) == GATEWAY_MAC
            await asyncio.to_thread(settle)
            heard = [frame for each in ears.values() for frame in _all_heard(each)]
        asked = socket.inet_pton(_number(ip), ip)
        mac = bytes.fromhex(GATEWAY_MAC.replace(":", ""))
        arp = [each for each in heard if b"\x08\x06\x00\x01\x08\x00" in each]
        discovery = [each for each in heard if _is_discovery(each)]
        assert not any(mac in each or asked in each for each in (*arp, *discovery))
        assert not any(mac in each for each in heard)


async def test_neither_a_question_for_the_gateway_nor_a_lie_about_it_crosses_a_tunnel(
    folder: Path,
) -> None:
    """Of IPv6, where both are ordinary packets; those about others do cross."""
    async with stage(folder, network_with(BOTH)):
        heard = await asyncio.to_thread(
            _heard_of_at_b, (GATEWAY_IP6, GATEWAY_LINK_LOCAL, "fd99::77"), last="fd99::77"
        )
        assert not heard & {GATEWAY_IP6, GATEWAY_LINK_LOCAL}


async def test_a_vm_reaches_its_gateway_by_either_address_and_after_a_move_too(
    folder: Path,
) -> None:
    """By that of the link it's reached for as long as a guest knows its router by it."""
    async with stage(folder, network_with(BOTH)) as made:
        for source, destination in ("ab", "bc"):
            for ip in (GATEWAY_IP6, GATEWAY_LINK_LOCAL):
                assert await asyncio.to_thread(_gateway_echoes, ip)
            await made.move(source, destination)
        assert await asyncio.to_thread(_gateway_echoes, GATEWAY_LINK_LOCAL)


@in_both
async def test_traffic_leaves_at_the_site_where_the_vm_is(world: World, folder: Path) -> None:
    async with stage(folder, network_with(world.nearest)) as made:
        for source, destination in (("a", "b"), ("b", "c")):
            assert await seen_as(world) == world.seen_as[source]
            await made.move(source, destination)
        assert await seen_as(world) == world.seen_as["c"]


@in_both
async def test_with_a_home_traffic_leaves_there_from_everywhere(world: World, folder: Path) -> None:
    async with stage(folder, network_with(world.home)) as made:
        stream, datagrams = await Stream.open(world), await Datagrams.open(world)
        for source, destination in (("a", "b"), ("b", "c"), ("c", "a")):
            assert await seen_as(world) == world.seen_as["c"]
            await made.move(source, destination)
            await stream.goes_on()
            await datagrams.goes_on()
        assert len(datagrams.peers) == 1
        await stream.close()
        await datagrams.close()


@in_both
async def test_a_site_without_an_uplink_uses_anothers_and_its_connections_stay_there(
    world: World,
    folder: Path,
) -> None:
    async with stage(
        folder, network_with(replace(world.nearest, home="c"), uplinks=("b", "c"))
    ) as made:
        stream, datagrams = await Stream.open(world), await Datagrams.open(world)
        assert stream.peer.startswith(f"{world.seen_as['c']}:")
        await made.move("a", "b", known=2)
        await stream.goes_on()
        await datagrams.goes_on()
        assert len(datagrams.peers) == 1
        assert await seen_as(world) == world.seen_as["b"]
        await stream.close()
        await datagrams.close()


# --- open connections ------------------------------------------------------------------------------


@in_both
async def test_open_connections_survive_moves_to_two_other_sites_and_back(
    world: World, folder: Path
) -> None:
    """Each leaves where it was opened until it ends, and what is opened after a move leaves at the new site."""
    async with stage(folder, network_with(world.nearest)) as made:
        streams: list[Stream] = []
        flows: list[Datagrams] = []
        # Of the six connections at last, two are at home when the VM comes home.
        for (source, destination), known in zip(("ab", "bc", "ca"), (2, 4, 4), strict=True):
            streams.append(await Stream.open(world))
            flows.append(await Datagrams.open(world))
            assert streams[-1].peer.startswith(f"{world.seen_as[source]}:")
            await made.move(source, destination, known=known)
            for talk in (*streams, *flows):
                await talk.goes_on()
            assert await seen_as(world) == world.seen_as[destination]
        peers = [flow.peers for flow in flows]
        assert [len(each) for each in peers] == [1, 1, 1]
        assert [min(each).rpartition(":")[0] for each in peers] == [world.seen_as[s] for s in "abc"]
        for talk in (*streams, *flows):
            await talk.close()


@in_both
async def test_a_connection_survives_a_move_that_nobody_announced(
    world: World, folder: Path
) -> None:
    async with stage(folder, network_with(world.nearest)) as made:
        stream = await Stream.open(world)
        await stream.goes_on()
        made.stop("a")
        await made.resume("b")
        await stream.goes_on()
        await made.settled_at("b")
        await stream.close()


@in_both
async def test_no_agent_is_needed_for_what_is_anchored(world: World, folder: Path) -> None:
    """While they are gone everything goes on, and when they begin anew they leave it so."""
    async with stage(folder, network_with(world.nearest)) as made:
        stream, datagrams = await Stream.open(world), await Datagrams.open(world)
        await made.move("a", "b", known=2)
        await stream.goes_on()
        for site in SITES:
            await made.kill(site)
        await stream.goes_on(100)
        await datagrams.goes_on(100)
        for site in SITES:
            await made.start(site)
        await made.anchored_at("a", 2)
        await stream.goes_on(100)
        await datagrams.goes_on(100)
        await made.move("b", "c", known=2)
        await stream.goes_on()
        await datagrams.goes_on()
        assert len(datagrams.peers) == 1
        await stream.close()
        await datagrams.close()


@in_both
async def test_an_anchor_ends_with_its_connection(world: World, folder: Path) -> None:
    async with stage(folder, network_with(world.nearest)) as made:
        stream = await Stream.open(world)
        await made.move("a", "b")
        await stream.goes_on()
        await made.anchored_at("a")
        second = _gateways(made.network)[1]
        assert len(await asyncio.to_thread(second.held)) == 1
        # A reset: a connection that both ends close is remembered for two minutes more.
        raw = stream.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await stream.close()

        async def ended() -> bool:
            return not await asyncio.to_thread(second.held)

        await made.eventually(ended)


@in_both
async def test_what_is_in_the_middle_of_an_unknown_connection_gets_no_answer(
    world: World, folder: Path
) -> None:
    """Neither a reset nor an address of its own: it may be anchored where nobody has told of it yet."""
    async with stage(folder, network_with(world.nearest)):
        with (
            closing(ear(OUT, "to-a")) as far,
            closing(ear(MOVER, "eth0")) as near,
            closing(
                socket_in(MOVER, world.family.number, socket.SOCK_RAW, socket.IPPROTO_TCP)
            ) as mouth,
        ):
            segment = struct.pack("!HHIIBBHHH", 40000, ECHO, 1, 1, 5 << 4, 0x10, 1024, 0, 0)
            mouth.sendto(_with_checksum(segment, world), (world.out, 0))
            await asyncio.sleep(0.5)
            ports = struct.pack("!HH", 40000, ECHO)
            assert not any(ports in each for each in _all_heard(far))
            back = struct.pack("!HH", ECHO, 40000)
            assert not any(back in each for each in _all_heard(near))


# --- what it keeps apart ---------------------------------------------------------------------------


@in_both
async def test_two_networks_dont_reach_each_other_by_their_gateways(
    world: World, folder: Path
) -> None:
    """Nor by the host that both lead to, nor with packets that look like a tunnel's."""
    settings = GatewaySettings(ip="10.98.0.254", ip6="fd98::254", mac=GATEWAY_MAC)
    sites = tuple(replace(site, bridge="br1", uplink="out0") for site in NETWORK.sites)
    other = OverlayNetwork(vni=98, sites=sites, gateway=settings)
    number = world.family.number
    async with stage(folder, network_with(world.nearest)):
        await asyncio.to_thread(_add_second_network, other, settings)
        away, secrets = {
            IPV4: ("10.98.0.5", "169.254.169.254"),
            IPV6: ("fd98::5", "fd00:ec2::254"),
        }[world.family]
        hosts = (*host_addresses(98, world.family), host_addresses(99, world.family)[1])
        targets = [away, *hosts, secrets]
        with (
            closing(ear(FIXED["b"], "eth1")) as victim,
            closing(ear(namespace(98, "a"), "uplink")) as second,
            closing(ear(OUT, "to-a")) as far,
            closing(socket_in(MOVER, number, socket.SOCK_DGRAM)) as mouth,
        ):
            secret = b"from network 99"
            for target in targets:
                mouth.sendto(secret, (target, 9))
            mouth.sendto(secret, (world.out, NETWORK.port))
            mouth.sendto(b"allowed", (world.out, 9))
            await asyncio.sleep(0.5)
            heard = [*_all_heard(victim), *_all_heard(second)]
            assert not any(secret in each for each in heard)
            beyond = _all_heard(far)
            assert any(b"allowed" in each for each in beyond)
            packed = socket.inet_pton(number, away)
            assert not any(secret in each and packed not in each for each in beyond)
            vm = socket.inet_pton(number, world.mover)
            assert not any(vm in each for each in beyond), "not masqueraded"


@in_both
async def test_what_somebody_breaks_at_the_gateway_is_mended(world: World, folder: Path) -> None:
    async with stage(folder, network_with(world.nearest)) as made:
        stream = await Stream.open(world)
        await made.move("a", "b")
        await stream.goes_on()
        await asyncio.to_thread(_break_gateway, "b", world.family)
        await stream.goes_on()
        assert await seen_as(world) == world.seen_as["b"]
        await stream.close()


def _break_gateway(site: str, family: Family) -> None:
    with netlink_in(netns_of(site)) as netlink:
        netlink.link("del", index=index(netlink, "thvt99"))
    with netlink_in(namespace(99, site)) as within:
        within.route("del", dst=f"{family.anybody}/0", family=family.number)
        within.flush_addr(index=index(within, "access"), family=family.number)


def _add_second_network(network: OverlayNetwork, settings: GatewaySettings) -> None:
    site = network.sites[0]
    with netlink_in(site.netns) as netlink:
        netlink.link("add", ifname="br1", kind="bridge")
        netlink.link("set", index=index(netlink, "br1"), state="up")
        netlink.link(
            "add",
            ifname="second",
            kind="veth",
            peer={"ifname": "eth1", "net_ns_fd": FIXED["b"]},
        )
        second = index(netlink, "second")
        netlink.link("set", index=second, master=index(netlink, "br1"), state="up")
    with netlink_in(FIXED["b"]) as victim:
        eth1 = index(victim, "eth1")
        victim.addr("add", index=eth1, address="10.98.0.5", prefixlen=24)
        if _speaks_ipv6(FIXED["b"], "eth1"):
            victim.addr("add", index=eth1, address="fd98::5", prefixlen=64)
        victim.link("set", index=eth1, state="up")
    SiteGateway(network, site, settings).make()


def _speaks_ipv6(netns: str, device: str) -> bool:
    with inside(netns):
        return sysctl.read(f"ipv6/conf/{device}/disable_ipv6") == "0"


def _gateways_mac(site: str, ip: str) -> str:
    """Ask who has the gateway's address, and return who answers."""
    with netlink_in(FIXED[site]) as netlink:
        device = index(netlink, "eth0")
        with closing(socket_in(FIXED[site], _number(ip), socket.SOCK_DGRAM)) as mouth:
            mouth.sendto(b"hello", _to(ip, 9, device))
        for _ in range(100):
            for each in netlink.neigh("dump", family=_number(ip)):
                if each.get("dst") == ip and each.get("lladdr"):
                    return str(each.get("lladdr"))
    return "nobody"


def _to(ip: str, port: int, device: int) -> tuple[str, int] | tuple[str, int, int, int]:
    return (ip, port, 0, device) if ":" in ip else (ip, port)


def _is_discovery(frame: bytes) -> bool:
    """Whether a frame, in a tunnel or not, is a question or an answer of IPv6's neighbour discovery."""
    inner = frame[50:] if frame[36:38] == (4789).to_bytes(2, "big") else frame
    return inner[12:14] == b"\x86\xdd" and inner[20:21] == b"\x3a" and inner[54:55] in b"\x87\x88"


def _icmpv6_mouth(site: str) -> socket.socket:
    opened = socket_in(FIXED[site], socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    with inside(FIXED[site]):
        device = socket.if_nametoindex("eth0")
    opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, device)
    return opened


def _heard_of_at_b(addresses: tuple[str, ...], *, last: str) -> set[str]:
    """Ask for addresses at a, and lie about them, until b hears of the last; return of which it has heard."""
    heard: set[str] = set()
    with closing(ear(FIXED["b"], "eth0")) as far, closing(_icmpv6_mouth("a")) as mouth:
        for _ in range(100):
            for about in addresses:
                packed = socket.inet_pton(socket.AF_INET6, about)
                for kind in (135, 136):
                    mouth.sendto(struct.pack("!BBHI", kind, 0, 0, 0) + packed, ("ff02::1", 0))
            settle()
            said = [each[62:78] for each in _all_heard(far) if _is_discovery(each)]
            heard |= {socket.inet_ntop(socket.AF_INET6, each) for each in said}
            if last in heard:
                return heard
    raise TimeoutError(f"nothing of {last} crosses")


def _gateway_echoes(ip: str) -> bool:
    """Ping the gateway from the mover until it answers."""
    with inside(MOVER):
        device = socket.if_nametoindex("eth0")
    with closing(
        socket_in(MOVER, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    ) as pinger:
        pinger.settimeout(0.2)
        for number in range(50):
            pinger.sendto(struct.pack("!BBHHH", 128, 0, 0, 66, number), _to(ip, 0, device))
            with suppress(TimeoutError):
                while True:
                    said, peer = pinger.recvfrom(2048)
                    if said[:1] == b"\x81" and peer[0].partition("%")[0] == ip:
                        return True
    return False


def _all_heard(listening: socket.socket) -> list[bytes]:
    heard = []
    with suppress(BlockingIOError):
        while True:
            heard.append(listening.recv(65536))
    return heard


def _with_checksum(segment: bytes, world: World) -> bytes:
    ends = (socket.inet_pton(world.family.number, ip) for ip in (world.mover, world.out))
    covered = b"".join(ends) + struct.pack("!IHBB", len(segment), 0, 0, 6) + segment
    total = sum(struct.unpack(f"!{len(covered) // 2}H", covered))
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    return segment[:16] + struct.pack("!H", ~total & 0xFFFF) + segment[18:]


def test_the_gateway_goes_away_without_a_trace() -> None:
    with sites_and_outside():
        network = network_with(NEAREST)
        first = _gateways(network)[0]
        first.make()
        first.make()
        assert first.faults() == ()
        first.remove()
        assert first.faults() != ()
        with inside(netns_of("a")):
            assert not [name for _, name in socket.if_nameindex() if name.startswith("thv")]


@in_both
def test_a_host_that_forwarded_nothing_does_so_again_without_its_gateway(world: World) -> None:
    with sites_and_outside():
        speak_ipv6()
        gateway = _gateways(network_with(world.nearest))[0]
        gateway.make()
        assert _forwards("a", world.family)
        assert not _passes("a")
        gateway.remove()
        assert not _forwards("a", world.family)


@in_both
def test_a_gateway_leaves_alone_that_its_host_has_always_forwarded(world: World) -> None:
    """Also where its rules go away by mistake."""
    with sites_and_outside():
        speak_ipv6()
        _let_all_forward("a")
        gateway = _gateways(network_with(world.nearest))[0]
        gateway.make()
        _flush_rules("a")
        assert gateway.faults() != ()
        gateway.make()
        assert gateway.faults() == ()
        assert _passes("a")
        gateway.remove()
        assert _forwards("a", world.family)
        assert _passes("a")


def test_a_host_stays_closed_when_its_rules_are_flushed() -> None:
    """By then its own setting says that it forwards, because of the gateway."""
    with sites_and_outside():
        gateway = _gateways(network_with(NEAREST))[0]
        gateway.make()
        _flush_rules("a")
        assert _passes("a")
        gateway.make()
        assert gateway.faults() == ()
        assert not _passes("a")


def test_a_host_of_which_nobody_knows_what_it_forwarded_is_closed() -> None:
    with sites_and_outside():
        gateway = _gateways(network_with(NEAREST))[0]
        gateway.make()
        _flush_rules("a")
        with netlink_in(namespace(99, "a")) as within:
            within.link("set", index=index(within, "lo"), ifalias="")
        assert gateway.faults() != ()
        gateway.make()
        assert gateway.faults() == ()
        assert not _passes("a")


@in_both
@pytest.mark.parametrize("leaves_first", [98, 99])
def test_of_two_gateways_the_last_leaves_its_host_as_it_was(
    world: World, leaves_first: int
) -> None:
    with sites_and_outside():
        speak_ipv6()
        gateways = _two_made_at_a(world)
        gateways.pop(leaves_first).remove()
        (last,) = gateways.values()
        assert last.faults() == ()
        assert not _passes("a")
        last.remove()
        assert not _forwards("a", world.family)


def test_two_gateways_that_leave_at_once_leave_their_host_as_it_was() -> None:
    with sites_and_outside():
        gateways = _two_made_at_a(V4)
        with ThreadPoolExecutor() as pool:
            list(pool.map(SiteGateway.remove, gateways.values()))
        assert not _forwards("a", IPV4)


def test_an_older_kernel_forwards_ipv6_no_more_either(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before Linux 6.17 there is one setting for all devices, and all gateways have switched it on."""

    def own(family: Family, device: str) -> str:
        return f"ipv4/conf/{device}/forwarding" if family is IPV4 else "ipv6/conf/none"

    monkeypatch.setattr(forwarding, "_own", own)
    with sites_and_outside():
        speak_ipv6()
        gateways = _two_made_at_a(V6)
        rules = nftables.table_text(netns_of("a"), "ip6", "transhume_gateway_98")
        assert 'iifname != "thvu*" oifname != "thvu*" drop' in rules
        for gateway in gateways.values():
            assert _forwards("a", IPV6)
            gateway.remove()
        assert not _forwards("a", IPV6)


def test_a_host_forwards_a_family_no_more_that_its_gateway_has_forgotten() -> None:
    with sites_and_outside():
        speak_ipv6()
        _gateways(network_with(BOTH))[0].make()
        assert _forwards("a", IPV6)
        _gateways(network_with(NEAREST))[0].make()
        assert not _forwards("a", IPV6)
        assert _forwards("a", IPV4)


def test_a_host_forwards_no_more_what_came_in_by_an_earlier_uplink() -> None:
    with sites_and_outside():
        network = network_with(NEAREST)
        _gateways(network)[0].make()
        site = replace(network.sites[0], uplink="wan0")
        other = SiteGateway(network, site, NEAREST)
        other.make()
        assert other.faults() == ()
        assert not _forwards("a", IPV4)
        assert _forwards("a", IPV4, "wan0")


def _two_made_at_a(world: World) -> dict[int, SiteGateway]:
    """Return the gateways of two networks at the site a, by their networks' numbers."""
    network = network_with(world.nearest)
    with netlink_in(netns_of("a")) as netlink:
        make_bridge(netlink, 1500, "br1")
    site = replace(network.sites[0], bridge="br1")
    second = SiteGateway(replace(network, vni=98), site, world.nearest)
    gateways = {99: _gateways(network)[0], 98: second}
    for gateway in gateways.values():
        gateway.make()
    return gateways


def _forwards(site: str, family: Family, uplink: str = "out0") -> bool:
    with inside(netns_of(site)):
        return forwards(family, uplink)


def _let_all_forward(site: str) -> None:
    with inside(netns_of(site)):
        sysctl.write("ipv4/ip_forward", "1")
        let_all_forward()


def _flush_rules(site: str) -> None:
    nftables.run(netns_of(site), "flush ruleset")


def _passes(site: str) -> bool:
    """Say whether a site's host passes on what comes from outside, and is for the site b."""
    there = NETWORK.sites[1].vtep
    with netlink_in(OUT) as out:
        out.route("replace", dst=f"{there}/32", gateway=SEEN_AS[site])
    with (
        closing(ear(netns_of("b"), "wan0")) as listening,
        closing(socket_in(OUT, kind=socket.SOCK_DGRAM)) as mouth,
    ):
        for _ in range(20):
            mouth.sendto(b"a stranger", (there, 9))
            settle()
            if any(b"a stranger" in each for each in _all_heard(listening)):
                return True
    return False


@in_both
def test_another_policy_changes_the_way_and_nothing_else(world: World) -> None:
    """At a site that isn't its home, everything then goes to the home's gateway; and back."""
    with sites_and_outside():
        speak_ipv6()
        nearest = _gateways(network_with(world.nearest))[0]
        at_home = _gateways(network_with(world.home))[0]
        nearest.make()
        before = _default_ways(world.family)
        key = (IpAddress(world.mover), Flow("udp", 40000, IpAddress(world.out), 53))
        nearest.hold({key: SiteName("b")})
        assert at_home.faults() != ()
        at_home.make()
        assert at_home.faults() == ()
        assert _default_ways(world.family) != before
        assert at_home.held() == {key: SiteName("b")}
        nearest.make()
        assert _default_ways(world.family) == before
        assert nearest.faults() == ()
        nearest.hold({})
        assert nearest.held() == {}


def _default_ways(family: Family) -> list[str]:
    with netlink_in(namespace(99, "a")) as within:
        routes = within.route("dump", family=family.number, table=254)
        return [each.get("gateway") for each in routes if not each["dst_len"]]


async def test_a_network_may_have_ipv6_alone(folder: Path) -> None:
    async with stage(folder, network_with(replace(BOTH, ip=None))) as made:
        stream = await Stream.open(V6)
        await made.move("a", "b", known=1)
        await stream.goes_on()
        assert await seen_as(V6) == SEEN_AS6["b"]
        await stream.close()


def test_a_gateway_learns_another_family_and_forgets_it_again() -> None:
    """What the other family has goes on as it was."""
    alone = {"IPv4": NEAREST, "both": BOTH, "IPv6": replace(BOTH, ip=None)}
    gateways = {name: _gateways(network_with(each))[0] for name, each in alone.items()}
    with sites_and_outside():
        speak_ipv6()
        key = (IpAddress(MOVER_IP6), Flow("tcp", 40000, IpAddress(OUT_IP6), 80))
        for before, after in (("IPv4", "both"), ("both", "IPv6"), ("IPv6", "IPv4")):
            gateways[before].make()
            assert gateways[before].faults() == ()
            if before != "IPv4":
                gateways[before].hold({key: SiteName("b")})
            assert gateways[after].faults() != ()
            gateways[after].make()
            assert gateways[after].faults() == ()
            if (before, after) == ("both", "IPv6"):
                assert gateways[after].held() == {key: SiteName("b")}
        with netlink_in(namespace(99, "a")) as within:
            ipv6 = [each.get("address") for each in within.addr("dump", family=socket.AF_INET6)]
        assert ipv6 == []


def test_tunnels_that_are_too_narrow_for_ipv6_are_named() -> None:
    with sites_and_outside():
        with netlink_in(netns_of("a")) as netlink:
            netlink.link("set", index=index(netlink, "wan0"), mtu=1329)
        with pytest.raises(OverlayError, match="site a: its tunnels carry packets of 1279 bytes"):
            _gateways(network_with(BOTH))[0].make()
        _gateways(network_with(NEAREST))[0].make()


def test_a_host_without_a_setting_for_each_device_keeps_the_router_that_it_has_heard_of() -> None:
    """Linux before 6.17: a host that forwards IPv6 takes nobody's word for a router, unless it's told to."""
    with sites_and_outside():
        speak_ipv6()
        with closing(
            socket_in(OUT, socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        ) as out:
            out.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            with inside(OUT):
                out.setsockopt(
                    socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, socket.if_nametoindex("br0")
                )
            advertisement = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 1800, 0, 0)
            before: list[str] = []
            for _ in range(100):
                out.sendto(advertisement, ("ff02::1", 0))
                settle()
                if before := _routers("a"):
                    break
        assert before
        with inside(netns_of("a")):
            let_all_forward()
            assert forwards(IPV6, "out0")
        assert _routers("a") == before


def _routers(site: str) -> list[str]:
    with netlink_in(netns_of(site)) as netlink:
        routes = netlink.route("dump", family=socket.AF_INET6, table=254)
        return [each.get("gateway") for each in routes if not each["dst_len"]]
