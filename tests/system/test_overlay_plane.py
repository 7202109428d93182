"""A site's plane, frame by frame, on real bridges, tunnels and rules in three network namespaces."""

import itertools
import os
import socket
import struct
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path

import pytest
from scapy.layers.inet6 import ICMPv6ND_NA, ICMPv6ND_NS, ICMPv6NDOptSrcLLAddr, IPv6
from scapy.layers.l2 import ARP, Ether

from benchmarks.overlay.offloads import switch_offloads_off
from tests.system.overlay_frames import EVERYONE, drained, frame, nic, settle, tunnelled, wan_ears
from tests.system.overlay_sites import (
    FIXED,
    MAC,
    MOVER,
    NETWORK,
    SITES,
    WAN,
    fixed_ip,
    index,
    links,
    netns_of,
    three_sites,
)
from transhume.deployment.model import OverlaySite
from transhume.errors import OverlayError
from transhume.execute.overlay import nftables
from transhume.execute.overlay.plane import SitePlane
from transhume.execute.overlay.plane.rules import CIRCLING, STRANGERS
from transhume.execute.overlay.routes import Route
from transhume.knowledge.model import IpAddress, MacAddress
from transhume.reach import sysfs
from transhume.reach.netns import inside, netlink_in, socket_in

pytestmark = [
    pytest.mark.system,
    pytest.mark.skipif(os.geteuid() != 0, reason="network namespaces need root"),
]

VTEP = {site.name: IpAddress(site.vtep) for site in NETWORK.sites}
NICS = {site: MacAddress(f"52:54:00:00:01:0{number}") for number, site in enumerate(SITES)}
NOBODY = MacAddress("52:54:00:00:00:77")
PATIENCE_SECONDS = 20.0
IP, IP6 = IpAddress("10.99.0.99"), IpAddress("fd00:99::99")


def here() -> Route:
    return Route(mac=MAC, vtep=None)


def away(site: str, **more) -> Route:
    return Route(mac=MAC, vtep=VTEP[site], **more)


def on_to(site: str) -> Route:
    return away(site, detour=True)


@pytest.fixture
def sites() -> Iterator[None]:
    with three_sites():
        yield


@pytest.fixture
def planes(sites) -> Iterator[dict[str, SitePlane]]:
    with ExitStack() as stack:
        made = {site.name: stack.enter_context(SitePlane(NETWORK, site)) for site in NETWORK.sites}
        for plane in made.values():
            plane.set_up()
        yield made


@pytest.fixture
def nics(planes) -> Iterator[dict]:
    with ExitStack() as stack:
        made = {site: stack.enter_context(nic(site, mac)) for site, mac in NICS.items()}
        wait_for_tunnels(made)
        yield made


def wait_for_tunnels(made) -> None:
    """Send until all hear each other: a device that has just come up swallows its first frames."""
    for _ in range(50):
        for each in made.values():
            each.send(EVERYONE, b"?")
        settle()
        if all(sum(b"?" in found for found in drained(each.socket)) > 1 for each in made.values()):
            settle()
            for each in made.values():
                drained(each.socket)
            return
    raise TimeoutError("the tunnels don't carry broadcasts")


def assert_heard(nics, expected: dict[str, int], about: str = "") -> None:
    """Wait until so many frames are heard at each site, and a little longer for any that is too many."""
    found: Counter[str] = Counter()
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        waiting = found != expected and expected and time.monotonic() < deadline
        settle()
        found += Counter({site: len(each.heard()) for site, each in nics.items()})
        if not waiting:
            break
    assert found == expected, about


def test_a_broadcast_reaches_each_site_once(planes, nics):
    nics["a"].send(EVERYONE, b"hello")

    assert_heard(nics, {"b": 1, "c": 1})


def test_an_address_reaches_its_site_whatever_was_before(planes, nics):
    """All ways from one route to another, at one site; what is there afterwards is only the last."""
    routes = (here(), away("b"), away("c"), on_to("b"), on_to("c"))
    with nic("a", NOBODY, "other") as sender:
        for before, after in itertools.permutations(routes, 2):
            planes["a"].apply([before])
            planes["a"].apply([after])

            sender.send(MAC, b"x")

            owner = next((site for site, vtep in VTEP.items() if vtep == after.vtep), "a")
            assert_heard(nics, {owner: 1}, f"{before} -> {after}")
            assert planes["a"].mending([after]) == ()


