"""Hypervisors through libvirt: peer-to-peer live migration, straight from host to host.

Owns a migration's course. Where the bytes flow is the transport's affair; which disks go along is that of
`disk_copying`.
"""

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from transhume.deployment.model import CommonFiles
from transhume.errors import HypervisorUnreachable, MoveFailed
from transhume.execute.hypervisor import dirty_rate, job
from transhume.execute.hypervisor.disk_copying import DiskCopying
from transhume.execute.hypervisor.disks import Copies
from transhume.execute.hypervisor.lifecycles import Lifecycles
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.parameters import parameters_of
from transhume.execute.hypervisor.pause import Pause
from transhume.execute.hypervisor.protocol import JobSample, OnSample, Seen, Whereabouts
from transhume.execute.hypervisor.steering import Due, Steering
from transhume.execute.hypervisor.switchover import UNKNOWN_MS, Switchover, link_rate
from transhume.execute.hypervisor.turns_to_stop import TurnsToStop
from transhume.execute.migration.transport import Progress, Route, Transport
from transhume.knowledge.model import HostName, Measurement, VmName
from transhume.reach.libvirt import Connections

if TYPE_CHECKING:
    import libvirt

T = TypeVar("T")

SAMPLE_SECONDS = 0.25
NEAR_SAMPLE_SECONDS = 0.1
"""Where a guest will soon be free to be stopped, that is to be found at once."""
SETTLE_SECONDS = 0.2


