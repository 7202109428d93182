"""Several virtual networks in the place of one: each hears of its own interfaces alone."""

from datetime import UTC, datetime

from transhume.execute.overlay.networks import Networks, seen_on
from transhume.knowledge.model import (
    Interface,
    MacAddress,
    Resources,
    Snapshot,
    VirtualNetworkName,
    Vm,
    VmName,
)
from transhume.lab.simulated import SimulatedOverlay

BLUE, GREEN = VirtualNetworkName("blue"), VirtualNetworkName("green")
ONE, TWO, THREE = (MacAddress(f"52:54:00:00:00:0{n}") for n in range(1, 4))
ALL = [ONE, TWO, THREE]


def vm(*interfaces: Interface) -> Vm:
    needs = Resources(vcpus=1, memory_bytes=1)
    return Vm(name=VmName("vm1"), uuid="u", needs=needs, interfaces=interfaces)


MIXED = vm(
    Interface(mac=ONE, network=BLUE),
    Interface(mac=TWO, network=GREEN),
    Interface(mac=THREE, network=VirtualNetworkName("")),
)


async def test_each_network_is_told_of_its_own_interfaces() -> None:
    blue, green = SimulatedOverlay(), SimulatedOverlay()
    networks = Networks({BLUE: blue, GREEN: green})
    await networks.of(MIXED).bind(ALL, "a")
    assert (blue.site_of, green.site_of) == ({ONE: "a"}, {TWO: "a"})
    assert await networks.of(MIXED).check(ALL, "a") == ()
    green.site_of[TWO] = "b"
    (fault,) = await networks.of(MIXED).check(ALL, "a")
    assert fault.startswith("network green: ")


def test_a_site_has_to_have_each_of_a_vms_networks() -> None:
    networks = Networks({BLUE: SimulatedOverlay(), GREEN: SimulatedOverlay(lacking=("b",))})
    assert networks.of(MIXED).obstacle(ALL, "a") is None
    assert networks.of(MIXED).obstacle(ALL, "b") == "the network isn't at b"
    assert networks.of(vm(Interface(mac=ONE, network=BLUE))).obstacle(ALL, "b") is None


async def test_a_move_is_announced_where_the_vm_has_interfaces() -> None:
    blue, green = SimulatedOverlay(), SimulatedOverlay()
    of_blue = vm(Interface(mac=ONE, network=BLUE))
    overlay = Networks({BLUE: blue, GREEN: green}).of(of_blue)
    async with overlay.hand_over(VmName("vm1"), [ONE], "a", "b"):
        assert blue.announced == [("vm1", "a", "b")]
    assert green.announced == []


async def test_two_vms_may_have_one_address_in_two_networks() -> None:
    blue, green = SimulatedOverlay(), SimulatedOverlay()
    networks = Networks({BLUE: blue, GREEN: green})
    await networks.of(vm(Interface(mac=ONE, network=BLUE))).bind([ONE], "a")
    await networks.of(vm(Interface(mac=ONE, network=GREEN))).bind([ONE], "b")
    assert (blue.site_of, green.site_of) == ({ONE: "a"}, {ONE: "b"})


async def test_the_only_network_has_what_nobody_says_otherwise_of() -> None:
    only = SimulatedOverlay()
    unsaid = vm(Interface(mac=ONE), Interface(mac=TWO, network=VirtualNetworkName("")))
    await Networks({BLUE: only}).of(unsaid).bind([ONE, TWO], "a")
    assert only.site_of == {ONE: "a"}


async def test_a_federation_without_networks_leaves_the_network_alone() -> None:
    overlay = Networks({}).of(MIXED)
    await overlay.join()
    await overlay.bind(ALL, "a")
    assert await overlay.check(ALL, "a") == ()


def test_a_snapshot_of_one_network_has_its_interfaces() -> None:
    snapshot = Snapshot(version=1, at=datetime(2026, 1, 1, tzinfo=UTC), vms={MIXED.name: MIXED})
    seen = seen_on(snapshot, GREEN, alone=False)
    assert seen.macs_of(MIXED.name) == (TWO,)
