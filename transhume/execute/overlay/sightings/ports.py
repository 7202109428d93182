"""Which ports a bridge has, by what the kernel says of its links.

Owns the reading of rtnetlink's messages of links: answers to a question for all, and notifications. A tap
appears when a hypervisor makes it, which is at any time.
"""

import struct
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from transhume.execute.overlay.plane.entries import attributes_in
from transhume.execute.overlay.plane.messages import (
    BRIDGE_FAMILY,
    DUMP,
    REQUEST,
    Request,
)

NEW_LINK, DELETE_LINK, _GET_LINK = 16, 17, 18
_LINK = struct.Struct("=BxHiII")
_NAME, _MASTER = 3, 10
_INDEX = struct.Struct("=I")


class PortChange(NamedTuple):
    """A link, and whether it is a port of the bridge."""

    device: int
    name: str
    is_port: bool


def all_links() -> Request:
    """Ask for all links."""
    return Request(_GET_LINK, REQUEST | DUMP, _LINK.pack(0, 0, 0, 0, 0))


def change_in(kind: int, body: bytes, bridge: int) -> PortChange | None:
    """Return what a message says of a link; None where it is about something else."""
    if kind not in (NEW_LINK, DELETE_LINK) or len(body) < _LINK.size:
        return None
    family, _, device, _, _ = _LINK.unpack_from(body)
    if family not in (0, BRIDGE_FAMILY):
        return None
    found = dict(attributes_in(body, _LINK.size))
    master = _INDEX.unpack(found[_MASTER])[0] if _MASTER in found else None
    name = found.get(_NAME, b"").rstrip(b"\0").decode(errors="replace")
    return PortChange(device, name, kind == NEW_LINK and master == bridge)


def number_in(kind: int, body: bytes, name: str) -> int | None:
    """Return the kernel's number of the link with a name; None where a message tells of no such link."""
    change = change_in(kind, body, bridge=0) if kind == NEW_LINK else None
    return change.device if change is not None and change.name == name else None


class Ports:
    """The ports of a bridge at which VMs may be, by the kernel's number of them."""

    def __init__(self, bridge: int, leave_out: frozenset[str]) -> None:
        self._bridge = bridge
        self._leave_out = leave_out
        self.names: dict[int, str] = {}

    def note_all(self, answers: Iterable[tuple[int, bytes]]) -> Iterator[PortChange]:
        """Take in what the kernel says of all links; those that it says nothing of are gone."""
        gone = set(self.names)
        for kind, body in answers:
            change = change_in(kind, body, self._bridge)
            gone -= {change.device} if change is not None else set()
            yield from self.note(kind, body)
        for device in gone:
            yield PortChange(device, self.names.pop(device), is_port=False)

    def note(self, kind: int, body: bytes) -> Iterator[PortChange]:
        """Take a message in, and yield the port that it brings or takes away, if any."""
        change = change_in(kind, body, self._bridge)
        if change is None or (change.is_port and change.name in self._leave_out):
            return
        if change.is_port and self.names.get(change.device) != change.name:
            self.names[change.device] = change.name
            yield change
        elif not change.is_port and change.device in self.names:
            yield change._replace(name=self.names.pop(change.device))
