"""Which connections stay where, whatever the order of news."""

from datetime import UTC, datetime, timedelta
from ipaddress import ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from transhume.execute.overlay.gateway.anchoring import (
    CONFIRM_AFTER,
    GRACE,
    LIFETIME,
    AnchorTable,
    news,
    owners,
    staying,
    to_publish,
    within_limit,
)
from transhume.knowledge.model import (
    Anchors,
    Binding,
    BindingState,
    Flow,
    HandOver,
    IpAddress,
    MacAddress,
    SiteName,
    VmName,
)

NOW = datetime(2026, 11, 27, 12, tzinfo=UTC)
A, B, C = map(SiteName, "abc")
VM, OTHER = IpAddress("10.66.0.5"), IpAddress("10.66.0.6")
MAC = MacAddress("52:54:00:00:00:05")
WEB = Flow("tcp", 40000, IpAddress("203.0.113.9"), 443)
NAMES = Flow("udp", 40001, IpAddress("203.0.113.9"), 53)
VM6 = IpAddress("fd66::5")
WEB6 = Flow("tcp", 40000, IpAddress("2001:db8::9"), 443)
NETWORKS = (ip_network("10.66.0.0/24"), ip_network("fd66::/64"))


def anchors(site, *flows, ip=VM, at=NOW):
    return Anchors(site=site, ip=ip, at=at, flows=tuple(sorted(flows)))


def table(site=B):
    return AnchorTable(site, {A, B, C} - {site}, NETWORKS)


def binding(site, **settings):
    return Binding(vni=66, mac=MAC, site=site, sequence=1, ips=(VM,), **settings)


def leaving(source, until=NOW + timedelta(seconds=9)):
    return HandOver(vm=VmName("vm"), vni=66, macs=(MAC,), source=source, destination=B, until=until)


@pytest.mark.parametrize(
    ("known", "hand_overs", "stays"),
    [
        (binding(A), (), True),
        (binding(B), (), False),
        (binding(A), (leaving(A),), False),
        (binding(A), (leaving(A, NOW),), True),
        (binding(A), (leaving(C),), True),
        (binding(A, state=BindingState.MOVING, origin=B), (), False),
    ],
    ids=["here", "elsewhere", "about to leave", "was to", "of another site", "on its way here"],
)
def test_who_stays(known, hand_overs, stays):
    assert (MAC in staying(A, [known], hand_overs, NOW)) == stays


def test_hypervisors_know_better_than_the_gateway_whose_an_address_is():
    learnt = {VM: MacAddress("52:54:00:00:00:99"), OTHER: MacAddress("52:54:00:00:00:06")}

    assert owners([binding(A)], learnt) == {VM: MAC, OTHER: "52:54:00:00:00:06"}


def test_what_stays_is_not_told_and_what_nobody_knows_is():
    open_here = {VM: frozenset({WEB}), OTHER: frozenset({NAMES})}

    assert to_publish(open_here, {MAC}, {VM: MAC}, ()) == {OTHER: {NAMES}}
    assert to_publish(open_here, {}, {VM: MAC}, ()) == open_here


def test_what_is_anchored_elsewhere_is_not_told_again():
    open_here = {VM: frozenset({WEB, NAMES})}

    assert to_publish(open_here, (), {}, {(VM, NAMES)}) == {VM: {WEB}}
    assert to_publish({VM: frozenset({NAMES})}, (), {}, {(VM, NAMES)}) == {}


def flows(count):
    return frozenset(Flow("udp", port, IpAddress("203.0.113.9"), 53) for port in range(count))


def test_a_guest_that_opens_connections_without_end_takes_no_others_anchors():
    """All sites hold what is published, and are busy with that meanwhile."""
    made_up = {IpAddress(f"10.66.{n}.{m}"): flows(50) for n in range(1, 5) for m in range(250)}
    wanted = {**made_up, VM: flows(9000), OTHER: flows(30)}
    found = within_limit(wanted, {VM, OTHER}, {}, most=10_000)

    assert found[VM] == wanted[VM]
    assert found[OTHER] == wanted[OTHER]
    assert sum(map(len, found.values())) == 10_000
    assert {len(found[ip]) for ip in made_up if ip in found} <= {1}


def test_what_was_published_isnt_given_up_for_what_is_new():
    old = frozenset(sorted(flows(100))[50:])
    found = within_limit({VM: flows(100), OTHER: flows(9)}, (), {VM: old}, most=60)

    assert found == {VM: found[VM], OTHER: flows(9)}
    assert len(found[VM]) == 51
    assert found[VM] > old


def test_only_what_has_changed_is_written():
    said = {VM: anchors(A, WEB)}

    assert news(A, said, {VM: frozenset({WEB})}, NOW) == ()
    assert news(A, {}, {VM: frozenset({WEB})}, NOW) == (anchors(A, WEB),)
    assert news(A, said, {VM: frozenset({WEB, NAMES})}, NOW) == (anchors(A, WEB, NAMES),)
    assert news(A, said, {}, NOW) == (anchors(A),)


