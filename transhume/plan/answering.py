"""The other end of `processes`: a process that is asked one question on standard input, and answers in lines.

What libraries print is dropped.
"""

import os
import sys
from collections.abc import Callable


def answer_apart(solve: Callable[[bytes, Callable[[bytes], None]], None]) -> None:
    """Read the question and let it be solved; what it tells is written at once, whole lines only."""
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    solve(sys.stdin.buffer.read(), lambda line: _write(answers, line))


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]
