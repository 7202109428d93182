"""Probes: small datagrams by which two sites behind NAT find out whether they reach each other directly.

They leave from the WireGuard device's own port, by a raw socket, so that each opens in the NAT exactly the hole
that WireGuard's packets will use; the traffic goes on by a relay meanwhile, undisturbed. Each is authenticated
with a key that only the two sites can reckon (X25519 of their WireGuard keys), so that nobody else can make a
site believe in a path. Owns the form of the datagrams and the sockets; when to send is `pair`'s to say.
"""

import base64
import ctypes
import hmac
import os
import secrets
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from hashlib import blake2s

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from transhume.execute.overlay.underlay.wireguard_text import join_endpoint, split_endpoint
from transhume.knowledge.model import SiteName
from transhume.reach.netns import inside

MAGIC = b"THpr"
"""WireGuard's own messages begin with 1, 2, 3 or 4 and three zeros; it drops these."""
_PURPOSE = b"thprobe1"
_SENDER_BYTES, _NONCE_BYTES, _CHECK_BYTES = 8, 8, 16
_FORM = struct.Struct(f"!4sB{_SENDER_BYTES}s{_NONCE_BYTES}s{_CHECK_BYTES}s")
_IP_HEADER, _UDP_HEADER = struct.Struct("!BBHHHBBH4s4s"), struct.Struct("!HHHH")
_SO_ATTACH_FILTER = 26
MOST_AT_ONCE = 256


class ProbeKind(IntEnum):
    """What a probe says."""

    ASK = 1
    """Do you hear me?"""
    ANSWER = 2
    """I heard what you sent with this nonce."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A probe that was proved to be from a site."""

    site: SiteName
    kind: ProbeKind
    nonce: bytes
    endpoint: str
    """Where it came from."""


class ProbeKeys:
    """What two sites share, by the other's site; reckoned once for each key."""

    def __init__(self, private_key: bytes) -> None:
        self._private = X25519PrivateKey.from_private_bytes(private_key)
        self._sender = _sender_of(self._private.public_key().public_bytes_raw())
        self._sites: dict[SiteName, tuple[str, bytes]] = {}
        self._by_sender: dict[bytes, SiteName] = {}

    def know(self, keys: Mapping[SiteName, str]) -> None:
        """Know these sites by these public keys, and no others."""
        for site in self._sites.keys() - keys.keys():
            del self._sites[site]
        for site, key in keys.items():
            if site not in self._sites or self._sites[site][0] != key:
                self._sites[site] = (key, self._shared(base64.b64decode(key)))
        self._by_sender = {
            _sender_of(base64.b64decode(key)): site for site, (key, _) in self._sites.items()
        }

    def write(self, kind: ProbeKind, nonce: bytes, site: SiteName) -> bytes:
        """Return the datagram for a site."""
        check = self._check(self._sites[site][1], kind, self._sender, nonce)
        return _FORM.pack(MAGIC, kind, self._sender, nonce, check)

    def read(self, datagram: bytes, endpoint: str) -> Heard | None:
        """Return what a datagram says, or None where it isn't proved to be from a site that we know."""
        if len(datagram) != _FORM.size:
            return None
        magic, number, sender, nonce, check = _FORM.unpack(datagram)
        site = self._by_sender.get(sender)
        if magic != MAGIC or site is None or number not in tuple(ProbeKind):
            return None
        kind = ProbeKind(number)
        if not hmac.compare_digest(check, self._check(self._sites[site][1], kind, sender, nonce)):
            return None
        return Heard(site=site, kind=kind, nonce=nonce, endpoint=endpoint)

    def _shared(self, public_key: bytes) -> bytes:
        try:
            return self._private.exchange(X25519PublicKey.from_public_bytes(public_key))
        except ValueError:  # a key that has no secret with anybody: nothing will be proved by it
            return secrets.token_bytes(32)

    @staticmethod
    def _check(key: bytes, kind: ProbeKind, sender: bytes, nonce: bytes) -> bytes:
        content = bytes([kind]) + sender + nonce
        return blake2s(content, key=key, digest_size=_CHECK_BYTES, person=_PURPOSE).digest()


class ProbeSocket:
    """Sends from the device's port, whoever has it, and hears probes that come to it while it `listens`."""

    def __init__(self, netns: str | None, port: int) -> None:
        self._netns = netns
        self._port = port
        with inside(netns):
            # This kind sends only: what comes in isn't copied to it.
            self._mouth = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
        self._mouth.setblocking(False)
        self._ear: socket.socket | None = None

    def send(self, datagram: bytes, endpoint: str, hops: int) -> None:
        """Send to an IPv4 endpoint, as far as `hops` routers; what can't be sent is lost, as on the way."""
        address, port = split_endpoint(endpoint)
        udp = _UDP_HEADER.pack(self._port, port, _UDP_HEADER.size + len(datagram), 0)
        length = _IP_HEADER.size + len(udp) + len(datagram)
        to = socket.inet_aton(address)
        # The kernel fills in our address, the number and the check sum.
        ip = _IP_HEADER.pack(0x45, 0, length, 0, 0, hops, socket.IPPROTO_UDP, 0, bytes(4), to)
        try:
            self._mouth.sendto(ip + udp + datagram, (address, 0))
        except OSError:
            return

    def listen(self, on: bool) -> socket.socket | None:
        """Begin or end hearing; return the socket to wait for while it is on."""
        if on and self._ear is None:
            with inside(self._netns):
                ear = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
            ear.setblocking(False)
            _attach_filter(ear, self._port)
            self._ear = ear
        elif not on and self._ear is not None:
            self._ear.close()
            self._ear = None
        return self._ear

    def hear(self) -> list[tuple[bytes, str]]:
        """Return the datagrams that have come, with where from."""
        found: list[tuple[bytes, str]] = []
        while self._ear is not None and len(found) < MOST_AT_ONCE:
            try:
                packet, (address, _) = self._ear.recvfrom(2048)
            except OSError:
                break
            start = (packet[0] & 15) * 4
            port = int.from_bytes(packet[start : start + 2])
            found.append((packet[start + _UDP_HEADER.size :], join_endpoint(address, port)))
        return found

    def close(self) -> None:
        """Let go of the sockets."""
        self.listen(False)
        self._mouth.close()


def new_nonce() -> bytes:
    """Return what tells one question from all others."""
    return os.urandom(_NONCE_BYTES)


def _sender_of(public_key: bytes) -> bytes:
    return blake2s(public_key, digest_size=_SENDER_BYTES, person=_PURPOSE).digest()


def _attach_filter(ear: socket.socket, port: int) -> None:
    """Let only probes in: all of the device's own packets come by here, too."""
    magic = int.from_bytes(MAGIC)
    code = (
        (0xB1, 0, 0, 0),  # x: the length of the IP header
        (0x48, 0, 0, 2),  # the UDP port that it is for
        (0x15, 0, 3, port),
        (0x40, 0, 0, 8),  # how its contents begin
        (0x15, 0, 1, magic),
        (0x06, 0, 0, 0xFFFF),
        (0x06, 0, 0, 0),
    )
    instructions = b"".join(struct.pack("HBBI", *each) for each in code)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    program = struct.pack("HL", len(code), ctypes.addressof(buffer))
    ear.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
