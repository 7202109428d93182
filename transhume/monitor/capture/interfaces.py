"""Which interfaces a network namespace has, and which went away: the kernel says so without being asked.

Owns two netlink sockets. An interface is its number and its name; one that is made anew under the same name,
or even the same number, is another one, and only the kernel's message about the end of the first tells so.
"""

import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

from transhume.reach.netns import NAMED, socket_in

_LINKS_CHANGED = 1
"""RTMGRP_LINK"""
_DONE, _ERROR, _NEW_LINK, _DELETED_LINK, _GET_LINK = 3, 2, 16, 17, 18
_REQUEST_DUMP = 0x301
_NAME = 3
_RECEIVED_BYTES = 1 << 18

_HEADER = struct.Struct("=IHHII")
_LINK = struct.Struct("=BxHiII")
_ATTRIBUTE = struct.Struct("=HH")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInterface:
    """A network interface."""

    number: int
    name: str
    hardware: int
    """What it is, as a number of the kernel's (ARPHRD)."""


class Interfaces:
    """Looks at the interfaces of a namespace, until closed.

    Raises:
        UsageError: there is no such namespace, or we may not enter it.
    """

    def __init__(self, netns: str | None) -> None:
        self._path = NAMED / netns if netns is not None else None
        self._identity = self._identity_now()
        self.changes = socket_in(
            netns, socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._asking = socket_in(netns, socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self.changes.bind((0, _LINKS_CHANGED))
        self._asking.bind((0, 0))
        self._known: set[NetworkInterface] | None = None

    def __enter__(self) -> "Interfaces":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.changes.close()
        self._asking.close()

    @property
    def is_current(self) -> bool:
        """Whether the namespace's name still means the namespace that we look at."""
        return self._identity_now() == self._identity

    def deleted(self) -> set[int]:
        """Return the numbers of those that went since the last call."""
        found: set[int] = set()
        while True:
            try:
                data = self.changes.recv(_RECEIVED_BYTES)
            except BlockingIOError:
                return found
            except OSError:  # more happened than fits: asking anew tells the most of it
                self._known = None
                continue
            self._known = None
            found |= {
                number
                for kind, family, number, _, _ in _links(data)
                if kind == _DELETED_LINK and family == socket.AF_UNSPEC  # else: it left a bridge
            }

    def present(self) -> set[NetworkInterface]:
        """Return those that are there, as far as `deleted` has heard."""
        if self._known is None:
            self._known = self._asked()
        return self._known

    def _asked(self) -> set[NetworkInterface]:
        request = _HEADER.pack(_HEADER.size + _LINK.size, _GET_LINK, _REQUEST_DUMP, 0, 0)
        self._asking.send(request + _LINK.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
        found: set[NetworkInterface] = set()
        while True:
            data = self._asking.recv(_RECEIVED_BYTES)
            found |= {
                NetworkInterface(number=number, name=name, hardware=hardware)
                for kind, _, number, hardware, name in _links(data)
                if kind == _NEW_LINK
            }
            for kind, body in _messages(data):
                if kind == _ERROR:
                    (number,) = struct.unpack_from("=i", body)
                    raise OSError(-number, os.strerror(-number))
                if kind == _DONE:
                    return found

    def _identity_now(self) -> tuple[int, int] | None:
        try:
            found = self._path.stat() if self._path is not None else None
        except FileNotFoundError:
            return (0, 0)
        return (found.st_dev, found.st_ino) if found is not None else None


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _links(data: bytes) -> Iterator[tuple[int, int, int, int, str]]:
    """Yield kind of message, address family, number, hardware and name."""
    for kind, body in _messages(data):
        if kind in (_NEW_LINK, _DELETED_LINK):
            family, hardware, number, _, _ = _LINK.unpack_from(body)
            yield kind, family, number, hardware, _name(body[_LINK.size :])


def _name(attributes: bytes) -> str:
    at = 0
    while at + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, at)
        if kind == _NAME:
            return os.fsdecode(attributes[at + _ATTRIBUTE.size : at + length].rstrip(b"\0"))
        at += max((length + 3) & ~3, _ATTRIBUTE.size)
    return ""
