"""The kernel's connections, read from its messages."""

import socket
import struct

import pytest

from transhume.execute.overlay.gateway.conntrack import flow_in
from transhume.knowledge.model import Flow

TRANSLATED, DYING = 1 << 4, 1 << 9
ESTABLISHED, CLOSED = 3, 8


def attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", len(value) + 4, kind) + value.ljust(len(value) + 3 & ~3, b"\0")


ENDS = {
    socket.AF_INET: ((1, "10.66.0.5"), (2, "203.0.113.9")),
    socket.AF_INET6: ((3, "fd66::5"), (4, "2001:db8::9")),
}


def message(protocol=6, state=ESTABLISHED, status=TRANSLATED, family=socket.AF_INET) -> bytes:
    addresses = b"".join(attribute(kind, socket.inet_pton(family, ip)) for kind, ip in ENDS[family])
    ports = (
        attribute(1, bytes([protocol]))
        + attribute(2, (40000).to_bytes(2, "big"))
        + attribute(3, (443).to_bytes(2, "big"))
    )
    original = attribute(1, addresses) + attribute(2, ports)
    info = attribute(1, attribute(1, bytes([state])))
    return (
        struct.pack(">BBH", family, 0, 0)
        + attribute(1 | 0x8000, original)
        + attribute(3, status.to_bytes(4, "big"))
        + attribute(4 | 0x8000, info)
    )


@pytest.mark.parametrize("family", ENDS, ids=["IPv4", "IPv6"])
def test_a_connection_that_leaves_here_is_read(family):
    (_, source), (_, peer) = ENDS[family]

    assert flow_in(message(family=family)) == (source, Flow("tcp", 40000, peer, 443))
    assert flow_in(message(protocol=17, family=family)) == (
        source,
        Flow("udp", 40000, peer, 443),
    )


@pytest.mark.parametrize(
    "body",
    [
        message(state=CLOSED),
        message(status=0),
        message(status=TRANSLATED | DYING),
        message(protocol=1),
        message(protocol=58, family=socket.AF_INET6),
        bytes([socket.AF_INET6]) + message()[1:],
        bytes([socket.AF_UNIX]) + message()[1:],
        b"\2\0\0\0",
        b"",
    ],
    ids=[
        "closed",
        "not translated",
        "dying",
        "ICMP",
        "ICMPv6",
        "addresses of another family",
        "no family of ours",
        "empty",
        "nothing",
    ],
)
def test_what_is_over_or_does_not_leave_here_is_passed_over(body):
    assert flow_in(body) is None
