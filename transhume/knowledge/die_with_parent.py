"""A program that becomes another one which dies when the process that started it does, however it dies.

Run as `python -I -S die_with_parent.py PARENT PROGRAM ARGUMENT…`. Done in a process of its own, as Python code
between fork and exec is unsafe in a program with threads. Imports nothing of ours: it starts in a few
milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def launcher() -> tuple[str, ...]:
    """Return the words to put before a command, so that it dies when this process does."""
    return sys.executable, "-I", "-S", __file__, str(os.getpid())


def main(parent: int, command: list[str]) -> None:
    """Ask the kernel to be killed after the parent, then become the command."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    # A parent that was gone before the call above sends no signal any more.
    if os.getppid() != parent:
        sys.exit("the parent is gone already")
    os.execv(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
