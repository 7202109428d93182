"""Hypervisors through libvirt: peer-to-peer live migration, straight from host to host.

Owns the flags and parameters of a migration, the reading of its job statistics, and the guest's pause as
seen from outside: the time from the source's SUSPENDED event to the destination's RESUMED (QEMU's own
`downtime` says a tenth of it). Where the bytes flow is the transport's affair.
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from transhume.errors import MoveFailed
from transhume.execute.hypervisor.protocol import JobSample, OnSample, Seen, Whereabouts
from transhume.execute.migration.transport import Route, Transport
from transhume.knowledge.model import HostName, Measurement, VmName
from transhume.reach.libvirt import Connections

if TYPE_CHECKING:
    import libvirt

SAMPLE_SECONDS = 0.25
SETTLE_SECONDS = 0.2
MIB = 1 << 20


class LibvirtHosts:
    """The hosts of a federation, each with its libvirt daemon."""

    def __init__(self, connections: Connections, transport: Transport) -> None:
        self._connections = connections
        self._transport = transport

    async def whereabouts(self, vm: VmName, source: HostName, destination: HostName) -> Whereabouts:
        """Say where a VM is, asking both hosts."""
        at_source, migrating = await self._connections.call(source, lambda c: _seen(c, vm))
        at_destination, _ = await self._connections.call(destination, lambda c: _seen(c, vm))
        return Whereabouts(source=at_source, destination=at_destination, migrating=migrating)

    async def obstacle(self, vm: VmName, source: HostName, destination: HostName) -> str | None:
        """Say why the VM can't move now: not running at the source, or already at the destination."""
        seen = await self.whereabouts(vm, source, destination)
        if seen.migrating:
            return f"{vm} is being migrated by somebody else"
        if seen.source is not Seen.RUNNING:
            return f"{vm} is {seen.source} at {source}"
        if seen.destination is not Seen.ABSENT:
            return f"{vm} is {seen.destination} at {destination} already"
        return None

    async def migrate(
        self, vm: VmName, source: HostName, destination: HostName, on_sample: OnSample
    ) -> Measurement:
        """Live-migrate a VM and return what it took; see the protocol for errors and cancellation."""
        peer = self._connections.hypervisor(destination).peer_uri
        pause = _Pause(vm)
        async with (
            pause.watched(self._connections, source, destination),
            self._transport.route(vm, source, destination) as route,
        ):
            began = time.monotonic()
            moving = asyncio.ensure_future(
                self._connections.call(source, lambda c: _migrate(c, vm, peer, route))
            )
            try:
                sent = await self._watch(moving, vm, source, on_sample)
            except asyncio.CancelledError:
                await self._connections.call(source, lambda c: c.lookupByName(vm).abortJob())
                await asyncio.gather(moving, return_exceptions=True)
                raise
            seconds = time.monotonic() - began
        failure = moving.exception()
        if failure is not None:
            raise MoveFailed(vm, source, destination, str(failure))
        completed = await self._connections.call(destination, lambda c: _completed_bytes(c, vm))
        return Measurement(
            bytes=max(completed, sent), seconds=seconds, downtime_seconds=await pause.seconds()
        )

    async def settle(self, vm: VmName, source: HostName) -> None:
        """Wait until no migration of the VM is under way at `source`."""
        while (await self._connections.call(source, lambda c: _seen(c, vm)))[1]:
            await asyncio.sleep(SETTLE_SECONDS)

    async def resume(self, vm: VmName, host: HostName) -> None:
        """Let a paused VM run on."""
        await self._connections.call(host, lambda c: c.lookupByName(vm).resume())

    async def discard(self, vm: VmName, host: HostName) -> None:
        """End a paused copy of a VM; one that runs is left alone."""
        await self._connections.call(host, lambda c: _discard(c, vm))

    async def _watch(
        self,
        moving: "asyncio.Future[None]",
        vm: VmName,
        source: HostName,
        on_sample: OnSample,
    ) -> int:
        """Report the job until the migration's call returns; return the most bytes it told of."""
        sent = 0
        while not moving.done():
            await asyncio.wait({moving}, timeout=SAMPLE_SECONDS)
            sample = await self._connections.call(source, lambda c: _sample(c, vm))
            if sample is not None:
                sent = max(sent, sample.bytes_sent)
                on_sample(sample)
        return sent


class _Pause:
    """The guest's pause, from libvirt's events at both hosts (both reach this process's one clock)."""

    def __init__(self, vm: VmName) -> None:
        self._vm = vm
        self._loop = asyncio.get_running_loop()
        self._stopped: float | None = None
        self._resumed: asyncio.Future[float] = self._loop.create_future()

    def watched(
        self, connections: Connections, source: HostName, destination: HostName
    ) -> "_Watch":
        """Listen to both hosts for as long as the context lasts."""
        return _Watch(connections, {source: self._suspended, destination: self._running_there})

    async def seconds(self) -> float | None:
        """Return how long the guest stood still, or None where an event did not come."""
        if self._stopped is None:
            return None
        try:
            resumed = await asyncio.wait_for(asyncio.shield(self._resumed), 1.0)
        except TimeoutError:
            return None
        return max(0.0, resumed - self._stopped)

    def _suspended(self, domain: str, event: int) -> None:
        import libvirt

        if domain == self._vm and event == libvirt.VIR_DOMAIN_EVENT_SUSPENDED:
            self._stopped = time.monotonic()

    def _running_there(self, domain: str, event: int) -> None:
        import libvirt

        if domain == self._vm and event == libvirt.VIR_DOMAIN_EVENT_RESUMED:
            self._loop.call_soon_threadsafe(self._note_resumed, time.monotonic())

    def _note_resumed(self, at: float) -> None:
        if not self._resumed.done():
            self._resumed.set_result(at)


