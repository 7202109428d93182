"""Gateways whose disk is full, or fills while they work: migrations go on, with less that is known."""

import asyncio
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.unit.execute.migration.gateway.hypervisors import (
    PATIENCE_SECONDS,
    assert_arrived,
    memory_stream,
    migrate,
    pages_of,
)
from tests.unit.execute.migration.gateway.relay import relayed_sites
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from transhume.execute.migration.content import page_log

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: a small disk needs root"),
]

MIB = 1 << 20
DISK_BYTES = 256 * MIB
MANY = 12_000
"""47 MiB of pages, of which 8 MiB may be in memory."""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Have a disk that both gateways put their pages on, and others their own things."""
    folder = tmp_path / "disk"
    folder.mkdir()
    subprocess.run(
        ("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "small", str(folder)), check=True
    )
    yield folder
    subprocess.run(("umount", str(folder)), check=True)


def free_bytes(disk: Path) -> int:
    found = os.statvfs(disk)
    return found.f_bavail * found.f_frsize


def fill(disk: Path) -> Path:
    """Have others take all that is free on the disk."""
    path = disk / "others"
    with path.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, free_bytes(disk))
    return path


def store(disk: Path) -> dict[str, str]:
    return {"folder": str(disk / "store"), "memory": "8MiB", "total": "1GiB"}


async def send(a: Site, b: Site, vm: str, pages: list[bytes]) -> int:
    """Have a VM's memory arrive whole; return how many of its pages were new there."""
    content = memory_stream(pages)
    migration = await open_way(a, b, vm, migration=f"{a.gateway.site}-{vm}")
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert_arrived(await migrate(a, b, migration, content), content)
    closed = await a.client.ask("close", migration=migration)
    assert closed["broken"] is None
    return int(closed["new_pages"])


async def test_gateways_leave_room_on_a_disk_that_is_too_small(disk: Path, tmp_path: Path) -> None:
    async with two_sites(tmp_path, store=store(disk)) as (a, b):
        with capture_logs() as logs:
            for number in range(5):
                assert await send(a, b, f"vm{number}", pages_of(number, MANY)) == MANY
                assert await send(b, a, f"vm{number}", pages_of(10 + number, MANY)) == MANY
        assert free_bytes(disk) > DISK_BYTES // 40, "a twentieth, but for what is on its way"
        recent = pages_of(4, MANY)[-1000:]
        assert await send(a, b, "again", recent) == 0
    short = [line for line in logs if line["event"] == "store_short_of_room"]
    assert short
    assert all(line["folder"] == str(disk / "store") for line in short)
    assert not [line for line in logs if line["log_level"] == "error"]


async def test_links_that_are_lost_on_a_full_disk_leave_the_next_migration_its_room(
    disk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was to be forgotten is lost with them, and as long as it's kept there is no room."""
    monkeypatch.setattr(page_log, "_SEGMENTS_WITHOUT_A_PLACE", 4)
    async with relayed_sites(tmp_path, store=store(disk)) as (sites, a, b):
        fill(disk)
        for number in range(4):
            migration = await open_way(a, b, f"lost{number}")
            sending = asyncio.create_task(
                migrate(a, b, migration, memory_stream(pages_of(number, MANY)))
            )
            await sites.relays["b"].past(20 * MIB)
            sites.relays["b"].drop()
            ours, theirs = await sending
            assert not theirs.complete
            ours.close()
            await a.client.ask("close", migration=migration)
        for number in range(2):
            await send(a, b, f"after{number}", pages_of(number, MANY))
            await send(b, a, f"after{number}", pages_of(10 + number, MANY))


async def test_both_directions_at_once_on_a_full_disk(disk: Path, tmp_path: Path) -> None:
    """Each end refers to what the other has sent, while that is being forgotten."""
    pages = pages_of(1, MANY)
    async with two_sites(tmp_path, store=store(disk)) as (a, b):
        await send(a, b, "vm0", pages)
        await send(b, a, "vm0", pages)
        fill(disk)
        for number in range(2):
            await asyncio.gather(
                send(a, b, f"there{number}", pages_of(20 + number, MANY // 2) + pages[:4000]),
                send(b, a, f"back{number}", pages[::-1]),
            )


async def test_a_disk_that_others_have_filled_fails_no_migration(
    disk: Path, tmp_path: Path
) -> None:
    """Before anything was put there, and after: then what the gateways have taken is used again."""
    async with two_sites(tmp_path, store=store(disk)) as (a, b):
        others = fill(disk)
        for number in range(2):
            assert await send(a, b, f"full{number}", pages_of(number, MANY)) == MANY
        for domain in (*a.gateway.domains, *b.gateway.domains):
            assert domain.disk_bytes == 0

        others.unlink()
        assert await send(a, b, "free", pages_of(2, MANY)) == MANY
        assert await send(a, b, "known", pages_of(2, MANY)[-7000:]) == 0

        fill(disk)
        for number in range(2):
            assert await send(a, b, f"again{number}", pages_of(4 + number, MANY)) == MANY
            assert await send(b, a, f"back{number}", pages_of(6 + number, MANY)) == MANY