def test_a_detoured_frame_reaches_a_site_that_awaits_it_though_its_table_says_otherwise(
    planes, nics
):
    """The detour can be faster than the word that the VM is here now."""
    planes["a"].apply([on_to("b")])
    planes["b"].apply([away("a")])
    planes["c"].apply([away("a")])
    planes["b"].expect({MAC: "tap-vm", NOBODY: "gone"})

    nics["c"].send(MAC, b"x")
    assert_heard(nics, {"b": 1})

    planes["b"].apply([here()])
    nics["c"].send(MAC, b"x")
    assert_heard(nics, {"b": 1})

    planes["b"].apply([away("a")])
    planes["b"].expect({})
    nics["c"].send(MAC, b"x")
    assert_heard(nics, {})
    assert planes["b"].counters()[CIRCLING] == 1


def test_a_detoured_frame_from_a_third_site_reaches_the_new_one_once(planes, nics):
    planes["a"].apply([on_to("b")])
    planes["b"].apply([here()])
    planes["c"].apply([away("a")])

    nics["c"].send(MAC, b"late")

    assert_heard(nics, {"b": 1})


def test_a_detoured_frame_comes_with_all_its_bytes(planes, nics):
    planes["a"].apply([on_to("b")])
    planes["c"].apply([away("a")])

    nics["c"].send(MAC, bytes(range(1, 251)) * 5)
    settle()

    assert nics["b"].heard() == [bytes(range(1, 251)) * 5]


def test_sites_that_detour_to_each_other_send_nothing_in_circles(planes, nics):
    planes["a"].apply([on_to("b")])
    planes["b"].apply([on_to("a")])
    planes["c"].apply([away("a")])

    with wan_ears() as ears:
        for site in SITES:
            nics[site].send(MAC, b"round")
        settle()

        assert tunnelled(ears) == {"a": 2, "b": 1, "c": 1}
        assert_heard(nics, {})
        assert tunnelled(ears) == {"a": 0, "b": 0, "c": 0}


def test_what_came_by_a_detour_leaves_by_no_tunnel(planes, nics):
    """The new site believes that the VM is at a third one, which believes that it is at the old one."""
    planes["a"].apply([on_to("b")])
    planes["b"].apply([away("c")])
    planes["c"].apply([away("a")])

    with wan_ears() as ears:
        nics["c"].send(MAC, b"round")
        settle()

        assert tunnelled(ears) == {"a": 1, "b": 0, "c": 1}
        assert_heard(nics, {})
        assert planes["b"].counters()[CIRCLING] == 1


def test_a_broadcast_under_the_detours_number_leaves_by_no_tunnel(planes, nics):
    forge(netns_of("a"), "b", NETWORK.detour_vni, EVERYONE)

    with wan_ears() as ears:
        assert_heard(nics, {"b": 1})
        assert tunnelled(ears)["b"] == 0


def test_unknown_unicast_stays_at_its_site(planes, nics):
    with wan_ears() as ears:
        nics["a"].send(NOBODY, b"anybody?")

        assert_heard(nics, {})
        assert tunnelled(ears) == {"a": 0, "b": 0, "c": 0}


def test_neighbours_are_told_of_an_address_at_their_own_site(planes, nics):
    planes["c"].apply([away("a", ips=(IP,))])
    arp = ARP(psrc="10.99.0.55", pdst=IP, hwsrc=NICS["c"])

    with wan_ears() as ears:
        nics["c"].socket.send(bytes(Ether(src=NICS["c"], dst=EVERYONE) / arp))
        settle()
        answers = [each[ARP] for each in map(Ether, drained(nics["c"].socket)) if ARP in each]

        assert [(each.psrc, each.hwsrc) for each in answers] == [(IP, MAC)]
        assert tunnelled(ears) == {"a": 0, "b": 0, "c": 0}


@pytest.fixture
def ipv6(sites) -> None:
    for site in SITES:
        with inside(netns_of(site)):
            Path("/proc/sys/net/ipv6/conf/br0/disable_ipv6").write_text("0")


