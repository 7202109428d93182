"""What IPv4 and IPv6 call things: one text for each address, and a link-local address for each MAC address."""

from ipaddress import IPv6Address, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.execute.overlay.gateway.families import (
    FAMILIES,
    IPV4,
    IPV6,
    family_of,
    is_in,
    link_local_of,
    written,
)

MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))


@given(st.ip_addresses())
def test_an_address_has_one_text_whoever_says_it(address):
    family = IPV4 if address.version == 4 else IPV6

    assert family.text(address.packed) == written(str(address)) == str(address)
    assert family_of(str(address)) is family


@pytest.mark.parametrize("ip", ["", "fd66", "10.66.0.256", "fe80::1%eth0", "fe80::1%} drop"])
def test_what_is_no_address_of_anybody_is_refused(ip):
    with pytest.raises(ValueError, match=r"address|link"):
        written(ip)


def test_addresses_are_in_networks_of_their_family_only():
    networks = [ip_network("10.66.0.0/24"), ip_network("fd66::/64")]

    assert is_in("10.66.0.9", networks)
    assert is_in("fd66::9", networks)
    assert not is_in("fd67::9", networks)
    assert not is_in("::10.66.0.9", networks)


def test_a_mac_address_makes_the_link_local_address_that_kernels_make_of_it():
    assert link_local_of("52:54:00:7a:ff:01") == "fe80::5054:ff:fe7a:ff01"


@given(st.sets(MACS, min_size=2, max_size=2))
def test_two_mac_addresses_make_two_link_local_addresses(macs):
    found = {link_local_of(mac) for mac in macs}

    assert len(found) == 2
    assert all(IPv6Address(each).is_link_local for each in found)


@pytest.mark.parametrize("family", FAMILIES, ids=["IPv4", "IPv6"])
def test_what_leads_to_the_host_is_nobodys_and_no_vm_reaches_a_link(family):
    assert not ip_address(family.to_host[1]).is_global
    assert str(family.link_local) in family.not_outside
