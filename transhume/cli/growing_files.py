"""Captures that are still being written: their windows as they come, several files at once, until told to stop.

Owns a thread for each capture point, and what Ctrl-C means meanwhile: not the end of the command, but of the
reading; what came until then is shown. A second Ctrl-C ends the command.
"""

import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from queue import Empty, Queue
from threading import Thread

from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.reading import CapturesReading
from transhume.reach.raised_signals import caught

_WAITING_WINDOWS = 64
"""How many windows may wait to be added up; a file is read no faster than that."""
_DRAIN_SECONDS, _LONGEST_DRAIN_SECONDS = 0.05, 2.0
"""How long is waited for readers that are at a disk that gives no answer."""


class Pause:
    """Nothing came for a while."""


def windows_as_they_come(
    readings: Sequence[CapturesReading], every_seconds: float
) -> Iterator[TrafficWindow | Pause]:
    """Yield the windows of all readings, and a `Pause` whenever nothing came for so long.

    Raises:
        UnreadableCapture: a file is no capture, or can't be read on; the others are stopped.
    """
    came: Queue[TrafficWindow | BaseException | None] = Queue(_WAITING_WINDOWS)
    threads = [
        Thread(target=_read, args=(reading, came), name=f"reading {number}", daemon=True)
        for number, reading in enumerate(readings)
    ]
    with _stopped_by_signals(readings):
        for thread in threads:
            thread.start()
        try:
            yield from _taken(came, len(threads), every_seconds)
        finally:
            for reading in readings:
                reading.stop()
            _drain(came, threads)


def _drain(came: "Queue[TrafficWindow | BaseException | None]", threads: Sequence[Thread]) -> None:
    """Let threads end that wait for room."""
    until = time.monotonic() + _LONGEST_DRAIN_SECONDS
    while any(thread.is_alive() for thread in threads) and time.monotonic() < until:
        with suppress(Empty):
            came.get(timeout=_DRAIN_SECONDS)


def _read(reading: CapturesReading, came: "Queue[TrafficWindow | BaseException | None]") -> None:
    """Hand windows over; None says that there are no more."""
    try:
        for window in reading:
            came.put(window)
    except Exception as error:  # noqa: BLE001  (raised again by who takes the windows)
        came.put(error)
    else:
        came.put(None)


def _taken(
    came: "Queue[TrafficWindow | BaseException | None]", running: int, every_seconds: float
) -> Iterator[TrafficWindow | Pause]:
    while running:
        try:
            taken = came.get(timeout=every_seconds)
        except Empty:
            yield Pause()
            continue
        if isinstance(taken, BaseException):
            raise taken
        if taken is None:
            running -= 1
        else:
            yield taken


def _stopped_by_signals(readings: Sequence[CapturesReading]) -> AbstractContextManager[None]:
    def stop(_number: int) -> None:
        for reading in readings:
            reading.stop()

    return caught(stop, signal.SIGINT, signal.SIGTERM)
