"""Runs solvers in processes of their own. The only module of the planner that touches the world.

It starts processes, waits for them by the clock, and leaves none behind: not after an answer that is enough,
not at the deadline, not on Ctrl-C, not when we are killed. Processes are new interpreters, not forks: the
planner may be called from a thread, and beside a running event loop. An answer is a line; each is better than
the one before. What they answer is believed by nobody before whoever asked has looked at it.
"""

import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from transhume.knowledge import die_with_parent

PIPEFUL = 1 << 16
Lines = Mapping[str, Sequence[bytes]]
"""The whole lines that each solver has told so far, in the order of the solvers."""


def ask_apart(
    module: str,
    solvers: Sequence[str],
    question: bytes,
    seconds: float,
    enough: Callable[[Lines], bool] = lambda _lines: False,
) -> Lines:
    """Put a question to several solvers at once; return what they told until all ended, or time was up.

    Args:
        module: what a process runs; it's given the solver's name.
        solvers: their names.
        question: what a process finds on its standard input.
        seconds: after this, whoever still computes is ended.
        enough: says, after each answer, whether the others need go on.
    """
    deadline = time.monotonic() + seconds
    heard: dict[str, bytes] = dict.fromkeys(solvers, b"")
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for solver in solvers:
            process = stack.enter_context(_running(module, solver, question))
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ, solver)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, PIPEFUL)
                heard[key.data] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
            if enough(_lines(heard)):
                break
    return _lines(heard)


def _lines(heard: Mapping[str, bytes]) -> Lines:
    """Cut what was told into lines; what follows the last line's end may be half an answer."""
    return {solver: told.split(b"\n")[:-1] for solver, told in heard.items()}


@contextmanager
def _running(module: str, solver: str, question: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """Run a solver; on the way out it is ended, whatever it does."""
    # A file rather than a pipe: writing never waits for a process that doesn't read. In memory: disks fill up.
    with os.fdopen(os.memfd_create("question"), "w+b") as told:
        told.write(question)
        told.seek(0)
        process = subprocess.Popen(
            [*die_with_parent.launcher(), sys.executable, "-P", "-m", module, solver],
            stdin=told,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for us; we end it
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _environment() -> dict[str, str]:
    """Return our environment, in which the process finds this package, and computes on one processor."""
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
