"""A packet socket with a ring: frames of one interface out of memory shared with the kernel.

Owns the layout of a TPACKET_V3 block and the options of the socket. A ring, and not `recv`, because a system
call for each frame is too slow for a busy tap; because the kernel stamps each frame; because the VLAN tag,
which the kernel takes off before anybody sees the frame, is told beside it; and because the header of virtio,
which it can put before each frame, says how many segments a super-frame is to be cut into.
"""

import ctypes
import mmap
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from transhume.reach.netns import socket_in

SNAPLEN, DHCP_SNAPLEN = 128, 512
"""What is kept of a frame: enough for two VLAN tags, IPv6 and TCP; and of one that may hand out an address."""
BLOCK_BYTES, BLOCKS = 1 << 20, 8
"""Large blocks, because we are woken for each: of a quarter the size, reading a frame takes twice as long."""
RETIRE_MS = 50
"""How long the kernel keeps a block that isn't full."""
LOOPBACK = 772
"""ARPHRD number of the device on which each frame that leaves comes in again."""

_ETH_P_ALL = 3
_SOL_PACKET = 263
_RX_RING, _STATISTICS, _VERSION, _VNET_HEADER, _IGNORE_OUTGOING = 5, 6, 10, 15, 23
_TPACKET_V3 = 2
_SO_ATTACH_FILTER, _SO_TIMESTAMPNS = 26, 35
_STATUS_USER = 1

_BLOCK = struct.Struct("=8x3I12x4I")
"""Status, number of frames, offset of the first; seconds and nanoseconds of the first and the last."""
_FRAME = struct.Struct("=III4xI")
"""Next, seconds, nanoseconds, length."""
_STATUS_AT = 8
_NS = 1_000_000_000

# Classic BPF: what an instruction does, with jumps if true, if false, and a number.
_LOAD_WORD, _LOAD_LENGTH, _LOAD_SHORT, _LOAD_BYTE = 0x20, 0x80, 0x28, 0x30
_LOAD_HEADER_LENGTH, _LOAD_SHORT_BEHIND = 0xB1, 0x48
_JUMP_EQUAL, _JUMP_AT_LEAST = 0x15, 0x35
_RETURN = 0x06
_RANDOM = 0xFFFF_F000 + 56
_SMALLEST_DHCP, _DHCP_SERVER = 282, 67

Instruction = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """Some frames that the kernel has handed over."""

    at: int
    """Where the first one's header begins in the ring."""
    frames: int
    first_ns: int
    last_ns: int


class Ring:
    """Listens on one interface from the moment it is made until it is closed.

    Raises:
        PermissionError: the process may not open packet sockets.
        OSError: there is no such interface (any more).
    """

    def __init__(self, netns: str | None, interface: str, *, loopback: bool = False) -> None:
        # Without a protocol the socket is deaf until it is bound: nothing of other interfaces gets in.
        self.socket = socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW, 0)
        try:
            self._prepare(loopback)
            self.socket.bind((interface, _ETH_P_ALL))
        except BaseException:
            self.socket.close()
            raise
        self._mapped = mmap.mmap(self.socket.fileno(), BLOCK_BYTES * BLOCKS)
        self.memory: NDArray[np.uint8] = np.frombuffer(self._mapped, np.uint8)
        self._next = 0

    def _prepare(self, loopback: bool) -> None:
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        self.sample(1.0)
        self.socket.setsockopt(_SOL_PACKET, _VERSION, _TPACKET_V3)
        self.socket.setsockopt(_SOL_PACKET, _VNET_HEADER, 1)
        if loopback:
            self.socket.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
        frame_bytes = 2048
        frames = BLOCK_BYTES // frame_bytes * BLOCKS
        ring = struct.pack("=7I", BLOCK_BYTES, BLOCKS, frame_bytes, frames, RETIRE_MS, 0, 0)
        self.socket.setsockopt(_SOL_PACKET, _RX_RING, ring)

    def sample(self, share: float) -> float:
        """Have the kernel keep a share of the frames, from now on; return the share as it takes it."""
        threshold = 1 << 32 if share >= 1 else max(round(share * 2**32), 1)
        program = b"".join(struct.pack("=HBBI", *each) for each in filter_program(threshold))
        code = ctypes.create_string_buffer(program, len(program))
        attached = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
        self.socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, attached)
        return threshold / 2**32

    def blocks(self, most: int) -> Iterator[Block]:
        """Yield at most so many blocks; each is given back when the next one is asked for."""
        for _ in range(most):
            base = self._next * BLOCK_BYTES
            status, frames, first, *times = _BLOCK.unpack_from(self._mapped, base)
            if not status & _STATUS_USER:
                return
            yield Block(
                at=base + first,
                frames=frames,
                first_ns=times[0] * _NS + times[1],
                last_ns=times[2] * _NS + times[3],
            )
            struct.pack_into("=I", self._mapped, base + _STATUS_AT, 0)
            self._next = (self._next + 1) % BLOCKS

    def times_and_lengths(self, block: Block) -> Iterator[tuple[int, int, int]]:
        """Yield where each frame's header begins, when it came, and how long it was."""
        at = block.at
        for _ in range(block.frames):
            following, seconds, nanoseconds, length = _FRAME.unpack_from(self._mapped, at)
            yield at, seconds * _NS + nanoseconds, length
            at += following

    def take_drops(self) -> int:
        """Return how many frames were lost since the last call because the ring was full."""
        raw = self.socket.getsockopt(_SOL_PACKET, _STATISTICS, 12)
        return int(struct.unpack("=3I", raw)[1])

    def forget_error(self) -> None:
        """Clear "network is down", which would make the socket look readable for ever."""
        self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)

    def close(self) -> None:
        """Stop listening."""
        del self.memory
        self._mapped.close()
        self.socket.close()


def filter_program(threshold: int) -> list[Instruction]:
    """Return what the kernel runs on a frame: it keeps the front, or nothing where the dice are against it.

    The dice keep a frame where a number of 32 random bits is below the threshold.
    """
    program: list[Instruction] = []
    if threshold < 1 << 32:
        program += [
            (_LOAD_WORD, 0, 0, _RANDOM),
            (_JUMP_AT_LEAST, 0, 1, threshold),
            (_RETURN, 0, 0, 0),
        ]
    # A load from behind a frame's end would drop it: the length is looked at first.
    return [
        *program,
        (_LOAD_LENGTH, 0, 0, 0),
        (_JUMP_AT_LEAST, 0, 8, _SMALLEST_DHCP),
        (_LOAD_SHORT, 0, 0, 12),
        (_JUMP_EQUAL, 0, 6, 0x0800),
        (_LOAD_BYTE, 0, 0, 23),
        (_JUMP_EQUAL, 0, 4, socket.IPPROTO_UDP),
        (_LOAD_HEADER_LENGTH, 0, 0, 14),
        (_LOAD_SHORT_BEHIND, 0, 0, 14),
        (_JUMP_EQUAL, 0, 1, _DHCP_SERVER),
        (_RETURN, 0, 0, DHCP_SNAPLEN),
        (_RETURN, 0, 0, SNAPLEN),
    ]
