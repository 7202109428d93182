"""The overlay, on real bridges and VXLAN devices in three network namespaces."""

import asyncio
import os
from collections.abc import Iterator
from contextlib import closing

import pytest
from pyroute2 import netns as namespaces

from tests.system.overlay_sites import (
    FIXED,
    MAC,
    MOVER,
    MOVER_IP,
    NETWORK,
    PORT,
    SITES,
    hears,
    index,
    links,
    netns_of,
    put_mover_at,
    three_sites,
)
from transhume.errors import OverlayError
from transhume.execute.overlay import VxlanOverlay
from transhume.reach.netns import netlink_in, socket_in

run = asyncio.run
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]


@pytest.fixture
def sites() -> Iterator[None]:
    with three_sites():
        yield


@pytest.fixture
def overlay(sites) -> VxlanOverlay:
    made = VxlanOverlay(NETWORK)
    run(made.join())
    return made


def test_endpoints_of_all_sites_reach_each_other(overlay):
    run(overlay.bind([MAC], "a"))

    assert [hears(site) for site in SITES] == [True, True, True]


def test_frames_of_full_length_pass(overlay):
    run(overlay.bind([MAC], "a"))

    assert hears("c", length=1472)


def test_a_silent_mover_is_reached_where_it_was_bound(overlay):
    """It says nothing after the move, so that no bridge can learn anything from it."""
    run(overlay.bind([MAC], "a"))
    put_mover_at("b")
    before = hears("c", patience_s=1.0)

    run(overlay.bind([MAC], "b"))

    assert not before, "reachable before it was bound: this test would prove nothing"
    assert [hears(site) for site in SITES] == [True, True, True]


def test_a_silent_mover_is_reached_after_it_came_back(overlay):
    run(overlay.bind([MAC], "a"))
    for site in ("b", "c", "a"):
        put_mover_at(site)
        run(overlay.bind([MAC], site))

        assert [hears(other) for other in SITES] == [True, True, True]
        assert run(overlay.check([MAC], site)) == ()


def test_a_tcp_connection_survives_a_move(overlay):
    run(overlay.bind([MAC], "a"))
    with closing(socket_in(MOVER)) as listener, closing(socket_in(FIXED["c"])) as client:
        listener.bind(("", PORT))
        listener.listen()
        client.settimeout(10)
        client.connect((MOVER_IP, PORT))
        server, _ = listener.accept()
        with closing(server):
            server.settimeout(10)
            put_mover_at("b")
            run(overlay.bind([MAC], "b"))

            client.sendall(b"are you there?")

            assert server.recv(100) == b"are you there?"


def test_check_says_what_is_wrong_where(overlay):
    run(overlay.bind([MAC], "a"))

    faults = run(overlay.check([MAC], "b"))

    assert {fault.split(":")[0] for fault in faults} == set(SITES)
    assert any("172.31.99.1" in fault for fault in faults)


def test_check_notices_a_site_that_was_never_joined(sites):
    assert "c: there is no thvx99; join the overlay" in run(VxlanOverlay(NETWORK).check([MAC], "a"))


def test_bind_corrects_what_somebody_else_wrote(overlay):
    run(overlay.bind([MAC], "b"))
    with netlink_in(netns_of("a")) as netlink:
        netlink.fdb(
            "replace",
            ifindex=index(netlink, "thvx99"),
            lladdr=MAC,
            dst="172.31.99.3",
            flags=2,
            state=0xC0,
        )
    assert run(overlay.check([MAC], "b")) != ()

    run(overlay.bind([MAC], "b"))

    assert run(overlay.check([MAC], "b")) == ()


def test_joining_again_changes_nothing(overlay):
    run(overlay.bind([MAC], "b"))

    run(overlay.join())

    assert run(overlay.check([MAC], "b")) == ()


def test_joining_replaces_a_device_with_other_settings(sites):
    with netlink_in(netns_of("b")) as netlink:
        netlink.link("add", ifname="thvx99", kind="vxlan", vxlan_id=5, vxlan_local="172.31.99.2")
    overlay = VxlanOverlay(NETWORK)

    run(overlay.join())
    run(overlay.bind([MAC], "a"))

    assert hears("b")


def test_remove_leaves_what_was_there_before(sites):
    before = {site: links(netns_of(site)) for site in SITES}
    overlay = VxlanOverlay(NETWORK)
    run(overlay.join())

    run(overlay.remove())
    run(overlay.remove())

    assert {site: links(netns_of(site)) for site in SITES} == before


def test_a_site_without_its_bridge_is_named(sites):
    with netlink_in(netns_of("b")) as netlink:
        netlink.link("del", index=index(netlink, "br0"))

    with pytest.raises(OverlayError, match="site b: there is no bridge br0 in namespace thtest-b"):
        run(VxlanOverlay(NETWORK).join())


def test_a_site_without_its_namespace_is_named(sites):
    namespaces.remove(netns_of("c"))

    with pytest.raises(OverlayError, match="site c: there is no network namespace thtest-c"):
        run(VxlanOverlay(NETWORK).join())


def test_an_unknown_site_is_refused(overlay):
    with pytest.raises(OverlayError, match="d isn't a site of the overlay"):
        run(overlay.bind([MAC], "d"))
