"""How a daemon is put together from a deployment file: the one place that knows every stage's real parts."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from transhume.daemon.ledger import FencedLedger
from transhume.daemon.recording import Recording
from transhume.daemon.sampling import dirty_rates, disk_use
from transhume.daemon.senses import progress_keys, senses_of
from transhume.daemon.service import LEASE_SECONDS, Daemon, Parts
from transhume.daemon.shadowing import Shadows
from transhume.daemon.trace_writing import Pace
from transhume.daemon.undertaking import Builder
from transhume.deployment.loader import recording_in
from transhume.deployment.model import (
    NO_COMMON_FILES,
    CommonFiles,
    Deployment,
    OverlayNetwork,
    PrewarmBudget,
    RecordingSettings,
)
from transhume.errors import LeaseHeld, OverlayError, TemporaryError
from transhume.execute.executor import World
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.hypervisor.options import Disks, MigrationOptions
from transhume.execute.hypervisor.protocol import Hypervisors
from transhume.execute.migration.transport import Direct, Transport
from transhume.execute.overlay import ByAgents, Networks, Overlay, VxlanOverlay
from transhume.knowledge.lease import Lease, this_process
from transhume.knowledge.model import Snapshot, Vm, VmName
from transhume.knowledge.server import open_server
from transhume.knowledge.store import Store
from transhume.loop import Loop
from transhume.monitor.clouds.inventory import LibvirtInventory
from transhume.plan import PlannerSettings
from transhume.policies.book import PolicyBook
from transhume.policies.composition import terms_for
from transhume.policies.model import MigrationTerms, Policy
from transhume.reach.libvirt import Connections
from transhume.reach.signals import run_until_told
from transhume.reach.threads import in_a_loose_thread

if TYPE_CHECKING:
    from transhume.daemon.prewarming import Prewarming

log = structlog.get_logger()


def now() -> datetime:
    """Tell the time, as records want it."""
    return datetime.now(UTC)


class Reconciler:
    """Keeps the overlay in line with where VMs are, also when somebody else moved them."""

    def __init__(self, overlay_of: Callable[[Vm], Overlay]) -> None:
        self._overlay_of = overlay_of
        self._bound: dict[VmName, tuple[object, ...]] = {}

    async def __call__(self, snapshot: Snapshot) -> None:
        """Point the overlay at each VM that isn't where it was; VMs on their way are the executor's.

        Raises:
            OverlayError: one of them can't be followed; all others have been.
            TemporaryError: nobody can be at present.
        """
        still = snapshot.placement.host_of.keys() - snapshot.moving
        self._bound = {name: bound for name, bound in self._bound.items() if name in still}
        troubles: list[OverlayError] = []
        for name in sorted(still):
            vm, cloud = snapshot.vms[name], snapshot.cloud_of(name)
            wanted = (cloud, *((each.mac, each.network) for each in vm.interfaces))
            if self._bound.get(name) == wanted:
                continue
            try:
                await self._overlay_of(vm).adopt(snapshot.macs_of(name), cloud)
            except OverlayError as error:
                troubles.append(error)
            else:
                self._bound[name] = wanted
        if troubles:
            raise troubles[0]


def networks_of(deployment: Deployment, store: Store) -> Networks:
    """Return the networks that join a deployment's sites; it may have none.

    Then the network is left alone: the announcement that QEMU sends after a move re-points the switches.
    """

    def overlay(network: OverlayNetwork) -> Overlay:
        if network.agents:
            return ByAgents(network, store.register(network.vni), now)
        return VxlanOverlay(network)

    return Networks({network.name: overlay(network) for network in deployment.networks})


def worlds(
    hypervisors: Hypervisors,
    overlay_of: Callable[[Vm], Overlay],
    policies: Callable[[], Sequence[Policy]] = tuple,
    common: CommonFiles = NO_COMMON_FILES,
) -> Builder:
    """Return what makes a plan's world: these hypervisors, this overlay, the addresses known when it begins.

    How VMs are moved is as the policies say that are in force when a move begins; files that hosts have in
    common aren't copied.
    """

    def world(ledger: FencedLedger, snapshot: Snapshot) -> World:
        def options_of(vm: VmName) -> MigrationOptions:
            known = snapshot.vms.get(vm)  # which it needn't be any more, where a step is taken up
            terms = MigrationTerms() if known is None else terms_for(policies(), known)
            return options_by(terms, common)

        return World(
            hypervisors=hypervisors,
            overlay_of=lambda vm: overlay_of(snapshot.vms[vm]),
            ledger=ledger,
            macs_of=snapshot.macs_of,
            options_of=options_of,
            clock=now,
        )

    return world


def options_by(terms: MigrationTerms, common: CommonFiles) -> MigrationOptions:
    """Return what a hypervisor is asked for where policies have these terms."""
    pause = terms.pause_seconds
    return MigrationOptions(
        downtime_limit_ms=None if pause is None else max(1, round(pause * 1e3)),
        time_limit_seconds=terms.at_most_seconds,
        post_copy_after_seconds=terms.post_copy_after_seconds,
        disks=Disks.COPY if terms.copy_disks else Disks.NONE,
        common_files=common,
    )


def transport_of(deployment: Deployment) -> Transport:
    """Return what carries a deployment's migrations: its gateways, or nothing between the hosts.

    Raises:
        IdentityUnusable: our operator's certificate can't be used.
    """
    if not deployment.gateways:
        return Direct()
    from transhume.execute.migration.control_client import clients_of
    from transhume.execute.migration.gateways import Gateways

    clouds = {host.name: host.cloud for host in deployment.hosts}
    return Gateways(
        clients=clients_of(deployment),
        cloud_of=lambda host: clouds[host],
        tenant_of=deployment.tenant_of,
    )


def prewarming_by(
    transport: Transport,
    budget: PrewarmBudget | None,
    policies: Callable[[], Sequence[Policy]] = tuple,
) -> "Prewarming | None":
    """Return what keeps VMs warm that may move, where gateways can do that and may.

    Their disks are, where the policies that are in force then have them copied.
    """
    if budget is None or isinstance(transport, Direct):
        return None
    from transhume.daemon.prewarming import Prewarming
    from transhume.execute.migration.gateways import Gateways

    if not isinstance(transport, Gateways):
        return None
    return Prewarming(transport, budget, lambda vm: terms_for(policies(), vm).copy_disks)


@asynccontextmanager
async def pen(store: Store, holder: str) -> AsyncIterator[tuple[Lease, int]]:
    """Have the lease, waiting for another's to run out (told once), and give it back."""
    lease = store.lease(holder, LEASE_SECONDS)
    told = False
    while True:
        try:
            token = await lease.acquire()
            break
        except LeaseHeld as held:
            if not told:
                log.warning("waiting_for_lease", holder=held.holder)
            told = True
            await asyncio.sleep(0.5)
    try:
        yield lease, token
    finally:
        with suppress(TemporaryError):
            await lease.release()


