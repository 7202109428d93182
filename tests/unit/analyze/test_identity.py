"""Whose an address is: by MAC, by what the inventory says, by what was claimed in the traffic."""

from dataclasses import replace

import pytest

from tests.unit.analyze.traffic import claim, end, ip, mac, outside, sent, vm, window
from transhume.analyze import build_matrix
from transhume.knowledge.model import (
    CommunicationMatrix,
    Endpoint,
    Interface,
    IpAddress,
    MacAddress,
    TrafficWindow,
    Vm,
)

BARE = MacAddress("")


def known_by_mac(number: int) -> Vm:
    return replace(vm(number), interfaces=(Interface(mac=mac(number)),))


def matrix(*windows: TrafficWindow) -> CommunicationMatrix:
    """Return the matrix among VMs of which the inventory knows no IP address."""
    return build_matrix(windows, [known_by_mac(number) for number in (1, 2, 3)])


def test_the_inventory_is_not_asked_for_more_than_it_says() -> None:
    found = matrix(window(sent(end(1), Endpoint(mac=BARE, ip=ip(2)), 10)))

    assert found.to_outside.tolist() == [10, 0, 0]


def test_an_address_that_a_vm_claimed_is_its_own_where_no_mac_address_tells() -> None:
    """Of an end that a cooked capture shows without its MAC address, or a router's, the IP address remains."""
    found = matrix(
        window(
            sent(end(1), Endpoint(mac=BARE, ip=ip(2)), 10),
            sent(end(1), Endpoint(mac=mac(99), ip=ip(2)), 7),
        ),
        claim(2),
    )

    assert found.between(0, 1) == found.total_bytes == 17


def test_of_two_vms_that_claimed_an_address_the_later_has_it() -> None:
    windows = [
        window(sent(end(1), Endpoint(mac=BARE, ip=ip(77)), 10)),
        claim(2, ip(77), at=5.0),
        claim(3, ip(77), at=3.0),
    ]

    assert matrix(*windows).between(0, 1) == 10
    assert matrix(*reversed(windows)).between(0, 1) == 10


def test_what_a_stranger_claims_changes_nothing() -> None:
    """A router answers for what lies behind it."""
    found = matrix(
        window(sent(end(1), Endpoint(mac=BARE, ip=ip(2)), 10)), claim(2), claim(99, ip(2), at=9.0)
    )

    assert found.between(0, 1) == 10


def test_what_the_inventory_says_of_an_address_stands_against_claims() -> None:
    found = build_matrix(
        [window(sent(end(1), Endpoint(mac=BARE, ip=ip(2)), 10)), claim(3, ip(2))],
        [known_by_mac(1), vm(2), known_by_mac(3)],
    )

    assert found.between(0, 1) == 10


def test_six_is_as_good_as_four() -> None:
    address = IpAddress("fd00::2")
    found = matrix(
        window(
            sent(Endpoint(mac=mac(1), ip=IpAddress("fd00::1")), Endpoint(mac=BARE, ip=address), 10)
        ),
        claim(2, address),
    )

    assert found.between(0, 1) == 10


@pytest.mark.parametrize("odd", ["", "somewhere", "10.0.0", "fe80::1%eth0/64"])
def test_an_address_that_is_none_is_nobodys(odd: str) -> None:
    """Inventories hold what people wrote into metadata."""
    strange = Interface(mac=MacAddress(odd), ips=(IpAddress(odd),))

    found = build_matrix(
        [window(sent(end(1), end(2), 10))], [replace(vm(1), interfaces=(strange,)), vm(2)]
    )

    assert found.from_outside.tolist() == [0, 10]


def test_a_vm_stays_the_same_row_when_it_changes_hosts() -> None:
    found = matrix(
        window(sent(end(1), end(2), 10), point="a/vnet0"),
        window(sent(end(1), end(2), 20), at=1.0, point="b/vnet7"),
    )

    assert found.between(0, 1) == found.total_bytes == 30


def test_a_vm_that_two_addresses_lead_to_is_one() -> None:
    found = matrix(claim(1), window(sent(outside(1), Endpoint(mac=BARE, ip=ip(1)), 10)))

    assert found.from_outside.tolist() == [10, 0, 0]
