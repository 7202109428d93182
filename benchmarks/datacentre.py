"""A made-up data centre's traffic as columns: who talks to whom, in which protocol, how much, when.

64 VMs of 8 tenants, each with web servers, application servers, a pair of databases that replicate, and a
monitor; 1,024 outside hosts behind a gateway's MAC address. Flows weigh by a Pareto law; requests are mostly
small and answers mostly full, which gives the two humps of sizes that data centres show. TCP counts its
sequence numbers, so that no peer loses time over gaps. All is drawn from one seed: the same frames each time.

What a frame looks like on the wire is `headers.py`'s business.
"""

from dataclasses import dataclass, fields
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

TENANTS, PER_TENANT, OUTSIDE = 8, 8, 1024
VMS = TENANTS * PER_TENANT
FLOWS = 20_000
SECONDS = 60
BEGAN_NS = 1_893_456_000 * 10**9
FORWARD, REVERSE, ASKING = 0, 1, 2
"""A flow's frames go one way or the other; some are the ARP request of its source for its destination."""

FULL_BYTES, ARP_BYTES = 1514, 60
ARP_SHARE = 0.0005
SYN, SYN_ACK, PUSH_ACK, ACK = 0x02, 0x12, 0x18, 0x10

Column = NDArray[Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Flows:
    """Conversations: rows of hosts (the VMs first, then the outside), and what they speak."""

    source: Column
    destination: Column
    weight: Column
    udp: Column
    ipv6: Column
    vlan: Column
    source_port: Column
    destination_port: Column

    @property
    def header_bytes(self) -> Column:
        """Ethernet, IP and transport header together."""
        link = np.where(self.vlan > 0, 18, 14)
        return link + np.where(self.ipv6, 40, 20) + np.where(self.udp, 8, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Frames:
    """Frames in the order of time."""

    flows: Flows
    flow: Column
    way: Column
    at_ns: Column
    length: Column
    payload: Column
    sequence: Column
    acknowledged: Column
    tcp_flags: Column

    def part(self, start: int, stop: int) -> "Frames":
        """Return some of the frames alone."""
        columns = {each.name: getattr(self, each.name) for each in fields(self)}
        flows = columns.pop("flows")
        return Frames(flows=flows, **{name: of[start:stop] for name, of in columns.items()})


@cache
def frames(count: int) -> Frames:
    """Return a minute's frames."""
    chance = np.random.default_rng(7)
    flows = _flows(chance)
    flow = chance.choice(FLOWS, count, p=flows.weight).astype(np.int32)
    order = np.argsort(flow, kind="stable")
    place = _place_in_flow(flow, order)
    udp, header = flows.udp[flow], flows.header_bytes[flow]
    reverse = np.where(place < 2, place == 1, chance.random(count) < 0.55)
    opening = ~udp & (place < 2)
    asking = chance.random(count) < ARP_SHARE
    length = np.maximum(_lengths(chance, reverse), header)
    length[opening] = header[opening]
    length[asking] = ARP_BYTES
    payload = np.where(asking, 0, length - header)
    advance = np.where(udp | asking, 0, payload + opening)
    sent = [_sum_before(np.where(reverse == way, advance, 0), flow, order) for way in (False, True)]
    first = chance.integers(2**32, size=(2, FLOWS), dtype=np.int64)
    forward_at, reverse_at = first[0][flow] + sent[0], first[1][flow] + sent[1]
    return Frames(
        flows=flows,
        flow=flow,
        way=np.where(asking, ASKING, reverse).astype(np.int8),
        at_ns=_instants(chance, count),
        length=length.astype(np.int32),
        payload=payload.astype(np.int32),
        sequence=np.where(reverse, reverse_at, forward_at).astype(np.uint32),
        acknowledged=np.where(reverse, forward_at, reverse_at).astype(np.uint32),
        tcp_flags=np.where(
            opening, np.where(reverse, SYN_ACK, SYN), np.where(payload > 0, PUSH_ACK, ACK)
        ).astype(np.uint8),
    )


def _flows(chance: np.random.Generator) -> Flows:
    """Return flows of six kinds: who a tenant's machines serve and ask."""
    kind = chance.choice(6, FLOWS, p=(0.34, 0.25, 0.16, 0.10, 0.13, 0.02))
    tenant = chance.choice(TENANTS, FLOWS, p=(0.30, 0.20, 0.15, 0.10, 0.08, 0.07, 0.06, 0.04))
    first = tenant * PER_TENANT
    outside = VMS + chance.zipf(1.3, FLOWS) % OUTSIDE
    web, app, database = (
        first + low + chance.integers(count, size=FLOWS) for low, count in ((0, 2), (2, 3), (5, 2))
    )
    monitor, watched = first + 7, first + chance.integers(7, size=FLOWS)
    anybody = chance.integers(VMS, size=FLOWS)
    stranger = (anybody + chance.integers(1, VMS, size=FLOWS)) % VMS
    ends = (
        (outside, web),
        (web, app),
        (app, database),
        (monitor, watched),
        (first + 5, first + 6),
        (anybody, stranger),
    )
    weight = chance.pareto(1.15, FLOWS) + 0.02
    return Flows(
        source=np.choose(kind, [source for source, _ in ends]),
        destination=np.choose(kind, [destination for _, destination in ends]),
        weight=weight / weight.sum(),
        udp=chance.random(FLOWS) < 0.25,
        ipv6=chance.random(FLOWS) < 0.10,
        vlan=np.where((tenant >= 3) & (tenant < 6), 100 + tenant, 0),
        source_port=chance.integers(32_768, 61_000, FLOWS),
        destination_port=20_000 + kind * 100 + chance.integers(20, size=FLOWS),
    )


def _lengths(chance: np.random.Generator, reverse: Column) -> Column:
    """Return lengths of frames: small, anything between, or full; answers are mostly full."""
    count, draw = len(reverse), chance.random(len(reverse))
    small, between = chance.integers(60, 101, count), chance.integers(101, 1400, count)
    below_small, below_between = np.where(reverse, 0.30, 0.74), np.where(reverse, 0.40, 0.84)
    return np.where(draw < below_small, small, np.where(draw < below_between, between, FULL_BYTES))


def _instants(chance: np.random.Generator, count: int) -> Column:
    """Return instants in order, denser in some tenths of a second than in others."""
    busy = 0.4 + chance.random(SECONDS * 10) ** 2
    work = np.cumsum(chance.exponential(1, count))
    work *= busy.sum() / work[-1]
    seconds = np.interp(work, np.r_[0, np.cumsum(busy)], np.arange(len(busy) + 1) * 0.1)
    found: Column = BEGAN_NS + (seconds * 1e9).astype(np.int64)
    return found


def _place_in_flow(flow: Column, order: Column) -> Column:
    """Return how many frames of the same flow came before each."""
    return _sum_before(np.ones(len(flow), dtype=np.int64), flow, order)


def _sum_before(values: Column, flow: Column, order: Column) -> Column:
    """Return the sum of the values of earlier frames of the same flow."""
    grouped = flow[order]
    before = np.cumsum(values[order]) - values[order]
    starts = np.flatnonzero(np.r_[True, grouped[1:] != grouped[:-1]])
    before -= np.repeat(before[starts], np.diff(np.r_[starts, len(flow)]))
    found = np.empty(len(flow), dtype=np.int64)
    found[order] = before
    return found
