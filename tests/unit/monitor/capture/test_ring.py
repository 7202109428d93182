"""The filter at a packet socket, run here as the kernel runs it."""

import struct
from collections.abc import Iterator

import pytest
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from transhume.monitor.capture.ring import DHCP_SNAPLEN, SNAPLEN, Instruction, filter_program

ALL = 1 << 32


def run(program: list[Instruction], frame: bytes, dice: int = 0) -> int:
    """Return how much of a frame is kept; a load from behind its end keeps nothing."""
    loads = {0x28: ("!H", False), 0x30: ("!B", False), 0x48: ("!H", True)}
    value = header = 0
    at = 0
    for _ in range(64):
        code, if_true, if_false, number = program[at]
        at += 1
        if code in loads:
            layout, behind = loads[code]
            place = number + header * behind
            try:
                (value,) = struct.unpack_from(layout, frame, place)
            except struct.error:
                return 0
        elif code == 0x20:
            value = dice
        elif code == 0x80:
            value = len(frame)
        elif code == 0xB1:
            header = (frame[number] & 15) * 4
        elif code in (0x15, 0x35):
            at += if_true if (value == number if code == 0x15 else value >= number) else if_false
        else:
            return number
    raise AssertionError("the filter doesn't end")


def offer(**more: int) -> Packet:
    return (
        IP(**more)
        / UDP(sport=67, dport=68)
        / BOOTP(op=2)
        / DHCP(options=[("message-type", 5), "end"])
    )


def cases() -> Iterator[object]:
    ether = Ether(src="52:54:00:00:00:01", dst="52:54:00:00:00:02")
    long = b"x" * 1000
    yield pytest.param(ether / offer() / long, DHCP_SNAPLEN, id="DHCP answer")
    yield pytest.param(
        ether / IP(options=b"\x01" * 8) / offer().payload / long, DHCP_SNAPLEN, id="IP options"
    )
    yield pytest.param(ether / IP() / UDP(sport=68, dport=67) / long, SNAPLEN, id="DHCP request")
    yield pytest.param(ether / IP() / TCP(sport=67) / long, SNAPLEN, id="TCP")
    yield pytest.param(ether / long, SNAPLEN, id="no IP")
    yield pytest.param(ether / IP() / UDP(sport=67), SNAPLEN, id="too short for DHCP")
    yield pytest.param(Ether(b"\0" * 14), SNAPLEN, id="a header and nothing else")


@pytest.mark.parametrize(("frame", "kept"), list(cases()))
def test_the_front_of_a_frame_is_kept_and_more_of_one_that_hands_out_an_address(
    frame: Packet, kept: int
) -> None:
    assert run(filter_program(ALL), bytes(frame)) == kept


def test_no_frame_is_too_short_to_be_kept() -> None:
    frame = bytes(Ether() / offer() / (b"x" * 100))

    assert all(run(filter_program(ALL), frame[:length]) >= SNAPLEN for length in range(400))


def test_dice_decide_where_a_share_is_asked_for() -> None:
    frame = bytes(Ether() / IP() / UDP())
    program = filter_program(1 << 30)

    assert run(program, frame, dice=(1 << 30) - 1) == SNAPLEN
    assert run(program, frame, dice=1 << 30) == 0
