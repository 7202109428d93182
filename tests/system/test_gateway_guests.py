"""A real guest talks to the outside by the gateway at each site, by IPv4 and IPv6, and goes on while the daemon
moves it live.

The lab's own way out, at its gateway site, is taken away: that site stays, to reach the guests from beside.
Each cloud gets an uplink instead.
"""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from pyroute2 import netns as namespaces

from tests.system.overlay_sites import index, make_bridge, plug
from tests.system.running import (
    RunningDaemon,
    deployment_of,
    settled,
    until,
    where,
    write_pin,
)
from transhume.execute.overlay import VxlanOverlay
from transhume.execute.overlay.gateway.layout import namespace
from transhume.knowledge.model import IpAddress, PlanStatus
from transhume.knowledge.store import Store
from transhume.lab import agents
from transhume.lab.initramfs import RECEIVE_PORT
from transhume.lab.lab import Lab
from transhume.lab.outside import pattern
from transhume.lab.spec import (
    BRIDGE,
    EDGE,
    GATEWAY,
    GATEWAY6,
    GATEWAY_MAC,
    OUTSIDE,
    VNI,
    LabSpec,
    plan_lab,
)
from transhume.reach import sysctl
from transhume.reach.netns import inside, netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab needs root"),
]

VM, CLOUDS = "vm1", "abc"
OUT_BRIDGE, UPLINK = "isp0", "up0"
OUT_IP, OUT_IP6 = IpAddress("203.0.113.100"), IpAddress("2001:db8:203::100")
SEEN_AS = {
    OUT_IP: {cloud: f"203.0.113.{number}" for number, cloud in enumerate(CLOUDS, start=1)},
    OUT_IP6: {cloud: f"2001:db8:203::{number}" for number, cloud in enumerate(CLOUDS, start=1)},
}
"""By the address outside, and by where the guest was when it opened a connection."""
BESIDE, BESIDE_MAC = "10.66.0.253", "52:54:00:7c:00:02"
ANOTHER = "guest send {} {} 50000 <&- >&- 2>&- 3>&- 4>&- 5>&- 6>&- 7>&- &"
"""Begins one more conversation in the guest, which keeps nothing open of whoever asked for it."""
SECONDS = 120.0


def talking() -> LabSpec:
    """One guest, that says nothing by itself."""
    spec = plan_lab(clouds=3, vms=1, clusters=1, wan_delay_seconds=0.01)
    (guest,) = spec.guests
    return replace(spec, guests=(replace(guest, sends={}, speaks_ipv6=True),))


LAB = talking()


class Outside:
    """Takes connections in the world outside, and checks each byte of the pattern that guests send."""

    def __init__(self, ip: IpAddress) -> None:
        self.ip = ip
        self.received: dict[tuple[str, int], int] = {}
        """Bytes by who each connection seems to come from."""
        self.wrong: list[str] = []
        family = socket.AF_INET6 if ":" in ip else socket.AF_INET
        self._listener = socket_in(OUTSIDE, family)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((ip, RECEIVE_PORT))
        self._listener.listen()
        threading.Thread(target=self._serve, name="outside", daemon=True).start()

    def close(self) -> None:
        """Take none any more."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, address = self._listener.accept()
                peer = address[:2]
                self.received[peer] = 0
                threading.Thread(target=self._check, args=(connection, peer), daemon=True).start()

    def _check(self, connection: socket.socket, peer: tuple[str, int]) -> None:
        with closing(connection):
            try:
                while data := connection.recv(1 << 16):
                    if data != pattern(self.received[peer], len(data)):
                        self.wrong.append(f"{peer}: after {self.received[peer]} bytes")
                        return
                    self.received[peer] += len(data)
            except OSError as error:
                self.wrong.append(f"{peer}: {error}")

    async def goes_on(self, peer: tuple[str, int]) -> None:
        """Wait for more of a connection."""
        before = self.received[peer]

        async def more() -> bool | None:
            return self.received[peer] > before + 50_000 or None

        await until(more, f"more from {peer}; wrong: {self.wrong}", seconds=SECONDS)

    async def hears_from(self, address: str) -> tuple[str, int]:
        """Wait for a connection that seems to come from an address."""

        async def found() -> tuple[str, int] | None:
            return next((peer for peer in self.received if peer[0] == address), None)

        return await until(found, f"a connection from {address}: {self.received}", seconds=SECONDS)


@pytest.fixture(scope="module")
def config(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The lab with a gateway and an uplink at each cloud, and agents; the deployment file that describes it."""
    folder = tmp_path_factory.mktemp("g")
    with ExitStack() as stack:
        asyncio.run(VxlanOverlay(lab.network).remove())
        _leave_the_gateways_address()
        _lay_uplinks(lab)
        written = _description(lab)
        (lab.state / agents.CONFIGURATION).write_text(yaml.safe_dump(written))
        agents.start_knowledge(lab.state)
        sites = [*CLOUDS, "edge"]
        for site in sites:
            agents.start_agent(site, lab.state)
            stack.callback(_remove_namespace, namespace(VNI, site))
        agents.wait_for_agents(sites, lab.state)
        described = {key: written[key] for key in ("clouds", "gateways", "overlay", "knowledge")}
        yield deployment_of(lab, folder, **described)


