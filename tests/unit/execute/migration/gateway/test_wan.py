"""The WAN goes, or a gateway: both hypervisors see a broken connection, and the next attempt succeeds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

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
from tests.unit.execute.migration.gateway.relay import Relay, relayed_sites
from tests.unit.execute.migration.gateway.two_sites import Site, open_way

SILENCE_SECONDS = 1.5
PAGES = pages_of(1, 6000)
CONTENT = memory_stream(PAGES)
HALF = len(CONTENT) // 2


@asynccontextmanager
async def half_done(a: Site, b: Site) -> AsyncIterator[tuple[Stream, Stream]]:
    """Have a migration of which half has arrived, and of which more is on its way."""
    migration = await open_way(a, b, migration="broken")
    destination = Destination(b, migration)
    ours = await connect_source(a, migration)
    sending = asyncio.create_task(ours.send(CONTENT, end=False))
    theirs = await destination.accept()
    await theirs.receive_exactly(HALF)
    try:
        yield ours, theirs
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(theirs.receive(), ours.wait_until_broken(), sending)
        assert not theirs.complete
        assert theirs.content == CONTENT[: len(theirs.content)]
    finally:
        sending.cancel()
        ours.close()
        destination.close()


async def again(a: Site, b: Site) -> dict[str, object]:
    """Try once more; return what was sent."""
    migration = await open_way(a, b, migration="again")
    assert_arrived(await migrate(a, b, migration, CONTENT), CONTENT)
    return await a.client.ask("close", migration=migration)


def drop(relay: Relay) -> None:
    relay.drop()


def stall(relay: Relay) -> None:
    relay.stall()


@pytest.mark.parametrize("fault", [drop, stall], ids=["dropped", "stalled"])
async def test_when_the_wan_goes_the_next_attempt_goes_on_from_what_both_have(
    tmp_path: Path, fault
) -> None:
    async with relayed_sites(tmp_path, silence_seconds=SILENCE_SECONDS) as (sites, a, b):
        with capture_logs() as logs:
            async with half_done(a, b):
                fault(sites.relays["b"])
        events = {line["event"] for line in logs}
        assert {"migration_broken_off", "arrival_broken_off"} <= events
        sites.relays["b"].drop()
        sites.relays["b"].go_on()
        sent = await again(a, b)
    known = HALF // 4104 - 600
    assert isinstance(sent["new_pages"], int)
    assert sent["new_pages"] < len(PAGES) - known
    assert sent["own_pages"] == len(PAGES) - sent["new_pages"]


async def test_a_wan_that_comes_back_in_time_breaks_nothing(tmp_path: Path) -> None:
    async with relayed_sites(tmp_path, silence_seconds=20) as (sites, a, b):
        migration = await open_way(a, b)
        moving = asyncio.create_task(migrate(a, b, migration, CONTENT))
        await sites.relays["b"].past(1 << 20)
        sites.relays["b"].stall()
        await asyncio.sleep(0.5)
        sites.relays["b"].go_on()
        assert_arrived(await moving, CONTENT)


async def test_a_bit_that_turns_on_the_way_is_never_delivered(tmp_path: Path) -> None:
    async with relayed_sites(tmp_path) as (sites, a, b):
        relay = sites.relays["b"]
        async with half_done(a, b):
            relay.flip_at = relay.forwarded_bytes + 10_000
        sent = await again(a, b)
    assert isinstance(sent["own_pages"], int)
    assert sent["own_pages"] > 0


@pytest.mark.parametrize("name", ["a", "b"], ids=["source", "destination"])
async def test_after_a_gateways_restart_the_next_attempt_succeeds_from_scratch(
    tmp_path: Path, name: str
) -> None:
    async with relayed_sites(tmp_path) as (sites, a, b):
        async with half_done(a, b):
            await sites.end(name)
        found = {"a": a, "b": b} | {name: await sites.start(name)}
        sent = await again(found["a"], found["b"])
    assert (sent["new_pages"], sent["own_pages"]) == (len(PAGES), 0)


@pytest.mark.parametrize("name", ["a", "b"], ids=["source", "destination"])
async def test_after_a_gateways_restart_the_way_back_succeeds_too(
    tmp_path: Path, name: str
) -> None:
    """The one that goes on still has a log of pages of which the other knows nothing."""
    async with relayed_sites(tmp_path) as (sites, a, b):
        migration = await open_way(a, b)
        assert_arrived(await migrate(a, b, migration, CONTENT), CONTENT)
        await sites.end(name)
        found = {"a": a, "b": b} | {name: await sites.start(name)}
        for attempt in range(2):
            back = await open_way(found["b"], found["a"], migration=f"back{attempt}")
            assert_arrived(await migrate(found["b"], found["a"], back, CONTENT), CONTENT)
            sent = await found["b"].client.ask("close", migration=back)
            assert sent["new_pages"] == (0 if attempt else len(PAGES))
