"""How much is read and encoded at once, between two gateways with a slow link."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.unit.execute.migration.gateway.hypervisors import (
    PATIENCE_SECONDS,
    Destination,
    assert_arrived,
    connect_source,
    memory_stream,
    migrate,
    pages_of,
)
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from transhume.execute.migration.gateway.departure import Departure
from transhume.execute.migration.gateway.pace import most_batch_bytes
from transhume.execute.migration.splitting import PAGE_BYTES
from transhume.knowledge.model import Transfer

BYTES_PER_SECOND = 1.25e6
AT_ONCE = most_batch_bytes(BYTES_PER_SECOND)
SHARE = {"gang": "g", "bytes_per_second": BYTES_PER_SECOND}
KNOWN, NEW = pages_of(1, 2000), pages_of(2, 200)
BOTH = memory_stream([*KNOWN, *NEW])


@asynccontextmanager
async def sites_that_know(folder: Path) -> AsyncIterator[tuple[Site, Site, str]]:
    """Have two sites, what is known at both, and a slow way for another migration."""
    async with two_sites(folder) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        first = await open_way(a, b, migration="m1")
        assert_arrived(await migrate(a, b, first, memory_stream(KNOWN)), memory_stream(KNOWN))
        yield a, b, await open_way(a, b, migration="m2", share=SHARE)


async def test_known_memory_goes_in_large_pieces_and_new_in_small_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[Transfer] = []
    count = Departure.has_sent

    def counted(departure: Departure, transfer: Transfer, *, of_disks: bool) -> None:
        sent.append(transfer)
        count(departure, transfer, of_disks=of_disks)

    monkeypatch.setattr(Departure, "has_sent", counted)
    async with sites_that_know(tmp_path) as (a, b, second):
        sent.clear()
        assert_arrived(await migrate(a, b, second, BOTH), BOTH)
    assert sum(each.new_pages for each in sent) == len(NEW)
    assert max(each.raw_bytes for each in sent) > 1.25 * AT_ONCE
    assert max(each.new_pages * PAGE_BYTES + each.other_bytes for each in sent) <= 1.25 * AT_ONCE


async def test_a_migration_that_is_closed_between_two_parts_harms_no_other(tmp_path: Path) -> None:
    async with sites_that_know(tmp_path) as (a, b, second):
        departure = a.gateway.routes[second].departure
        destination = Destination(b, second)
        source = await connect_source(a, second)
        sending = asyncio.create_task(source.send(BOTH))
        while not (departure.sent.new_pages and departure.waiting_bytes):
            await asyncio.sleep(0.001)
        await a.client.ask("close", migration=second)
        third = await open_way(a, b, migration="m3")
        assert_arrived(await migrate(a, b, third, BOTH), BOTH)
        assert a.gateway.routes[third].departures.link.lost is None
        await sending
        for each in (source, destination):
            each.close()
