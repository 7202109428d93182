"""A TCP connection into a guest from outside the virtual network, held open and checked byte by byte.

What a user of the application sees of a move. It goes to a guest's echo service through the gateway site, and
says how long the longest silence was.
"""

import threading
import time
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Self

from transhume.knowledge.model import IpAddress
from transhume.lab.initramfs import ECHO_PORT
from transhume.lab.spec import OUTSIDE
from transhume.reach.netns import socket_in

_PERIOD = 65521
_CHUNK = 1000
_SECONDS_BETWEEN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Survived:
    """What a connection has lived through."""

    bytes: int
    """Sent, echoed and checked."""
    longest_silence_s: float
    failure: str | None
    """Why the connection ended; None while it lives."""


class OutsideConnection:
    """Sends the pattern to a guest's echo service twenty times a second, in a thread of its own."""

    def __init__(
        self, ip: IpAddress, *, netns: str | None = OUTSIDE, port: int = ECHO_PORT
    ) -> None:
        self._socket = socket_in(netns)
        self._socket.settimeout(60.0)
        self._address = (ip, port)
        self._closing = threading.Event()
        self._bytes = 0
        self._longest = 0.0
        self._failure: str | None = None
        self._thread = threading.Thread(target=self._talk, name=f"outside-{ip}", daemon=True)

    def __enter__(self) -> Self:
        self._socket.connect(self._address)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closing.set()
        self._thread.join()
        self._socket.close()

    def survived(self) -> Survived:
        """Say how the connection has fared so far."""
        return Survived(bytes=self._bytes, longest_silence_s=self._longest, failure=self._failure)

    def _talk(self) -> None:
        try:
            while not self._closing.wait(_SECONDS_BETWEEN):
                self._exchange()
        except OSError as error:
            self._failure = f"after {self._bytes} bytes: {error}"

    def _exchange(self) -> None:
        sent = pattern(self._bytes, _CHUNK)
        began = time.monotonic()
        self._socket.sendall(sent)
        echoed = b""
        while len(echoed) < len(sent):
            piece = self._socket.recv(len(sent) - len(echoed))
            if not piece:
                raise ConnectionError("the guest hung up")
            echoed += piece
        if echoed != sent:
            raise ConnectionError("the guest echoed other bytes than were sent")
        self._bytes += len(sent)
        self._longest = max(self._longest, time.monotonic() - began)


def pattern(offset: int, length: int) -> bytes:
    """Return the bytes at `offset` of the stream that the guests send and expect (see `pattern.h`)."""
    period, start = _period(), offset % _PERIOD
    return (period * (2 + length // _PERIOD))[start : start + length]


@cache
def _period() -> bytes:
    found, x = bytearray(), 1
    for _ in range(_PERIOD):
        x = (x * 1103515245 + 12345) & 0xFFFFFFFF
        found.append(x >> 16 & 0xFF)
    return bytes(found)
