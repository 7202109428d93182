"""Many requests to the kernel's tables in a few system calls, and its tables as they are.

Owns one raw netlink socket in a site's namespace. The kernel works a batch off while we are still in `send`,
says nothing of what succeeds and answers what fails; a last, empty message that asks for an acknowledgement
tells that all answers are there. A request that fails doesn't keep the others from being carried out.
"""

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from transhume.errors import OverlayError
from transhume.execute.overlay.plane.entries import Entry, Message, entry_in, messages_in
from transhume.execute.overlay.plane.messages import (
    ACKNOWLEDGE,
    DELETE_NEIGHBOUR,
    REQUEST,
    Request,
    packed,
)
from transhume.reach.netns import socket_in

_NOTHING, _ERROR, _DONE = 1, 2, 3
_STATUS = struct.Struct("=i")
_FENCE = Request(_NOTHING, REQUEST | ACKNOWLEDGE, b"")
_AT_ONCE = 128
"""Requests a system call: were all of them refused, the answers would still find room."""
_DATAGRAM_BYTES = 1 << 18
_PATIENCE_SECONDS = 10
_NETLINK, _STRICT_DUMPS, _SHORT_ERRORS = 270, 12, 10
_ROUTE = 0


class Failure(NamedTuple):
    """A request that the kernel refused."""

    request: Request
    errno: int

    def __str__(self) -> str:
        entry = entry_in(self.request.kind, self.request.body)
        doing = "deleting" if self.request.kind == DELETE_NEIGHBOUR else "writing"
        about = " ".join(str(part) for part in (entry.mac, entry.to) if part) if entry else "?"
        return f"{doing} the entry of {about}: {os.strerror(self.errno)}"


class KernelTables:
    """The forwarding tables of a network namespace. Blocking; for one thread at a time."""

    def __init__(self, netns: str | None) -> None:
        self._socket = socket_in(netns, socket.AF_NETLINK, socket.SOCK_RAW, _ROUTE)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        for option in (_STRICT_DUMPS, _SHORT_ERRORS):
            self._socket.setsockopt(_NETLINK, option, 1)
        self._socket.bind((0, 0))
        # The kernel's own time limit, so that a single call can ask not to wait at all.
        patience = struct.pack("@ll", _PATIENCE_SECONDS, 0)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, patience)
        self._sequence = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def carry_out(self, requests: Sequence[Request]) -> tuple[Failure, ...]:
        """Have requests carried out in their order; return those that failed.

        To delete what isn't there is no failure.

        Raises:
            OSError: the kernel can't be talked to.
        """
        first = self._sequence + 1
        failed: dict[int, int] = {}
        for start in range(0, len(requests), _AT_ONCE):
            part = requests[start : start + _AT_ONCE]
            last = start + _AT_ONCE >= len(requests)
            fence = self._send((*part, _FENCE) if last else part)
            self._take_answers(failed, fence if last else None)
        failures = (Failure(requests[number - first], code) for number, code in failed.items())
        return tuple(each for each in failures if not _is_deleted_already(each))

    def entries(self, question: Request) -> Iterator[Entry]:
        """Yield a table's entries, as one of the questions in `messages` asks for them.

        Raises:
            OSError: there is no such device.
        """
        for message in self.messages(question):
            entry = entry_in(message.kind, message.body)
            if entry is not None:
                yield entry

    def messages(self, question: Request) -> Iterator[Message]:
        """Yield the kernel's answers to a question for many.

        Raises:
            OSError: it can't be answered.
        """
        asked = self._send([question])
        while True:
            for message in messages_in(self._socket.recv(_DATAGRAM_BYTES)):
                if message.sequence != asked:
                    continue
                if message.kind in (_DONE, _ERROR):
                    _raise_if_failed(message)
                    return
                yield message

    def _send(self, requests: Sequence[Request]) -> int:
        """Send requests in one datagram; return the last one's number."""
        first = self._sequence + 1
        self._sequence += len(requests)
        self._socket.send(b"".join(map(packed, requests, range(first, self._sequence + 1))))
        return self._sequence

    def _take_answers(self, failed: dict[int, int], fence: int | None) -> None:
        """Note what failed, of all that has been answered; with a fence, of all until it."""
        while True:
            try:
                answers = self._socket.recv(
                    _DATAGRAM_BYTES, socket.MSG_DONTWAIT if fence is None else 0
                )
            except BlockingIOError as error:
                if fence is None:
                    return
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT)) from error
            for message in messages_in(answers):
                if message.sequence == fence:
                    return
                if message.kind == _ERROR and (code := _code(message)):
                    failed[message.sequence] = code


def refused(site: str, failures: Sequence[Failure]) -> OverlayError:
    """Return the error for people: what the kernel refused first, and how much more."""
    rest = f" (and {len(failures) - 1} more)" if len(failures) > 1 else ""
    return OverlayError(f"site {site}: the kernel refused {failures[0]}{rest}")


def _is_deleted_already(failure: Failure) -> bool:
    return failure.request.kind == DELETE_NEIGHBOUR and failure.errno == errno.ENOENT


def _raise_if_failed(message: Message) -> None:
    if code := _code(message):
        raise OSError(code, os.strerror(code))


def _code(message: Message) -> int:
    return -int(_STATUS.unpack_from(message.body)[0]) if len(message.body) >= _STATUS.size else 0
