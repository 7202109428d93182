"""The rows of many frames at once.

Owns the vectorised twin of `decode` for what most frames are: any link layer with any VLAN tags, IPv4, IPv6,
TCP, UDP and whatever has no header that we read. ARP, IPv6 extension headers, claims of addresses and tunnels
go through `decode` itself, frame by frame.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from transhume.monitor.capture.scan.counts import WORDS
from transhume.monitor.capture.scan.decode import ROW, decode
from transhume.monitor.capture.scan.links import MAC_HARDWARE, Link
from transhume.monitor.capture.scan.vectors.frames import Frames, Numbers, values_of
from transhume.monitor.capture.scan.vectors.peek import Peek

_IPV4, _ARP, _IPV6, _NOTHING = 0x0800, 0x0806, 0x86DD, -1
_TCP, _UDP, _ICMPV6 = 6, 17, 58
_TUNNELS = (4, 41, 47)
_EXTENSIONS = (0, 43, 44, 51, 60, 135)
_VXLAN_PORT = 4789
_DHCP_ANSWER: Final = np.uint64(0x4400_4300)
"""Ports 67 and 68, as the first four bytes of UDP come out of memory."""
_NEIGHBOUR_ADVERTISEMENT = 136

_INTERFACE_SHIFT, _FAMILY_SHIFT = np.uint64(48), np.uint64(32)
_BOTH_MACS, _SOURCE_MAC = np.uint64(3 << 40), np.uint64(1 << 40)

Words = NDArray[np.uint64]


@dataclass(slots=True)
class Rows:
    """What frames say: rows as words, what came before an inner frame, payload; and the claims' rows."""

    words: Words
    before: Numbers
    payload: Numbers
    claims: Words
    claimed_by: Numbers
    """Which frame each claim stands in."""


@dataclass(slots=True)
class _Headers:
    """Where each frame's network layer is, and what it is."""

    kind: Numbers
    here: Numbers
    end: Numbers
    wire_end: Numbers


def rows_of(peek: Peek, frames: Frames, *, inner: bool) -> Rows:
    """Return the rows of frames."""
    count = len(frames.offset)
    words = np.zeros((count, WORDS), dtype=np.uint64)
    words[:, 1] = (frames.interface.astype(np.uint64) & np.uint64(0xFFFF)) << _INTERFACE_SHIFT
    headers = _Headers(
        kind=np.full(count, _NOTHING, dtype=np.int64),
        here=frames.offset.copy(),
        end=frames.offset + frames.captured,
        wire_end=frames.offset + frames.wire,
    )
    for link in values_of(frames.link):
        _link_layer(peek, link, np.flatnonzero(frames.link == link), headers, words)
    payload = np.zeros(count, dtype=np.int64)
    rare = [
        np.flatnonzero(headers.kind == _ARP),
        _ipv4(peek, headers, words, payload, inner=inner),
        _ipv6(peek, headers, words, payload, inner=inner),
    ]
    rows = Rows(
        words=words,
        before=np.zeros(count, dtype=np.int64),
        payload=payload,
        claims=np.zeros((0, WORDS), dtype=np.uint64),
        claimed_by=np.zeros(0, dtype=np.int64),
    )
    _one_by_one(peek, frames, np.sort(np.concatenate(rare)), rows, inner=inner)
    return rows


# --- link layers -------------------------------------------------------------------------------------


