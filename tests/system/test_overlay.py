"""The overlay, on real bridges and VXLAN devices in three network namespaces."""

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from pyroute2 import netns as namespaces

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay import VxlanOverlay
from transhume.knowledge.model import MacAddress
from transhume.reach.netns import inside, netlink_in, socket_in

run = asyncio.run
pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

WAN = "thtest-wan"
SITES = ("a", "b", "c")
MOVER = "thtest-mover"
FIXED = {site: f"thtest-at-{site}" for site in SITES}
MAC = MacAddress("52:54:00:00:00:99")
MOVER_IP, PORT = "10.99.0.99", 5099


def fixed_ip(site: str) -> str:
    return f"10.99.0.{SITES.index(site) + 1}"


def netns_of(site: str) -> str:
    return f"thtest-{site}"


NETWORK = OverlayNetwork(
    vni=99,
    sites=tuple(
        OverlaySite(
            name=site,
            bridge="br0",
            underlay="wan0",
            vtep=f"172.31.99.{number}",
            netns=netns_of(site),
        )
        for number, site in enumerate(SITES, start=1)
    ),
)


def index(netlink, name: str) -> int:
    return netlink.link_lookup(ifname=name)[0]


def make_bridge(netlink, mtu: int) -> int:
    netlink.link("add", ifname="br0", kind="bridge")
    bridge = index(netlink, "br0")
    netlink.link("set", index=bridge, mtu=mtu, state="up")
    return bridge


def plug(netns: str, far_netns: str, near: str, far: str, ip: str, **near_link) -> None:
    """Give `netns` an interface whose other end is a port of `far_netns`' bridge."""
    mtu = near_link.pop("mtu", 1500)
    with netlink_in(netns) as here, netlink_in(far_netns) as there:
        here.link(
            "add",
            ifname=near,
            kind="veth",
            peer={"ifname": far, "net_ns_fd": far_netns},
            **near_link,
        )
        here.addr("add", index=index(here, near), address=ip, prefixlen=24)
        here.link("set", index=index(here, near), mtu=mtu, state="up")
        there.link("set", index=index(there, far), mtu=mtu, master=index(there, "br0"), state="up")


def put_mover_at(site: str) -> None:
    """Unplug the mover wherever it is, and plug it in at a site, with the same addresses."""
    with netlink_in(MOVER) as mover:
        for old in mover.link_lookup(ifname="eth0"):
            mover.link("del", index=old)
    plug(MOVER, netns_of(site), "eth0", "mover", MOVER_IP, address=str(MAC))


def links(netns: str) -> set[str]:
    with netlink_in(netns) as netlink:
        return {link.get_attr("IFLA_IFNAME") for link in netlink.get_links()}


def remember_mover(netns: str) -> None:
    """Let an endpoint know the mover's MAC, so that it needn't ask and the mover needn't answer."""
    with netlink_in(netns) as netlink:
        netlink.neigh(
            "replace",
            dst=MOVER_IP,
            lladdr=MAC,
            ifindex=index(netlink, "eth0"),
            state=0x80,
        )


def hears(site: str, *, length: int = 8, patience_s: float = 5.0) -> bool:
    """Say whether datagrams from the endpoint at `site` reach the mover, which keeps silent.

    Repeated, because a port that has just come up swallows its first frames.
    """
    datagrams = socket.SOCK_DGRAM
    with (
        closing(socket_in(MOVER, kind=datagrams)) as ear,
        closing(socket_in(FIXED[site], kind=datagrams)) as mouth,
    ):
        ear.settimeout(0.05)
        ear.bind(("", PORT))
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            mouth.sendto(b"x" * length, (MOVER_IP, PORT))
            with suppress(TimeoutError):
                return len(ear.recv(65536)) == length
    return False


@pytest.fixture
def sites() -> Iterator[None]:
    everything = [WAN, MOVER, *map(netns_of, SITES), *FIXED.values()]
    try:
        for netns in everything:
            namespaces.create(netns)
            with inside(netns):
                Path("/proc/sys/net/ipv6/conf/all/disable_ipv6").write_text("1")
        with netlink_in(WAN) as wan:
            make_bridge(wan, 1600)
        for site, description in zip(SITES, NETWORK.sites, strict=True):
            with netlink_in(netns_of(site)) as netlink:
                make_bridge(netlink, 1500)
            plug(netns_of(site), WAN, "wan0", f"to-{site}", description.vtep, mtu=1600)
            plug(FIXED[site], netns_of(site), "eth0", "fixed", fixed_ip(site))
        put_mover_at("a")
        for netns in FIXED.values():
            remember_mover(netns)
        yield
    finally:
        for netns in everything:
            with suppress(FileNotFoundError):
                namespaces.remove(netns)


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
