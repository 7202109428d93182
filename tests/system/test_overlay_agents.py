"""Site agents on real bridges, tunnels and a real Redis; only the hypervisors are stand-ins.

What can't be provoked with real ones at will is here: messages that are lost, agents that die half way, moves
that nobody announced. Live migrations of real guests are in `test_overlay_moves`.
"""

import asyncio
import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest

from tests.system.overlay_sites import (
    FIXED,
    MAC,
    MOVER,
    MOVER_IP,
    NETWORK,
    PORT,
    SITES,
    hears,
    index,
    make_bridge,
    netns_of,
    put_mover_at,
    three_sites,
)
from transhume.errors import LeaseLost
from transhume.execute.overlay import ByAgents, by_agents, nftables
from transhume.execute.overlay.agent.assembly import watch_bridge
from transhume.execute.overlay.agent.events import Awaited, Event, Present, Runs, Stopped
from transhume.execute.overlay.agent.service import AUDIT_SECONDS, LEASE_SECONDS, Agent, Senses
from transhume.execute.overlay.agent.site import SiteAddresses
from transhume.execute.overlay.agent.timing import Timing
from transhume.execute.overlay.plane import SitePlane
from transhume.execute.overlay.plane.names import EVERYBODY
from transhume.execute.overlay.plane.rules import ARRIVING
from transhume.execute.overlay.salvage import Salvager
from transhume.knowledge import keys
from transhume.knowledge.model import (
    BindingState,
    Interface,
    IpAddress,
    MacAddress,
    SiteName,
    VmName,
)
from transhume.knowledge.server import find_program, run_server
from transhume.knowledge.store import Store
from transhume.knowledge.wire import connect
from transhume.reach.netns import netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

VM = VmName("mover")
TAP = Interface(mac=MAC, device="mover", ips=(IpAddress(MOVER_IP),))
VTEPS = {SiteName(site.name): IpAddress(site.vtep) for site in NETWORK.sites}
TIMING = Timing(gone_seconds=1.0)
PATIENCE_SECONDS = 60.0


def now() -> datetime:
    return datetime.now(UTC)


@dataclass
class Hypervisors:
    """What the hypervisors of a site say: as it is, or nothing."""

    here: bool = False
    silent: bool = False
    tell: Callable[[Event], None] = lambda _event: None

    async def run(self, tell: Callable[[Event], None]) -> None:
        self.tell = tell
        if self.here and not self.silent:
            tell(Runs(vm=VM, interfaces=(TAP,)))
        await asyncio.Event().wait()

    async def look(self, mac: MacAddress) -> Interface | None:
        return TAP if self.here and mac == MAC else None


@dataclass
class Wire:
    """An agent's way to the knowledge, which can be cut."""

    redis: Path
    socket: Path
    cut: bool = False
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    async def serve(self, stack: AsyncExitStack) -> None:
        server = await asyncio.start_unix_server(self._pass_on, self.socket)
        stack.callback(server.close)

    def sever(self) -> None:
        """Break what is open off, and let nothing new through."""
        self.cut = True
        self.break_off()

    def break_off(self) -> None:
        """Break off what is open: messages on their way are lost."""
        for writer in self._open:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.cut:
            writer.close()
            return
        there, back = await asyncio.open_unix_connection(str(self.redis))
        self._open |= {writer, back}
        await asyncio.gather(_pump(reader, back), _pump(there, writer))
        self._open -= {writer, back}


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    writer.close()


