"""The overlay's register, on each server that we promise to work with."""

import asyncio
import shutil
import subprocess
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.contract.conftest import NOON
from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.execute.overlay import ByAgents, by_agents
from transhume.knowledge import keys
from transhume.knowledge.model import (
    AgentStatus,
    Binding,
    BindingState,
    HandOver,
    IpAddress,
    MacAddress,
    SiteName,
    VmName,
)
from transhume.knowledge.register import Entry, HandOvers, Lost, Register, Whole
from transhume.knowledge.server import Program, run_server
from transhume.knowledge.wire import connect

A, B = SiteName("a"), SiteName("b")
MACS = [MacAddress(f"52:54:00:00:00:{n:02x}") for n in range(3)]
BINDING = Binding(vni=66, mac=MACS[0], site=A, sequence=4)


@pytest.fixture
def register(client: Redis) -> Register:
    return Register(client, 66)


@pytest.mark.parametrize(
    ("newer", "taken"),
    [
        (replace(BINDING, sequence=5, site=B), True),
        (replace(BINDING, sequence=10, site=B), True),
        (replace(BINDING, sequence=3, site=B), False),
        (BINDING, False),
        (replace(BINDING, site=B), True),
        (replace(BINDING, state=BindingState.MOVING), False),
        (replace(BINDING, site=SiteName("A")), False),
        (replace(BINDING, state=BindingState.GONE), True),
        (replace(BINDING, sequence=3, state=BindingState.GONE), False),
    ],
    ids=[
        "newer",
        "two-digits",
        "older",
        "same",
        "tie-by-name",
        "unsettled",
        "tie-lost",
        "gone",
        "gone-before",
    ],
)
async def test_the_register_agrees_with_the_model_on_what_holds(
    register: Register, newer: Binding, taken: bool
) -> None:
    await register.put([BINDING])
    assert bool(await register.put([newer])) == taken == newer.supersedes(BINDING)
    (entry,) = (await register.read()).entries
    assert entry.binding == (newer if taken else BINDING)


async def test_a_settled_binding_holds_against_the_same_move_unsettled(register: Register) -> None:
    moving = replace(BINDING, state=BindingState.MOVING)
    await register.put([moving])
    assert await register.put([BINDING])
    assert not await register.put([moving])


async def test_an_address_that_is_gone_comes_back_by_a_newer_move_only(register: Register) -> None:
    gone = replace(BINDING, state=BindingState.GONE)
    await register.put([gone])
    assert not await register.put([BINDING])
    assert not await register.put([replace(BINDING, sequence=3, site=B)])
    assert await register.put([replace(BINDING, sequence=5, site=B)])


async def test_the_executor_brings_an_address_back_and_an_inventory_doesnt(
    register: Register,
) -> None:
    gone = replace(BINDING, state=BindingState.GONE)
    await register.put([gone])
    sites = [OverlaySite(name=n, bridge="br0", underlay="wan0", vtep="192.0.2.1") for n in (A, B)]
    network = OverlayNetwork(vni=66, sites=tuple(sites))
    overlay = ByAgents(network, register, lambda: NOON)
    await overlay.adopt([MACS[0]], A)
    assert (await register.read()).bindings == {MACS[0]: gone}
    await overlay.bind([MACS[0]], A)
    assert (await register.read()).bindings == {MACS[0]: replace(BINDING, sequence=5)}


async def test_a_move_to_a_site_without_the_network_isnt_announced(register: Register) -> None:
    site = OverlaySite(name=A, bridge="br0", underlay="wan0", vtep="192.0.2.1")
    overlay = ByAgents(OverlayNetwork(vni=66, sites=(site,)), register, lambda: NOON)
    async with overlay.hand_over(VmName("vm1"), [MACS[0]], A, B):
        assert await register.hand_overs() == HandOvers(hand_overs=())


@pytest.mark.parametrize("listed", [True, False], ids=["in the file", "no more"])
async def test_a_site_that_is_gone_keeps_nobody_waiting_by_what_it_did_last(
    register: Register, listed: bool
) -> None:
    """A VM that fled it could be moved nowhere any more."""
    c = SiteName("c")
    names = (A, B, c) if listed else (B, c)
    sites = [OverlaySite(name=n, bridge="br0", underlay="w", vtep="192.0.2.1") for n in names]
    overlay = ByAgents(OverlayNetwork(vni=66, sites=tuple(sites)), register, lambda: NOON)
    await register.put([replace(BINDING, site=c)])
    silent = AgentStatus(
        site=A,
        vni=66,
        at=NOON - timedelta(days=20),
        holder="x",
        applied=0,
        detours=(MACS[0],),
    )
    old = replace(silent, site=B, at=NOON, applied=1)
    for status in (silent, old, replace(old, site=c, detours=())):
        await register.report(status)
    assert await overlay.check([MACS[0]], c) == ()


