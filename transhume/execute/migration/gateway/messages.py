"""What two gateways say to each other, message by message.

    REQUEST     source        may this migration come in? (JSON, with the ticket)
    ADMITTED    destination   yes, and this is what we know already (JSON)
    REFUSED     destination   no, and why (JSON)
    DOMAIN      source        what was sent before on behalf of a tenant (JSON); after a ticket for it
    KNOWN       destination   how much of that is still here (JSON)
    OPEN        source        a hypervisor has connected: a channel begins (JSON)
    DATA        source        a frame of a channel
    END         source        the channel's stream is complete
    CREDIT      destination   so many raw bytes of a channel have been delivered
    BACK        destination   bytes of a channel's return path
    BACK_END    destination   the return path is complete
    RESET       both          a channel is broken off
    CLOSE       source        a migration has ended
    FORGET      source        a domain's log is forgotten below a position
    FORGOTTEN   both          nothing refers to what is below it any more (JSON)
    ROOM        destination   so much of a tenant's pages may be kept from now on (JSON)
    WANT        source        which blocks does a catalogue have, or the memory of VMs there?
    DIGESTS     destination   these
    PING, PONG  both          is anybody there?

Numbers are the source's own: of migrations, channels, domains. A message has a type, a number and a length in
front; none may be longer than a frame may be.
"""

import json
import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from transhume.execute.migration.coding.frame import MOST_FRAME_BYTES

VERSION = 5


class Kind(IntEnum):
    """The types of messages."""

    REQUEST = 1
    ADMITTED = 2
    REFUSED = 3
    OPEN = 4
    DATA = 5
    END = 6
    CREDIT = 7
    BACK = 8
    BACK_END = 9
    RESET = 10
    CLOSE = 11
    FORGET = 12
    FORGOTTEN = 13
    WANT = 14
    DIGESTS = 15
    PING = 16
    PONG = 17
    DOMAIN = 18
    KNOWN = 19
    ROOM = 20


HEADER = struct.Struct(">BII")
AMOUNT = struct.Struct(">Q")
MOST_WORDS = 64 << 10
"""Bytes of JSON in a message."""


class ProtocolError(Exception):
    """The peer says what no honest gateway says; the link ends."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, as it came."""

    kind: Kind
    number: int
    content: bytes

    @property
    def words(self) -> dict[str, Any]:
        """Read its content as JSON.

        Raises:
            ProtocolError: it isn't an object.
        """
        try:
            found = json.loads(self.content) if len(self.content) <= MOST_WORDS else None
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise ProtocolError(f"{self.kind.name} without words")
        return found

    @property
    def amount(self) -> int:
        """Read its content as a number.

        Raises:
            ProtocolError: it isn't one.
        """
        if len(self.content) != AMOUNT.size:
            raise ProtocolError(f"{self.kind.name} without an amount")
        return int(AMOUNT.unpack(self.content)[0])


def header(kind: Kind, number: int, length: int) -> bytes:
    """Return what stands in front of a message's content."""
    return HEADER.pack(kind, number, length)


def parse_header(data: bytes) -> tuple[Kind, int, int]:
    """Return a message's type, number and length.

    Raises:
        ProtocolError: there is no such type, or it's too long.
    """
    kind, number, length = HEADER.unpack(data)
    if kind not in Kind.__members__.values():
        raise ProtocolError(f"a message of unknown type {kind}")
    if length > MOST_FRAME_BYTES:
        raise ProtocolError(f"a message of {length} bytes, more than {MOST_FRAME_BYTES}")
    return Kind(kind), number, length
