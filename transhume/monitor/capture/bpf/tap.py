"""An interface whose frames are added up in the kernel, as windows.

Owns when the two tables take turns. The program itself turns at the end of each window, by the kernel's coarse
clock, which it reads once a tick: a frame within two ticks of a border (a tick is 1 to 10 ms, as the kernel was
built) may be in the window before or after. A reader that comes a little late moves nothing; one that is late
by a whole window finds the frames of all windows that it missed in the last of them. Where the clock is set,
the open window goes on under its new time.
"""

import time
from collections.abc import Callable
from typing import Protocol

import numpy as np

from transhume.deployment.model import CaptureMethod
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.bpf.counting import NOTHING, Counted, Counter
from transhume.monitor.capture.sampling import estimated, standard_error
from transhume.monitor.capture.scan import instant

GRACE_SECONDS = 0.05
"""How long after its end a table is read: a tick, and whatever a program that was running then still took."""

MOST_SILENT = 100
"""How many windows that nobody came to read are handed out as empty ones: a clock may be set on by years."""


class Attachment(Protocol):
    """What keeps a program at an interface."""

    def close(self) -> None:
        """Detach."""


class KernelTap:
    """One interface that is listened to from the moment it is made.

    Args:
        counter: its tables and program; they are the tap's from now on.
        attach: puts the program at the interface.
        clock: seconds since the epoch.
    """

    linger_seconds = 0.0

    def __init__(
        self,
        method: CaptureMethod,
        counter: Counter,
        attach: Callable[[int], Attachment],
        *,
        seconds: float,
        capture_point: str,
        clock: Callable[[], float],
    ) -> None:
        self.method = method
        self.descriptor: int | None = None
        self._counter = counter
        self._clock = clock
        self._width_us = round(seconds * 1e6)
        self._capture_point = capture_point
        self._wanted_share, self._shares = 1.0, [1.0, 1.0]
        self._seconds_per_run, self._measured = 0.0, counter.run_time()
        self._table, self._number = 0, self._bin_now()
        try:
            self._end_turn_in_time()
            self._attachment = attach(counter.program)
        except BaseException:
            counter.close()
            raise

    def sample(self, share: float) -> None:
        """Look at a share of the frames only, from the window after the next one on."""
        self._wanted_share = share

    def read(self) -> None:
        """Do nothing: the kernel counts."""

    def windows_over(self, now: float) -> list[TrafficWindow]:
        """Hand out the windows that are over for good, the oldest first."""
        if self._bin_now() < self._number:  # the clock was set back
            self._number = self._bin_now()
            self._end_turn_in_time()
        if (self._number + 1) * self._width_us > (now - GRACE_SECONDS) * 1e6:
            return []
        over = [self._taken()]
        idle, current = self._table, max(self._bin_now(), self._number + 1)
        silent = range(max(self._number + 1, current - MOST_SILENT), current)
        over += [self._window(number, NOTHING, 1.0, 0.0) for number in silent]
        self._table, self._number = idle ^ 1, current
        self._shares[idle] = self._counter.control.sample(idle, self._wanted_share)
        self._end_turn_in_time()
        return over

    def last_windows(self) -> list[TrafficWindow]:
        """Hand out what is left, and close."""
        self._attachment.close()
        left = [self._taken()]
        self._table, self._number = self._table ^ 1, self._number + 1
        after_the_turn = self._taken()
        self.close()
        return [*left, after_the_turn] if len(after_the_turn.pair) else left

    def close(self) -> None:
        """Detach, and forget what was counted."""
        self._attachment.close()
        self._counter.close()

    def _bin_now(self) -> int:
        return int(self._clock() * 1e6) // self._width_us

    def _end_turn_in_time(self) -> None:
        """Set the instant of the next turn, on the clock that the program reads."""
        ahead = (self._number + 1) * self._width_us / 1e6 - self._clock()
        at = time.monotonic_ns() + round(ahead * 1e9)
        self._counter.control.turn(at_monotonic_ns=at, using=self._table)

    def _taken(self) -> TrafficWindow:
        began = time.thread_time()
        counted, share = self._counter.take(self._table), self._shares[self._table]
        seconds = counted.runs / share * self._cost_of_a_run()
        return self._window(self._number, counted, share, seconds + time.thread_time() - began)

    def _cost_of_a_run(self) -> float:
        """Return what a run took lately; statistics are enabled now and then only."""
        now, before = self._counter.run_time(), self._measured
        if runs := now.runs - before.runs:
            self._seconds_per_run = (now.nanoseconds - before.nanoseconds) / runs / 1e9
            self._measured = now
        return self._seconds_per_run

    def _window(
        self, number: int, counted: Counted, share: float, cpu_seconds: float
    ) -> TrafficWindow:
        pairs, sums = counted.pairs, counted.sums
        frames = estimated(sums.frames, share)
        unreadable = (pairs["family"] == 0) & (pairs["flags"] == 0)
        return TrafficWindow(
            start=instant(number * self._width_us),
            seconds=self._width_us / 1e6,
            capture_point=self._capture_point,
            addresses=pairs,
            pair=np.arange(len(pairs), dtype=np.int32),
            bytes=estimated(sums.bytes, share),
            payload_bytes=estimated(sums.payload_bytes, share),
            frames=frames,
            dropped_frames=round(counted.no_room_frames / share),
            unreadable_frames=int(frames[unreadable].sum()),
            sampled=share,
            bytes_error=standard_error(sums.squared_bytes, share) if share < 1 else None,
            capture_cpu_seconds=cpu_seconds,
        )
