"""A site's gateway serves the hypervisors of its other hosts through relays."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager, suppress
from pathlib import Path, PurePosixPath
from random import Random

import pytest
from structlog.testing import capture_logs

from tests.unit.execute.migration.gateway.hypervisors import (
    PATIENCE_SECONDS,
    Destination,
    assert_arrived,
    connect_source,
    memory_stream,
    migrate,
    pages_of,
)
from tests.unit.execute.migration.gateway.relayed_host import (
    Host,
    connected,
    relayed_host,
    write_host,
)
from tests.unit.execute.migration.gateway.running_guest import running_guest
from tests.unit.execute.migration.gateway.test_warming import warmed
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from transhume.errors import GatewayFailed
from transhume.execute.migration.gateway import relays
from transhume.execute.migration.machine.guest_memory import NoGuestMemory
from transhume.execute.migration.machine.hypervisors import Part
from transhume.execute.migration.machine.sockets import listen, shut_writing
from transhume.execute.migration.relaying import protocol, relay
from transhume.execute.migration.relaying.configuration import load_relay
from transhume.execute.migration.relaying.protocol import (
    BrokenOff,
    Words,
    make_ready,
    read_frame,
    read_words,
    send_frame,
)
from transhume.execute.migration.relaying.relay import Relay, load_host_identity, run_relay
from transhume.execute.migration.relaying.splice import splice
from transhume.execute.migration.trust.identity import load_identity
from transhume.execute.migration.trust.peers import PeerKind

PAGES = pages_of(3, 3000)
STREAM = memory_stream(PAGES)
SEEN = "/run/libvirt/transhume"


@asynccontextmanager
async def four_hosts(
    folder: Path, **changes: object
) -> AsyncIterator[tuple[Site, Site, Host, Host]]:
    """Have sites a and b, each with another host beside its gateway's: a2 and b2."""
    async with (
        two_sites(folder, hosts=["a2", "b2"], **changes) as (a, b),
        relayed_host(a, "a2") as a2,
        relayed_host(b, "b2") as b2,
    ):
        yield a, b, a2, b2


async def open_from(source: Site, destination: Site, *hosts: str | None, vm: str = "vm1") -> str:
    """Open a way from one host to another; None is the gateway's own."""
    migration = f"m-{vm}"
    admitted = await destination.client.ask(
        "admit", migration=migration, vm=vm, tenant="t", source="a", host=hosts[1]
    )
    await source.client.ask(
        "open",
        migration=migration,
        vm=vm,
        tenant="t",
        destination="b",
        ticket=admitted["ticket"],
        host=hosts[0],
    )
    return migration


# --- migrations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("ends", [("a2", "b2"), (None, "b2"), ("a2", None), ("unheard-of", None)])
async def test_a_migration_goes_from_any_host_to_any_other(
    tmp_path: Path, ends: tuple[str | None, str | None]
) -> None:
    async with four_hosts(tmp_path) as (a, b, a2, b2):
        migration = await open_from(a, b, *ends)
        source = a2 if ends[0] == "a2" else a
        destination = b2 if ends[1] == "b2" else b
        assert_arrived(await migrate(source, destination, migration, STREAM), STREAM)
        sent = await a.client.ask("close", migration=migration)
    assert (sent["new_pages"], sent["broken"]) == (len(PAGES), None)
    assert not list((source.folder / "sockets").glob(f"{migration}*"))


async def test_pages_cross_once_whichever_host_they_come_from(tmp_path: Path) -> None:
    async with four_hosts(tmp_path) as (a, b, a2, b2):
        first = await open_from(a, b, None, "b2", vm="vm1")
        assert_arrived(await migrate(a, b2, first, STREAM), STREAM)
        second = await open_from(a, b, "a2", None, vm="vm2")
        assert_arrived(await migrate(a2, b, second, STREAM), STREAM)
        sent = await a.client.ask("close", migration=second)
    assert (sent["new_pages"], sent["cluster_pages"]) == (0, len(PAGES))


