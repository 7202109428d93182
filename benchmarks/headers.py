"""The first 96 bytes of each frame of the made-up data centre, and the row of addresses that it belongs to.

Most of a frame is the same for all frames of its flow that go its way: that is a template, gathered by number.
What differs (lengths, identification, checksum, sequence numbers) is written over it.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from benchmarks.datacentre import ASKING, FORWARD, PER_TENANT, REVERSE, VMS, Column, Flows, Frames
from transhume.knowledge.model.addresses import (
    ADDRESS_PAIR,
    CLAIM,
    DESTINATION_MAC,
    SOURCE_MAC,
    AddressPairs,
)

KEPT_BYTES = 96
WAYS = 3
TCP, UDP = 6, 17
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Templates:
    """What the frames of a flow share, a row for each flow and way (see `number`)."""

    flows: Flows

    @staticmethod
    def number(frames: Frames) -> Column:
        """Return which template each frame is made from."""
        return frames.flow * WAYS + frames.way

    @cached_property
    def way(self) -> Column:
        """Which way the template's frames go."""
        return np.tile([FORWARD, REVERSE, ASKING], len(self.flows.source))

    @cached_property
    def arp(self) -> Column:
        """Whether they ask for an address."""
        asking: Column = self.way == ASKING
        return asking

    @cached_property
    def ipv6(self) -> Column:
        """Whether they are IPv6; what is neither that nor ARP is IPv4."""
        return self._of_flow(self.flows.ipv6) & ~self.arp

    @cached_property
    def udp(self) -> Column:
        """Whether they are UDP; else they are TCP."""
        return self._of_flow(self.flows.udp)

    @cached_property
    def vlan(self) -> Column:
        """Their VLAN; 0 for none."""
        return np.where(self.arp, 0, self._of_flow(self.flows.vlan))

    @cached_property
    def network_at(self) -> Column:
        """Where the IP header begins."""
        return np.where(self.vlan > 0, 18, 14)

    @cached_property
    def transport_at(self) -> Column:
        """Where the TCP or UDP header begins."""
        return self.network_at + np.where(self.ipv6, 40, 20)

    @cached_property
    def source(self) -> Column:
        """The host that sends."""
        return self._end(self.flows.source, self.flows.destination)

    @cached_property
    def destination(self) -> Column:
        """The host that receives, or is asked for."""
        return self._end(self.flows.destination, self.flows.source)

    def _of_flow(self, values: Column) -> Column:
        return np.repeat(values, WAYS)

    def _end(self, values: Column, reversed_values: Column) -> Column:
        return np.where(self.way == REVERSE, self._of_flow(reversed_values), self._of_flow(values))

    @cached_property
    def addresses(self) -> AddressPairs:
        """The row that a frame is to be counted in."""
        rows = np.zeros(len(self.way), dtype=ADDRESS_PAIR)
        rows["source_mac"] = mac_addresses(self.source)
        rows["destination_mac"] = mac_addresses(self.destination)
        rows["destination_mac"][self.arp] = 255
        rows["family"] = np.where(self.ipv6, 6, 4)
        rows["flags"] = SOURCE_MAC | DESTINATION_MAC | np.where(self.arp, CLAIM, 0)
        six = self.ipv6[:, None]
        for end, hosts in (("source", self.source), ("destination", self.destination)):
            rows[f"{end}_ip"] = np.where(six, ipv6_addresses(hosts), 0)
            rows[f"{end}_ip"][~self.ipv6, :4] = ipv4_addresses(hosts)[~self.ipv6]
        return rows

    @cached_property
    def bytes(self) -> Bytes:
        """The bytes of each template; its payload is noise."""
        chance = np.random.default_rng(8)
        found = chance.integers(256, size=(len(self.way), KEPT_BYTES), dtype=np.uint8)
        rows = self.addresses
        found[:, 0:6], found[:, 6:12] = rows["destination_mac"], rows["source_mac"]
        _put(found, 12, 0x8100, self.vlan > 0)
        _put(found, 14, self.vlan, self.vlan > 0)
        _put(found, self.network_at - 2, 0x86DD, self.ipv6)
        _put(found, self.network_at - 2, 0x0800, ~self.ipv6)
        self._write_ipv4(found)
        self._write_ipv6(found)
        self._write_transport(found)
        self._write_arp(found)
        return found

    def _write_ipv4(self, found: Bytes) -> None:
        chosen, rows = ~self.ipv6, self.addresses
        for at, value in ((0, 0x4500), (2, 0), (4, 0), (6, 0x4000), (10, 0)):
            _put(found, self.network_at + at, value, chosen)
        _put(found, self.network_at + 8, 64 << 8 | np.where(self.udp, UDP, TCP), chosen)
        _put_bytes(found, self.network_at + 12, rows["source_ip"][:, :4], chosen)
        _put_bytes(found, self.network_at + 16, rows["destination_ip"][:, :4], chosen)

    def _write_ipv6(self, found: Bytes) -> None:
        chosen, rows = self.ipv6, self.addresses
        for at, value in ((0, 0x6000), (2, 0), (4, 0)):
            _put(found, self.network_at + at, value, chosen)
        _put(found, self.network_at + 6, np.where(self.udp, UDP, TCP) << 8 | 64, chosen)
        _put_bytes(found, self.network_at + 8, rows["source_ip"], chosen)
        _put_bytes(found, self.network_at + 24, rows["destination_ip"], chosen)

    def _write_transport(self, found: Bytes) -> None:
        everywhere, forward = ~self.arp, self.way != REVERSE
        one, other = (
            self._of_flow(self.flows.source_port),
            self._of_flow(self.flows.destination_port),
        )
        _put(found, self.transport_at, np.where(forward, one, other), everywhere)
        _put(found, self.transport_at + 2, np.where(forward, other, one), everywhere)
        _put(found, self.transport_at + 6, 0, self.udp)
        _put(found, self.transport_at + 12, 0x5000, ~self.udp)
        _put(found, self.transport_at + 14, 0xFFFF, ~self.udp)
        _put(found, self.transport_at + 16, 0, ~self.udp)
        _put(found, self.transport_at + 18, 0, ~self.udp)

    def _write_arp(self, found: Bytes) -> None:
        rows = self.addresses[self.arp]
        request = np.zeros((len(rows), KEPT_BYTES), dtype=np.uint8)
        request[:, 0:6], request[:, 6:12] = 255, rows["source_mac"]
        request[:, 12:22] = (8, 6, 0, 1, 8, 0, 6, 4, 0, 1)
        request[:, 22:28], request[:, 28:32] = rows["source_mac"], rows["source_ip"][:, :4]
        request[:, 38:42] = rows["destination_ip"][:, :4]
        found[self.arp] = request

    @cached_property
    def checksum(self) -> Column:
        """The IPv4 header's words added up, all but those that differ by frame."""
        found = np.zeros(len(self.way), dtype=np.int64)
        rows = np.arange(len(found))
        for at in range(0, 20, 2):
            high = self.bytes[rows, self.network_at + at].astype(np.int64)
            found += high << 8 | self.bytes[rows, self.network_at + at + 1]
        return found


