"""How libvirt's answers are understood, also those that it gives in the middle of a migration."""

# ruff: noqa: N802  (libvirt's names)

import asyncio
import math
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import libvirt
import pytest

from transhume.errors import HypervisorUnreachable, MoveFailed
from transhume.execute.hypervisor import turns_to_stop
from transhume.execute.hypervisor.disks import Copies
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.hypervisor.options import MigrationOptions
from transhume.execute.hypervisor.protocol import Seen, Whereabouts
from transhume.execute.hypervisor.switchover import HELD_OFF_MS
from transhume.execute.migration.transport import Direct, Link, Progress, Route, Share
from transhume.knowledge.model import CloudName, HostName, Measurement, Transfer, VmName
from transhume.reach.libvirt import Connections

VM, A1, A2, B1 = VmName("vm1"), HostName("a1"), HostName("a2"), HostName("b1")
NO_JOB, JOB = libvirt.VIR_DOMAIN_JOB_NONE, libvirt.VIR_DOMAIN_JOB_UNBOUNDED


def error(code: int, seen: str = "so says libvirt") -> libvirt.libvirtError:
    made = libvirt.libvirtError(seen)
    made.err = (code, 10, seen, 2, None, None, None, -1, -1)
    return made


GONE = error(libvirt.VIR_ERR_NO_DOMAIN)
ASK_THE_SOURCE = error(libvirt.VIR_ERR_OPERATION_UNSUPPORTED)
ASK_THE_SOURCE_OLD = error(libvirt.VIR_ERR_OPERATION_INVALID)
NOT_RUNNING = error(libvirt.VIR_ERR_OPERATION_INVALID)


@dataclass
class Domain:
    """A domain at one host, and what happens when it is told to move."""

    state_number: int = libvirt.VIR_DOMAIN_RUNNING
    reason: int = 0
    job: int | Exception = NO_JOB
    active: bool = True
    goes_when_asked: bool = False
    move: Callable[[], None] = lambda: None
    on_abort: Callable[[], None] = lambda: None
    downtime_limit_ms: int = 300
    rounds: int = 0
    remaining_bytes: int = 0
    elapsed_ms: int = 0
    operation: int = libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT
    on_stats: Callable[[], None] = lambda: None
    on_limit: Callable[[int], None] = lambda _limit_ms: None
    on_post_copy: Callable[[], None] = lambda: None

    def state(self) -> list[int]:
        return [self.state_number, self.reason]

    def isActive(self) -> bool:
        return self.active

    def isPersistent(self) -> bool:
        return False

    def destroy(self) -> None:
        self.active = False

    def jobInfo(self) -> list[int]:
        self.active = self.active and not self.goes_when_asked
        if isinstance(self.job, Exception):
            raise self.job
        return [self.job]

    def jobStats(self, _flags: int = 0) -> dict[str, int]:
        self.on_stats()
        return {
            "type": JOB,
            "operation": self.operation,
            "time_elapsed": self.elapsed_ms,
            "data_processed": 7,
            "data_remaining": self.remaining_bytes,
            "memory_iteration": self.rounds,
        }

    def migrateToURI3(self, _peer: str, _parameters: object, _flags: int) -> None:
        self.move()

    def migrateGetMaxDowntime(self) -> int:
        return self.downtime_limit_ms

    def migrateSetMaxDowntime(self, limit_ms: int) -> None:
        self.downtime_limit_ms = limit_ms
        self.on_limit(limit_ms)

    def migrateStartPostCopy(self, _flags: int) -> None:
        self.on_post_copy()

    def abortJob(self) -> None:
        self.on_abort()
        raise error(libvirt.VIR_ERR_OPERATION_INVALID, "no job is active")


@dataclass(eq=False)
class Host:
    """A libvirt daemon with one domain or none."""

    domain: Domain | None = None
    events: bool = True
    tell: Callable[[int], None] = field(default=lambda _event: None, init=False)
    """Says what happens to its domain, to whoever listens."""

    def lookupByName(self, _name: str) -> Domain:
        if self.domain is None:
            raise GONE
        return self.domain

    def domainEventRegisterAny(
        self, _all: None, _kind: int, listener: Callable[..., None], host: HostName
    ) -> int:
        if not self.events:
            raise error(libvirt.VIR_ERR_INTERNAL_ERROR)
        vm = SimpleNamespace(name=lambda: VM)
        self.tell = lambda event: listener(self, vm, event, 0, host)
        return 1

    def domainEventDeregisterAny(self, _number: int) -> None:
        raise error(libvirt.VIR_ERR_INTERNAL_ERROR, "not registered")


