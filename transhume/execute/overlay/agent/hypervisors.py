"""What a site's hypervisors say of its VMs: which run, stop and are awaited, and behind which ports they are.

libvirt's events come at once; everything is asked anew every few seconds, because an event can be missed. What
an event has said meanwhile counts more than an answer that was on its way. They are asked once for all of the
site's networks; each network hears of the interfaces on its bridge.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import structlog

from transhume.errors import HypervisorUnreachable
from transhume.execute.hypervisor.lifecycles import Lifecycles
from transhume.execute.overlay.agent.domains import Answer, Domains, Port, Seen, on_bridge
from transhume.execute.overlay.agent.events import Awaited, Event, Present, Runs, Stopped
from transhume.knowledge.model import HostName, Interface, MacAddress, VmName
from transhume.reach.libvirt import Connections

POLL_SECONDS = 3.0
ANSWER_SECONDS = 30.0
"""How long a host may take to answer: a libvirtd that is stuck gives signs of life all the same."""

Tell = Callable[[Event], None]
Question = Callable[[HostName], Coroutine[Any, Any, Any]]

log = structlog.get_logger()


class SiteHypervisors:
    """The hypervisors of one site.

    Args:
        connections: to them.
        hosts: of this site, those that can be reached.
        complete: whether these are all that it has: only then nobody else can have a VM.
        bridges: a socket where the site's bridges are, which tells whose the devices there are.
    """

    def __init__(
        self,
        connections: Connections,
        hosts: Sequence[HostName],
        *,
        complete: bool = True,
        bridges: socket.socket | None = None,
    ) -> None:
        self._connections = connections
        self._lifecycles = Lifecycles(connections)
        self._domains = {host: Domains(bridges) for host in hosts}
        self._complete = complete and bool(hosts)
        self._told: dict[str, Tell] = {}
        self._wanted = asyncio.Event()
        self._ports: dict[tuple[HostName, VmName], tuple[Port, ...]] = {}
        """A VM that moves between two hosts of the site has ports at both."""
        self._changed: dict[VmName, float] = {}
        self._silent: set[HostName] = set()
        self._turns = {host: asyncio.Lock() for host in hosts}
        self._next: dict[tuple[HostName, Question], asyncio.Task[Any]] = {}
        """What hosts are to be asked as soon as they are asked nothing else."""

    async def run(self) -> None:
        """Listen and ask for ever, while anybody wants to be told."""
        loop = asyncio.get_running_loop()

        def heard(host: HostName, name: str, event: int, detail: int) -> None:
            loop.call_soon_threadsafe(self._heard, host, VmName(name), event, detail)

        async with AsyncExitStack() as stack:
            for host in self._domains:
                await stack.enter_async_context(self._lifecycles.told(host, partial(heard, host)))
            while True:
                await self._ask_all()
                with suppress(TimeoutError):
                    async with asyncio.timeout(POLL_SECONDS):
                        await self._wanted.wait()
                self._wanted.clear()

    async def tell(self, bridge: str, tell: Tell) -> None:
        """Tell of the VMs on a bridge until cancelled; each event in this thread."""
        self._told[bridge] = tell
        self._wanted.set()
        try:
            await asyncio.Event().wait()
        finally:
            del self._told[bridge]

    async def look(self, bridge: str, mac: MacAddress) -> Interface | None:
        """Say whether a VM with this address on this bridge runs here."""
        found = await asyncio.gather(
            *(self._shared(host, self._running_now) for host in self._domains)
        )
        interfaces = (each for ports in found for each in on_bridge(bridge, ports or ()))
        return next((each for each in interfaces if each.mac == mac), None)

    async def _ask_all(self) -> None:
        if not self._told:
            return
        answers = await asyncio.gather(*map(self._ask, self._domains))
        sure = self._complete and all(answer and answer.complete for answer in answers)
        ports = [
            port for answer in answers if answer for seen in answer.seen for port in seen.ports
        ]
        for bridge, tell in tuple(self._told.items()):
            macs = frozenset(each.mac for each in on_bridge(bridge, ports))
            tell(Present(macs=macs if sure else None))

    async def _ask(self, host: HostName) -> Answer | None:
        answer: Answer | None = await self._shared(host, self._ask_now)
        return answer

    async def _ask_now(self, host: HostName) -> Answer | None:
        asked = time.monotonic()
        try:
            await self._lifecycles.listen(host)
            answer = await self._connections.call(host, self._domains[host].read)
        except (HypervisorUnreachable, _libvirt_error()) as error:
            self._note_silence(host, str(error))
            return None
        self._silent.discard(host)
        for seen in answer.seen:
            if self._changed.get(seen.vm, 0.0) < asked:
                self._take(host, seen)
        return answer

    def _take(self, host: HostName, seen: Seen) -> None:
        self._ports[host, seen.vm] = seen.ports
        if seen.runs:
            self._say(Runs, host, seen.vm)
        elif seen.waits:
            self._say(Awaited, host, seen.vm)

    async def _running_now(self, host: HostName) -> tuple[Port, ...]:
        try:
            read = partial(self._domains[host].read, afresh=True)
            answer = await self._connections.call(host, read)
        except (HypervisorUnreachable, _libvirt_error()):
            return ()
        return tuple(port for seen in answer.seen if seen.runs for port in seen.ports)

    async def _shared(self, host: HostName, question: Question) -> Any:
        """Ask a hypervisor, None where it's too slow; who asks the same meanwhile shares the next answer.

        A guest can make us ask for as many addresses, and as often, as it likes.
        """
        asking = self._next.get((host, question))
        if asking is None:
            asking = asyncio.create_task(self._ask_next(host, question))
            self._next[host, question] = asking
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await asyncio.shield(asking)
        except TimeoutError:
            self._note_silence(host, f"no answer within {ANSWER_SECONDS:.0f} s")
            return None

    async def _ask_next(self, host: HostName, question: Question) -> Any:
        async with self._turns[host]:
            del self._next[host, question]
            return await question(host)

    def _note_silence(self, host: HostName, why: str) -> None:
        if host not in self._silent:
            log.warning("hypervisor_silent", host=host, why=why)
        self._silent.add(host)

    def _say(self, kind: Callable[..., Event], host: HostName, vm: VmName) -> None:
        ports = self._ports.get((host, vm), ())
        for bridge, tell in tuple(self._told.items()):
            if interfaces := on_bridge(bridge, ports):
                tell(kind(vm=vm, interfaces=interfaces))

    def _heard(self, host: HostName, vm: VmName, event: int, detail: int) -> None:
        import libvirt

        self._changed[vm] = time.monotonic()
        match event:
            case libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
                self._say(partial(Stopped, migrates=detail in _migrated()), host, vm)
            case libvirt.VIR_DOMAIN_EVENT_RESUMED if (host, vm) in self._ports:
                self._say(Runs, host, vm)
            case libvirt.VIR_DOMAIN_EVENT_STARTED | libvirt.VIR_DOMAIN_EVENT_RESUMED:
                asking = asyncio.ensure_future(self._ask(host))
                asking.add_done_callback(lambda done: done.cancelled() or done.exception())
            case libvirt.VIR_DOMAIN_EVENT_STOPPED:
                self._ports.pop((host, vm), None)


def _migrated() -> tuple[int, ...]:
    """Return the details of a stop that is a migration's."""
    import libvirt

    return libvirt.VIR_DOMAIN_EVENT_SUSPENDED_MIGRATED, libvirt.VIR_DOMAIN_EVENT_SUSPENDED_POSTCOPY


def _libvirt_error() -> type[Exception]:
    import libvirt

    error: type[Exception] = libvirt.libvirtError
    return error
