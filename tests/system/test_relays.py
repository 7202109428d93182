"""A site with two hosts and one gateway: real guests leave from, and come to, the host that has only a relay.

Two of the lab's clouds are made one site: `a`, which has the gateway, and `b`, which has a relay. Cloud `c` is
the other site.
"""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import yaml

from tests.system.running import assert_nothing_was_lost, until, where
from transhume.deployment.loader import load_deployment
from transhume.errors import MoveFailed
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.protocol import JobSample
from transhume.execute.migration.control_client import GatewayAddress, GatewayClient
from transhume.execute.migration.gateways import Gateways
from transhume.execute.migration.trust import Peer, PeerKind, init_authority
from transhume.knowledge.model import CloudName, HostName, Measurement, VmName
from transhume.lab.detached import start_detached
from transhume.lab.gateways import (
    CONTROL,
    SOCKETS,
    prepare_gateway,
    start_gateway,
    wait_for_gateway,
)
from transhume.lab.lab import Lab
from transhume.lab.spec import LabSpec, plan_lab
from transhume.reach.libvirt import Connections
from transhume.reach.netns import NAMED

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
]

VM = VmName("vm1")
HOME, AWAY = HostName("b1"), HostName("c1")
SITES = {HostName("a1"): CloudName("a"), HOME: CloudName("a"), AWAY: CloudName("c")}


def spread() -> LabSpec:
    """One guest, at the host that has no gateway."""
    spec = plan_lab(clouds=3, vms=1, clusters=1, wan_bytes_per_second=6_000_000)
    (guest,) = spec.guests
    return replace(spec, guests=(replace(guest, cloud=CloudName("b"), sends={}),))


LAB = spread()


class Relay:
    """The relay at cloud b's host, as a process."""

    def __init__(self, lab: Lab) -> None:
        self._home, self._netns = lab.cloud("b").home, lab.cloud("b").spec.netns
        self.log = self._home / "log/relay.log"
        self._pid: int | None = None

    def start(self) -> None:
        """Start it; `connected` tells when it's there."""
        words = [sys.executable, "-m", "transhume", "relay", "--config"]
        netns = f"--net={NAMED / self._netns}"
        config = str(self._home / "relay.yaml")
        self._pid = start_detached(["nsenter", netns, *words, config], self.log)

    def end(self, how: signal.Signals) -> None:
        """End it."""
        assert self._pid is not None
        os.kill(self._pid, how)
        self._pid = None


@pytest.fixture(scope="module")
def relay(lab: Lab) -> Relay:
    """Have gateways at clouds a and c, and a relay at cloud b, which belongs to a's site."""
    authority = init_authority(lab.state / "authority")
    clouds = [lab.cloud(name) for name in "ac"]
    for cloud, hosts in zip(clouds, ([str(HOME)], []), strict=True):
        prepare_gateway(cloud, clouds, authority, None, hosts=hosts)
        start_gateway(cloud)
    home = lab.cloud("b").home
    peer = Peer(kind=PeerKind.HOST, name=str(HOME))
    authority.issue(peer, home / "identity", lifetime=timedelta(days=1), now=datetime.now(UTC))
    configuration = {
        "site": "a",
        "gateway": lab.cloud("a").spec.gateway,
        "identity": "identity",
        "sockets": {"folder": f"libvirt/{SOCKETS.name}", "seen": str(SOCKETS)},
        "pids": "libvirt/qemu",
    }
    (home / "relay.yaml").write_text(yaml.safe_dump(configuration))
    for cloud in clouds:
        wait_for_gateway(cloud)
    found = Relay(lab)
    found.start()
    return found


@pytest.fixture
def gateways(lab: Lab, relay: Relay) -> Gateways:
    clients = {}
    for name in (CloudName("a"), CloudName("c")):
        address = GatewayAddress(site=name, socket=lab.cloud(name).home / CONTROL)
        clients[name] = GatewayClient(address)
    return Gateways(
        clients=clients, cloud_of=lambda host: SITES[host], tenant_of=lambda _: "tenant"
    )


@pytest.fixture
async def hosts(lab: Lab, gateways: Gateways) -> AsyncIterator[LibvirtHosts]:
    connections = Connections(load_deployment(lab.deployment).hypervisors)
    try:
        yield LibvirtHosts(connections, gateways)
    finally:
        connections.close()


