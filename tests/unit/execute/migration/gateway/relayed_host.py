"""Another host of a site, whose hypervisors a gateway reaches by a relay."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import yaml

from tests.unit.execute.migration.gateway.hypervisors import PATIENCE_SECONDS
from tests.unit.execute.migration.gateway.two_sites import LIFETIME, Site
from transhume.execute.migration.relaying.configuration import load_relay
from transhume.execute.migration.relaying.relay import run_relay
from transhume.execute.migration.trust import Peer, PeerKind, load_authority


@dataclass(slots=True)
class Host:
    """A host with a relay; its sockets are in its folder, as a site's are."""

    name: str
    folder: Path


def write_host(site: Site, name: str, **changes: object) -> Path:
    """Write the configuration of the relay at a site's other host; return its path."""
    home = site.folder.parent / name
    if not home.exists():
        home.mkdir()
        load_authority(site.folder.parent / "ca").issue(
            Peer(kind=PeerKind.HOST, name=name),
            home / "identity",
            lifetime=LIFETIME,
            now=datetime.now(UTC),
        )
    written = {
        "site": site.gateway.site,
        "gateway": str(site.gateway.settings.listen),
        "identity": "identity",
        "sockets": {"folder": "sockets", "seen": "/run/libvirt/transhume"},
        "pids": "pids",
    }
    path = home / "relay.yaml"
    path.write_text(yaml.safe_dump(written | changes))
    return path


@asynccontextmanager
async def relayed_host(site: Site, name: str, **changes: object) -> AsyncIterator[Host]:
    """Have a relay at a host, connected while the context lasts."""
    path = write_host(site, name, **changes)
    running = asyncio.create_task(run_relay(load_relay(path)))
    try:
        await connected(site, name)
        yield Host(name, path.parent)
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


async def connected(site: Site, name: str, *, is_there: bool = True) -> None:
    """Wait until a gateway has a host's relay, or hasn't it any more."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while {"host": name, "connected": is_there} not in site.gateway.relays.status():
            await asyncio.sleep(0.01)
