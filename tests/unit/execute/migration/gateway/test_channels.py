"""Connections of hypervisors through two gateways: all bytes, both ways, whoever waits for whom."""

import asyncio
import resource
import socket
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

import pytest
from structlog.testing import capture_logs

from tests.unit.execute.migration.gateway.hypervisors import (
    PATIENCE_SECONDS,
    Destination,
    assert_arrived,
    connect_source,
    memory_stream,
    migrate,
    multifd_stream,
    pages_of,
)
from tests.unit.execute.migration.gateway.two_sites import open_way, two_sites
from transhume.execute.migration.coding.sender import Sender
from transhume.execute.migration.gateway import departures, reader
from transhume.execute.migration.gateway.credit import WINDOW_BYTES
from transhume.execute.migration.gateway.departure import MOST_CHANNELS
from transhume.execute.migration.machine import sockets
from transhume.execute.migration.machine.sockets import read_flow, readable

T = TypeVar("T")
MIB = 1 << 20


async def test_a_stream_arrives_byte_for_byte_and_so_does_its_answer(tmp_path: Path) -> None:
    content = memory_stream(pages_of(1, 500) * 2)
    async with two_sites(tmp_path) as (a, b):
        migration = await open_way(a, b)
        assert_arrived(await migrate(a, b, migration, content), content)
        sent = await a.client.ask("close", migration=migration)
    assert sent["raw_bytes"] == len(content)
    assert sent["cpu_seconds"] > 0
    assert (sent["new_pages"], sent["own_pages"], sent["broken"]) == (500, 500, None)


async def test_what_went_before_isnt_sent_again_in_either_direction(tmp_path: Path) -> None:
    """And what has come back meanwhile isn't either, though the link was open before."""
    first, second = pages_of(1, 300), pages_of(2, 300)
    async with two_sites(tmp_path) as (a, b):
        new_pages = []
        moves = [(a, b, first), (b, a, first), (a, b, first + second), (b, a, first + second)]
        for number, (source, destination, pages) in enumerate(moves):
            content = memory_stream(pages)
            migration = await open_way(source, destination, migration=f"m{number}")
            ends = await migrate(source, destination, migration, content)
            assert_arrived(ends, content)
            sent = await source.client.ask("close", migration=migration)
            new_pages.append(sent["new_pages"])
    assert new_pages == [300, 0, 300, 0]