def test_neighbours_are_told_of_an_ipv6_address_at_their_own_site(ipv6, planes, nics):
    planes["c"].apply([away("a", ips=(IP6,))])
    multicast = Ether(src=NICS["c"], dst="33:33:ff:00:00:99")
    question = IPv6(src="fd00:99::55", dst="ff02::1:ff00:99") / ICMPv6ND_NS(tgt=IP6)

    nics["c"].socket.send(bytes(multicast / question / ICMPv6NDOptSrcLLAddr(lladdr=NICS["c"])))
    settle()
    answers = [each for each in map(Ether, drained(nics["c"].socket)) if ICMPv6ND_NA in each]

    assert [(each[ICMPv6ND_NA].tgt, each.src) for each in answers] == [(IP6, MAC)]
    asked = [frame for frame in map(Ether, drained(nics["a"].socket)) if ICMPv6ND_NS in frame]
    assert [frame for frame in asked if frame[ICMPv6ND_NS].tgt == IP6] == []


def test_a_bridge_without_ipv6_leaves_its_neighbours_to_the_vm(planes):
    planes["a"].apply([away("b", ips=(IP, IP6))])

    assert planes["a"].actual() == {MAC: away("b", ips=(IP,))}
    assert planes["a"].mending([away("b", ips=(IP, IP6))]) == ()


def test_a_bridge_that_is_given_ipv6_later_is_told_of_what_was_left_out(planes):
    """Else it would be found wrong at each look, and never be mended."""
    wanted, setting = away("b", ips=(IP, IP6)), "net/ipv6/conf/br0/disable_ipv6"
    planes["a"].apply([wanted])
    with SitePlane(NETWORK, NETWORK.sites[0]) as second, inside(netns_of("a")):
        for value in ("0", "1", "0"):
            Path("/proc/sys", setting).write_text(value)
            planes["a"].apply(second.mending([wanted]))
            assert second.mending([wanted]) == (), value
        assert second.actual()[MAC].ips == (IP, IP6)


def test_nothing_is_told_any_more_of_an_address_that_has_come_home(ipv6, planes):
    planes["c"].apply([away("a", ips=(IP, IP6))])

    planes["c"].apply([here()])

    assert planes["c"].actual() == {}


def test_neighbours_that_somebody_else_wrote_are_left_alone(planes):
    with netlink_in(netns_of("a")) as netlink:
        bridge = index(netlink, "br0")
        netlink.neigh("add", dst="10.99.0.7", lladdr=NOBODY, ifindex=bridge, state=0x80)

        planes["a"].apply([Route(mac=NOBODY, vtep=VTEP["b"], ips=(IP,))])
        planes["a"].apply([Route(mac=NOBODY, vtep=None)])
        planes["a"].tear_down()

        found = {each.get("dst") for each in netlink.neigh("dump", ifindex=bridge)}
        assert "10.99.0.7" in found


def test_what_neighbours_are_told_outlasts_ports_that_come_and_go(planes):
    """A bridge that takes the lowest address of its ports forgets its neighbours with each change of it."""
    planes["a"].apply([away("b", ips=(IP,))])

    for number in range(5):
        with nic("a", NOBODY, f"passing{number}"):
            assert planes["a"].mending([away("b", ips=(IP,))]) == ()

    assert planes["a"].mending([away("b", ips=(IP,))]) == ()


def test_the_kernels_state_reads_back_as_what_was_applied(ipv6, planes):
    wanted = [
        away("b", ips=(IP, IP6)),
        Route(mac=NOBODY, vtep=VTEP["c"], detour=True),
        Route(mac=NICS["a"], vtep=None),
    ]

    planes["a"].apply(wanted)

    assert planes["a"].actual() == {route.mac: route for route in wanted[:2]}
    assert planes["a"].faults(wanted) == ()


def test_entries_that_do_not_fit_together_are_noticed_and_mended(planes):
    planes["a"].apply([away("b")])
    with netlink_in(netns_of("a")) as netlink:
        netlink.fdb("del", ifindex=index(netlink, "thvx99"), lladdr=MAC, flags=2)

    repair = planes["a"].mending([away("b")])

    assert planes["a"].actual() == {MAC: Route(mac=MAC, vtep=None, detour=True)}
    assert repair == (away("b"),)
    assert "entries that don't fit together" in planes["a"].faults([away("b")])[0]
    planes["a"].apply(repair)
    assert planes["a"].faults([away("b")]) == ()


