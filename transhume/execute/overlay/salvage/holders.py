"""Which processes have which taps open, and a hold of their descriptors.

A tap's queue can be read only by a descriptor of who opened it: the hypervisor of the VM. Linux hands out
duplicates of another process's descriptors since 5.6 (pidfd_getfd), to those who may trace it.
"""

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from transhume.reach.syscalls import call

_PIDFD_GETFD = 438
"""The same for all processors that Linux added it to with its common numbers."""
_PROCESSES = Path("/proc")
_TAP_FILE, _NAME = "/net/tun", "iff:"


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that has taps open."""

    pid: int
    descriptors: Mapping[str, tuple[int, ...]]
    """Its numbers for each tap, by the tap's name in whichever network namespace; several queues, several."""


def holders() -> Iterator[Holder]:
    """Yield all other processes that have taps open, as far as we may see; it takes milliseconds."""
    for process in _PROCESSES.glob("[1-9]*"):
        pid = int(process.name)
        with suppress(OSError):  # it has ended, or isn't ours to look at
            found = _taps_of(process) if pid != os.getpid() else {}
            if found:
                yield Holder(pid, found)


def duplicate(process: int, descriptor: int) -> int:
    """Return a duplicate of a descriptor of another process, which `process` is a pidfd of.

    Raises:
        OSError: it's gone, the kernel is too old, or we may not.
    """
    return call(_PIDFD_GETFD, process, descriptor, 0)


def _taps_of(process: Path) -> dict[str, tuple[int, ...]]:
    found: dict[str, tuple[int, ...]] = defaultdict(tuple)
    for descriptor in (process / "fd").iterdir():
        with suppress(OSError):
            if str(descriptor.readlink()).endswith(_TAP_FILE):
                name = tap_in((process / "fdinfo" / descriptor.name).read_text())
                if name:
                    found[name] += (int(descriptor.name),)
    return dict(found)


def tap_in(told: str) -> str:
    """Return the name of the tap that a descriptor's `fdinfo` tells of; empty where it's of none."""
    return next(
        (
            line.split()[1]
            for line in told.splitlines()
            if line.startswith(_NAME) and line.split()[1:]
        ),
        "",
    )