@pytest.fixture(scope="module")
def outsides(config: Path) -> Iterator[tuple[Outside, ...]]:
    with ExitStack() as stack:
        yield tuple(stack.enter_context(closing(Outside(ip))) for ip in SEEN_AS)


def _leave_the_gateways_address() -> None:
    with netlink_in(EDGE) as edge:
        bridge = index(edge, BRIDGE)
        edge.addr("del", index=bridge, address=GATEWAY, prefixlen=24)
        edge.link("set", index=bridge, address=BESIDE_MAC)
        edge.addr("add", index=bridge, address=BESIDE, prefixlen=24)


def _lay_uplinks(lab: Lab) -> None:
    with netlink_in(OUTSIDE) as out:
        bridge = make_bridge(out, 1500, OUT_BRIDGE)
        out.addr("add", index=bridge, address=OUT_IP, prefixlen=24)
    _speak_ipv6(OUTSIDE, OUT_BRIDGE, OUT_IP6)
    for cloud in CLOUDS:
        netns, ip, ip6 = lab.cloud(cloud).spec.netns, *(seen[cloud] for seen in SEEN_AS.values())
        plug(netns, OUTSIDE, UPLINK, f"to-{cloud}", ip, bridge=OUT_BRIDGE)
        _speak_ipv6(netns, UPLINK, ip6)


def _speak_ipv6(netns: str, device: str, address: str) -> None:
    """Let a device of the lab have IPv6, which its namespaces otherwise do without."""
    with inside(netns):
        for name, value in (("disable_ipv6", "0"), ("accept_dad", "0")):
            sysctl.write(f"ipv6/conf/{device}/{name}", value)
    with netlink_in(netns) as netlink:
        netlink.addr("add", index=index(netlink, device), address=address, prefixlen=64)


def _description(lab: Lab) -> dict[str, Any]:
    written: dict[str, Any] = yaml.safe_load(lab.deployment.read_text())
    written["overlay"] = {"vni": VNI, "agents": True}
    addresses = {"ip": str(GATEWAY), "ip6": str(GATEWAY6), "mac": str(GATEWAY_MAC)}
    written["overlay"]["gateway"] = addresses
    for cloud in written["clouds"].values():
        cloud["overlay"]["uplink"] = UPLINK
    written["gateways"]["edge"]["addresses"] = [{"mac": BESIDE_MAC, "ip": BESIDE}]
    written["knowledge"] = {"url": f"unix://{lab.state / agents.SOCKET}"}
    return written


def _remove_namespace(name: str) -> None:
    with suppress(FileNotFoundError):
        namespaces.remove(name)


async def move(lab: Lab, config: Path, folder: Path, cloud: str) -> None:
    """Have a daemon move the guest."""
    with RunningDaemon(config, write_pin(folder, VM, cloud), folder / "log") as daemon:
        async with Store.connect(f"unix://{lab.state / agents.SOCKET}") as store:

            async def arrived() -> PlanStatus | None:
                found = await asyncio.to_thread(where, lab)
                return await settled(store) if found[VM] == [cloud] else None

            status = await until(arrived, f"the guest at {cloud}\n{daemon.log}")
        assert status is PlanStatus.DONE, daemon.log
        assert await asyncio.to_thread(daemon.stop) == 0, daemon.log


def assert_guest_is_well(lab: Lab, *, conversations: int) -> None:
    """Ask the guest's own counters: memory intact, and no connection was ever opened anew."""
    counters = lab.counters(VM)
    assert not [counter for counter in counters if counter.errors]
    assert sum(each.connections for each in counters if each.role == "send") == conversations


async def _opened_at(lab: Lab, outside: Outside, cloud: str) -> tuple[str, int]:
    """Have the guest open one more connection, and wait until it is heard from where the guest is."""
    await asyncio.to_thread(lab.execute, VM, ANOTHER.format(outside.ip, RECEIVE_PORT))
    opened = await outside.hears_from(SEEN_AS[outside.ip][cloud])
    await outside.goes_on(opened)
    return opened


async def test_a_connection_to_the_outside_survives_live_moves_and_new_ones_leave_where_the_guest_is(
    lab: Lab, config: Path, outsides: tuple[Outside, ...], tmp_path: Path
) -> None:
    first = {outside: await _opened_at(lab, outside, "a") for outside in outsides}
    for cloud in ("b", "c"):
        await move(lab, config, tmp_path, cloud)
        for outside in outsides:
            # It stays with the address under which it was opened.
            await outside.goes_on(first[outside])
            await _opened_at(lab, outside, cloud)
    for outside in outsides:
        expected = [SEEN_AS[outside.ip][cloud] for cloud in CLOUDS]
        assert [peer[0] for peer in outside.received] == expected
        assert not outside.wrong
    await asyncio.to_thread(assert_guest_is_well, lab, conversations=2 * len(CLOUDS))


async def test_a_guest_that_comes_home_goes_on_with_all_of_its_connections(
    lab: Lab, config: Path, outsides: tuple[Outside, ...], tmp_path: Path
) -> None:
    await move(lab, config, tmp_path, "a")
    for outside in outsides:
        for peer in list(outside.received):
            await outside.goes_on(peer)
        assert len(outside.received) == len(CLOUDS)
        assert not outside.wrong
    await asyncio.to_thread(assert_guest_is_well, lab, conversations=2 * len(CLOUDS))
