"""Which peers a site has, who begins, and which path is taken: by table, without a device."""

from dataclasses import replace

import pytest

from tests.unit.execute.overlay.underlay.sites import KEEPALIVE, TUNNELS, report, site, view
from transhume.execute.overlay.underlay.device import PeerSetting
from transhume.execute.overlay.underlay.pair import (
    ALL_HOPS,
    ANSWER_SECONDS,
    ATTEMPT_SECONDS,
    OPENING_HOPS,
    PathKind,
    initiates,
)
from transhume.execute.overlay.underlay.plan import Plan, Planner, changes, relay_of
from transhume.knowledge.model import SiteName

A_ENDPOINT, D_ENDPOINT = "192.0.2.1:51820", "192.0.2.4:51820"
B_OUTER, C_OUTER = "198.51.100.2:51820", "203.0.113.2:51820"
A = site("a", A_ENDPOINT, seen={"b": B_OUTER, "c": C_OUTER})
B, C = site("b"), site("c")
D = site("d", D_ENDPOINT)
B_RELAYED, C_RELAYED = "100.96.0.2:51820", "100.96.0.3:51820"
LOST = KEEPALIVE + ANSWER_SECONDS


def planner() -> Planner:
    return Planner(TUNNELS, KEEPALIVE)


def peer(plan: Plan, of) -> PeerSetting:
    (found,) = [each for each in plan.peers if each.public_key == of.public_key]
    return found


def by_relay(of, endpoint: str, **changes):
    return report(of, endpoint=endpoint, **changes)


def b_at_work(at: Planner, now: float = 0.0, **changes) -> Plan:
    """B, with sessions to A and, by the relay, to C."""
    reports = (report(A), by_relay(C, C_RELAYED, **changes))
    return at.plan(view(B, A, C, now=now, reports=reports))


def c_at_work(at: Planner, now: float = 0.0, **changes) -> Plan:
    reports = (report(A), by_relay(B, B_RELAYED, **changes))
    return at.plan(view(C, A, B, now=now, reports=reports))


@pytest.mark.parametrize(
    ("ours", "other", "begins"),
    [
        pytest.param(B, A, True, id="behind-nat-to-public"),
        pytest.param(A, B, False, id="public-to-behind-nat"),
        pytest.param(A, D, True, id="both-public-first-name"),
        pytest.param(D, A, False, id="both-public-second-name"),
        pytest.param(B, C, True, id="both-behind-nat-first-name"),
        pytest.param(C, B, False, id="both-behind-nat-second-name"),
    ],
)
def test_one_of_two_sites_begins(ours, other, begins):
    assert initiates(ours, other) is begins


def test_a_site_behind_nat_sends_to_a_public_one_and_keeps_its_hole_open():
    found = peer(planner().plan(view(B, A)), A)

    assert found.endpoint == A_ENDPOINT
    assert found.keepalive_seconds == KEEPALIVE
    assert found.allowed_ips == ("100.64.0.1/32", "100.96.0.1/32")


def test_a_public_site_waits_for_the_one_behind_nat():
    found = peer(planner().plan(view(A, B)), B)

    assert found.endpoint is None
    assert found.keepalive_seconds == 0


def test_a_public_site_tells_where_it_sees_those_behind_nat():
    reports = (report(B, endpoint=B_OUTER), report(D, endpoint=D_ENDPOINT))

    plan = planner().plan(view(A, B, C, D, reports=reports))

    assert [(seen.site, seen.endpoint) for seen in plan.seen] == [("b", B_OUTER)]


def test_what_was_seen_long_ago_is_not_told():
    reports = (report(B, endpoint=B_OUTER, handshake_at=1_000_021.0 - 300),)

    assert planner().plan(view(A, B, reports=reports)).seen == ()


def test_two_sites_behind_nat_begin_by_a_relay():
    at_b, at_c = planner().plan(view(B, A, C)), planner().plan(view(C, A, B))

    assert peer(at_b, C).endpoint == C_RELAYED
    assert peer(at_b, C).allowed_ips == ("100.64.0.3/32",)
    assert peer(at_b, A).allowed_ips == ("100.64.0.1/32", "100.96.0.1/32", "100.96.0.3/32")
    assert peer(at_c, B).endpoint is None
    assert peer(at_c, A).allowed_ips == ("100.64.0.1/32", "100.96.0.1/32", "100.96.0.2/32")


def test_a_relay_takes_both_addresses_of_those_it_serves():
    plan = planner().plan(view(A, B, C))

    assert peer(plan, B).allowed_ips == ("100.64.0.2/32", "100.96.0.2/32")
    assert peer(plan, C).allowed_ips == ("100.64.0.3/32", "100.96.0.3/32")


def test_without_a_relay_two_sites_behind_nat_wait_for_a_direct_path():
    plan = planner().plan(view(B, replace(A, relays=False), C))

    assert peer(plan, C).endpoint is None
    assert [probing.endpoints for probing in plan.probes] == [(C_OUTER,)]


