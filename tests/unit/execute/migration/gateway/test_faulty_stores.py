"""What a site has isn't what it was: one migration ends by that, and the next goes on without it."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.unit.execute.migration.gateway.hypervisors import (
    PATIENCE_SECONDS,
    assert_arrived,
    memory_stream,
    migrate,
    pages_of,
)
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from transhume.execute.migration.content.vault import Vault
from transhume.execute.migration.gateway.messages import Kind

PAGES = pages_of(7, 6000)
"""More than may be in memory of the store."""
STORE = {"folder": "store", "memory": "8MiB"}


async def arrives(a: Site, b: Site, vm: str, pages: list[bytes], tenant: str = "t") -> bool:
    """Say whether a migration arrives; what comes of one that doesn't is right as far as it goes."""
    content = memory_stream(pages)
    migration = await open_way(a, b, vm, tenant=tenant)
    async with asyncio.timeout(PATIENCE_SECONDS):
        ours, theirs = await migrate(a, b, migration, content)
    await a.client.ask("close", migration=migration)
    if theirs.complete:
        assert_arrived((ours, theirs), content)
    else:
        assert content.startswith(theirs.content)
    return theirs.complete


async def test_an_image_that_was_removed_fails_one_migration(tmp_path: Path) -> None:
    image = tmp_path / "image.raw"
    image.write_bytes(b"".join(PAGES))
    async with two_sites(tmp_path, images=[{"path": str(image)}]) as (a, b):
        image.unlink()
        assert not await arrives(a, b, "vm1", PAGES)
        assert await arrives(a, b, "vm2", PAGES)


async def test_an_image_that_was_changed_for_one_tenant_is_listed_to_no_other(
    tmp_path: Path,
) -> None:
    image = tmp_path / "image.raw"
    image.write_bytes(b"".join(PAGES))
    async with two_sites(tmp_path, images=[{"path": str(image)}]) as (a, b):
        assert await arrives(a, b, "vm0", PAGES[:1], tenant="known")
        image.write_bytes(b"".join(reversed(PAGES)))
        assert not await arrives(a, b, "vm1", PAGES)
        for tenant in ("known", "other"):
            assert await arrives(a, b, f"vm of {tenant}", PAGES, tenant=tenant)
        assert (await b.client.ask("status"))["images"] == []


async def test_a_store_whose_disk_forgets_fails_one_migration(tmp_path: Path) -> None:
    async with two_sites(tmp_path, store=STORE) as (a, b):
        assert await arrives(a, b, "vm1", PAGES)
        (domain,) = b.gateway.domains
        assert domain.receiver is not None
        vault = domain.receiver.log._vault
        assert isinstance(vault, Vault)
        vault._file.seek(0)
        vault._file.write(bytes(1 << 20))
        assert not await arrives(a, b, "vm2", PAGES)
        assert await arrives(a, b, "vm3", PAGES)


async def test_a_disk_that_hangs_holds_up_nobody_who_needs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word of what may be dropped comes while a segment is being written, and drops nothing until it is."""
    writes, goes_on = threading.Event(), threading.Event()
    put = Vault.put

    def hangs(vault: Vault, *segment: Any) -> None:
        writes.set()
        goes_on.wait(PATIENCE_SECONDS)
        put(vault, *segment)

    async with two_sites(tmp_path, store=STORE) as (a, b):
        assert await arrives(a, b, "vm1", PAGES[:10])
        (domain,) = b.gateway.domains
        assert domain.comes_by is not None
        monkeypatch.setattr(Vault, "put", hangs)
        arriving = asyncio.create_task(arrives(a, b, "vm2", PAGES))
        assert await asyncio.to_thread(writes.wait, PATIENCE_SECONDS)
        ends = threading.Timer(5.0, goes_on.set)
        ends.start()
        domain.comes_by.say_words(Kind.FORGOTTEN, 0, {"tenant": "t", "below": 1})
        for _ in range(20):
            await a.client.ask("status")
            await asyncio.sleep(0.02)
        assert not goes_on.is_set()
        goes_on.set()
        assert await arriving
    ends.cancel()
