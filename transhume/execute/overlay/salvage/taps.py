"""The queues of one VM's tap, and the way out for what is in them.

Owns duplicates of the hypervisor's descriptors, and what is asked of them: the tap's name and namespace, and
how long the header before each frame is (`virtio_net_hdr`: what its checksum and segmentation still lack).
Settings belong to all duplicates together, so none is ever changed here.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from transhume.execute.overlay.salvage.holders import Holder, duplicate, holders
from transhume.knowledge.model import MacAddress
from transhume.reach.netns import NAMED, socket_in

_GET_INTERFACE, _GET_HEADER_BYTES, _GET_NAMESPACE = 0x800454D2, 0x800454D7, 0x54E3
"""ioctls: TUNGETIFF, TUNGETVNETHDRSZ, TUNGETDEVNETNS (linux/if_tun.h)."""
_REQUEST = struct.Struct("16sH22x")
_IS_TAP, _BARE, _HAS_HEADER = 0x0002, 0x1000, 0x4000
_SOL_PACKET, _WITH_HEADER, _FORCE_SEND_BUFFER = 263, 15, 32
_HEADER_BYTES = 10
"""That a packet socket takes; a tap's may be longer by what concerns only a guest's buffers."""
_LONGEST_BYTES = 1 << 17
_SEND_BYTES = 1 << 26
"""Not more than a tap's queue holds of the longest segments: none of it waits for long."""
MOST_FRAMES = 4096
"""Of one queue: the kernel's have room for 1,000 unless told otherwise."""
_GONE = (errno.ESRCH, errno.EBADF, errno.EBADFD)
"""The process has ended meanwhile, or closed what it had."""


@dataclass(slots=True)
class HeldTap:
    """A tap whose queues are at hand. It keeps the device alive after its owner's end: `close` it soon.

    Args:
        device: its name.
        process: a pidfd of who opened it.
        queues: duplicates of its descriptors.
        out: a packet socket, for frames with a header before them.
    """

    device: str
    process: int
    queues: tuple[int, ...]
    out: socket.socket
    _buffer: memoryview = field(default_factory=lambda: memoryview(bytearray(_LONGEST_BYTES)))

    def close(self) -> None:
        """Let go of everything."""
        for descriptor in (*self.queues, self.process):
            with suppress(OSError):
                os.close(descriptor)
        self.queues, self.process = (), -1
        self.out.close()

    def send_on(self, mac: MacAddress) -> tuple[int, int]:
        """Empty the queues; send on what is for `mac` alone, in order. Return how many went, and were refused.

        What is for everybody reaches all sites by itself, and would come twice.
        """
        wanted = bytes.fromhex(mac.replace(":", ""))
        sent = refused = 0
        for header, frame in self._frames():
            if frame[:6] != wanted:
                continue
            try:
                self.out.sendmsg([header, frame])
                sent += 1
            except OSError:
                refused += 1
        return sent, refused

    def _frames(self) -> Iterator[tuple[memoryview | bytes, memoryview]]:
        """Yield each frame that waits, with its header; both hold until the next."""
        for queue in self.queues:
            with suppress(OSError):  # EAGAIN: that was all
                begin = header_bytes(queue)
                for _ in range(MOST_FRAMES):
                    end = os.readv(queue, [self._buffer])
                    header = self._buffer[:_HEADER_BYTES] if begin else bytes(_HEADER_BYTES)
                    yield header, self._buffer[begin:end]


def held(
    devices: Mapping[MacAddress, str], netns: str | None, out: str
) -> dict[MacAddress, HeldTap]:
    """Get hold of the taps with these names in a network namespace, as far as there are such.

    Args:
        devices: their names, by the addresses of the VMs behind them.
        netns: where they are, by name; None is here.
        out: the device by which frames are to leave.

    Raises:
        OSError: the kernel can't do it, or we may not.
    """
    found: dict[MacAddress, HeldTap] = {}
    try:
        for holder in holders():
            for mac, device in devices.items():
                if device in holder.descriptors and mac not in found:
                    tap = _held_of(holder, device, netns, out)
                    if tap is not None:
                        found[mac] = tap
            if found.keys() == devices.keys():
                break
    except OSError:
        for tap in found.values():
            tap.close()
        raise
    return found


def _held_of(holder: Holder, device: str, netns: str | None, out: str) -> HeldTap | None:
    """Return a process's tap, if it's the one that is meant: names are unique only within a namespace."""
    try:
        process = os.pidfd_open(holder.pid)
    except ProcessLookupError:
        return None
    tap = HeldTap(device, process, (), socket_in(netns, socket.AF_PACKET, socket.SOCK_RAW, 0))
    try:
        for number in holder.descriptors[device]:
            queue = duplicate(process, number)
            tap.queues += (queue,)
            if not is_usable(queue, device, netns):
                tap.close()
                return None
        _prepare(tap.out, out)
    except OSError as error:
        tap.close()
        if error.errno in _GONE:
            return None
        raise
    return tap


def _prepare(out: socket.socket, device: str) -> None:
    out.setsockopt(_SOL_PACKET, _WITH_HEADER, 1)
    out.setsockopt(socket.SOL_SOCKET, _FORCE_SEND_BUFFER, _SEND_BYTES)
    out.setblocking(False)
    out.bind((device, 0))


def is_usable(queue: int, device: str, netns: str | None) -> bool:
    """Say whether a descriptor is of a tap of that name there, and gives frames that can be sent on.

    One that blocks would hold us up, because a duplicate shares that with its original.
    """
    name, flags = _REQUEST.unpack(fcntl.ioctl(queue, _GET_INTERFACE, bytes(_REQUEST.size)))
    return (
        name.rstrip(b"\0").decode() == device
        and flags & _IS_TAP > 0
        and flags & _BARE > 0
        and not os.get_blocking(queue)
        and _is_in(queue, netns)
    )


def header_bytes(queue: int) -> int:
    """Return how much comes before each frame; a guest's driver may change that."""
    flags = _REQUEST.unpack(fcntl.ioctl(queue, _GET_INTERFACE, bytes(_REQUEST.size)))[1]
    if not flags & _HAS_HEADER:
        return 0
    return int(struct.unpack("i", fcntl.ioctl(queue, _GET_HEADER_BYTES, bytes(4)))[0])


def _is_in(queue: int, netns: str | None) -> bool:
    namespace = fcntl.ioctl(queue, _GET_NAMESPACE)
    try:
        there = NAMED / netns if netns is not None else Path("/proc/thread-self/ns/net")
        return os.path.samestat(os.fstat(namespace), there.stat())
    finally:
        os.close(namespace)
