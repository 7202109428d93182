"""Windows add up to a matrix in which nothing is lost and nothing counts twice."""

from dataclasses import replace

from tests.unit.analyze.traffic import START, end, ip, mac, outside, sent, vm, window
from transhume.analyze import build_matrix
from transhume.knowledge.model import (
    CommunicationMatrix,
    Endpoint,
    Interface,
    IpAddress,
    MacAddress,
    TrafficWindow,
)

BROADCAST = Endpoint(mac=MacAddress("ff:ff:ff:ff:ff:ff"), ip=ip(2))


def matrix(*windows: TrafficWindow) -> CommunicationMatrix:
    return build_matrix(windows, (vm(1), vm(2), vm(3)), start=START, seconds=10.0)


def frames(found: CommunicationMatrix, source: int, destination: int) -> int:
    return int(found.dense(found.frames)[source, destination])


def test_each_part_of_the_traffic_has_its_place() -> None:
    found = matrix(
        window(
            sent(end(1), end(2), 1000, 4),
            sent(end(2), outside(1), 200),
            sent(outside(1), end(3), 30),
            sent(end(1), BROADCAST, 60),
            sent(outside(1), outside(2), 5),
            dropped=7,
        )
    )

    assert found.vms == ("vm1", "vm2", "vm3")
    assert (found.between(0, 1), frames(found, 0, 1)) == (1000, 4)
    assert found.to_outside.tolist() == [0, 200, 0]
    assert found.from_outside.tolist() == [0, 0, 30]
    assert (found.multicast_bytes, found.unattributed_bytes) == (60, 5)
    assert found.dropped_frames == 7
    assert found.total_bytes == 1295


def test_windows_of_one_capture_point_add_up() -> None:
    """A late frame brings a second window of the same second."""
    found = matrix(
        window(sent(end(1), end(2), 10)),
        window(sent(end(1), end(2), 5)),
        window(sent(end(1), end(2), 100), at=1.0),
    )

    assert found.between(0, 1) == 115


def test_a_frame_seen_at_both_taps_counts_once() -> None:
    """The larger sighting is the one that missed less."""
    found = matrix(
        window(sent(end(1), end(2), 900, 9), point="a/vnet0"),
        window(sent(end(1), end(2), 1000, 10), point="b/vnet3"),
        window(sent(end(1), end(2), 50, 1), point="a/vnet0", at=1.0),
    )

    assert (found.between(0, 1), frames(found, 0, 1)) == (1050, 11)


def test_a_frame_that_a_router_passed_on_counts_once_too() -> None:
    """Behind a router the MAC addresses are others; the VMs and their IP addresses are not."""
    router = MacAddress("52:54:00:00:00:63")
    found = matrix(
        window(sent(end(1), Endpoint(mac=router, ip=ip(2)), 1000), point="a/vnet0"),
        window(sent(Endpoint(mac=router, ip=ip(1)), end(2), 1000), point="b/vnet0"),
    )

    assert found.between(0, 1) == found.total_bytes == 1000


def test_two_interfaces_of_a_vm_are_the_same_vm_and_different_conversations() -> None:
    second = Endpoint(mac=MacAddress("52:54:00:00:01:01"), ip=IpAddress("10.1.0.1"))
    one = vm(1)
    two_nics = replace(one, interfaces=(*one.interfaces, Interface(mac=second.mac)))
    windows = (
        window(sent(end(1), end(2), 1000), point="a/vnet0"),
        window(sent(second, end(2), 300), point="a/vnet1"),
    )

    found = build_matrix(windows, (two_nics, vm(2)), start=START, seconds=1.0)

    assert found.between(0, 1) == 1300


def test_the_mac_address_decides_before_the_ip_address() -> None:
    """A VM may have taken the IP address of another; frames still come from its interface."""
    found = matrix(window(sent(Endpoint(mac=mac(3), ip=ip(1)), end(2), 10)))

    assert found.between(2, 1) == 10


def test_without_mac_addresses_ip_addresses_tell_who_it_is() -> None:
    bare = MacAddress("")
    found = matrix(
        window(
            sent(Endpoint(mac=bare, ip=ip(1)), Endpoint(mac=bare, ip=ip(2)), 10),
            sent(Endpoint(mac=bare, ip=ip(1)), Endpoint(mac=bare, ip=IpAddress("224.0.0.251")), 7),
        )
    )

    assert found.between(0, 1) == 10
    assert found.multicast_bytes == 7


def test_a_broadcast_about_a_vm_is_not_sent_to_it() -> None:
    """An ARP request names the VM that it looks for; its frame goes to everybody."""
    found = matrix(window(sent(end(1), BROADCAST, 60)))

    assert len(found.bytes) == 0


def test_a_mac_address_is_the_same_in_capitals() -> None:
    loud = replace(vm(1), interfaces=(Interface(mac=MacAddress(mac(1).upper())),))

    found = build_matrix([window(sent(end(1), end(2), 10))], (loud, vm(2)), start=START, seconds=1)

    assert found.between(0, 1) == 10


def test_no_windows_are_a_silence() -> None:
    assert matrix().total_bytes == 0