def _link_layer(peek: Peek, link: int, which: Numbers, headers: _Headers, words: Words) -> None:
    """Write MAC addresses, EtherType and the network layer's place of the frames of one link type."""
    if link == Link.ETHERNET:
        which = which[headers.here[which] + 14 <= headers.end[which]]
        at = headers.here[which]
        words[which, 0] = peek.long(at)
        words[which, 1] |= peek.word(at + 8) | _BOTH_MACS
        _behind_tags(peek, which, peek.short(at + 12), at + 14, headers)
    elif link == Link.LINUX_SLL:
        which = which[headers.here[which] + 16 <= headers.end[which]]
        at = headers.here[which]
        mac_bytes, hardware = peek.short(at + 4), peek.short(at + 2)
        _cooked(peek, which, peek.short(at), at + 6, mac_bytes, hardware, words)
        _behind_tags(peek, which, peek.short(at + 14), at + 16, headers)
    elif link == Link.LINUX_SLL2:
        which = which[headers.here[which] + 20 <= headers.end[which]]
        at = headers.here[which]
        mac_bytes, hardware = peek.byte(at + 11), peek.short(at + 8)
        _cooked(peek, which, peek.short(at + 6), at + 12, mac_bytes, hardware, words)
        _behind_tags(peek, which, peek.short(at), at + 20, headers)
    elif link in (Link.NULL, Link.LOOP):
        _by_version(peek, which, 4, headers)
    elif link in (Link.RAW, Link.RAW_OLD, Link.IPV4, Link.IPV6):
        _by_version(peek, which, 0, headers)


def _behind_tags(
    peek: Peek, which: Numbers, kind: Numbers, here: Numbers, headers: _Headers
) -> None:
    end = headers.end[which]
    tagged = np.flatnonzero(_is_tag(kind))
    while len(tagged := tagged[here[tagged] + 4 <= end[tagged]]):
        kind[tagged] = peek.short(here[tagged] + 2)
        here[tagged] += 4
        tagged = tagged[_is_tag(kind[tagged])]
    headers.kind[which], headers.here[which] = kind, here


def _is_tag(kind: Numbers) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = kind == 0x8100
    for tag in (0x88A8, 0x9100, 0x9200):
        found |= kind == tag
    return found


def _cooked(  # noqa: PLR0917
    peek: Peek,
    which: Numbers,
    interface: Numbers,
    mac_at: Numbers,
    mac_bytes: Numbers,
    hardware: Numbers,
    words: Words,
) -> None:
    words[which, 1] = interface.astype(np.uint64) << _INTERFACE_SHIFT
    known = np.flatnonzero((mac_bytes == 6) & np.isin(hardware, MAC_HARDWARE))
    mine, at = which[known], mac_at[known]
    words[mine, 0] = peek.short(at).astype(">u2").view("<u2").astype(np.uint64) << np.uint64(48)
    words[mine, 1] |= peek.word(at + 2) | _SOURCE_MAC


def _by_version(peek: Peek, which: Numbers, header: int, headers: _Headers) -> None:
    which = which[headers.here[which] + header < headers.end[which]]
    headers.here[which] += header
    version = peek.byte(headers.here[which]) >> 4
    headers.kind[which] = np.where(
        version == 4, _IPV4, np.where(version == 6, _IPV6, np.int64(_NOTHING))
    )


# --- network and transport layers --------------------------------------------------------------------


def _ipv4(peek: Peek, headers: _Headers, words: Words, payload: Numbers, *, inner: bool) -> Numbers:
    """Write addresses and payload of IPv4 packets; return the frames that `decode` has to look at."""
    which = np.flatnonzero((headers.kind == _IPV4) & (headers.here + 20 <= headers.end))
    start = peek.long(headers.here[which])
    good = ((start >> np.uint64(4)) & np.uint64(15) == 4) & (start & np.uint64(15) >= 5)
    which, start = which[good], start[good].view(np.int64)
    at = headers.here[which]
    words[which, 1] |= np.uint64(4) << _FAMILY_SHIFT
    words[which, 2], words[which, 4] = peek.word(at + 12), peek.word(at + 16)
    header = (start & 15) * 4
    total = (start >> 8 & 0xFF00) | (start >> 24 & 0xFF)
    total = np.where(total == 0, headers.wire_end[which] - at, total)
    later = (start >> 48) & 0xFF1F != 0
    protocol, here, length = peek.byte(at + 9), at + header, total - header
    end = headers.end[which]
    payload[which] = _carried(peek, protocol, here, end, length, later)
    ports = _ports(peek, protocol, here, end)
    rare = ports == _DHCP_ANSWER
    if inner:
        rare |= _is_tunnel(protocol, ports)
    found: Numbers = which[rare & ~later]
    return found


