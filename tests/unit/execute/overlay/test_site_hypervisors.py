"""What the agents of a site hear of its hypervisors, from libvirt's own test driver."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress
from typing import TYPE_CHECKING, TypeVar

import pytest

from transhume.errors import HypervisorUnreachable
from transhume.execute.overlay.agent import hypervisors as module
from transhume.execute.overlay.agent.domains import Domains, Port, Seen
from transhume.execute.overlay.agent.events import Awaited, Event, Present, Runs, Stopped
from transhume.execute.overlay.agent.hypervisors import SiteHypervisors
from transhume.knowledge.model import HostName, Interface, MacAddress, VmName
from transhume.reach.libvirt import Connections

if TYPE_CHECKING:
    import libvirt

pytest.importorskip("libvirt")

T = TypeVar("T")
URI = "test:///default"
HOST, DOWN, STUCK, OTHER = map(HostName, ("a1", "a2", "a3", "a4"))
VM = VmName("tenant")
MAC = MacAddress("52:54:00:00:77:01")
DOMAIN = f"""
<domain type="test"><name>tenant</name><memory>1024</memory><os><type>hvm</type></os><devices>
  <interface type="bridge"><mac address="{MAC}"/><source bridge="br-{{}}"/></interface>
</devices></domain>
"""


@pytest.fixture
def host() -> Iterator["libvirt.virConnect"]:
    """A hypervisor that all connections of this process share."""
    import libvirt

    Connections([]).close()  # has libvirt's event loop run
    with closing(libvirt.open(URI)) as opened:
        yield opened
        with suppress(libvirt.libvirtError):
            opened.lookupByName("tenant").destroy()


class Reached(Connections):
    """Connections to a driver that knows no keep-alives, which the real ones insist on."""

    def __init__(self, connection: "libvirt.virConnect") -> None:
        super().__init__([])
        self._connection_of_all = connection
        self.calls = 0
        self.hold_back: Callable[[], object] = lambda: None
        """Keeps an answer on its way."""
        self.let_go = threading.Event()

    async def call(self, host: HostName, what: Callable[["libvirt.virConnect"], T]) -> T:
        if host == DOWN:
            raise HypervisorUnreachable(host, "qemu:///system", "it is down")
        self.calls += 1

        def ask() -> T:
            answer = what(self._connection_of_all)
            if host == STUCK:
                self.let_go.wait(20)
            self.hold_back()
            return answer

        return await asyncio.to_thread(ask)


@asynccontextmanager
async def told(
    host: "libvirt.virConnect", *hosts: HostName, complete: bool = True
) -> AsyncIterator[dict[str, list[Event]]]:
    """Listen for the agents of two networks."""
    connections = Reached(host)
    site = SiteHypervisors(connections, hosts, complete=complete)
    events: dict[str, list[Event]] = {"br-blue": [], "br-green": []}
    tasks = [asyncio.ensure_future(site.run())]
    tasks += [asyncio.ensure_future(site.tell(b, heard.append)) for b, heard in events.items()]
    try:
        yield events
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        connections.close()


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not holds():
            await asyncio.sleep(0.05)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_SECONDS", 0.1)


async def test_each_network_hears_of_the_vms_on_its_bridge(host: "libvirt.virConnect") -> None:
    host.createXML(DOMAIN.format("blue"))
    async with told(host, HOST) as events:
        await until(lambda: Present(macs=frozenset({MAC})) in events["br-blue"])
        await until(lambda: Present(macs=frozenset()) in events["br-green"])
        (runs, *_) = [each for each in events["br-blue"] if isinstance(each, Runs)]
        assert [each.mac for each in runs.interfaces] == [MAC]
        assert not any(isinstance(each, Runs) for each in events["br-green"])


async def test_a_paused_vm_is_present_and_one_that_was_destroyed_is_not(
    host: "libvirt.virConnect",
) -> None:
    domain = host.createXML(DOMAIN.format("blue"))
    domain.suspend()
    async with told(host, HOST) as events:
        await until(lambda: Present(macs=frozenset({MAC})) in events["br-blue"])
        domain.destroy()
        await until(lambda: events["br-blue"][-1] == Present(macs=frozenset()))


@pytest.mark.parametrize(
    ("hosts", "complete"), [((HOST, DOWN), True), ((HOST,), False)], ids=["down", "unknown"]
)
async def test_nobody_is_missed_while_a_hypervisor_says_nothing(
    host: "libvirt.virConnect", hosts: tuple[HostName, ...], complete: bool
) -> None:
    async with told(host, *hosts, complete=complete) as events:
        await until(lambda: len(events["br-blue"]) >= 2)
        assert {each for each in events["br-blue"] if isinstance(each, Present)} == {
            Present(macs=None)
        }


def test_xml_is_read_anew_when_a_domain_has_changed(host: "libvirt.virConnect") -> None:
    domain, domains = host.createXML(DOMAIN.format("blue")), Domains()

    def bridge(*, afresh: bool = False) -> list[str | None]:
        seen = [each for each in domains.read(host, afresh=afresh).seen if each.vm == "tenant"]
        return [port.bridge for each in seen for port in each.ports]

    assert bridge() == ["br-blue"]
    domain.destroy()
    assert bridge() == []
    host.createXML(DOMAIN.format("green"))
    assert bridge() == bridge(afresh=True) == ["br-green"]


async def test_many_that_are_looked_for_at_once_are_found_by_few_questions(
    host: "libvirt.virConnect",
) -> None:
    """A guest that forges addresses can have us look for very many, and each answer is of all domains."""
    host.createXML(DOMAIN.format("blue"))
    connections = Reached(host)
    site = SiteHypervisors(connections, [HOST])

    async with asyncio.TaskGroup() as tasks:
        looks = [tasks.create_task(site.look("br-blue", MAC)) for _ in range(100)]
        await asyncio.sleep(0)
        looks += [tasks.create_task(site.look("br-blue", MAC)) for _ in range(100)]

    found = [each.result() for each in looks]
    assert [each.mac for each in found if each is not None] == [MAC] * 200
    assert connections.calls <= 3
    connections.close()


async def test_many_that_start_at_once_are_told_of_a_few_times(
    host: "libvirt.virConnect",
) -> None:
    """As when a host comes back: each answer is of all domains."""
    import libvirt

    host.createXML(DOMAIN.format("blue"))
    connections = Reached(host)
    site = SiteHypervisors(connections, [HOST])
    told: list[Event] = []
    telling = asyncio.create_task(site.tell("br-blue", told.append))
    await asyncio.sleep(0)
    for _ in range(100):
        site._heard(HOST, VmName("tenant"), libvirt.VIR_DOMAIN_EVENT_STARTED, 0)
    await until(lambda: bool(told))
    assert len(told) <= 2
    telling.cancel()
    connections.close()


async def test_who_looks_while_a_hypervisor_is_being_asked_gets_an_answer_of_later(
    host: "libvirt.virConnect",
) -> None:
    """What it's saying already can be of before the VM was there."""
    connections = Reached(host)
    site = SiteHypervisors(connections, [HOST])
    answered, may_come = threading.Event(), threading.Event()
    connections.hold_back = lambda: answered.set() or may_come.wait(20)
    before = asyncio.create_task(site.look("br-blue", MAC))
    await asyncio.to_thread(answered.wait, 20)
    host.createXML(DOMAIN.format("blue"))
    later = asyncio.create_task(site.look("br-blue", MAC))
    await asyncio.sleep(0)
    may_come.set()
    assert await before is None
    assert await later is not None
    connections.close()


