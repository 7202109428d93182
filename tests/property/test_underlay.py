"""The underlay's plans for any sites, in any order of events: one path a peer, one beginner a pair."""

from dataclasses import replace
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from tests.unit.execute.overlay.underlay.sites import KEEPALIVE, TUNNELS, report, site, view
from transhume.execute.overlay.underlay.pair import PathKind
from transhume.execute.overlay.underlay.plan import Planner, changes, relay_of
from transhume.execute.overlay.underlay.wireguard_text import is_endpoint, split_endpoint
from transhume.knowledge.model import SiteName

NAMES = "abcdefgh"
ENDPOINTS = st.sampled_from(
    ["192.0.2.1:51820", "198.51.100.2:1024", "203.0.113.3:9", "100.96.0.2:51820", "[2001:db8::1]:7"]
)


@st.composite
def sites(draw):
    names = draw(st.lists(st.sampled_from(NAMES), min_size=2, unique=True))
    made = {}
    for name in names:
        endpoints = draw(st.lists(ENDPOINTS, max_size=2, unique=True))
        seen = draw(st.dictionaries(st.sampled_from(NAMES), ENDPOINTS))
        found = site(name, *endpoints, seen=seen)
        made[found.site] = replace(
            found,
            relays=draw(st.booleans()),
            generation=draw(st.sampled_from("12")),
        )
    return made


@st.composite
def moments(draw):
    """Successive sets of sites, with what the device says of them, and what was proved meanwhile."""
    ours = draw(st.sampled_from(NAMES))
    public = draw(st.booleans())
    now, found = 0.0, []
    for _ in range(draw(st.integers(1, 8))):
        now += draw(st.sampled_from([0.25, 1.0, 5.0, 12.0, 40.0]))
        others = {name: each for name, each in draw(sites()).items() if name != ours}
        reports = tuple(
            report(
                each,
                endpoint=draw(st.none() | ENDPOINTS),
                handshake_at=draw(st.sampled_from([0.0, 1_000_000.0])),
                received_bytes=draw(st.integers(0, 3)),
            )
            for each in others.values()
            if draw(st.booleans())
        )
        fresh = "".join(name for name in others if draw(st.booleans()))
        self = site(ours, *(["192.0.2.9:51820"] if public else []))
        proved = draw(st.dictionaries(st.sampled_from(NAMES), ENDPOINTS))
        found.append((view(self, *others.values(), now=now, reports=reports, fresh=fresh), proved))
    return found


@given(moments())
def test_each_address_belongs_to_one_peer_and_each_site_to_itself(days):
    planner = Planner(TUNNELS, KEEPALIVE)
    for seen, proved in days:
        plan = planner.plan(seen)
        networks = [ip_network(n) for peer in plan.peers for n in peer.allowed_ips]
        assert len(set(networks)) == len(networks)
        assert all(network.prefixlen == 32 for network in networks)
        by_key = {peer.public_key: peer for peer in plan.peers}
        assert len(by_key) == len(plan.peers) == len(seen.others)
        for other in seen.others.values():
            own = by_key[other.public_key].allowed_ips
            assert f"{other.address}/32" in own
            relayed = f"{TUNNELS.relayed(other.site)}/32"
            assert (relayed in own) is bool(other.endpoints or seen.ours.endpoints)
        for name, endpoint in proved.items():
            planner.proved(SiteName(name), endpoint)


@given(moments())
def test_a_path_by_a_relay_goes_by_one_that_takes_the_packets(days):
    planner = Planner(TUNNELS, KEEPALIVE)
    for seen, proved in days:
        plan = planner.plan(seen)
        allowed = {peer.public_key: peer.allowed_ips for peer in plan.peers}
        for state in plan.states:
            if state.relay is not None:
                assert state.path in (PathKind.RELAY, PathKind.NONE)
                taken = allowed[seen.others[state.relay].public_key]
                assert f"{TUNNELS.relayed(state.site)}/32" in taken
        for name, endpoint in proved.items():
            planner.proved(SiteName(name), endpoint)


@given(moments())
def test_what_was_told_needs_no_telling(days):
    planner = Planner(TUNNELS, KEEPALIVE)
    for seen, proved in days:
        plan = planner.plan(seen)
        reports = {
            peer.public_key: report(
                seen.ours,
                public_key=peer.public_key,
                allowed_ips=peer.allowed_ips,
                keepalive_seconds=peer.keepalive_seconds,
            )
            for peer in plan.peers
        }
        calm = [replace(peer, afresh=False, insists=False) for peer in plan.peers]
        told, gone = changes(
            replace(plan, peers=tuple(calm)), reports, {peer.public_key: peer for peer in calm}
        )
        assert (told, gone) == ((), ())
        for name, endpoint in proved.items():
            planner.proved(SiteName(name), endpoint)


@given(sites())
def test_exactly_one_of_each_two_sites_sets_where_packets_go(known):
    planned = {
        name: Planner(TUNNELS, KEEPALIVE).plan(
            view(ours, *(each for each in known.values() if each.site != name))
        )
        for name, ours in known.items()
    }
    keys = {each.public_key: name for name, each in known.items()}
    begins = {
        (name, keys[peer.public_key])
        for name, plan in planned.items()
        for peer in plan.peers
        if peer.endpoint is not None
    }
    assert not any((other, one) in begins for one, other in begins)
    straight = {
        frozenset((one, other))
        for one in known
        for other in known
        if one != other and (known[one].endpoints or known[other].endpoints)
    }
    assert straight <= {frozenset(pair) for pair in begins}


@given(sites(), st.sampled_from(NAMES), st.sampled_from(NAMES), st.sets(st.sampled_from(NAMES)))
def test_both_ends_choose_the_same_relay(known, one, other, fresh):
    chosen = relay_of(one, other, known, frozenset(fresh))
    assert chosen == relay_of(other, one, known, frozenset(fresh))
    assert chosen is None or (chosen in fresh and known[chosen].relays)


@given(
    st.one_of(
        st.text(),
        st.from_regex(r"\[?[0-9a-f.:%]{3,40}\]?:[0-9]{1,6}"),
        st.builds(lambda text, tail: text + tail, ENDPOINTS, st.text(max_size=5)),
    )
)
def test_what_counts_as_an_endpoint_is_one_word_for_a_device(text):
    if is_endpoint(text):
        address, port = split_endpoint(text)
        assert 0 < port < 65536
        assert set(text) <= set("0123456789abcdef.:[]")
        assert address
