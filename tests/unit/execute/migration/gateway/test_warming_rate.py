"""Memory that is sent ahead keeps to one rate a destination, and migrations beside it don't feel that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import pytest

from tests.unit.execute.migration.gateway.fake_time import FakeTime, HastyTime
from tests.unit.execute.migration.gateway.hypervisors import PATIENCE_SECONDS
from tests.unit.execute.migration.gateway.running_guest import running_guest
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from transhume.errors import GatewayFailed
from transhume.execute.migration.gateway.gangs import BURST_SECONDS, Gangs
from transhume.execute.migration.gateway.pace import SMALLEST_BATCH
from transhume.execute.migration.machine.sockets import listen, short_path

MEMORY_BYTES = 16 << 20
RATE = 1e6
VMS = ("vm1", "vm2")


@asynccontextmanager
async def sites_with_guests(folder: Path) -> AsyncIterator[tuple[Site, Site]]:
    """Have two sites; at the first run two guests with 16 MiB each that have nothing in common."""
    pids = folder / "pids"
    pids.mkdir()
    with ExitStack() as stack:
        for vm in VMS:
            files = [folder / f"{vm}-{name}" for name in ("memory", "image", "base", "log")]
            for file in files:
                file.write_bytes(b"")
            files[0].write_bytes(Random(vm).randbytes(MEMORY_BYTES))
            pid = stack.enter_context(running_guest(*files))
            (pids / f"{vm}.pid").write_text(str(pid))
        async with two_sites(folder, pids=str(pids)) as (a, b):
            yield a, b


async def begin(a: Site, b: Site, vm: str, **words: object) -> None:
    """Begin to warm a VM, for one scan."""
    admitted = await b.client.ask(
        "admit", migration=f"w-{vm}", vm=vm, tenant="t", source="a", warm=True
    )
    await a.client.ask(
        "warm",
        vm=vm,
        tenant="t",
        destination="b",
        ticket=admitted["ticket"],
        passes=1,
        **words,
    )


async def ended(a: Site) -> list[dict[str, Any]]:
    """Wait until all have ended; return what the gateway says of each."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not all(each["ended"] for each in await warming(a)):
            await asyncio.sleep(0.01)
    return await warming(a)


async def warming(a: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await a.client.ask("status"))["warming"]
    return found


async def test_all_vms_together_keep_to_the_rate_of_each(tmp_path: Path) -> None:
    async with sites_with_guests(tmp_path) as (a, b):
        time = HastyTime()
        a.gateway.gangs = Gangs(time.clock, time.after)
        for vm in VMS:
            await begin(a, b, vm, bytes_per_second=RATE)
        kept = await ended(a)
        gang = a.gateway.gangs._warming["b"]
    sent_bytes = sum(each["sent"]["wire_bytes"] for each in kept)
    last_piece = 256 << 10
    assert [each["ended"] for each in kept] == ["done", "done"]
    assert sent_bytes > 2 * MEMORY_BYTES
    assert sent_bytes - last_piece <= RATE * (time.now + BURST_SECONDS)
    assert gang.members == []


async def test_what_was_sent_is_told_when_it_is_stopped_and_nobody_waits_any_more(
    tmp_path: Path,
) -> None:
    """No time passes here: after the first piece, vm1 waits for it to be paid for."""
    async with sites_with_guests(tmp_path) as (a, b):
        time = FakeTime()
        a.gateway.gangs = Gangs(time.clock, time.after)
        await begin(a, b, "vm1", bytes_per_second=RATE)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (await warming(a))[0]["sent"]["wire_bytes"]:
                await asyncio.sleep(0.01)
        (before,) = await warming(a)
        told = await a.client.ask("cool", vm="vm1", destination="b")
        nothing = await a.client.ask("cool", vm="vm1", destination="b")
        gang = a.gateway.gangs._warming["b"]
        async with asyncio.timeout(PATIENCE_SECONDS):
            while gang.members:
                await asyncio.sleep(0.01)
    assert told == before["sent"]
    assert 0 < told["wire_bytes"] < MEMORY_BYTES
    assert nothing == {}


@pytest.mark.parametrize("migrates", [True, False], ids=["with a migration", "alone"])
async def test_a_low_rate_makes_no_migrations_pieces_small(tmp_path: Path, migrates: bool) -> None:
    async with sites_with_guests(tmp_path) as (a, b):
        time = HastyTime()
        a.gateway.gangs = Gangs(time.clock, time.after)
        departures = await a.gateway.departures("b")
        usual = departures._pace.batch_bytes
        if migrates:
            migration = await open_way(a, b, "vm9")
            listener = listen(b.folder / f"sockets/{migration}-ram")
            with short_path(a.folder / f"sockets/{migration}-ram") as name:
                _, writer = await asyncio.open_unix_connection(name)
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not departures._has_migrations():
                    await asyncio.sleep(0.01)
        await begin(a, b, "vm1", bytes_per_second=RATE / 10)
        await ended(a)
        assert departures._has_migrations() is migrates
        assert departures._pace.batch_bytes == (usual if migrates else SMALLEST_BATCH)
        if migrates:
            writer.close()
            listener.close()


@pytest.mark.parametrize("rate", [0, -1.0, "fast", float("inf")])
async def test_what_is_no_rate_is_refused(tmp_path: Path, rate: object) -> None:
    async with sites_with_guests(tmp_path) as (a, b):
        with pytest.raises(GatewayFailed, match="rate"):
            await begin(a, b, "vm1", bytes_per_second=rate)
        assert await warming(a) == []
