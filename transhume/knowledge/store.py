"""The knowledge: everything that is known, decided and done, for all who share it.

Whoever senses writes facts without the pen; decisions (plans, the journal, outcomes) carry the fencing token of
the lease, and are refused once another has taken it. Every write is one transaction that also says what
changed. Talks to Redis through `transaction` and `reading`; how it looks inside is in `keys`. Leaves out the
server (`server`) and the lease itself (`lease`).
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any, Self, TypeVar

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from transhume.errors import KnowledgeUnreachable, UnreadableProgress, UsageError
from transhume.knowledge import keys
from transhume.knowledge.anchors import AnchorDirectory
from transhume.knowledge.codec import UnreadableRecord, decode, encode
from transhume.knowledge.decisions import (
    LatestDecision,
    begun_since,
    forget_plan,
    plans_before,
    read_plan,
    write_effect,
    write_journal,
    write_plan,
    write_status,
)
from transhume.knowledge.durability import Durability
from transhume.knowledge.following import follow, last_id, valid_id
from transhume.knowledge.lease import Lease, holder_of_lease
from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CommunicationMatrix,
    DirtyRate,
    DiskUse,
    Group,
    Host,
    JournalRecord,
    LastInventory,
    Link,
    MoveProgress,
    NoPlan,
    Outcome,
    Pattern,
    Placement,
    Plan,
    PlanId,
    PlanStatus,
    PriceTick,
    Progress,
    RevocationNotice,
    Snapshot,
    Step,
    Symptom,
    TrafficWindow,
    VirtualCluster,
    Vm,
    VmName,
    Warmth,
)
from transhume.knowledge.model.undoing import step_of
from transhume.knowledge.reading import Reader, read_last_inventory, read_snapshot
from transhume.knowledge.records import (
    Change,
    ChangeKind,
    Command,
    DaemonStatus,
    Effect,
    PoliciesStatus,
    RecordingStatus,
    Retention,
    SentCommand,
    ShadowStatus,
    StoredPlan,
)
from transhume.knowledge.register import Register
from transhume.knowledge.transaction import Transaction, Unexpected
from transhume.knowledge.underlay import UnderlayDirectory
from transhume.knowledge.wire import connect, one_connection, reaching, text

T = TypeVar("T")
S = TypeVar("S", bound=DirtyRate | DiskUse)
"""What a hypervisor was asked about a VM."""
_SAMPLES: dict[type, tuple[str, ChangeKind]] = {
    DirtyRate: (keys.DIRTY_RATES, ChangeKind.DIRTY_RATES),
    DiskUse: (keys.DISK_USE, ChangeKind.DISK_USE),
}

MOST_ENDS = 2
"""A step that is done, and taken back when another has failed, ends twice."""
OTHER_OUTCOMES = 1000
"""Of later plans, beside those of the one that is asked about."""
CLOCKS_DIFFER = timedelta(minutes=1)
"""By so much those may who tell of windows: their clocks may be ahead of the server's."""
LONGEST_LINE = 64
"""In bytes, of what we read that isn't ours."""


def utc_now() -> datetime:
    """Return the instant as records keep it."""
    return datetime.now(UTC)