def _ipv6(peek: Peek, headers: _Headers, words: Words, payload: Numbers, *, inner: bool) -> Numbers:
    """Do the same for IPv6 packets."""
    which = np.flatnonzero((headers.kind == _IPV6) & (headers.here + 40 <= headers.end))
    which = which[peek.byte(headers.here[which]) >> 4 == 6]
    at, end = headers.here[which], headers.end[which]
    words[which, 1] |= np.uint64(6) << _FAMILY_SHIFT
    for word in range(4):
        words[which, 2 + word] = peek.long(at + 8 + 8 * word)
    protocol, here, length = peek.byte(at + 6), at + 40, peek.short(at + 4)
    length = np.where(length == 0, headers.wire_end[which] - here, length)
    payload[which] = _carried(peek, protocol, here, end, length, np.False_)
    rare = np.isin(protocol, _EXTENSIONS)
    asks = np.flatnonzero((protocol == _ICMPV6) & (here < end))
    rare[asks] = peek.byte(here[asks]) == _NEIGHBOUR_ADVERTISEMENT
    if inner:
        rare |= _is_tunnel(protocol, _ports(peek, protocol, here, end))
    found: Numbers = which[rare]
    return found


def _carried(  # noqa: PLR0917
    peek: Peek,
    protocol: Numbers,
    here: Numbers,
    end: Numbers,
    length: Numbers,
    later: NDArray[np.bool_] | np.bool_,
) -> Numbers:
    """Return the payload's bytes, of `length` from the transport header on."""
    header = np.where(protocol == _UDP, 8, 0)
    header[protocol == _TCP] = 20
    told = np.flatnonzero((protocol == _TCP) & (here + 13 <= end))
    header[told] = peek.byte(here[told] + 12) >> 4 << 2
    payload: Numbers = np.maximum(length - np.where(later, 0, header), 0)
    return payload


def _ports(peek: Peek, protocol: Numbers, here: Numbers, end: Numbers) -> Words:
    """Return both ports of UDP as they come out of memory; 0 elsewhere."""
    ports = np.zeros(len(protocol), dtype=np.uint64)
    told = np.flatnonzero((protocol == _UDP) & (here + 4 <= end))
    ports[told] = peek.word(here[told])
    return ports


def _is_tunnel(protocol: Numbers, ports: Words) -> NDArray[np.bool_]:
    vxlan = np.uint64(int.from_bytes(_VXLAN_PORT.to_bytes(2, "big"), "little"))
    found: NDArray[np.bool_] = np.isin(protocol, _TUNNELS) | (ports >> np.uint64(16) == vxlan)
    return found


# --- rare frames -------------------------------------------------------------------------------------


def _one_by_one(peek: Peek, frames: Frames, which: Numbers, rows: Rows, *, inner: bool) -> None:
    """Let `decode` say what these frames hold."""
    view, out = peek.data.data, bytearray(2 * ROW)
    found: list[bytes] = []
    claimed_by: list[int] = []
    for i in which.tolist():
        rows.before[i], rows.payload[i], claimed = decode(
            view,
            int(frames.offset[i]),
            int(frames.captured[i]),
            int(frames.wire[i]),
            int(frames.link[i]),
            int(frames.interface[i]),
            inner,
            out,
        )
        rows.words[i] = np.frombuffer(out, dtype="<u8", count=WORDS)
        if claimed:
            found.append(bytes(out[ROW:]))
            claimed_by.append(i)
    rows.claims = np.frombuffer(b"".join(found), dtype="<u8").reshape(-1, WORDS)
    rows.claimed_by = np.array(claimed_by, dtype=np.int64)
