"""A stage for the real daemon: simulated clouds, a real Redis, and the traffic of two pairs of VMs."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import pytest

from transhume.daemon import service, undertaking
from transhume.daemon.composition import Reconciler, now
from transhume.daemon.ledger import FencedLedger
from transhume.daemon.recording import Recording
from transhume.daemon.senses import Sense
from transhume.daemon.service import Daemon, Parts
from transhume.daemon.shadowing import Shadows
from transhume.errors import HypervisorUnreachable
from transhume.execute.executor import World
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.protocol import OnSample, Whereabouts
from transhume.execute.ledger import Ledger
from transhume.knowledge.model import (
    Cloud,
    CloudName,
    Endpoint,
    Host,
    HostName,
    Interface,
    JournalRecord,
    Link,
    MacAddress,
    Measurement,
    MoveProgress,
    Outcome,
    PairTraffic,
    Plan,
    PlanStatus,
    PriceTick,
    Resources,
    RevocationNotice,
    Snapshot,
    TrafficWindow,
    Vm,
    VmName,
)
from transhume.knowledge.records import StoredPlan
from transhume.knowledge.server import ServerKind
from transhume.knowledge.store import Store
from transhume.lab.simulated import SimulatedClouds, SimulatedHost, SimulatedOverlay
from transhume.loop import Loop
from transhume.plan import PlannerSettings
from transhume.policies.book import PolicyBook

T = TypeVar("T")

MIB = 1 << 20
A, B = CloudName("a"), CloudName("b")
A1, B1 = HostName("a1"), HostName("b1")
VMS = tuple(VmName(f"vm{number}") for number in (1, 2, 3, 4))
PAIRS = ((VMS[0], VMS[1]), (VMS[2], VMS[3]))
"""Who talks to whom."""
CHEAP, DEAR = 0.04, 0.20

POLICY = """\
policy: cheap-but-together
mode: {mode}
keep_together: {{measured: true, cut_above: 100kB/s}}
price: {{payback: 45m}}
elective: {{min_gain: 5%, hold: 0s, cooldown: 6h}}
rules:
  - pin: {{vm: {pinned}, cloud: a}}
"""

ENDED = (PlanStatus.DONE, PlanStatus.UNDONE, PlanStatus.FAILED)
ONE_SERVER = pytest.mark.parametrize("program", [ServerKind.REDIS], ids=str, indirect=True)
"""For what has little to do with who made the server."""
TALKERS, PINNED = set(VMS[:2]), set(VMS[2:])


async def until(
    question: Callable[[], Awaitable[T | None]], what: str, *, seconds: float = 60
) -> T:
    """Ask again and again, for at most a minute if nobody says more, until there is an answer."""
    try:
        async with asyncio.timeout(seconds):
            while (answer := await question()) is None:
                await asyncio.sleep(0.005)
            return answer
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


@dataclass(slots=True)
class StagedClouds(SimulatedClouds):
    """Clouds whose migrations can be held, and go on, once begun, when the daemon dies."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    begun: list[VmName] = field(default_factory=list)
    ailing: Exception | None = None
    """What whoever asks after a VM gets to hear."""
    stuck: VmName | None = None
    """Once it has moved, the host that it has moved to gives no answer."""
    suspended: frozenset[VmName] = frozenset()
    """VMs that somebody has paused."""
    under_way: dict[VmName, "asyncio.Task[Measurement]"] = field(default_factory=dict)

    async def obstacle(self, vm: VmName, source: HostName, destination: HostName) -> str | None:
        if vm == self.stuck and source == B1:
            raise HypervisorUnreachable(source, "qemu:///b1", "timed out")
        if vm in self.suspended:
            return f"{vm} is paused at {source}"
        return await SimulatedClouds.obstacle(self, vm, source, destination)

    async def migrate(
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        on_sample: OnSample,
        options: MigrationOptions | None = None,
    ) -> Measurement:
        self.begun.append(vm)
        await self.gate.wait()
        moving = SimulatedClouds.migrate(self, vm, source, destination, on_sample, options)
        self.under_way[vm] = asyncio.create_task(moving)
        return await asyncio.shield(self.under_way[vm])

    async def settle(
        self,
        vm: VmName,
        source: HostName,
        destination: HostName,
        at_most_seconds: float | None = None,
    ) -> None:
        if vm in self.under_way:
            await asyncio.wait([self.under_way[vm]])

    async def whereabouts(self, vm: VmName, source: HostName, destination: HostName) -> Whereabouts:
        if self.ailing is not None:
            raise self.ailing
        return await SimulatedClouds.whereabouts(self, vm, source, destination)


