"""The program in the kernel against the rules that the scanner goes by: frame by frame, whole and damaged.

The kernel runs it on frames of our own (BPF_PROG_TEST_RUN): nothing is attached to anything.
"""

import ctypes
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from random import Random

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import (
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6NDOptDstLLAddr,
    ICMPv6NDOptSrcLLAddr,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
)
from scapy.layers.ipsec import AH
from scapy.layers.l2 import ARP, Dot1AD, Dot1Q, Ether
from scapy.packet import Packet, Raw

from transhume.monitor.capture.bpf import syscalls
from transhume.monitor.capture.bpf.counting import Counter
from transhume.monitor.capture.scan.decode import ROW, decode

_TEST_RUN = 10
_ETHERNET, _RAW = 1, 101
SHORTEST = 15
SHORTEST_OF_ANY_KIND = 54
"""The kernel makes no frame of less for a test: by what it says it is, it has to have an IP header."""

ether = Ether(src="52:54:00:00:00:01", dst="52:54:00:00:00:02")
v4 = IP(src="10.0.0.1", dst="10.0.0.2")
v6 = IPv6(src="fd00::1", dst="fd00::2")
load = Raw(b"payload" * 5)
mac = b"\x52\x54\0\0\0\x07"
lease = UDP(sport=67, dport=68) / BOOTP(op=2, yiaddr="10.0.0.9", chaddr=mac)

FRAMES: dict[str, Packet] = {
    "TCP": ether / v4 / TCP() / load,
    "TCP with options": ether / v4 / TCP(options=[("MSS", 1460), ("SAckOK", b"")]) / load,
    "UDP": ether / v4 / UDP() / load,
    "ICMP": ether / v4 / ICMP() / load,
    "IP options": ether / IP(src="1.2.3.4", dst="5.6.7.8", options=b"\1" * 12) / TCP() / load,
    "first fragment": ether / IP(src="1.2.3.4", dst="5.6.7.8", flags="MF") / UDP() / load,
    "later fragment": ether / IP(src="1.2.3.4", dst="5.6.7.8", frag=7, proto=6) / load,
    "length 0": ether / IP(src="1.2.3.4", dst="5.6.7.8", len=0) / TCP() / load,
    "TCP over IPv6": ether / v6 / TCP() / load,
    "UDP over IPv6": ether / v6 / UDP() / load,
    "jumbo": ether / IPv6(src="fd00::1", dst="fd00::2", plen=0) / TCP() / load,
    "extensions": ether / v6 / IPv6ExtHdrHopByHop() / IPv6ExtHdrRouting() / IPv6ExtHdrDestOpt()
    / TCP() / load,
    "authentication": ether / v6 / AH(spi=1, seq=1) / TCP() / load,
    "IPv6 fragment": ether / v6 / IPv6ExtHdrFragment(offset=0, m=1) / UDP() / load,
    "IPv6 later fragment": ether / v6 / IPv6ExtHdrFragment(offset=9) / load,
    "tag": ether / Dot1Q(vlan=7) / v4 / UDP() / load,
    "two tags": ether / Dot1AD(vlan=7) / Dot1Q(vlan=8) / v6 / TCP() / load,
    "ARP": ether / ARP(psrc="10.0.0.1", pdst="10.0.0.2"),
    "ARP probe": ether / ARP(psrc="0.0.0.0", pdst="10.0.0.2"),
    "ARP, odd": ether / ARP(ptype=0x86DD, psrc="10.0.0.1"),
    "advertisement": ether / v6 / ICMPv6ND_NA(tgt="fd00::7"),
    "advertisement with option": ether / v6 / ICMPv6ND_NA(tgt="fd00::7")
    / ICMPv6NDOptSrcLLAddr(lladdr="52:54:00:00:00:08")
    / ICMPv6NDOptDstLLAddr(lladdr="52:54:00:00:00:09"),
    "solicitation": ether / v6 / ICMPv6ND_NS(tgt="fd00::7"),
    "DHCP acknowledgement": ether / v4 / lease
    / DHCP(options=["pad", ("server_id", "10.0.0.1"), ("message-type", "ack"), "end"]),
    "DHCP offer": ether / v4 / lease / DHCP(options=[("message-type", "offer"), "end"]),
    "DHCP for nobody": ether / v4 / UDP(sport=67, dport=68) / BOOTP(op=2)
    / DHCP(options=[("message-type", "ack"), "end"]),
    "something else": Ether(src="52:54:00:00:00:01", dst="52:54:00:00:00:02", type=0x88CC) / load,
}  # fmt: skip

