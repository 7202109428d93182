"""What a gateway publishes of its connections, on each server that we promise to work with."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from redis.asyncio import Redis

from tests.contract.conftest import NOON
from transhume.deployment.model import GatewaySettings, OverlayNetwork, OverlaySite
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
    """One VM has one connection open."""

    def __init__(self) -> None:
        self.looked = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def make(self) -> None:
        pass

    def faults(self) -> tuple[str, ...]:
        return ()

    def open_flows(self) -> Open:
        self._loop.call_soon_threadsafe(self.looked.set)
        return {IP: frozenset({FLOW})}

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


async def test_connections_of_vms_that_stay_are_published_at_no_time(client: Redis) -> None:
    """Not even before it's known where VMs are: all sites would take in all of them, and drop them again."""
    sites = tuple(
        OverlaySite(name=name, bridge="br0", underlay="w", vtep="192.0.2.1", uplink="up")
        for name in (A, B)
    )
    register, directory, kernel = SlowRegister(client, 66), AnchorDirectory(client, 66), Kernel()
    await register.put([Binding(vni=66, mac=MAC, site=A, sequence=1)])
    keeper = GatewayKeeper(
        network=OverlayNetwork(vni=66, sites=sites, gateway=SETTINGS),
        settings=SETTINGS,
        site=A,
        kernel=kernel,
        register=register,
        directory=directory,
        clock=lambda: NOON,
    )
    published = []

    async def watch() -> None:
        async for news in directory.watch(60.0):
            published.extend(news.records)

    tasks = [asyncio.create_task(watch()), asyncio.create_task(keeper.run())]
    async with asyncio.timeout(20):
        await kernel.looked.wait()
        await asyncio.sleep(1.5)
    for task in tasks:
        task.cancel()
    with suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
    assert published == []
