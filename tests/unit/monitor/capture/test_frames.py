"""The addresses in a frame, over frames that scapy builds and frames that nobody should send."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, CookedLinux, CookedLinuxV2, Dot1AD, Dot1Q, Ether, Loopback
from scapy.packet import Packet, Raw

from transhume.knowledge.model import Endpoint, IpAddress, MacAddress
from transhume.monitor.capture.frames import UNKNOWN_MAC, Link, parse

ONE, OTHER = MacAddress("52:54:00:00:00:01"), MacAddress("52:54:00:00:00:02")
RAW_ONE = bytes.fromhex("525400000001")
ETHER = Ether(src=ONE, dst=OTHER)
IP4 = IP(src="10.0.0.1", dst="10.0.0.2")
IP6 = IPv6(src="fd00::1", dst="fd00::2")


def end(mac: str, ip: str | None = None) -> Endpoint:
    return Endpoint(mac=MacAddress(mac), ip=IpAddress(ip) if ip else None)


@pytest.mark.parametrize(
    ("packet", "ips"),
    [
        pytest.param(ETHER / IP4 / TCP(), ("10.0.0.1", "10.0.0.2"), id="IPv4"),
        pytest.param(ETHER / IP6 / UDP(), ("fd00::1", "fd00::2"), id="IPv6"),
        pytest.param(ETHER / Dot1Q(vlan=7) / IP4, ("10.0.0.1", "10.0.0.2"), id="VLAN"),
        pytest.param(ETHER / Dot1AD() / Dot1Q() / IP6, ("fd00::1", "fd00::2"), id="QinQ"),
        pytest.param(ETHER / Dot1Q() / Dot1Q() / IP4, ("10.0.0.1", "10.0.0.2"), id="two VLAN tags"),
        pytest.param(
            ETHER / ARP(psrc="10.0.0.1", pdst="10.0.0.9"), ("10.0.0.1", "10.0.0.9"), id="ARP"
        ),
        pytest.param(Ether(src=ONE, dst=OTHER, type=0x88CC) / Raw(b"lldp" * 20), None, id="LLDP"),
        pytest.param(Ether(src=ONE, dst=OTHER, type=38) / Raw(b"\x42" * 38), None, id="802.3"),
    ],
)
def test_an_ethernet_frame_tells_its_macs_and_its_ips_where_it_has_some(
    packet: Packet, ips: tuple[str, str] | None
) -> None:
    source, destination = ips or (None, None)

    assert parse(bytes(packet)) == (end(ONE, source), end(OTHER, destination))


@pytest.mark.parametrize(
    ("link", "packet", "mac"),
    [
        pytest.param(Link.RAW, IP4 / UDP(), "", id="raw IPv4"),
        pytest.param(Link.IPV4, IP4 / UDP(), "", id="IPv4 by its own link type"),
        pytest.param(Link.NULL, Loopback(type=2) / IP4, "", id="BSD loopback"),
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
            Link.LINUX_SLL2,
            CookedLinuxV2(src=RAW_ONE, lladdrtype=1, lladdrlen=6, proto=0x0800) / IP4,
            ONE,
            id="cooked v2",
        ),
    ],
)
def test_a_link_layer_without_a_receiver_leaves_its_mac_unknown(
    link: Link, packet: Packet, mac: str
) -> None:
    """`tcpdump -i any` keeps only the sender's MAC address, a tunnel none."""
    assert parse(bytes(packet), link) == (end(mac, "10.0.0.1"), end(UNKNOWN_MAC, "10.0.0.2"))


def test_the_mac_addresses_survive_when_the_ip_header_was_cut_off() -> None:
    frame = bytes(ETHER / IP4)

    assert parse(frame[:29]) == (end(ONE), end(OTHER))
    assert parse(frame[:34]) == (end(ONE, "10.0.0.1"), end(OTHER, "10.0.0.2"))


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
def test_what_holds_no_addresses_gives_none(frame: bytes, link: int) -> None:
    assert parse(frame, link) is None


def test_the_mac_addresses_of_the_loopback_are_nobodys() -> None:
    nobody = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00")

    assert parse(bytes(nobody / IP4)) == (end("", "10.0.0.1"), end("", "10.0.0.2"))


@given(frame=st.binary(max_size=80), link=st.sampled_from([*Link, 105]))
def test_no_frame_is_too_odd_to_be_looked_at(frame: bytes, link: int) -> None:
    parse(frame, link)
