"""Network namespaces that last: made and removed as `ip netns` does, in a thread of our own.

A namespace belongs to a thread, so a fresh one makes it and ends. The library that we have for it forks
instead, which in a process with an event loop and other threads is asking for trouble.
"""

import ctypes
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from threading import Thread

from transhume.errors import OverlayError
from transhume.reach.netns import NAMED

_CLONE_NEWNET = 0x40000000
_BIND, _RECURSIVE, _SHARED, _DETACH = 0x1000, 0x4000, 1 << 20, 2


def exists(netns: str) -> bool:
    """Say whether a name leads to a namespace; a file that an interrupted making left doesn't."""
    path = NAMED / netns
    return path.exists() and path.stat().st_dev != path.parent.stat().st_dev


def make(netns: str) -> None:
    """Make a namespace, if there is none of the name.

    Raises:
        OverlayError: the kernel refuses.
    """
    if exists(netns):
        return
    NAMED.mkdir(parents=True, exist_ok=True)
    failures: list[str] = []

    def work() -> None:
        try:
            _make(NAMED / netns)
        except OSError as error:
            failures.append(str(error))

    thread = Thread(target=work, name=f"make {netns}")
    thread.start()
    thread.join()
    if failures:
        raise OverlayError(
            f"namespace {netns} can't be made ({failures[0]}); it takes root, and a kernel with namespaces"
        )


def remove(netns: str) -> None:
    """Remove a namespace, with all that is in it; it needn't be there."""
    path = NAMED / netns
    libc = ctypes.CDLL(None, use_errno=True)
    libc.umount2(os.fsencode(path), _DETACH)
    with suppress(FileNotFoundError):
        path.unlink()


def _make(path: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    folder = os.fsencode(path.parent)
    mount = libc.mount
    mount.argtypes = [ctypes.c_char_p] * 3 + [ctypes.c_ulong, ctypes.c_char_p]
    # So that others see it, in whatever mount namespace they are.
    if mount(b"", folder, b"none", _SHARED | _RECURSIVE, None) != 0:
        _checked(lambda: mount(folder, folder, b"none", _BIND | _RECURSIVE, None))
        _checked(lambda: mount(b"", folder, b"none", _SHARED | _RECURSIVE, None))
    path.touch(0o444)
    _checked(lambda: libc.unshare(_CLONE_NEWNET))
    _checked(lambda: mount(b"/proc/thread-self/ns/net", os.fsencode(path), b"none", _BIND, None))


def _checked(call: Callable[[], int]) -> None:
    if call() != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
