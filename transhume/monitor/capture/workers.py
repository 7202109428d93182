"""Processes that read captures for us: a Dask cluster of this machine's, or a scheduler that runs already.

Owns starting, asking and stopping them, and saying in our words what goes wrong. Who can talk to a Dask
scheduler can have it run anything, as us: a cluster of ours listens on loopback only, and wants a certificate
that is made for it and kept in memory, so that other users of the machine are left out. It shows no dashboard,
keeps its files in a folder that is gone afterwards, and ends with us.
"""

import logging
import os
import signal
import struct
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from multiprocessing import resource_tracker
from typing import Any, Final, TypeVar

import numpy as np

from transhume.errors import ExtraMissing, UsageError
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.scan import Engine, Scanner, choose_engine, read_head

_CONNECT_SECONDS: Final = 5
_LEAN: Final[Mapping[str, object]] = {
    # The scheduler and the workers open a web server each, whatever is asked for: it has nothing to say.
    "distributed.scheduler.http.routes": [],
    "distributed.worker.http.routes": [],
    # Nobody looks at the profile that is taken a hundred times a second.
    "distributed.worker.profile.enabled": False,
    "distributed.admin.tick.interval": "200ms",
}
"""What a cluster of ours does without."""
_Answer = TypeVar("_Answer")


class WorkersLost(Exception):
    """The processes that should have answered are gone; the message says what was seen."""


StartWorkers = Callable[[], AbstractContextManager["Workers"]]


def workers_of(count: int | None, scheduler: str | None) -> StartWorkers:
    """Return what starts processes, as many as there are cores unless given, or connects to a scheduler.

    Raises:
        ExtraMissing: dask.distributed isn't installed.
        UsageError: the number makes no sense, or both are given.
    """
    if count is not None and scheduler is not None:
        raise UsageError("say how many workers to start, or which scheduler to use, not both")
    if count is not None and count < 1:
        raise UsageError(f"{count} workers can't read anything; take 1 or more")
    if find_spec("distributed") is None or find_spec("cryptography") is None:
        raise ExtraMissing("dask", "reading captures with several processes")
    if scheduler is not None:
        return partial(_connected, scheduler)
    return partial(_started, count or len(os.sched_getaffinity(0)))


@contextmanager
def _started(count: int) -> "Iterator[Workers]":
    """Start processes on this machine, and end them whatever happens."""
    import dask
    from distributed import LocalCluster
    from distributed.security import Security

    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="transhume-workers-"))
        stack.enter_context(_quiet())
        stack.enter_context(dask.config.set(_LEAN))
        with _no_interrupts():
            cluster = stack.enter_context(
                LocalCluster(  # type: ignore[no-untyped-call]
                    n_workers=count,
                    threads_per_worker=1,
                    host="127.0.0.1",
                    protocol="tls",
                    security=Security.temporary(),  # type: ignore[no-untyped-call]
                    scheduler_kwargs={"dashboard": False, "dashboard_address": "127.0.0.1:0"},
                    worker_dashboard_address="127.0.0.1:0",
                    local_directory=folder,
                    memory_limit=0,  # what a task holds is bounded; and nothing of it belongs on a disk
                    silence_logs=logging.CRITICAL,
                )
            )
            client = stack.enter_context(_client(cluster, direct=True))
        yield Workers(client)


@contextmanager
def _no_interrupts() -> Iterator[None]:
    """Keep Ctrl-C from this thread for a while, and for ever from the threads and processes that it starts.

    A terminal sends it to all its processes. We end ours when it comes; left to themselves, each would say in a
    page of its own how it was interrupted.
    """
    resource_tracker.ensure_running()  # when multiprocessing starts it, interrupts are let through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _connected(address: str) -> "Iterator[Workers]":
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        try:
            client = stack.enter_context(_client(address, direct=False))
        except (OSError, ValueError) as error:
            raise UsageError(
                f"{address}: no Dask scheduler answers ({error or 'in vain'}); start one with `dask scheduler`,"
                " and on each machine that should read `dask worker ADDRESS`"
            ) from error
        workers = Workers(client)
        workers.check(address)
        yield workers


def _client(of: Any, *, direct: bool) -> AbstractContextManager[Any]:
    """Connect to a scheduler; with `direct`, answers come from the workers and not through the scheduler.

    Workers elsewhere may be out of our reach, the scheduler isn't.
    """
    from distributed import Client

    found: AbstractContextManager[Any] = Client(  # type: ignore[no-untyped-call]
        of, timeout=_CONNECT_SECONDS, set_as_default=False, direct_to_workers=direct
    )
    return found


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Dask's log from the terminal; what matters is raised."""
    log = logging.getLogger("distributed")
    before = log.level
    log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(before)


class Workers:
    """Processes that answer questions."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._warming: list[Any] = []

    @property
    def count(self) -> int:
        """How many questions can be answered at once."""
        return max(sum(map(int, self._client.nthreads().values())), 1)

    def ask(self, function: Callable[..., _Answer], *given: Any) -> Any:
        """Have a worker call a function; return the future of its answer."""
        return self._client.submit(function, *given, pure=False)

    def answer(self, future: Any) -> Any:
        """Wait for an answer, and return it.

        Raises:
            WorkersLost: nobody is left to answer.
        """
        from distributed import KilledWorker
        from distributed.client import FutureCancelledError

        try:
            return future.result()
        except KilledWorker as error:
            raise WorkersLost(f"the workers that were asked died ({error})") from error
        except FutureCancelledError as error:
            raise WorkersLost("the Dask scheduler is gone") from error

    def forget(self, future: Any) -> None:
        """Have nobody answer a question that no longer matters."""
        self._client.cancel([future], force=True)

    def warm(self, options: ReadingOptions) -> None:
        """Have each worker load its engine now, while files are looked at."""
        if choose_engine(options.expected_frames or 0, options.engine) is Engine.NUMBA:
            self._warming = [
                self._client.submit(_load_engine, workers=[address], pure=False, priority=1)
                for address in self._client.nthreads()
            ]

    def check(self, address: str) -> None:
        """Find out whether a scheduler's workers can work for us.

        Raises:
            UsageError: there are none, or they have another version of Transhume, or none.
        """
        if not self._client.nthreads():
            raise UsageError(
                f"{address}: the scheduler has no workers; start some with `dask worker {address}`"
            )
        ours = _version()
        for worker, theirs in self._client.run(_version, on_error="return").items():
            if theirs != ours:
                seen = f"{theirs}" if isinstance(theirs, str) else f"none ({theirs})"
                raise UsageError(
                    f"{worker}: this worker's version of Transhume is {seen}, and ours {ours};"
                    f" on its machine: pip install 'transhume[dask,fast]=={ours}'"
                )


def _version() -> str:
    from importlib.metadata import version

    return version("transhume")


def _load_engine() -> None:
    """Count one frame, which loads all that counting takes."""
    head = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1)
    record = struct.pack("<4I", 0, 0, 60, 60) + bytes(60)
    found = read_head(head)
    assert found is not None
    scanner = Scanner(found[0], window_seconds=1.0, capture_point="", engine=choose_engine(None))
    scanner.feed(np.frombuffer(record, dtype=np.uint8), len(head))
    tuple(scanner.take_all())