def frame_bytes(frames: Frames, templates: Templates, identification: Column) -> Bytes:
    """Return the first 96 bytes of each frame, a row each; a shorter frame's row goes on with noise."""
    number = templates.number(frames)
    found = templates.bytes[number]
    network, transport = templates.network_at[number], templates.transport_at[number]
    arp, ipv6, udp = templates.arp[number], templates.ipv6[number], templates.udp[number]
    ipv4, tcp, udp = ~arp & ~ipv6, ~arp & ~udp, ~arp & udp
    length = frames.length - network
    _put(found, network + 2, length, ipv4)
    _put(found, network + 4, identification & 0xFFFF, ipv4)
    total = templates.checksum[number] + length + (identification & 0xFFFF)
    for _ in range(2):
        total = (total >> 16) + (total & 0xFFFF)
    _put(found, network + 10, 0xFFFF - total, ipv4)
    _put(found, network + 4, length - 40, ipv6)
    _put(found, transport + 4, frames.payload + 8, udp)
    _put_bytes(found, transport + 4, _big_endian(frames.sequence), tcp)
    acknowledged = np.where(frames.tcp_flags == 0x02, 0, frames.acknowledged)
    _put_bytes(found, transport + 8, _big_endian(acknowledged), tcp)
    _put(found, transport + 12, 0x5000 | frames.tcp_flags.astype(np.int64), tcp)
    return found


def mac_addresses(hosts: Column) -> Bytes:
    """Return the hosts' MAC addresses; all outside hosts have the gateway's."""
    found = np.zeros((len(hosts), 6), dtype=np.uint8)
    found[:, :2] = (0x52, 0x54)
    found[:, 4] = np.where(hosts < VMS, hosts // PER_TENANT, 255)
    found[:, 5] = np.where(hosts < VMS, hosts % PER_TENANT, 254)
    return found


def ipv4_addresses(hosts: Column) -> Bytes:
    """Return the hosts' IPv4 addresses: 10.TENANT.0.10 and so on, and 198.18/16 outside."""
    inside = (10 << 24) + (hosts // PER_TENANT << 16) + hosts % PER_TENANT + 10
    return _big_endian(np.where(hosts < VMS, inside, (198 << 24) + (18 << 16) + hosts - VMS))


def ipv6_addresses(hosts: Column) -> Bytes:
    """Return the hosts' IPv6 addresses, which end in their IPv4 addresses."""
    found = np.zeros((len(hosts), 16), dtype=np.uint8)
    inside = (hosts < VMS)[:, None]
    found[:, :4] = np.where(inside, (0xFD, 0, 0, 0), (0x20, 0x01, 0x0D, 0xB8))
    found[:, 12:] = ipv4_addresses(hosts)
    return found


def _big_endian(values: Column) -> Bytes:
    return values.astype(">u4").view(np.uint8).reshape(-1, 4)


def _put(rows: Bytes, at: Column | int, values: Column | int, chosen: Column) -> None:
    """Write 16-bit numbers into the chosen rows, at a place of each row's own."""
    which = np.flatnonzero(chosen)
    words = np.broadcast_to(np.asarray(values), chosen.shape)[which].astype(np.int64)
    place = which * rows.shape[1] + np.broadcast_to(np.asarray(at), chosen.shape)[which]
    flat = rows.reshape(-1)
    flat[place], flat[place + 1] = words >> 8, words & 0xFF


def _put_bytes(rows: Bytes, at: Column, values: Bytes, chosen: Column) -> None:
    """Write bytes into the chosen rows, at a place of each row's own."""
    which = np.flatnonzero(chosen)
    place = which * rows.shape[1] + at[which]
    flat = rows.reshape(-1)
    for number in range(values.shape[1]):
        flat[place + number] = values[which, number]