def test_what_nobody_wants_any_more_is_taken_away(planes):
    planes["a"].apply([away("b"), Route(mac=NOBODY, vtep=VTEP["c"])])

    planes["a"].apply(planes["a"].mending([away("b")]))

    assert planes["a"].actual() == {MAC: away("b")}


def test_a_frame_at_the_wrong_site_shows_in_what_the_kernel_does(planes, nics):
    """The bridge believes the frame: whoever compares sees that, and can take it back."""
    planes["a"].apply([away("b")])

    nics["a"].send(NICS["b"], b"I am here now", source=MAC)
    settle()

    assert planes["a"].mending([away("b")]) == (away("b"),)
    planes["a"].apply([away("b")])
    assert planes["a"].faults([away("b")]) == ()


def test_thousands_of_routes_are_applied_and_read_back(planes):
    wanted = [
        Route(
            mac=MacAddress(f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"),
            vtep=VTEP["b"],
            ips=(IpAddress(f"10.98.{number >> 8}.{number & 255}"),),
        )
        for number in range(3000)
    ]

    planes["a"].apply(wanted)
    differing = planes["a"].mending(wanted)
    planes["a"].apply([replace(route, vtep=None, ips=()) for route in wanted])
    planes["a"].apply([replace(route, vtep=None, ips=()) for route in wanted])

    assert differing == ()
    assert planes["a"].actual() == {}


def test_a_refused_route_is_named_and_the_others_hold(planes):
    group = Route(mac=MacAddress("00:00:00:00:00:00"), vtep=VTEP["b"])

    with pytest.raises(OverlayError, match="site a: the kernel refused writing the entry of 00:00"):
        planes["a"].apply([group, away("b")])

    assert planes["a"].actual() == {MAC: away("b")}


@pytest.mark.parametrize(
    "bad",
    [
        pytest.param(Route(mac=NOBODY, vtep=VTEP["b"], ips=(IpAddress("10.0.0.9/24"),)), id="ip"),
        pytest.param(Route(mac=MacAddress("no:ne"), vtep=VTEP["b"]), id="mac"),
    ],
)
def test_a_route_that_nobody_can_write_down_is_named_and_the_others_hold(planes, bad):
    with pytest.raises(OverlayError, match=f"site a: the entry of {bad.mac} can't be written"):
        planes["a"].apply([bad, away("b", ips=(IP,))])

    assert planes["a"].actual() == {MAC: away("b", ips=(IP,))}


def forge(netns: str, site: str, vni: int, to: MacAddress, source: str = "") -> None:
    """Send a VXLAN packet from a namespace to a site, as anybody could."""
    inner = frame(to, NOBODY, b"forged")
    header = struct.pack("!BxxxI", 0x08, vni << 8)
    with closing(socket_in(netns, kind=socket.SOCK_DGRAM)) as mouth:
        mouth.bind((source, 0))
        mouth.sendto(header + inner, (VTEP[site], NETWORK.port))


def give_address(netns: str, device: str, address: str, prefix_length: int = 24) -> None:
    with netlink_in(netns) as netlink:
        netlink.addr("add", index=index(netlink, device), address=address, prefixlen=prefix_length)


@pytest.mark.parametrize("vni", [NETWORK.vni, NETWORK.detour_vni], ids=["network", "detour"])
def test_a_packet_forged_outside_the_set_of_sites_is_dropped(planes, nics, vni):
    give_address(WAN, "br0", "172.31.99.66")

    forge(WAN, "a", vni, EVERYONE)
    assert_heard(nics, {})
    assert planes["a"].counters()[STRANGERS] == 1

    forge(netns_of("b"), "a", vni, EVERYONE)
    assert_heard(nics, {"a": 1}, "nor is one from a site heard: this proves nothing")


def test_a_packet_that_comes_by_another_device_than_the_underlay_is_dropped(planes, nics):
    """Under the address of a site, say: a tenant of a cloud can write that."""
    with netlink_in(netns_of("a")) as netlink:
        wan = index(netlink, "wan0")
        netlink.link("set", index=wan, state="down")
        netlink.link("set", index=wan, ifname="back0")
        netlink.link("set", index=wan, state="up")

    forge(netns_of("b"), "a", NETWORK.vni, EVERYONE)
    settle()

    assert nics["a"].heard() == []


def test_what_a_host_forwards_for_its_guests_is_no_sites_word(planes, nics):
    """Translated to the host's address, as libvirt does for guests of its own, it looks like the site's."""
    put_mover_behind("b")
    leaving = 'type nat hook postrouting priority srcnat; oifname "wan0" masquerade'
    nftables.run(netns_of("b"), f"table ip natted {{\nchain leaving {{\n{leaving}\n}}\n}}\n")

    with (
        closing(socket_in(MOVER, kind=socket.SOCK_DGRAM)) as guest,
        closing(socket_in(netns_of("a"), kind=socket.SOCK_DGRAM)) as outside,
    ):
        outside.bind((VTEP["a"], 4790))
        outside.settimeout(PATIENCE_SECONDS)
        guest.sendto(b"anything else", (VTEP["a"], 4790))
        assert outside.recvfrom(99)[1][0] == VTEP["b"], "translated: else this proves nothing"

    forge(MOVER, "a", NETWORK.vni, EVERYONE)

    assert_heard(nics, {})
    assert planes["b"].counters()[STRANGERS] == 1


def test_what_a_host_forwards_for_a_site_behind_it_is_that_sites_word(planes, nics):
    put_mover_behind("b")
    with netlink_in(netns_of("a")) as netlink:
        netlink.route("add", dst="10.98.0.0/24", gateway=VTEP["b"])
    behind = OverlaySite(name="d", bridge="br0", underlay="eth9", vtep="10.98.0.2", netns=MOVER)
    larger = replace(NETWORK, sites=(*NETWORK.sites, behind))
    for site in NETWORK.sites[:2]:
        with SitePlane(larger, site) as plane:
            plane.set_up()

    forge(MOVER, "a", NETWORK.vni, EVERYONE)

    assert_heard(nics, {"a": 1})

    give_address(MOVER, "lo", VTEP["c"], prefix_length=32)  # which isn't there
    forge(MOVER, "a", NETWORK.vni, EVERYONE, source=VTEP["c"])

    assert_heard(nics, {})


def put_mover_behind(site: str) -> None:
    """Plug the mover into a site's host, beside the bridge, and let that host forward for it."""
    with netlink_in(netns_of(site)) as netlink:
        netlink.link("add", ifname="nat0", kind="veth", peer={"ifname": "eth9", "net_ns_fd": MOVER})
        netlink.link("set", index=index(netlink, "nat0"), state="up")
    give_address(netns_of(site), "nat0", "10.98.0.1")
    give_address(MOVER, "eth9", "10.98.0.2")
    with netlink_in(MOVER) as guest:
        guest.link("set", index=index(guest, "eth9"), state="up")
        guest.link("set", index=index(guest, "lo"), state="up")
        guest.route("add", dst="172.31.99.0/24", gateway="10.98.0.1")
    with inside(netns_of(site)):
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for device in ("all", "nat0"):  # the rules have to do without the host's own care
            Path(f"/proc/sys/net/ipv4/conf/{device}/rp_filter").write_text("0")


def test_no_frame_of_one_network_reaches_another(planes, nics):
    other = replace(
        NETWORK, vni=100, sites=tuple(replace(site, bridge="br1") for site in NETWORK.sites)
    )
    with ExitStack() as stack:
        for site in other.sites:
            with netlink_in(site.netns) as netlink:
                netlink.link("add", ifname="br1", kind="bridge")
                netlink.link("set", index=index(netlink, "br1"), state="up")
            plane = stack.enter_context(SitePlane(other, site))
            plane.set_up()
            plane.apply([here() if site.name == "b" else away("b")])
        others = {
            site: stack.enter_context(nic(site, mac, "second", "br1")) for site, mac in NICS.items()
        }
        wait_for_tunnels(others)
        for plane in planes.values():
            plane.apply([here() if plane is planes["c"] else away("c")])

        nics["a"].send(MAC, b"of 99")
        nics["a"].send(EVERYONE, b"all of 99")
        others["a"].send(MAC, b"of 100")
        others["a"].send(EVERYONE, b"all of 100")
        settle()

        assert {site: each.heard() for site, each in nics.items()} == {
            "a": [],
            "b": [b"all of 99"],
            "c": [b"of 99", b"all of 99"],
        }
        assert {site: each.heard() for site, each in others.items()} == {
            "a": [],
            "b": [b"of 100", b"all of 100"],
            "c": [b"all of 100"],
        }


def test_one_bridge_is_not_made_part_of_two_networks(planes):
    other = replace(NETWORK, vni=100)

    with pytest.raises(OverlayError, match=r"br0 .* is a part of another network already \(thv"):
        SitePlane(other, other.sites[0]).set_up()


def received_over_tcp(server: str, client: str, ip: str, size: int) -> tuple[int, int]:
    """Send bytes from one namespace to another; return how many came, and the sender's segment size."""
    with closing(socket_in(server)) as listener, closing(socket_in(client)) as sender:
        listener.bind(("", 5100))
        listener.listen()
        sender.settimeout(20)
        sender.connect((ip, 5100))
        receiver, _ = listener.accept()
        with closing(receiver), ThreadPoolExecutor() as threads:
            receiver.settimeout(20)
            sending = threads.submit(sender.sendall, bytes(size))
            came = 0
            while came < size and (part := receiver.recv(1 << 20)):
                came += len(part)
            sending.result()
            return came, sender.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)


