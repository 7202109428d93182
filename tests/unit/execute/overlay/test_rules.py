"""The packet rules' text: what fits, who may send, and by what a set of rules is known again."""

from dataclasses import replace

import pytest

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.execute.overlay.plane.rules import counted, rules, segment_bytes
from transhume.execute.overlay.sealing import seals


def site(name: str, vtep: str) -> OverlaySite:
    return OverlaySite(name=name, bridge="br0", underlay="wan0", vtep=vtep)


NETWORK = OverlayNetwork(
    vni=5, sites=(site("a", "192.0.2.1"), site("b", "192.0.2.2"), site("c", "192.0.2.3"))
)


@pytest.mark.parametrize(
    ("vtep", "mtu", "ipv4", "ipv6"),
    [
        ("192.0.2.1", 1500, 1410, 1390),
        ("fd00::1", 1500, 1390, 1370),
        ("10.0.0.1", 1420, 1330, 1310),
    ],
    ids=["ipv4", "ipv6", "inside WireGuard"],
)
def test_segments_fit_with_all_headers(vtep, mtu, ipv4, ipv6):
    assert segment_bytes(site("a", vtep), mtu) == {"ip": ipv4, "ip6": ipv6}


def test_only_the_other_sites_may_send():
    script = rules(NETWORK, NETWORK.sites[0], 1500)

    assert "elements = { 192.0.2.2, 192.0.2.3 }" in script
    assert 'iifname "wan0" ip saddr @sites return' in script


@pytest.mark.parametrize(("vtep", "ip"), [("192.0.2.", "ip"), ("fd00::", "ip6")])
def test_nothing_is_forwarded_to_another_sites_tunnel_but_from_the_underlay(vtep, ip):
    sites = tuple(site(name, f"{vtep}{number}") for number, name in enumerate("ab", start=1))
    script = rules(replace(NETWORK, sites=sites), sites[0], 1500)

    assert f'iifname != "wan0" {ip} daddr @sites udp dport 4789 counter name' in script


def test_a_site_alone_hears_nobody():
    script = rules(replace(NETWORK, sites=NETWORK.sites[:1]), NETWORK.sites[0], 1500)

    assert "set sites {\ntype ipv4_addr\n}" in script


def test_rules_are_known_again_until_something_changes():
    script = rules(NETWORK, NETWORK.sites[0], 1500)
    longer = rules(NETWORK, NETWORK.sites[0], 9000)
    listing = "\n".join(f'table inet x {{\n\tcomment "{seal}"\n}}' for seal in seals(script))

    assert len(seals(script)) == 2
    assert seals(listing) == seals(script)
    assert seals(longer)[0] == seals(script)[0]
    assert seals(longer)[1] != seals(script)[1]


SEEN = {"strangers": 3, "circling": 0}


def test_counters_are_read_from_a_listing():
    one, other = (
        f"\tcounter {name} {{\n\t\tpackets {packets} bytes 0\n\t}}\n"
        for name, packets in SEEN.items()
    )

    assert counted(one + other) == SEEN


@pytest.mark.parametrize("vni", [1, 66, 2**23, 2**24 - 1])
def test_the_detours_number_is_another_one_of_24_bits(vni):
    detour = replace(NETWORK, vni=vni).detour_vni

    assert detour != vni
    assert 0 <= detour < 2**24
