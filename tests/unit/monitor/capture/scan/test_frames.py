"""The addresses in a frame, over frames that scapy builds and frames that nobody should send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6NDOptDstLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
)
from scapy.layers.l2 import ARP, GRE, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback
from scapy.layers.vxlan import VXLAN
from scapy.packet import Packet, Raw

from tests.unit.monitor.capture.capture_writing import pcap_of
from tests.unit.monitor.capture.scan.scanning import scanned
from transhume.knowledge.model import PairTraffic, TrafficWindow
from transhume.knowledge.model.addresses import CLAIM
from transhume.monitor.capture.scan import Engine, Link

ENGINES = [pytest.param(engine, id=engine.value) for engine in Engine]
ONE, OTHER = "52:54:00:00:00:01", "52:54:00:00:00:02"
RAW_ONE = bytes.fromhex("525400000001")
ETHER = Ether(src=ONE, dst=OTHER)
IP4 = IP(src="10.0.0.1", dst="10.0.0.2")
IP6 = IPv6(src="fd00::1", dst="fd00::2")
V4, V6 = ("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")


def window_of(
    frame: Packet | bytes,
    engine: Engine,
    *,
    link: int = Link.ETHERNET,
    kept: int | None = None,
    inner: bool = False,
) -> TrafficWindow:
    """Return the window of a single frame."""
    raw = bytes(frame)
    content = pcap_of([(0, raw[:kept], len(raw))], link=link)
    found = scanned(content, engine, inner=inner)
    assert found.stopped is None
    (window,) = found.windows
    return window


def only_pair(window: TrafficWindow) -> PairTraffic:
    (pair,) = window.pairs
    return pair


def ends(window: TrafficWindow) -> tuple[str, str, str | None, str | None]:
    """Return source and destination MAC, and source and destination IP."""
    pair = only_pair(window)
    return pair.source.mac, pair.destination.mac, pair.source.ip, pair.destination.ip


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("packet", "ips"),
    [
        pytest.param(ETHER / IP4 / TCP(), V4, id="IPv4"),
        pytest.param(ETHER / IP6 / UDP(), V6, id="IPv6"),
        pytest.param(ETHER / Dot1Q(vlan=7) / IP4, V4, id="VLAN"),
        pytest.param(ETHER / Dot1AD() / Dot1Q() / IP6, V6, id="QinQ"),
        pytest.param(ETHER / Dot1Q() / Dot1Q() / IP4, V4, id="two VLAN tags"),
        pytest.param(Ether(src=ONE, dst=OTHER, type=0x9100) / Dot1Q() / IP4, V4, id="old QinQ"),
        pytest.param(ETHER / ARP(psrc="10.0.0.1", pdst="10.0.0.2"), V4, id="ARP"),
        pytest.param(
            Ether(src=ONE, dst=OTHER, type=0x88CC) / Raw(b"lldp" * 20), (None, None), id="LLDP"
        ),
        pytest.param(
            Ether(src=ONE, dst=OTHER, type=38) / Raw(b"\x42" * 38), (None, None), id="802.3"
        ),
    ],
)
def test_an_ethernet_frame_tells_its_macs_and_its_ips_where_it_has_some(
    engine: Engine, packet: Packet, ips: tuple[str | None, str | None]
) -> None:
    assert ends(window_of(packet, engine)) == (ONE, OTHER, *ips)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("link", "packet", "mac"),
    [
        pytest.param(Link.RAW, IP4 / UDP(), "", id="raw IPv4"),
        pytest.param(Link.RAW_OLD, IP4 / UDP(), "", id="raw IPv4 by its old number"),
        pytest.param(Link.IPV4, IP4 / UDP(), "", id="IPv4 by its own link type"),
        pytest.param(Link.NULL, Loopback(type=2) / IP4, "", id="BSD loopback"),
        pytest.param(Link.LOOP, Raw(b"\0\0\0\2") / IP4, "", id="loopback in network order"),
        pytest.param(
            Link.LINUX_SLL,
            CookedLinux(src=RAW_ONE, lladdrtype=1, lladdrlen=6, proto=0x0800) / IP4,
            ONE,
            id="cooked v1",
        ),
        pytest.param(
            Link.LINUX_SLL,
            CookedLinux(src=RAW_ONE, lladdrtype=1, lladdrlen=6, proto=0x8100)
            / Dot1Q(type=0x0800)
            / IP4,
            ONE,
            id="cooked v1 with a VLAN tag",
        ),
        pytest.param(
            Link.LINUX_SLL,
            CookedLinux(src=RAW_ONE, lladdrtype=65534, lladdrlen=0, proto=0x0800) / IP4,
            "",
            id="cooked v1 of a tunnel",
        ),
        pytest.param(
            Link.LINUX_SLL2,
            CookedLinuxV2(src=RAW_ONE, lladdrtype=1, lladdrlen=6, proto=0x0800) / IP4,
            ONE,
            id="cooked v2",
        ),
    ],
)
def test_a_link_layer_without_a_receiver_leaves_its_mac_unknown(
    engine: Engine, link: Link, packet: Packet, mac: str
) -> None:
    """`tcpdump -i any` keeps only the sender's MAC address, a tunnel none."""
    assert ends(window_of(packet, engine, link=link)) == (mac, "", *V4)


