"""How much memory a very long capture takes that comes through a pipe: `python -m benchmarks.stream_memory`.

A writer makes an endless capture (a few thousand frames again and again, each time with later stamps) as fast
as the reader takes it; the reader counts it as `transhume analyze -` does, and drops the windows. What is
measured is the most memory that the reader ever had, as the kernel tells the reader itself: what it tells a
parent (`ru_maxrss`) includes the parent's own, from before the child became another program.
"""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.measuring import ENVIRONMENT

GIGABYTE = 10**9
MOST_MIB = 500
"""What a stream of 20 GB may take."""
_VMS = 64
_FRAMES_A_SECOND = 1_000_000
_FRAMES = 20_000
"""How many are made, and written again and again."""
_HEADER_BYTES = 80
_RECORD = np.dtype(
    [
        ("seconds", "<u4"),
        ("microseconds", "<u4"),
        ("captured", "<u4"),
        ("length", "<u4"),
        ("frame", "u1", _HEADER_BYTES),
    ]
)
_PCAP_HEADER = np.array([0xA1B2C3D4, 0x00040002, 0, 0, _HEADER_BYTES, 1], dtype="<u4").tobytes()


def endless_capture(seed: int = 1) -> Iterator[bytes]:
    """Yield a pcap file that has no end: headers of TCP frames between 64 VMs, a million frames a second."""
    yield _PCAP_HEADER
    records = _records(np.random.default_rng(seed))
    number = np.arange(_FRAMES, dtype=np.int64)
    while True:
        microseconds = number * (1_000_000 // _FRAMES_A_SECOND)
        records["seconds"] = 1_900_000_000 + microseconds // 1_000_000
        records["microseconds"] = microseconds % 1_000_000
        yield records.tobytes()
        number += _FRAMES


def _records(random: np.random.Generator) -> np.ndarray:
    records = np.zeros(_FRAMES, dtype=_RECORD)
    source = random.integers(1, _VMS + 1, _FRAMES)
    destination = (source + random.integers(1, 9, _FRAMES)) % _VMS + 1
    length = np.where(random.random(_FRAMES) < 0.5, 1500, 80)
    records["captured"], records["length"] = _HEADER_BYTES, length
    frame = records["frame"]
    for column, octet in enumerate(bytes.fromhex("525400000000" * 2 + "08004500")):
        frame[:, column] = octet
    frame[:, 5], frame[:, 11] = destination, source
    frame[:, 16], frame[:, 17] = (length - 14) >> 8, (length - 14) & 0xFF
    frame[:, 22], frame[:, 23] = 64, 6
    frame[:, 26], frame[:, 29] = 10, source
    frame[:, 30], frame[:, 33] = 10, destination
    frame[:, 46] = 5 << 4
    return records


@dataclass(frozen=True, slots=True, kw_only=True)
class Streamed:
    """What came of reading a stream."""

    frames: int
    windows: int
    most_mib: float
    """The most memory that the reader had at any time."""
    seconds: float
    cpu_seconds: float


def stream(stream_bytes: int, packing: str = "none") -> Streamed:
    """Write a capture of so many bytes into a reader's standard input, and return what came of it."""
    command = [sys.executable, "-m", "benchmarks.stream_memory"]
    began = time.monotonic()
    writer = subprocess.Popen(
        [*command, "--write", str(stream_bytes), "--packing", packing],
        stdout=subprocess.PIPE,
        env=ENVIRONMENT,
    )
    reader = subprocess.Popen(
        [*command, "--read"], stdin=writer.stdout, stdout=subprocess.PIPE, env=ENVIRONMENT
    )
    assert writer.stdout is not None
    assert reader.stdout is not None
    writer.stdout.close()
    with reader.stdout:
        said = reader.stdout.read()
    _, status, usage = os.wait4(reader.pid, 0)
    reader.returncode = os.waitstatus_to_exitcode(status)
    if reader.returncode or writer.wait():
        raise subprocess.CalledProcessError(reader.returncode or writer.returncode, command)
    frames, windows, most_kib = map(int, said.split())
    return Streamed(
        frames=frames,
        windows=windows,
        most_mib=most_kib / 1024,
        seconds=time.monotonic() - began,
        cpu_seconds=usage.ru_utime + usage.ru_stime,
    )


def _write(stream_bytes: int, packing: str) -> None:
    """Write whole records, as many as fit."""
    out = sys.stdout.buffer
    if packing == "zstd":
        import zstandard

        out = zstandard.ZstdCompressor(level=1).stream_writer(out)  # type: ignore[assignment]
    left = (stream_bytes - len(_PCAP_HEADER)) // _RECORD.itemsize * _RECORD.itemsize
    capture = endless_capture()
    out.write(next(capture))
    for block in capture:
        out.write(block[:left])
        left -= len(block)
        if left <= 0:
            break
    out.close()


def _read() -> None:
    from transhume.monitor.capture.files import CaptureReading

    reading = CaptureReading(Path("-"), 1.0)
    windows = sum(1 for _ in reading)
    assert reading.summary.stopped is None, reading.summary.stopped
    print(reading.summary.frames, windows, _most_kib())


def _most_kib() -> int:
    """Return the most memory that this process ever had."""
    status = Path("/proc/self/status").read_text("ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=20.0)
    parser.add_argument("--packing", choices=("none", "zstd"), default="none")
    parser.add_argument("--write", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--read", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    if given.write is not None:
        _write(given.write, given.packing)
    elif given.read:
        _read()
    else:
        found = stream(int(given.gigabytes * GIGABYTE), given.packing)
        print(
            f"{given.gigabytes:g} GB, {found.frames:,} frames, {found.windows} windows:"
            f" at most {found.most_mib:.0f} MiB, {found.seconds:.1f} s"
            f" ({found.cpu_seconds:.1f} s of CPU to read)"
        )
        if found.most_mib >= MOST_MIB:
            raise SystemExit(f"more than {MOST_MIB} MiB")


if __name__ == "__main__":
    main()
