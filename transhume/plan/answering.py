"""The other end of `processes`: a process that is asked one question on standard input, and answers in lines.

It dies with whoever started it (on Linux): nobody would read what it finds. What libraries print is dropped.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PR_SET_PDEATHSIG = 1


def answer_apart(solve: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
    """Read the question and let it be solved; what it tells is written at once, whole lines only."""
    parent = os.getppid()
    _die_with_parent()
    if os.getppid() != parent:  # it was gone before we asked
        return
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    solve(sys.stdin.buffer.read(), lambda line: _write(answers, line))


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