@dataclass
class Stage:
    """Three sites with agents."""

    overlay: ByAgents
    store: Store
    folder: Path
    server: AsyncExitStack = field(default_factory=AsyncExitStack)
    hypervisors: dict[str, Hypervisors] = field(
        default_factory=lambda: {site: Hypervisors(here=site == "a") for site in SITES}
    )
    wires: dict[str, Wire] = field(default_factory=dict)
    salvagers: dict[str, Salvager] = field(default_factory=dict)
    addresses: dict[str, SiteAddresses] = field(default_factory=dict)
    agents: dict[str, "asyncio.Task[None]"] = field(default_factory=dict)

    async def start(self, site: str) -> None:
        """Start a site's agent."""
        self.agents[site] = asyncio.create_task(self._run(site), name=f"agent {site}")

    async def kill(self, site: str) -> None:
        """End a site's agent, wherever it is in its work; of all it had, only its lease is given back."""
        self.agents[site].cancel()
        await asyncio.gather(self.agents[site], return_exceptions=True)

    async def _run(self, site: str) -> None:
        description = next(each for each in NETWORK.sites if each.name == site)
        known = self.hypervisors[site]
        self.salvagers[site] = Salvager(NETWORK, description)
        self.addresses[site] = SiteAddresses(SiteName(site), NETWORK.vni, VTEPS, TIMING)
        with SitePlane(NETWORK, description) as first, SitePlane(NETWORK, description) as second:
            async with Store.connect(f"unix://{self.wires[site].socket}", clock=now) as store:
                await Agent(
                    addresses=self.addresses[site],
                    planes=(first, second),
                    register=store.register(NETWORK.vni),
                    lease=store.agent_lease(NETWORK.vni, site, f"test:{site}", LEASE_SECONDS),
                    senses=Senses(
                        run=(known.run, partial(watch_bridge, NETWORK, description)),
                        look=known.look,
                    ),
                    clock=now,
                    salvage=self.salvagers[site],
                ).run()

    async def lose_knowledge(self) -> None:
        """Kill the Redis, and start another where it was, without anything that it had."""
        async with connect(f"unix://{self.folder / 'knowledge/socket'}") as client:
            process = (await client.info("server"))["process_id"]
            os.kill(process, signal.SIGKILL)
        await self.server.aclose()
        for path in (self.folder / "knowledge").glob("appendonly*"):
            shutil.rmtree(path)
        await self.server.enter_async_context(run_server(find_program(), self.folder))

    def stop(self, site: str, *, migrates: bool = False) -> None:
        """Let the hypervisor of a site stop the VM."""
        self.hypervisors[site].tell(Stopped(vm=VM, interfaces=(TAP,), migrates=migrates))
        self.hypervisors[site].here = False

    async def resume(self, site: str) -> None:
        """Let it run at a site."""
        await asyncio.to_thread(put_mover_at, site)
        for name, known in self.hypervisors.items():
            known.here = name == site
        if not self.hypervisors[site].silent:
            self.hypervisors[site].tell(Runs(vm=VM, interfaces=(TAP,)))

    async def move(self, source: str, destination: str) -> None:
        """Move the VM as the executor does."""
        async with self.overlay.hand_over(VM, [MAC], source, destination):
            await self.announced(source)
            self.stop(source)
            await asyncio.sleep(0.05)
            await self.resume(destination)

    async def announced(self, source: str) -> None:
        """Give the agents the time that a migration would: the source's hears of it, unless it's cut off."""
        await asyncio.sleep(0.2)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not self.wires[source].cut and MAC not in self.addresses[source]._leaving:
                await asyncio.sleep(0.01)

    async def reached_everywhere(self) -> None:
        """See that the VM, which keeps silent, is reached from all sites."""
        for site in SITES:
            assert await asyncio.to_thread(hears, site, patience_s=PATIENCE_SECONDS), site

    async def eventually(self, holds: Callable[[], Awaitable[bool]]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not await holds():
                await asyncio.sleep(0.1)

    async def bound_to(self, site: str) -> bool:
        whole = await self.store.register(NETWORK.vni).read()
        binding = whole.bindings.get(MAC)
        return (
            binding is not None and binding.site == site and binding.state is BindingState.SETTLED
        )

    async def settled_at(self, site: str) -> None:
        """Wait until the register and all kernels agree that the VM is at a site."""
        await self.eventually(lambda: self.bound_to(site))
        assert await self.overlay.check([MAC], site) == ()

        async def sent_on_no_more() -> bool:
            statuses = await self.store.register(NETWORK.vni).statuses()
            return not any(status.detours for status in statuses.values())

        await self.eventually(sent_on_no_more)


@asynccontextmanager
async def stage(folder: Path, *, agents: tuple[str, ...] = SITES) -> AsyncIterator[Stage]:
    async with AsyncExitStack() as stack:
        running = await stack.enter_async_context(AsyncExitStack())
        server = await running.enter_async_context(run_server(find_program(), folder))
        store = await stack.enter_async_context(Store.connect(server.url, clock=now))
        overlay = ByAgents(NETWORK, store.register(NETWORK.vni), now)
        made = Stage(overlay, store, folder, server=running)
        for site in SITES:
            wire = Wire(folder / "knowledge/socket", folder / f"{site}.sock")
            await wire.serve(stack)
            made.wires[site] = wire
        for site in agents:
            await made.start(site)
        try:
            await made.settled_at("a")
            yield made
        finally:
            for site in made.agents:
                await made.kill(site)


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder whose path is short enough for sockets, while there are three sites."""
    with three_sites():
        yield tmp_path_factory.mktemp("o")


async def test_a_silent_vm_is_reached_after_an_announced_move(folder: Path) -> None:
    async with stage(folder) as made:
        await made.move("a", "b")
        await made.reached_everywhere()
        await made.settled_at("b")


async def test_a_vm_that_moves_unannounced_is_found_by_its_hypervisor(folder: Path) -> None:
    async with stage(folder) as made:
        made.stop("a")
        await made.resume("c")
        await made.reached_everywhere()
        await made.settled_at("c")


async def test_the_address_of_a_vm_that_is_gone_leaves_every_kernel_and_comes_back_with_it(
    folder: Path,
) -> None:
    async with stage(folder) as made:
        made.hypervisors["a"].here = False

        async def has_left() -> bool:
            made.hypervisors["a"].tell(Present(macs=frozenset()))
            whole = await made.store.register(NETWORK.vni).read()
            known = [await asyncio.to_thread(_sends_on, site) for site in ("b", "c")]
            return whole.bindings[MAC].state is BindingState.GONE and not any(known)

        assert await asyncio.to_thread(_sends_on, "c")
        await made.eventually(has_left)
        await made.resume("b")
        await made.reached_everywhere()
        await made.settled_at("b")
        whole = await made.store.register(NETWORK.vni).read()
        assert whole.bindings[MAC].sequence == 2


async def noticed_by_what_it_says(made: Stage) -> None:
    """Move the VM to b, of which no hypervisor tells, and have it say something until that is noticed."""
    made.hypervisors["b"].silent = True
    made.stop("a")
    await made.resume("b")
    with closing(socket_in(MOVER, kind=socket.SOCK_DGRAM)) as mouth:

        async def spoke() -> bool:
            mouth.sendto(b"hello", ("10.99.0.2", PORT))
            return await made.bound_to("b")

        await made.eventually(spoke)
    await made.reached_everywhere()
    await made.settled_at("b")


async def test_a_lost_announcement_is_made_up_for_by_the_first_frame(folder: Path) -> None:
    """No hypervisor tells of it and no RARP comes: the VM speaks when it has something to say."""
    async with stage(folder) as made:
        await noticed_by_what_it_says(made)


async def test_a_vm_is_seen_at_a_bridge_that_was_made_anew(folder: Path) -> None:
    async with stage(folder) as made:
        await asyncio.to_thread(_make_bridge_anew, "b")
        await noticed_by_what_it_says(made)


async def test_a_guest_that_pretends_to_be_another_gets_nothing(folder: Path) -> None:
    """Frames from an address prove nothing while the hypervisor doesn't have it."""
    async with stage(folder) as made:
        forged = bytes.fromhex("ff" * 6 + MAC.replace(":", "")) + b"\x80\x35" + b"\0" * 46
        with closing(socket_in(FIXED["c"], socket.AF_PACKET, socket.SOCK_RAW)) as mouth:
            mouth.bind(("eth0", 0))
            for _ in range(20):
                mouth.send(forged)
                await asyncio.sleep(0.05)
        assert await made.bound_to("a")
        await made.settled_at("a")
        await made.reached_everywhere()


async def test_a_stop_that_was_a_pause_changes_nothing_in_the_end(folder: Path) -> None:
    async with stage(folder) as made:
        async with made.overlay.hand_over(VM, [MAC], "a", "b"):
            await made.announced("a")
            made.stop("a")
            await made.eventually(partial(_moving_to, made, "b"))
            await made.resume("a")
            await made.settled_at("a")
        await made.reached_everywhere()


@pytest.mark.parametrize("end", ["c", "a"], ids=["on", "back"])
async def test_two_moves_in_quick_succession(folder: Path, end: str) -> None:
    async with stage(folder) as made:
        await made.move("a", "b")
        await made.move("b", end)
        await made.reached_everywhere()
        await made.settled_at(end)


async def test_news_that_are_lost_are_read_later(folder: Path) -> None:
    async with stage(folder) as made:
        async with made.overlay.hand_over(VM, [MAC], "a", "b"):
            await made.announced("a")
            for site in SITES:
                made.wires[site].break_off()
            made.stop("a")
            await made.resume("b")
        await made.reached_everywhere()
        await made.settled_at("b")


@pytest.mark.parametrize("away", SITES)
async def test_a_partition_that_heals(folder: Path, away: str) -> None:
    """A site that is cut off from the knowledge goes on with what it has, and follows when it can."""
    async with stage(folder) as made:
        made.wires[away].sever()
        await made.move("a", "b")
        await asyncio.sleep(1.0)
        made.wires[away].cut = False
        await made.reached_everywhere()
        await made.settled_at("b")


async def test_a_vm_is_sent_on_though_nobody_can_be_told(folder: Path) -> None:
    """The site that a VM leaves needs the knowledge only to tell the others."""
    async with stage(folder) as made:
        async with made.overlay.hand_over(VM, [MAC], "a", "b"):
            await made.announced("a")
            made.wires["a"].sever()
            made.wires["b"].sever()
            made.stop("a")
            await made.resume("b")
            assert await asyncio.to_thread(hears, "c"), "a should send it on"
            made.wires["a"].cut = made.wires["b"].cut = False
        await made.settled_at("b")


async def test_a_move_stays_announced_at_a_site_that_is_cut_off(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An announcement ends by itself, and can be renewed only where the knowledge can be reached."""
    monkeypatch.setattr(by_agents, "_HOLDS", timedelta(seconds=3))
    async with stage(folder) as made:
        async with made.overlay.hand_over(VM, [MAC], "a", "b"):
            await made.announced("a")
            made.wires["a"].sever()
            made.wires["b"].sever()
            await asyncio.sleep(4.0)
            made.stop("a")
            await made.resume("b")
            assert await asyncio.to_thread(hears, "c"), "a should send it on"
            made.wires["a"].cut = made.wires["b"].cut = False
        await made.settled_at("b")


async def test_an_agent_that_begins_and_hears_nothing_leaves_the_kernel_as_it_is(
    folder: Path,
) -> None:
    """It knows of no address then, which doesn't mean that there are none."""
    async with stage(folder) as made:
        await made.kill("c")
        async with connect(f"unix://{made.folder / 'knowledge/socket'}") as client:
            await made.start("c")
            claim = keys.overlay_agent(NETWORK.vni, "c")[0]
            while not await client.exists(claim):
                await asyncio.sleep(0)
            await client.execute_command("CLIENT", "PAUSE", 8000, "ALL")
        await asyncio.sleep(AUDIT_SECONDS + 2.0)
        assert await asyncio.to_thread(_sends_on, "c")
        await asyncio.sleep(4.0)
        await made.settled_at("a")
        await made.reached_everywhere()


@pytest.mark.parametrize("killed", ["a", "b", "c"])
async def test_an_agent_that_is_killed_during_the_switch(folder: Path, killed: str) -> None:
    async with stage(folder) as made:
        async with made.overlay.hand_over(VM, [MAC], "a", "b"):
            await made.announced("a")
            made.stop("a")
            await made.kill(killed)
            await made.resume("b")
            await asyncio.sleep(0.3)
            await made.start(killed)
        await made.reached_everywhere()
        await made.settled_at("b")


async def test_frames_pass_while_no_agent_runs(folder: Path) -> None:
    async with stage(folder) as made:
        for site in SITES:
            await made.kill(site)
        await made.reached_everywhere()


async def test_what_somebody_breaks_is_mended(folder: Path) -> None:
    async with stage(folder) as made:
        await asyncio.to_thread(_break_device, "c")
        await made.reached_everywhere()
        await asyncio.to_thread(_break_entries, "b")

        async def mended() -> bool:
            statuses = await made.store.register(NETWORK.vni).statuses()
            return statuses[SiteName("b")].repairs > 0

        await made.eventually(mended)
        await made.reached_everywhere()


async def test_rules_and_devices_that_somebody_breaks_are_mended(folder: Path) -> None:
    async with stage(folder) as made:
        await asyncio.to_thread(_break_rules_and_devices, "c")

        async def mended() -> bool:
            statuses = await made.store.register(NETWORK.vni).statuses()
            faults = await asyncio.to_thread(_faults_at, "c")
            return statuses[SiteName("c")].repairs > 0 and faults == ()

        await made.eventually(mended)
        await made.reached_everywhere()


async def test_what_is_expected_is_expected_again_after_the_rules_were_flushed(
    folder: Path,
) -> None:
    async with stage(folder) as made, made.overlay.hand_over(VM, [MAC], "a", "b"):
        await asyncio.to_thread(put_mover_at, "b")
        made.hypervisors["b"].tell(Awaited(vm=VM, interfaces=(TAP,)))

        async def expected() -> bool:
            rules = nftables.table_text(netns_of("b"), ARRIVING, "transhume_99")
            return MAC in rules

        await made.eventually(expected)

        await asyncio.to_thread(nftables.run, netns_of("b"), "flush ruleset")

        await made.eventually(expected)


async def test_two_agents_of_one_site_dont_fight(folder: Path) -> None:
    async with stage(folder) as made:
        first = made.agents["a"]
        await made.start("a")
        await asyncio.sleep(1.0)
        assert not first.done()
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await made.move("a", "b")
        await made.reached_everywhere()
        await made.settled_at("b")


async def test_an_agent_whose_place_was_taken_gives_up(folder: Path) -> None:
    async with stage(folder) as made:
        async with connect(f"unix://{made.folder / 'knowledge/socket'}") as client:
            await client.delete(keys.overlay_agent(NETWORK.vni, "a")[0])
        await made.store.agent_lease(NETWORK.vni, "a", "somebody else", 60.0).acquire()
        with pytest.raises(LeaseLost):
            await asyncio.wait_for(asyncio.shield(made.agents["a"]), PATIENCE_SECONDS)


async def test_a_knowledge_that_comes_back_empty_is_told_again(folder: Path) -> None:
    async with stage(folder) as made:
        await made.move("a", "b")
        await made.settled_at("b")

        await made.lose_knowledge()

        async with connect(f"unix://{made.folder / 'knowledge/socket'}") as client:
            claims = [keys.overlay_agent(NETWORK.vni, site)[0] for site in SITES]

            async def all_claimed() -> bool:
                return await client.exists(*claims) == len(SITES)

            await made.eventually(all_claimed)
        await made.settled_at("b")
        await made.move("b", "c")
        await made.reached_everywhere()
        await made.settled_at("c")
        assert not any(agent.done() for agent in made.agents.values())


async def _moving_to(made: Stage, site: str) -> bool:
    whole = await made.store.register(NETWORK.vni).read()
    return any(
        entry.binding.site == site and entry.binding.state is BindingState.MOVING
        for entry in whole.entries
    )


def _sends_on(site: str) -> bool:
    """Say whether a site's kernel sends frames for the VM anywhere."""
    description = next(each for each in NETWORK.sites if each.name == site)
    with SitePlane(NETWORK, description) as plane:
        return MAC in plane.actual()


def _break_device(site: str) -> None:
    with netlink_in(netns_of(site)) as netlink:
        netlink.link("del", index=index(netlink, "thvx99"))


def _break_rules_and_devices(site: str) -> None:
    """As a firewall's service does that begins anew, and somebody who means well."""
    nftables.run(netns_of(site), "flush ruleset")
    with netlink_in(netns_of(site)) as netlink:
        tunnel = index(netlink, "thvx99")
        netlink.brport("set", index=tunnel, learning=1, unicast_flood=1)
        netlink.fdb("del", ifindex=tunnel, lladdr=EVERYBODY, dst=VTEPS[SiteName("a")], flags=2)
        netlink.link("set", index=index(netlink, "thvr99"), state="down")


def _faults_at(site: str) -> tuple[str, ...]:
    description = next(each for each in NETWORK.sites if each.name == site)
    with SitePlane(NETWORK, description) as plane:
        return plane.faults()


def _make_bridge_anew(site: str) -> None:
    """As `ifdown` and `ifup` do; what keeps its port is only who stays at the site."""
    with netlink_in(netns_of(site)) as netlink:
        netlink.link("del", index=index(netlink, "br0"))
        bridge = make_bridge(netlink, 1500)
        netlink.link("set", index=index(netlink, "fixed"), master=bridge)


def _break_entries(site: str) -> None:
    with netlink_in(netns_of(site)) as netlink:
        for table in (2, 4):
            netlink.fdb("del", ifindex=index(netlink, "thvx99"), lladdr=MAC, flags=table)