@dataclass
class Pool:
    """Connections to two such hosts."""

    hosts: dict[HostName, Host]

    def hypervisor(self, host: HostName) -> SimpleNamespace:
        return SimpleNamespace(peer_uri=host)

    def when_opened(self, _then: object) -> None:
        """They stay open."""

    async def call(self, host: HostName, what: Callable[[Any], Any]) -> Any:
        return await asyncio.to_thread(what, self.hosts[host])

    call_apart = call


def hosts(source: Domain | None, destination: Domain | None = None, **more: bool) -> LibvirtHosts:
    pool = Pool({A1: Host(source, **more), B1: Host(destination, **more)})
    return LibvirtHosts(cast("Connections", pool), Direct())


RUNNING, PAUSED, ABSENT, STRANDED = Seen.RUNNING, Seen.PAUSED, Seen.ABSENT, Seen.STRANDED
AWAITED = libvirt.VIR_DOMAIN_PAUSED


def sending(reason: int = libvirt.VIR_DOMAIN_PAUSED_POSTCOPY, job: int = JOB) -> Domain:
    """The source's end of post-copy."""
    return Domain(state_number=libvirt.VIR_DOMAIN_PAUSED, reason=reason, job=job)


def fetching(
    reason: int = libvirt.VIR_DOMAIN_RUNNING_POSTCOPY, job: int | Exception = ASK_THE_SOURCE
) -> Domain:
    """The destination's."""
    return Domain(reason=reason, job=job)


BROKEN_HERE = libvirt.VIR_DOMAIN_PAUSED_POSTCOPY_FAILED
BROKEN_THERE = libvirt.VIR_DOMAIN_RUNNING_POSTCOPY_FAILED


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        pytest.param(Domain(), None, (RUNNING, ABSENT, False), id="at rest"),
        pytest.param(
            Domain(job=JOB),
            Domain(state_number=AWAITED, job=ASK_THE_SOURCE),
            (RUNNING, PAUSED, True),
            id="under way",
        ),
        pytest.param(
            Domain(state_number=libvirt.VIR_DOMAIN_PAUSED),
            Domain(state_number=AWAITED, job=ASK_THE_SOURCE),
            (PAUSED, PAUSED, True),
            id="the source's daemon has lost track, the destination goes on",
        ),
        pytest.param(
            Domain(state_number=libvirt.VIR_DOMAIN_PAUSED),
            Domain(state_number=AWAITED, job=ASK_THE_SOURCE_OLD),
            (PAUSED, PAUSED, True),
            id="the same with an older libvirt",
        ),
        pytest.param(
            Domain(state_number=AWAITED, job=ASK_THE_SOURCE),
            Domain(job=JOB),
            (PAUSED, RUNNING, True),
            id="on its way back",
        ),
        pytest.param(
            Domain(state_number=libvirt.VIR_DOMAIN_SHUTDOWN),
            Domain(),
            (ABSENT, RUNNING, True),
            id="handed over",
        ),
        pytest.param(
            Domain(job=NOT_RUNNING, goes_when_asked=True),
            Domain(),
            (ABSENT, RUNNING, False),
            id="gone between two questions",
        ),
        pytest.param(sending(), fetching(), (PAUSED, RUNNING, True), id="in post-copy"),
        pytest.param(
            sending(BROKEN_HERE),
            fetching(BROKEN_THERE),
            (STRANDED, STRANDED, False),
            id="broken in post-copy, and libvirt keeps the job",
        ),
        pytest.param(
            sending(BROKEN_HERE, NO_JOB),
            sending(BROKEN_HERE, NO_JOB),
            (STRANDED, STRANDED, False),
            id="broken in post-copy, and an older libvirt has ended the job",
        ),
        pytest.param(
            sending(job=NO_JOB),
            fetching(job=NO_JOB),
            (STRANDED, RUNNING, False),
            id="no job brings the rest that the source has",
        ),
    ],
)
async def test_whereabouts(
    source: Domain | None, destination: Domain | None, expected: tuple[Seen, Seen, bool]
) -> None:
    at_source, at_destination, migrating = expected
    assert await hosts(source, destination).whereabouts(VM, A1, B1) == Whereabouts(
        source=at_source, destination=at_destination, migrating=migrating
    )


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        pytest.param(sending(BROKEN_HERE), fetching(BROKEN_THERE), id="both ends know"),
        pytest.param(sending(BROKEN_HERE), fetching(), id="only the source knows"),
        pytest.param(sending(), fetching(BROKEN_THERE), id="only the destination knows"),
    ],
)
async def test_a_migration_that_broke_in_post_copy_is_not_waited_for(
    source: Domain, destination: Domain
) -> None:
    """libvirt keeps its job until a person resumes it, which may be never."""
    async with asyncio.timeout(10):
        await hosts(source, destination).settle(VM, A1, B1)


