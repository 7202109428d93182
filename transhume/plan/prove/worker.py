"""`python -m transhume.plan.prove.worker PROVER < JOB`: one prover, in a process of its own.

Reads a job from standard input and writes answers, one a line, to standard output; each is better than the one
before. Dies with whoever started it (on Linux): nobody would read what it finds.
"""

import ctypes
import os
import signal
import sys
from collections.abc import Callable

from transhume.plan.prove.job import Answer, Job

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Prove, and tell."""
    parent = os.getppid()
    _die_with_parent()
    if os.getppid() != parent:  # it was gone before we asked
        return
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # toulbar2 talks
    prover = _prover(sys.argv[1])
    prover(Job.from_bytes(sys.stdin.buffer.read()), lambda a: _write(answers, a.to_line()))


def _prover(name: str) -> Callable[[Job, Callable[[Answer], None]], None]:
    if name == "toulbar2":
        from transhume.plan.prove.branching import prove_by_branching

        return prove_by_branching
    from transhume.plan.prove.relaxing import prove_by_relaxing

    return prove_by_relaxing


def _write(target: int, data: bytes) -> None:
    while data:
        data = data[os.write(target, data) :]


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
