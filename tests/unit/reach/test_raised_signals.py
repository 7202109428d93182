"""Signals that end a block by an exception; they are real: this process sends them to itself."""

import os
import signal
import subprocess
import sys

import pytest

from transhume.reach.raised_signals import raised


def send(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)
    raise AssertionError("nothing has come of it")


def test_a_signal_ends_the_block_with_what_shells_tell_of_it() -> None:
    before, done = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with raised(signal.SIGTERM):
            try:
                send(signal.SIGTERM)
            finally:
                done.append("cleaned up")

    with pytest.raises(SystemExit) as ended:
        work()
    assert (ended.value.code, done) == (143, ["cleaned up"])
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP], ids=lambda each: each.name)
def test_a_second_one_does_what_it_did_before_but_no_hangup(number: signal.Signals) -> None:
    came: list[int] = []
    before = signal.signal(number, lambda number, _: came.append(number))

    def work() -> None:
        with raised(number):
            try:
                send(number)
            finally:
                os.kill(os.getpid(), number)

    try:
        with pytest.raises(SystemExit):
            work()
    finally:
        signal.signal(number, before)
    assert came == ([] if number is signal.SIGHUP else [number])


def test_one_that_is_ignored_stays_so() -> None:
    """As below nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with raised(signal.SIGHUP, signal.SIGTERM):
            os.kill(os.getpid(), signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


DIES = """
import atexit, signal
from transhume.reach.raised_signals import die_by

atexit.register(print, "and gone")
print("told", end=" ")
die_by(signal.SIGINT)
"""


def test_who_dies_by_a_signal_has_said_all_and_tidied_up() -> None:
    """Else temporary folders would stay, and what waits in a buffer would be lost."""
    done = subprocess.run([sys.executable, "-c", DIES], stdout=subprocess.PIPE, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGINT, b"told and gone\n")