async def test_a_migration_in_post_copy_is_waited_for() -> None:
    source, destination = sending(), fetching()
    source.downtime_limit_ms = HELD_OFF_MS

    def ends(_limit_ms: int) -> None:
        source.active, destination.job = False, NO_JOB

    source.on_limit = ends
    await hosts(source, destination).settle(VM, A1, B1)
    assert not source.active


@pytest.mark.parametrize(
    ("elapsed_ms", "operation", "aborted"),
    [
        pytest.param(60_000, libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, True, id="overdue"),
        pytest.param(59_999, libvirt.VIR_DOMAIN_JOB_OPERATION_MIGRATION_OUT, False, id="in time"),
        pytest.param(60_000, libvirt.VIR_DOMAIN_JOB_OPERATION_BACKUP, False, id="a backup"),
    ],
)
async def test_a_migration_that_nobody_watched_any_more_takes_no_longer_than_it_may(
    elapsed_ms: int, operation: int, aborted: bool
) -> None:
    leaving = Domain(job=JOB, elapsed_ms=elapsed_ms, operation=operation)
    aborts = []

    def ends() -> None:
        aborts.append(leaving)
        leaving.job = NO_JOB

    def looked_at() -> None:
        leaving.job = JOB if aborted else NO_JOB

    leaving.on_abort, leaving.on_stats = ends, looked_at
    async with asyncio.timeout(10):
        await hosts(leaving).settle(VM, A1, B1, 60.0)
    assert bool(aborts) is aborted


async def test_neither_end_of_a_broken_post_copy_is_discarded() -> None:
    source = sending(BROKEN_HERE, NO_JOB)
    await hosts(source, fetching(BROKEN_THERE)).discard(VM, A1)
    assert source.active


async def test_a_vm_that_is_stranded_is_not_moved() -> None:
    found = await hosts(fetching(BROKEN_THERE), None).obstacle(VM, A1, B1)
    assert found == "vm1 is stranded in post-copy at a1"


async def move(through: LibvirtHosts, options: MigrationOptions | None = None) -> int:
    """Migrate and return the bytes."""
    return (await through.migrate(VM, A1, B1, lambda _sample: None, options)).bytes


async def test_a_pause_that_cannot_be_measured_hinders_no_move() -> None:
    assert await move(hosts(Domain(), Domain(), events=False)) == 7
    assert await move(hosts(Domain(), Domain(), events=True)) == 7