def asides(deployment: Deployment, book: PolicyBook) -> tuple[Recording | None, Shadows | None]:
    """Return what records and what compares, as far as a deployment asks for them.

    Policies can be compared over a recording only: where none is asked for, there is one all the same.
    """
    settings, shadow = deployment.recording, deployment.shadow
    if settings is None and shadow is not None:
        settings = RecordingSettings(folder=recording_in(deployment.state_directory))
    if settings is None:
        return None, None
    recording = Recording(
        settings.folder,
        lambda: book.sources,
        at_most_bytes=settings.at_most_bytes,
        pace=Pace(traffic_seconds=deployment.traffic_horizon_seconds),
    )
    return recording, Shadows(shadow, recording, now) if shadow else None


@asynccontextmanager
async def serving(
    deployment: Deployment, policy_paths: Sequence[Path]
) -> AsyncIterator[tuple[Daemon, Store]]:
    """Have a daemon for a deployment, ready to run, with the pen and the knowledge that it writes to."""
    clouds = {cloud.name for cloud in deployment.clouds}
    book = await in_a_loose_thread(PolicyBook, policy_paths, clouds)
    connections = Connections(deployment.hypervisors)
    source = LibvirtInventory(connections, deployment)
    transport = transport_of(deployment)
    hypervisors = LibvirtHosts(connections, transport)
    common = deployment.common_files
    recording, shadows = asides(deployment, book)

    async with (
        open_server(deployment.knowledge_url, deployment.state_directory) as server,
        Store.connect(server.url, clock=now) as store,
        pen(store, this_process()) as (lease, token),
    ):
        log.info("knowledge_opened", server=server.kind)
        await store.put_federation(deployment.clouds, deployment.hosts, deployment.links)
        networks = networks_of(deployment, store)
        await networks.join()
        try:
            yield (
                Daemon(
                    Parts(
                        store=store,
                        lease=lease,
                        token=token,
                        loop=Loop(
                            PlannerSettings(moves_per_link=deployment.moves_per_link),
                            traffic_horizon_seconds=deployment.traffic_horizon_seconds,
                        ),
                        book=book,
                        senses=[
                            *senses_of(deployment, source, now),
                            progress_keys(book, now),
                            dirty_rates(hypervisors.dirty_rate, now),
                            disk_use(
                                partial(hypervisors.disk_use, common=common),
                                now,
                                lambda vm: terms_for(book.policies, vm).copy_disks,
                            ),
                        ],
                        world=worlds(hypervisors, networks.of, lambda: book.policies, common),
                        reconcile=Reconciler(networks.of),
                        clock=now,
                        traffic_horizon_seconds=deployment.traffic_horizon_seconds,
                        recording=recording,
                        shadows=shadows,
                        prewarming=prewarming_by(
                            transport, deployment.prewarm, lambda: book.policies
                        ),
                    )
                ),
                store,
            )
        finally:
            connections.close()


async def serve(deployment: Deployment, policy_paths: Sequence[Path]) -> None:
    """Run the daemon for a deployment until a signal stops it; one that waits for the pen yet ends at once."""
    await run_until_told(_serve(deployment, policy_paths))


async def _serve(deployment: Deployment, policy_paths: Sequence[Path]) -> None:
    async with serving(deployment, policy_paths) as (daemon, _store):
        _stop_on_signals(daemon)
        await daemon.run()


def _stop_on_signals(daemon: Daemon) -> None:
    """Stop in good order at the first SIGINT or SIGTERM, at once at the second."""
    loop = asyncio.get_running_loop()

    def stop() -> None:
        log.info(
            "stopping", hint="a move under way is finished first; a second signal ends at once"
        )
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)
            signal.signal(each, signal.SIG_DFL)  # which ends us whatever the loop waits for
        daemon.stop()

    for each in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(each, stop)