class LibvirtHosts:
    """The hosts of a federation, each with its libvirt daemon."""

    def __init__(self, connections: Connections, transport: Transport) -> None:
        self._connections = connections
        self._transport = transport
        self._lifecycles = Lifecycles(connections)
        self._disks = DiskCopying(connections)
        self._turns_to_stop = TurnsToStop()

    async def whereabouts(self, vm: VmName, source: HostName, destination: HostName) -> Whereabouts:
        """Say where a VM is, asking both hosts."""
        at_source, leaving = await self._connections.call(source, lambda c: _seen(c, vm))
        at_destination, coming = await self._connections.call(destination, lambda c: _seen(c, vm))
        return Whereabouts(
            source=at_source, destination=at_destination, migrating=leaving or coming
        )

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
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        on_sample: OnSample,
        options: MigrationOptions | None = None,
    ) -> Measurement:
        """Live-migrate a VM and return what it took; see the protocol for errors and cancellation."""
        import libvirt

        options = options or MigrationOptions()
        pause, began = Pause(vm), time.monotonic()
        way = (vm, source, destination)
        try:
            # A way that nobody takes doesn't stay open, and looking at storage may take long.
            async with (
                pause.watched(self._lifecycles, source, destination),
                self._disks.prepared(vm, source, destination, options) as copies,
                self._transport.route(vm, source, destination, options.share) as route,
                _told(route, pause),
            ):
                told = await self._move(way, route, options, copies, on_sample, pause=pause)
                seconds = time.monotonic() - began
                downtime = await pause.seconds()
                progress = await route.progress(None)
        except libvirt.libvirtError as error:
            raise MoveFailed(vm, source, destination, str(error)) from error
        there = await self._connections.call(destination, lambda c: job.completed(c, vm))
        told = told.at_least(there)
        return Measurement(
            bytes=progress.transfer.wire_bytes if progress else told.sent_bytes,
            seconds=seconds,
            downtime_seconds=downtime,
            transfer=progress.transfer if progress else None,
            rounds=told.rounds or None,
            disk_bytes=_disk_bytes(copies, progress, told),
            disks=progress.disks if progress else None,
        )

    async def dirty_rate(self, vm: VmName, host: HostName, seconds: int) -> float:
        """Sample for some seconds how fast a running VM writes to its memory; return bytes per second.

        Raises:
            DirtyRateUnknown: the hypervisor can't measure it.
        """
        return await self._connections.call(
            host, lambda c: dirty_rate.measure(c, vm, host, seconds)
        )

    async def disk_use(self, vm: VmName, host: HostName, common: CommonFiles) -> int:
        """Say how many bytes those of a VM's disks hold that may have to be copied when it moves.

        Raises:
            DiskUseUnknown: the hypervisor can't tell.
        """
        return await self._disks.bytes_held(vm, host, common)

    async def settle(
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        at_most_seconds: float | None = None,
    ) -> None:
        """Wait until no migration of the VM is under way at either host, or one has broken in post-copy.

        Abort one that is under way for longer than it may.
        """
        limit = math.inf if at_most_seconds is None else at_most_seconds
        overdue = partial(job.abort_overdue, vm=vm, at_most_seconds=limit)
        for host, other in ((source, destination), (destination, source)):
            while await self._is_busy(vm, host) and not await self._is_stranded(vm, other):
                # Whoever began it is gone, and may have held the hypervisor off.
                await self._connections.call(host, partial(job.hold_off_no_more, vm=vm))
                await self._connections.call(host, overdue)
                await asyncio.sleep(SETTLE_SECONDS)

    async def resume(self, vm: VmName, host: HostName) -> None:
        """Let a paused VM run on."""
        await self._connections.call(host, lambda c: c.lookupByName(vm).resume())

    async def discard(self, vm: VmName, host: HostName) -> None:
        """End a paused copy of a VM; one that runs is left alone."""
        await self._connections.call(host, lambda c: _discard(c, vm))

    async def _is_busy(self, vm: VmName, host: HostName) -> bool:
        _, busy = await self._connections.call(host, lambda c: _seen(c, vm))
        return busy

    async def _is_stranded(self, vm: VmName, host: HostName) -> bool:
        """Say whether a host knows that post-copy has broken; one that gives no answer doesn't say so."""
        told = await self._ask(host, lambda c: _seen(c, vm))
        return told is not None and told[0] is Seen.STRANDED

    async def _ask(self, host: HostName, what: Callable[["libvirt.virConnect"], T]) -> T | None:
        """Run a call; None where the host gives no answer, which says nothing of what is under way there."""
        with suppress(HypervisorUnreachable):
            return await self._connections.call(host, what)
        return None

    async def _move(
        self,
        way: tuple[VmName, HostName, HostName],
        route: Route,
        options: MigrationOptions,
        copies: Copies,
        on_sample: OnSample,
        *,
        pause: Pause,
    ) -> job.Told:
        """Migrate, steering and reporting the job; return the most that it told of."""
        vm, source, _ = way
        share = options.share.bytes_per_second if options.share and route.migrate_uri else None
        link = link_rate(await route.progress(None), share)
        switchover = Switchover(options.downtime_limit_ms, link)
        turn = self._turns_to_stop.join(route.link, switchover.limit_seconds)
        pause.when_over(turn.end)
        order = await self._order(way, route, options, copies)
        order = replace(order, downtime_limit_ms=switchover.in_force_ms)
        call = self._connections.call_apart(source, lambda c: job.migrate(c, order))
        moving = asyncio.create_task(call, name=f"migration of {vm}")
        began, steering, told = time.monotonic(), Steering(options), job.Told()
        try:
            while not moving.done():
                waits = NEAR_SAMPLE_SECONDS if switchover.is_near else SAMPLE_SECONDS
                await asyncio.wait({moving}, timeout=waits)
                match steering.due(time.monotonic() - began):
                    case Due.ABORT:
                        await self._give_up(vm, source, moving)
                        if moving.exception() is not None:
                            seen = f"aborted: not done in {options.time_limit_seconds:g} s"
                            raise MoveFailed(*way, seen) from moving.exception()
                        break
                    case Due.POST_COPY:
                        switched = await self._ask(source, lambda c: job.post_copy(c, vm))
                        steering.in_post_copy = bool(switched)
                        if steering.in_post_copy:
                            turn.end()  # the guest runs at the destination
                sample = await self._ask(source, lambda c: job.sample(c, vm))
                if sample is not None:
                    told = told.at_least(
                        job.Told(sample.bytes_sent, sample.rounds or 0, sample.disk_bytes_sent)
                    )
                    progress = await route.progress(sample.bytes_remaining or None)
                    sample = _with_progress(sample, progress)
                    now = time.monotonic()
                    switchover.see(sample, link_rate(progress, share), now - began)
                    limit_ms = switchover.due(
                        its_turn=steering.in_post_copy
                        or pause.is_over
                        or turn.may_stop(now, fits=switchover.fits, stands_still=pause.has_begun)
                    )
                    if limit_ms is not None:
                        switchover.in_force_ms = await self._limit(vm, source, limit_ms)
                    on_sample(sample)
        except asyncio.CancelledError:
            await self._give_up(vm, source, moving)
            raise
        finally:
            # Whatever ends the watching, the call ends before we do.
            try:
                await asyncio.gather(moving, return_exceptions=True)
            finally:
                turn.end()
        moving.result()
        return told

    async def _limit(self, vm: VmName, source: HostName, limit_ms: int) -> int:
        """Limit a guest's pause; return the limit that it has then, as far as anybody knows."""
        tell = partial(job.set_downtime_limit, vm=vm, limit_ms=limit_ms)
        return limit_ms if await self._ask(source, tell) else UNKNOWN_MS

    async def _order(
        self,
        way: tuple[VmName, HostName, HostName],
        route: Route,
        options: MigrationOptions,
        copies: Copies,
    ) -> job.Order:
        vm, source, destination = way
        version = 0
        if options.switchover_bytes_per_second is not None:
            ask = [self._connections.call(host, job.version) for host in (source, destination)]
            version = min(await asyncio.gather(*ask))
        parameters = parameters_of(options, route, copies, libvirt_version=version)
        peer = self._connections.hypervisor(destination).peer_uri
        return job.Order(vm=vm, peer=peer, parameters=parameters, options=options, copies=copies)

    async def _give_up(self, vm: VmName, source: HostName, moving: "asyncio.Task[None]") -> None:
        """Ask for the migration's abortion until it has ended, one way or the other."""
        while not moving.done():  # at first there may be nothing to abort yet
            await self._ask(source, lambda c: job.abort(c, vm))
            await asyncio.wait({moving}, timeout=SAMPLE_SECONDS)


