"""What is seen of VMs at a real bridge."""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager

import pytest
from scapy.layers.l2 import ARP, Ether

from tests.system.overlay_frames import EVERYONE, Nic, nic
from tests.system.overlay_sites import NETWORK, index, netns_of, three_sites
from transhume.errors import OverlayError
from transhume.execute.overlay.plane import SitePlane, tunnel_devices
from transhume.execute.overlay.routes import Route
from transhume.execute.overlay.sightings import How, Missed, Sighting, Sightings
from transhume.knowledge.model import IpAddress, MacAddress
from transhume.reach.netns import netlink_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

VM, OTHER = MacAddress("52:54:00:00:02:01"), MacAddress("52:54:00:00:02:02")
IP = IpAddress("10.99.0.77")
A, B = NETWORK.sites[:2]
PATIENCE_SECONDS = 30.0


@pytest.fixture
def sites() -> Iterator[None]:
    with three_sites():
        yield


@pytest.fixture
def planes(sites) -> Iterator[dict[str, SitePlane]]:
    with ExitStack() as stack:
        made = {site.name: stack.enter_context(SitePlane(NETWORK, site)) for site in (A, B)}
        for plane in made.values():
            plane.set_up()
        yield made


@asynccontextmanager
async def listening(**more) -> AsyncIterator[Sightings]:
    settings = {"bridge": "br0", "netns": netns_of("a"), "leave_out": tunnel_devices(NETWORK)}
    async with Sightings(**settings | more) as seen:
        yield seen


@asynccontextmanager
async def plugged(*what: str) -> AsyncIterator[Nic]:
    """Plug an interface in, in another thread: pyroute2 brings an event loop of its own."""
    plug = nic(*what)
    made = await asyncio.to_thread(plug.__enter__)
    try:
        yield made
    finally:
        await asyncio.to_thread(plug.__exit__, None, None, None)


async def next_of(seen: Sightings, mac: MacAddress) -> Sighting:
    """Return the next sighting of an address; the endpoints of the sites say something now and then too."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for each in seen:
            if isinstance(each, Sighting) and each.mac == mac:
                return each
    raise AssertionError("unreachable")


def rarp(mac: MacAddress) -> bytes:
    """Return the announcement that QEMU sends."""
    return bytes(Ether(src=mac, dst=EVERYONE, type=0x8035) / ARP(op=3, hwsrc=mac, hwdst=mac))


def gratuitous_arp(mac: MacAddress, ip: str, op: int = 1) -> bytes:
    return bytes(Ether(src=mac, dst=EVERYONE) / ARP(op=op, hwsrc=mac, psrc=ip, pdst=ip))


async def test_a_hypervisors_announcement_is_seen_with_its_port(sites):
    async with plugged("a", VM) as vm:
        async with listening() as seen:
            vm.socket.send(rarp(VM))
            found = {(await next_of(seen, VM)).how}

    assert found <= {How.RARP, How.FRAME}


async def test_what_is_known_to_the_bridge_is_seen_again_when_it_is_announced(sites):
    async with plugged("a", VM) as vm:
        vm.send(EVERYONE, b"the bridge learns")
        async with listening() as seen:
            vm.socket.send(rarp(VM))

            assert await next_of(seen, VM) == Sighting(mac=VM, port="tap-vm", ip=None, how=How.RARP)


@pytest.mark.parametrize("op", [1, 2], ids=["question", "answer"])
async def test_a_gratuitous_arp_tells_the_ip_address(sites, op):
    async with plugged("a", VM) as vm:
        vm.send(EVERYONE, b"the bridge learns")
        async with listening() as seen:
            vm.socket.send(gratuitous_arp(VM, IP, op))

            assert await next_of(seen, VM) == Sighting(mac=VM, port="tap-vm", ip=IP, how=How.ARP)


async def test_the_first_frame_of_a_vm_that_announces_nothing_is_seen(planes):
    """It is believed to be elsewhere: the bridge learns better."""
    planes["a"].apply([Route(mac=VM, vtep=IpAddress(B.vtep))])
    async with plugged("a", VM) as vm:
        async with listening() as seen:
            vm.send(OTHER, b"data")

            assert await next_of(seen, VM) == Sighting(
                mac=VM, port="tap-vm", ip=None, how=How.FRAME
            )


async def test_a_vm_that_went_and_came_back_is_seen_at_once_if_it_was_forgotten(planes):
    async with plugged("a", VM) as vm:
        async with listening(damping_seconds=3600) as seen:
            vm.socket.send(rarp(VM))
            await next_of(seen, VM)
            planes["a"].apply([Route(mac=VM, vtep=IpAddress(B.vtep))])
            seen.forget(VM)

            vm.send(OTHER, b"back")

            assert (await next_of(seen, VM)).how is How.FRAME


async def test_a_flooded_copy_that_leaves_by_a_stale_port_is_no_sighting(planes):
    """The VM is at b now and announces itself; the copies leave by its old port at a, and by all others."""
    for plane in planes.values():
        plane.apply([Route(mac=OTHER, vtep=None)])
    async with (
        plugged("a", VM, "stale"),
        plugged("a", OTHER, "other") as other,
        plugged("b", VM) as vm,
    ):
        async with listening() as seen:
            vm.socket.send(rarp(VM))
            vm.socket.send(gratuitous_arp(VM, IP))
            await asyncio.to_thread(vm.send, EVERYONE, b"and data")
            other.socket.send(rarp(OTHER))
            before_the_other = []
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for each in seen:
                    if isinstance(each, Sighting) and each.mac == OTHER:
                        break
                    before_the_other.append(each)

    assert VM not in {each.mac for each in before_the_other if isinstance(each, Sighting)}


async def test_a_tap_that_appears_later_is_heard(sites):
    async with listening() as seen:
        async with plugged("a", VM, "late") as vm:
            vm.send(EVERYONE, b"the bridge learns")
            await next_of(seen, VM)
            seen.forget(VM)
            vm.socket.send(rarp(VM))

            assert await next_of(seen, VM) == Sighting(
                mac=VM, port="tap-late", ip=None, how=How.RARP
            )


async def test_a_tap_that_went_and_came_again_under_its_name_is_heard(sites):
    async with listening() as seen:
        for _ in range(2):
            async with plugged("a", VM) as vm:
                vm.send(EVERYONE, b"the bridge learns")
                await next_of(seen, VM)
                seen.forget(VM)
                vm.socket.send(gratuitous_arp(VM, IP))

                assert (await next_of(seen, VM)).ip == IP
            seen.forget(VM)


async def test_a_bridge_that_was_made_anew_is_heard(sites):
    """As `ifdown` and `ifup` do; while it's gone nothing is at its ports."""
    async with listening() as seen:
        await asyncio.to_thread(remove_bridge)
        assert seen.present() == ()
        await asyncio.to_thread(add_bridge, "br0")
        async with plugged("a", VM) as vm:
            vm.send(EVERYONE, b"the bridge learns")
            await next_of(seen, VM)
            assert VM in {each.mac for each in seen.present()}
            seen.forget(VM)
            vm.socket.send(rarp(VM))

            assert (await next_of(seen, VM)).how is How.RARP


