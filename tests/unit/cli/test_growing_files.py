"""Captures that grow, read in threads: nobody waits for ever for one that can't be read on."""

import threading
from collections.abc import Generator, Iterator
from typing import cast

import pytest

from transhume.cli import growing_files
from transhume.cli.growing_files import Pause, windows_as_they_come
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.reading import CapturesReading


class Hanging:
    """A reading from a disk that gives no answer."""

    def __init__(self) -> None:
        self.let = threading.Event()

    def __iter__(self) -> Iterator[TrafficWindow]:
        self.let.wait()
        yield from ()

    def stop(self) -> None:
        pass


def test_a_second_ctrl_c_ends_the_reading_from_a_disk_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(growing_files, "_LONGEST_DRAIN_SECONDS", 0.1)
    hanging = Hanging()
    came = windows_as_they_come([cast("CapturesReading", hanging)], every_seconds=0.01)
    assert isinstance(next(came), Pause)
    ended = threading.Timer(10, hanging.let.set)
    ended.start()
    with pytest.raises(KeyboardInterrupt):
        cast("Generator[object, None, None]", came).throw(KeyboardInterrupt)
    assert not hanging.let.is_set(), "it has waited"
    hanging.let.set()
    ended.cancel()
