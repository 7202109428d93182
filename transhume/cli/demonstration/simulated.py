"""A stage without machines: recorded packets, simulated clouds, and the real daemon between them.

The capture was recorded at the taps of six guests in a lab (`tools/record-demo`); it is replayed as if it had
been seen just now. Prices, plans, the executor and the knowledge are the real ones.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from importlib.resources import as_file, files
from pathlib import Path

import yaml
from rich.console import Console

from transhume.cli.demonstration.scene import at_work
from transhume.daemon.composition import Reconciler, now, pen, worlds
from transhume.daemon.senses import Sense
from transhume.daemon.service import Daemon, Parts
from transhume.knowledge.model import (
    Cloud,
    CloudName,
    ClusterName,
    Host,
    HostName,
    Interface,
    IpAddress,
    Link,
    MacAddress,
    PriceTick,
    Resources,
    TrafficWindow,
    VirtualCluster,
    Vm,
    VmName,
)
from transhume.knowledge.server import open_server
from transhume.knowledge.store import Store
from transhume.lab.simulated import SimulatedClouds, SimulatedHost, SimulatedOverlay
from transhume.loop import Loop
from transhume.monitor.capture.files import read_windows
from transhume.plan import PlannerSettings
from transhume.policies.book import PolicyBook

HERE = files("transhume.cli.demonstration")
WINDOW_SECONDS = 1.0
MIB = 1 << 20

CLOUDS = (CloudName("campus"), CloudName("partner"), CloudName("rented"))
VCPU_DOLLARS = dict(zip(CLOUDS, (0.04, 0.05, 0.06), strict=True))
RISE = 0.20
LINK_BYTES_PER_SECOND = 12.5e6
ROOM = Resources(vcpus=8, memory_bytes=8 * 128 * MIB)
SPEEDUP = 6.0


@asynccontextmanager
async def stage(folder: Path, _console: Console) -> AsyncIterator[Store]:
    """Have a daemon run on simulated clouds for as long as the context lasts; yield its knowledge."""
    clouds = build_clouds()
    with as_file(HERE / "policy.yaml") as policy, as_file(HERE / "recording.pcap.gz") as recording:
        book = PolicyBook([policy])
        windows, _summary = await asyncio.to_thread(read_windows, recording, WINDOW_SECONDS)
    async with (
        open_server(None, folder) as server,
        Store.connect(server.url, clock=now) as store,
        pen(store, "demo") as (lease, token),
    ):
        await put_federation(store, clouds)
        for window in recent(windows, now()):
            await store.add_window(window)
        overlay = SimulatedOverlay()
        daemon = Daemon(
            Parts(
                store=store,
                lease=lease,
                token=token,
                loop=Loop(PlannerSettings()),
                book=book,
                senses=[inventory(clouds)],
                world=worlds(clouds, lambda _vm: overlay),
                reconcile=Reconciler(lambda _vm: overlay),
                clock=now,
            )
        )
        async with at_work(daemon):
            yield store


def rise() -> PriceTick:
    """Return the price that the story turns on."""
    return _tick(CLOUDS[0], RISE)


def build_clouds() -> SimulatedClouds:
    """Read the recorded VMs, and put them all into the first cloud."""
    described = yaml.safe_load((HERE / "vms.yaml").read_text())
    vms = {
        VmName(name): Vm(
            name=VmName(name),
            uuid=name,
            needs=Resources(vcpus=1, memory_bytes=112 * MIB),
            interfaces=(Interface(mac=MacAddress(told["mac"]), ips=(IpAddress(told["ips"][0]),)),),
            cluster=ClusterName(told["cluster"]),
            dirty_bytes_per_second=0.4e6,
        )
        for name, told in described.items()
    }
    hosts = [Host(name=HostName(f"{cloud}1"), cloud=cloud) for cloud in CLOUDS]
    return SimulatedClouds(
        hosts={host.name: SimulatedHost(host=host, capacity=ROOM) for host in hosts},
        vms=vms,
        link_bytes_per_second=LINK_BYTES_PER_SECOND,
        speedup=SPEEDUP,
        running_at=dict.fromkeys(vms, hosts[0].name),
    )


async def put_federation(store: Store, clouds: SimulatedClouds) -> None:
    """Tell the knowledge of the clouds, the links between them and the prices to begin with."""
    links = [
        Link(clouds=frozenset((one, other)), bytes_per_second=LINK_BYTES_PER_SECOND)
        for number, one in enumerate(CLOUDS)
        for other in CLOUDS[number + 1 :]
    ]
    hosts = [simulated.host for simulated in clouds.hosts.values()]
    await store.put_federation([Cloud(name=cloud) for cloud in CLOUDS], hosts, links)
    for cloud, dollars in VCPU_DOLLARS.items():
        await store.put_price(_tick(cloud, dollars))


def _tick(cloud: CloudName, vcpu_dollars: float) -> PriceTick:
    return PriceTick(
        cloud=cloud,
        at=now(),
        dollars_per_vcpu_hour=vcpu_dollars,
        dollars_per_gib_hour=0.005,
        egress_dollars_per_gb=0.09,
    )


def recent(windows: tuple[TrafficWindow, ...], end: datetime) -> list[TrafficWindow]:
    """Shift windows by whole seconds, so that the last one ends now."""
    last = max(window.start for window in windows) + timedelta(seconds=WINDOW_SECONDS)
    shift = timedelta(seconds=int((end - last).total_seconds()))
    return [replace(window, start=window.start + shift) for window in windows]


def inventory(clouds: SimulatedClouds) -> Sense:
    """Read the simulated clouds now and then, as hypervisors are read."""
    clusters = [
        VirtualCluster(
            name=name, vms=tuple(vm.name for vm in clouds.vms.values() if vm.cluster == name)
        )
        for name in {vm.cluster for vm in clouds.vms.values() if vm.cluster is not None}
    ]
    began = now()

    async def perceive(store: Store) -> AsyncIterator[None]:
        while True:
            await store.put_inventory(
                clouds.vms.values(), clusters, clouds.placement(), clouds.capacity(began)
            )
            yield
            await asyncio.sleep(0.5)

    return Sense(name="inventory", perceive=perceive)