@pytest.mark.parametrize("engine", ENGINES)
def test_the_mac_addresses_survive_when_the_ip_header_was_cut_off(engine: Engine) -> None:
    frame = ETHER / IP4 / UDP()

    assert ends(window_of(frame, engine, kept=33)) == (ONE, OTHER, None, None)
    assert ends(window_of(frame, engine, kept=34)) == (ONE, OTHER, *V4)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("frame", "link"),
    [
        pytest.param(b"", Link.ETHERNET, id="nothing"),
        pytest.param(bytes(13), Link.ETHERNET, id="less than a header"),
        pytest.param(bytes(15), Link.LINUX_SLL, id="less than a cooked header"),
        pytest.param(b"\x95" * 40, Link.RAW, id="neither IPv4 nor IPv6"),
        pytest.param(bytes(100), 105, id="Wi-Fi, which we don't read"),
    ],
)
def test_what_holds_no_addresses_counts_as_unreadable_and_its_bytes_as_nobodys(
    engine: Engine, frame: bytes, link: int
) -> None:
    window = window_of(frame, engine, link=link)

    assert window.unreadable_frames == 1
    assert window.total_bytes == len(frame)
    assert ends(window) == ("", "", None, None)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("packet", "payload"),
    [
        pytest.param(ETHER / IP4 / TCP() / Raw(b"x" * 100), 100, id="TCP"),
        pytest.param(
            ETHER / IP4 / TCP(options=[("MSS", 1460)]) / Raw(b"x" * 100), 100, id="TCP options"
        ),
        pytest.param(ETHER / IP4 / UDP() / Raw(b"x" * 100), 100, id="UDP"),
        pytest.param(
            ETHER / IP(src="10.0.0.1", dst="10.0.0.2", proto=50) / Raw(b"x" * 100), 100, id="ESP"
        ),
        pytest.param(
            ETHER / IP(src="10.0.0.1", dst="10.0.0.2", frag=100, proto=6) / Raw(b"x" * 100),
            100,
            id="a later fragment",
        ),
        pytest.param(
            ETHER / IP(src="10.0.0.1", dst="10.0.0.2", len=0, proto=6) / TCP() / Raw(b"x" * 100),
            100,
            id="segmentation offload",
        ),
        pytest.param(ETHER / IP4 / TCP() / Raw(b"") / Raw(b""), 0, id="an acknowledgement"),
        pytest.param(ETHER / IP6 / TCP() / Raw(b"x" * 100), 100, id="TCP over IPv6"),
        pytest.param(
            ETHER / IP6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / UDP() / Raw(b"x" * 100),
            100,
            id="IPv6 extension headers",
        ),
        pytest.param(
            ETHER / IP6 / IPv6ExtHdrFragment(offset=10, nh=17) / Raw(b"x" * 100),
            100,
            id="a later fragment of IPv6",
        ),
        pytest.param(
            ETHER / IPv6(src="fd00::1", dst="fd00::2", plen=0) / TCP() / Raw(b"x" * 100),
            100,
            id="a jumbogram",
        ),
        pytest.param(ETHER / ARP(psrc="10.0.0.1", pdst="10.0.0.2"), 0, id="ARP"),
    ],
)
def test_payload_is_what_the_transport_carried(
    engine: Engine, packet: Packet, payload: int
) -> None:
    assert only_pair(window_of(packet, engine)).payload_bytes == payload


@pytest.mark.parametrize("engine", ENGINES)
def test_padding_is_no_payload_and_what_was_cut_off_is(engine: Engine) -> None:
    short = bytes(ETHER / IP4 / UDP() / Raw(b"xy")).ljust(60, b"\0")
    long = bytes(ETHER / IP4 / TCP() / Raw(b"x" * 1000))

    assert only_pair(window_of(short, engine)).payload_bytes == 2
    assert only_pair(window_of(long, engine, kept=64)).payload_bytes == 1000
    assert only_pair(window_of(long, engine, kept=40)).payload_bytes == 1000


