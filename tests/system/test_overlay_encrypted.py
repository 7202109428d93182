"""Agents as processes, with a deployment file, over WireGuard: the way that an operator takes."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.system.overlay_frames import ear, tunnelled
from tests.system.overlay_sites import (
    FIXED,
    MAC,
    NETWORK,
    SITES,
    WAN,
    fixed_ip,
    hears,
    put_mover_at,
    three_sites,
)
from tests.system.running import redis_in
from transhume.deployment.loader import load_deployment
from transhume.execute.migration.trust import Peer, PeerKind, init_authority
from transhume.execute.overlay import ByAgents
from transhume.knowledge.model import MacAddress
from transhume.knowledge.store import Store
from transhume.reach.netns import netlink_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
    pytest.mark.skipif(
        shutil.which("wireguard-go") is None and not Path("/sys/module/wireguard").exists(),
        reason="NOT TESTED: apt install wireguard-go",
    ),
]

PORT = 51900


def now() -> datetime:
    return datetime.now(UTC)


def mac_of(site: str) -> MacAddress:
    """Return the address of the endpoint that stays at a site."""
    with netlink_in(FIXED[site]) as netlink:
        (link,) = netlink.link("get", ifname="eth0")
        return MacAddress(link.get("address"))


def deployment(folder: Path, url: str) -> Path:
    """Describe the three sites, with a certificate for each."""
    authority = init_authority(folder / "ca")
    sites = {}
    for number, site in enumerate(NETWORK.sites, start=1):
        identity = folder / f"identity-{site.name}"
        peer = Peer(kind=PeerKind.SITE, name=site.name)
        authority.issue(peer, identity, lifetime=timedelta(days=1), now=now())
        sites[site.name] = {
            "netns": site.netns,
            "bridge": site.bridge,
            "underlay": f"thtestwg{number}",
            "vtep": f"100.64.0.{number}",
            "wireguard": {
                "identity": str(identity),
                "endpoints": [f"{site.vtep}:{PORT}"],
                "port": PORT,
            },
            "addresses": [{"mac": str(mac_of(site.name)), "ip": fixed_ip(site.name)}],
        }
    path = folder / "transhume.yaml"
    written = {
        "clouds": {name: {"overlay": site} for name, site in sites.items()},
        "overlay": {"vni": 99, "agents": True},
        "knowledge": {"url": url},
    }
    path.write_text(yaml.safe_dump(written))
    return path


@contextmanager
def agent(site: str, config: Path) -> Iterator[None]:
    """Run a site's agent as an operator does."""
    words = ["overlay", "agent", "--site", site, "--config", str(config)]
    log = config.parent / f"{site}.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [sys.executable, "-m", "transhume", *words], stdout=output, stderr=output
        ) as process,
    ):
        try:
            _wait_for(log, process)
            yield
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=120)
    assert process.returncode == 0, log.read_text()


def _wait_for(log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while b"agent_began" not in log.read_bytes():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_a_vm_is_reached_over_encrypted_paths_before_and_after_a_move(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("e")
    asyncio.run(_in(folder))


async def _in(folder: Path) -> None:
    async with redis_in(folder) as server:
        await asyncio.to_thread(_moved, folder, server.url)


def _moved(folder: Path, url: str) -> None:
    with three_sites(), ExitStack() as stack:
        config = deployment(folder, url)
        for site in SITES:
            stack.enter_context(agent(site, config))
        asyncio.run(_bind(config, url, "a"))
        ears = {site: stack.enter_context(ear(WAN, f"to-{site}")) for site in SITES}
        assert [hears(site) for site in SITES] == [True] * 3
        put_mover_at("b")
        asyncio.run(_bind(config, url, "b"))
        assert [hears(site) for site in SITES] == [True] * 3
        assert tunnelled(ears) == dict.fromkeys(SITES, 0), "something crossed in the clear"


async def _bind(config: Path, url: str, site: str) -> None:
    (network,) = load_deployment(config).networks
    async with Store.connect(url, clock=now) as store:
        overlay = ByAgents(network, store.register(network.vni), now)
        await overlay.bind([MAC], site)
        assert await overlay.check([MAC], site) == ()