async def test_a_hypervisor_that_goes_away_breaks_off_its_migration_and_no_other(
    tmp_path: Path,
) -> None:
    async with four_hosts(tmp_path) as (a, b, a2, b2):
        doomed = await open_from(a, b, "a2", "b2", vm="doomed")
        receiving = Destination(b2, doomed)
        ours = await connect_source(a2, doomed)
        await ours.send(STREAM[:100_000], end=False)
        theirs = await receiving.accept()
        await theirs.receive_exactly(50_000)
        theirs.close()
        await ours.send(STREAM[100_000:], end=False)
        await ours.wait_until_broken()
        healthy = await open_from(a, b, "a2", "b2", vm="healthy")
        assert_arrived(await migrate(a2, b2, healthy, STREAM), STREAM)
        assert (await a.client.ask("close", migration=doomed))["broken"] is not None
        ours.close()
        receiving.close()


async def test_a_relay_that_dies_breaks_off_what_it_carries_and_its_successor_goes_on(
    tmp_path: Path,
) -> None:
    async with two_sites(tmp_path, hosts=["a2"]) as (a, b):
        async with relayed_host(a, "a2") as a2:
            migration = await open_from(a, b, "a2", None)
            receiving = Destination(b, migration)
            ours = await connect_source(a2, migration)
            await ours.send(STREAM[:100_000], end=False)
            theirs = await receiving.accept()
            await theirs.receive_exactly(50_000)
        await connected(a, "a2", is_there=False)
        await ours.wait_until_broken()
        ours.close()
        await theirs.receive()
        assert len(theirs.content) <= 100_000
        assert not list((a2.folder / "sockets").iterdir())
        with pytest.raises(GatewayFailed, match="relay at a2 isn't connected"):
            await open_from(a, b, "a2", None, vm="vm2")
        receiving.close()
        async with relayed_host(a, "a2") as a2:
            again = await open_from(a, b, "a2", None, vm="vm2")
            assert_arrived(await migrate(a2, b, again, STREAM), STREAM)


