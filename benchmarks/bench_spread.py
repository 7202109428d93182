"""What a second worker is worth, and whether the result stays the same: one large capture, read in turns.

Eight minutes of headers, 40 million frames, from the page cache, so that no disk is measured. The workers'
start isn't counted; rates are by the clock, which is what a second worker is for. Each result is compared with
what this process reads alone: every window, pair and number.

Where other sessions compete, the kernel gives each session its share (`sched_autogroup_enabled`), which two
workers of one session have to divide: the ratio is worth something only on a machine that does little else.
"""

import argparse
import hashlib
import os
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from datetime import datetime
from statistics import median

import numpy as np

from benchmarks.captures import Recipe, capture
from benchmarks.measuring import keep
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.reading import OneByOne
from transhume.monitor.capture.rings import CapturePoint
from transhume.monitor.capture.scan import Engine
from transhume.monitor.capture.spread import Spread
from transhume.monitor.capture.workers import Workers, workers_of

LARGE = Recipe(minutes=8)
FRAMES = LARGE.frames * LARGE.minutes
OPTIONS = ReadingOptions(window_seconds=1.0, engine=Engine.NUMBA)
ROUNDS = 5
PROMISED = 1.6


def digest(windows: Iterable[TrafficWindow]) -> str:
    """Return what is equal for equal results: the sums of each bin and pair of addresses.

    Several windows of one bin add up, as everywhere: a part of a file may end within it.
    """
    bins: dict[tuple[datetime, str], list[TrafficWindow]] = {}
    for window in windows:
        bins.setdefault((window.start, window.capture_point), []).append(window)
    whole = hashlib.sha256()
    for (start, point), parts in sorted(bins.items()):
        rows = np.concatenate([each.addresses[each.pair] for each in parts])
        octets = rows.view(f"V{rows.dtype.itemsize}")
        distinct, pair = np.unique(octets, return_inverse=True)
        sums = np.zeros((3, len(distinct)), dtype=np.int64)
        for name, column in zip(("bytes", "payload_bytes", "frames"), sums, strict=True):
            np.add.at(column, pair, np.concatenate([getattr(each, name) for each in parts]))
        whole.update(f"{start} {point} {sum(each.unreadable_frames for each in parts)}".encode())
        whole.update(distinct.tobytes())
        whole.update(sums.tobytes())
    return whole.hexdigest()


def read(point: CapturePoint, workers: Workers) -> tuple[float, str]:
    """Read the capture with some workers; return how many seconds that took, and a digest of the result."""
    reading = Spread([point], OPTIONS, workers=workers.count)
    began = time.monotonic()
    windows = list(reading.windows_by(workers))
    return time.monotonic() - began, digest(windows)


def compare(point: CapturePoint, counts: Sequence[int], rounds: int) -> dict[int, list[float]]:
    """Return how long each number of workers took in each round.

    Raises:
        AssertionError: a result differs from that of this process.
    """
    right = digest(OneByOne([point], OPTIONS))
    took: dict[int, list[float]] = {count: [] for count in counts}
    with ExitStack() as stack:
        clusters = {count: stack.enter_context(workers_of(count, None)()) for count in counts}
        for number in range(rounds + 1):
            for count, workers in clusters.items():
                seconds, found = read(point, workers)
                assert found == right, f"{count} workers gave another result than none"
                if number:  # the first round loads the engine
                    took[count].append(seconds)
                    print(
                        f"workers: {count}, {seconds:.2f} s, {FRAMES / seconds / 1e6:.1f} M frames/s"
                    )
    return took


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure one worker against two.")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    path = capture(LARGE).path
    print(f"Spread over workers: {FRAMES:,} frames, {path.stat().st_size / 1e6:,.0f} MB")
    point = CapturePoint(name=path.name, files=(path,))
    took = compare(point, (1, 2), parser.parse_args().rounds)
    times = median(one / two for one, two in zip(took[1], took[2], strict=True))
    found = {"frames": FRAMES, "seconds": took, "times_the_rate_of_one": times}
    print(f"the results are identical; written to {os.path.relpath(keep('spread', found))}")
    verdict = "kept" if times >= PROMISED else "BROKEN"
    print(f"{verdict}: two workers at {times:.2f} times the rate of one; {PROMISED} promised")


if __name__ == "__main__":
    main()