def _disk_bytes(copies: Copies, progress: Progress | None, told: job.Told) -> int | None:
    """Return what disks took of what a move did; None where nobody counted them."""
    if not copies.disks:
        return 0
    if progress is not None:
        return progress.disks.wire_bytes if progress.disks is not None else None
    return told.disk_bytes or None


def _with_progress(sample: JobSample, progress: Progress | None) -> JobSample:
    """Add what the transport tells to what the hypervisor does."""
    if progress is None:
        return sample
    return replace(sample, transfer=progress.transfer, waiting_bytes=progress.waiting_bytes)


@asynccontextmanager
async def _told(route: Route, pause: Pause) -> AsyncIterator[None]:
    """Let the transport know as soon as the guest stands still, or runs."""

    async def tell() -> None:
        async for stands_still in pause.changes():
            await route.tell_of_pause(stands_still)

    telling = asyncio.create_task(tell(), name="telling of a pause")
    try:
        yield
    finally:
        telling.cancel()
        await asyncio.wait({telling})


_NO_JOB_TOLD = (55, 84)
"""VIR_ERR_OPERATION_INVALID or VIR_ERR_OPERATION_UNSUPPORTED: which of them depends on libvirt's version."""


def _seen(connection: "libvirt.virConnect", vm: VmName) -> tuple[Seen, bool]:
    """Say what a host knows of a VM, and whether a job works on it there."""
    import libvirt

    try:
        domain = connection.lookupByName(vm)
        state, reason = domain.state()
        if state == libvirt.VIR_DOMAIN_SHUTDOWN:
            # The hand-over: the source's copy lingers for a second or two after the VM has gone.
            return Seen.ABSENT, True
        if not domain.isActive():
            return Seen.ABSENT, False
        if _is_broken(state, reason):
            return Seen.STRANDED, False  # though libvirt may keep the job, until it is resumed
        busy = _busy(domain)
    except libvirt.libvirtError as error:
        if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, *_NO_JOB_TOLD):
            return Seen.ABSENT, False  # it went between two questions
        raise
    if state in (libvirt.VIR_DOMAIN_RUNNING, libvirt.VIR_DOMAIN_BLOCKED):
        return Seen.RUNNING, busy
    if state == libvirt.VIR_DOMAIN_PAUSED:
        if reason == libvirt.VIR_DOMAIN_PAUSED_POSTCOPY and not busy:
            # The guest has gone on elsewhere, and no job brings it the rest.
            return Seen.STRANDED, False
        return Seen.PAUSED, busy
    return Seen.ABSENT, busy


def _is_broken(state: int, reason: int) -> bool:
    """Say whether libvirt has marked one end of a migration as one that broke in post-copy."""
    import libvirt

    # Bindings that were built with a libvirt before 8.5 don't name it.
    running = getattr(libvirt, "VIR_DOMAIN_RUNNING_POSTCOPY_FAILED", 11)
    return (state, reason) in (
        (libvirt.VIR_DOMAIN_RUNNING, running),
        (libvirt.VIR_DOMAIN_PAUSED, libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED),
    )


def _busy(domain: "libvirt.virDomain") -> bool:
    """Say whether a job works on a domain that was active a moment ago."""
    import libvirt

    try:
        job = domain.jobInfo()[0]
    except libvirt.libvirtError as error:
        # Of a migration that comes in, libvirt tells nothing but that its source has to be asked. What is
        # there is about to run, so nobody may resume the source's copy.
        if error.get_error_code() in _NO_JOB_TOLD and domain.isActive():
            return True
        raise
    return job in (libvirt.VIR_DOMAIN_JOB_BOUNDED, libvirt.VIR_DOMAIN_JOB_UNBOUNDED)


def _discard(connection: "libvirt.virConnect", vm: VmName) -> None:
    seen, _ = _seen(connection, vm)
    if seen is Seen.PAUSED:
        connection.lookupByName(vm).destroy()