async def test_a_newer_relay_of_a_host_takes_the_place_of_the_older(tmp_path: Path) -> None:
    async with two_sites(tmp_path, hosts=["a2"]) as (a, _), relayed_host(a, "a2"):
        older = a.gateway.relays.at("a2")
        settings = load_relay(write_host(a, "a2"))
        newer = asyncio.create_task(Relay(settings, load_host_identity(settings)).run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while a.gateway.relays.at("a2") is older:
                await asyncio.sleep(0.01)
        with pytest.raises(OSError, match="gone"):
            await older.running()
        newer.cancel()


async def test_a_gateway_that_is_away_for_long_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line every two seconds would fill the disk in time."""
    calls: list[Words] = []

    async def call_in_vain(_: Relay, first: Words) -> None:
        calls.append(first)
        raise ConnectionRefusedError("refused" if len(calls) < 10 else "no route")

    async with two_sites(tmp_path, hosts=["a2"]) as (a, _):
        settings = load_relay(write_host(a, "a2"))
    monkeypatch.setattr(relay, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(Relay, "_call", call_in_vain)
    with capture_logs() as logs:
        running = asyncio.create_task(run_relay(settings))
        while len(calls) < 20:
            await asyncio.sleep(0)
        running.cancel()
    assert [each["why"] for each in logs] == ["refused", "no route"]


async def test_a_gateway_that_doesnt_take_a_relay_is_told_of_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By either of them: it calls again every two seconds."""
    call, calls = Relay._call, list[Words]()

    async def call_again(
        self: Relay, first: Words
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        calls.append(first)
        return await call(self, first)

    monkeypatch.setattr(relay, "AGAIN_SECONDS", 0.0)
    monkeypatch.setattr(Relay, "_call", call_again)
    with capture_logs() as logs:
        async with two_sites(tmp_path) as (a, _), asyncio.timeout(PATIENCE_SECONDS):
            running = asyncio.create_task(run_relay(load_relay(write_host(a, "a2"))))
            while len(calls) < 4:
                await asyncio.sleep(0.01)
            running.cancel()
    told = [(each["event"], each["why"]) for each in logs if "why" in each]
    why = "a2 isn't among the `hosts` of the gateway"
    assert told == [("link_refused", why), ("gateway_not_there", why)]
    assert "relay_calls" not in [each["event"] for each in logs]


async def test_the_older_relay_of_a_host_is_told_why_it_is_let_go(tmp_path: Path) -> None:
    """Two that run for one host take turns in breaking off what the other carries."""
    with capture_logs() as logs:
        async with two_sites(tmp_path, hosts=["a2"]) as (a, _), relayed_host(a, "a2"):
            settings = load_relay(write_host(a, "a2"))
            newer = asyncio.create_task(Relay(settings, load_host_identity(settings)).run())
            async with asyncio.timeout(PATIENCE_SECONDS):
                while not (told := [each for each in logs if each["event"] == "gateway_not_there"]):
                    await asyncio.sleep(0.01)
            newer.cancel()
    assert told[0]["why"] == "another relay of this host has called since"


async def test_a_hypervisors_connections_come_in_the_order_in_which_it_made_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call, delays = Relay._call, iter([0.2, 0.0])

    async def call_late(
        self: Relay, first: Words
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if "migration" in first:
            await asyncio.sleep(next(delays))
        return await call(self, first)

    monkeypatch.setattr(Relay, "_call", call_late)
    async with two_sites(tmp_path, hosts=["a2"]) as (a, _), relayed_host(a, "a2") as a2:
        doors = await a.gateway.relays.at("a2").open_doors("m")
        made = [await connect_source(a2, "m") for _ in range(2)]
        for stream, name in zip(made, (b"main", b"next"), strict=True):
            await stream.send(name)
        came = [await doors.accept(0) for _ in made]
        assert [await read_all(connection) for connection in came] == [b"main", b"next"]
        for connection in (*came, *(stream.connection for stream in made)):
            connection.close()
        doors.close()


async def test_why_a_relay_brings_no_connection_is_told_of(tmp_path: Path) -> None:
    async with two_sites(tmp_path, hosts=["b2"]) as (_, b), relayed_host(b, "b2") as b2:
        (b2.folder / "identity" / "key.pem").write_text("no key")
        with listen(b2.folder / "sockets/m-ram"):
            with pytest.raises(OSError, match="key"):
                await b.gateway.relays.at("b2").connect(PurePosixPath(SEEN, "m-ram"))


# --- who may be what -------------------------------------------------------------------------------


async def test_a_host_that_the_gateway_does_not_have_is_refused(tmp_path: Path) -> None:
    async with two_sites(tmp_path, hosts=["a2"]) as (a, _):
        settings = load_relay(write_host(a, "b2"))
        with capture_logs() as logged, pytest.raises(BrokenOff, match="b2 isn't among the `hosts`"):
            await Relay(settings, load_host_identity(settings)).run()
    assert [entry["event"] for entry in logged if entry["log_level"] == "warning"] == [
        "link_refused"
    ]


async def test_a_relay_listens_in_its_folder_only(tmp_path: Path) -> None:
    async with four_hosts(tmp_path) as (a, *_):
        for migration in ("../m", "/tmp/m"):
            with pytest.raises(OSError, match="isn't in"):
                await a.gateway.relays.at("a2").open_doors(migration)


async def test_sockets_that_the_relay_has_elsewhere_are_told_of(tmp_path: Path) -> None:
    seen = {"folder": "sockets", "seen": "/srv/elsewhere"}
    async with two_sites(tmp_path, hosts=["b2"]) as (a, b), relayed_host(b, "b2", sockets=seen):
        migration = await open_from(a, b, None, "b2")
        ours = await connect_source(a, migration)
        with capture_logs() as logged:
            await ours.send(STREAM[:50_000], end=False)
            await ours.wait_until_broken()
        ours.close()
    assert any("isn't in /srv/elsewhere" in str(entry.get("why")) for entry in logged)


# --- memory of its guests -----------------------------------------------------------------------------


@pytest.fixture
def pids(tmp_path: Path) -> Iterator[Path]:
    """Libvirt's folder of process numbers at a2, with vm1 of 16 MiB, and its image."""
    files = {name: tmp_path / name for name in ("memory", "image", "base", "log")}
    files["memory"].write_bytes(Random(1).randbytes(16 << 20))
    for name in ("image", "base", "log"):
        files[name].write_bytes(Random(name).randbytes(2 << 20))
    folder = tmp_path / "processes"
    folder.mkdir()
    with running_guest(*files.values()) as pid:
        (folder / "vm1.pid").write_text(str(pid))
        yield folder


async def test_memory_and_images_at_another_host_are_sent_ahead(tmp_path: Path, pids: Path) -> None:
    async with (
        two_sites(tmp_path, hosts=["a2"], pids="nobody") as (a, b),
        relayed_host(a, "a2", pids=str(pids)),
    ):
        kept = await warmed(a, b, disks=True)
    assert (kept["ended"], kept["scanned_pages"], kept["image_pages"]) == ("done", 4096, 512)


async def test_what_runs_at_another_host_counts_as_resident(tmp_path: Path, pids: Path) -> None:
    residents = [{"vms": ["vm*"], "tenant": "t"}]
    async with (
        two_sites(tmp_path, hosts=["b2"], pids="nobody", residents=residents) as (a, b),
        relayed_host(b, "b2", pids=str(pids)),
    ):
        (rule,) = b.gateway.settings.residents
        await b.gateway.residents.look(rule)
        memory = (tmp_path / "memory").read_bytes()
        content = memory_stream([memory[at : at + 4096] for at in range(0, 1 << 20, 4096)])
        migration = await open_way(a, b, "other")
        assert_arrived(await migrate(a, b, migration, content), content)
        sent = await a.client.ask("close", migration=migration)
    assert (sent["site_pages"], sent["new_pages"]) == (256, 0)


async def test_reading_is_broken_off_when_the_relay_that_reads_is_replaced(
    tmp_path: Path, pids: Path
) -> None:
    async with (
        two_sites(tmp_path, hosts=["a2"]) as (a, _),
        relayed_host(a, "a2", pids=str(pids)),
        aclosing(a.gateway.relays.at("a2").pages("vm1", Part.MEMORY)) as pieces,
    ):
        older = a.gateway.relays.at("a2")
        await anext(pieces)
        settings = load_relay(write_host(a, "a2"))
        newer = asyncio.create_task(Relay(settings, load_host_identity(settings)).run())
        async with asyncio.timeout(PATIENCE_SECONDS):
            while a.gateway.relays.at("a2") is older:
                await asyncio.sleep(0.01)
            with pytest.raises(NoGuestMemory):
                _ = [piece async for piece in pieces]
        newer.cancel()
        with suppress(asyncio.CancelledError):
            await newer


async def test_a_vm_that_runs_nowhere_is_told_of(tmp_path: Path) -> None:
    async with four_hosts(tmp_path, pids="nobody") as (a, b, *_):
        with pytest.raises(GatewayFailed, match="memory of vm1 can't be read at a"):
            await warmed(a, b)


# --- what relays say ----------------------------------------------------------------------------------


@asynccontextmanager
async def asked_relay() -> AsyncIterator[tuple[relays.RelayedHypervisors, asyncio.StreamReader]]:
    """Have a relay as its gateway has it, and what it's asked."""
    near, far = socket.socketpair()
    _, writer = await asyncio.open_connection(sock=near)
    asked, answering = await asyncio.open_connection(sock=far)
    try:
        yield relays.RelayedHypervisors("a2", writer), asked
    finally:
        for each in (writer, answering):
            each.close()
            await each.wait_closed()


async def test_a_relay_that_says_no_list_of_what_runs_is_not_believed() -> None:
    async with asked_relay() as (relay, asked):
        running = asyncio.create_task(relay.running())
        call = json.loads(await asked.readline())["call"]
        said = asyncio.StreamReader()
        said.feed_data(json.dumps({"call": call, "ok": 5}).encode() + b"\n")
        said.feed_eof()
        await relay.hear(said)
        with pytest.raises(OSError, match="doesn't say what runs"):
            await running


async def test_a_relay_that_answers_too_late_is_told_to_listen_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its sockets would stay until it's started anew, those of each try."""
    monkeypatch.setattr(relays, "ANSWER_SECONDS", 0.05)
    async with asked_relay() as (relay, asked):
        with pytest.raises(OSError, match="doesn't answer"):
            await relay.open_doors("m")
        async with asyncio.timeout(PATIENCE_SECONDS):
            orders = [json.loads(await asked.readline()) for _ in range(2)]
    assert [(each["do"], each["migration"]) for each in orders] == [("listen", "m"), ("close", "m")]


async def test_a_connection_that_comes_as_nobody_waits_any_more_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(relays, "ANSWER_SECONDS", 0)
    async with asked_relay() as (relay, _):
        near, far = socket.socketpair()
        stream = await asyncio.open_connection(sock=near)
        with far:
            connecting = asyncio.create_task(relay.connect(PurePosixPath("/m-ram")))
            await asyncio.sleep(0)  # it has asked, and its patience ends with the next step
            (call,) = relay._calls
            bringing = asyncio.create_task(relay.brought(call, stream))
            bringing_first = relay._settle(call, stream)
            assert bringing_first
            with pytest.raises(OSError, match="doesn't answer"):
                await connecting
            assert stream[1].is_closing()
            with pytest.raises(BrokenOff):
                await bringing
            await stream[1].wait_closed()


async def test_what_a_relay_carries_is_broken_off_as_soon_as_it_is_lost() -> None:
    async with asked_relay() as (relay, asked):
        near, far = socket.socketpair()
        stream = await asyncio.open_connection(sock=near)
        with far:
            pieces = relay.pages("vm1", Part.MEMORY)
            reading = asyncio.create_task(anext(pieces))
            call = json.loads(await asked.readline())["call"]
            bringing = asyncio.create_task(relay.brought(call, stream))
            far.send(b"\0\0")  # half of a length
            await asyncio.sleep(0.01)
            relay.end()
            with pytest.raises(NoGuestMemory):
                async with asyncio.timeout(PATIENCE_SECONDS):
                    await reading
            await bringing


async def test_words_that_are_nested_without_end_make_no_sense() -> None:
    reader = asyncio.StreamReader(limit=1 << 20)
    reader.feed_data(b"[" * 500_000 + b"\n")
    with pytest.raises(BrokenOff):
        await read_words(reader)


async def test_who_is_slow_to_take_bytes_is_not_taken_for_gone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(protocol, "_IDLE_SECONDS", 1)
    monkeypatch.setattr(protocol, "_PROBES", 0)
    content = bytes(4 << 20)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        _, writer = await asyncio.open_connection(*listener.getsockname())
        make_ready(writer)
        taking, _ = listener.accept()
    reader, taking_writer = await asyncio.open_connection(sock=taking, limit=1 << 16)
    sending = asyncio.create_task(send_frame(writer, content))
    await asyncio.sleep(5)  # the kernel would have given up by now
    assert await read_frame(reader) == content
    await sending
    for each in (writer, taking_writer):
        each.close()
        await each.wait_closed()


# --- splicing ---------------------------------------------------------------------------------------


@asynccontextmanager
async def spliced(*, ends_by_closing: bool) -> AsyncIterator[tuple[socket.socket, socket.socket]]:
    """Have two local ends with a framed connection between: a hypervisor's, and a gateway's."""
    far, near = socket.socketpair()
    streams = [await asyncio.open_connection(sock=each) for each in (far, near)]
    pairs = [socket.socketpair() for _ in streams]
    for end in (end for pair in pairs for end in pair):
        end.setblocking(False)
    carrying = [
        asyncio.create_task(splice(*stream, inner, ends_by_closing=ends))
        for stream, (_, inner), ends in zip(streams, pairs, (ends_by_closing, False), strict=True)
    ]
    try:
        yield pairs[0][0], pairs[1][0]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*carrying)
    finally:
        for outer, _ in pairs:
            outer.close()


async def read_all(connection: socket.socket) -> bytes:
    loop, found = asyncio.get_running_loop(), bytearray()
    while data := await loop.sock_recv(connection, 1 << 16):
        found += data
    return bytes(found)


async def test_each_direction_has_its_own_end() -> None:
    forth, back = Random(1).randbytes(3 << 20), Random(2).randbytes(1 << 20)
    loop = asyncio.get_running_loop()
    async with spliced(ends_by_closing=True) as (ours, theirs):
        sending = asyncio.create_task(loop.sock_sendall(ours, forth))
        sending.add_done_callback(lambda _: shut_writing(ours))
        assert await read_all(theirs) == forth
        await loop.sock_sendall(theirs, back[:1000])  # what is ended one way goes on the other
        answering = asyncio.create_task(loop.sock_sendall(theirs, back[1000:]))
        answering.add_done_callback(lambda _: shut_writing(theirs))
        assert await read_all(ours) == back


async def test_who_closes_after_saying_all_is_heard_to_the_end() -> None:
    content = Random(3).randbytes(1 << 20)
    async with spliced(ends_by_closing=True) as (ours, theirs):
        sending = asyncio.create_task(asyncio.get_running_loop().sock_sendall(ours, content))
        sending.add_done_callback(lambda _: ours.close())
        assert await read_all(theirs) == content


async def test_a_gateway_that_breaks_off_is_not_taken_to_have_ended() -> None:
    async with spliced(ends_by_closing=True) as (ours, theirs):
        await asyncio.get_running_loop().sock_sendall(theirs, b"half")
        theirs.close()
        assert await read_all(ours) == b"half"
        with pytest.raises(BrokenPipeError):
            ours.send(b"more")


async def test_who_says_its_end_after_the_other_has_is_heard_to_have_ended() -> None:
    near, far = socket.socketpair()
    ours, inner = socket.socketpair()
    ours.setblocking(False)
    inner.setblocking(False)
    carrying = asyncio.create_task(splice(*await asyncio.open_connection(sock=near), inner))
    reader, writer = await asyncio.open_connection(sock=far)
    await send_frame(writer, b"")
    assert await read_all(ours) == b""
    await asyncio.get_running_loop().sock_sendall(ours, b"all")
    shut_writing(ours)
    async with asyncio.timeout(PATIENCE_SECONDS):
        frames = [frame async for frame in _frames(reader)]
        assert frames == [b"all"]
        writer.close()
        await carrying
    ours.close()


async def _frames(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while (frame := await read_frame(reader)) != b"":
        if frame is not None:
            yield frame


async def test_what_a_slow_gateway_has_not_taken_when_the_hypervisor_closes_still_comes(
    tmp_path: Path,
) -> None:
    async with two_sites(tmp_path) as (a, _):
        host = load_host_identity(load_relay(write_host(a, "a2")))
        site = load_identity(a.folder / "identity", kind=PeerKind.SITE)
    came: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    server = await asyncio.start_server(
        lambda *stream: came.put_nowait(stream),
        "127.0.0.1",
        0,
        ssl=site.server_context(),
        ssl_shutdown_timeout=1.0,
        limit=1 << 16,
    )
    stream = await asyncio.open_connection(
        *server.sockets[0].getsockname(), ssl=host.client_context(), ssl_shutdown_timeout=1.0
    )
    make_ready(stream[1])
    theirs = await came.get()
    make_ready(theirs[1])
    (ours, inner), (outer, taken) = socket.socketpair(), socket.socketpair()
    for end in (ours, inner, outer, taken):
        end.setblocking(False)
    loop, sent = asyncio.get_running_loop(), 0
    relaying = asyncio.create_task(splice(*stream, inner, ends_by_closing=True))
    while not stream[1].transport.get_write_buffer_size():  # which stays there
        await loop.sock_sendall(ours, bytes(1 << 14))
        sent += 1 << 14
        await asyncio.sleep(0.02)
    ours.close()
    await asyncio.sleep(2)  # longer than asyncio waits for what closing TLS has still to send
    receiving = asyncio.create_task(splice(*theirs, taken))
    async with asyncio.timeout(PATIENCE_SECONDS):
        assert len(await read_all(outer)) == sent
        outer.close()
        await asyncio.gather(relaying, receiving)
    server.close()


async def test_who_is_cancelled_twice_closes_its_connections_too() -> None:
    near, far = socket.socketpair()
    ours, inner = socket.socketpair()
    inner.setblocking(False)
    with far, ours:
        carrying = asyncio.create_task(splice(*await asyncio.open_connection(sock=near), inner))
        await asyncio.sleep(0.01)
        carrying.cancel()
        await asyncio.sleep(0)  # it waits for what it began
        carrying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await carrying
        assert inner.fileno() < 0