async def test_a_way_is_opened_once_disks_are_ready_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gateway takes a way back that no hypervisor comes by, and storage may be busy for longer."""
    happened = []

    @asynccontextmanager
    async def prepared(*_move: object) -> AsyncIterator[Copies]:
        happened.append("disks are ready")
        yield Copies()
        happened.append("disks are cleared up")

    @asynccontextmanager
    async def route(*_move: object) -> AsyncIterator[Route]:
        happened.append("the way is open")
        yield Route()
        happened.append("the way is closed")

    through = hosts(Domain(move=lambda: happened.append("it moves")), Domain())
    monkeypatch.setattr(through._disks, "prepared", prepared)
    monkeypatch.setattr(through._transport, "route", route)
    assert await move(through) == 7
    assert happened == [
        "disks are ready",
        "the way is open",
        "it moves",
        "the way is closed",
        "disks are cleared up",
    ]


async def test_what_the_hypervisor_says_of_a_failed_move_is_told() -> None:
    def fails() -> None:
        raise error(libvirt.VIR_ERR_OPERATION_FAILED, "no route to b1")

    with pytest.raises(MoveFailed, match="no route to b1"):
        await move(hosts(Domain(move=fails)))


async def test_a_host_that_falls_silent_does_not_say_that_the_move_failed() -> None:
    """The migration may well go on without us: where the VM is has to be looked for."""

    def falls_silent() -> None:
        raise HypervisorUnreachable(A1, "qemu:///a1", "keepalive timed out")

    with pytest.raises(HypervisorUnreachable):
        await move(hosts(Domain(move=falls_silent)))


async def test_cancelling_asks_for_the_abort_and_waits_for_the_end() -> None:
    """Even when the abort comes too late it is the cancellation that is raised."""
    begun, let = threading.Event(), threading.Event()

    def moves() -> None:
        begun.set()
        assert let.wait(10)

    domain = Domain(move=moves, on_abort=let.set)
    moving = asyncio.create_task(move(hosts(domain)))
    await asyncio.to_thread(begun.wait, 10)
    moving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await moving
    assert let.is_set()


async def test_a_migration_whose_time_is_up_is_aborted_and_has_failed() -> None:
    let = threading.Event()

    def moves() -> None:
        assert let.wait(10)
        raise error(libvirt.VIR_ERR_OPERATION_ABORTED, "canceled by client")

    limited = MigrationOptions(time_limit_seconds=0.01)
    with pytest.raises(MoveFailed, match=r"aborted: not done in 0\.01 s"):
        await move(hosts(Domain(move=moves, on_abort=let.set)), limited)


async def test_a_migration_that_is_done_before_its_abortion_counts_as_done() -> None:
    let = threading.Event()

    def moves() -> None:
        assert let.wait(10)

    limited = MigrationOptions(time_limit_seconds=0.01)
    assert await move(hosts(Domain(move=moves, on_abort=let.set), Domain()), limited) == 7


async def test_a_downtime_limit_is_in_force_when_the_job_begins() -> None:
    seen: list[int] = []
    domain = Domain()
    domain.move = lambda: seen.append(domain.downtime_limit_ms)

    await move(hosts(domain, Domain()), MigrationOptions(downtime_limit_ms=77))

    assert seen == [77]


@pytest.mark.parametrize(
    ("carries_bytes_per_second", "expected_ms"),
    [
        pytest.param(1e6, HELD_OFF_MS, id="the link was seen to be the narrow place"),
        pytest.param(None, 77, id="nothing was seen yet"),
    ],
)
async def test_a_guest_is_held_off_from_the_beginning_where_its_link_is_known_already(
    carries_bytes_per_second: float | None, expected_ms: int
) -> None:
    seen: list[int] = []
    domain = Domain()
    domain.move = lambda: seen.append(domain.downtime_limit_ms)
    transport = Counted(carries_bytes_per_second=carries_bytes_per_second)
    pool = cast("Connections", Pool({A1: Host(domain), B1: Host(Domain())}))

    await move(LibvirtHosts(pool, transport), MigrationOptions(downtime_limit_ms=77))

    assert seen == [expected_ms]


async def test_a_domain_that_stays_gets_its_downtime_limit_back() -> None:
    def fails() -> None:
        raise error(libvirt.VIR_ERR_OPERATION_FAILED)

    domain = Domain(move=fails)
    with pytest.raises(MoveFailed):
        await move(hosts(domain), MigrationOptions(downtime_limit_ms=77))
    assert domain.downtime_limit_ms == 300


@pytest.mark.parametrize(
    ("source", "destination", "expected"),
    [
        pytest.param(4, 0, 4, id="the destination doesn't say"),
        pytest.param(3, 4, 4, id="the last sample came too early"),
        pytest.param(0, 0, None, id="nobody says"),
    ],
)
async def test_the_rounds_of_a_migration_are_the_most_that_either_end_tells(
    source: int, destination: int, expected: int | None
) -> None:
    sampled = threading.Event()
    slow = Domain(rounds=source, move=lambda: _wait(sampled), on_stats=sampled.set)
    found = await hosts(slow, Domain(rounds=destination)).migrate(VM, A1, B1, lambda _sample: None)
    assert found.rounds == expected


def _wait(event: threading.Event) -> None:
    assert event.wait(10)


LINK = CloudName("campus"), CloudName("rented")
SHARE = Share(gang="g", bytes_per_second=1e6)


@dataclass(frozen=True)
class Counted:
    """A transport that counts bytes, of moves that have a link in common or not."""

    link: Link | None = None
    carries_bytes_per_second: float | None = None
    pauses: "asyncio.Queue[bool]" = field(default_factory=asyncio.Queue)
    """Whether the guest stands still, as it is told."""

    @asynccontextmanager
    async def route(
        self, vm: VmName, source: HostName, destination: HostName, share: Share | None = None
    ) -> AsyncIterator[Route]:
        async def progress(_remaining_bytes: int | None) -> Progress:
            return Progress(
                transfer=Transfer(), link_bytes_per_second=self.carries_bytes_per_second
            )

        yield Route(
            migrate_uri="unix:///ram",
            link=self.link,
            progress=progress,
            tell_of_pause=self.pauses.put,
        )


@dataclass(eq=False)
class Guest:
    """One whose rest would cross at any time, and that gets through when a test says so."""

    let_go: threading.Event = field(default_factory=threading.Event)
    through: threading.Event = field(default_factory=threading.Event)
    seen: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    fails: bool = False

    def __post_init__(self) -> None:
        self.domain = Domain(
            rounds=2,
            move=self._moves,
            on_abort=self.through.set,
            on_stats=self.seen.release,
            on_limit=self._limited,
        )

    async def is_let_go(self) -> None:
        await asyncio.to_thread(_wait, self.let_go)

    async def is_seen(self) -> None:
        """Wait until what it says from now on has been acted on."""
        while self.seen.acquire(blocking=False):
            pass
        for _ in range(3):
            assert await asyncio.to_thread(self.seen.acquire, timeout=10)

    async def is_seen_to_wait(self) -> None:
        await self.is_seen()
        assert not self.let_go.is_set()

    def _moves(self) -> None:
        _wait(self.through)
        if self.fails:
            raise error(libvirt.VIR_ERR_OPERATION_FAILED)

    def _limited(self, limit_ms: int) -> None:
        if limit_ms > HELD_OFF_MS:
            self.let_go.set()


def pool_of(first: Guest, second: Guest) -> Pool:
    return Pool({A1: Host(first.domain), A2: Host(second.domain), B1: Host(Domain())})


def together(first: Guest, second: Guest, link: Link | None) -> LibvirtHosts:
    return LibvirtHosts(cast("Connections", pool_of(first, second)), Counted(link))


def begin(through: LibvirtHosts, source: HostName, **more: Any) -> "asyncio.Task[Measurement]":
    options = MigrationOptions(share=SHARE, **more)
    return asyncio.create_task(through.migrate(VM, source, B1, lambda _sample: None, options))


@pytest.fixture
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but the end of a turn lets the next one go."""
    monkeypatch.setattr(turns_to_stop, "PATIENCE_SECONDS", math.inf)


