"""System calls that neither Python nor the C library has a function for."""

import ctypes
import os


def call(number: int, *arguments: object) -> int:
    """Make a system call and return what it does; where Linux has it by its common number.

    Raises:
        OSError: the kernel refuses, or is too old.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    found: int = libc.syscall(number, *arguments)
    if found < 0:
        failed = ctypes.get_errno()
        raise OSError(failed, os.strerror(failed))
    return found