async def test_a_channel_that_isnt_read_holds_up_no_other(tmp_path: Path) -> None:
    """A destination's multifd threads wait for the main channel at fixed points, with their sockets unread."""
    parked = multifd_stream(pages_of(1, WINDOW_BYTES // 4096 + 2000))
    main = memory_stream(pages_of(2, 4000))
    assert len(parked) > WINDOW_BYTES
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        migration = await open_way(a, b)
        destination = Destination(b, migration)
        main_out = await connect_source(a, migration)
        await main_out.send(main[:1], end=False)
        main_in = await destination.accept()
        parked_out = await connect_source(a, migration)
        filling = asyncio.create_task(parked_out.send(parked))
        parked_in = await destination.accept()
        await asyncio.sleep(0.3)  # let everything fill that can
        sending = asyncio.create_task(main_out.send(main[1:]))
        await main_in.receive()
        assert not filling.done()
        await parked_in.receive()
        await asyncio.gather(filling, sending)
        assert (main_in.content, main_in.complete) == (main, True)
        assert (parked_in.content, parked_in.complete) == (parked, True)
        for stream in (main_out, parked_out):
            stream.close()
        destination.close()


async def test_what_was_read_and_waits_to_be_sent_is_told(tmp_path: Path) -> None:
    content = multifd_stream(pages_of(1, WINDOW_BYTES // 4096 + 2000))
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        migration = await open_way(a, b)
        destination = Destination(b, migration)
        out = await connect_source(a, migration)
        sending = asyncio.create_task(out.send(content))
        arrived = await destination.accept()
        before: dict[str, Any] = {}
        while before != (told := await a.client.ask("progress", migration=migration)):
            before = told
            await asyncio.sleep(0.1)  # until nothing goes on, because nobody reads
        assert 0 < told["waiting_bytes"] < len(content) - told["transfer"]["raw_bytes"]
        await arrived.receive()
        await sending
        told = await a.client.ask("progress", migration=migration)
        assert (told["waiting_bytes"], told["transfer"]["raw_bytes"]) == (0, len(content))
        out.close()
        destination.close()


async def test_a_destination_that_dies_ends_its_own_migration_and_no_other(tmp_path: Path) -> None:
    content = memory_stream(pages_of(1, 6000))
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        dying, other = await open_way(a, b, "vm1"), await open_way(a, b, "vm2")
        destination = Destination(b, dying)
        source = await connect_source(a, dying)
        sending = asyncio.create_task(source.send(content))
        await destination.accept()
        undisturbed = asyncio.create_task(migrate(a, b, other, content))
        await asyncio.sleep(0.05)
        destination.close()
        await source.wait_until_broken()
        await sending
        assert_arrived(await undisturbed, content)
        told = await a.client.ask("close", migration=dying)
        assert told["broken"] == "b broke it off"
        source.close()
        again = await open_way(a, b, "vm1", migration="again")
        assert_arrived(await migrate(a, b, again, content), content)
        assert (await a.client.ask("close", migration=again))["new_pages"] == 0


async def test_a_migration_that_is_called_off_ends_itself_and_no_other(tmp_path: Path) -> None:
    """Frames that are on their way when it is called off still count for those after them."""
    content = memory_stream(pages_of(1, 6000))
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        for attempt in range(5):
            called_off = await open_way(a, b, "vm1", migration=f"m{attempt}")
            other = await open_way(a, b, "vm2", migration=f"o{attempt}")
            distinct = memory_stream(pages_of(10 + attempt, 3000))
            undisturbed = asyncio.create_task(migrate(a, b, other, content))
            destination = Destination(b, called_off)
            ours = await connect_source(a, called_off)
            sending = asyncio.create_task(ours.send(distinct))
            theirs = await destination.accept()
            await asyncio.sleep(0.02 * attempt)
            told = await a.client.ask("close", migration=called_off)
            assert told["broken"] == "the migration was closed"
            await asyncio.gather(sending, ours.receive(), theirs.receive())
            assert (ours.complete, theirs.complete) == (False, False)
            assert_arrived(await undisturbed, content)
            assert (await a.client.ask("close", migration=other))["broken"] is None
            ours.close()
            destination.close()


async def test_who_gets_the_descriptor_of_a_channel_that_was_broken_off_isnt_forgotten(
    tmp_path: Path,
) -> None:
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        migration = await open_way(a, b)
        destination = Destination(b, migration)
        source = await connect_source(a, migration)
        await source.send(b"Q", end=False)
        await (await destination.accept()).receive_exactly(1)
        a.gateway.close_route(migration)
        ours, theirs = socket.socketpair()  # of the numbers that are free first
        with ours, theirs:
            for here, there in ((ours, theirs), (theirs, ours)):
                waiting = asyncio.create_task(readable(here))
                await source.wait_until_broken()
                there.send(b"x")
                await waiting
        source.close()
        destination.close()


async def test_a_descriptor_is_nobody_elses_while_a_worker_reads_from_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, goes_on = threading.Event(), threading.Event()
    closed_too_early: asyncio.Queue[bool] = asyncio.Queue()
    loop = asyncio.get_running_loop()

    def read_slowly(connection: socket.socket, buffer: memoryview) -> memoryview:
        descriptor = Path(f"/proc/self/fd/{connection.fileno()}")
        before = descriptor.readlink()
        reading.set()
        goes_on.wait(PATIENCE_SECONDS)
        closed = not descriptor.is_symlink() or descriptor.readlink() != before
        loop.call_soon_threadsafe(closed_too_early.put_nowait, closed)
        return read_flow(connection, buffer)

    monkeypatch.setattr(reader, "read_flow", read_slowly)
    async with two_sites(tmp_path) as (a, b), asyncio.timeout(PATIENCE_SECONDS):
        migration = await open_way(a, b)
        source = await connect_source(a, migration)
        try:
            await source.send(b"Q", end=False)
            assert await asyncio.to_thread(reading.wait, PATIENCE_SECONDS)
            await a.client.ask("close", migration=migration)
            await source.wait_until_broken()
        finally:
            goes_on.set()
        assert not await closed_too_early.get()
        source.close()


async def test_a_fault_in_coding_ends_the_link_at_both_ends_and_the_next_one_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = memory_stream(pages_of(1, 3000))
    monkeypatch.setattr(Sender, "encode", failing(Sender.encode, at=2))
    async with two_sites(tmp_path) as (a, b):
        first = await open_way(a, b)
        _, theirs = await migrate(a, b, first, content)
        assert not theirs.complete
        assert (await a.client.ask("close", migration=first))["broken"] == "the gateway failed"
        second = await open_way(a, b, migration="m2")
        assert_arrived(await migrate(a, b, second, content), content)


def failing(function: Callable[..., T], *, at: int) -> Callable[..., T]:
    """Make of a function one that makes a mistake once, after its work is done."""
    calls = count()

    def fail_once(*words: Any, **more: Any) -> T:
        found = function(*words, **more)
        if next(calls) == at:
            raise RuntimeError("a mistake of ours")
        return found

    return fail_once


async def test_a_fault_in_coding_is_noticed_though_the_migration_has_been_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = memory_stream(pages_of(1, 3000))
    encode, encoding, go_on = departures._encode, threading.Event(), threading.Event()

    def held_then_failing(*words: Any) -> Any:
        encode(*words)
        encoding.set()
        go_on.wait(PATIENCE_SECONDS)
        raise RuntimeError("a mistake of ours")

    async with two_sites(tmp_path) as (a, b):
        first = await open_way(a, b)
        with monkeypatch.context() as patch:
            patch.setattr(departures, "_encode", held_then_failing)
            moving = asyncio.create_task(migrate(a, b, first, content))
            assert await asyncio.to_thread(encoding.wait, PATIENCE_SECONDS)
            link = a.gateway.routes[first].departures.link
            await a.client.ask("close", migration=first)
            go_on.set()
            assert not (await moving)[1].complete
            async with asyncio.timeout(PATIENCE_SECONDS):
                while link.lost is None:
                    await asyncio.sleep(0.01)
        second = await open_way(a, b, migration="m2")
        assert_arrived(await migrate(a, b, second, content), content)


@pytest.mark.parametrize("socket", ["ram", "disks"])
async def test_a_hypervisor_that_connects_when_the_link_is_lost_is_broken_off(
    tmp_path: Path, socket: str
) -> None:
    """Who waits to be greeted would wait for ever."""
    async with two_sites(tmp_path) as (a, b):
        migration = await open_way(a, b)
        a.gateway.routes[migration].departures.link.end("the WAN is cut")
        await asyncio.sleep(0)
        hypervisor = await connect_source(a, migration, socket)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await hypervisor.receive()
        assert not hypervisor.complete
        hypervisor.close()
        assert (await a.client.ask("close", migration=migration))["broken"] == "the WAN is cut"


async def test_a_fault_in_reading_ends_its_own_migration_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = memory_stream(pages_of(1, 3000))
    async with two_sites(tmp_path) as (a, b):
        first, second = [await open_way(a, b, vm) for vm in ("vm1", "vm2")]
        waiting = await connect_source(a, second)
        with monkeypatch.context() as patch:
            patch.setattr(reader, "prepare", failing(reader.prepare, at=2))
            _, theirs = await migrate(a, b, first, content)
        assert not theirs.complete
        assert a.gateway.routes[second].departures.link.lost is None
        waiting.close()
        third = await open_way(a, b, migration="m3")
        assert_arrived(await migrate(a, b, third, content), content)


async def test_a_stream_whose_source_dies_is_cut_short_and_never_made_up_for(
    tmp_path: Path,
) -> None:
    content = memory_stream(pages_of(1, 3000))
    async with two_sites(tmp_path) as (a, b):
        migration = await open_way(a, b)
        cut = content[: len(content) // 2]
        _, theirs = await migrate(a, b, migration, cut)
        assert theirs.content == cut


async def test_a_hypervisor_that_connects_while_no_file_can_be_opened_is_let_in_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_SHORT_SECONDS", 0.1)
    async with two_sites(tmp_path) as (a, b):
        migration = await open_way(a, b)
        destination = Destination(b, migration)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        source = await connect_source(a, migration)  # nobody has accepted it yet
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
            with capture_logs() as logs:
                await asyncio.sleep(0.25)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert {line["event"] for line in logs} == {"connection_waits"}
        content = memory_stream(pages_of(1, 10))
        sending = asyncio.create_task(source.send(content))
        theirs = await destination.accept()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await theirs.receive()
            await sending
        assert theirs.content == content
        source.close()
        destination.close()


async def test_a_hypervisor_that_connects_without_end_harms_its_own_migration_only(
    tmp_path: Path,
) -> None:
    async with two_sites(tmp_path) as (a, b):
        link = (await a.gateway.departures("b")).link
        migration = await open_way(a, b, "many")
        many = [await connect_source(a, migration) for _ in range(MOST_CHANNELS + 9)]
        for each in many[MOST_CHANNELS:]:
            await each.wait_until_broken()
        for each in many:
            each.close()
        await a.client.ask("close", migration=migration)
        content = memory_stream(pages_of(1, 10))
        other = await open_way(a, b, "other")
        assert_arrived(await migrate(a, b, other, content), content)
        assert link.lost is None
