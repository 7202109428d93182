"""What is and what happens: written by anybody, read as one, and never able to stop the reader."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from redis.asyncio import Redis
from structlog.testing import capture_logs

from tests.unit.knowledge.columnar import plain
from transhume.knowledge import keys
from transhume.knowledge.model import (
    CapacityReport,
    Cloud,
    CloudName,
    CommunicationMatrix,
    DirtyRate,
    DiskUse,
    Endpoint,
    Group,
    GroupId,
    Host,
    HostName,
    JobName,
    Link,
    MacAddress,
    PairTraffic,
    Pattern,
    PatternKind,
    Placement,
    PriceTick,
    Progress,
    Resources,
    RevocationNotice,
    Symptom,
    SymptomKind,
    TrafficWindow,
    VirtualCluster,
    Vm,
    VmName,
    Warmth,
)
from transhume.knowledge.model.names import ClusterName
from transhume.knowledge.records import (
    Change,
    ChangeKind,
    Command,
    CommandKind,
    DaemonStatus,
    PoliciesStatus,
    PolicyFile,
    Retention,
)
from transhume.knowledge.store import Store

NOON = datetime(2030, 1, 1, 12, tzinfo=UTC)
HOME, AWAY = Cloud(name=CloudName("home")), Cloud(name=CloudName("away"), region="far")
H1 = Host(name=HostName("h1"), cloud=HOME.name)
A1 = Host(name=HostName("a1"), cloud=AWAY.name)
PATH = Link(clouds=frozenset({HOME.name, AWAY.name}), bytes_per_second=1e7)

BRIEFLY = Retention(windows=timedelta(seconds=0.2))


def vm(name: str) -> Vm:
    return Vm(name=VmName(name), uuid=name, needs=Resources(vcpus=1, memory_bytes=1 << 30))


def tick(dollars: float, at: datetime = NOON) -> PriceTick:
    return PriceTick(cloud=HOME.name, at=at, dollars_per_vcpu_hour=dollars)


def notice(**changes: object) -> RevocationNotice:
    plain = RevocationNotice(cloud=HOME.name, at=NOON, deadline=NOON + timedelta(minutes=2))
    return replace(plain, **changes)  # type: ignore[arg-type]


def window(start: datetime, point: str = "h1", size: int = 64) -> TrafficWindow:
    ends = (Endpoint(mac=MacAddress("52:54:00:00:00:01")), Endpoint(mac=MacAddress("ff" * 6)))
    pair = PairTraffic(source=ends[0], destination=ends[1], bytes=size, frames=1)
    return TrafficWindow.of_pairs([pair], start=start, seconds=5.0, capture_point=point)


async def put_vms(store: Store, *names: str, host: Host = H1) -> None:
    placement = Placement(host_of={VmName(name): host.name for name in names})
    report = CapacityReport(
        host=host.name,
        at=NOON,
        total=Resources(vcpus=8, memory_bytes=1 << 34),
        free=Resources(vcpus=4, memory_bytes=1 << 33),
    )
    cluster = VirtualCluster(name=ClusterName("c"), vms=tuple(map(VmName, names)))
    await store.put_inventory(map(vm, names), [cluster], placement, [report])


@pytest.fixture
async def store(store: Store) -> Store:
    await store.put_federation([HOME, AWAY], [H1, A1], [PATH])
    return store


async def test_what_was_put_in_is_in_the_snapshot(store: Store) -> None:
    matrix = CommunicationMatrix.of_pairs(
        start=NOON,
        seconds=5.0,
        vms=(VmName("v1"), VmName("v2")),
        source=[0, 1],
        destination=[1, 0],
        bytes=[7, 1 << 60],
        frames=[1, 2],
    )
    group = Group(
        id=GroupId("g1"),
        vms=matrix.vms,
        internal_bytes_per_second=3.5,
        external_bytes_per_second=0.0,
    )
    pattern = Pattern(kind=PatternKind.PAIRS, score=0.9, vms=matrix.vms, group=group.id)
    progress = Progress(job=JobName("blast"), at=NOON, done=3, total=4)
    await put_vms(store, "v1", "v2")
    await store.put_price(tick(0.05))
    over, soon = tick(0.04, at=NOON), tick(0.06, at=NOON + timedelta(hours=1))
    await store.put_prices_ahead([soon, over])
    await store.put_notice(notice())
    await store.put_progress(progress)
    warm = Warmth(vm=VmName("v1"), cloud=AWAY.name, at=NOON, known_share=0.9)
    gone = Warmth(vm=VmName("gone"), cloud=AWAY.name, at=NOON, known_share=0.9)
    await store.put_warmth([warm, gone])
    await store.put_samples(
        DirtyRate,
        [
            DirtyRate(vm=VmName(name), at=NOON, bytes_per_second=rate)
            for name, rate in (("v1", 2e6), ("gone", 1e6))
        ],
    )
    await store.put_samples(
        DiskUse,
        [DiskUse(vm=VmName(name), at=NOON, bytes=held) for name, held in (("v2", 7), ("gone", 8))],
    )
    await store.put_matrix(matrix)
    await store.put_groups((group,), (pattern,))

    seen = await store.snapshot()

    assert seen.at == NOON
    assert seen.clouds == {HOME.name: HOME, AWAY.name: AWAY}
    assert seen.hosts == {H1.name: H1, A1.name: A1}
    assert seen.links == (PATH,)
    assert seen.prices_ahead == (soon,)
    assert seen.warmth == (warm,)
    assert seen.vms == {
        "v1": replace(vm("v1"), dirty_bytes_per_second=2e6),
        "v2": replace(vm("v2"), disk_bytes=7),
    }
    assert seen.clusters["c"].vms == ("v1", "v2")
    assert seen.placement.host_of == {"v1": "h1", "v2": "h1"}
    assert seen.capacity["h1"].free.vcpus == 4
    assert seen.prices == {HOME.name: tick(0.05)}
    assert seen.notices == (notice(),)
    assert seen.progress == {"blast": progress}
    assert (seen.groups, seen.patterns) == ((group,), (pattern,))
    assert seen.matrix is not None
    np.testing.assert_array_equal(seen.matrix.bytes, matrix.bytes)


async def test_a_store_that_nobody_wrote_to_gives_an_empty_snapshot(client: Redis) -> None:
    seen = await Store(client).snapshot()
    assert (seen.version, seen.clouds, seen.matrix, seen.outcomes) == (0, {}, None, ())


async def test_vms_that_are_not_reported_any_more_are_gone(store: Store) -> None:
    await put_vms(store, "v1", "v2")
    await put_vms(store, "v2")
    seen = await store.snapshot()
    assert set(seen.vms) == set(seen.placement.host_of) == {"v2"}


async def test_an_inventory_of_thousands_of_vms_is_one_write(store: Store) -> None:
    names = [f"v{i}" for i in range(5000)]
    await put_vms(store, *names)
    assert len((await store.snapshot()).placement.host_of) == 5000


async def test_the_version_rises_with_what_can_change_a_plan_only(store: Store) -> None:
    async def rises(writing: object) -> bool:
        before = (await store.snapshot()).version
        await writing  # type: ignore[misc]
        return (await store.snapshot()).version > before

    assert await rises(store.put_price(tick(0.05)))
    assert not await rises(store.put_price(tick(0.05, at=NOON + timedelta(seconds=30))))
    assert await rises(store.put_price(tick(0.06)))
    assert await rises(put_vms(store, "v1"))
    assert not await rises(put_vms(store, "v1"))
    assert await rises(put_vms(store))
    assert not await rises(store.add_window(window(NOON)))
    assert await rises(store.put_notice(notice()))
    assert await rises(store.put_notice(notice(withdrawn=True)))
    assert not await rises(store.put_notice(notice(withdrawn=True)))


@pytest.mark.parametrize(
    ("notices", "in_force"),
    [
        pytest.param([notice()], 1, id="in time"),
        pytest.param([notice(deadline=NOON - timedelta(seconds=119))], 1, id="just over"),
        pytest.param([notice(deadline=NOON - timedelta(seconds=120))], 0, id="over for long"),
        pytest.param([notice(), notice(withdrawn=True)], 0, id="withdrawn"),
        pytest.param([notice(), notice(host=H1.name)], 2, id="cloud and host"),
        pytest.param([notice(), notice(host=H1.name, withdrawn=True)], 1, id="only the host's"),
    ],
)
async def test_notices_count_while_they_are_in_force(
    store: Store, notices: list[RevocationNotice], in_force: int
) -> None:
    for each in notices:
        await store.put_notice(each)
    assert len((await store.snapshot()).notices) == in_force


async def test_a_snapshot_never_mixes_two_inventories(store: Store) -> None:
    """A writer moves all VMs at once, again and again, while readers look."""
    done = asyncio.Event()

    async def write() -> None:
        for turn in range(60):
            await put_vms(store, f"a{turn}", f"b{turn}", host=(H1, A1)[turn % 2])
        done.set()

    async def read() -> None:
        last = 0
        while not done.is_set():
            seen = await store.snapshot()
            assert set(seen.vms) == set(seen.placement.host_of)
            assert len(set(seen.placement.host_of.values())) <= 1
            assert seen.version >= last
            last = seen.version

    async with asyncio.TaskGroup() as group:
        group.create_task(write())
        for _ in range(3):
            group.create_task(read())


async def test_windows_come_back_by_their_start(store: Store) -> None:
    early, late = window(NOON), window(NOON + timedelta(seconds=5))
    straggler = window(NOON, point="a1")
    for each in (early, late, straggler):
        await store.add_window(each)
    assert plain(await store.windows(NOON)) == plain((early, late, straggler))
    assert plain(await store.windows(NOON + timedelta(seconds=1))) == plain((late,))


async def test_windows_older_than_the_retention_are_let_go(client: Redis) -> None:
    patient, store = Store(client), Store(client, retention=BRIEFLY)
    for second in range(3):
        await patient.add_window(window(NOON + timedelta(seconds=second)))
    assert len(await store.windows(NOON)) == 3
    await asyncio.sleep(0.3)
    await store.add_window(window(NOON + timedelta(seconds=4)))
    assert await client.xlen(keys.WINDOWS) == 1


async def test_a_window_from_a_time_to_come_keeps_no_other_from_being_let_go(client: Redis) -> None:
    """One host's clock, ahead for a moment, would have each round read all that came since, for ever."""
    store = Store(client, retention=BRIEFLY)
    await store.add_window(window(NOON + timedelta(days=365)))
    for second in range(3):
        await store.add_window(window(NOON + timedelta(seconds=second)))
    await asyncio.sleep(0.3)
    await store.add_window(window(NOON + timedelta(seconds=4)))
    assert await client.xlen(keys.WINDOWS) == 1


