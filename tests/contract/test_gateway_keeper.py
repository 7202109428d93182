"""What a gateway publishes of its connections, on each server that we promise to work with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from redis.asyncio import Redis

from tests.contract.conftest import NOON
from transhume.deployment.model import GatewaySettings, OverlayNetwork, OverlaySite
from transhume.execute.overlay.gateway.anchoring import MOST_FLOWS
from transhume.execute.overlay.gateway.conntrack import Open
from transhume.execute.overlay.gateway.keeper import GatewayKeeper
from transhume.execute.overlay.gateway.site_gateway import Anchored
from transhume.knowledge.anchors import AnchorDirectory
from transhume.knowledge.model import Binding, Flow, IpAddress, MacAddress, SiteName
from transhume.knowledge.register import News, Register

A, B = SiteName("a"), SiteName("b")
MAC, IP = MacAddress("52:54:00:00:00:01"), IpAddress("10.66.0.5")
FLOW = Flow("tcp", 40000, IpAddress("203.0.113.9"), 443)
SETTINGS = GatewaySettings(ip="10.66.0.1", mac="52:54:00:7a:ff:01")


class Kernel:
    """One VM has these connections open."""

    def __init__(self, *flows: Flow) -> None:
        self.looked = asyncio.Event()
        self._flows = frozenset(flows)
        self._loop = asyncio.get_running_loop()

    def make(self) -> None:
        pass

    def faults(self) -> tuple[str, ...]:
        return ()

    def open_flows(self) -> Open:
        self._loop.call_soon_threadsafe(self.looked.set)
        return {IP: self._flows}

    def neighbours(self) -> dict[IpAddress, MacAddress]:
        return {IP: MAC}

    def held(self) -> Anchored:
        return {}

    def hold(self, anchored: Anchored) -> None:
        pass


class SlowRegister(Register):
    """One with very many addresses, which takes its time to be read."""

    async def follow(self) -> AsyncIterator[News]:
        await asyncio.sleep(1.0)
        async for news in super().follow():
            yield news


def keeper_of(kernel: Kernel, register: Register, directory: AnchorDirectory) -> GatewayKeeper:
    sites = tuple(
        OverlaySite(name=name, bridge="br0", underlay="w", vtep="192.0.2.1", uplink="up")
        for name in (A, B)
    )
    return GatewayKeeper(
        network=OverlayNetwork(vni=66, sites=sites, gateway=SETTINGS),
        settings=SETTINGS,
        site=A,
        kernel=kernel,
        register=register,
        directory=directory,
        clock=lambda: NOON,
    )


async def test_connections_of_vms_that_stay_are_published_at_no_time(client: Redis) -> None:
    """Not even before it's known where VMs are: all sites would take in all of them, and drop them again."""
    register, directory = SlowRegister(client, 66), AnchorDirectory(client, 66)
    kernel = Kernel(FLOW)
    await register.put([Binding(vni=66, mac=MAC, site=A, sequence=1)])
    keeper = keeper_of(kernel, register, directory)
    published = []

    async def watch() -> None:
        async for news in directory.watch(60.0):
            published.extend(news.records)

    tasks = [asyncio.create_task(watch()), asyncio.create_task(keeper.run())]
    async with asyncio.timeout(60):
        await kernel.looked.wait()
        await asyncio.sleep(1.5)
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
    assert published == []


async def test_a_guest_cannot_have_all_sites_take_in_connections_without_end(
    client: Redis,
) -> None:
    """It needs no answers for them, and no address of its own."""
    many = [Flow("udp", 1 + n % 60000, FLOW.peer, 1 + n // 60000) for n in range(3 * MOST_FLOWS)]
    directory = AnchorDirectory(client, 66)
    keeping = asyncio.create_task(keeper_of(Kernel(*many), Register(client, 66), directory).run())
    async with asyncio.timeout(60):
        while not (published := await directory.all()):
            await asyncio.sleep(0.05)
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping
    assert [len(each.flows) for each in published] == [MOST_FLOWS]