class Dying:
    """A ledger whose daemon is dead from its n-th write on, just before that write or just after it."""

    def __init__(self, ledger: Ledger, write: int, *, durable: bool) -> None:
        self._ledger, self._left, self._durable = ledger, write, durable
        self.dead = asyncio.Event()

    async def append_journal(self, record: JournalRecord) -> None:
        await self._write(lambda: self._ledger.append_journal(record))

    async def add_outcome(self, outcome: Outcome) -> None:
        await self._write(lambda: self._ledger.add_outcome(outcome))

    async def put_move_progress(self, progress: MoveProgress) -> None:
        await self._ledger.put_move_progress(progress)

    async def _write(self, write: Callable[[], Awaitable[None]]) -> None:
        self._left -= 1
        if self._left > 0 or self._durable:
            await write()
        if self._left <= 0:
            self.dead.set()
            await asyncio.Event().wait()


@dataclass(slots=True)
class Stage:
    """What outlives a daemon: the knowledge, the clouds, the policy file."""

    store: Store
    policy: Path
    clouds: StagedClouds
    overlay: SimulatedOverlay = field(default_factory=SimulatedOverlay)
    ledger: Callable[[FencedLedger], Ledger] = lambda ledger: ledger
    loop: Callable[[], Loop] = lambda: Loop(PlannerSettings())
    asides: Callable[[PolicyBook], tuple[Recording | None, Shadows | None]] = lambda _: (None, None)
    lease_seconds: float = 10.0
    reconciled: int = 0
    """How many rounds have brought the overlay in line."""

    @asynccontextmanager
    async def daemon(self) -> AsyncIterator[Daemon]:
        """Run a daemon for as long as the context lasts, and stop it in good order."""
        daemon = await self.new_daemon()
        running = asyncio.create_task(daemon.run())
        try:
            yield daemon
        finally:
            daemon.stop()
            async with asyncio.timeout(60):
                await running

    async def new_daemon(self) -> Daemon:
        lease = self.store.lease("the daemon", self.lease_seconds)
        book = PolicyBook([self.policy])
        recording, shadows = self.asides(book)
        return Daemon(
            Parts(
                store=self.store,
                lease=lease,
                token=await lease.acquire(),
                loop=self.loop(),
                book=book,
                senses=[Sense(name="inventory", perceive=self._inventory)],
                world=self._world,
                reconcile=self._reconcile(),
                clock=now,
                recording=recording,
                shadows=shadows,
            )
        )

    def _world(self, ledger: FencedLedger, snapshot: Snapshot) -> World:
        return World(
            hypervisors=self.clouds,
            overlay_of=lambda _vm: self.overlay,
            ledger=self.ledger(ledger),
            macs_of=lambda vm: [each.mac for each in snapshot.vms[vm].interfaces],
            clock=now,
        )

    def _reconcile(self) -> Callable[[Snapshot], Awaitable[None]]:
        reconciler = Reconciler(lambda _vm: self.overlay)

        async def reconcile(snapshot: Snapshot) -> None:
            self.reconciled += 1
            await reconciler(snapshot)

        return reconcile

    async def _inventory(self, store: Store) -> AsyncIterator[None]:
        began = now()
        while True:
            clouds = self.clouds
            await store.put_inventory(
                clouds.vms.values(), (), clouds.placement(), clouds.capacity(began)
            )
            yield
            await asyncio.sleep(0.05)

    # --- what happens ------------------------------------------------------------------------

    async def price(self, cloud: CloudName, vcpu_dollars: float) -> None:
        await self.store.put_price(
            PriceTick(
                cloud=cloud,
                at=now(),
                dollars_per_vcpu_hour=vcpu_dollars,
                dollars_per_gib_hour=0.005,
                egress_dollars_per_gb=0.09,
            )
        )

    def write_policy(self, mode: str = "auto", pinned: str = VMS[2]) -> None:
        """Pin one VM to cloud a; the default makes the pair of vm3 and vm4 stay there."""
        self.replace_policy(POLICY.format(mode=mode, pinned=pinned))

    def replace_policy(self, text: str) -> None:
        new = self.policy.with_suffix(".new")
        new.write_text(text)
        new.replace(self.policy)

    # --- what can be waited for --------------------------------------------------------------

    async def calm(self) -> None:
        """Wait until the daemon has found that nothing is worth doing."""

        async def decided() -> bool | None:
            latest = await self.store.latest_plan()
            return True if latest is not None and latest.status is None else None

        await until(decided, "a first decision")

    async def plan(self, *statuses: PlanStatus, past: str | None = None) -> tuple[StoredPlan, Plan]:
        """Wait for the newest plan, other than `past`, to be in one of the statuses."""

        async def there() -> tuple[StoredPlan, Plan] | None:
            for stored in await self.store.plans(limit=1):
                if stored.status in statuses and stored.id != past:
                    assert isinstance(stored.plan, Plan)
                    return stored, stored.plan
            return None

        return await until(there, f"a plan that is {' or '.join(statuses)}")

    async def moving(self) -> None:
        """Wait until a migration has begun."""

        async def begun() -> bool | None:
            return True if self.clouds.begun else None

        await until(begun, "a migration to begin")

    def at(self, host: HostName) -> set[VmName]:
        """Return the VMs that run at a host."""
        return {vm for vm, where in self.clouds.running_at.items() if where == host}


