"""Sites for tests of the underlay: one public, others behind an nftables masquerade, in network namespaces."""

import asyncio
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyroute2 import netns as namespaces

from transhume.execute.migration.trust import Authority, Peer, PeerKind
from transhume.execute.overlay.underlay import Mesh, PathKind, UnderlaySettings
from transhume.knowledge.model import SiteName
from transhume.knowledge.server import ServerAddress
from transhume.knowledge.underlay import UnderlayDirectory
from transhume.knowledge.wire import connect
from transhume.reach.netns import inside, netlink_in, socket_in

WAN = "thtest-u-wan"
PORT = 5099
PATIENCE_SECONDS = 60.0
DAY = timedelta(days=1)

NAT_RULES = """
table ip nat {{
 chain post {{
  type nat hook postrouting priority srcnat;
  oifname "out" masquerade {flags}
 }}
}}
table ip filter {{
 chain passing {{
  type filter hook forward priority filter; policy drop;
  ct state established,related accept
  iifname "in" accept
 }}
 {incoming}
}}
"""
CLOSED = """chain incoming {
  type filter hook input priority filter; policy drop;
  ct state established,related accept
  iifname "in" accept
 }"""


@dataclass(frozen=True)
class NatSite:
    """A site: public at `outer`, or behind a router that has that address."""

    name: SiteName
    outer: str
    inner: str | None = None
    random: bool = False
    """Whether its NAT gives each connection a port of its own."""
    closed: bool = True
    """Whether the NAT's own machine drops what nobody asked for, instead of refusing it."""

    @property
    def netns(self) -> str:
        return f"thtest-u-{self.name}"

    @property
    def router(self) -> str:
        return f"thtest-u-{self.name}-nat"

    @property
    def gateway(self) -> str:
        return self.outer.rpartition(".")[0] + ".1"


A = NatSite(SiteName("a"), "192.0.2.2")
B = NatSite(SiteName("b"), "198.51.100.2", inner="10.98.0.2")
C = NatSite(SiteName("c"), "203.0.113.2", inner="10.99.0.2")
B_RANDOM, C_RANDOM = replace(B, random=True), replace(C, random=True)


def missing_programs() -> str | None:
    """Say what keeps these tests from running."""
    absent = [name for name in ("wireguard-go", "nft") if shutil.which(name) is None]
    if absent:
        return f"NOT TESTED: no {' or '.join(absent)} here; tools/debian-packages lab installs them"
    return None


@contextmanager
def network_of(sites: tuple[NatSite, ...]) -> Iterator[None]:
    """Have the sites' namespaces, routed through one that stands for the internet."""
    everything = [WAN, *(site.netns for site in sites), *(s.router for s in sites if s.inner)]
    made = []
    try:
        for netns in everything:
            namespaces.create(netns)
            made.append(netns)
            with inside(netns):
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
                forwards = netns == WAN or netns.endswith("-nat")
                Path("/proc/sys/net/ipv4/ip_forward").write_text(str(int(forwards)))
        for site in sites:
            _attach(site)
        yield
    finally:
        for netns in made:
            with suppress(FileNotFoundError):
                namespaces.remove(netns)


def _attach(site: NatSite) -> None:
    edge, uplink = (site.router, "out") if site.inner else (site.netns, "wan0")
    link((WAN, f"to-{site.name}", site.gateway), (edge, uplink, site.outer))
    if site.inner is None:
        return
    inside_gateway = site.inner.rpartition(".")[0] + ".1"
    link((site.router, "in", inside_gateway), (site.netns, "wan0", site.inner))
    load_nat(site)


def load_nat(site: NatSite) -> None:
    """Give a site's router its rules, and no state of before."""
    text = NAT_RULES.format(
        flags="fully-random" if site.random else "", incoming=CLOSED if site.closed else ""
    )
    with inside(site.router):
        subprocess.run(["nft", "-f", "-"], input=f"flush ruleset\n{text}", text=True, check=True)


def forget_connections(site: NatSite) -> None:
    """Let a site's router forget all connections, as one that was started anew.

    With a message of our own: pyroute2 0.9.7 opens this kind of socket in the namespace of its loop.
    """
    delete_all = struct.pack("=IHHIIBBH", 20, (1 << 8) | 2, 1 | 4, 1, 0, socket.AF_INET, 0, 0)
    with closing(socket_in(site.router, socket.AF_NETLINK, socket.SOCK_RAW, 12)) as netlink:
        netlink.bind((0, 0))
        netlink.send(delete_all)
        error = struct.unpack_from("=i", netlink.recv(4096), 16)[0]
    assert error == 0, os.strerror(-error)


