"""bpf(2), as far as capture needs it: maps, programs, links, and what they cost.

Owns the layout of the system call's arguments. Every object is a file descriptor: whoever gets one closes it,
and a process that dies leaves nothing behind. A refusal is an `OSError`; that of a program carries the
verifier's last words.
"""

import ctypes
import os
import platform
import struct
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_NUMBERS = {"x86_64": 321, "aarch64": 280}
_MAP_CREATE, _LOOKUP, _UPDATE, _LOAD, _INFO, _DRAIN, _LINK, _STATISTICS = 0, 1, 2, 5, 15, 25, 28, 32
_ATTRIBUTE_BYTES = 128
_SCHED_CLS = 3
_LICENSE = b"GPL"
_LOG_BYTES = 1 << 18
_LAST_WORDS = 1500
_INFO_BYTES = 208
_BATCH_COUNT_AT = 32
_BEFORE_ALL_OTHERS = 1 << 3
_ENOENT = 2

NO_PREALLOCATION = 1 << 0
MEMORY_MAPPED = 1 << 10


class MapKind(IntEnum):
    """The kinds of maps that we use."""

    ARRAY = 2
    PER_CPU_HASH = 5
    PER_CPU_ARRAY = 6


class Direction(IntEnum):
    """Where tcx calls a program, as a number of the kernel's."""

    INGRESS = 46
    EGRESS = 47


@dataclass(frozen=True, slots=True, kw_only=True)
class RunTime:
    """What a program took while somebody had the kernel look at the clock."""

    nanoseconds: int
    runs: int


def create_map(
    kind: MapKind, name: str, *, key_bytes: int, value_bytes: int, entries: int, flags: int = 0
) -> int:
    """Create a map."""
    attributes = struct.pack(
        "=7I16s", kind, key_bytes, value_bytes, entries, flags, 0, 0, name.encode()
    )
    return _bpf(_MAP_CREATE, attributes)


def load_program(instructions: bytes, name: str) -> int:
    """Load a traffic classifier.

    Raises:
        OSError: the kernel refused it; the message ends with what the verifier said.
    """
    try:
        return _load(instructions, name, None)
    except OSError as refusal:
        log = ctypes.create_string_buffer(_LOG_BYTES)
        try:
            return _load(instructions, name, log)
        except OSError:
            said = log.value.decode(errors="replace").strip()[-_LAST_WORDS:]
        if not said:
            raise
        raise OSError(refusal.errno, f"{refusal.strerror}; the verifier said: {said}") from refusal


def _load(instructions: bytes, name: str, log: ctypes.Array[ctypes.c_char] | None) -> int:
    code = ctypes.create_string_buffer(instructions, len(instructions))
    license_text = ctypes.create_string_buffer(_LICENSE)
    attributes = struct.pack(
        "=IIQQIIQII16s",
        _SCHED_CLS,
        len(instructions) // 8,
        ctypes.addressof(code),
        ctypes.addressof(license_text),
        1 if log is not None else 0,
        len(log) if log is not None else 0,
        ctypes.addressof(log) if log is not None else 0,
        0,
        0,
        name.encode(),
    )
    return _bpf(_LOAD, attributes)


def link_tcx(program: int, interface: int, direction: Direction) -> int:
    """Attach a program to an interface of this thread's network namespace, before all that is there already.

    What comes first sees all frames, whatever others do with them. The link dies with its last descriptor.
    """
    attributes = struct.pack("=IIII", program, interface, direction, _BEFORE_ALL_OTHERS)
    return _bpf(_LINK, attributes)


def enable_statistics() -> int:
    """Have the kernel look at the clock before and after each run of any program, until closed."""
    return _bpf(_STATISTICS, struct.pack("=I", 0))


def program_id(program: int) -> int:
    """Return the number by which the whole system knows a program."""
    (number,) = struct.unpack_from("=I", _info(program), 4)
    return int(number)


def run_time(program: int) -> RunTime:
    """Return what a program took so far, of the time in which statistics were enabled."""
    nanoseconds, runs = struct.unpack_from("=QQ", _info(program), 192)
    return RunTime(nanoseconds=nanoseconds, runs=runs)


def drain_batch(
    table: int,
    resume_at: ctypes.Array[ctypes.c_char] | None,
    keys: NDArray[np.void],
    values: NDArray[np.uint64],
) -> tuple[int, ctypes.Array[ctypes.c_char] | None]:
    """Take entries out of a map, as many as fit into `keys`; `values` has a row per entry and CPU.

    Returns how many, and where to go on; None when the map is empty now.
    """
    position = ctypes.create_string_buffer(8)
    attributes = struct.pack(
        "=QQQQIIQQ",
        ctypes.addressof(resume_at) if resume_at is not None else 0,
        ctypes.addressof(position),
        keys.ctypes.data,
        values.ctypes.data,
        len(keys),
        table,
        0,
        0,
    )
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTE_BYTES)
    ended = _call(_DRAIN, buffer) < 0
    if ended and ctypes.get_errno() != _ENOENT:
        raise _error()
    (count,) = struct.unpack_from("=I", buffer, _BATCH_COUNT_AT)
    return count, None if ended else position


def lookup(table: int, key: bytes, value: NDArray[np.uint64]) -> None:
    """Read one entry's value."""
    found = ctypes.create_string_buffer(key, len(key))
    attributes = struct.pack("=IIQQQ", table, 0, ctypes.addressof(found), value.ctypes.data, 0)
    _bpf(_LOOKUP, attributes)


def update(table: int, key: bytes, value: NDArray[np.uint64]) -> None:
    """Write one entry's value."""
    found = ctypes.create_string_buffer(key, len(key))
    attributes = struct.pack("=IIQQQ", table, 0, ctypes.addressof(found), value.ctypes.data, 0)
    _bpf(_UPDATE, attributes)


def possible_cpus() -> int:
    """Return how many CPUs a per-CPU value has a part for."""
    return sum(last - first + 1 for first, last in _cpu_ranges())


def cpu_numbers() -> int:
    """Return how many numbers of CPUs there are, from 0 to the highest; some may be nobody's."""
    return _cpu_ranges()[-1][1] + 1


@cache
def _cpu_ranges() -> list[tuple[int, int]]:
    text = Path("/sys/devices/system/cpu/possible").read_text("ascii")
    ranges = (part.partition("-") for part in text.strip().split(","))
    return [(int(first), int(last or first)) for first, _, last in ranges]


def _info(descriptor: int) -> bytes:
    found = ctypes.create_string_buffer(_INFO_BYTES)
    _bpf(
        _INFO,
        struct.pack("=IIQ", descriptor, len(found), ctypes.addressof(found)),
    )
    return found.raw


def _bpf(command: int, attributes: bytes) -> int:
    result = _call(command, ctypes.create_string_buffer(attributes, _ATTRIBUTE_BYTES))
    if result < 0:
        raise _error()
    return result


def _call(command: int, attributes: ctypes.Array[ctypes.c_char]) -> int:
    number = _NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(38, f"no bpf(2) known for {platform.machine()}")
    return int(_libc().syscall(number, command, ctypes.byref(attributes), len(attributes)))


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
