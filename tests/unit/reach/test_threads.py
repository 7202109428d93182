"""Threads that keep no process from ending, and work as others do."""

import asyncio
import subprocess
import sys
import threading

import pytest

from transhume.reach.threads import LooseThreads, in_a_loose_thread

STUCK = """
import threading
from transhume.reach.threads import LooseThreads

begun = threading.Event()
threads = LooseThreads(1, "stuck")
threads.submit(lambda: (begun.set(), threading.Event().wait()))
begun.wait()
threads.shutdown(cancel_futures=True)
"""


def test_a_process_ends_though_a_call_of_its_never_does() -> None:
    done = subprocess.run([sys.executable, "-c", STUCK], timeout=30, check=False)
    assert done.returncode == 0


def test_calls_are_made_and_what_they_raise_is_raised() -> None:
    threads = LooseThreads(2, "ours")
    assert threads.submit(divmod, 7, 2).result(10) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        threads.submit(divmod, 7, 0).result(10)
    threads.shutdown()


def test_no_more_are_made_at_once_than_may_be() -> None:
    threads, go = LooseThreads(2, "ours"), threading.Event()
    begun = [threading.Event() for _ in range(3)]

    def work(number: int) -> int:
        begun[number].set()
        assert go.wait(10)
        return number

    calls = [threads.submit(work, number) for number in range(3)]
    assert begun[0].wait(10)
    assert begun[1].wait(10)
    assert not begun[2].wait(0.1)
    go.set()
    assert [call.result(10) for call in calls] == [0, 1, 2]
    threads.shutdown()


def test_one_thread_is_enough_for_one_call_after_the_other() -> None:
    threads = LooseThreads(8, "few")
    for _ in range(20):
        threads.submit(int).result(10)
    named = [each.name for each in threading.enumerate() if each.name.startswith("few")]
    assert len(named) <= 2, "the one before may be about to be ready"
    threads.shutdown()


def test_a_thread_that_cant_be_begun_costs_that_call_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a moment in which a service may have no more threads would leave it none for ever."""

    def start(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = LooseThreads(1, "ours")
    with monkeypatch.context() as scarce:
        scarce.setattr(threading.Thread, "start", start)
        with pytest.raises(RuntimeError, match="can't start"):
            threads.submit(int)
    assert threads.submit(divmod, 7, 2).result(10) == (3, 1)
    threads.shutdown()


@pytest.mark.parametrize("cancels", [True, False])
def test_after_the_end_what_waits_is_cancelled_or_made(cancels: bool) -> None:
    threads, go = LooseThreads(1, "ours"), threading.Event()
    under_way, waiting = threads.submit(go.wait, 10), threads.submit(int)
    while not under_way.running():
        pass
    threads.shutdown(cancel_futures=cancels)
    go.set()
    assert under_way.result(10)
    assert waiting.cancelled() if cancels else waiting.result(10) == 0
    with pytest.raises(RuntimeError, match="shut down"):
        threads.submit(int)


async def test_whoever_is_cancelled_leaves_a_call_to_itself() -> None:
    begun, go = threading.Event(), threading.Event()

    def work() -> bool:
        begun.set()
        return go.wait(10)

    waiting = asyncio.create_task(in_a_loose_thread(work))
    while not begun.is_set():
        await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    go.set()
    assert await in_a_loose_thread(divmod, 7, 2) == (3, 1)
