"""Detection by QEMU's announcement alone: a loop that sees a RARP at the destination and re-points all sites.

What EVPN and its like do, in small. Each site has a thread with a netlink socket open and its messages packed,
as the best of agents would; the destination's acts at once, the others' when the word has crossed the WAN.
"""

import asyncio
import ctypes
import socket
import struct
import threading
import time

from transhume.deployment.model import OverlayNetwork, OverlaySite
from transhume.knowledge.model import MacAddress
from transhume.reach.netns import netlink_in, socket_in

_RARP, _EVERYTHING = 0x8035, 0x0003
_SO_ATTACH_FILTER = 26
_FILTER = (
    (0x28, 0, 0, 12),  # load the frame's type
    (0x15, 0, 1, _RARP),  # another one: skip an instruction
    (0x06, 0, 0, 2048),  # take it
    (0x06, 0, 0, 0),  # leave it
)
_BRIDGE = 7
_NEW, _DELETE = 28, 29
_REQUEST, _REPLACE, _CREATE = 0x001, 0x100, 0x400
_DST, _LLADDR = 1, 2
_SELF, _MASTER, _EXTERNALLY_LEARNED = 0x02, 0x04, 0x10
_NOARP, _STATIC = 0x40, 0xC0
_FOR_OTHERS = 4  # PACKET_OUTGOING: what leaves by a port says nothing of where the VM is
_PATIENCE_SECONDS = 5.0


class Sniffing:
    """Waits for one announcement of one VM at one site."""

    def __init__(
        self,
        network: OverlayNetwork,
        mac: MacAddress,
        destination: str,
        *,
        word_takes_seconds: float,
    ) -> None:
        self._network = network
        self._mac = mac
        self._owner = next(site for site in network.sites if site.name == destination)
        self._word_takes_seconds = word_takes_seconds
        self._seen = threading.Event()
        self._given_up = threading.Event()
        self._ready = threading.Barrier(len(network.sites) + 2)
        self._threads = [
            threading.Thread(target=self._sniff, name="sniffing"),
            *(threading.Thread(target=self._re_point, args=(site,)) for site in network.sites),
        ]

    async def start(self) -> None:
        """Begin to listen, and return when all are ready to act."""
        for thread in self._threads:
            thread.start()
        await asyncio.to_thread(self._ready.wait, _PATIENCE_SECONDS)

    async def end(self) -> None:
        """Wait until all sites are re-pointed.

        Raises:
            TimeoutError: no announcement came.
        """
        came = await asyncio.to_thread(self._seen.wait, _PATIENCE_SECONDS)
        if not came:
            self._given_up.set()
            self._seen.set()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)
        if not came:
            raise TimeoutError(f"{self._mac} wasn't announced at {self._owner.name}")

    def _sniff(self) -> None:
        kind, everything = socket.SOCK_RAW, socket.htons(_EVERYTHING)
        with socket_in(self._owner.netns, socket.AF_PACKET, kind, everything) as ear:
            _leave_out_all_but_announcements(ear)
            self._ready.wait()
            while not self._given_up.is_set():
                try:
                    frame, (device, _, to, *_) = ear.recvfrom(2048)
                except TimeoutError:
                    continue
                if to != _FOR_OTHERS and self._is_local(device) and frame[6:14] == self._wanted:
                    self._seen.set()
                    return

    @property
    def _wanted(self) -> bytes:
        return bytes.fromhex(self._mac.replace(":", "")) + _RARP.to_bytes(2, "big")

    def _is_local(self, device: str) -> bool:
        return device not in (self._network.device, self._owner.bridge)

    def _re_point(self, site: OverlaySite) -> None:
        with netlink_in(site.netns) as netlink:
            (device,) = netlink.link_lookup(ifname=self._network.device)
        messages = self._messages(site, device)
        with socket_in(site.netns, socket.AF_NETLINK, socket.SOCK_RAW) as kernel:
            self._ready.wait()
            self._seen.wait()
            if self._given_up.is_set():
                return
            if site is not self._owner:
                time.sleep(self._word_takes_seconds)
            kernel.sendto(messages, (0, 0))

    def _messages(self, site: OverlaySite, device: int) -> bytes:
        """Pack what tells a site's kernel where the VM is now: an entry in both tables, or none in either."""
        mac = bytes.fromhex(self._mac.replace(":", ""))
        lladdr = _attribute(_LLADDR, mac)
        if site is self._owner:
            return b"".join(
                _message(_DELETE, device, flags, 0, lladdr) for flags in (_SELF, _MASTER)
            )
        vtep = _attribute(_DST, socket.inet_aton(self._owner.vtep))
        return _message(_NEW, device, _SELF, _STATIC, lladdr + vtep) + _message(
            _NEW, device, _MASTER | _EXTERNALLY_LEARNED, _NOARP, lladdr
        )


def _message(kind: int, device: int, flags: int, state: int, attributes: bytes) -> bytes:
    """Pack one message on a neighbour; nobody waits for an answer to it."""
    body = struct.pack("=BxHiHBB", _BRIDGE, 0, device, state, flags, 0) + attributes
    asked = _REQUEST | (_REPLACE | _CREATE if kind == _NEW else 0)
    return struct.pack("=IHHII", 16 + len(body), kind, asked, 0, 0) + body


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def _leave_out_all_but_announcements(ear: socket.socket) -> None:
    """Have the kernel drop everything else.

    To ask for this type of frame alone wouldn't do: a bridge takes its ports' frames before those are asked.
    """
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *each) for each in _FILTER))
    program = struct.pack("@HP", len(_FILTER), ctypes.addressof(code))
    ear.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
    ear.settimeout(0.2)
