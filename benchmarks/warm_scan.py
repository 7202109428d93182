"""Our scan without the start-up around it: the same capture read again and again within one process.

Reading the file is part of it, and handing out the windows too. Prints a line of JSON for each scan, as the
reference in C does: `python -m benchmarks.warm_scan FILE SCANS [numba|numpy]`.
"""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.counting import ReadingOptions
from transhume.monitor.capture.files import CaptureReading
from transhume.monitor.capture.scan import Engine


def windows(path: Path, engine: Engine) -> Iterator[TrafficWindow]:
    """Yield the capture's windows of a second."""
    yield from CaptureReading(path, ReadingOptions(window_seconds=1.0, engine=engine))


def main(path: str, scans: str, engine: str = Engine.NUMBA) -> None:
    for _ in range(int(scans)):
        began, cpu_began = time.monotonic(), time.process_time()
        frames = total = payload = 0
        for window in windows(Path(path), Engine(engine)):
            frames += window.total_frames
            total += window.total_bytes
            payload += int(window.payload_bytes.sum())
        told = {
            "cpu": time.process_time() - cpu_began,
            "wall": time.monotonic() - began,
            "frames": frames,
            "bytes": total,
            "payload_bytes": payload,
        }
        print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
