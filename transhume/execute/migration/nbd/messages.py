"""What an NBD client says before data: options, and requests with simple and extended headers. Pure.

The format is that of the NBD project's protocol description (doc/proto.md), as far as QEMU's client uses it:
fixed newstyle negotiation, then requests. All integers are big-endian.
"""

import struct
from dataclasses import dataclass
from enum import IntEnum

CLIENT_FLAGS_BYTES = 4
MAGIC_BYTES = 4
OPTION_MAGIC = b"IHAVEOPT"
SIMPLE_MAGIC = bytes.fromhex("25609513")
EXTENDED_MAGIC = bytes.fromhex("21e41c71")
PAYLOAD_FOLLOWS = 1 << 5
"""A flag of extended requests."""

_CLIENT_FLAGS = struct.Struct(">I")
_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
_OPTION = struct.Struct(">8sII")
_SIMPLE = struct.Struct(">4sHHQQI")
_EXTENDED = struct.Struct(">4sHHQQQ")

OPTION_BYTES = _OPTION.size
REQUEST_BYTES = {SIMPLE_MAGIC: _SIMPLE.size, EXTENDED_MAGIC: _EXTENDED.size}
"""How long a request's header is, by the magic that it begins with."""


class OptionType(IntEnum):
    """What is negotiated."""

    EXPORT_NAME = 1
    ABORT = 2
    LIST = 3
    STARTTLS = 5
    INFO = 6
    GO = 7
    STRUCTURED_REPLY = 8
    LIST_META_CONTEXT = 9
    SET_META_CONTEXT = 10
    EXTENDED_HEADERS = 11


class RequestType(IntEnum):
    """What is asked of the disk."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3
    TRIM = 4
    CACHE = 5
    WRITE_ZEROES = 6
    BLOCK_STATUS = 7


@dataclass(frozen=True, slots=True)
class Option:
    """The head of an option; `data_bytes` of data follow."""

    type: int
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Request:
    """The head of a request; `payload_bytes` of data follow."""

    type: int
    offset: int
    """Where on the disk, in bytes."""
    length: int
    payload_bytes: int


def is_fixed_newstyle(flags: bytes) -> bool:
    """Say whether a client's first four bytes announce the negotiation that is understood here."""
    (value,) = _CLIENT_FLAGS.unpack(flags)
    return value in (_FIXED_NEWSTYLE, _FIXED_NEWSTYLE | _NO_ZEROES)


def read_option(header: bytes) -> Option | None:
    """Read the head of an option; None where it is none."""
    magic, kind, length = _OPTION.unpack(header)
    return Option(kind, length) if magic == OPTION_MAGIC else None


def read_request(header: bytes) -> Request:
    """Read a head that begins with one of the two magics and has its length."""
    extended = header.startswith(EXTENDED_MAGIC)
    layout = _EXTENDED if extended else _SIMPLE
    _magic, flags, kind, _cookie, offset, length = layout.unpack(header)
    # QEMU's server takes the payload of an extended write even where the flag is missing.
    carries = kind == RequestType.WRITE or bool(extended and flags & PAYLOAD_FOLLOWS)
    return Request(kind, offset, length, length if carries else 0)
