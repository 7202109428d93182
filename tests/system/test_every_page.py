"""All memory of a guest that goes on writing, compared page by page after it went through two gateways.

The destination is held paused, and the source stands still once it has sent everything: what differs then was
lost on the way. A control without gateways says what QEMU itself does.
"""

import asyncio
import os
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from tests.system.qemu_streams import MIB, Guest
from tests.unit.execute.migration.gateway.two_sites import Site, open_way, two_sites
from transhume.execute.migration.splitting import PAGE_BYTES
from transhume.knowledge.model import Transfer
from transhume.lab.root import Root, cached_root

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="NOT TESTED: the lab's root needs root"),
]

VM, TENANT = "vm1", "t"
MEMFD = (
    *("-object", "memory-backend-memfd,id=ram,size=112M,share=on"),
    *("-machine", "memory-backend=ram"),
)
INCOMING = ("-S", "-incoming", "defer")
PLAIN: tuple[str, ...] = ("return-path",)
MULTIFD = ("return-path", "multifd")
SLOW: Mapping[str, object] = {"max-bandwidth": 24 * MIB, "downtime-limit": 100}
LEAST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Moved:
    """What a move was like."""

    differing_pages: int
    rounds: int
    sent: Transfer = field(default_factory=Transfer)


@pytest.fixture(scope="module")
def root() -> Root:
    return cached_root(lambda *_: None)


@pytest.fixture(scope="module")
def memory(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """What guests' memory is."""
    return tuple(request.param)


@pytest.fixture(scope="module")
def guest(
    root: Root, memory: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Guest]:
    """A guest that has booted, and writes; each test leaves it running where it was."""
    with Guest(root, tmp_path_factory.mktemp("g") / "g", more=memory) as found:
        found.wait_until_up()
        yield found


def move(
    source: Guest, destination: Guest, capabilities: tuple[str, ...], ways: list[str]
) -> Moved:
    """Migrate to a paused destination, and compare what both have then."""
    there, here = ways
    parameters = {**SLOW, "multifd-channels": 2} if "multifd" in capabilities else SLOW
    for end in (source, destination):
        end.set_up(capabilities, parameters)
    destination.qmp.ask("migrate-incoming", uri=f"unix:{there}")
    source.qmp.ask("migrate", uri=f"unix:{here}")
    account = source.wait_until_migrated()
    destination.wait_until_migrated()
    pages = [np.frombuffer(end.memory(), np.uint64) for end in (source, destination)]
    differing = (pages[0] != pages[1]).reshape(-1, PAGE_BYTES // 8).any(axis=1)
    return Moved(int(differing.sum()), account["ram"]["dirty-sync-count"])


async def move_through(
    sites: tuple[Site, Site], source: Guest, destination: Guest, capabilities: tuple[str, ...]
) -> Moved:
    """The same, through the gateways of two sites."""
    a, b = sites
    name = f"from-{a.gateway.site}"
    migration = await open_way(a, b, VM, migration=name)
    ways = [str(site.folder / f"sockets/{name}-ram") for site in (b, a)]
    moved = await asyncio.to_thread(move, source, destination, capabilities, ways)
    sent = await a.client.ask("close", migration=migration)
    assert sent.pop("broken") is None
    return Moved(moved.differing_pages, moved.rounds, Transfer(**sent))


async def warm(a: Site, b: Site, guest: Guest) -> None:
    """Have a guest's memory sent beforehand, and wait until that is done."""
    pids = a.folder / "pids"
    pids.mkdir()
    (pids / f"{VM}.pid").write_text(str(guest.pid))
    ticket = await b.client.ask(
        "admit", migration="warm", vm=VM, tenant=TENANT, source="a", warm=True
    )
    words = {"vm": VM, "tenant": TENANT, "destination": "b", "ticket": ticket["ticket"]}
    await a.client.ask("warm", **words, passes=1)
    async with asyncio.timeout(90):
        while not (ended := (await a.client.ask("status"))["warming"][0]["ended"]):
            await asyncio.sleep(0.1)
    assert ended == "done"


@pytest.mark.parametrize("memory", [MEMFD], indirect=True, ids=["memfd"])
@pytest.mark.parametrize("capabilities", [PLAIN, MULTIFD], ids=["plain", "multifd"])
def test_without_gateways_no_page_differs(
    root: Root,
    guest: Guest,
    memory: tuple[str, ...],
    tmp_path: Path,
    capabilities: tuple[str, ...],
) -> None:
    """The control: QEMU 7.2 fails here all by itself where it emulates."""
    with Guest(root, tmp_path / "d", more=(*memory, *INCOMING)) as destination:
        moved = move(guest, destination, capabilities, [str(tmp_path / "way")] * 2)
    guest.qmp.ask("cont")
    assert moved.rounds >= LEAST_ROUNDS
    assert moved.differing_pages == 0


@pytest.mark.parametrize(
    ("memory", "capabilities", "warmed"),
    [
        pytest.param(MEMFD, PLAIN, False, id="plain"),
        pytest.param(MEMFD, MULTIFD, False, id="multifd"),
        pytest.param(MEMFD, PLAIN, True, id="pre-warmed-plain"),
        pytest.param(MEMFD, MULTIFD, True, id="pre-warmed-multifd"),
        pytest.param((), PLAIN, True, id="pre-warmed-anonymous-memory"),
    ],
    indirect=["memory"],
)
async def test_through_gateways_no_page_differs(
    root: Root,
    guest: Guest,
    memory: tuple[str, ...],
    tmp_path: Path,
    capabilities: tuple[str, ...],
    *,
    warmed: bool,
) -> None:
    async with two_sites(tmp_path, pids="pids") as (a, b), AsyncExitStack() as stack:
        if warmed:
            await warm(a, b, guest)
        more = (*memory, *INCOMING)
        destination = stack.enter_context(Guest(root, tmp_path / "d", more=more))
        moved = await move_through((a, b), guest, destination, capabilities)
    guest.qmp.ask("cont")
    assert moved.rounds >= LEAST_ROUNDS
    assert moved.differing_pages == 0
    if warmed:
        # But for what the guest has written since; on a busy machine that is more.
        assert moved.sent.own_pages > 0.9 * (moved.sent.own_pages + moved.sent.new_pages)


@pytest.mark.parametrize("memory", [MEMFD], indirect=True, ids=["memfd"])
async def test_there_and_back_no_page_differs_and_little_is_sent(
    root: Root, guest: Guest, memory: tuple[str, ...], tmp_path: Path
) -> None:
    """It goes on at the destination for a while, and then back to where it came from."""
    async with two_sites(tmp_path) as (a, b), AsyncExitStack() as stack:
        second, third = (
            stack.enter_context(Guest(root, tmp_path / name, more=(*memory, *INCOMING)))
            for name in "23"
        )
        there = await move_through((a, b), guest, second, PLAIN)
        second.qmp.ask("cont")
        await asyncio.sleep(1.0)
        back = await move_through((b, a), second, third, PLAIN)
    guest.qmp.ask("cont")
    assert (there.differing_pages, back.differing_pages) == (0, 0)
    assert back.sent.site_pages > 0.8 * there.sent.new_pages
    assert back.sent.wire_bytes < 0.2 * there.sent.wire_bytes
