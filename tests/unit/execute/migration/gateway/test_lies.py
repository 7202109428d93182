"""A peer that lies ends its own link or migration; what it says reaches no hypervisor, and nobody else."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from blake3 import blake3
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
from tests.unit.execute.migration.gateway.liar import CHANNEL, Liar, liar, lying_frame
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from transhume.execute.migration.coding.frame import (
    MOST_FRAME_BYTES,
    Ops,
    deflate,
    pack,
    pack_ops,
    unpack,
)
from transhume.execute.migration.content.references import Space, reference
from transhume.execute.migration.gateway.messages import AMOUNT, HEADER, Kind
from transhume.execute.migration.splitting import PAGE_BYTES, Split

HONEST = memory_stream(pages_of(99, 1500))
TRUE = pages_of(7, 4)
PIECE = Split(b"".join(TRUE), np.arange(4) * PAGE_BYTES)


@asynccontextmanager
async def undisturbed(a: Site, b: Site) -> AsyncIterator[None]:
    """Have an honest migration half done, which goes on afterwards and completes."""
    migration = await open_way(a, b, "honest")
    destination = Destination(b, migration)
    ours = await connect_source(a, migration)
    half = len(HONEST) // 2
    await ours.send(HONEST[:half], end=False)
    theirs = await destination.accept()
    yield
    sending = asyncio.create_task(ours.send(HONEST[half:]))
    async with asyncio.timeout(PATIENCE_SECONDS):
        await theirs.receive()
        await theirs.send(b"ready")
        await asyncio.gather(sending, ours.receive())
    assert_arrived((ours, theirs), HONEST)
    assert (await a.client.ask("close", migration=migration))["broken"] is None
    ours.close()
    destination.close()


@asynccontextmanager
async def lying(folder: Path, b: Site) -> AsyncIterator[tuple[Liar, Stream]]:
    """Have a liar with a migration that was honest so far, and what its hypervisor would get."""
    destination = Destination(b, "lie")
    async with liar(folder, b) as peer:
        await peer.admitted(b, "lie")
        peer.open()
        peer.data(peer.frame(PIECE))
        theirs = await destination.accept()
        await theirs.receive_exactly(len(PIECE.raw))
        yield peer, theirs
    destination.close()


def memory_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def referring(peer: Liar, *references: int) -> bytes:
    """Return a frame of pages that are said to be there already."""
    pages = len(references)
    ops = Ops(np.zeros(pages + 1, np.int64), np.zeros(pages, np.bool_), np.array(references))
    check = peer.stream.check.copy()
    check.update(TRUE[0] * pages)
    return lying_frame(
        raw_bytes=pages * PAGE_BYTES,
        pages=pages,
        skeleton=b"",
        ops=pack_ops(ops),
        check=check.digest(),
    )


def changed(peer: Liar, **changes: object) -> bytes:
    return b"".join(pack(replace(unpack(peer.frame(PIECE)), **changes)))  # type: ignore[arg-type]


def bomb(_peer: Liar) -> bytes:
    """Say that few bytes are 8 MiB, and let them be 512."""
    skeleton = deflate(bytes(512 << 20))
    return lying_frame(raw_bytes=8 << 20, coding=2, skeleton=skeleton, ops=only_gap(8 << 20))


def only_gap(count: int) -> bytes:
    return pack_ops(Ops(np.array([count]), np.zeros(0, np.bool_), np.zeros(0, np.int64)))


def all_new(pages: int) -> bytes:
    gaps = np.zeros(pages + 1, np.int64)
    return pack_ops(Ops(gaps, np.ones(pages, np.bool_), np.zeros(0, np.int64)))


def window_bomb(peer: Liar) -> bytes:
    """Put more into the window than the frame tells of."""
    honest = unpack(peer.frame(PIECE))
    more = unpack(peer.frame(Split(bytes(64 * PAGE_BYTES), np.arange(64) * PAGE_BYTES)))
    return b"".join(pack(replace(honest, new=bytes(honest.new) + bytes(more.new) * 50)))


FRAMES: dict[str, tuple[Callable[[Liar], bytes], str]] = {
    "wrong check": (lambda p: changed(p, check=bytes(32)), "aren't those that were sent"),
    "another stream's check": (
        lambda p: changed(p, check=blake3(PIECE.raw).digest()),
        "aren't those that were sent",
    ),
    "no header": (lambda _: b"short", "no header"),
    "more raw bytes than may be": (lambda p: changed(p, raw_bytes=1 << 31), "can't be"),
    "more pages than bytes": (lambda p: changed(p, pages=5), "can't be"),
    "more new pages than pages": (lambda p: changed(p, new_pages=5), "can't be"),
    "unknown coding": (lambda p: changed(p, coding=4), "can't be"),
    "parts that don't add up": (lambda p: p.frame(PIECE) + b"x", "don't add up"),
    "fewer pages than ops": (
        lambda p: changed(p, pages=3, new_pages=3),
        "another length",
    ),
    "pages cut short": (
        lambda p: changed(p, pages=4, new_pages=4, ops=all_new(4), new=b""),
        "new pages",
    ),
    "no zstd": (
        lambda p: changed(p, pages=4, new_pages=4, ops=all_new(4), new=b"\xff" * 50),
        "aren't|new pages",
    ),
    "no ops": (lambda p: changed(p, ops=b""), "another length|can't be decompressed"),
    "a bomb": (bomb, "another length"),
    "a bomb in the window": (window_bomb, "aren't|new pages"),
    "a page that isn't there yet": (
        lambda p: referring(p, reference(Space.LOG, 10_000)),
        "what isn't there",
    ),
    "a page before all": (lambda p: referring(p, -1), "never agreed on"),
    "a page that was never sent to it": (
        lambda p: referring(p, reference(Space.REVERSE, 0)),
        "what isn't there",
    ),
    "an image that nobody has": (
        lambda p: referring(p, reference(Space.FIRST_CATALOGUE, 0)),
        "never agreed on",
    ),
}


@pytest.mark.parametrize("name", FRAMES)
async def test_a_wrong_frame_ends_its_link_before_anything_wrong_is_delivered(
    tmp_path: Path, name: str
) -> None:
    make, why = FRAMES[name]
    async with two_sites(tmp_path) as (a, b), undisturbed(a, b):
        with capture_logs() as logs:
            async with lying(tmp_path, b) as (peer, theirs):
                peer.data(make(peer))
                peer.say(Kind.END, CHANNEL)
                assert await peer.ended()
            await theirs.receive()
        assert theirs.content == b"".join(TRUE)
        assert not theirs.complete
        (told,) = [line for line in logs if line["event"] == "link_ended"]
        assert told["peer"] == "x"
        assert any(each in told["why"] for each in why.split("|")), told
        assert any(line["event"] == "arrival_broken_off" for line in logs)


def message(kind: int, number: int = CHANNEL, content: bytes = b"") -> bytes:
    return HEADER.pack(kind, number, len(content)) + content


def words(kind: Kind, number: int, **said: object) -> bytes:
    return message(kind, number, json.dumps(said).encode())


MESSAGES: dict[str, tuple[bytes, str]] = {
    "another version": (words(Kind.REQUEST, 9, version=77), "it speaks version 77"),
    "unknown type": (message(77), "unknown type 77"),
    "longer than may be": (HEADER.pack(Kind.DATA, 3, MOST_FRAME_BYTES + 1), "more than"),
    "a frame of no channel": (message(Kind.DATA, 50, lying_frame()), "no channel"),
    "an answer": (words(Kind.ADMITTED, 1), "isn't for a destination"),
    "credit": (message(Kind.CREDIT, 3, AMOUNT.pack(1)), "isn't for a destination"),
    "a channel of no migration": (
        words(Kind.OPEN, 9, migration=8, domain=2, socket=0),
        "no migration",
    ),
    "a channel in no domain": (
        words(Kind.OPEN, 9, migration=1, domain=8, socket=0),
        "no migration",
    ),
    "a channel that is there": (
        words(Kind.OPEN, CHANNEL, migration=1, domain=2, socket=0),
        "no migration",
    ),
    "a socket that wasn't admitted": (
        words(Kind.OPEN, 9, migration=1, domain=2, socket=2),
        "wasn't admitted",
    ),
    "a socket by name": (
        words(Kind.OPEN, 9, migration=1, domain=2, socket="../../libvirt-sock"),
        "wasn't admitted",
    ),
    "no words": (message(Kind.OPEN, 9, b"\xff"), "without words"),
    "words that are a list": (message(Kind.OPEN, 9, b"[1]"), "without words"),
    "words without end": (message(Kind.OPEN, 9, b"[" * 60_000), "without words"),
    "forgetting what was never agreed on": (
        message(Kind.FORGET, 8, AMOUNT.pack(1)),
        "never agreed",
    ),
    "forgetting without saying what": (message(Kind.FORGET, 2, b"1"), "without an amount"),
    "a list that there isn't": (
        words(Kind.WANT, 9, domain=2, catalogue=0, **{"from": 0}),
        "catalogue that there isn't",
    ),
    "an offer without a log": (words(Kind.DOMAIN, 9, tenant="t"), "no offer"),
    "an offer that makes no sense": (
        words(Kind.DOMAIN, 9, tenant="t", log="zz", first=0, next=0),
        "no offer",
    ),
    "a probe of another tenant's store": (
        words(Kind.DOMAIN, 9, tenant="victim", log="00", first=0, next=0),
        "no ticket was shown for tenant victim",
    ),
    "a probe of no tenant's store": (
        words(Kind.DOMAIN, 9, tenant=["t"], log="00", first=0, next=0),
        "no ticket was shown",
    ),
}


@pytest.mark.parametrize("name", MESSAGES)
async def test_a_message_that_makes_no_sense_ends_its_link_and_nothing_else(
    tmp_path: Path, name: str
) -> None:
    said, why = MESSAGES[name]
    async with two_sites(tmp_path) as (a, b), undisturbed(a, b):
        with capture_logs() as logs:
            async with lying(tmp_path, b) as (peer, theirs):
                peer.link._write([said])
                assert await peer.ended()
            await theirs.receive()
        assert theirs.content == b"".join(TRUE)
        assert not theirs.complete
        (told,) = [line for line in logs if line["event"] == "link_ended"]
        assert why in told["why"], told
        if "probe" in name:
            assert any(line["event"] == "probe_refused" for line in logs)
    assert not any(domain.tenant == "victim" for domain in b.gateway.domains)


async def test_what_was_forgotten_cant_be_referred_to(tmp_path: Path) -> None:
    async with two_sites(tmp_path) as (a, b), undisturbed(a, b):
        async with lying(tmp_path, b) as (peer, theirs):
            peer.say(Kind.FORGET, 2, AMOUNT.pack(2))
            peer.data(referring(peer, reference(Space.LOG, 1)))
            assert await peer.ended()
        assert (await theirs.receive()).content == b"".join(TRUE)


async def test_more_than_was_admitted_ends_the_migration_and_not_its_link(tmp_path: Path) -> None:
    async with two_sites(tmp_path) as (a, b), undisturbed(a, b):
        destination = Destination(b, "large")
        with capture_logs() as logs:
            async with liar(tmp_path, b) as peer:
                await peer.admitted(b, "large", most_bytes=6 * PAGE_BYTES)
                peer.open()
                for _ in range(2):
                    peer.data(peer.frame(PIECE))
                theirs = await destination.accept()
                assert await peer.reset()
                await theirs.receive()
                assert peer.link.lost is None
        assert theirs.content == b"".join(TRUE)[: len(theirs.content)]
        assert not theirs.complete
        assert any("24576 bytes admitted" in line.get("why", "") for line in logs)
        destination.close()


@pytest.mark.parametrize("read", [False, True], ids=["not-read", "broken-off"])
async def test_more_than_there_is_credit_for_ends_its_link(tmp_path: Path, *, read: bool) -> None:
    """Also on a channel that was broken off, whose bytes nobody takes any more."""
    piece = Split(bytes(8 << 20))
    async with two_sites(tmp_path) as (a, b), undisturbed(a, b):
        destination = Destination(b, "lie")
        with capture_logs() as logs:
            async with liar(tmp_path, b) as peer:
                await peer.admitted(b, "lie")
                peer.open()
                theirs = await destination.accept()
                if read:
                    theirs.close()
                for _ in range(8):
                    peer.data(peer.frame(piece))
                assert await peer.ended()
        assert any("more was sent than" in line.get("why", "") for line in logs)
        destination.close()


async def test_pages_without_end_end_their_link_and_not_the_disk(tmp_path: Path) -> None:
    """A source says itself what is to be forgotten: one that never does is stopped."""
    store = {"folder": "store", "memory": "8MiB", "total": "16MiB"}
    async with two_sites(tmp_path, store=store) as (a, b):
        with capture_logs() as logs:
            async with liar(tmp_path, b) as peer:
                await peer.admitted(b, "lie", warm=True)
                peer.open(socket=None)
                for seed in range(20):
                    pages = b"".join(pages_of(seed, 512))
                    peer.data(peer.frame(Split(pages, np.arange(512) * PAGE_BYTES)))
                assert await peer.ended()
        assert any("has none forgotten" in line.get("why", "") for line in logs)
        (domain,) = b.gateway.domains
        assert domain.memory_bytes + domain.disk_bytes <= 40 << 20
        migration = await open_way(a, b)
        assert_arrived(await migrate(a, b, migration, HONEST), HONEST)


async def test_a_peer_that_asks_and_never_reads_is_let_go(tmp_path: Path) -> None:
    """Answers that nobody takes don't pile up."""
    image = tmp_path / "image"
    image.write_bytes(b"".join(pages_of(3, 4096)))
    images = [{"path": str(image)}]
    async with two_sites(tmp_path, images=images) as (a, b):
        async with liar(tmp_path, b) as peer:
            await peer.admitted(b, "lie")
            for number in range(20_000):
                asked = {"domain": 2, "catalogue": 0, "from": 0}
                peer.say(Kind.WANT, 100 + number, json.dumps(asked).encode())
            before = memory_bytes()
            migration = await open_way(a, b)
            assert_arrived(await migrate(a, b, migration, HONEST), HONEST)
            await asyncio.sleep(1.0)
            assert memory_bytes() - before < 300 << 20


