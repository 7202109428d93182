"""The connections that a gateway's kernel knows, by one question to ctnetlink.

Owns the reading of its messages (linux/netfilter/nfnetlink_conntrack.h). A library that builds a tree of
objects from each needs a second for some thousand connections, and a VM that is about to leave may have those.
Ends with what is of interest here: connections that leave from this site's own address and haven't ended.
"""

import os
import socket
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator
from contextlib import closing
from typing import Literal

from transhume.execute.overlay.gateway.families import FAMILIES, Network, is_in
from transhume.execute.overlay.plane.entries import attributes_in, messages_in
from transhume.execute.overlay.plane.messages import DUMP, REQUEST, Request, packed
from transhume.knowledge.model import Flow, IpAddress
from transhume.reach.netns import socket_in

_NETFILTER = 12
_GET = 1 << 8 | 1
_ERROR, _DONE = 2, 3
_HEAD = struct.Struct(">BBH")
"""nfgenmsg: the address family, a version, a resource."""
_ORIGINAL, _STATUS, _STATE_OF_PROTOCOL = 1, 3, 4
_ADDRESSES, _PORTS = 1, 2
_ENDS: dict[int, tuple[int, int]] = {socket.AF_INET: (1, 2), socket.AF_INET6: (3, 4)}
"""By family: the source, and the destination."""
_PROTOCOL, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3
_TCP_INFO, _TCP_STATE = 1, 1
_TCP_CLOSED = 8
_SOURCE_TRANSLATED, _DYING = 1 << 4, 1 << 9
_PROTOCOLS: dict[int, Literal["tcp", "udp"]] = {6: "tcp", 17: "udp"}
_DATAGRAM_BYTES = 1 << 17
_PATIENCE_SECONDS = 5
_FAMILIES = {family.number: family for family in FAMILIES}

Open = dict[IpAddress, frozenset[Flow]]
"""Connections by the VM's address."""


def open_flows(netns: str, vms: Collection[Network]) -> Open:
    """Return what is open between VMs' addresses and the outside, in a gateway's namespace. Blocking.

    Raises:
        OSError: the kernel doesn't answer, or doesn't let itself be asked.
    """
    found: dict[IpAddress, set[Flow]] = defaultdict(set)
    with closing(socket_in(netns, socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER)) as asking:
        asking.settimeout(_PATIENCE_SECONDS)
        asking.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        asking.send(packed(Request(_GET, REQUEST | DUMP, _HEAD.pack(socket.AF_UNSPEC, 0, 0)), 1))
        for body in _answers(asking):
            read = flow_in(body)
            if read is not None:
                ip, flow = read
                found[ip].add(flow)
    return {ip: frozenset(flows) for ip, flows in found.items() if is_in(ip, vms)}


def flow_in(body: bytes) -> tuple[IpAddress, Flow] | None:
    """Return a connection's source address and the rest; None for what isn't ours or has ended."""
    parts = dict(attributes_in(body, _HEAD.size))
    status = int.from_bytes(parts.get(_STATUS, b""), "big")
    tuple_ = dict(attributes_in(parts.get(_ORIGINAL, b""), 0))
    ports = dict(attributes_in(tuple_.get(_PORTS, b""), 0))
    protocol = _PROTOCOLS.get(int.from_bytes(ports.get(_PROTOCOL, b""), "big"))
    family = _FAMILIES.get(body[0]) if body else None
    if protocol is None or family is None or not status & _SOURCE_TRANSLATED or status & _DYING:
        return None
    if protocol == "tcp" and _tcp_state(parts.get(_STATE_OF_PROTOCOL, b"")) == _TCP_CLOSED:
        return None
    addresses = dict(attributes_in(tuple_.get(_ADDRESSES, b""), 0))
    source, peer = (addresses.get(kind, b"") for kind in _ENDS[family.number])
    if not len(source) == len(peer) == family.bits // 8:
        return None
    port, peer_port = (
        int.from_bytes(ports.get(which, b""), "big") for which in (_SOURCE_PORT, _DESTINATION_PORT)
    )
    return family.text(source), Flow(protocol, port, family.text(peer), peer_port)


def _tcp_state(info: bytes) -> int:
    tcp = dict(attributes_in(dict(attributes_in(info, 0)).get(_TCP_INFO, b""), 0))
    return int.from_bytes(tcp.get(_TCP_STATE, b""), "big")


def _answers(asking: socket.socket) -> Iterator[bytes]:
    while True:
        for message in messages_in(asking.recv(_DATAGRAM_BYTES)):
            if message.kind == _DONE:
                return
            if message.kind == _ERROR:
                code = -int.from_bytes(message.body[:4], "little", signed=True)
                raise OSError(code, os.strerror(code))
            yield message.body
