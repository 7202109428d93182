"""Two gateways on this machine's loopback, and hypervisors that only send and receive bytes."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import SystemRandom

import yaml

from transhume.execute.migration.control_client import GatewayAddress, GatewayClient
from transhume.execute.migration.gateway.configuration import load_gateway
from transhume.execute.migration.gateway.gateway import Gateway
from transhume.execute.migration.gateway.link import SILENCE_SECONDS
from transhume.execute.migration.gateway.service import running_gateway
from transhume.execute.migration.machine.sockets import listen, short_path
from transhume.execute.migration.trust import Peer, PeerKind, init_authority, load_authority

LIFETIME = timedelta(days=1)
LOWEST_PORT = 10_000
OUTGOING_PORTS = Path("/proc/sys/net/ipv4/ip_local_port_range")


@dataclass(slots=True)
class Site:
    """A gateway that runs, and how to ask it."""

    folder: Path
    gateway: Gateway
    client: GatewayClient


def free_port() -> int:
    """Return a port of the loopback that nobody has, nor gets for a connection that goes out."""
    lowest_outgoing = int(OUTGOING_PORTS.read_text("ascii").split()[0])
    while True:
        port = SystemRandom().randrange(LOWEST_PORT, lowest_outgoing)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def write_site(folder: Path, name: str, ports: dict[str, int], **changes: object) -> Path:
    """Write a gateway's configuration with an identity of the folder's authority; return its path."""
    home = folder / name
    home.mkdir()
    authority = folder / "ca"
    if not authority.exists():
        init_authority(authority, now=datetime.now(UTC))
    load_authority(authority).issue(
        Peer(kind=PeerKind.SITE, name=name),
        home / "identity",
        lifetime=LIFETIME,
        now=datetime.now(UTC),
    )
    written = {
        "site": name,
        "listen": f"127.0.0.1:{ports[name]}",
        "identity": "identity",
        "control": "control.sock",
        "peers": {peer: f"127.0.0.1:{port}" for peer, port in ports.items() if peer != name},
        "sockets": {"folder": "sockets", "seen": "/run/libvirt/transhume"},
        "store": {"folder": "store"},
        "admit": [{"sources": ["*"]}],
    }
    path = home / "gateway.yaml"
    path.write_text(yaml.safe_dump(written | changes))
    return path


@asynccontextmanager
async def site(path: Path, *, silence_seconds: float = SILENCE_SECONDS) -> AsyncIterator[Site]:
    """Have a gateway of a configuration."""
    settings = load_gateway(path)
    async with running_gateway(settings, silence_seconds=silence_seconds) as gateway:
        address = GatewayAddress(site=settings.site, socket=settings.control)
        yield Site(path.parent, gateway, GatewayClient(address))


@asynccontextmanager
async def two_sites(folder: Path, **changes: object) -> AsyncIterator[tuple[Site, Site]]:
    """Have the gateways of sites a and b."""
    ports = {"a": free_port(), "b": free_port()}
    paths = [write_site(folder, name, ports, **changes) for name in ports]
    async with AsyncExitStack() as stack:
        one, other = [await stack.enter_async_context(site(path)) for path in paths]
        yield one, other


async def open_way(
    source: Site, destination: Site, vm: str = "vm1", *, share: object = None, **words: object
) -> str:
    """Have a VM admitted and its way opened; return the migration's name."""
    migration = words.pop("migration", f"m-{vm}")
    tenant = words.pop("tenant", "t")
    admitted = await destination.client.ask(
        "admit", migration=migration, vm=vm, tenant=tenant, source=source.gateway.site, **words
    )
    await source.client.ask(
        "open",
        migration=migration,
        vm=vm,
        tenant=tenant,
        destination=destination.gateway.site,
        ticket=admitted["ticket"],
        share=share,
    )
    return str(migration)


@dataclass(slots=True)
class Received:
    """What came to a destination's hypervisor on one connection."""

    content: bytes = b""
    complete: bool = False


async def send_through(
    source: Site, destination: Site, migration: str, content: bytes, answer: bytes = b""
) -> Received:
    """Send bytes as a source's hypervisor does, answer as a destination's, and return what arrived."""
    listener = listen(destination.folder / f"sockets/{migration}-ram")
    receiving = asyncio.create_task(_receive(listener, answer))
    with short_path(source.folder / f"sockets/{migration}-ram") as name:
        reader, writer = await asyncio.open_unix_connection(name)
    returned = asyncio.create_task(reader.read())
    writer.write(content)
    await writer.drain()
    writer.write_eof()
    found = await receiving
    if found.complete:
        assert await returned == answer
    writer.close()
    return found


async def _receive(listener: socket.socket, answer: bytes) -> Received:
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(listener)
    listener.close()
    connection.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=connection)
    found = Received()
    writer.write(answer)
    try:
        found.content = await reader.read()
        found.complete = True
        writer.write_eof()
    except OSError:
        pass
    writer.close()
    return found