async def test_what_is_at_the_ports_can_be_asked(planes):
    planes["a"].apply([Route(mac=OTHER, vtep=IpAddress(B.vtep))])
    async with plugged("a", VM) as vm:
        vm.send(EVERYONE, b"the bridge learns")
        async with listening() as seen:
            await next_of_or_present(seen)
            found = {each.mac: each.port for each in seen.present()}

    assert found[VM] == "tap-vm"
    assert OTHER not in found


async def next_of_or_present(seen: Sightings) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while VM not in {each.mac for each in seen.present()}:
            await asyncio.sleep(0.01)


async def test_more_than_finds_room_is_told_as_missed(sites):
    """Whoever listens doesn't come to it while the bridge learns thousands of addresses."""
    async with plugged("a", VM) as vm:
        async with listening() as seen:
            seen._kernel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
            for number in range(200):
                vm.send(EVERYONE, b"", source=MacAddress(f"52:54:00:00:03:{number:02x}"))
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for each in seen:
                    if each == Missed():
                        break

            assert len({each.mac for each in seen.present()}) >= 200


async def test_a_guest_that_sends_without_end_leaves_others_their_turn(sites):
    """News of VMs that stop, say; it can send faster than it's heard."""
    addresses = [MacAddress(f"52:54:00:04:{n >> 8:02x}:{n & 255:02x}") for n in range(1000)]
    turns = 0

    async def take_turns():
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with plugged("a", VM) as vm, listening() as seen:
        for address in addresses:
            vm.socket.send(rarp(address))
        turning = asyncio.create_task(take_turns())
        heard: set[MacAddress] = set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not heard.issuperset(addresses):
                each = await anext(seen)
                assert isinstance(each, Sighting)
                heard.add(each.mac)
        turning.cancel()
    assert turns >= 10


def add_bridge(name: str) -> None:
    with netlink_in(netns_of("a")) as netlink:
        netlink.link("add", ifname=name, kind="bridge")
        netlink.link("set", index=index(netlink, name), state="up")


def remove_bridge() -> None:
    with netlink_in(netns_of("a")) as netlink:
        netlink.link("del", index=index(netlink, "br0"))


async def test_frames_of_other_bridges_are_no_sightings(sites):
    await asyncio.to_thread(add_bridge, "br1")
    async with plugged("a", OTHER, "other", "br1") as other, plugged("a", VM) as vm:
        async with listening() as seen:
            other.socket.send(rarp(OTHER))
            vm.socket.send(rarp(VM))
            async with asyncio.timeout(PATIENCE_SECONDS):
                async for each in seen:
                    assert isinstance(each, Sighting)
                    assert each.mac != OTHER
                    if each.mac == VM:
                        break


async def test_a_missing_bridge_is_named(sites):
    with pytest.raises(OverlayError, match="can't listen at bridge br7 in namespace thtest-a"):
        async with listening(bridge="br7"):
            pass