async def test_windows_that_were_filed_under_a_time_to_come_are_let_go(client: Redis) -> None:
    await client.xadd(keys.WINDOWS, {"record": b"odd"}, id="9999999999999-0")
    store = Store(client, clock=lambda: NOON)
    await store.add_window(window(NOON))
    assert plain(await store.windows(NOON)) == plain((window(NOON),))
    assert await client.xlen(keys.WINDOWS) == 1


async def test_symptoms_come_newest_first(store: Store) -> None:
    symptoms = [
        Symptom(
            kind=SymptomKind.NOTICE, subject="home", at=NOON + timedelta(seconds=i), detail=f"{i}"
        )
        for i in range(3)
    ]
    for symptom in symptoms:
        await store.add_symptom(symptom)
    assert await store.symptoms(limit=2) == (symptoms[2], symptoms[1])


async def test_a_reader_of_changes_hears_of_each_and_of_repetitions_never(store: Store) -> None:
    heard: list[Change] = []

    async def listen(after: str) -> None:
        async for change in store.changes(after):
            heard.append(change)
            if change.kind is ChangeKind.PROGRESS:
                return

    listener = asyncio.create_task(listen(await store.last_change()))
    await store.put_price(tick(0.05))
    await store.put_price(tick(0.05))
    await store.put_notice(notice())
    await store.put_progress(Progress(job=JobName("blast"), at=NOON, done=1, total=4))
    await asyncio.wait_for(listener, 60)
    assert [(change.kind, change.subject) for change in heard] == [
        (ChangeKind.PRICE, "home"),
        (ChangeKind.NOTICE, "home"),
        (ChangeKind.PROGRESS, "blast"),
    ]