def test_both_open_their_nats_first_and_then_try_all_the_way():
    for at_work, outer in ((b_at_work, C_OUTER), (c_at_work, B_OUTER)):
        ours = planner()
        opening, trying = at_work(ours), at_work(ours, now=2.0)

        assert [(p.endpoints, p.hops) for p in opening.probes] == [((outer,), OPENING_HOPS)]
        assert [(p.endpoints, p.hops) for p in trying.probes] == [((outer,), ALL_HOPS)]
        assert opening.attempting
        assert opening.hurried


def test_an_attempt_ends_and_another_begins_with_the_next_minute():
    ours = planner()
    b_at_work(ours)
    after, next_minute = b_at_work(ours, now=ATTEMPT_SECONDS), b_at_work(ours, now=59.0)

    assert not after.attempting
    assert next_minute.attempting


def test_news_of_where_the_other_is_begins_an_attempt_at_once():
    ours = planner()
    b_at_work(ours)
    assert not b_at_work(ours, now=20.0).attempting

    moved = replace(A, seen=site("x", seen={"b": B_OUTER, "c": "203.0.113.9:1024"}).seen)
    plan = ours.plan(view(B, moved, C, now=21.0, reports=(report(A), by_relay(C, C_RELAYED))))

    assert [probing.endpoints for probing in plan.probes] == [("203.0.113.9:1024",)]


def test_news_of_where_one_of_two_is_begins_an_attempt_at_both():
    seen = [{"c": C_OUTER}, {"b": B_OUTER, "c": C_OUTER}, {"b": B_OUTER, "c": "203.0.113.9:1024"}]
    attempting = []
    for ours, other in ((B, C), (C, B)):
        at = planner()
        for second, places in enumerate(seen):
            a = site("a", A_ENDPOINT, seen=places)
            plan = at.plan(view(ours, a, other, now=20.0 * second, reports=(report(a),)))
            attempting.append(plan.attempting)

    assert attempting == [False, True, True] * 2


def test_the_relay_carries_the_traffic_until_a_direct_path_is_proved():
    ours = planner()
    before = peer(b_at_work(ours), C)
    ours.proved(SiteName("c"), C_OUTER)
    after = b_at_work(ours, now=0.3)

    assert before.endpoint == C_RELAYED
    assert peer(after, C).endpoint == C_OUTER
    assert peer(after, C).allowed_ips == before.allowed_ips
    assert after.nudges == (C.address,), "the other site has to learn it"


def test_a_direct_path_is_insisted_on_while_late_packets_come_by_the_relay():
    ours = planner()
    b_at_work(ours)
    ours.proved(SiteName("c"), C_OUTER)

    assert peer(b_at_work(ours, now=0.3), C).insists
    settled = ours.plan(
        view(B, A, C, now=0.6, reports=(report(A), report(C, endpoint=C_OUTER, received_bytes=2)))
    )
    assert not peer(settled, C).insists
    assert settled.probes == ()


def test_only_the_one_that_begins_chooses_the_path():
    ours = planner()
    c_at_work(ours)
    ours.proved(SiteName("b"), B_OUTER)

    assert peer(c_at_work(ours, now=0.3), B).endpoint is None


def test_the_other_keeps_its_own_hole_open_on_a_direct_path():
    ours = planner()
    direct = (report(A), report(B, endpoint=B_OUTER))
    sent = [
        bool(ours.plan(view(C, A, B, now=now, reports=direct)).probes)
        for now in (0.0, 1.0, 4.0, 5.0, 6.0)
    ]

    assert sent == [True, False, False, True, False]


def test_a_direct_path_on_which_nothing_comes_is_given_up_for_the_relay():
    ours = planner()
    b_at_work(ours)
    ours.proved(SiteName("c"), C_OUTER)
    reports = (report(A), report(C, endpoint=C_OUTER))
    paths = [
        peer(ours.plan(view(B, A, C, now=now, reports=reports)), C).endpoint
        for now in (1.0, LOST - 1, LOST + 1)
    ]

    assert paths == [C_OUTER, C_OUTER, C_RELAYED]


def test_a_quiet_peer_is_nudged_and_then_begun_anew_at_its_next_endpoint():
    other, ours = site("a", A_ENDPOINT, D_ENDPOINT), planner()
    reports = (report(A),)
    plans = {
        now: ours.plan(view(B, other, now=now, reports=reports))
        for now in (0.0, KEEPALIVE - 1, KEEPALIVE, KEEPALIVE + 0.5, LOST, LOST + 1)
    }

    assert [bool(plan.nudges) for plan in plans.values()] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]
    assert [peer(plan, A).afresh for plan in plans.values()] == [*[False] * 4, True, False]
    assert peer(plans[LOST], A).endpoint == D_ENDPOINT


def test_a_peer_from_which_something_comes_is_left_alone():
    ours = planner()
    for second in range(100):
        plan = ours.plan(view(B, A, now=second, reports=(report(A, received_bytes=1 + second),)))
        assert plan.nudges == ()
        assert not peer(plan, A).afresh