async def test_an_agent_whose_clock_is_slow_isnt_taken_for_a_silent_one(
    register: Register, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each move to its site would be undone."""
    monkeypatch.setattr(by_agents, "PATIENCE_SECONDS", 2.0)
    sites = [OverlaySite(name=n, bridge="br0", underlay="w", vtep="192.0.2.1") for n in (A, B)]
    overlay = ByAgents(OverlayNetwork(vni=66, sites=tuple(sites)), register, lambda: NOON)
    await register.put([BINDING])
    slow = AgentStatus(site=A, vni=66, at=NOON - timedelta(minutes=1), holder="x", applied=1)
    for status in (slow, replace(slow, site=B, at=NOON)):
        await register.report(status)
    (silent,) = await overlay.check([MACS[0]], A)
    assert "last heard of" in silent

    async def go_on() -> None:
        for seconds in range(1, 100):
            await asyncio.sleep(0.05)
            await register.report(replace(slow, at=slow.at + timedelta(seconds=seconds)))

    going_on = asyncio.create_task(go_on())
    try:
        assert await overlay.check([MACS[0]], A) == ()
    finally:
        going_on.cancel()


async def test_what_has_moved_meanwhile_is_not_retired(register: Register) -> None:
    moved = replace(BINDING, sequence=5, site=B)
    await register.put([moved])
    await register.retire([replace(BINDING, state=BindingState.GONE)])
    assert await register.read() == Whole(revision=1, entries=(Entry(binding=moved, revision=1),))
    await register.retire([moved, moved])
    assert await register.read() == Whole(revision=2, entries=())


async def test_thousands_are_put_in_one_go(register: Register) -> None:
    many = [
        replace(BINDING, mac=MacAddress(f"52:54:00:01:{n >> 8:02x}:{n & 255:02x}"))
        for n in range(2000)
    ]
    assert len(await register.put(many)) == 2000
    whole = await register.read()
    assert (whole.revision, len(whole.entries)) == (2000, 2000)


@pytest.mark.parametrize("what", [b"7 {what", b"7 {}", b'7 {"sequence":4}', b"7 8", b"what"])
async def test_what_nobody_can_read_gives_way(
    register: Register, client: Redis, what: bytes
) -> None:
    await client.hset(keys.overlay(66).bindings, MACS[0], what)
    assert (await register.read()).entries == ()
    assert len(await register.put([BINDING, replace(BINDING, mac=MACS[1])])) == 2


async def test_what_nobody_can_read_is_retired(register: Register, client: Redis) -> None:
    await client.hset(keys.overlay(66).bindings, MACS[0], b"7 {}")
    await register.retire([BINDING])
    assert not await client.hexists(keys.overlay(66).bindings, MACS[0])


@pytest.fixture(scope="module")
def locales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a locale in which names don't come in the order of their bytes."""
    folder = tmp_path_factory.mktemp("locales")
    make = shutil.which("localedef")
    if make is not None:
        command = [make, "-i", "en_US", "-f", "UTF-8", str(folder / "en_US.UTF-8")]
        subprocess.run(command, capture_output=True, check=False)
    if not any(folder.iterdir()):
        pytest.skip("NOT TESTED: no locale can be made on this machine")
    return folder


async def test_names_of_sites_come_in_one_order_whatever_the_servers_locale(
    program: Program, state: Path, locales: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents and register would else believe different ones for ever, and a VM be reached by nobody."""
    monkeypatch.setenv("LOCPATH", str(locales))
    monkeypatch.setenv("LC_ALL", "en_US.UTF-8")
    first, last = (replace(BINDING, site=SiteName(name)) for name in ("dc1-east", "dc10"))
    assert last.supersedes(first)
    async with run_server(program, state) as address, connect(address.url) as client:
        register = Register(client, 66)
        await register.put([first])
        assert await register.put([last])
        assert not await register.put([first])


async def test_addresses_are_read_in_the_form_that_kernels_have(register: Register) -> None:
    """Whoever wrote them: nobody's kernel takes anything else, and one that is none spoils all others."""
    ips = ("FD66:0::10", "10.66.0.9/24", "10.66.0.9", "fd66::10", "fe80::1%br0")
    written = replace(BINDING, ips=tuple(map(IpAddress, ips)))
    nobody = replace(BINDING, mac=MacAddress("52:54:00:00:00:xx"))
    await register.put([written, nobody])

    (entry,) = (await register.read()).entries

    assert entry.binding == replace(BINDING, ips=(IpAddress("fd66::10"), IpAddress("10.66.0.9")))


async def test_who_follows_hears_of_everything_in_order(register: Register) -> None:
    await register.put([BINDING])
    moved = replace(BINDING, sequence=5, site=B)
    hand_over = HandOver(
        vm=VmName("vm1"),
        vni=66,
        macs=(MACS[0],),
        source=A,
        destination=B,
        until=NOON + timedelta(minutes=1),
    )
    async with asyncio.timeout(60), aclosing(register.follow()) as news:
        assert await anext(news) == Whole(revision=1, entries=(Entry(binding=BINDING, revision=1),))
        assert await anext(news) == HandOvers(hand_overs=())
        await register.begin(hand_over)
        assert await anext(news) == HandOvers(hand_overs=(hand_over,))
        await register.put([moved])
        assert await anext(news) == Entry(binding=moved, revision=2)
        await register.end(VmName("vm1"))
        assert await anext(news) == HandOvers(hand_overs=())
        await register.retire([moved])
        assert await anext(news) == Whole(revision=3, entries=())


async def test_who_has_missed_something_reads_all_anew(register: Register, client: Redis) -> None:
    async with asyncio.timeout(60), aclosing(register.follow()) as news:
        await anext(news)
        await anext(news)
        await client.incr(keys.overlay(66).revision)  # as if a message had been lost
        await register.put([BINDING])
        assert await anext(news) == Whole(revision=2, entries=(Entry(binding=BINDING, revision=2),))


async def test_who_follows_a_server_that_lost_its_memory_reads_all_anew(
    register: Register, client: Redis
) -> None:
    moved = replace(BINDING, sequence=5, site=B)
    async with asyncio.timeout(60), aclosing(register.follow()) as news:
        await anext(news)
        await anext(news)
        for revision, binding in enumerate((BINDING, moved), start=1):
            await register.put([binding])
            assert await anext(news) == Entry(binding=binding, revision=revision)
        await client.flushall()
        await register.put([BINDING])
        assert await anext(news) == Whole(revision=1, entries=(Entry(binding=BINDING, revision=1),))
        await register.put([moved])
        assert await anext(news) == Entry(binding=moved, revision=2)


async def test_what_was_published_before_all_was_read_is_no_news(register: Register) -> None:
    async with asyncio.timeout(60), aclosing(register.follow()) as news:
        await anext(news)
        await anext(news)
        await register.put([BINDING])
        await register.retire([BINDING])
        await register.put([replace(BINDING, mac=mac) for mac in MACS])
        assert (await anext(news)).revision == 1
        assert (await anext(news)).revision == 5
        last = replace(BINDING, sequence=9)
        await register.put([last])
        assert await anext(news) == Entry(binding=last, revision=6)


async def test_who_is_cut_off_reads_all_anew_when_the_server_is_back(
    register: Register, client: Redis
) -> None:
    async with asyncio.timeout(60), aclosing(register.follow()) as news:
        await anext(news)
        await anext(news)
        await client.execute_command("CLIENT", "KILL", "TYPE", "pubsub")
        await register.put([BINDING])
        async for each in news:
            if isinstance(each, Whole) and each.entries:
                break


async def test_a_move_is_announced_as_soon_as_the_server_is_back(
    program: Program, state: Path
) -> None:
    """What was announced before has run out meanwhile."""
    sites = [OverlaySite(name=n, bridge="br0", underlay="w", vtep="192.0.2.1") for n in (A, B)]
    network = OverlayNetwork(vni=66, sites=tuple(sites))
    async with connect(f"unix://{state}/knowledge/socket") as client:
        register = Register(client, 66)
        overlay = ByAgents(network, register, lambda: NOON)
        async with overlay.hand_over(VmName("vm1"), [MACS[0]], A, B):
            async with run_server(program, state), asyncio.timeout(60):
                while not (await register.hand_overs()).hand_overs:
                    await asyncio.sleep(0.05)


async def test_who_follows_a_server_that_hangs_is_told(client: Redis) -> None:
    """A path that swallows everything closes no connection."""
    register = Register(client, 66, silence_seconds=1.0)
    async with asyncio.timeout(60), aclosing(register.follow()) as news:
        await anext(news)
        await anext(news)
        await client.execute_command("CLIENT", "PAUSE", "3000", "ALL")
        assert await anext(news) == Lost()
        async for each in news:
            if isinstance(each, Whole):
                break


async def test_each_sites_status_is_the_last_it_said(register: Register) -> None:
    status = AgentStatus(site=A, vni=66, at=NOON, holder="h:1", applied=3)
    await register.report(status)
    await register.report(replace(status, applied=4))
    assert await register.statuses() == {A: replace(status, applied=4)}
