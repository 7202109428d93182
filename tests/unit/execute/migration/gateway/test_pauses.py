"""Guests that stand still, between two gateways: nobody else's memory is read or sent meanwhile."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.unit.execute.migration.gateway.hypervisors import (
    PATIENCE_SECONDS,
    Destination,
    Stream,
    assert_arrived,
    connect_source,
    memory_stream,
    migrate,
    pages_of,
)
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from tests.unit.execute.migration.stream.seeds import seed
from transhume.execute.migration.gateway import standstill
from transhume.execute.migration.gateway.departure import Departure
from transhume.execute.migration.gateway.turns import Urgency
from transhume.execute.migration.machine.sockets import connect, listen

FIRST, SECOND = memory_stream(pages_of(1, 300)), memory_stream(pages_of(2, 300))
SOON_SECONDS = 0.3


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but a guest's end lets others go on."""
    monkeypatch.setattr(standstill, "PATIENCE_SECONDS", PATIENCE_SECONDS)


def departure_of(site: Site, migration: str) -> Departure:
    return site.gateway.routes[migration].departure


async def tell(site: Site, migration: str, *, stands_still: bool) -> None:
    await site.client.ask("pause", migration=migration, stands_still=stands_still)


async def none_is_read(site: Site, migration: str) -> None:
    await asyncio.sleep(SOON_SECONDS)
    departure = departure_of(site, migration)
    assert departure.channels  # there is something to be read
    assert departure.read_bytes == 0


async def test_nobody_elses_memory_is_read_when_the_last_of_a_guests_has_been(
    tmp_path: Path,
) -> None:
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        stopped, running = await open_way(a, b, "vm1"), await open_way(a, b, "vm2")
        destination = Destination(b, stopped)
        stops = await connect_source(a, stopped)
        await stops.send(FIRST, end=False)
        arriving = await destination.accept()
        await arriving.receive_exactly(len(FIRST))
        going_on = asyncio.create_task(migrate(a, b, running, SECOND))
        await none_is_read(a, running)
        stops.connection.shutdown(socket.SHUT_WR)
        await arriving.receive()
        assert (arriving.content, arriving.complete) == (FIRST, True)
        arriving.close()
        assert_arrived(await going_on, SECOND)
        for each in (stops, destination):
            each.close()


async def test_a_daemon_says_so_before_that(tmp_path: Path) -> None:
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        stopped, running = await open_way(a, b, "vm1"), await open_way(a, b, "vm2")
        await tell(a, stopped, stands_still=True)
        going_on = asyncio.create_task(migrate(a, b, running, SECOND))
        await none_is_read(a, running)
        assert_arrived(await migrate(a, b, stopped, FIRST), FIRST)
        assert_arrived(await going_on, SECOND)


async def test_a_daemon_says_when_it_is_over(tmp_path: Path) -> None:
    share = {"gang": "g", "bytes_per_second": 1e9}
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        stopped = await open_way(a, b, "vm1", share=share)
        running = await open_way(a, b, "vm2", share=share)
        departure = departure_of(a, stopped)
        await tell(a, stopped, stands_still=True)
        assert departure.stopped
        assert departure.member is not None
        assert departure.member.stopped
        going_on = asyncio.create_task(migrate(a, b, running, SECOND))
        await none_is_read(a, running)
        await tell(a, stopped, stands_still=False)
        assert not departure.stopped
        assert not departure.member.stopped
        assert_arrived(await going_on, SECOND)


async def test_news_of_a_guest_that_has_gone_holds_nobody_up(tmp_path: Path) -> None:
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        gone, running = await open_way(a, b, "vm1"), await open_way(a, b, "vm2")
        assert_arrived(await migrate(a, b, gone, FIRST), FIRST)
        while departure_of(a, gone).channels:
            await asyncio.sleep(0.01)
        await tell(a, gone, stands_still=True)
        assert_arrived(await migrate(a, b, running, SECOND), SECOND)


async def test_a_piece_that_has_come_to_its_turn_waits_as_well(tmp_path: Path) -> None:
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        stopped, running = await open_way(a, b, "vm1"), await open_way(a, b, "vm2")
        departure = departure_of(a, running)
        async with a.gateway.routes[running].departures.link.turns.turn(lambda: Urgency.MEMORY):
            going_on = asyncio.create_task(migrate(a, b, running, SECOND))
            while not departure.waiting_bytes:
                await asyncio.sleep(0.01)
            await asyncio.sleep(SOON_SECONDS)  # it comes to wait for its turn
            await tell(a, stopped, stands_still=True)
        await asyncio.sleep(SOON_SECONDS)
        assert departure.sent.raw_bytes == 0
        assert_arrived(await migrate(a, b, stopped, FIRST), FIRST)
        assert_arrived(await going_on, SECOND)


async def test_what_was_read_of_others_goes_on_when_all_of_a_guest_is_sent(tmp_path: Path) -> None:
    """Though its hypervisor hasn't closed its connection yet, and the guest doesn't run yet."""
    complete = seed("plain.0")
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        stopped, other = await open_way(a, b, "vm1"), await open_way(a, b, "vm2")
        destination = Destination(b, stopped)
        stops = await connect_source(a, stopped)
        await stops.send(complete[:-1], end=False)
        arriving = await destination.accept()
        await arriving.receive_exactly(len(complete) - 1)
        still = departure_of(a, stopped).standstill
        assert not still.may_send(departure_of(a, other).number)
        await stops.send(complete[-1:], end=False)
        await still.until_others_are_sent(departure_of(a, other).number)
        assert departure_of(a, stopped).stopped
        for each in (stops, destination, arriving):
            each.close()
        await still.of_others(departure_of(a, other).number)


async def test_the_end_of_its_disks_isnt_that_of_a_guests_pause(tmp_path: Path) -> None:
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        migration = await open_way(a, b, "vm1")
        destination, disks = (
            Destination(b, migration),
            listen(b.folder / f"sockets/{migration}-disks"),
        )
        memory = await connect_source(a, migration)
        await memory.send(FIRST[:100_000], end=False)
        arriving = await destination.accept()
        disk = Stream(await connect(a.folder / f"sockets/{migration}-disks"))
        departure = departure_of(a, migration)
        while len(departure.channels) < 2:
            await asyncio.sleep(0.01)
        await tell(a, migration, stands_still=True)
        copied, _ = disks.accept()
        for each in (disk, copied):
            each.close()
        while len(departure.channels) == 2:
            await asyncio.sleep(0.01)
        assert departure.stopped
        for each in (memory, arriving, destination, disks):
            each.close()
        await departure.standstill.of_others(departure.number + 1)
