"""A running guest's memory and its own images are known at the destination before anything moves."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

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
from tests.unit.execute.migration.gateway.running_guest import running_guest
from tests.unit.execute.migration.gateway.two_sites import (
    Site,
    free_port,
    open_way,
    site,
    two_sites,
    write_site,
)
from transhume.errors import GatewayFailed
from transhume.execute.migration.gateway import departures
from transhume.execute.migration.gateway import warming as warming_module
from transhume.execute.migration.machine.guest_images import find_images
from transhume.execute.migration.machine.hypervisors import Hypervisors

MEMORY_PAGES = 4096
IMAGE = pages_of(2, 600)
MIB = 1 << 20


@pytest.fixture
def guest(tmp_path: Path) -> Iterator[tuple[int, Path]]:
    """A guest that runs, with 16 MiB of memory and an image over a base; its number, and its image."""
    files = {name: tmp_path / name for name in ("memory", "image", "base", "log")}
    files["memory"].write_bytes(Random(1).randbytes(MEMORY_PAGES * 4096))
    files["image"].write_bytes(b"".join(IMAGE) + bytes(100 * 4096))
    files["base"].write_bytes(bytes(2 * MIB))
    files["log"].write_bytes(bytes(2 * MIB))
    with running_guest(*files.values()) as pid:
        yield pid, files["image"]


def test_a_guests_images_are_those_that_it_may_write_to_each_once(guest: tuple[int, Path]) -> None:
    pid, image = guest
    (found,) = find_images(pid)
    assert found.path.samefile(image)
    assert found.length == 700 * 4096


async def warm(a: Site, b: Site, **words: object) -> None:
    """Have vm1 warmed."""
    admitted = await b.client.ask(
        "admit", migration="w", vm="vm1", tenant="t", source="a", warm=True
    )
    await a.client.ask(
        "warm", vm="vm1", tenant="t", destination="b", ticket=admitted["ticket"], **words
    )


async def warming(a: Site) -> dict[str, Any]:
    """Return what the gateway says of it."""
    found: dict[str, Any] = (await a.client.ask("status"))["warming"][0]
    return found


async def warmed(a: Site, b: Site, **words: object) -> dict[str, Any]:
    """Warm vm1 once; return what the gateway says of it."""
    await warm(a, b, passes=1, **words)
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not (await warming(a))["ended"]:
            await asyncio.sleep(0.01)
    return await warming(a)


async def scans(a: Site, count: int) -> None:
    """Wait until its memory was scanned so often."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while (await warming(a))["scans"] < count:
            await asyncio.sleep(0.01)


@asynccontextmanager
async def sites_with(folder: Path, pid: int, **changes: object) -> AsyncIterator[tuple[Site, Site]]:
    """Have two sites, and vm1 at the first."""
    pids = folder / "pids"
    pids.mkdir()
    (pids / "vm1.pid").write_text(str(pid))
    async with two_sites(folder, pids=str(pids), **changes) as (a, b):
        yield a, b


@pytest.mark.parametrize(
    ("words", "image_pages"),
    [
        pytest.param({"disks": True}, 600, id="asked for"),
        pytest.param({}, 0, id="not asked for"),
        pytest.param({"disks": True, "most_wire_bytes": 24 * MIB}, 0, id="more than half is spent"),
    ],
)
async def test_images_follow_the_memory_within_half_of_the_budget(
    tmp_path: Path, guest: tuple[int, Path], words: dict[str, object], image_pages: int
) -> None:
    async with sites_with(tmp_path, guest[0]) as (a, b):
        kept = await warmed(a, b, **words)
        migration = await open_way(a, b)
        content = memory_stream(IMAGE)
        assert_arrived(await migrate(a, b, migration, content), content)
        sent = await a.client.ask("close", migration=migration)
    assert (kept["ended"], kept["broke_off"]) == ("done", False)
    assert kept["scanned_pages"] == MEMORY_PAGES
    assert (kept["known_pages"], kept["image_pages"]) == (MEMORY_PAGES, image_pages)
    assert sent["own_pages"] == image_pages