def test_what_was_said_long_ago_is_confirmed():
    later = NOW + CONFIRM_AFTER + timedelta(seconds=1)

    assert news(A, {VM: anchors(A, WEB)}, {VM: frozenset({WEB})}, later) == (
        anchors(A, WEB, at=later),
    )


def test_chained_moves_keep_both_anchors_and_at_each_site_its_own_are_local():
    seen = {}
    for site in (A, B, C):
        at = table(site)
        at.note(anchors(A, WEB))
        at.note(anchors(B, NAMES))
        seen[site] = at.held(NOW)

    assert seen[C] == {(VM, WEB): A, (VM, NAMES): B}
    assert seen[A] == {(VM, NAMES): B}
    assert seen[B] == {(VM, WEB): A}


def test_connections_of_both_families_are_anchored():
    at = table()
    at.note(anchors(A, WEB))
    at.note(anchors(C, WEB6, ip=VM6))

    assert at.held(NOW) == {(VM, WEB): A, (VM6, WEB6): C}


def test_an_anchor_ends_when_its_site_says_so():
    at = table()
    at.note(anchors(A, WEB))
    at.note(anchors(A))

    assert at.held(NOW) == {}


def test_a_knowledge_that_has_forgotten_ends_nothing_at_once():
    at = table()
    at.note_all([anchors(A, WEB)], NOW)
    at.note_all([], NOW)

    assert at.held(NOW + GRACE) == {(VM, WEB): A}
    assert at.held(NOW + GRACE + timedelta(seconds=1)) == {}


def test_one_that_is_said_again_is_no_longer_missing():
    at = table()
    at.note_all([], NOW)
    at.adopt({(VM, WEB): A}, NOW)
    at.note_all([anchors(A, WEB)], NOW)

    assert at.held(NOW + 2 * GRACE) == {(VM, WEB): A}


def test_what_an_earlier_agent_has_told_the_kernel_holds_until_it_is_known_better():
    at = table()
    at.adopt({(VM, WEB): A, (VM, NAMES): C}, NOW)
    at.note_all([anchors(C, NAMES)], NOW)

    assert at.held(NOW) == {(VM, WEB): A, (VM, NAMES): C}
    assert at.held(NOW + 2 * GRACE) == {(VM, NAMES): C}


def test_a_site_that_is_gone_for_good_is_forgotten():
    at = table()
    at.note(anchors(A, WEB))

    assert at.held(NOW + LIFETIME + timedelta(seconds=1)) == {}


@pytest.mark.parametrize(
    "record",
    [
        anchors(A, WEB, ip=IpAddress("10.67.0.5")),
        anchors(A, WEB, ip=IpAddress("10.66.0.5 } drop")),
        anchors(A, WEB6),
        anchors(A, WEB, ip=VM6),
        anchors(A, WEB6, ip=IpAddress("fd67::5")),
        anchors(A, WEB6, ip=IpAddress("fd66::5%} drop")),
        anchors(A, Flow("tcp", 1, IpAddress("2001:db8::9%} drop"), 1), ip=VM6),
        anchors(A, Flow("tcp", 1, IpAddress("2001:db8::0:9"), 1), ip=VM6),
        anchors(A, Flow("tcp", 1, IpAddress("fd66::7"), 1), ip=VM6),
        anchors(A, Flow("tcp", 1, IpAddress("10.66.0.7"), 1)),
        anchors(A, Flow("tcp", 1 << 16, IpAddress("203.0.113.9"), 1)),
        anchors(SiteName("stranger"), WEB),
    ],
    ids=[
        "another network's",
        "no address",
        "IPv6 to IPv4",
        "IPv4 to IPv6",
        "another's of IPv6",
        "a VM of one link",
        "a peer of one link",
        "another text",
        "not outside of IPv6",
        "not outside",
        "no port",
        "no site of ours",
    ],
)
def test_what_cannot_be_is_not_believed(record):
    at = table()
    at.note(record)

    assert at.held(NOW) == {}


FLOWS = st.builds(
    Flow, st.sampled_from(["tcp", "udp"]), st.integers(1, 3), st.just(WEB.peer), st.just(80)
)
RECORDS = st.builds(
    lambda site, flows: anchors(site, *flows), st.sampled_from([A, B, C]), st.frozensets(FLOWS)
)


@given(st.lists(RECORDS, max_size=12))
def test_all_sites_send_a_connection_to_one_and_the_same_or_keep_it_there(records):
    """Whatever two sites claim: never do two sites send a connection to each other."""
    tables = {site: table(site) for site in (A, B, C)}
    for at in tables.values():
        for record in records:
            at.note(record)
    held = {site: at.held(NOW) for site, at in tables.items()}
    last = {(each.site): each.flows for each in records}
    for flow in {flow for flows in last.values() for flow in flows}:
        goes = {held[site].get((VM, flow), site) for site in (A, B, C)}
        claimed_by = {site for site, flows in last.items() if flow in flows}
        assert goes == {min(claimed_by)}
