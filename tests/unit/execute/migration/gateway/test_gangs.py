"""One budget for the migrations of a gang, and who goes first among them."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.execute.migration.gateway.fake_time import FakeTime, HastyTime
from tests.unit.execute.migration.gateway.hypervisors import (
    assert_arrived,
    memory_stream,
    migrate,
    pages_of,
)
from tests.unit.execute.migration.gateway.two_sites import open_way, two_sites
from transhume.errors import GatewayFailed
from transhume.execute.migration.gateway.gangs import BURST_SECONDS, Bucket, Gang, Gangs, Member
from transhume.execute.migration.transport import Share
from transhume.knowledge.model import Transfer

RATE = 1000.0
PIECE = Transfer(raw_bytes=200, wire_bytes=100)


@given(
    pieces=st.lists(st.tuples(st.floats(0, 5), st.integers(0, 3000)), max_size=40),
    rate=st.floats(10, 1e5),
)
def test_in_any_stretch_of_time_no_more_passes_than_the_rate_gives(pieces, rate: float) -> None:
    time = FakeTime()
    bucket = Bucket(time.clock)
    bucket.bytes_per_second = rate
    passed: list[tuple[float, int]] = []
    for idle, amount in pieces:
        time.now += idle
        time.now += bucket.wait_seconds()
        if bucket.wait_seconds() < 1e-9:
            passed.append((time.now, amount))
            bucket.spend(amount)
    for first, (began, _) in enumerate(passed):
        sent = 0
        for at, amount in passed[first:]:
            assert sent <= rate * (at - began + BURST_SECONDS) * 1.000001 + 1
            sent += amount


def test_a_bucket_without_a_rate_never_makes_wait() -> None:
    bucket = Bucket(FakeTime().clock)
    bucket.spend(1 << 40)
    assert bucket.wait_seconds() == 0.0


async def send(member: Member, pieces: int, went: list[Member]) -> None:
    """Send pieces one after the other, as a channel does."""
    for _ in range(pieces):
        async with member.passage():
            went.append(member)
            await asyncio.sleep(0)
            member.has_sent(PIECE)


async def run(time: FakeTime, *sending: "asyncio.Task[None]") -> None:
    """Let time pass until all have sent."""
    for _ in range(100_000):
        await asyncio.sleep(0)
        if all(each.done() for each in sending):
            break
        # Time passes only when nobody can do anything: pieces take none.
        for _ in range(10):
            await asyncio.sleep(0)
        time.pass_on()
    await asyncio.wait_for(asyncio.gather(*sending), 5)


async def test_a_gang_keeps_to_the_sum_of_its_shares() -> None:
    time, went = FakeTime(), []
    gang = Gang(time.clock, time.after)
    members = [gang.join(RATE / 4) for _ in range(4)]
    await run(time, *(asyncio.create_task(send(each, 10, went)) for each in members))
    assert len(went) == 40
    assert time.now == pytest.approx((40 - 1) * 100 / RATE, rel=0.01)


async def test_what_a_member_leaves_of_the_budget_is_not_the_others() -> None:
    """Another move may have its slot of the link by then."""
    time, went = FakeTime(), []
    gang = Gang(time.clock, time.after)
    one, other = gang.join(RATE / 2), gang.join(RATE / 2)
    other.leave()
    await run(time, asyncio.create_task(send(one, 10, went)))
    assert time.now == pytest.approx(9 * 100 / (RATE / 2), rel=0.01)


async def test_members_of_unlike_size_end_together() -> None:
    time, went = FakeTime(), []
    gang = Gang(time.clock, time.after)
    sizes = [30, 10, 10, 10]
    members = [gang.join(RATE / 4) for _ in sizes]
    for member, size in zip(members, sizes, strict=True):
        member.expect(size * PIECE.raw_bytes)
    sending = [
        asyncio.create_task(send(member, size, went))
        for member, size in zip(members, sizes, strict=True)
    ]
    await run(time, *sending)
    ends = [len(went) - went[::-1].index(member) for member in members]
    assert min(ends) >= 0.9 * len(went), "in turns, the small ones would end after two thirds"


async def test_where_nothing_limits_them_who_is_behind_is_waited_for() -> None:
    """Its next piece is ready only a moment after the one before it has passed."""
    time, went = FakeTime(), []
    gang = Gang(time.clock, time.after)
    behind, ahead = gang.join(None), gang.join(None)
    behind.expect(30 * PIECE.raw_bytes)
    ahead.expect(10 * PIECE.raw_bytes)
    sending = [asyncio.create_task(send(m, n, went)) for m, n in ((behind, 30), (ahead, 10))]
    await run(time, *sending)
    assert [each is ahead for each in went[:20]].count(True) <= 7, "taking turns, it would be 10"


async def test_a_guest_that_stands_still_goes_first() -> None:
    time, went = FakeTime(), []
    gang = Gang(time.clock, time.after)
    others = [gang.join(RATE / 4) for _ in range(3)]
    stopped = gang.join(RATE / 4)
    stopped.expect(PIECE.raw_bytes)
    stopped.has_sent(Transfer(raw_bytes=PIECE.raw_bytes))  # it is furthest ahead
    stopped.stopped = True
    sending = [asyncio.create_task(send(each, 10, went)) for each in (*others, stopped)]
    await run(time, *sending)
    assert went[1:11] == [stopped] * 10


async def test_nobody_is_overtaken_without_end() -> None:
    """One that never gets ahead, because its guest writes faster, keeps none of the others."""
    time, went = FakeTime(), []
    gang = Gang(time.clock, time.after)
    writer, quiet = gang.join(RATE / 2), gang.join(RATE / 2)
    quiet.expect(PIECE.raw_bytes)
    quiet.has_sent(Transfer(raw_bytes=PIECE.raw_bytes))
    sending = [asyncio.create_task(send(m, n, went)) for m, n in ((writer, 200), (quiet, 10))]
    await run(time, *sending)
    assert went.index(quiet, went.index(quiet) + 1) < 15
    assert [each is quiet for each in went[:100]].count(True) == 10


async def test_who_leaves_waits_for_nothing_any_more() -> None:
    time = FakeTime()
    gang = Gang(time.clock, time.after)
    one = gang.join(RATE)
    one.has_sent(Transfer(wire_bytes=10_000_000))
    waiting = asyncio.create_task(send(one, 1, []))
    await asyncio.sleep(0)
    one.leave()
    await asyncio.wait_for(waiting, 5)


async def test_who_gives_up_waiting_keeps_nobody_from_their_turn() -> None:
    time, went = FakeTime(), []
    gang = Gang(time.clock, time.after)
    one, other = gang.join(RATE), gang.join(RATE)
    sending = [asyncio.create_task(send(m, 3, went)) for m in (one, other, one)]
    await asyncio.sleep(0)
    sending[1].cancel()
    sending[0].cancel()
    await run(time, sending[2])
    assert went.count(one) >= 3


def test_gangs_are_kept_apart_by_name_and_by_where_they_go() -> None:
    time = FakeTime()
    gangs = Gangs(time.clock, time.after)
    share = Share(gang="p/g", bytes_per_second=RATE)
    here, there = gangs.join("b", share), gangs.join("c", share)
    mate = gangs.join("b", share)
    assert mate._gang is here._gang
    assert there._gang is not here._gang
    assert here._gang.bucket.bytes_per_second == 2 * RATE


def test_of_the_rates_for_memory_sent_ahead_to_a_peer_the_lowest_counts() -> None:
    time = FakeTime()
    gangs = Gangs(time.clock, time.after)
    migration = gangs.join("b", Share(gang="p/g", bytes_per_second=RATE))
    unlimited, slow, slower = (gangs.join_warming("b", rate) for rate in (None, RATE, RATE / 2))
    elsewhere = gangs.join_warming("c", None)
    bucket = unlimited._gang.bucket
    assert slow._gang is slower._gang is unlimited._gang
    assert bucket.bytes_per_second == RATE / 2
    slower.leave()
    assert bucket.bytes_per_second == RATE
    slow.leave()
    assert bucket.bytes_per_second == elsewhere._gang.bucket.bytes_per_second == float("inf")
    assert migration._gang.bucket.bytes_per_second == RATE


async def test_a_migration_keeps_to_its_share_on_the_wire(tmp_path: Path) -> None:
    content = memory_stream(pages_of(7, 700))
    async with two_sites(tmp_path) as (a, b):
        time = HastyTime()
        a.gateway.gangs = Gangs(time.clock, time.after)
        share = {"gang": "p1/g1", "bytes_per_second": 1e6}
        migration = await open_way(a, b, share=share)
        ((status,), told) = (
            (await a.client.ask("status"))["routes"],
            await a.client.ask("progress", migration=migration, remaining_bytes=1 << 20),
        )
        assert_arrived(await migrate(a, b, migration, content), content)
        sent = await a.client.ask("close", migration=migration)
    assert status["share"] == share
    assert told["transfer"]["raw_bytes"] == 0
    last_piece = 256 << 10
    assert sent["wire_bytes"] > 700 * 4096
    assert sent["wire_bytes"] - last_piece <= 1e6 * (time.now + BURST_SECONDS)


async def test_where_the_budget_is_the_narrow_place_what_is_new_goes_compressed(
    tmp_path: Path,
) -> None:
    """The link itself is never waited for, and the compressor is slower than it."""
    content = memory_stream([bytes([n % 251, n // 251]) * 2048 for n in range(1, 8001)])
    async with two_sites(tmp_path) as (a, b):
        time = HastyTime()
        a.gateway.gangs = Gangs(time.clock, time.after)
        migration = await open_way(a, b, share={"gang": "p1/g1", "bytes_per_second": 1e5})
        departures = a.gateway.routes[migration].departures
        assert_arrived(await migrate(a, b, migration, content), content)
        assert departures._pace.level is not None


async def test_a_broken_route_leaves_its_gang(tmp_path: Path) -> None:
    async with two_sites(tmp_path) as (a, b):
        migration = await open_way(a, b, share={"gang": "p1/g1", "bytes_per_second": 1.0})
        member = a.gateway.routes[migration].departure.member
        assert member is not None
        await a.client.ask("close", migration=migration)
        assert member._gang.members == []


@pytest.mark.parametrize(
    "share",
    [{"gang": "g", "bytes_per_second": 0}, {"gang": 1, "bytes_per_second": 1.0}, "half", {}],
    ids=["nothing", "no name", "a word", "empty"],
)
async def test_what_is_no_share_is_refused(tmp_path: Path, share: object) -> None:
    async with two_sites(tmp_path) as (a, b):
        with pytest.raises(GatewayFailed, match="share"):
            await open_way(a, b, share=share)
