"""Settings of network devices that only sysfs has, in the namespace of the calling thread.

A sysfs shows the devices of the namespace in which it was mounted. So one is mounted for each visit, at no
place in any folder (fsopen(2)), and is gone with its descriptor.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from transhume.reach.syscalls import call

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
"""Numbers of system calls, the same on all machines."""
_CLOSE_ON_EXEC, _CREATE = 1, 6


def read(device: str, name: str) -> str:
    """Return a device's setting, such as `gro_flush_timeout`.

    Raises:
        OSError: there is no such device or setting, or this isn't root.
    """
    with _opened(device, name, os.O_RDONLY) as descriptor:
        return os.read(descriptor, 4096).decode("ascii").strip()


def write(device: str, name: str, value: str) -> None:
    """Change a device's setting.

    Raises:
        OSError: there is no such device or setting, or the kernel refuses, or this isn't root.
    """
    with _opened(device, name, os.O_WRONLY) as descriptor:
        os.write(descriptor, value.encode("ascii"))


@contextmanager
def _opened(device: str, name: str, flags: int) -> Iterator[int]:
    with (
        _mounted() as root,
        _closing(os.open(f"class/net/{device}/{name}", flags, dir_fd=root)) as it,
    ):
        yield it


@contextmanager
def _mounted() -> Iterator[int]:
    with _closing(call(_FSOPEN, b"sysfs", _CLOSE_ON_EXEC)) as made:
        call(_FSCONFIG, made, _CREATE, None, None, 0)
        with _closing(call(_FSMOUNT, made, _CLOSE_ON_EXEC, 0)) as root:
            yield root


@contextmanager
def _closing(descriptor: int) -> Iterator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)
