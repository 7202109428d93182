"""What is said to the kernel's forwarding tables: rtnetlink messages, packed by hand.

A library that builds each message from a tree of objects takes most of a millisecond for it; a site that is
told of ten thousand addresses, and a VM that is about to run again, can't wait for that. Owns the layout
(linux/neighbour.h, linux/netlink.h) and the six requests that the data plane knows; sends nothing.
"""

import socket
import struct
from functools import lru_cache
from typing import NamedTuple

from transhume.knowledge.model import IpAddress, MacAddress

NEW_NEIGHBOUR, DELETE_NEIGHBOUR, GET_NEIGHBOUR = 28, 29, 30
BRIDGE_FAMILY = 7
HEADER = struct.Struct("=IHHII")
"""Length, type, flags, sequence number, port."""
NEIGHBOUR = struct.Struct("=BxxxiHBB")
"""Address family, interface, state, flags, type."""
ATTRIBUTE = struct.Struct("=HH")
"""Length with this header, type; padded to four bytes."""

TO, LINK_ADDRESS, DEVICE, MASTER, PROTOCOL = 1, 2, 8, 9, 12
SELF_TABLE, BRIDGE_TABLE, EXTERNALLY_LEARNED = 0x02, 0x04, 0x10
NO_ARP, PERMANENT = 0x40, 0x80
STATIC = NO_ARP | PERMANENT
REQUEST, ACKNOWLEDGE, DUMP = 0x001, 0x004, 0x300
REPLACE, CREATE, APPEND = 0x100, 0x400, 0x800

OURS = 84
"""What marks a neighbour as written by us, as routing daemons mark their routes (rtm_protocol)."""


class Request(NamedTuple):
    """A message but for its sequence number."""

    kind: int
    flags: int
    body: bytes


def forward(device: int, mac: MacAddress, vtep: IpAddress) -> Request:
    """Let a VXLAN device send the frames for an address to a site."""
    head = NEIGHBOUR.pack(BRIDGE_FAMILY, device, STATIC, SELF_TABLE, 0)
    body = head + _link_address(mac) + _destination(vtep)
    return Request(NEW_NEIGHBOUR, REQUEST | CREATE | REPLACE, body)


def forward_too(device: int, mac: MacAddress, vtep: IpAddress) -> Request:
    """Let it send them to this site besides the others; for addresses of groups only."""
    head = NEIGHBOUR.pack(BRIDGE_FAMILY, device, STATIC, SELF_TABLE, 0)
    body = head + _link_address(mac) + _destination(vtep)
    return Request(NEW_NEIGHBOUR, REQUEST | CREATE | APPEND, body)


def forward_no_more(device: int, mac: MacAddress, vtep: IpAddress | None = None) -> Request:
    """Take back `forward`; with a site, only what goes there."""
    head = NEIGHBOUR.pack(BRIDGE_FAMILY, device, 0, SELF_TABLE, 0)
    destination = b"" if vtep is None else _destination(vtep)
    return Request(DELETE_NEIGHBOUR, REQUEST, head + _link_address(mac) + destination)


def put_behind(port: int, mac: MacAddress) -> Request:
    """Tell a port's bridge that an address is behind the port; another's frames can still teach it better."""
    flags = BRIDGE_TABLE | EXTERNALLY_LEARNED
    head = NEIGHBOUR.pack(BRIDGE_FAMILY, port, NO_ARP, flags, 0)
    return Request(NEW_NEIGHBOUR, REQUEST | CREATE | REPLACE, head + _link_address(mac))


def take_from_behind(port: int, mac: MacAddress) -> Request:
    """Let a port's bridge forget that an address is behind this port; what it knows of others stays."""
    head = NEIGHBOUR.pack(BRIDGE_FAMILY, port, 0, BRIDGE_TABLE, 0)
    return Request(DELETE_NEIGHBOUR, REQUEST, head + _link_address(mac))


def answer_for(bridge: int, ip: IpAddress, mac: MacAddress) -> Request:
    """Let neighbours be told who has an IP address, without asking the VM."""
    family, destination = _neighbour(ip)
    head = NEIGHBOUR.pack(family, bridge, PERMANENT, 0, 0)
    body = head + destination + _link_address(mac) + _OURS
    return Request(NEW_NEIGHBOUR, REQUEST | CREATE | REPLACE, body)


def answer_no_more(bridge: int, ip: IpAddress) -> Request:
    """Take back `answer_for`."""
    family, destination = _neighbour(ip)
    body = NEIGHBOUR.pack(family, bridge, 0, 0, 0) + destination
    return Request(DELETE_NEIGHBOUR, REQUEST, body)


def behind_port(port: int) -> Request:
    """Ask for all entries of a port: in its bridge's table, and in its own where it has one."""
    return _dump(NEIGHBOUR.pack(BRIDGE_FAMILY, port, 0, 0, 0))


def behind_bridge(bridge: int) -> Request:
    """Ask for all entries of a bridge, whichever port they are behind."""
    return _dump(NEIGHBOUR.pack(BRIDGE_FAMILY, 0, 0, 0, 0) + _attribute(MASTER, _index(bridge)))


def neighbours_of(family: int, device: int) -> Request:
    """Ask for a device's IP neighbours."""
    return _dump(NEIGHBOUR.pack(family, 0, 0, 0, 0) + _attribute(DEVICE, _index(device)))


def packed(request: Request, sequence: int) -> bytes:
    """Return the message as it is sent."""
    kind, flags, body = request
    return HEADER.pack(HEADER.size + len(body), kind, flags, sequence, 0) + body


def _dump(body: bytes) -> Request:
    return Request(GET_NEIGHBOUR, REQUEST | DUMP, body)


def _index(device: int) -> bytes:
    return struct.pack("=I", device)


def _attribute(kind: int, value: bytes) -> bytes:
    length = ATTRIBUTE.size + len(value)
    return ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


@lru_cache(maxsize=16)
def _link_address(mac: MacAddress) -> bytes:
    return _MAC_HEAD + bytes.fromhex(mac.replace(":", "")) + b"\0\0"


@lru_cache(maxsize=1024)
def _destination(vtep: IpAddress) -> bytes:
    return _neighbour(vtep)[1]


def _neighbour(ip: IpAddress) -> tuple[int, bytes]:
    family = socket.AF_INET6 if ":" in ip else socket.AF_INET
    return family, _attribute(TO, socket.inet_pton(family, ip))


_MAC_HEAD = ATTRIBUTE.pack(10, LINK_ADDRESS)
_OURS = _attribute(PROTOCOL, bytes([OURS]))
