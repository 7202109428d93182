"""The gateway's packet rules: what is known again, what is held, and what must not be left out."""

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.execute.overlay.gateway.test_layout import SETTINGS, network
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
KEYS = st.tuples(
    st.ip_addresses(v=4).map(lambda ip: IpAddress(str(ip))),
    st.builds(
        Flow,
        st.sampled_from(["tcp", "udp"]),
        st.integers(0, 65535),
        st.ip_addresses(v=4).map(lambda ip: IpAddress(str(ip))),
        st.integers(0, 65535),
    ),
)
HELD = st.dictionaries(KEYS, st.integers(256, 65535), max_size=6)


def test_every_table_is_known_again_by_its_seal():
    for rules in (
        inside_rules(NETWORK, SETTINGS, leaves_here=True, segment_bytes=1410),
        anchor_rules(NETWORK),
        host_rules(NETWORK, "eth0", routes_for_us_alone=False),
        bridge_rules(NETWORK, SETTINGS),
    ):
        assert seals(rules.script) == (rules.seal,)


def test_other_settings_are_other_rules():
    here = inside_rules(NETWORK, SETTINGS, leaves_here=True, segment_bytes=1410)
    there = inside_rules(NETWORK, SETTINGS, leaves_here=False, segment_bytes=1410)
    shorter = inside_rules(NETWORK, SETTINGS, leaves_here=True, segment_bytes=1330)

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


def test_a_vm_cannot_forge_what_other_sites_tunnels_believe():
    """What leaves by the uplink has this site's address, which other sites' tunnels trust."""
    script = host_rules(NETWORK, "eth0", routes_for_us_alone=False).script

    assert f'iifname "thvu*" udp dport {NETWORK.port} drop' in script


def test_a_host_that_was_no_router_becomes_one_for_gateways_only():
    alone = host_rules(NETWORK, "eth0", routes_for_us_alone=True).script
    before = host_rules(NETWORK, "eth0", routes_for_us_alone=False).script

    assert routes_for_us_alone(alone)
    assert not routes_for_us_alone(before)