def test_a_guest_with_a_longer_mtu_than_the_tunnels_meets_no_black_hole(sites):
    """Guests and bridges have 1500 bytes, the underlay too: with the tunnel's headers that is too long."""
    for site in SITES:
        for netns, device in ((netns_of(site), "wan0"), (WAN, f"to-{site}")):
            with netlink_in(netns) as netlink:
                netlink.link("set", index=index(netlink, device), mtu=1500)
            switch_offloads_off(netns, device)
        switch_offloads_off(FIXED[site], "eth0")
        switch_offloads_off(netns_of(site), "fixed")
    with ExitStack() as stack:
        for site in NETWORK.sites:
            plane = stack.enter_context(SitePlane(NETWORK, site, floods_unknown=True))
            plane.set_up()
        # An ICMP that says so doesn't reach every guest; what is announced in the handshake does.
        for site in SITES:
            nftables.run(
                FIXED[site],
                "add table ip deaf\nadd chain ip deaf in { type filter hook input priority 0; }\n"
                "add rule ip deaf in icmp type destination-unreachable drop",
            )

        came, segment = received_over_tcp(FIXED["c"], FIXED["a"], fixed_ip("c"), 5_000_000)

    assert came == 5_000_000
    assert segment <= 1410


def test_setting_up_again_keeps_routes_and_counters(planes, nics):
    give_address(WAN, "br0", "172.31.99.66")
    planes["a"].apply([away("b", ips=(IP,))])
    forge(WAN, "a", NETWORK.vni, EVERYONE)
    settle()

    planes["a"].set_up()

    assert planes["a"].actual() == {MAC: away("b", ips=(IP,))}
    assert planes["a"].counters() == {STRANGERS: 1, CIRCLING: 0}