async def test_commands_reach_a_daemon_that_starts_later_and_are_done_once(
    store: Store, token: int
) -> None:
    stop = Command(kind=CommandKind.STOP, at=NOON)
    approve = Command(kind=CommandKind.APPROVE, at=NOON, subject="p1", by="ada")
    await store.send_command(stop)
    await store.send_command(approve)
    first = await anext(store.commands())
    assert first.command == stop
    await store.finish_command(first.id, token)
    assert (await anext(store.commands())).command == approve


async def test_daemon_and_policies_say_how_they_are(store: Store) -> None:
    assert await store.status() is None
    status = DaemonStatus(pid=7, holder="h", mode="auto", started_at=NOON, at=NOON)
    policies = PoliciesStatus(
        at=NOON,
        in_force=(PolicyFile(name="p", source="p.yaml", mode="auto"),),
        rejected=("p.yaml:1:1: no",),
    )
    await store.put_status(status)
    await store.put_policies(policies)
    assert (await store.status(), await store.policies()) == (status, policies)


DAMAGE = [
    pytest.param(b"", id="nothing"),
    pytest.param(b"{", id="half a record"),
    pytest.param(b"null", id="null"),
    pytest.param(b"\xff\xfe", id="no text"),
    pytest.param(b"[" * 100_000, id="nested without end"),
    pytest.param(
        b'{"cloud":"x","at":"2030-01-01T00:00:00","dollars_per_vcpu_hour":1}', id="no time zone"
    ),
    pytest.param(
        b'{"cloud":"x","at":"2030-01-01T00:00:00Z","dollars_per_vcpu_hour":"dear"}', id="no number"
    ),
    *(
        pytest.param(
            b'{"cloud":"x","at":"2030-01-01T00:00:00Z","dollars_per_vcpu_hour":%b}' % price,
            id=f"a price of {price.decode()}",
        )
        for price in (b"NaN", b"Infinity", b"1e999")
    ),
]


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_fact_is_passed_over_and_told_once(
    store: Store, client: Redis, damage: bytes
) -> None:
    await store.put_price(tick(0.05))
    await client.hset(keys.PRICES, "x", damage)
    with capture_logs() as logs:
        assert set((await store.snapshot()).prices) == {"home"}
        await store.snapshot()
    assert [entry["event"] for entry in logs] == ["unreadable_fact_skipped"]


