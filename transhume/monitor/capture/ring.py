"""A packet socket with a ring: frames of one interface out of memory shared with the kernel.

Owns the layout of TPACKET_V3 and the options of the socket. A ring, and not `recv`, because a system call
for each frame is too slow for a busy tap; because the kernel stamps each frame; and because the VLAN tag,
which the kernel takes off before anybody sees the frame, is told beside it.

A super-frame (a TCP segment of up to 64 KiB that the network card, or nobody, would cut up) is one frame here,
as it is in what `tcpdump` writes: bytes are right within 5 %, frames are a lower bound.
"""

import ctypes
import mmap
import socket
import struct
from collections.abc import Iterator

from transhume.monitor.capture.frames import Link
from transhume.monitor.capture.framing import RawFrame
from transhume.reach.netns import socket_in

SNAPLEN = 128
"""What is kept of a frame: enough for two VLAN tags and an IPv6 header."""
BLOCK_BYTES, BLOCKS = 1 << 18, 32
RETIRE_MS = 50
"""How long the kernel keeps a block that isn't full."""

_ETH_P_ALL = 3
_SOL_PACKET = 263
_PACKET_RX_RING, _PACKET_STATISTICS, _PACKET_VERSION = 5, 6, 10
_TPACKET_V3 = 2
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS = 26, 35
_RETURN_K = 0x06
_STATUS_USER, _STATUS_VLAN_VALID = 1, 1 << 4
_VLAN_TAG_BYTES = 4

_BLOCK = struct.Struct("=8x3I")
"""Status, number of frames, offset of the first."""
_FRAME = struct.Struct("=6IH30xH")
"""Next, seconds, nanoseconds, kept, length, status, offset of the frame; and the hardware's type."""
_STATUS_AT = 8
_RAW_HARDWARE = frozenset({519, 768, 769, 776, 778, 65534})
"""ARPHRD numbers of devices without a link layer: tunnels, `tun`, WireGuard."""


class Ring:
    """Listens on one interface from the moment it is made until it is closed.

    Raises:
        PermissionError: the process may not open packet sockets.
        OSError: there is no such interface (any more).
    """

    def __init__(self, netns: str | None, interface: str) -> None:
        # Without a protocol the socket is deaf until it is bound: nothing of other interfaces gets in.
        self.socket = socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._prepare()
            self.socket.bind((interface, _ETH_P_ALL))
        except BaseException:
            self.socket.close()
            raise
        self._memory = mmap.mmap(self.socket.fileno(), BLOCK_BYTES * BLOCKS)
        self._next = 0

    def _prepare(self) -> None:
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        _keep_only(self.socket, SNAPLEN)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_VERSION, _TPACKET_V3)
        frame_bytes = 2048
        frames = BLOCK_BYTES // frame_bytes * BLOCKS
        ring = struct.pack("=7I", BLOCK_BYTES, BLOCKS, frame_bytes, frames, RETIRE_MS, 0, 0)
        self.socket.setsockopt(_SOL_PACKET, _PACKET_RX_RING, ring)

    def frames(self, blocks: int) -> Iterator[RawFrame]:
        """Yield the frames of at most so many blocks, and give the blocks back."""
        for _ in range(blocks):
            base = self._next * BLOCK_BYTES
            status, count, first = _BLOCK.unpack_from(self._memory, base)
            if not status & _STATUS_USER:
                return
            yield from self._block(base + first, count)
            struct.pack_into("=I", self._memory, base + _STATUS_AT, 0)
            self._next = (self._next + 1) % BLOCKS

    def _block(self, at: int, count: int) -> Iterator[RawFrame]:
        memory, unpack = self._memory, _FRAME.unpack_from
        for _ in range(count):
            following, seconds, nanoseconds, kept, length, status, mac, hardware = unpack(
                memory, at
            )
            if status & _STATUS_VLAN_VALID:
                length += _VLAN_TAG_BYTES
            link = Link.RAW if hardware in _RAW_HARDWARE else Link.ETHERNET
            data = memory[at + mac : at + mac + kept]
            yield RawFrame(seconds * 1_000_000_000 + nanoseconds, data, length, link)
            at += following

    def take_drops(self) -> int:
        """Return how many frames were lost since the last call because the ring was full."""
        raw = self.socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 12)
        return int(struct.unpack("=3I", raw)[1])

    def forget_error(self) -> None:
        """Clear "network is down", which would make the socket look readable for ever."""
        self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """Stop listening."""
        self._memory.close()
        self.socket.close()


def _keep_only(listener: socket.socket, count: int) -> None:
    """Have the kernel cut each frame after `count` bytes, by a filter that says nothing else."""
    program = ctypes.create_string_buffer(struct.pack("=HBBI", _RETURN_K, 0, 0, count))
    listener.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(program))
    )
