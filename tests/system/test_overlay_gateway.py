"""The default gateway at three sites on real bridges and tunnels, with a world outside that sees who comes.

The mover is a namespace with one interface, whose other end is put into the bridge of the site where it runs,
as a VM's is. The site agents are real; only the hypervisors are stand-ins.
"""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import pytest
from pyroute2 import netns as namespaces

from tests.system.overlay_frames import ear
from tests.system.overlay_sites import (
    FIXED,
    MAC,
    MOVER,
    MOVER_IP,
    NETWORK,
    SITES,
    WAN,
    index,
    make_bridge,
    netns_of,
    plug,
    three_sites,
)
from tests.system.test_overlay_agents import TAP, VM, VTEPS, Stage, Wire, now
from transhume.deployment.model import GatewaySettings, OverlayNetwork
from transhume.execute.overlay import ByAgents
from transhume.execute.overlay.agent.assembly import watch_bridge
from transhume.execute.overlay.agent.events import Runs
from transhume.execute.overlay.agent.service import LEASE_SECONDS, Agent, Senses
from transhume.execute.overlay.agent.site import SiteAddresses
from transhume.execute.overlay.gateway import SiteGateway, with_gateway
from transhume.execute.overlay.gateway.layout import host_addresses, namespace
from transhume.execute.overlay.plane import SitePlane
from transhume.knowledge.model import Flow, IpAddress, SiteName
from transhume.knowledge.server import find_program, run_server
from transhume.knowledge.store import Store
from transhume.reach.netns import inside, netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