async def connected(gateways: Gateways, *, is_there: bool = True) -> None:
    """Wait until the gateway at a has the relay, or hasn't it any more."""

    async def found() -> bool | None:
        told = (await gateways.clients[CloudName("a")].ask("status"))["hosts"]
        return told == [{"host": HOME, "connected": is_there}] or None

    await until(found, f"the relay to be {'there' if is_there else 'gone'}")


async def moved(
    hosts: LibvirtHosts, way: tuple[HostName, HostName], options: MigrationOptions | None = None
) -> Measurement:
    return await hosts.migrate(VM, *way, lambda _sample: None, options)


async def test_a_guest_comes_and_goes_by_the_relay(
    lab: Lab, gateways: Gateways, hosts: LibvirtHosts
) -> None:
    await connected(gateways)
    away = await moved(hosts, (HOME, AWAY))
    assert where(lab) == {VM: ["c"]}
    back = await moved(hosts, (AWAY, HOME))
    assert where(lab) == {VM: ["b"]}
    assert away.transfer is not None
    assert back.transfer is not None
    assert away.transfer.new_pages > 1000
    # All but what the guest has written to meanwhile stands in the log that c's gateway and a's have.
    assert back.transfer.new_pages < away.transfer.new_pages / 2
    await asyncio.to_thread(assert_nothing_was_lost, lab)


async def test_memory_that_is_sent_ahead_is_read_by_the_relay(
    lab: Lab, gateways: Gateways, hosts: LibvirtHosts
) -> None:
    await connected(gateways)
    await gateways.warm(VM, CloudName("a"), CloudName("c"), passes=1)

    async def done() -> dict[str, object] | None:
        (kept,) = (await gateways.clients[CloudName("a")].ask("status"))["warming"]
        return kept if kept["ended"] else None

    kept = await until(done, "the memory to be read")
    assert kept["ended"] == "done"
    assert int(str(kept["scanned_pages"])) > 1000
    move = await moved(hosts, (HOME, AWAY))
    assert move.transfer is not None
    assert move.transfer.new_pages < int(str(kept["scanned_pages"])) / 4
    await moved(hosts, (AWAY, HOME))
    await asyncio.to_thread(assert_nothing_was_lost, lab)


async def test_a_relay_that_dies_amid_a_move_leaves_the_guest_at_its_source(
    lab: Lab, relay: Relay, gateways: Gateways, hosts: LibvirtHosts
) -> None:
    await connected(gateways)
    flowing = asyncio.Event()

    def heard(sample: JobSample) -> None:
        if sample.bytes_sent > 0:
            flowing.set()

    slow = MigrationOptions(bytes_per_second=4 << 20)
    moving = asyncio.create_task(hosts.migrate(VM, HOME, AWAY, heard, slow))
    async with asyncio.timeout(180):
        await flowing.wait()
    relay.end(signal.SIGKILL)
    with pytest.raises(MoveFailed):
        await moving
    assert where(lab) == {VM: ["b"]}
    await connected(gateways, is_there=False)
    with pytest.raises(MoveFailed, match="relay at b1 isn't connected"):
        await moved(hosts, (HOME, AWAY))

    relay.start()
    await connected(gateways)
    await moved(hosts, (HOME, AWAY))
    assert where(lab) == {VM: ["c"]}
    await moved(hosts, (AWAY, HOME))
    await asyncio.to_thread(assert_nothing_was_lost, lab)


async def test_a_relay_ends_when_asked_to_and_leaves_no_socket(
    lab: Lab, relay: Relay, gateways: Gateways
) -> None:
    folder = lab.cloud("b").home / "libvirt" / SOCKETS.name

    def sockets() -> set[Path]:
        return set(folder.iterdir())

    await connected(gateways)
    before = sockets()  # of the one that was killed
    async with gateways.route(VM, HOME, AWAY):
        assert len(sockets() - before) == len(("ram", "disks"))
        relay.end(signal.SIGTERM)

        async def gone() -> bool | None:
            return sockets() == before or None

        await until(gone, "the sockets to go")