async def test_an_older_link_of_a_site_gives_way_to_a_newer_one(tmp_path: Path) -> None:
    """A source that lost its link may be back before that is noticed: what still comes by it counts no more."""
    async with two_sites(tmp_path) as (_, b):
        destination = Destination(b, "newer")
        async with lying(tmp_path, b) as (older, theirs), liar(tmp_path, b) as newer:
            newer.sender.log.close()
            newer.sender = older.sender
            await newer.admitted(b, "newer")
            older.data(lying_frame())
            assert await older.ended()
            assert not (await theirs.receive()).complete
            newer.sender.fresh_window()
            newer.open()
            newer.data(newer.frame(PIECE))
            arriving = await destination.accept()
            await arriving.receive_exactly(len(PIECE.raw))
            assert arriving.content == PIECE.raw
        destination.close()


async def test_a_log_of_its_own_doesnt_let_a_tenant_see_anothers_pages(tmp_path: Path) -> None:
    """What another tenant has sent is new, at the same two sites; nothing tells that it was there."""
    content = memory_stream(pages_of(1, 300))
    async with two_sites(tmp_path) as (a, b):
        wire = []
        for tenant in ("one", "other"):
            migration = await open_way(a, b, f"vm-{tenant}", tenant=tenant)
            assert_arrived(await migrate(a, b, migration, content), content)
            sent = await a.client.ask("close", migration=migration)
            assert (sent["new_pages"], sent["cluster_pages"], sent["site_pages"]) == (300, 0, 0)
            wire.append(sent["new_wire_bytes"])
    assert abs(wire[0] - wire[1]) < 100, "but for where the streams were cut into frames"