async def test_one_that_is_stuck_keeps_nobody_from_being_found_elsewhere(
    host: "libvirt.virConnect", monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ANSWER_SECONDS", 0.1)
    host.createXML(DOMAIN.format("blue"))
    connections = Reached(host)
    site = SiteHypervisors(connections, [STUCK, HOST])
    for _ in range(3):
        async with asyncio.timeout(10):
            assert await site.look("br-blue", MAC) is not None
    assert connections.calls == 4, "and it's asked nothing more while it owes an answer"
    connections.let_go.set()
    connections.close()


async def test_a_vm_that_moves_between_two_hosts_is_told_of_with_the_taps_of_each(
    host: "libvirt.virConnect",
) -> None:
    """While it moves, both have a domain of its name."""
    import libvirt

    site = SiteHypervisors(Reached(host), [HOST, OTHER])
    told: list[Event] = []
    telling = asyncio.create_task(site.tell("br-blue", told.append))
    await asyncio.sleep(0)
    for where, tap in ((OTHER, "vnet2"), (HOST, "vnet1")):
        port = Port(interface=Interface(mac=MAC, device=tap), bridge="br-blue")
        site._take(where, Seen(vm=VM, runs=where == HOST, waits=where == OTHER, ports=(port,)))
    for where, event in (
        (HOST, libvirt.VIR_DOMAIN_EVENT_SUSPENDED),
        (OTHER, libvirt.VIR_DOMAIN_EVENT_RESUMED),
        (HOST, libvirt.VIR_DOMAIN_EVENT_STOPPED),
        (OTHER, libvirt.VIR_DOMAIN_EVENT_SUSPENDED),
    ):
        site._heard(where, VM, event, 0)
    assert [(type(each), taps_of(each)) for each in told] == [
        (Awaited, ["vnet2"]),
        (Runs, ["vnet1"]),
        (Stopped, ["vnet1"]),
        (Runs, ["vnet2"]),
        (Stopped, ["vnet2"]),
    ]
    telling.cancel()


def taps_of(event: Event) -> list[str]:
    assert isinstance(event, Awaited | Runs | Stopped)
    return [each.device for each in event.interfaces]