async def test_memory_is_not_scanned_while_its_hypervisor_sends_it(
    tmp_path: Path, guest: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warming_module, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(warming_module, "_REST", 0.0)
    content = memory_stream(IMAGE)
    async with sites_with(tmp_path, guest[0]) as (a, b):
        await warm(a, b)
        await scans(a, 1)
        migration = await open_way(a, b)
        destination = Destination(b, migration)
        source = await connect_source(a, migration)
        await source.send(content[:-1], end=False)
        arriving = await destination.accept()
        await arriving.receive_exactly(len(content) - 1)
        before = (await warming(a))["scans"]
        await asyncio.sleep(0.3)
        assert (await warming(a))["scans"] == before
        await a.client.ask("close", migration=migration)  # it is broken off
        await scans(a, before + 1)
        for each in (source, destination):
            each.close()


@pytest.mark.parametrize(
    ("step", "fault"),
    [
        pytest.param("_encode", OSError(28, "No space left on device"), id="a full disk"),
        pytest.param("_encode", RuntimeError("the gateway failed"), id="a mistake in coding"),
        pytest.param("prepare", RuntimeError("the gateway failed"), id="a mistake in hashing"),
    ],
)
async def test_a_fault_ends_it_with_its_reason_and_moves_go_on(
    tmp_path: Path,
    guest: tuple[int, Path],
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    fault: Exception,
) -> None:
    def fail(*_piece: Any) -> Any:
        raise fault

    content = memory_stream(IMAGE)
    async with sites_with(tmp_path, guest[0]) as (a, b):
        with monkeypatch.context() as patch:
            patch.setattr(departures, step, fail)
            assert (await warmed(a, b))["ended"] == str(fault)
        assert_arrived(await migrate(a, b, await open_way(a, b), content), content)


async def test_it_ends_with_its_link_though_it_waits_for_credit(
    tmp_path: Path, guest: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(departures.Credit, "give", lambda *_: None)
    monkeypatch.setattr(departures, "WINDOW_BYTES", 1 * MIB)
    async with sites_with(tmp_path, guest[0]) as (a, b):
        await warm(a, b)
        link = (await a.gateway.departures("b")).link
        await asyncio.sleep(0.5)
        assert (await warming(a))["sent"]["raw_bytes"] < 4 * MIB
        monkeypatch.undo()
        link.end("the WAN is cut")
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (found := (await warming(a)))["ended"]:
                await asyncio.sleep(0.01)
        assert (found["ended"], found["broke_off"]) == ("the WAN is cut", True)


async def test_it_can_be_stopped_while_a_piece_is_encoded_and_the_link_stays(
    tmp_path: Path, guest: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    encode, encoding, go_on = departures._encode, threading.Event(), threading.Event()

    def held(*arguments: Any) -> Any:
        encoding.set()
        go_on.wait(PATIENCE_SECONDS)
        return encode(*arguments)

    monkeypatch.setattr(departures, "_encode", held)
    async with sites_with(tmp_path, guest[0]) as (a, b):
        await warm(a, b)
        assert await asyncio.to_thread(encoding.wait, PATIENCE_SECONDS)
        link = (await a.gateway.departures("b")).link
        await a.client.ask("cool", vm="vm1", destination="b")
        go_on.set()
        content = memory_stream(IMAGE)
        assert_arrived(await migrate(a, b, await open_way(a, b), content), content)
        assert link.lost is None


async def test_of_more_memory_than_a_destination_keeps_nothing_counts_as_known(
    tmp_path: Path, guest: tuple[int, Path]
) -> None:
    """Not after the first scan either: it goes through all of it in order, as the next and a move do."""
    store = {"folder": "store", "memory": "4MiB", "total": "8MiB"}
    async with sites_with(tmp_path, guest[0], store=store) as (a, b):
        kept = await warmed(a, b)
    assert (kept["scanned_pages"], kept["known_pages"]) == (MEMORY_PAGES, 0)


async def test_what_a_destination_forgot_is_told_no_more(
    tmp_path: Path, guest: tuple[int, Path]
) -> None:
    pids = tmp_path / "pids"
    pids.mkdir()
    (pids / "vm1.pid").write_text(str(guest[0]))
    ports = {"a": free_port(), "b": free_port()}
    paths = {name: write_site(tmp_path, name, ports, pids=str(pids)) for name in ports}
    async with site(paths["a"]) as a:
        async with site(paths["b"]) as b:
            kept = await warmed(a, b, disks=True)
            assert (kept["known_pages"], kept["image_pages"]) == (MEMORY_PAGES, 600)
            (domain,) = a.gateway.domains
            forgotten = weakref.ref(domain.sender)
        async with site(paths["b"]) as b:
            await open_way(a, b, "vm2")
            kept = await warming(a)
            gc.collect()
            assert forgotten() is None, "it has an index and a window of hundreds of megabytes"
    assert (kept["known_pages"], kept["image_pages"]) == (0, 0)


async def test_of_a_guest_that_is_gone_nothing_is_told(
    tmp_path: Path, guest: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it runs next, nobody knows what was sent from here."""
    monkeypatch.setattr(warming_module, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(warming_module, "_REST", 0.0)
    async with sites_with(tmp_path, guest[0]) as (a, b):
        await warm(a, b)
        await scans(a, 1)
        assert (await warming(a))["known_pages"] == MEMORY_PAGES
        (tmp_path / "pids" / "vm1.pid").unlink()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (kept := await warming(a))["ended"]:
                await asyncio.sleep(0.01)
    assert kept["known_pages"] == 0


async def test_it_is_scanned_more_often_than_its_size_fits_into_what_was_admitted(
    tmp_path: Path, guest: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rules of a destination say how large VMs may be, and not for how long they may be kept warm."""
    monkeypatch.setattr(warming_module, "PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(warming_module, "_REST", 0.0)
    admit = [{"sources": ["*"], "at_most": "24MiB"}]
    async with sites_with(tmp_path, guest[0], admit=admit) as (a, b):
        await warm(a, b)
        await scans(a, 4)
        assert not (await warming(a))["ended"]


async def test_no_more_crosses_ahead_of_a_move_than_was_admitted(
    tmp_path: Path, guest: tuple[int, Path]
) -> None:
    admit = [{"sources": ["*"], "at_most": "8MiB"}]
    async with sites_with(tmp_path, guest[0], admit=admit) as (a, b):
        kept = await warmed(a, b)
    assert kept["scans"] == 0
    assert "broke it off" in kept["ended"]


async def held_up(a: Site, monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Have the gateway at a wait, before it reads any VM's memory, until the event is set."""
    may_go_on = asyncio.Event()
    having = a.gateway.relays.having

    async def slowly(vm: str) -> Hypervisors:
        await may_go_on.wait()
        return await having(vm)

    monkeypatch.setattr(a.gateway.relays, "having", slowly)
    return may_go_on


async def test_who_is_asked_for_twice_at_once_is_kept_warm_once(
    tmp_path: Path, guest: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sites_with(tmp_path, guest[0]) as (a, b):
        may_go_on = await held_up(a, monkeypatch)
        both = [asyncio.create_task(warm(a, b)) for _ in range(2)]
        await asyncio.sleep(0.1)
        may_go_on.set()
        refused, begun = await asyncio.gather(*both, return_exceptions=True)
        assert isinstance(refused, GatewayFailed)
        assert not isinstance(begun, BaseException)
        (kept,) = (await a.client.ask("status"))["warming"]
        assert not kept["ended"]
        departures = await a.gateway.departures("b")
        assert len(departures._departures) == 1


async def test_who_is_to_be_warm_no_more_before_it_began_never_is(
    tmp_path: Path, guest: tuple[int, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    async with sites_with(tmp_path, guest[0]) as (a, b):
        may_go_on = await held_up(a, monkeypatch)
        beginning = asyncio.create_task(warm(a, b))
        await asyncio.sleep(0.1)
        await a.client.ask("cool", vm="vm1", destination="b")
        may_go_on.set()
        with pytest.raises(GatewayFailed, match="any more"):
            await beginning
        assert not (await a.client.ask("status"))["warming"]
