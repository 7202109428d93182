"""Signals that end a command as Ctrl-C does: by an exception, so that what it has begun is cleaned up.

Without asyncio, which a command that only tells something has no time to load.
"""

import atexit
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from types import FrameType

TOLD_BY_SHELLS = 128
"""What shells add to the number of the signal that ended a command."""


class EndedBySignal(SystemExit):
    """A signal has come that ends the command."""

    def __init__(self, number: int) -> None:
        super().__init__(TOLD_BY_SHELLS + number)
        self.number = number


def die_by(number: int) -> None:
    """End by a signal, so that whoever waits sees what it was; what is to be done at an exit is done before.

    A shell goes on with a loop whose command has handled Ctrl-C, and ends with one that died by it; to systemd,
    to die by SIGTERM is an orderly end.
    """
    signal.signal(number, signal.SIG_DFL)
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os.kill(os.getpid(), number)


def raised(*numbers: signal.Signals) -> AbstractContextManager[None]:
    """Let signals raise `EndedBySignal` in this block; a second one as `caught` says."""

    def end(number: int) -> None:
        raise EndedBySignal(number)

    return caught(end, *numbers)


@contextmanager
def caught(end: Callable[[int], None], *numbers: signal.Signals) -> Iterator[None]:
    """Have signals call something in this block.

    A second one does what it would have done before, but no SIGHUP: a terminal that is closed says so by two,
    its shell's and the kernel's. One that is ignored, as SIGHUP below nohup, stays so. For the main thread.
    """

    def once(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGHUP else before[number])
        end(number)

    found = {int(each): signal.getsignal(each) for each in numbers}
    before = {number: then for number, then in found.items() if then is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, once)
    try:
        yield
    finally:
        for number, then in before.items():
            signal.signal(number, then)
