"""What the gateway is made of: addresses that nobody shares, and by which site traffic leaves."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.deployment.model import GatewaySettings, OverlayNetwork, OverlaySite
from transhume.execute.overlay.gateway.layout import (
    exit_of,
    host_addresses,
    marks,
    places,
    prefix,
)

SETTINGS = GatewaySettings(ip="10.66.0.1", prefix_length=24, mac="52:54:00:7a:ff:01")


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


def test_another_site_moves_none_of_those_that_are_there():
    before, after = places(network("a", "c")), places(network("a", "b", "c"))

    assert before.items() <= after.items()


def test_the_ends_of_a_cable_differ_and_so_do_networks():
    assert len({*host_addresses(66), *host_addresses(67), *host_addresses((1 << 16) - 1)}) == 6


def test_vms_are_in_the_gateways_network():
    assert prefix(SETTINGS) == IPv4Network("10.66.0.0/24")


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
