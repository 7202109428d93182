"""Threads for calls that block, and nobody knows for how long: a process that ends doesn't wait for them.

For those of the standard library's pools it does, which is right where the work is ours. A host that has died
lets whoever connects to it wait for minutes, a disk whoever reads it, and nothing cuts that short.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
Call = tuple["Future[Any]", Callable[[], Any]]


class LooseThreads(Executor):
    """Some threads, begun when they are needed, that keep no process from ending.

    Args:
        most: how many calls may run at the same time; others wait.
        name: what the threads are called.
    """

    def __init__(self, most: int, name: str) -> None:
        self._most, self._name = most, name
        self._waiting: SimpleQueue[Call | None] = SimpleQueue()
        self._lock = Lock()
        self._begun = self._busy = 0
        """How many threads there are, and how many calls were taken on that haven't ended."""
        self._over = False

    def submit(self, what: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> "Future[T]":
        """Have something called; return what will hold its result."""
        future: Future[T] = Future()
        with self._lock:
            if self._over:
                raise RuntimeError(f"the threads of {self._name} were shut down")
            if self._busy >= self._begun < self._most:
                name = f"{self._name}_{self._begun + 1}"
                Thread(target=self._work, name=name, daemon=True).start()
                self._begun += 1  # if it could be: there may be no more threads just now
            self._busy += 1
            self._waiting.put((future, partial(what, *args, **kwargs)))
        return future

    def shutdown(self, wait: bool = False, *, cancel_futures: bool = False) -> None:
        """Take nothing more on; threads end with the calls that they are at, and nobody waits for them."""
        with self._lock:
            self._over = True
            left = _emptied(self._waiting)
            for each in left:
                if each is not None and not (cancel_futures and each[0].cancel()):
                    self._waiting.put(each)
            for _ in range(self._begun):
                self._waiting.put(None)

    def _work(self) -> None:
        while (call := self._waiting.get()) is not None:
            _make(*call)
            del call  # which would keep what it returned until the next one comes
            with self._lock:
                self._busy -= 1


async def in_a_loose_thread(what: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Have something called in a thread of its own; whoever is cancelled meanwhile leaves it to itself."""
    threads = LooseThreads(1, getattr(what, "__name__", "loose"))
    try:
        return await asyncio.wrap_future(threads.submit(what, *args, **kwargs))
    finally:
        threads.shutdown()


def _make(future: "Future[Any]", what: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = what()
    except BaseException as error:  # noqa: BLE001  (raised again by who waits for it)
        future.set_exception(error)
    else:
        future.set_result(result)


def _emptied(queue: "SimpleQueue[Call | None]") -> "list[Call | None]":
    taken = []
    while True:
        try:
            taken.append(queue.get_nowait())
        except Empty:
            return taken