OUT, OUT_IP, ECHO = "thtest-out", "203.0.113.100", 7
SEEN_AS = {site: f"203.0.113.{number}" for number, site in enumerate(SITES, start=1)}
GATEWAY_IP, GATEWAY_MAC = "10.99.0.254", "52:54:00:7a:ff:01"
NEAREST = GatewaySettings(ip=GATEWAY_IP, prefix_length=24, mac=GATEWAY_MAC)
HOME = replace(NEAREST, exit_at_home=True, home="c")
PATIENCE_SECONDS = 90.0


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
                await Agent(
                    addresses=SiteAddresses(SiteName(site), vni, VTEPS, fixed=fixed),
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
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(run_server(find_program(), folder))
        store = await stack.enter_async_context(Store.connect(server.url, clock=now))
        overlay = ByAgents(network, store.register(network.vni), now)
        made = GatewayStage(overlay, store, folder, network=network)
        for site in SITES:
            made.wires[site] = Wire(folder / "knowledge/socket", folder / f"{site}.sock")
            await made.wires[site].serve(stack)
            await made.start(site)
        await stack.enter_async_context(outside())
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
async def outside() -> AsyncIterator[None]:
    """Echo what comes, after a line that says from whom it seems to be."""
    loop = asyncio.get_running_loop()
    with (
        closing(socket_in(OUT)) as stream,
        closing(socket_in(OUT, kind=socket.SOCK_DGRAM)) as datagrams,
    ):
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        for each in (stream, datagrams):
            each.bind((OUT_IP, ECHO))
            each.setblocking(False)
        server = await asyncio.start_server(_echo, sock=stream)
        transport, _ = await loop.create_datagram_endpoint(_EchoDatagrams, sock=datagrams)
        try:
            yield
        finally:
            transport.close()
            server.close()


async def _echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    host, port = writer.get_extra_info("peername")
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
    async def open(cls) -> "Stream":
        opened = socket_in(MOVER)
        opened.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await loop.sock_connect(opened, (OUT_IP, ECHO))
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
    async def open(cls) -> "Datagrams":
        opened = socket_in(MOVER, kind=socket.SOCK_DGRAM)
        opened.setblocking(False)
        opened.connect((OUT_IP, ECHO))
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


async def seen_as() -> str:
    """Open a connection, and return the address as which the outside sees it."""
    stream = await Stream.open()
    await stream.goes_on(2)
    await stream.close()
    return stream.peer.partition(":")[0]


# --- where it answers, and where traffic leaves ----------------------------------------------------


async def test_the_gateway_answers_at_each_site_with_the_same_mac_and_asks_nobody_else(
    folder: Path,
) -> None:
    async with stage(folder, network_with(NEAREST)):
        with closing(ear(WAN, "to-a")) as wan:
            for site in SITES:
                assert await asyncio.to_thread(_gateways_mac, site) == GATEWAY_MAC
            heard = _all_heard(wan)
        mac, ip = bytes.fromhex(GATEWAY_MAC.replace(":", "")), socket.inet_aton(GATEWAY_IP)
        arp = [each for each in heard if b"\x08\x06\x00\x01\x08\x00" in each]
        assert not any(mac in each or ip in each for each in arp)
        assert not any(mac in each for each in heard)


async def test_traffic_leaves_at_the_site_where_the_vm_is(folder: Path) -> None:
    async with stage(folder, network_with(NEAREST)) as made:
        for source, destination in (("a", "b"), ("b", "c")):
            assert await seen_as() == SEEN_AS[source]
            await made.move(source, destination)
        assert await seen_as() == SEEN_AS["c"]


async def test_with_a_home_traffic_leaves_there_from_everywhere(folder: Path) -> None:
    async with stage(folder, network_with(HOME)) as made:
        stream, datagrams = await Stream.open(), await Datagrams.open()
        for source, destination in (("a", "b"), ("b", "c"), ("c", "a")):
            assert await seen_as() == SEEN_AS["c"]
            await made.move(source, destination)
            await stream.goes_on()
            await datagrams.goes_on()
        assert len(datagrams.peers) == 1
        await stream.close()
        await datagrams.close()


async def test_a_site_without_an_uplink_uses_anothers_and_its_connections_stay_there(
    folder: Path,
) -> None:
    async with stage(folder, network_with(replace(NEAREST, home="c"), uplinks=("b", "c"))) as made:
        stream, datagrams = await Stream.open(), await Datagrams.open()
        assert stream.peer.startswith(f"{SEEN_AS['c']}:")
        await made.move("a", "b", known=2)
        await stream.goes_on()
        await datagrams.goes_on()
        assert len(datagrams.peers) == 1
        assert await seen_as() == SEEN_AS["b"]
        await stream.close()
        await datagrams.close()


# --- open connections ------------------------------------------------------------------------------


async def test_open_connections_survive_moves_to_two_other_sites_and_back(folder: Path) -> None:
    """Each leaves where it was opened until it ends, and what is opened after a move leaves at the new site."""
    async with stage(folder, network_with(NEAREST)) as made:
        streams: list[Stream] = []
        flows: list[Datagrams] = []
        # Of the six connections at last, two are at home when the VM comes home.
        for (source, destination), known in zip(("ab", "bc", "ca"), (2, 4, 4), strict=True):
            streams.append(await Stream.open())
            flows.append(await Datagrams.open())
            assert streams[-1].peer.startswith(f"{SEEN_AS[source]}:")
            await made.move(source, destination, known=known)
            for talk in (*streams, *flows):
                await talk.goes_on()
            assert await seen_as() == SEEN_AS[destination]
        peers = [flow.peers for flow in flows]
        assert [len(each) for each in peers] == [1, 1, 1]
        assert [min(each).partition(":")[0] for each in peers] == [SEEN_AS[s] for s in "abc"]
        for talk in (*streams, *flows):
            await talk.close()


async def test_a_connection_survives_a_move_that_nobody_announced(folder: Path) -> None:
    async with stage(folder, network_with(NEAREST)) as made:
        stream = await Stream.open()
        await stream.goes_on()
        made.stop("a")
        await made.resume("b")
        await stream.goes_on()
        await made.settled_at("b")
        await stream.close()


async def test_no_agent_is_needed_for_what_is_anchored(folder: Path) -> None:
    """While they are gone everything goes on, and when they begin anew they leave it so."""
    async with stage(folder, network_with(NEAREST)) as made:
        stream, datagrams = await Stream.open(), await Datagrams.open()
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


async def test_an_anchor_ends_with_its_connection(folder: Path) -> None:
    async with stage(folder, network_with(NEAREST)) as made:
        stream = await Stream.open()
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


async def test_what_is_in_the_middle_of_an_unknown_connection_gets_no_answer(folder: Path) -> None:
    """Neither a reset nor an address of its own: it may be anchored where nobody has told of it yet."""
    async with stage(folder, network_with(NEAREST)):
        with (
            closing(ear(OUT, "to-a")) as far,
            closing(ear(MOVER, "eth0")) as near,
            closing(socket_in(MOVER, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP)) as mouth,
        ):
            segment = struct.pack("!HHIIBBHHH", 40000, ECHO, 1, 1, 5 << 4, 0x10, 1024, 0, 0)
            mouth.sendto(_with_checksum(segment), (OUT_IP, 0))
            await asyncio.sleep(0.5)
            ports = struct.pack("!HH", 40000, ECHO)
            assert not any(ports in each for each in _all_heard(far))
            back = struct.pack("!HH", ECHO, 40000)
            assert not any(back in each for each in _all_heard(near))


# --- what it keeps apart ---------------------------------------------------------------------------


async def test_two_networks_dont_reach_each_other_by_their_gateways(folder: Path) -> None:
    """Nor by the host that both lead to, nor with packets that look like a tunnel's."""
    settings = GatewaySettings(ip="10.98.0.254", prefix_length=24, mac=GATEWAY_MAC)
    sites = tuple(replace(site, bridge="br1", uplink="out0") for site in NETWORK.sites)
    other = OverlayNetwork(vni=98, sites=sites, gateway=settings)
    async with stage(folder, network_with(NEAREST)):
        await asyncio.to_thread(_add_second_network, other, settings)
        targets = ["10.98.0.5", *host_addresses(98), host_addresses(99)[1], "169.254.169.254"]
        with (
            closing(ear(FIXED["b"], "eth1")) as victim,
            closing(ear(namespace(98, "a"), "uplink")) as second,
            closing(ear(OUT, "to-a")) as far,
            closing(socket_in(MOVER, kind=socket.SOCK_DGRAM)) as mouth,
        ):
            secret = b"from network 99"
            for target in targets:
                mouth.sendto(secret, (target, 9))
            mouth.sendto(secret, (OUT_IP, NETWORK.port))
            mouth.sendto(b"allowed", (OUT_IP, 9))
            await asyncio.sleep(0.5)
            heard = [*_all_heard(victim), *_all_heard(second)]
            assert not any(secret in each for each in heard)
            beyond = _all_heard(far)
            assert any(b"allowed" in each for each in beyond)
            assert not any(
                secret in each and socket.inet_aton("10.98.0.5") not in each for each in beyond
            )
            assert not any(b"\x0a\x63\x00" in each[26:30] for each in beyond), "not masqueraded"


async def test_what_somebody_breaks_at_the_gateway_is_mended(folder: Path) -> None:
    async with stage(folder, network_with(NEAREST)) as made:
        stream = await Stream.open()
        await made.move("a", "b")
        await stream.goes_on()
        await asyncio.to_thread(_break_gateway, "b")
        await stream.goes_on()
        assert await seen_as() == SEEN_AS["b"]
        await stream.close()


def _break_gateway(site: str) -> None:
    with netlink_in(netns_of(site)) as netlink:
        netlink.link("del", index=index(netlink, "thvt99"))
    with netlink_in(namespace(99, site)) as within:
        within.route("del", dst="0.0.0.0/0", family=socket.AF_INET)


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
        victim.link("set", index=eth1, state="up")
    SiteGateway(network, site, settings).make()


def _gateways_mac(site: str) -> str:
    """Ask who has the gateway's address, and return who answers."""
    with closing(socket_in(FIXED[site], kind=socket.SOCK_DGRAM)) as mouth:
        mouth.sendto(b"hello", (GATEWAY_IP, 9))
    with netlink_in(FIXED[site]) as netlink:
        for _ in range(100):
            for each in netlink.neigh("dump", family=socket.AF_INET):
                if each.get("dst") == GATEWAY_IP and each.get("lladdr"):
                    return str(each.get("lladdr"))
    return "nobody"


def _all_heard(listening: socket.socket) -> list[bytes]:
    heard = []
    with suppress(BlockingIOError):
        while True:
            heard.append(listening.recv(65536))
    return heard


def _with_checksum(segment: bytes) -> bytes:
    source, destination = socket.inet_aton("10.99.0.99"), socket.inet_aton(OUT_IP)
    covered = source + destination + struct.pack("!BBH", 0, 6, len(segment)) + segment
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


def test_another_policy_changes_the_way_and_nothing_else() -> None:
    """At a site that isn't its home, everything then goes to the home's gateway; and back."""
    with sites_and_outside():
        nearest, at_home = _gateways(network_with(NEAREST))[0], _gateways(network_with(HOME))[0]
        nearest.make()
        before = _default_ways()
        key = (IpAddress(MOVER_IP), Flow("udp", 40000, IpAddress(OUT_IP), 53))
        nearest.hold({key: SiteName("b")})
        assert at_home.faults() != ()
        at_home.make()
        assert at_home.faults() == ()
        assert _default_ways() != before
        assert at_home.held() == {key: SiteName("b")}
        nearest.make()
        assert _default_ways() == before
        assert nearest.faults() == ()
        nearest.hold({})
        assert nearest.held() == {}


def _default_ways() -> list[str]:
    with netlink_in(namespace(99, "a")) as within:
        routes = within.route("dump", family=socket.AF_INET, table=254)
        return [each.get("gateway") for each in routes if not each["dst_len"]]