@dataclass
class Fails:
    """A call that its caller gets no answer to, until it has failed so many times."""

    then: Callable[..., object]
    failure: Exception = field(
        default_factory=lambda: HypervisorUnreachable(A1, "qemu:///a1", "connection refused")
    )
    times: float = 2

    def __call__(self, *given: object) -> None:
        if self.times > 0:
            self.times -= 1
            raise self.failure
        self.then(*given)


async def test_a_source_that_falls_silent_for_a_moment_is_steered_on() -> None:
    """The migration's own call has another connection, and nobody else would ever let the guest go."""
    guest = Guest()
    guest.domain.on_stats = Fails(guest.seen.release)
    moving = begin(together(guest, Guest(), LINK), A1)
    await guest.is_let_go()
    guest.through.set()
    await moving


@pytest.mark.parametrize(
    "failure",
    [
        pytest.param(HypervisorUnreachable(A1, "qemu:///a1", "refused"), id="no connection"),
        pytest.param(error(libvirt.VIR_ERR_INTERNAL_ERROR), id="it breaks in the call"),
    ],
)
async def test_a_limit_that_was_not_taken_is_set_the_next_time(failure: Exception) -> None:
    guest = Guest()
    lets_go = Fails(guest.let_go.set, failure)
    guest.domain.on_limit = lambda limit_ms: lets_go() if limit_ms > HELD_OFF_MS else None
    moving = begin(together(guest, Guest(), LINK), A1)
    await guest.is_let_go()
    guest.through.set()
    await moving


async def test_an_order_for_post_copy_that_found_nobody_is_given_again() -> None:
    guest = Guest()
    guest.domain.on_post_copy = Fails(guest.through.set)
    await begin(together(guest, Guest(), LINK), A1, post_copy_after_seconds=0.001)
    assert guest.domain.on_post_copy.times == 0