class _Watch:
    """A subscription to lifecycle events at several hosts. Entered before a move, left after it."""

    def __init__(
        self, connections: Connections, listeners: dict[HostName, Callable[[str, int], None]]
    ) -> None:
        self._connections = connections
        self._listeners = listeners
        self._ids: dict[HostName, int] = {}

    async def __aenter__(self) -> None:
        import libvirt

        for host, listener in self._listeners.items():

            def heard(
                _connection: object,
                domain: "libvirt.virDomain",
                event: int,
                _detail: int,
                opaque: Callable[[str, int], None],
            ) -> None:
                opaque(domain.name(), event)

            self._ids[host] = await self._connections.call(
                host,
                lambda c, heard=heard, listener=listener: c.domainEventRegisterAny(  # type: ignore[misc]
                    None, libvirt.VIR_DOMAIN_EVENT_ID_LIFECYCLE, heard, listener
                ),
            )

    async def __aexit__(self, *_error: object) -> None:
        # The destination's RESUMED may still be on its way; the VM is settled by now either way.
        await asyncio.sleep(0.05)
        for host, number in self._ids.items():
            await self._connections.call(
                host,
                lambda c, number=number: c.domainEventDeregisterAny(number),  # type: ignore[misc]
            )


def _seen(connection: "libvirt.virConnect", vm: VmName) -> tuple[Seen, bool]:
    """Say what a host knows of a VM, and whether a job of its own works on it."""
    import libvirt

    try:
        domain = connection.lookupByName(vm)
        state, _reason = domain.state()
        if state == libvirt.VIR_DOMAIN_SHUTDOWN:
            # The hand-over: the source's copy lingers for a second or two after the VM has gone.
            return Seen.ABSENT, True
        if not domain.isActive():
            return Seen.ABSENT, False
        job = domain.jobInfo()[0]
    except libvirt.libvirtError as error:
        if error.get_error_code() in (
            libvirt.VIR_ERR_NO_DOMAIN,
            libvirt.VIR_ERR_OPERATION_INVALID,  # it went between two questions
        ):
            return Seen.ABSENT, False
        raise
    busy = job in (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)
    if state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED):
        return Seen.RUNNING, busy
    if state == libvirt.VIR_DOMAIN_PAUSED:
        return Seen.PAUSED, busy
    return Seen.ABSENT, busy


def _migrate(connection: "libvirt.virConnect", vm: VmName, peer: str, route: Route) -> None:
    import libvirt

    domain = connection.lookupByName(vm)
    flags = (
        libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PEER2PEER
        | libvirt.VIR_MIGRATE_AUTO_CONVERGE
        | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    )
    if domain.isPersistent():
        flags |= libvirt.VIR_MIGRATE_PERSIST_DEST | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
    parameters: dict[str, str | int] = {}
    if route.migrate_uri is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_URI] = route.migrate_uri
    if route.bytes_per_second is not None:
        parameters[libvirt.VIR_MIGRATE_PARAM_BANDWIDTH] = max(1, int(route.bytes_per_second / MIB))
    domain.migrateToURI3(peer, parameters, flags)


def _sample(connection: "libvirt.virConnect", vm: VmName) -> JobSample | None:
    import libvirt

    try:
        stats = connection.lookupByName(vm).jobStats()
    except libvirt.libvirtError:
        # The VM has just gone, or its job has: the migration's own call says how it ended.
        return None
    if stats.get("type") == libvirt.VIR_DOMAIN_JOB_NONE:
        return None
    page_bytes = int(stats.get("memory_page_size", 4096))
    return JobSample(
        bytes_sent=int(stats.get("data_processed", 0)),
        bytes_remaining=int(stats.get("data_remaining", 0)),
        bytes_per_second=float(stats.get("memory_bps", 0)),
        dirty_bytes_per_second=float(stats.get("memory_dirty_rate", 0)) * page_bytes,
    )


def _completed_bytes(connection: "libvirt.virConnect", vm: VmName) -> int:
    import libvirt

    try:
        stats = connection.lookupByName(vm).jobStats(libvirt.VIR_DOMAIN_JOB_STATS_COMPLETED)
    except libvirt.libvirtError:
        return 0
    return int(stats.get("data_processed", 0))


def _discard(connection: "libvirt.virConnect", vm: VmName) -> None:
    seen, _ = _seen(connection, vm)
    if seen is Seen.PAUSED:
        connection.lookupByName(vm).destroy()
