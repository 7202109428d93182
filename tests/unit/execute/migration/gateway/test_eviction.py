"""More pages than may be kept: the oldest are forgotten at both ends, and nothing that was is referred to."""

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from tests.unit.execute.migration.gateway.hypervisors import (
    PATIENCE_SECONDS,
    assert_arrived,
    memory_stream,
    migrate,
    pages_of,
)
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites

MIB = 1 << 20
STORE = {"folder": "store", "memory": "8MiB", "total": "16MiB"}
MANY = 9_000
"""36 MiB of pages: more than twice what may be kept."""


async def send(a: Site, b: Site, vm: str, pages: list[bytes]) -> dict[str, object]:
    content = memory_stream(pages)
    migration = await open_way(a, b, vm, migration=f"{a.gateway.site}-{vm}")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert_arrived(await migrate(a, b, migration, content), content)
    return await a.client.ask("close", migration=migration)


async def kept(site: Site) -> dict[str, int]:
    (domain,) = (await site.client.ask("status"))["domains"]
    return {name: count for name, count in domain.items() if isinstance(count, int)}


def assert_bounded(found: dict[str, int]) -> None:
    """See that each direction keeps what it may, and half of that in memory, the rest on disk."""
    pages = (16 + 8) * MIB // 4096
    assert found["received_pages"] <= pages
    assert found["sent_pages"] <= pages
    assert found["memory_bytes"] <= 2 * 8 * MIB
    assert found["disk_bytes"] <= 2 * (16 + 8) * MIB


async def test_far_more_than_fits_arrives_and_what_is_kept_is_bounded(tmp_path: Path) -> None:
    pages = pages_of(1, MANY)
    recent = pages[-3000:]
    async with two_sites(tmp_path, store=STORE) as (a, b):
        with capture_logs() as logs:
            first = await send(a, b, "vm1", pages)
            second = await send(a, b, "vm2", recent)
            third = await send(a, b, "vm3", pages[:3000])
        for site in (a, b):
            found = await kept(site)
            assert_bounded(found)
            assert found["disk_bytes"] > 0
        async with asyncio.timeout(PATIENCE_SECONDS):  # news of what may be dropped is under way
            while (await kept(a))["sent_pages"] != (await kept(b))["received_pages"]:
                await asyncio.sleep(0.01)
        (domain,) = a.gateway.domains
        assert domain.sender.log.first > 0
    assert first["new_pages"] == MANY
    assert second["new_pages"] == 0
    assert third["new_pages"] == 3000
    assert not any(line["log_level"] in ("warning", "error") for line in logs)


async def test_both_directions_at_once_forget_and_nothing_is_missing(tmp_path: Path) -> None:
    """Each end refers to what the other has sent, while that is being forgotten."""
    pages = pages_of(1, MANY)
    async with two_sites(tmp_path, store=STORE) as (a, b):
        with capture_logs() as logs:
            await send(a, b, "vm0", pages[:3000])
            await send(b, a, "vm0", pages[:3000])
            for number in range(2):
                there = pages[number * 2000 :] + pages[:2000]
                back = pages[::-1] if number % 2 else pages[number * 1000 :]
                await asyncio.gather(
                    send(a, b, f"there{number}", there),
                    send(b, a, f"back{number}", back),
                )
        for site in (a, b):
            assert_bounded(await kept(site))
        for site in (a, b):
            (domain,) = site.gateway.domains
            assert domain.sender.log.first > 0
    assert not [line for line in logs if line["log_level"] in ("warning", "error")]
