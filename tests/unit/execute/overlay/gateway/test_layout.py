"""What the gateway is made of: addresses that nobody shares, and by which site traffic leaves."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.deployment.model import (
    IPV4_GATEWAYS,
    GatewaySettings,
    OverlayNetwork,
    OverlaySite,
)
from transhume.execute.overlay.gateway.families import IPV4, IPV6
from transhume.execute.overlay.gateway.layout import (
    ACCESS,
    TRANSIT,
    UPLINK,
    addresses,
    exit_of,
    families,
    gateway_ips,
    host_addresses,
    is_at,
    marks,
    namespace,
    places,
    prefixes,
)

SETTINGS = GatewaySettings(ip="10.66.0.1", prefix_length=24, mac="52:54:00:7a:ff:01")
BOTH = replace(SETTINGS, ip6="fd66::1")
IPV6_ALONE = replace(BOTH, ip=None)


def network(*names: str, uplinks: str = "", gateway: GatewaySettings | None = SETTINGS):
    sites = tuple(
        OverlaySite(
            name=name,
            bridge="br0",
            underlay="eth1",
            vtep=f"192.0.2.{number}",
            uplink="eth0" if name in uplinks else None,
        )
        for number, name in enumerate(names, start=1)
    )
    return OverlayNetwork(vni=66, sites=sites, gateway=gateway)


@given(st.sets(st.text("abcdefgh", min_size=1, max_size=4), min_size=1, max_size=60))
def test_no_two_sites_share_an_address_and_the_order_of_the_file_is_nothing(names):
    there = sorted(names)
    found = places(network(*there))

    assert places(network(*reversed(there))) == found
    for what in ("ip", "mac", "mark"):
        assert len({getattr(each, what) for each in found.values()}) == len(names)
    assert all(each.mark >= 256 for each in found.values()), "below, tables have meanings"
    assert all(IPv4Address(each.ip).is_link_local for each in found.values())
    of_ipv6 = [each.ip_in(IPV6) for each in found.values()]
    assert len(set(of_ipv6)) == len(names)
    assert all(IPv6Address(each).is_link_local for each in of_ipv6)


def test_another_site_moves_none_of_those_that_are_there():
    before, after = places(network("a", "c")), places(network("a", "b", "c"))

    assert before.items() <= after.items()


@pytest.mark.parametrize("family", [IPV4, IPV6], ids=["IPv4", "IPv6"])
def test_the_ends_of_a_cable_differ_and_so_do_networks(family):
    found = {ip for vni in (66, 67, (1 << 16) - 1) for ip in host_addresses(vni, family)}

    assert len(found) == 6
    assert all(ip_network(ip).subnet_of(family.to_host) for ip in found)


def test_networks_that_share_a_cables_ends_are_those_that_the_deployment_file_mustnt_have():
    numbers = range(1, 3 * IPV4_GATEWAYS, 77)
    of_number = {vni: host_addresses(vni, IPV4) for vni in numbers}
    assert len({*of_number.values()}) == len({vni % IPV4_GATEWAYS for vni in numbers})
    assert host_addresses(66, IPV4) == host_addresses(66 + IPV4_GATEWAYS, IPV4)
    assert host_addresses(66, IPV6) != host_addresses(66 + IPV4_GATEWAYS, IPV6)


@pytest.mark.parametrize(
    ("settings", "spoken", "networks"),
    [
        (SETTINGS, (IPV4,), ["10.66.0.0/24"]),
        (BOTH, (IPV4, IPV6), ["10.66.0.0/24", "fd66::/64"]),
        (IPV6_ALONE, (IPV6,), ["fd66::/64"]),
        (replace(BOTH, prefix_length6=112), (IPV4, IPV6), ["10.66.0.0/24", "fd66::/112"]),
    ],
    ids=["IPv4", "both", "IPv6", "another length"],
)
def test_vms_are_in_the_gateways_networks(settings, spoken, networks):
    assert families(settings) == spoken
    assert [str(each) for each in prefixes(settings)] == networks


def test_the_gateways_link_local_address_is_its_mac_addresses():
    """At every site it's the same, so that a guest keeps the router that it has learnt."""
    assert gateway_ips(SETTINGS) == ("10.66.0.1",)
    assert gateway_ips(BOTH) == ("10.66.0.1", "fd66::1", "fe80::5054:ff:fe7a:ff01")


def test_each_cable_has_an_address_of_each_family_and_no_two_sites_one_but_the_gateways():
    there = places(network("a", "b"))
    a, b = (addresses(66, BOTH, there[name]) for name in "ab")

    assert a[ACCESS] == b[ACCESS]
    assert a[ACCESS] == {("10.66.0.1", 32), ("fd66::1", 128), ("fe80::5054:ff:fe7a:ff01", 64)}
    assert not a[TRANSIT] & b[TRANSIT]
    for name in (ACCESS, TRANSIT, UPLINK):
        assert {":" in ip for ip, _ in a[name]} == {True, False}
        assert any(ip.startswith("fe80::") for ip, _ in a[name]), "else nobody is asked there"


def test_of_a_family_that_the_gateway_does_not_speak_it_has_no_address():
    place = places(network("a"))["a"]

    for settings, colon in ((SETTINGS, False), (IPV6_ALONE, True)):
        found = {ip for each in addresses(66, settings, place).values() for ip, _ in each}
        assert {":" in ip for ip in found} == {colon}


def test_marks_lead_to_other_sites_only():
    assert set(marks(network("a", "b", "c"), "b")) == {"a", "c"}


@pytest.mark.parametrize(
    ("settings", "uplinks", "site", "leaves_at"),
    [
        (SETTINGS, "abc", "b", "b"),
        (SETTINGS, "bc", "a", "b"),
        (replace(SETTINGS, home="c"), "bc", "a", "c"),
        (replace(SETTINGS, home="c"), "bc", "b", "b"),
        (replace(SETTINGS, home="c", exit_at_home=True), "abc", "b", "c"),
        (SETTINGS, "", "a", None),
        (None, "abc", "a", None),
    ],
    ids=[
        "at the nearest",
        "without an uplink",
        "without, and a home",
        "with one, and a home",
        "all at home",
        "nowhere",
        "no gateway",
    ],
)
def test_traffic_leaves_as_the_policy_says(settings, uplinks, site, leaves_at):
    assert exit_of(network("a", "b", "c", uplinks=uplinks, gateway=settings), site) == leaves_at


@pytest.mark.parametrize("site", ["a", "a-b", "1-a"])
def test_a_sites_gateways_are_known_by_their_names(site: str) -> None:
    names = [namespace(vni, each) for vni in (1, 66) for each in ("a", "a-b", "1-a", "b-a")]
    ours = [namespace(vni, site) for vni in (1, 66)]
    assert [
        name for name in (*names, "a", "thgw", "thgw-a", "thgwx-a") if is_at(name, site)
    ] == ours