def claims(window: TrafficWindow) -> list[tuple[str, str]]:
    """Return who claims which address."""
    rows = window.addresses[window.pair]
    return [
        (pair.source.mac, str(pair.source.ip))
        for pair, flags in zip(window.pairs, rows["flags"], strict=True)
        if flags & CLAIM
    ]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("packet", "expected"),
    [
        pytest.param(ETHER / ARP(psrc="10.0.0.1", pdst="10.0.0.9"), [(ONE, "10.0.0.1")], id="ARP"),
        pytest.param(ETHER / ARP(psrc="0.0.0.0", pdst="10.0.0.9"), [], id="ARP that only asks"),
        pytest.param(
            ETHER / IP6 / ICMPv6ND_NA(tgt="fd00::7"), [(ONE, "fd00::7")], id="advertisement"
        ),
        pytest.param(
            ETHER / IP6 / ICMPv6ND_NA(tgt="fd00::7") / ICMPv6NDOptDstLLAddr(lladdr=OTHER),
            [(OTHER, "fd00::7")],
            id="advertisement for somebody else",
        ),
        pytest.param(
            ETHER
            / IP4
            / UDP(sport=67, dport=68)
            / BOOTP(op=2, yiaddr="10.0.0.8", chaddr=RAW_ONE)
            / DHCP(options=[("message-type", "ack"), "end"]),
            [(ONE, "10.0.0.8")],
            id="DHCP acknowledgement",
        ),
        pytest.param(
            ETHER
            / IP4
            / UDP(sport=67, dport=68)
            / BOOTP(op=2, yiaddr="10.0.0.8", chaddr=RAW_ONE)
            / DHCP(options=[("message-type", "offer"), "end"]),
            [],
            id="DHCP offer",
        ),
        pytest.param(ETHER / IP4 / UDP(sport=67, dport=68), [], id="hardly DHCP"),
    ],
)
def test_who_has_an_address_is_heard_from_those_who_say_so(
    engine: Engine, packet: Packet, expected: list[tuple[str, str]]
) -> None:
    window = window_of(packet, engine)

    assert claims(window) == expected
    assert (window.total_frames, window.total_bytes) == (1, len(packet))


INSIDE = Ether(src="52:54:00:00:00:0a", dst="52:54:00:00:00:0b") / IP(
    src="192.168.0.1", dst="192.168.0.2"
)
OUTSIDE_ENDS = (ONE, OTHER, *V4)
INSIDE_IPS = ("192.168.0.1", "192.168.0.2")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("packet", "expected", "length"),
    [
        pytest.param(
            ETHER / IP4 / UDP(dport=4789) / VXLAN(vni=7) / INSIDE / TCP() / Raw(b"x" * 10),
            ("52:54:00:00:00:0a", "52:54:00:00:00:0b", *INSIDE_IPS),
            64,
            id="VXLAN",
        ),
        pytest.param(
            ETHER / IP4 / GRE(key_present=1, key=9) / INSIDE[IP] / TCP() / Raw(b"x" * 10),
            (ONE, OTHER, *INSIDE_IPS),
            50,
            id="GRE",
        ),
        pytest.param(
            ETHER / IP4 / GRE(proto=0x6558) / INSIDE / TCP() / Raw(b"x" * 10),
            ("52:54:00:00:00:0a", "52:54:00:00:00:0b", *INSIDE_IPS),
            64,
            id="bridged GRE",
        ),
        pytest.param(
            ETHER / IP4 / INSIDE[IP] / TCP() / Raw(b"x" * 10),
            (ONE, OTHER, *INSIDE_IPS),
            50,
            id="IP in IP",
        ),
        pytest.param(
            ETHER / IP4 / IP6 / TCP() / Raw(b"x" * 10), (ONE, OTHER, *V6), 70, id="IPv6 in IPv4"
        ),
    ],
)
def test_inside_a_tunnel_is_looked_when_asked_to(
    engine: Engine, packet: Packet, expected: tuple[str, ...], length: int
) -> None:
    outside, inside = (window_of(packet, engine, inner=inner) for inner in (False, True))

    assert ends(outside) == OUTSIDE_ENDS
    assert outside.total_bytes == len(packet)
    assert ends(inside) == expected
    assert (inside.total_bytes, only_pair(inside).payload_bytes) == (length, 10)


@pytest.mark.parametrize("engine", ENGINES)
@given(frame=st.binary(max_size=80), link=st.sampled_from([*Link, 105]), inner=st.booleans())
def test_no_frame_is_too_odd_to_be_looked_at(
    engine: Engine, frame: bytes, link: int, inner: bool
) -> None:
    assert window_of(frame, engine, link=link, inner=inner).total_frames == 1
