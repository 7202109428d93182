"""Our own methods: by the lab's gateways, which know nothing at first, or an image, or guests' memory.

What earlier moves have taught the gateways would flatter the next one: `reset` starts them anew, before each
move, or before the way out where it's the way back that is measured.
"""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from benchmarks.migration.methods import ByLibvirt, Gang, Method, Opening
from transhume.daemon.composition import transport_of
from transhume.deployment.loader import load_deployment
from transhume.deployment.model import DEFAULT_TENANT
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.migration.gateways import Gateways
from transhume.knowledge.model import CloudName, HostName
from transhume.lab.cloud import Cloud
from transhume.lab.gateways import CONFIGURATION, CONTROL, start_gateway, wait_for_gateway
from transhume.lab.lab import Lab
from transhume.reach.libvirt import Connections

_PATIENCE_SECONDS = 600.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What gateways are told that their sites have."""

    image: bool = False
    """The guests'."""
    residents: bool = False
    """The memory of the guests that are there."""


@dataclass(slots=True, kw_only=True)
class ByGateways(ByLibvirt):
    """Moves through gateways that begin with nothing, or with the guests' image."""

    lab: Lab
    transport: Gateways
    knows: Known
    warms: bool
    running: dict[CloudName, int] = field(default_factory=dict)

    @property
    def gateways(self) -> tuple[int, ...]:
        """The gateways' processes."""
        return tuple(self.running.values())

    async def reset(self) -> None:
        """Start the gateways anew: what they knew is gone."""
        for cloud in self._clouds():
            # Another method's by now, perhaps.
            await asyncio.to_thread(_end, _pid_of(cloud), cloud)
            _tell(cloud, self.knows)
            self.running[cloud.spec.name] = start_gateway(cloud)
        for cloud in self._clouds():
            await asyncio.to_thread(wait_for_gateway, cloud)

    async def prepare(self, gang: Gang) -> None:
        """Have guests looked at, or send the memory of those that move ahead, where that is the method."""
        if self.knows.residents:
            await self._until(_has_looked, gang.destination)
        if not self.warms:
            return
        ends = self.transport.cloud_of(gang.source), self.transport.cloud_of(gang.destination)
        for vm in gang.vms:
            await self.transport.warm(vm, *ends, passes=1)
        await self._until(_has_warmed, gang.source)

    async def _until(self, done: Callable[[dict[str, Any]], bool], host: HostName) -> None:
        """Wait for what a host's gateway says of itself."""
        client = self.transport.clients[self.transport.cloud_of(host)]
        async with asyncio.timeout(_PATIENCE_SECONDS):
            while not done(await client.ask("status")):
                await asyncio.sleep(0.2)

    def _clouds(self) -> list[Cloud]:
        return [Cloud(spec, self.lab.state) for spec in self.lab.spec.clouds]


def by_gateways(knows: Known, *, warms: bool = False) -> Opening:
    """Return a method of ours."""

    @asynccontextmanager
    async def opened(lab: Lab) -> AsyncIterator[Method]:
        deployment = load_deployment(lab.deployment)
        connections = Connections(deployment.hypervisors)
        transport = transport_of(deployment)
        assert isinstance(transport, Gateways)
        try:
            yield ByGateways(
                hosts=LibvirtHosts(connections, transport),
                lab=lab,
                transport=transport,
                knows=knows,
                warms=warms,
            )
        finally:
            connections.close()

    return opened


def _has_looked(status: dict[str, Any]) -> bool:
    return any(each["looks"] for each in status["residents"])


def _has_warmed(status: dict[str, Any]) -> bool:
    return all(each["ended"] for each in status["warming"])


def _pid_of(cloud: Cloud) -> int:
    """Find the gateway that runs in a cloud."""
    wanted = os.fsencode(cloud.home / CONFIGURATION)
    for process in Path("/proc").iterdir():
        if process.name.isdigit():
            with suppress(OSError):
                words = (process / "cmdline").read_bytes().split(b"\0")
                if wanted in words and b"gateway" in words:
                    return int(process.name)
    raise LookupError(f"no gateway of cloud {cloud.spec.name} runs")


def _end(pid: int, cloud: Cloud) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    while (cloud.home / CONTROL).exists():
        time.sleep(0.05)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def _tell(cloud: Cloud, known: Known) -> None:
    """Let a gateway's configuration name what is at its site."""
    path, kept = cloud.home / CONFIGURATION, cloud.home / "images.yaml"
    written: Mapping[str, Any] = yaml.safe_load(path.read_text())
    if not kept.exists():
        kept.write_text(yaml.safe_dump(written["images"]))
    images = yaml.safe_load(kept.read_text()) if known.image else []
    residents = [{"vms": ["*"], "tenant": DEFAULT_TENANT}] if known.residents else []
    path.write_text(yaml.safe_dump({**written, "images": images, "residents": residents}))


OURS: dict[str, Opening] = {
    "ours-cold": by_gateways(Known()),
    "ours-residents": by_gateways(Known(residents=True)),
    "ours-image": by_gateways(Known(image=True)),
    "ours-warm": by_gateways(Known(image=True), warms=True),
}
