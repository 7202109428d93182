"""Work in a named network namespace: open a socket there, and be back.

Owns the entering and leaving of namespaces, for live capture, the overlay and the lab. A namespace belongs to
the thread that entered it, and a socket to the namespace in which it was opened: so the visits are short, never
span an `await`, and what was opened serves any thread afterwards. Leaves out making and removing namespaces.
"""

import ctypes
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transhume.errors import ExtraMissing, UsageError

NAMED = Path("/run/netns")
_CLONE_NEWNET = 0x40000000


@contextmanager
def inside(netns: str | None) -> Iterator[None]:
    """Put the calling thread into a network namespace until the block ends; None stays here."""
    if netns is None:
        yield
        return
    with _opened(Path("/proc/thread-self/ns/net")) as here, _opened(NAMED / netns) as there:
        _enter(there, netns)
        try:
            yield
        finally:
            _enter(here, "the namespace it came from")


def socket_in(
    netns: str | None, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0
) -> socket.socket:
    """Open a socket in a network namespace; it stays there whoever uses it."""
    with inside(netns):
        return socket.socket(family, kind, proto)


@contextmanager
def netlink_in(netns: str | None) -> Iterator[Any]:
    """Yield a pyroute2 `IPRoute` of a network namespace, for the calling thread alone.

    Not in a thread that runs an event loop: pyroute2 has one of its own.

    Raises:
        OSError: the kernel refused what was asked of it within the block.
    """
    try:
        from pyroute2 import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
    except ImportError as error:
        raise ExtraMissing("libvirt", "programming networks") from error
    # IPRoute(netns=…) would fork to get there: bad manners in a process with threads.
    with inside(netns):
        netlink = IPRoute()
    with netlink:
        try:
            yield netlink
        except NetlinkError as error:
            raise OSError(error.code, os.strerror(error.code)) from error


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UsageError(
            f"there is no network namespace {path.name} ({path}); `ip netns list` shows those there are"
        ) from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _enter(descriptor: int, name: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(descriptor, _CLONE_NEWNET) != 0:
        seen = os.strerror(ctypes.get_errno())
        raise UsageError(f"can't enter network namespace {name} ({seen}); it takes root")
