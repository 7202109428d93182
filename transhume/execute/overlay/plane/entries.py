"""What the kernel says of its forwarding tables: rtnetlink messages of neighbours, read.

Owns the other direction of `messages`: answers to dumps, and notifications. What isn't about a neighbour, or
has attributes that are unknown here, is passed over.
"""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv6Address
from typing import NamedTuple

from transhume.execute.overlay.plane.messages import (
    ATTRIBUTE,
    BRIDGE_FAMILY,
    DELETE_NEIGHBOUR,
    HEADER,
    LINK_ADDRESS,
    MASTER,
    NEIGHBOUR,
    NEW_NEIGHBOUR,
    OURS,
    PERMANENT,
    PROTOCOL,
    SELF_TABLE,
    TO,
)
from transhume.knowledge.model import IpAddress, MacAddress, mac_text

_NUMBER = struct.Struct("=I")
_TELLING = frozenset({LINK_ADDRESS, TO, MASTER, PROTOCOL})


class Message(NamedTuple):
    """One message of several in a datagram."""

    kind: int
    sequence: int
    body: bytes


class Entry(NamedTuple):
    """A line of a table: of a bridge's, a VXLAN device's, or of IP neighbours."""

    family: int
    device: int
    state: int
    flags: int
    mac: MacAddress | None
    to: IpAddress | None
    """Of a bridge's or VXLAN device's line, the far end of the tunnel; else the neighbour."""
    bridge: int | None
    protocol: int

    @property
    def of_bridge(self) -> bool:
        """Whether it says which port of a bridge an address is behind, as opposed to being the port's own."""
        return (
            self.family == BRIDGE_FAMILY
            and self.bridge is not None
            and not self.state & PERMANENT
            and not self.flags & SELF_TABLE
        )

    @property
    def of_tunnel(self) -> bool:
        """Whether it says to which site a VXLAN device sends an address's frames."""
        return (
            self.family == BRIDGE_FAMILY and bool(self.flags & SELF_TABLE) and self.to is not None
        )

    @property
    def of_ours(self) -> bool:
        """Whether it is an IP neighbour that we wrote."""
        return self.family != BRIDGE_FAMILY and self.protocol == OURS


def messages_in(datagram: bytes) -> Iterator[Message]:
    """Yield the messages of a datagram; a damaged end is left out."""
    start = 0
    while start + HEADER.size <= len(datagram):
        length, kind, _, sequence, _ = HEADER.unpack_from(datagram, start)
        if not HEADER.size <= length <= len(datagram) - start:
            return
        yield Message(kind, sequence, datagram[start + HEADER.size : start + length])
        start += (length + 3) & ~3


def attributes_in(body: bytes, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield type and value of the attributes that follow a message's fixed part."""
    while start + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, start)
        if length < ATTRIBUTE.size:
            return
        # The two highest bits say how a value is laid out, not what it is.
        yield kind & 0x3FFF, body[start + ATTRIBUTE.size : start + length]
        start += (length + 3) & ~3


def entry_in(kind: int, body: bytes) -> Entry | None:
    """Return what a message says of a neighbour; None where it is about something else."""
    if kind not in (NEW_NEIGHBOUR, DELETE_NEIGHBOUR) or len(body) < NEIGHBOUR.size:
        return None
    family, device, state, flags, _ = NEIGHBOUR.unpack_from(body)
    mac = to = None
    bridge, protocol, start = None, 0, NEIGHBOUR.size
    # As `attributes_in`, but for the attributes that count: of tables with thousands of lines all are read.
    while start + ATTRIBUTE.size <= len(body):
        length, kind = ATTRIBUTE.unpack_from(body, start)
        if length < ATTRIBUTE.size:
            break
        value = body[start + ATTRIBUTE.size : start + length] if kind in _TELLING else b""
        if kind == LINK_ADDRESS and len(value) == 6:
            mac = mac_text(value)
        elif kind == TO and len(value) in (4, 16):
            to = _address(value)
        elif kind == MASTER and len(value) == _NUMBER.size:
            (bridge,) = _NUMBER.unpack(value)
        elif kind == PROTOCOL and value:
            protocol = value[0]
        start += (length + 3) & ~3
    return Entry(family, device, state, flags, mac, to, bridge, protocol)


def _address(packed: bytes) -> IpAddress:
    if len(packed) == 16:
        return IpAddress(str(IPv6Address(packed)))
    return IpAddress(socket.inet_ntop(socket.AF_INET, packed))