def test_a_site_whose_device_began_anew_gets_a_new_session_at_once():
    ours = planner()
    ours.plan(view(B, A, reports=(report(A),)))

    plan = ours.plan(view(B, replace(A, generation="2"), now=1.0, reports=(report(A),)))

    assert peer(plan, A).afresh
    assert not peer(ours.plan(view(B, replace(A, generation="2"), now=2.0)), A).afresh


def test_a_first_session_is_tried_for_more_and_more_rarely():
    ours, waiting = planner(), report(A, handshake_at=0.0, received_bytes=0)
    tries = [
        tenth / 10
        for tenth in range(200)
        if peer(ours.plan(view(B, A, now=tenth / 10, reports=(waiting,))), A).afresh
    ]

    assert tries == [1.5, 4.5, 10.5]


def test_another_key_of_a_site_is_another_peer():
    ours = planner()
    ours.plan(view(B, A))
    renewed = replace(A, public_key=site("z").public_key)

    plan = ours.plan(view(B, renewed, reports=(report(A),)))

    told, gone = changes(plan, {A.public_key: report(A)}, {})
    assert [each.public_key for each in told] == [renewed.public_key]
    assert gone == (A.public_key,)


def test_states_tell_the_path_and_who_relays():
    (to_a, to_c) = b_at_work(planner()).states

    assert (to_a.path, to_a.relay) == (PathKind.DIRECT, None)
    assert (to_c.path, to_c.relay) == (PathKind.RELAY, "a")


def test_a_site_without_a_session_has_no_path():
    assert [each.path for each in planner().plan(view(B, A)).states] == [PathKind.NONE]


RELAYS = {
    SiteName(name): site(name, f"192.0.2.{n}:51820", seen={"b": B_OUTER, "c": C_OUTER})
    for n, name in enumerate("adefgh", start=1)
}
ALL = frozenset(RELAYS)


def test_both_sites_choose_the_same_relay():
    assert relay_of(B.site, C.site, RELAYS, ALL) == relay_of(C.site, B.site, RELAYS, ALL)


def test_pairs_are_spread_over_relays():
    seen = dict.fromkeys((f"s{n}" for n in range(20)), "198.51.100.9:1")
    relays = {name: replace(each, seen=site("x", seen=seen).seen) for name, each in RELAYS.items()}
    chosen = {relay_of(SiteName("s0"), SiteName(f"s{n}"), relays, ALL) for n in range(1, 20)}

    assert len(chosen) > 2


@pytest.mark.parametrize(
    "unfit",
    [
        pytest.param({"relays": False}, id="does-not-offer"),
        pytest.param({"endpoints": ()}, id="behind-nat"),
        pytest.param({"seen": ()}, id="sees-neither"),
    ],
)
def test_a_relay_must_offer_it_and_see_both(unfit):
    first = relay_of(B.site, C.site, RELAYS, ALL)
    assert first is not None
    others = RELAYS | {first: replace(RELAYS[first], **unfit)}

    assert relay_of(B.site, C.site, others, ALL) not in (first, None)


def test_a_relay_that_was_not_heard_of_lately_is_left_for_another():
    first = relay_of(B.site, C.site, RELAYS, ALL)

    assert relay_of(B.site, C.site, RELAYS, ALL - {first}) not in (first, None)


def test_the_last_relay_is_kept_while_nothing_is_heard_of_any():
    """The knowledge may be away; the relay needn't be."""
    ours = planner()
    ours.plan(view(B, A, C))

    assert peer(ours.plan(view(B, A, C, fresh="")), C).endpoint == C_RELAYED


def applied_of(plan: Plan) -> dict[str, PeerSetting]:
    return {each.public_key: each for each in plan.peers}


def as_told(plan: Plan, endpoint: str | None = None):
    return {
        each.public_key: report(
            A,
            public_key=each.public_key,
            allowed_ips=each.allowed_ips,
            keepalive_seconds=each.keepalive_seconds,
            endpoint=endpoint or each.endpoint,
        )
        for each in plan.peers
    }


def test_a_device_that_is_as_planned_is_told_nothing():
    plan = planner().plan(view(B, A, C))

    assert changes(plan, as_told(plan), applied_of(plan)) == ((), ())


def test_an_endpoint_that_moved_by_itself_is_left_alone():
    plan = planner().plan(view(B, A))

    assert changes(plan, as_told(plan, "192.0.2.77:1"), applied_of(plan)) == ((), ())


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param({"allowed_ips": ("100.64.0.1/32",)}, id="allowed"),
        pytest.param({"keepalive_seconds": 0}, id="keepalive"),
    ],
)
def test_what_somebody_else_changed_is_set_right(damage):
    plan = planner().plan(view(B, A))
    reports = {key: replace(each, **damage) for key, each in as_told(plan).items()}

    assert changes(plan, reports, applied_of(plan))[0] == plan.peers


def test_an_endpoint_that_its_operator_changed_is_followed():
    ours = planner()
    before = ours.plan(view(B, A))
    after = ours.plan(view(B, replace(A, endpoints=(D_ENDPOINT,))))

    assert changes(after, as_told(before), applied_of(before))[0] == after.peers
    assert peer(after, A).endpoint == D_ENDPOINT