async def set_stage(store: Store, folder: Path) -> Stage:
    """Have all VMs in cloud a, ten and more seconds of traffic seen, and level prices."""
    stage = Stage(store=store, policy=folder / "policy.yaml", clouds=_clouds())
    stage.clouds.gate.set()
    stage.write_policy()
    hosts = [simulated.host for simulated in stage.clouds.hosts.values()]
    link = Link(clouds=frozenset((A, B)), bytes_per_second=12.5e6)
    await store.put_federation([Cloud(name=A), Cloud(name=B)], hosts, [link])
    for cloud in (A, B):
        await stage.price(cloud, CHEAP)
    for second in range(1, 16):
        await store.add_window(_window(stage.clouds, second))
    return stage


def _clouds() -> StagedClouds:
    room = Resources(vcpus=8, memory_bytes=8 * 128 * MIB)
    hosts = {name: Host(name=name, cloud=CloudName(name[0])) for name in (A1, B1)}
    return StagedClouds(
        hosts={name: SimulatedHost(host=host, capacity=room) for name, host in hosts.items()},
        vms={
            name: Vm(
                name=name,
                uuid=name,
                needs=Resources(vcpus=1, memory_bytes=112 * MIB),
                interfaces=(Interface(mac=MacAddress(f"52:54:00:00:00:0{name[-1]}")),),
                dirty_bytes_per_second=0.4e6,
            )
            for name in VMS
        },
        link_bytes_per_second=12.5e6,
        speedup=5000.0,
        running_at=dict.fromkeys(VMS, A1),
    )


def _window(clouds: StagedClouds, seconds_ago: int) -> TrafficWindow:
    ends = {name: Endpoint(mac=vm.interfaces[0].mac) for name, vm in clouds.vms.items()}
    return TrafficWindow.of_pairs(
        (
            PairTraffic(source=ends[one], destination=ends[other], bytes=1_000_000, frames=700)
            for pair in PAIRS
            for one, other in (pair, pair[::-1])
        ),
        start=now().replace(microsecond=0) - timedelta(seconds=seconds_ago),
        seconds=1.0,
        capture_point="a1",
    )


def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the daemon look more often, and wait less, than in earnest."""
    monkeypatch.setattr(service, "DEBOUNCE_SECONDS", 0.01)
    monkeypatch.setattr(service, "QUIET_ROUND_SECONDS", 0.2)
    monkeypatch.setattr(service, "POLICY_SECONDS", 0.01)
    monkeypatch.setattr(service, "FIRST_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(service, "LONGEST_PAUSE_SECONDS", 0.05)
    monkeypatch.setattr(undertaking, "PAUSES_SECONDS", (0.01,) * 5)


async def outcomes(store: Store, plan: Plan) -> dict[VmName, Outcome]:
    found = [outcome for outcome in await store.outcomes() if outcome.plan == plan.id]
    assert len({(each.step, each.result) for each in found}) == len(found), "one is told twice"
    return {outcome.vm: outcome for outcome in reversed(found)}


def told(logs: list[Any], event: str) -> int:
    return sum(line["event"] == event for line in logs)


def so(condition: Callable[[], object]) -> Callable[[], Awaitable[bool | None]]:
    """Make a question for `until` of what can be seen without asking the store."""

    async def question() -> bool | None:
        return True if condition() else None

    return question


def notice() -> RevocationNotice:
    return RevocationNotice(cloud=A, at=now(), deadline=now() + timedelta(hours=1))