def block(one: NatSite, other: NatSite) -> None:
    """Let nothing pass between two sites' outer addresses any more."""
    rules = "\n".join(
        f"ip saddr {here.outer} ip daddr {there.outer} drop"
        for here, there in ((one, other), (other, one))
    )
    chain = f"chain passing {{\n type filter hook forward priority filter;\n {rules}\n }}"
    with inside(WAN):
        text = f"table ip blocked {{\n {chain}\n}}\n"
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def unblock() -> None:
    """Let everything pass again that was blocked."""
    with inside(WAN):
        subprocess.run(["nft", "delete", "table", "ip", "blocked"], check=True)


def programs_of(device: str) -> list[int]:
    """Return the processes that serve a device."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if device.encode() in words and words[0].endswith(b"wireguard-go"):
                found.append(int(process.name))
    return found


def link(near: tuple[str, str, str], far: tuple[str, str, str]) -> None:
    """Join two namespaces (each with the device's name and address); the far one sends all else that way."""
    with netlink_in(near[0]) as here, netlink_in(far[0]) as there:
        peer = {"ifname": far[1], "net_ns_fd": far[0]}
        here.link("add", ifname=near[1], kind="veth", peer=peer)
        for netlink, (_, name, ip) in ((here, near), (there, far)):
            index = netlink.link_lookup(ifname=name)[0]
            netlink.addr("add", index=index, address=ip, prefixlen=24)
            netlink.link("set", index=index, state="up")
        there.route("add", dst="default", gateway=near[2])


@dataclass
class Underlay:
    """Meshes at work."""

    meshes: dict[SiteName, Mesh]
    directory: UnderlayDirectory

    def __getitem__(self, site: NatSite) -> Mesh:
        return self.meshes[site.name]

    def path(self, ours: NatSite, other: NatSite) -> PathKind:
        """Return how a site is reached from another."""
        states = {state.site: state for state in self[ours].status()}
        return states[other.name].path if other.name in states else PathKind.NONE

    async def talk(self, one: NatSite, other: NatSite, **how: float) -> bool:
        """Say whether datagrams go to the other and back."""
        to = self[other].address
        return await asyncio.to_thread(lambda: exchange(one.netns, other.netns, to, **how))

    async def directly(self, one: NatSite, other: NatSite) -> None:
        """Wait until two sites reach each other without a relay."""
        await self.until(
            lambda: self.path(one, other) is self.path(other, one) is PathKind.DIRECT,
            f"{one.name} and {other.name} directly",
        )

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait for something to become true."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not holds():
            told = {name: mesh.status() for name, mesh in self.meshes.items()}
            assert time.monotonic() < deadline, f"never: {what}; {told}"
            await asyncio.sleep(0.1)


def exchange(
    near: str,
    far: str,
    to: str,
    *,
    patience: float = PATIENCE_SECONDS,
    length: int = 1000,
    port: int = PORT,
) -> bool:
    """Send from one namespace to an address in another, and back; repeat until it works."""
    with (
        closing(socket_in(near, kind=socket.SOCK_DGRAM)) as mouth,
        closing(socket_in(far, kind=socket.SOCK_DGRAM)) as ear,
    ):
        ear.bind(("", port))
        ear.settimeout(0.2)
        mouth.bind(("", port))
        mouth.settimeout(0.2)
        deadline = time.monotonic() + patience
        while time.monotonic() < deadline:
            with suppress(TimeoutError, OSError):
                mouth.sendto(b"x" * length, (to, port))
                question, back = ear.recvfrom(65536)
                ear.sendto(question, back)
                return len(mouth.recv(65536)) == length
    return False


def settings_of(site: NatSite, folder: Path) -> UnderlaySettings:
    """Return a site's settings, impatient as tests are."""
    return UnderlaySettings(
        site=site.name,
        identity=folder / f"{site.name}-identity",
        key_file=folder / f"{site.name}-key",
        device=f"thtest-u{site.name}",
        netns=site.netns,
        endpoints=() if site.inner else (f"{site.outer}:51820",),
        keepalive_seconds=2,
        udp_ports=frozenset({4789, PORT}),
    )


def issue(authority: Authority, sites: tuple[NatSite, ...], folder: Path) -> None:
    """Give each site a certificate."""
    for site in sites:
        authority.issue(
            Peer(kind=PeerKind.SITE, name=site.name),
            folder / f"{site.name}-identity",
            lifetime=DAY,
            now=datetime.now(UTC),
        )


@asynccontextmanager
async def underlay_of(
    sites: tuple[NatSite, ...], folder: Path, redis: ServerAddress
) -> AsyncIterator[Underlay]:
    """Have a mesh at work at each site."""
    async with connect(redis.url) as client:
        directory = UnderlayDirectory(client)
        meshes = {site.name: Mesh(settings_of(site, folder), directory) for site in sites}
        running: list[asyncio.Task[None]] = []
        try:
            for mesh in meshes.values():
                await mesh.start()
                running.append(asyncio.create_task(mesh.run()))
            yield Underlay(meshes, directory)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            for mesh in meshes.values():
                await mesh.stop()
