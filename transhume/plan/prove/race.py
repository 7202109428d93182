"""Runs provers in processes of their own, side by side. The only module of the planner that touches the world.

It starts processes, waits for them by the clock, and leaves none behind: not after a proof, not at the
deadline, not on Ctrl-C. Processes are new interpreters, not forks: the planner may be called from a thread,
and beside a running event loop. What they answer is believed by nobody before `proving` has looked at it.
"""

import os
import selectors
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from transhume.plan.prove.job import Answer, Job

WORKER = "transhume.plan.prove.worker"
PIPEFUL = 1 << 16


def race(job: Job, provers: Sequence[str]) -> list[Answer]:
    """Return the last answer of each prover; the first that proved something ends the others."""
    deadline = time.monotonic() + job.seconds
    data = job.to_bytes()
    heard: dict[str, bytes] = dict.fromkeys(provers, b"")
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for prover in provers:
            process = stack.enter_context(_running(prover, data))
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ, prover)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                chunk = os.read(key.fd, PIPEFUL)
                heard[key.data] += chunk
                if not chunk:
                    selector.unregister(key.fileobj)
            if any(answer.proved for answer in _answers(heard)):
                break
    return list(_answers(heard))


def _answers(heard: dict[str, bytes]) -> Iterator[Answer]:
    """Return each prover's last whole answer, in the order of the provers."""
    for told in heard.values():
        lines = told.split(b"\n")[:-1]  # what follows the last line's end may be half an answer
        if lines:
            yield Answer.from_line(lines[-1])


@contextmanager
def _running(prover: str, data: bytes) -> Iterator[subprocess.Popen[bytes]]:
    """Run a prover; on the way out it is ended, whatever it does."""
    # A file rather than a pipe: writing never waits for a process that doesn't read.
    with tempfile.TemporaryFile() as told:
        told.write(data)
        told.seek(0)
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", WORKER, prover],
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
    root = str(Path(__file__).parents[3])
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1"}