def test_setting_up_mends_what_somebody_changed(planes):
    with netlink_in(netns_of("a")) as netlink:
        tunnel, detour = index(netlink, "thvx99"), index(netlink, "thvr99")
        netlink.brport("set", index=tunnel, learning=1, unicast_flood=1)
        netlink.link("set", index=detour, state="down")
        netlink.fdb("del", ifindex=tunnel, lladdr="00:00:00:00:00:00", dst=VTEP["c"], flags=2)
    nftables.delete_table(netns_of("a"), "bridge", "transhume_99")

    faults = planes["a"].faults()

    assert faults == (
        "a: thvx99 as a port of br0 has learning 1, unicast_flood 1",
        "a: thvr99 is down",
        "a: broadcasts don't go to 172.31.99.3",
        "a: there are no bridge rules transhume_99; join the overlay",
    )
    planes["a"].set_up()
    assert planes["a"].faults() == ()


def test_a_site_that_left_the_network_is_sent_nothing_and_believed_nothing(planes, nics):
    smaller = replace(NETWORK, sites=NETWORK.sites[:2])
    with SitePlane(smaller, smaller.sites[0]) as plane:
        plane.set_up()

    nics["a"].send(EVERYONE, b"without c")
    nics["c"].send(EVERYONE, b"from c")

    settle()
    assert {site: each.heard() for site, each in nics.items()} == {
        "a": [],
        "b": [b"without c", b"from c"],
        "c": [],
    }


