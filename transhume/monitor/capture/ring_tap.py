"""An interface whose frames come through a packet socket's ring, as windows.

Owns what a change of the share that is looked at means here: a frame doesn't say by which share it was chosen,
but its time does. So frames from before and after a change are counted apart, and put together when their
window is over. The kernel's part of the cost is charged to whoever sent the frames, and can't be told apart:
the cost in a window is the reader's.
"""

import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from transhume.deployment.model import CaptureMethod
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.ring import BLOCKS, RETIRE_MS, Block, Ring
from transhume.monitor.capture.sampling import (
    estimated,
    merged,
    spread_squares,
    standard_error,
)
from transhume.monitor.capture.scan import Scanner

GRACE_SECONDS = 0.25
"""How long after its end a window waits for frames that the kernel still holds."""
_BLOCKS_AT_ONCE = 2


@dataclass(slots=True)
class _Stretch:
    """The time in which one share of the frames was looked at."""

    since_ns: int
    share: float
    scanner: Scanner
    squared_bytes: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    """Sum of squared lengths by bin, where not all frames were looked at."""

    def take_before(self, number: int | None) -> list[TrafficWindow]:
        """Hand out the windows before a bin, or all of them."""
        taken = self.scanner.take_all() if number is None else self.scanner.take_before(number)
        return [self._estimate(window) for window in taken]

    def _estimate(self, seen: TrafficWindow) -> TrafficWindow:
        if self.share >= 1:
            return seen
        number = self.scanner.bin_at(int(seen.start.timestamp() * 1e9) + 1000)
        squares = spread_squares(seen.bytes, seen.frames, self.squared_bytes.pop(number, 0))
        return replace(
            seen,
            bytes=estimated(seen.bytes, self.share),
            payload_bytes=estimated(seen.payload_bytes, self.share),
            frames=estimated(seen.frames, self.share),
            unreadable_frames=round(seen.unreadable_frames / self.share),
            sampled=self.share,
            bytes_error=standard_error(squares, self.share),
        )


class RingTap:
    """One interface that is listened to from the moment it is made.

    Args:
        ring: its ring; it is the tap's from now on.
        scanner: makes what counts the frames.
    """

    method = CaptureMethod.RING
    linger_seconds = 2 * RETIRE_MS / 1000

    def __init__(self, ring: Ring, scanner: Callable[[], Scanner]) -> None:
        self._ring = ring
        self._new_scanner = scanner
        self._stretches = [_Stretch(0, 1.0, scanner())]
        self._wanted_share = 1.0
        self._cpu_seconds = 0.0

    @property
    def descriptor(self) -> int:
        """What becomes readable when there are frames."""
        return self._ring.socket.fileno()

    def read(self) -> None:
        """Count some frames; not all at once, so that whatever else runs in this event loop gets its turn."""
        if not self._count(_BLOCKS_AT_ONCE):
            self._ring.forget_error()

    def sample(self, share: float) -> None:
        """Look at a share of the frames only, from now on."""
        if share == self._wanted_share:
            return
        self._wanted_share = share
        taken = self._ring.sample(share)
        self._stretches.append(_Stretch(time.time_ns(), taken, self._new_scanner()))

    def windows_over(self, now: float) -> list[TrafficWindow]:
        """Hand out the windows that are over for good, and open the one after."""
        self._count(BLOCKS)
        scanner = self._stretches[-1].scanner
        current = scanner.bin_at(int((now - GRACE_SECONDS) * 1e9))
        drops = self._ring.take_drops()
        if drops:
            scanner.add_dropped(current, round(drops / self._stretches[-1].share))
        over = self._merged(current)
        scanner.touch(current)
        while len(self._stretches) > 1 and not self._stretches[0].scanner.open_bins:
            del self._stretches[0]
        return over

    def last_windows(self) -> list[TrafficWindow]:
        """Hand out what is left, and close."""
        self._count(BLOCKS)
        self.close()
        return self._merged(None)

    def close(self) -> None:
        """Stop listening, and forget what was counted."""
        self._ring.close()

    def _merged(self, before: int | None) -> list[TrafficWindow]:
        parts: defaultdict[datetime, list[TrafficWindow]] = defaultdict(list)
        for stretch in self._stretches:
            for window in stretch.take_before(before):
                parts[window.start].append(window)
        over = [merged(parts[start]) for start in sorted(parts)]
        if over:
            over[0] = replace(over[0], capture_cpu_seconds=self._cpu_seconds)
            over[1:] = [replace(window, capture_cpu_seconds=0.0) for window in over[1:]]
            self._cpu_seconds = 0.0
        return over

    def _count(self, blocks: int) -> int:
        began, frames = time.thread_time(), 0
        for block in self._ring.blocks(blocks):
            self._count_block(block)
            frames += block.frames
        self._cpu_seconds += time.thread_time() - began
        return frames

    def _count_block(self, block: Block) -> None:
        newest = self._stretches[-1]
        if block.first_ns >= newest.since_ns:
            self._feed(newest, block)
            return
        frames = list(self._ring.times_and_lengths(block))
        begins = [bisect_left(frames, s.since_ns, key=_time) for s in self._stretches]
        for stretch, begin, end in zip(
            self._stretches, begins, [*begins[1:], len(frames)], strict=True
        ):
            if begin < end:
                at = frames[begin][0]
                self._feed(stretch, replace(block, at=at, frames=end - begin))

    def _feed(self, stretch: _Stretch, block: Block) -> None:
        scanner = stretch.scanner
        if scanner.crowded:  # somebody makes addresses up; there is no room for all of them
            scanner.add_dropped(scanner.bin_at(block.last_ns), block.frames)
            return
        scanner.feed_block(self._ring.memory, block.at, block.frames, virtio=True)
        if stretch.share < 1:
            for _, at_ns, length in self._ring.times_and_lengths(block):
                stretch.squared_bytes[scanner.bin_at(at_ns)] += length * length


def _time(frame: tuple[int, int, int]) -> int:
    return frame[1]