class Store:
    """The knowledge in one Redis. Safe to share between tasks; close by leaving `Store.connect`."""

    def __init__(
        self,
        client: Redis,
        *,
        clock: Callable[[], datetime] = utc_now,
        retention: Retention = Retention(),  # noqa: B008  (frozen)
    ) -> None:
        self._client = client
        self._clock = clock
        self._retention = retention
        self._reader = Reader()
        self._durability = Durability()

    @classmethod
    @asynccontextmanager
    async def connect(
        cls,
        url: str,
        *,
        clock: Callable[[], datetime] = utc_now,
        retention: Retention = Retention(),  # noqa: B008
    ) -> AsyncIterator[Self]:
        """Have the store at a URL for as long as the context lasts.

        Raises:
            KnowledgeUnreachable: it doesn't answer.
        """
        async with connect(url) as client:
            async with reaching():
                await client.ping()
            yield cls(client, clock=clock, retention=retention)

    def lease(self, holder: str, seconds: float) -> Lease:
        """Return a claim to this store's pen; `acquire` takes it."""
        return Lease(self._client, holder, seconds)

    async def has_holder(self) -> bool:
        """Say whether somebody has this store's pen: a daemon that runs, or ended by itself seconds ago."""
        return await holder_of_lease(self._client) is not None

    def register(self, vni: int) -> Register:
        """Return the register of addresses of one of the overlay's networks."""
        return Register(self._client, vni)

    def anchors(self, vni: int) -> AnchorDirectory:
        """Return which connections to the outside stay at which site, in one of the overlay's networks."""
        return AnchorDirectory(self._client, vni)

    def underlay(self) -> UnderlayDirectory:
        """Return what sites say of their encrypted paths."""
        return UnderlayDirectory(self._client)

    def agent_lease(self, vni: int, site: str, holder: str, seconds: float) -> Lease:
        """Return a claim to be a site's only agent for one of its networks."""
        return Lease(self._client, holder, seconds, keys.overlay_agent(vni, site))

    # What is

    async def put_federation(
        self, clouds: Iterable[Cloud], hosts: Iterable[Host], links: Iterable[Link]
    ) -> None:
        """Replace what the operator says about the federation."""
        writing = self._writing()
        writing.replace(keys.CLOUDS, {cloud.name: encode(cloud) for cloud in clouds})
        writing.replace(keys.HOSTS, {host.name: encode(host) for host in hosts})
        writing.replace(keys.LINKS, {"|".join(sorted(link.clouds)): encode(link) for link in links})
        await self._announce(writing, ChangeKind.FEDERATION)

    async def put_inventory(
        self,
        vms: Iterable[Vm],
        clusters: Iterable[VirtualCluster],
        placement: Placement,
        capacity: Iterable[CapacityReport],
        arrivals: Mapping[str, bytes] | None = None,
    ) -> None:
        """Replace what the hypervisors say; what isn't mentioned any more is gone.

        `arrivals` is what `last_inventory()` had before they were asked: a VM whose move has ended since stays
        where that left it. None: they say how it is now.
        """
        known = (await self.last_inventory()).arrivals if arrivals is None else arrivals
        writing = self._writing()
        writing.replace(keys.VMS, {vm.name: encode(vm) for vm in vms})
        writing.replace(keys.CLUSTERS, {cluster.name: encode(cluster) for cluster in clusters})
        writing.replace(
            keys.PLACEMENT, {vm: host.encode() for vm, host in placement.host_of.items()}
        )
        writing.replace(keys.CAPACITY, {report.host: encode(report) for report in capacity})
        for vm, arrival in known.items():
            writing.forget(keys.ARRIVED, vm, arrival)
        await self._announce(writing, ChangeKind.INVENTORY)

    async def last_inventory(self) -> LastInventory:
        """Return what the hypervisors said last, as far as moves haven't changed it since."""
        return await read_last_inventory(self._client, self._reader)

    async def put_price(self, tick: PriceTick) -> None:
        """Set what a cloud asks from now on."""
        writing = self._writing().merge(keys.PRICES, {tick.cloud: encode(tick)})
        await self._announce(writing, ChangeKind.PRICE, tick.cloud)

    async def put_prices_ahead(self, ticks: Iterable[PriceTick]) -> None:
        """Replace the prices that are certain to come."""
        ahead = {f"{tick.cloud}@{tick.at.isoformat()}": encode(tick) for tick in ticks}
        writing = self._writing().replace(keys.PRICES_AHEAD, ahead)
        await self._announce(writing, ChangeKind.PRICE)

    async def put_notice(self, notice: RevocationNotice) -> None:
        """Note a revocation; a withdrawn notice cancels the one for the same cloud and host."""
        field = notice.cloud if notice.host is None else f"{notice.cloud}/{notice.host}"
        writing = self._writing()
        if notice.withdrawn:
            writing.remove(keys.NOTICES, field)
        else:
            writing.merge(keys.NOTICES, {field: encode(notice)})
        await self._announce(writing, ChangeKind.NOTICE, notice.cloud)

    async def put_progress(self, progress: Progress) -> None:
        """Set how far a job is."""
        writing = self._writing().merge(keys.PROGRESS, {progress.job: encode(progress)})
        await self._announce(writing, ChangeKind.PROGRESS, progress.job)

    async def put_warmth(self, warmth: Iterable[Warmth]) -> None:
        """Replace what clouds know of VMs that may go there."""
        fields = {f"{each.vm}@{each.cloud}": encode(each) for each in warmth}
        await self._announce(self._writing().replace(keys.WARMTH, fields), ChangeKind.WARMTH)

    async def put_samples(self, kind: type[S], samples: Iterable[S]) -> None:
        """Set what hypervisors were asked about VMs; of those that aren't mentioned it stays."""
        key, change = _SAMPLES[kind]
        fields = {str(each.vm): encode(each) for each in samples}
        await self._announce(self._writing().merge(key, fields), change)

    async def drop_samples(self, kind: type[S], vms: Iterable[VmName]) -> None:
        """Forget what hypervisors were asked about VMs that are gone."""
        key, change = _SAMPLES[kind]
        writing = self._writing()
        for vm in vms:
            writing.remove(key, vm)
        await self._announce(writing, change)

    async def put_matrix(self, matrix: CommunicationMatrix) -> None:
        """Replace the matrix of the recent past."""
        writing = self._writing().put(keys.MATRIX, encode(matrix))
        await self._announce(writing, ChangeKind.MATRIX)

    async def put_groups(self, groups: Iterable[Group], patterns: Iterable[Pattern] = ()) -> None:
        """Replace the groups that were found, and their patterns; both are read back ordered by group."""
        writing = self._writing()
        writing.replace(keys.GROUPS, {group.id: encode(group) for group in groups})
        writing.replace(keys.PATTERNS, {str(each.group): encode(each) for each in patterns})
        await self._announce(writing, ChangeKind.GROUPS)

    async def put_policies(self, policies: PoliciesStatus) -> None:
        """Say which policies are in force, and which files were refused."""
        writing = self._writing().put(keys.POLICIES, encode(policies))
        await self._announce(writing, ChangeKind.POLICIES)

    async def policies(self) -> PoliciesStatus | None:
        """Return which policies are in force, or None before any daemon said so."""
        return await self._one(PoliciesStatus, keys.POLICIES)

    async def put_recording(self, recording: RecordingStatus) -> None:
        """Say where what is known is being recorded."""
        await self._writing().put(keys.RECORDING, encode(recording)).commit(self._client)

    async def recording(self) -> RecordingStatus | None:
        """Return where what is known is, or was, recorded; None where it never was."""
        return await self._one(RecordingStatus, keys.RECORDING)

    async def put_shadow(self, shadow: ShadowStatus) -> None:
        """Keep the latest comparison of the policies in force with others."""
        await self._writing().put(keys.SHADOW, encode(shadow)).commit(self._client)

    async def shadow(self) -> ShadowStatus | None:
        """Return the latest comparison with policies that aren't in force, or None before any."""
        return await self._one(ShadowStatus, keys.SHADOW)

    async def put_status(self, status: DaemonStatus) -> None:
        """Let the daemon's heart beat."""
        await self._writing().put(keys.STATUS, encode(status)).commit(self._client)

    async def status(self) -> DaemonStatus | None:
        """Return the last heartbeat, or None where no daemon ever ran."""
        return await self._one(DaemonStatus, keys.STATUS)

    async def snapshot(self, outcomes_for: timedelta = timedelta(0)) -> Snapshot:
        """Read all that a plan is made from, as it was at one instant.

        Its outcomes are those since so long ago, and some more where these are few.
        """
        return await read_snapshot(self._client, self._reader, self._clock(), outcomes_for)

    # What happens

    async def add_window(self, window: TrafficWindow) -> None:
        """Append a window; it doesn't change the version."""
        writing = self._writing().arrive(keys.WINDOWS, encode(window), keep=self._retention.windows)
        await self._announce(writing, ChangeKind.WINDOW, window.capture_point, changes_plans=False)

    async def windows(self, since: datetime) -> tuple[TrafficWindow, ...]:
        """Return the windows that start at or after an instant, in the order in which they came."""
        # They are filed by the server's clock, and none comes before it starts, but for what clocks differ.
        async with reaching():
            seconds, _ = await self._client.time()
        longest_ago = max(self._clock() - since, timedelta()) + CLOCKS_DIFFER
        earliest = max(int(seconds - longest_ago.total_seconds()), 0) * 1000
        entries = await self._ask(
            self._client.xrange(keys.WINDOWS, min=str(earliest)), keys.WINDOWS
        )
        windows = self._reader.entries(TrafficWindow, entries or (), keys.WINDOWS)
        return tuple(window for window in windows if window.start >= since)

    async def add_symptom(self, symptom: Symptom) -> None:
        """Append a reason to think again."""
        writing = self._writing().happen(
            keys.SYMPTOMS, encode(symptom), at=symptom.at, keep=self._retention.symptoms
        )
        await self._announce(writing, ChangeKind.SYMPTOM, symptom.subject, changes_plans=False)

    async def symptoms(self, limit: int = 100) -> tuple[Symptom, ...]:
        """Return the latest symptoms, the newest first."""
        return await self._newest(Symptom, keys.SYMPTOMS, limit)

    async def add_outcome(self, outcome: Outcome, token: int) -> None:
        """Append what came of a step."""
        writing = self._writing().happen(
            keys.OUTCOMES, encode(outcome), at=outcome.ended_at, keep=self._retention.outcomes
        )
        await self._announce(writing, ChangeKind.OUTCOME, outcome.vm, token=token)

    async def outcomes(self, limit: int = 100) -> tuple[Outcome, ...]:
        """Return the latest outcomes, the newest first."""
        return await self._newest(Outcome, keys.OUTCOMES, limit)

    async def outcomes_of(self, plan: Plan) -> tuple[Outcome, ...]:
        """Return how the steps of a plan that was carried out lately ended, the newest first."""
        latest = await self.outcomes(limit=OTHER_OUTCOMES + MOST_ENDS * len(plan.steps))
        return tuple(outcome for outcome in latest if outcome.plan == plan.id)

    async def last_change(self) -> str:
        """Return the id to give to `changes` so as to hear of whatever changes from now on."""
        return await last_id(self._client, keys.CHANGES)

    async def changes(self, after: str) -> AsyncIterator[Change]:
        """Yield each change after an id, waiting for the next; those older than the retention are gone."""
        async for entry, fields in follow(self._client, keys.CHANGES, valid_id(after)):
            try:
                kind = ChangeKind(text(fields.get(b"kind", b"")))
            except ValueError as error:
                self._reader.doubt(f"{keys.CHANGES} {entry}", str(error))
            else:
                yield Change(id=entry, kind=kind, subject=text(fields.get(b"subject", b"")))

    # What others keep in the same Redis

    async def line_of(self, key: str) -> str | None:
        """Return the short line that an application keeps in a key of its own; None where there is none.

        Raises:
            UnreadableProgress: the key holds something else than a short line, or may not be read.
        """
        try:
            async with reaching():
                found = await self._client.getrange(key, 0, LONGEST_LINE)
        except KnowledgeUnreachable as error:
            if isinstance(error.__cause__, ResponseError):
                raise UnreadableProgress(key, f"({error.__cause__})") from error
            raise
        if len(found) > LONGEST_LINE:
            raise UnreadableProgress(key, f"a value longer than {LONGEST_LINE} bytes")
        return text(found) or None

    # What is asked for

    async def send_command(self, command: Command) -> None:
        """Ask something of the daemon, whether it runs now or later."""
        writing = self._writing().happen(
            keys.COMMANDS, encode(command), at=command.at, keep=self._retention.commands
        )
        await self._announce(writing, ChangeKind.COMMAND, command.subject, changes_plans=False)

    async def commands(self) -> AsyncIterator[SentCommand]:
        """Yield each command that wasn't finished, oldest first, then each new one.

        Commands sent while no daemon ran come too: compare `at` where that matters (stop).
        """
        async with reaching():
            done = await self._client.get(keys.COMMANDS_DONE)
        async for entry, fields in follow(self._client, keys.COMMANDS, valid_id(done)):
            where = f"{keys.COMMANDS} {entry}"
            command = self._reader.record(Command, fields.get(b"record", b""), where)
            if command is not None:
                yield SentCommand(id=entry, command=command)

    async def finish_command(self, command_id: str, token: int) -> None:
        """Note that a command, and those before it, need not be carried out again."""
        writing = self._writing().put(keys.COMMANDS_DONE, command_id.encode())
        await writing.commit(self._client, token=token)

    # What is decided

    async def put_plan(self, plan: Plan | NoPlan, status: PlanStatus | None, token: int) -> None:
        """Keep a decision as the latest. A `NoPlan` has no status, and only the last one is kept."""
        writing = self._writing()
        match plan:
            case Plan():
                write_plan(writing, plan, status or PlanStatus.RECOMMENDED, self._clock())
                latest = LatestDecision(plan=plan.id)
            case NoPlan():
                latest = LatestDecision(no_plan=plan)
        writing.put(keys.LATEST, encode(latest))
        for old in await plans_before(self._client, self._clock() - self._retention.plans):
            forget_plan(writing, old)
        await self._announce(
            writing, ChangeKind.PLAN, latest.plan or "", token=token, changes_plans=False
        )

    async def plan(self, plan: PlanId) -> StoredPlan:
        """Return a plan.

        Raises:
            UsageError: there is none with this id.
            UnreadableRecord: there is, but damaged.
        """
        return await read_plan(self._client, plan)

    async def latest_plan(self) -> StoredPlan | None:
        """Return the last decision (a plan, or to do nothing and why); None before the first.

        None also where nobody can read it.
        """
        latest = await self._one(LatestDecision, keys.LATEST)
        if latest is not None and latest.no_plan is not None:
            return StoredPlan(plan=latest.no_plan)
        return await self._readable(latest.plan) if latest is not None and latest.plan else None

    async def plans(self, limit: int = 100) -> tuple[StoredPlan, ...]:
        """Return the latest plans, the newest first."""
        question = self._client.zrevrange(keys.PLANS_ORDER, 0, limit - 1)
        names = await self._ask(question, keys.PLANS_ORDER) or ()
        found = [await self._readable(PlanId(text(name))) for name in names]
        return tuple(stored for stored in found if stored is not None)

    async def begun_plans(self, since: datetime, limit: int = 100) -> tuple[StoredPlan, ...]:
        """Return the plans made since an instant that were ever begun, the newest first.

        What was only recommended doesn't count, however often that changes.
        """
        names = await begun_since(self._client, since)
        found = [await self._readable(name) for name in names[:limit]]
        return tuple(stored for stored in found if stored is not None)

    async def executing_plans(self) -> tuple[StoredPlan, ...]:
        """Return the plans that are being executed, or were when a daemon died, whenever they were made."""
        question = self._client.hgetall(keys.PLANS_STATUS)
        statuses = await self._ask(question, keys.PLANS_STATUS) or {}
        names = sorted(
            text(name) for name, status in statuses.items() if text(status) == PlanStatus.EXECUTING
        )
        found = [await self._readable(PlanId(name)) for name in names]
        return tuple(stored for stored in found if stored is not None)

    async def set_plan_status(
        self, plan: PlanId, status: PlanStatus, token: int, expected: PlanStatus | None = None
    ) -> bool:
        """Move a plan on; return False, and change nothing, where it isn't in the expected status.

        Raises:
            UsageError: there is no such plan.
        """
        await self.plan(plan)
        writing = self._writing()
        if expected is not None:
            writing.expect(keys.PLANS_STATUS, plan, expected.value)
        write_status(writing, plan, status, self._clock())
        try:
            await self._announce(writing, ChangeKind.PLAN, plan, token=token, changes_plans=False)
        except Unexpected:
            return False
        return True

    async def note_effect(self, plan: PlanId, effect: Effect, token: int) -> None:
        """Note what was found when a plan's effect was looked at."""
        writing = self._writing()
        write_effect(writing, plan, effect)
        await self._announce(writing, ChangeKind.PLAN, plan, token=token, changes_plans=False)

    async def append_journal(self, record: JournalRecord, token: int) -> None:
        """Append to the journal, and return once the record is on disk.

        On disk is a promise of a server of ours and of any that knows WAITAOF and keeps an append-only file;
        with another the record is as durable as that server is, and a warning says so once.

        Raises:
            LeaseLost: another has the pen; the effect that the record announces must not be made.
        """
        writing = self._writing()
        write_journal(writing, record, await self._step(record))
        async with one_connection(self._client) as connection:
            await self._announce(
                writing, ChangeKind.JOURNAL, record.vm, token=token, client=connection
            )
            async with reaching():
                await self._durability.on_disk(connection)

    async def journal(self, plan: PlanId) -> tuple[JournalRecord, ...]:
        """Return a plan's journal, the oldest record first.

        Raises:
            UnreadableRecord: a record is damaged.
        """
        async with reaching():
            lines = await self._client.lrange(keys.journal_of(plan), 0, -1)
        return tuple(decode(JournalRecord, line) for line in lines)

    async def open_steps(self) -> tuple[JournalRecord, ...]:
        """Return the last record of each step that isn't over, the oldest first.

        Raises:
            UnreadableRecord: one is damaged. It isn't passed over: a forgotten step could leave a VM running
                twice.
        """
        async with reaching():
            lines = await self._client.hvals(keys.OPEN_STEPS)
        records = (decode(JournalRecord, line) for line in lines)
        return tuple(sorted(records, key=lambda record: (record.at, record.step)))

    async def put_move_progress(self, progress: MoveProgress) -> None:
        """Set how a running migration is doing."""
        field = f"{progress.plan} {progress.step}"
        writing = self._writing().merge(keys.MOVES, {field: encode(progress)})
        await writing.commit(self._client)

    async def move_progress(self) -> tuple[MoveProgress, ...]:
        """Return how the running migrations are doing."""
        moves = await self._ask(self._client.hgetall(keys.MOVES), keys.MOVES)
        return self._reader.records(MoveProgress, moves or {}, keys.MOVES)

    # How it is done

    def _writing(self) -> Transaction:
        return Transaction(at=self._clock())

    async def _announce(
        self,
        writing: Transaction,
        kind: ChangeKind,
        subject: str = "",
        *,
        token: int | None = None,
        changes_plans: bool = True,
        client: Redis | None = None,
    ) -> None:
        writing.tell(kind, subject, keep=self._retention.changes, changes_plans=changes_plans)
        await writing.commit(client or self._client, token=token)

    async def _step(self, record: JournalRecord) -> Step | None:
        try:
            stored = await self.plan(record.plan)
        except UsageError:
            return None
        return step_of(stored.plan, record.step) if isinstance(stored.plan, Plan) else None

    async def _readable(self, plan: PlanId) -> StoredPlan | None:
        try:
            return await self.plan(plan)
        except (UnreadableRecord, UsageError) as error:
            self._reader.doubt(f"{keys.PLANS} {plan}", str(error))
            return None

    async def _one(self, cls: type[T], key: str) -> T | None:
        return self._reader.record(cls, await self._ask(self._client.get(key), key), key)

    async def _newest(self, cls: type[T], key: str, limit: int) -> tuple[T, ...]:
        entries = await self._ask(self._client.xrevrange(key, count=limit), key)
        return self._reader.entries(cls, entries or (), key)

    async def _ask(self, question: Awaitable[Any], key: str) -> Any:
        """Return the answer, or None where the key is of a foreign type."""
        try:
            async with reaching():
                return await question
        except KnowledgeUnreachable as error:
            if not str(error.__cause__).startswith("WRONGTYPE"):
                raise
            self._reader.doubt(key, str(error.__cause__))
            return None