Told = dict[bytes, tuple[int, int, int]]
"""Bytes, payload bytes and frames by row."""


@contextmanager
def counter(link: int) -> Iterator[Counter]:
    try:
        made = Counter(has_link_layer=link == _ETHERNET, most_pairs=64)
    except PermissionError:
        pytest.skip("takes root")
    with closing(made):
        yield made


def run(counter: Counter, frame: bytes, times: int = 1) -> None:
    data = ctypes.create_string_buffer(frame, len(frame))
    syscalls._bpf(
        _TEST_RUN,
        struct.pack(
            "=IIIIQQII", counter.program, 0, len(frame), 0, ctypes.addressof(data), 0, times, 0
        ),
    )


def told_by_the_kernel(counter: Counter, frame: bytes) -> Told:
    run(counter, frame)
    found = counter.take(0)
    sums = found.sums
    return {
        row.tobytes(): (int(bytes_), int(payload), int(frames))
        for row, bytes_, payload, frames in zip(
            found.pairs, sums.bytes, sums.payload_bytes, sums.frames, strict=True
        )
    }


def told_by_the_rules(frame: bytes, link: int) -> Told:
    out = bytearray(2 * ROW)
    _, payload, claims = decode(memoryview(frame), 0, len(frame), len(frame), link, 0, False, out)
    told = {bytes(out[:ROW]): (len(frame), payload, 1)}
    return told | {bytes(out[ROW:]): (0, 0, 0)} if claims else told


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_says_the_same_in_the_kernel(kind: str) -> None:
    frame = bytes(FRAMES[kind])

    with counter(_ETHERNET) as kernel:
        assert told_by_the_kernel(kernel, frame) == told_by_the_rules(frame, _ETHERNET)


@pytest.mark.parametrize("kind", FRAMES)
def test_a_frame_cut_off_anywhere_says_the_same_in_the_kernel(kind: str) -> None:
    frame = bytes(FRAMES[kind])

    with counter(_ETHERNET) as kernel:
        for length in range(SHORTEST, len(frame)):
            part = frame[:length]
            try:
                told = told_by_the_kernel(kernel, part)
            except OSError:
                assert length < SHORTEST_OF_ANY_KIND
                continue
            assert told == told_by_the_rules(part, _ETHERNET), length


def test_damaged_frames_say_the_same_in_the_kernel() -> None:
    random = Random(1)
    frames = [bytes(frame) for frame in FRAMES.values()]

    with counter(_ETHERNET) as kernel:
        for _ in range(5000):
            damaged = bytearray(random.choice(frames))
            for _ in range(random.randrange(1, 4)):
                damaged[random.randrange(min(len(damaged), 70))] = random.randrange(256)
            frame = bytes(damaged)
            told = told_by_the_kernel(kernel, frame)
            assert told == told_by_the_rules(frame, _ETHERNET), frame.hex()


def test_packets_without_a_link_layer_say_the_same_in_the_kernel() -> None:
    with counter(_RAW) as kernel:
        for frame in FRAMES.values():
            packet = bytes(frame.payload)
            assert told_by_the_kernel(kernel, packet) == told_by_the_rules(packet, _RAW)


def test_more_pairs_than_there_are_places_for_are_counted_all_the_same() -> None:
    """What finds no place among the recent pairs goes to the table; both are read together."""
    plain = bytes(ether / v4 / UDP() / load)
    sent = 3000
    with counter(_ETHERNET) as small:
        for i in range(sent):
            run(small, plain[:28] + i.to_bytes(2, "big") + plain[30:], times=2)
        found = small.take(0)
        again = small.take(0)

    total, frames = int(found.sums.bytes.sum()), int(found.sums.frames.sum())
    lost = found.no_room_frames
    assert total == 2 * sent * len(plain)
    assert frames + lost == 2 * sent
    assert lost > 0
    assert len({row.tobytes() for row in found.pairs}) == len(found.pairs)
    assert len(again.pairs) == again.no_room_frames == 0
