"""What a site's hypervisors say of its VMs: which run, stop and are awaited, and behind which ports they are.

libvirt's events come at once; everything is asked anew every few seconds, because an event can be missed. What
an event has said meanwhile counts more than an answer that was on its way.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import structlog

from transhume.errors import HypervisorUnreachable
from transhume.execute.hypervisor.lifecycles import Lifecycles
from transhume.execute.overlay.agent.events import Awaited, Event, Runs, Stopped
from transhume.knowledge.model import HostName, Interface, MacAddress, VmName
from transhume.reach.domains import interfaces_in
from transhume.reach.libvirt import Connections

if TYPE_CHECKING:
    import libvirt

POLL_SECONDS = 3.0

log = structlog.get_logger()


class SiteHypervisors:
    """The hypervisors of one site, for one bridge of it.

    Args:
        connections: to them.
        hosts: of this site.
        bridge: the interfaces on it count.
    """

    def __init__(
        self,
        connections: Connections,
        hosts: Sequence[HostName],
        bridge: str,
    ) -> None:
        self._connections = connections
        self._lifecycles = Lifecycles(connections)
        self._hosts = hosts
        self._bridge = bridge
        self._tell: Callable[[Event], None] = _nobody
        self._interfaces: dict[VmName, tuple[Interface, ...]] = {}
        self._changed: dict[VmName, float] = {}
        self._silent: set[HostName] = set()

    async def run(self, tell: Callable[[Event], None]) -> None:
        """Listen and ask for ever; each event is told in this thread."""
        self._tell = tell
        loop = asyncio.get_running_loop()

        def heard(host: HostName, name: str, event: int) -> None:
            loop.call_soon_threadsafe(self._heard, host, VmName(name), event)

        async with AsyncExitStack() as stack:
            for host in self._hosts:
                await stack.enter_async_context(self._lifecycles.told(host, partial(heard, host)))
            while True:
                await asyncio.gather(*map(self._ask, self._hosts))
                await asyncio.sleep(POLL_SECONDS)

    async def look(self, mac: MacAddress) -> Interface | None:
        """Say whether a VM with this address runs here."""
        found = await asyncio.gather(*map(self._running, self._hosts))
        interfaces = (each for running in found for each in running)
        return next((each for each in interfaces if each.mac == mac), None)

    async def _ask(self, host: HostName) -> None:
        asked = time.monotonic()
        try:
            await self._lifecycles.listen(host)
            found = await self._connections.call(host, partial(_domains, self._bridge))
        except (HypervisorUnreachable, _libvirt_error()) as error:
            if host not in self._silent:
                log.warning("hypervisor_silent", host=host, why=str(error))
            self._silent.add(host)
            return
        self._silent.discard(host)
        for vm, runs, interfaces in found:
            if self._changed.get(vm, 0.0) < asked:
                self._interfaces[vm] = interfaces
                self._tell(
                    Runs(vm=vm, interfaces=interfaces)
                    if runs
                    else Awaited(vm=vm, interfaces=interfaces)
                )

    async def _running(self, host: HostName) -> tuple[Interface, ...]:
        try:
            found = await self._connections.call(host, partial(_domains, self._bridge))
        except (HypervisorUnreachable, _libvirt_error()):
            return ()
        return tuple(each for _, runs, interfaces in found if runs for each in interfaces)

    def _heard(self, host: HostName, vm: VmName, event: int) -> None:
        import libvirt

        self._changed[vm] = time.monotonic()
        match event:
            case libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
                self._tell(Stopped(vm=vm, interfaces=self._interfaces.get(vm, ())))
            case libvirt.VIR_DOMAIN_EVENT_RESUMED if vm in self._interfaces:
                self._tell(Runs(vm=vm, interfaces=self._interfaces[vm]))
            case libvirt.VIR_DOMAIN_EVENT_STARTED | libvirt.VIR_DOMAIN_EVENT_RESUMED:
                asking = asyncio.ensure_future(self._ask(host))
                asking.add_done_callback(lambda done: done.cancelled() or done.exception())
            case libvirt.VIR_DOMAIN_EVENT_STOPPED:
                self._interfaces.pop(vm, None)


def _nobody(_event: Event) -> None:
    """Hear nothing yet."""


def _libvirt_error() -> type[Exception]:
    import libvirt

    error: type[Exception] = libvirt.libvirtError
    return error


def _domains(
    bridge: str, connection: "libvirt.virConnect"
) -> list[tuple[VmName, bool, tuple[Interface, ...]]]:
    import libvirt

    found = []
    for domain in connection.listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
        with suppress(libvirt.libvirtError):  # it went between two questions
            state = domain.state()[0]
            interfaces = tuple(interfaces_of(domain.XMLDesc(), bridge))
            running = state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED)
            if running or state == libvirt.VIR_DOMAIN_PAUSED:
                found.append((VmName(domain.name()), running, interfaces))
    return found


def interfaces_of(xml: str, bridge: str) -> Iterator[Interface]:
    """Read a domain's interfaces on a bridge from what libvirt says of it."""
    found = list(interfaces_in(ElementTree.fromstring(xml)))
    for interface, its_bridge in found:
        if its_bridge == bridge:
            # To answer for the wrong one of several would make a black hole.
            yield interface if len(found) == 1 else replace(interface, ips=())