async def test_a_time_limit_counts_for_a_source_that_tells_nothing() -> None:
    guest = Guest(fails=True)
    guest.domain.on_stats = Fails(guest.seen.release, times=math.inf)
    guest.domain.on_abort = Fails(guest.through.set)
    with pytest.raises(MoveFailed, match="aborted"):
        await begin(together(guest, Guest(), LINK), A1, time_limit_seconds=0.3)


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("ends", [Measurement, MoveFailed, asyncio.CancelledError])
async def test_guests_over_one_link_are_let_go_one_after_the_other(ends: type) -> None:
    first, second = Guest(fails=ends is MoveFailed), Guest()
    through = together(first, second, LINK)
    one = begin(through, A1)
    await first.is_let_go()
    other = begin(through, A2)
    await second.is_seen_to_wait()

    if ends is asyncio.CancelledError:
        one.cancel()
    else:
        first.through.set()
    await second.is_let_go()
    second.through.set()

    found = await asyncio.gather(one, other, return_exceptions=True)
    assert [type(each) for each in found] == [ends, Measurement]


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize("stands_still", [True, False])
async def test_what_is_left_ends_no_turn_of_a_guest_that_stands_still(stands_still: bool) -> None:
    first, second = Guest(), Guest()
    pool = pool_of(first, second)
    through = LibvirtHosts(cast("Connections", pool), Counted(LINK))
    one = begin(through, A1)
    await first.is_let_go()
    if stands_still:
        pool.hosts[A1].tell(libvirt.VIR_DOMAIN_EVENT_SUSPENDED)
    first.domain.remaining_bytes = 1 << 30
    await first.is_seen()
    other = begin(through, A2)
    if stands_still:
        await second.is_seen_to_wait()
        first.through.set()
    await second.is_let_go()
    for each in (first, second):
        each.through.set()
    await asyncio.gather(one, other)


@pytest.mark.usefixtures("_patient")
async def test_a_turn_ends_when_the_guest_runs_at_the_destination() -> None:
    first, second = Guest(), Guest()
    pool = pool_of(first, second)
    through = LibvirtHosts(cast("Connections", pool), Counted(LINK))
    one = begin(through, A1)
    await first.is_let_go()
    pool.hosts[A1].tell(libvirt.VIR_DOMAIN_EVENT_SUSPENDED)
    other = begin(through, A2)
    await second.is_seen_to_wait()
    pool.hosts[B1].tell(libvirt.VIR_DOMAIN_EVENT_RESUMED)
    await second.is_let_go()  # though the first one's migration hasn't ended
    for each in (first, second):
        each.through.set()
    await asyncio.gather(one, other)


@pytest.mark.parametrize("runs_at", [A1, B1])
async def test_the_transport_is_told_when_a_guest_stops_and_when_it_runs_again(
    runs_at: HostName,
) -> None:
    guest, transport = Guest(), Counted(LINK)
    pool = pool_of(guest, Guest())
    moving = begin(LibvirtHosts(cast("Connections", pool), transport), A1)
    await guest.is_let_go()
    pool.hosts[A1].tell(libvirt.VIR_DOMAIN_EVENT_SUSPENDED)
    assert await transport.pauses.get() is True
    pool.hosts[runs_at].tell(libvirt.VIR_DOMAIN_EVENT_RESUMED)
    assert await transport.pauses.get() is False
    guest.through.set()
    await moving


@pytest.mark.usefixtures("_patient")
async def test_who_waits_for_its_turn_can_be_cancelled() -> None:
    first, second = Guest(), Guest()
    through = together(first, second, LINK)
    one = begin(through, A1)
    await first.is_let_go()
    other = begin(through, A2)
    await second.is_seen_to_wait()

    other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await other
    first.through.set()
    assert (await one).bytes == 0


@pytest.mark.usefixtures("_patient")
@pytest.mark.parametrize(
    ("link", "more"),
    [
        pytest.param(None, {}, id="each over its own link"),
        pytest.param(LINK, {"post_copy_after_seconds": 0.001}, id="it runs over there already"),
    ],
)
async def test_who_needs_no_turn_is_let_go_at_once(link: Link | None, more: Any) -> None:
    first, second = Guest(), Guest()
    through = together(first, second, link)
    one = begin(through, A1)
    await first.is_let_go()
    other = begin(through, A2, **more)
    await second.is_let_go()
    for each in (first, second):
        each.through.set()
    await asyncio.gather(one, other)
