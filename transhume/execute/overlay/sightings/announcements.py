"""ARP and RARP at one port of a bridge, as they come in.

Owns a packet socket for each port, because a bridge takes frames before sockets for one protocol see them. A
filter in the kernel lets only these two through. What leaves by the port is neither shown nor copied: a
flooded announcement that leaves by the port that a VM has left must not look like the VM's.
"""

import ctypes
import socket
import struct
from collections.abc import Iterator

from transhume.execute.overlay.sightings.sighting import How, Sighting
from transhume.knowledge.model import IpAddress, mac_text
from transhume.reach.netns import socket_in

_ALL_PROTOCOLS = 0x0003
_SOL_PACKET, _IGNORE_OUTGOING, _ATTACH_FILTER, _OUTGOING = 263, 23, 26, 4
_ARP, _RARP = 0x0806, 0x8035
_FRAME_BYTES = 60
AT_ONCE = 64
"""What is heard at a time: a guest can send faster than we read, and others want their turn."""
_PACKET_TYPE = 0xFFFFF000 + 4
_LOAD_WORD, _LOAD_HALF, _IF_EQUAL, _RETURN = 0x20, 0x28, 0x15, 0x06
_FILTER = (
    (_LOAD_WORD, 0, 0, _PACKET_TYPE),
    (_IF_EQUAL, 4, 0, _OUTGOING),
    (_LOAD_HALF, 0, 0, 12),
    (_IF_EQUAL, 1, 0, _ARP),
    (_IF_EQUAL, 0, 1, _RARP),
    (_RETURN, 0, 0, _FRAME_BYTES),
    (_RETURN, 0, 0, 0),
)
"""Code, steps to jump if it is so and if not, operand (linux/filter.h)."""
_BODY = struct.Struct("!HHBBH6s4s6s4s")
_HOW = {(_ARP, 1): How.ARP, (_ARP, 2): How.ARP, (_RARP, 3): How.RARP, (_RARP, 1): How.RARP}


def listen_at(netns: str | None, port: str) -> socket.socket:
    """Open a socket that hears what is announced at a port; it doesn't block.

    Raises:
        OSError: there is no such port.
    """
    opened = socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW, 0)
    try:
        program = ctypes.create_string_buffer(
            b"".join(struct.pack("=HBBI", *each) for each in _FILTER)
        )
        described = struct.pack("@HP", len(_FILTER), ctypes.addressof(program))
        opened.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, described)
        opened.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        opened.setblocking(False)
        # By this the first frame may come: not before the filter is there.
        opened.bind((port, _ALL_PROTOCOLS))
    except OSError:
        opened.close()
        raise
    return opened


def announced(opened: socket.socket, port: str) -> Iterator[Sighting]:
    """Yield what a port's socket has heard since it was last asked, or a part of it if that is much."""
    for _ in range(AT_ONCE):
        try:
            frame, origin = opened.recvfrom(_FRAME_BYTES)
        except BlockingIOError:
            return
        except OSError:
            # The port went down, or away: its socket says so once, and hears again if it comes up.
            return
        sighting = sighting_in(frame, port)
        if sighting is not None and origin[2] != _OUTGOING:
            yield sighting


def sighting_in(frame: bytes, port: str) -> Sighting | None:
    """Return what a frame says of its sender; None where it announces nothing, or somebody else."""
    if len(frame) < 14 + _BODY.size:
        return None
    source, (kind,) = frame[6:12], struct.unpack_from("!H", frame, 12)
    _, _, hardware_bytes, protocol_bytes, doing, sender, ip, _, _ = _BODY.unpack_from(frame, 14)
    how = _HOW.get((kind, doing))
    usable = (hardware_bytes, protocol_bytes) == (6, 4) and not source[0] & 1 and any(source)
    if how is None or not usable or sender != source:
        return None
    known = how is How.ARP and any(ip)
    address = IpAddress(socket.inet_ntop(socket.AF_INET, ip)) if known else None
    return Sighting(mac=mac_text(source), port=port, ip=address, how=how)