async def test_keys_of_a_foreign_type_neither_stop_a_reader_nor_a_writer(
    store: Store, client: Redis
) -> None:
    every = [
        value
        for name, value in vars(keys).items()
        if name.isupper() and name not in ("PREFIX", "FENCE", "LEASE", "VERSION")
    ]
    for key in every:
        await client.delete(key)
        await (client.sadd if key != keys.MATRIX else client.rpush)(key, "odd")
    await client.set(keys.VERSION, "odd")

    assert (await store.snapshot()).clouds == {}
    assert await store.windows(NOON) == ()
    assert await store.symptoms() == await store.outcomes() == await store.plans() == ()
    assert await store.status() is await store.policies() is await store.latest_plan() is None
    assert await store.move_progress() == ()

    await store.put_federation([HOME], [H1], [])
    await store.put_price(tick(0.05))
    await store.add_window(window(NOON))
    seen = await store.snapshot()
    assert seen.prices == {"home": tick(0.05)}
    assert seen.version > 0
    assert plain(await store.windows(NOON)) == plain((window(NOON),))


async def test_placements_on_what_is_not_there_are_left_out(store: Store) -> None:
    placement = Placement(
        host_of={VmName("v1"): HostName("nowhere"), VmName("ghost"): H1.name, VmName("v2"): H1.name}
    )
    await store.put_inventory([vm("v1"), vm("v2")], [], placement, [])
    assert (await store.snapshot()).placement.host_of == {"v2": "h1"}


@pytest.mark.parametrize("turns", range(12))
async def test_cancelling_a_reader_is_never_lost(store: Store, turns: int) -> None:
    """A cancellation that comes just as a request was sent must not be swallowed by the client."""
    after = await store.last_change()
    waiting = asyncio.ensure_future(anext(store.changes(after)))
    for _ in range(turns):
        await asyncio.sleep(0)
    waiting.cancel()
    done, _ = await asyncio.wait([waiting], timeout=30)
    assert done
    assert waiting.cancelled()


async def test_how_fast_a_vm_writes_outlives_what_the_hypervisors_say_and_ends_with_the_vm(
    store: Store,
) -> None:
    await put_vms(store, "v1", "v2")
    await store.put_samples(
        DirtyRate,
        [DirtyRate(vm=VmName(name), at=NOON, bytes_per_second=5e6) for name in ("v1", "v2")],
    )
    await put_vms(store, "v1", "v2")
    await store.drop_samples(DirtyRate, [VmName("v2")])

    rates = {name: vm.dirty_bytes_per_second for name, vm in (await store.snapshot()).vms.items()}
    assert rates == {"v1": 5e6, "v2": None}


async def test_what_disks_hold_outlives_what_the_hypervisors_say_and_ends_with_the_vm(
    store: Store,
) -> None:
    await put_vms(store, "v1", "v2")
    await store.put_samples(
        DiskUse, [DiskUse(vm=VmName(name), at=NOON, bytes=5) for name in ("v1", "v2")]
    )
    await put_vms(store, "v1", "v2")
    await store.drop_samples(DiskUse, [VmName("v2")])

    held = {name: vm.disk_bytes for name, vm in (await store.snapshot()).vms.items()}
    assert held == {"v1": 5, "v2": 0}
