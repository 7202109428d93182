"""What VMs at the destination have in memory needn't be sent there again: for others of their tenant only."""

import asyncio
import gc
import weakref
from collections.abc import Iterator, Sequence
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
from tests.unit.execute.migration.gateway.running_guest import running_guest
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from transhume.execute.migration.content.catalogue import Catalogue
from transhume.execute.migration.gateway.residents import Residents
from transhume.execute.migration.splitting import PAGE_BYTES

SHARED = pages_of(7, 4096)
OWN = pages_of(8, 100)


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """Libvirt's folder of process numbers, with a guest that runs: web1, of 16 MiB."""
    files = {name: tmp_path / name for name in ("memory", "image", "base", "log")}
    files["memory"].write_bytes(b"".join(SHARED))
    for name in ("image", "base", "log"):
        files[name].write_bytes(bytes(2 << 20))
    folder = tmp_path / "pids"
    folder.mkdir()
    with running_guest(*files.values()) as pid:
        (folder / "web1.pid").write_text(str(pid))
        yield folder


def sharing(pids: Path, tenant: str = "t", **store: object) -> dict[str, object]:
    return {
        "pids": str(pids),
        "residents": [{"vms": ["web*"], "tenant": tenant}],
        "store": {"folder": "store", **store},
    }


async def looked_at(site: Site) -> dict[str, Any]:
    """Wait until a gateway has looked at its VMs."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            found = (await site.client.ask("status"))["residents"]
            if found and found[0]["looks"]:
                result: dict[str, Any] = found[0]
                return result
            await asyncio.sleep(0.01)


async def sent_for(a: Site, b: Site, pages: Sequence[bytes], vm: str = "vm1") -> dict[str, Any]:
    migration = await open_way(a, b, vm)
    content = memory_stream(pages)
    assert_arrived(await migrate(a, b, migration, content), content)
    found: dict[str, Any] = await a.client.ask("close", migration=migration)
    return found


async def test_a_vm_brings_only_what_its_like_there_hasnt(tmp_path: Path, pids: Path) -> None:
    async with two_sites(tmp_path, **sharing(pids)) as (a, b):
        assert (await looked_at(b))["pages"] == len(SHARED)
        sent = await sent_for(a, b, [*SHARED[:500], *OWN])
    assert sent["site_pages"] == 500
    assert sent["new_pages"] == len(OWN)


async def test_another_tenants_vms_tell_nothing(tmp_path: Path, pids: Path) -> None:
    async with two_sites(tmp_path, **sharing(pids, tenant="other")) as (a, b):
        await looked_at(b)
        sent = await sent_for(a, b, SHARED[:50])
    assert (sent["site_pages"], sent["new_pages"]) == (0, 50)


async def test_what_is_found_later_is_known_to_the_next_move_over_the_same_link(
    tmp_path: Path, pids: Path
) -> None:
    number = (pids / "web1.pid").read_text()
    (pids / "web1.pid").unlink()
    async with two_sites(tmp_path, **sharing(pids)) as (a, b):
        before = await sent_for(a, b, SHARED[:50])
        (pids / "web1.pid").write_text(number)
        (rule,) = b.gateway.settings.residents
        await b.gateway.residents.look(rule)
        after = await sent_for(a, b, SHARED[50:100], vm="vm2")
    assert (before["site_pages"], before["new_pages"]) == (0, 50)
    assert (after["site_pages"], after["new_pages"]) == (50, 0)


async def test_what_a_link_refers_to_outlives_what_takes_its_place(
    tmp_path: Path, pids: Path
) -> None:
    room = len(SHARED) // 2
    store = {"residents": f"{room * PAGE_BYTES}B"}
    async with two_sites(tmp_path, **sharing(pids, **store)) as (a, b):
        assert (await looked_at(b))["full"]
        first = await sent_for(a, b, SHARED[:10])
        (rule,) = b.gateway.settings.residents
        await b.gateway.residents.look(rule)  # anew, because there was no room
        again = await sent_for(a, b, SHARED[10:20], vm="vm2")
    assert first["site_pages"] == again["site_pages"] == 10


async def test_what_counts_for_a_link_only_goes_with_it(tmp_path: Path, pids: Path) -> None:
    """Windows of 128 MiB, and what residents were found to have: of a site that doesn't come back, for ever."""
    async with two_sites(tmp_path, **sharing(pids)) as (a, b):
        await looked_at(b)
        await sent_for(a, b, [*SHARED[:10], *OWN])
        (sending,), (receiving,) = a.gateway.domains, b.gateway.domains
        assert receiving.receiver is not None
        residents = b.gateway.residents.of("t")
        held = [
            weakref.ref(each)
            for each in (sending.sender._window, receiving.receiver._window, residents)
        ]
        del residents
        b.gateway.residents.forget("t")
        (await a.gateway.departures("b")).link.end("the WAN is cut")
        async with asyncio.timeout(10):
            while any(each() is not None for each in held):
                await asyncio.sleep(0.05)
                gc.collect()
        again = await sent_for(a, b, OWN, vm="vm2")
    assert (again["own_pages"] + again["cluster_pages"], again["new_pages"]) == (len(OWN), 0)


async def test_a_vm_that_ends_meanwhile_is_passed_over(tmp_path: Path, pids: Path) -> None:
    (pids / "web0.pid").write_text("999999999")
    (pids / "web2.pid").write_text("")
    async with two_sites(tmp_path, **sharing(pids)) as (_, b):
        found = await looked_at(b)
    assert found["pages"] == len(SHARED)


async def test_without_being_asked_a_gateway_looks_at_nobody(tmp_path: Path, pids: Path) -> None:
    async with two_sites(tmp_path, pids=str(pids)) as (_, b):
        residents = Residents(b.gateway.settings, b.gateway.domains, b.gateway.relays)
        await residents.run()
        assert residents.of("t") is None
        assert residents.status() == []


async def test_what_is_known_of_images_is_gathered_once(
    tmp_path: Path, pids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of large images that takes a second, in which nothing else is done, at each look and each new link."""

    def gather(_tenant: str) -> list[Catalogue]:
        raise AssertionError("it's known by now")

    async with two_sites(tmp_path, **sharing(pids)) as (_, b):
        await looked_at(b)
        pages = b.gateway.residents.of("t")
        monkeypatch.setattr(b.gateway.domains, "catalogues_for", gather)
        (rule,) = b.gateway.settings.residents
        await b.gateway.residents.look(rule)
        assert b.gateway.residents.of("t") is pages
