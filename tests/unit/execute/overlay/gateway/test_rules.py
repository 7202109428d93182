"""The gateway's packet rules: what is known again, what is held, and what must not be left out."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.execute.overlay.gateway.test_layout import BOTH, SETTINGS, network
from transhume.execute.overlay.gateway.families import IPV4, IPV6
from transhume.execute.overlay.gateway.rules import (
    anchor_rules,
    bridge_rules,
    changes,
    elements,
    held_in,
    host_rules,
    inside_rules,
    routes_for_us_alone,
)
from transhume.execute.overlay.sealing import seals
from transhume.knowledge.model import Flow, IpAddress

NETWORK = network("a", "b", uplinks="a")
FAMILIES = pytest.mark.parametrize("family", [IPV4, IPV6], ids=["IPv4", "IPv6"])


def keys(version: int):
    ips = st.ip_addresses(v=version).map(lambda ip: IpAddress(str(ip)))
    ports = st.integers(0, 65535)
    return st.tuples(ips, st.builds(Flow, st.sampled_from(["tcp", "udp"]), ports, ips, ports))


KEYS = keys(4) | keys(6)
HELD = st.dictionaries(KEYS, st.integers(256, 65535), max_size=6)


def inside(family, *, leaves_here=True, segment_bytes=1410):
    return inside_rules(NETWORK, BOTH, family, leaves_here=leaves_here, segment_bytes=segment_bytes)


@FAMILIES
def test_every_table_is_known_again_by_its_seal(family):
    for rules in (
        inside(family),
        anchor_rules(NETWORK, family),
        host_rules(NETWORK, family, "eth0", closed=""),
    ):
        assert rules.family == family.name
        assert seals(rules.script) == (rules.seal,)
    assert len({bridge_rules(NETWORK, each).seal for each in (SETTINGS, BOTH)}) == 2


@FAMILIES
def test_other_settings_are_other_rules(family):
    here = inside(family)
    there = inside(family, leaves_here=False)
    shorter = inside(family, segment_bytes=1330)

    assert len({here.seal, there.seal, shorter.seal}) == 3


@given(HELD)
def test_what_is_written_is_read_again(held):
    assert held_in(elements(held.items())) == held


@given(HELD, HELD)
def test_changes_make_of_what_is_what_should_be(actual, wanted):
    now = dict(actual)
    for line in changes(66, actual, wanted).splitlines():
        inside = line.partition("{")[2]
        if line.startswith("delete"):
            keys = set(held_in(inside.replace(",", " : 0x0,").replace(" }", " : 0x0 }")))
            now = {key: mark for key, mark in now.items() if key not in keys}
        else:
            added = held_in(inside)
            assert not added.keys() & now.keys()
            now |= added
    assert now == wanted


@given(HELD, HELD)
def test_each_family_has_a_map_of_its_own(actual, wanted):
    for line in changes(66, actual, wanted).splitlines():
        ips = [ip for ip, _ in (*actual, *wanted) if f" {ip} . " in line]
        assert {":" in ip for ip in ips} == {" ip6 " in line}


@FAMILIES
def test_a_vm_cannot_forge_what_other_sites_tunnels_believe(family):
    """What leaves by the uplink has this site's address, which other sites' tunnels trust."""
    script = host_rules(NETWORK, family, "eth0", closed="").script

    assert f'iifname "thvu*" udp dport {NETWORK.port} drop' in script


@FAMILIES
@pytest.mark.parametrize("closed", ['iifname "eth0"', 'iifname != "thvu*"'])
def test_a_host_that_was_no_router_becomes_one_for_gateways_only(family, closed):
    alone = host_rules(NETWORK, family, "eth0", closed=closed).script
    before = host_rules(NETWORK, family, "eth0", closed="").script

    assert f'{closed} oifname != "thvu*" drop' in alone
    assert routes_for_us_alone(alone)
    assert not routes_for_us_alone(before)


def test_no_vm_asks_by_ipv6_what_clouds_tell_their_own_machines():
    script = inside(IPV6).script

    assert "fe80::/10" in script
    assert "fd00:ec2::254" in script


def test_of_ipv6_neither_a_question_for_the_gateway_nor_an_answer_crosses_a_tunnel():
    drops = [line for line in bridge_rules(NETWORK, BOTH).script.splitlines() if "icmpv6" in line]

    for way in ("iifname", "oifname"):
        for about in (
            "@th,64,128 0xfd66",
            "ip6 saddr fd66::1 ",
            "@th,64,128 0xfe80",
            "ip6 saddr fe80",
        ):
            assert any(line.startswith(way) and about in line for line in drops)
    assert "icmpv6" not in bridge_rules(NETWORK, SETTINGS).script