def test_tearing_down_leaves_what_was_there_before(ipv6):
    site = NETWORK.sites[0]
    before = links(netns_of("a"))
    with SitePlane(NETWORK, site) as plane:
        plane.set_up()
        plane.apply([away("b", ips=(IP, IP6))])

        plane.tear_down()
        plane.tear_down()

    assert links(netns_of("a")) == before
    assert nftables.run(netns_of("a"), "list ruleset") == ""
    with netlink_in(netns_of("a")) as netlink:
        assert [
            each.get("dst")
            for each in netlink.neigh("dump", ifindex=index(netlink, "br0"))
            if each["state"] & 0x80
        ] == []


def test_frames_cross_an_ipv6_underlay_and_no_stranger_does(sites):
    network = replace(
        NETWORK,
        sites=tuple(
            replace(site, vtep=f"fd00:31::{number}") for number, site in enumerate(NETWORK.sites, 1)
        ),
    )
    for netns, device, address in (
        *((site.netns, "wan0", site.vtep) for site in network.sites),
        (WAN, "br0", "fd00:31::66"),
    ):
        with inside(netns):
            Path(f"/proc/sys/net/ipv6/conf/{device}/disable_ipv6").write_text("0")
            Path(f"/proc/sys/net/ipv6/conf/{device}/dad_transmits").write_text("0")
        with netlink_in(netns) as netlink:
            netlink.addr("add", index=index(netlink, device), address=address, prefixlen=64)
    with ExitStack() as stack:
        planes = {
            site.name: stack.enter_context(SitePlane(network, site)) for site in network.sites
        }
        for plane in planes.values():
            plane.set_up()
        nics = {site: stack.enter_context(nic(site, mac)) for site, mac in NICS.items()}
        wait_for_tunnels(nics)
        wanted = Route(mac=MAC, vtep=IpAddress(network.sites[1].vtep), detour=True)
        planes["a"].apply([wanted])

        nics["a"].send(MAC, b"x")

        assert_heard(nics, {"b": 1})
        assert planes["a"].faults([wanted]) == ()
        with closing(socket_in(WAN, socket.AF_INET6, socket.SOCK_DGRAM)) as mouth:
            forged = struct.pack("!BxxxI", 0x08, network.vni << 8) + frame(
                EVERYONE, NOBODY, b"forged"
            )
            mouth.sendto(forged, (network.sites[0].vtep, network.port))
        assert_heard(nics, {})
        assert planes["a"].counters()[STRANGERS] == 1


def test_a_missing_library_is_named_with_its_package(planes, monkeypatch):
    monkeypatch.setattr(nftables, "LIBRARY", "libnftables.so.0")
    nftables._library.cache_clear()

    with pytest.raises(OverlayError, match="install the Debian package libnftables1"):
        planes["a"].set_up()


def test_segments_that_come_one_at_a_time_by_a_programs_device_are_gathered(sites) -> None:
    by_tun, by_wire = (
        replace(NETWORK.sites[0], underlay="tun0", vtep="172.31.98.1"),
        NETWORK.sites[1],
    )
    with inside(by_tun.netns), netlink_in(None) as netlink:
        netlink.link("add", ifname="tun0", kind="tuntap", mode="tun")
        netlink.addr("add", index=index(netlink, "tun0"), address=by_tun.vtep, prefixlen=32)
        netlink.link("set", index=index(netlink, "tun0"), state="up")
    network = replace(NETWORK, sites=(by_tun, *NETWORK.sites[1:]))
    waits = []
    for site in (by_tun, by_wire):
        with SitePlane(network, site) as plane:
            plane.set_up()
        with inside(site.netns):
            waits.append(int(sysfs.read(network.device, "gro_flush_timeout")))
    assert 0 < waits[0] <= 100_000, "nanoseconds"
    assert waits[1] == 0
