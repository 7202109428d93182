"""VMs guessed from addresses where there is no inventory."""

from tests.unit.analyze.traffic import claim, end, ip, mac, outside, sent, window
from transhume.analyze import vms_from_windows
from transhume.knowledge.model import Endpoint, IpAddress, MacAddress, PairTraffic


def names(*pairs: PairTraffic) -> list[str]:
    return [vm.name for vm in vms_from_windows([window(*pairs)])]


def test_each_mac_address_is_a_vm_called_by_its_only_ip_address() -> None:
    assert names(sent(end(10), end(9), 1)) == ["10.0.0.9", "10.0.0.10"]


def test_a_link_local_address_beside_another_is_no_second_name() -> None:
    link_local = Endpoint(mac=mac(1), ip=IpAddress("fe80::1"))

    assert names(sent(end(1), end(2), 1), sent(link_local, end(2), 1)) == ["10.0.0.1", "10.0.0.2"]


def test_a_vm_with_an_address_of_each_family_is_called_by_the_shorter_one() -> None:
    six = Endpoint(mac=mac(1), ip=IpAddress("fd00::1"))

    assert names(sent(six, Endpoint(mac=mac(2)), 1), sent(end(1), end(2), 1)) == [
        "10.0.0.1",
        "10.0.0.2",
    ]


def test_a_vm_with_two_addresses_is_called_by_its_mac_address() -> None:
    second = Endpoint(mac=mac(1), ip=ip(100))

    assert names(sent(end(1), end(2), 1), sent(second, end(2), 1)) == ["10.0.0.2", mac(1)]


def test_a_vm_without_ip_addresses_is_called_by_its_mac_address() -> None:
    assert names(sent(Endpoint(mac=mac(1)), Endpoint(mac=mac(2)), 1)) == [mac(1), mac(2)]


def test_two_machines_with_one_ip_address_are_called_by_their_mac_addresses() -> None:
    twin = Endpoint(mac=mac(7), ip=ip(1))

    assert names(sent(end(1), end(2), 1), sent(twin, end(2), 1)) == ["10.0.0.2", mac(1), mac(7)]


def test_what_lies_behind_a_router_is_outside() -> None:
    assert names(*(sent(end(1), outside(n), 1) for n in range(1, 5))) == ["10.0.0.1"]


def test_a_machine_that_speaks_for_private_and_public_addresses_is_a_router() -> None:
    inner, public = ip(254), IpAddress("8.8.8.8")
    pairs = [sent(end(1), Endpoint(mac=mac(99), ip=address), 1) for address in (inner, public)]

    assert names(*pairs) == ["10.0.0.1"]


def test_broadcast_and_multicast_are_nobody() -> None:
    everybody = Endpoint(mac=MacAddress("ff:ff:ff:ff:ff:ff"), ip=ip(77))
    group = Endpoint(mac=MacAddress("01:00:5e:00:00:fb"), ip=IpAddress("224.0.0.251"))

    assert names(sent(end(1), everybody, 1), sent(end(1), group, 1)) == ["10.0.0.1"]


def test_without_mac_addresses_each_ip_address_is_a_vm() -> None:
    bare = MacAddress("")

    found = names(sent(Endpoint(mac=bare, ip=ip(1)), Endpoint(mac=bare, ip=ip(2)), 1))

    assert found == ["10.0.0.1", "10.0.0.2"]


def test_an_end_without_its_mac_address_is_the_machine_known_by_that_ip_address() -> None:
    """In cooked captures only the sender has one; the answer brings the other's."""
    bare = MacAddress("")
    pairs = (
        sent(end(1), Endpoint(mac=bare, ip=ip(2)), 1),
        sent(end(2), Endpoint(mac=bare, ip=ip(1)), 1),
    )

    assert names(*pairs) == ["10.0.0.1", "10.0.0.2"]


def test_a_machine_that_claims_each_of_its_many_addresses_is_no_router() -> None:
    """A host of containers, or of a floating address; a router never claims what lies behind it."""
    many = [ip(number) for number in range(100, 106)]
    windows = [claim(1, address) for address in many] + [
        window(*(sent(Endpoint(mac=mac(1), ip=address), end(2), 60) for address in many))
    ]

    assert [vm.name for vm in vms_from_windows(windows)] == ["10.0.0.2", mac(1)]


def test_a_router_that_claims_its_own_address_is_a_router_still() -> None:
    windows = [
        claim(99, ip(254)),
        window(sent(end(1), Endpoint(mac=mac(99), ip=IpAddress("8.8.8.8")), 60)),
    ]

    assert [vm.name for vm in vms_from_windows(windows)] == ["10.0.0.1"]


def test_nothing_seen_is_nobody() -> None:
    assert vms_from_windows([]) == ()
