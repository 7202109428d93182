"""What a frame says of who sent it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import ARP, Ether

from transhume.execute.overlay.sightings import How, Sighting
from transhume.execute.overlay.sightings.announcements import sighting_in

MAC, OTHER, EVERYONE = "52:54:00:00:00:01", "52:54:00:00:00:02", "ff:ff:ff:ff:ff:ff"


def read(frame) -> Sighting | None:
    return sighting_in(bytes(frame), "tap0")


def test_qemus_announcement_names_no_ip_address():
    frame = Ether(src=MAC, dst=EVERYONE, type=0x8035) / ARP(
        op=3, hwsrc=MAC, hwdst=MAC, psrc="0.0.0.0", pdst="0.0.0.0"
    )

    assert read(frame) == Sighting(mac=MAC, port="tap0", ip=None, how=How.RARP)


@pytest.mark.parametrize("op", [1, 2], ids=["question", "answer"])
def test_arp_names_the_senders_ip_address(op):
    frame = Ether(src=MAC, dst=EVERYONE) / ARP(op=op, hwsrc=MAC, psrc="10.0.0.1", pdst="10.0.0.2")

    assert read(frame) == Sighting(mac=MAC, port="tap0", ip="10.0.0.1", how=How.ARP)


def test_a_probe_claims_no_ip_address_yet():
    frame = Ether(src=MAC, dst=EVERYONE) / ARP(op=1, hwsrc=MAC, psrc="0.0.0.0", pdst="10.0.0.2")

    assert read(frame) == Sighting(mac=MAC, port="tap0", ip=None, how=How.ARP)


@pytest.mark.parametrize(
    "frame",
    [
        Ether(src=MAC) / ARP(op=2, hwsrc=OTHER, psrc="10.0.0.1"),
        Ether(src="01:00:5e:00:00:01") / ARP(op=1, hwsrc="01:00:5e:00:00:01", psrc="10.0.0.1"),
        Ether(src="00:00:00:00:00:00") / ARP(op=1, hwsrc="00:00:00:00:00:00", psrc="10.0.0.1"),
        Ether(src=MAC) / IP(src="10.0.0.1") / UDP() / (b"x" * 40),
        Ether(src=MAC, type=0x8035) / ARP(op=4, hwsrc=MAC),
        Ether(src=MAC) / ARP(op=9, hwsrc=MAC),
        bytes(Ether(src=MAC) / ARP(op=1, hwsrc=MAC))[:30],
    ],
    ids=[
        "for another",
        "a group",
        "nobody",
        "no ARP",
        "RARP's answer",
        "unknown doing",
        "cut short",
    ],
)
def test_what_announces_nothing_is_no_sighting(frame):
    assert read(frame) is None


@given(st.binary(max_size=64))
def test_no_frame_does_harm(frame):
    sighting_in(frame, "tap0")
