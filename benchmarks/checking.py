"""Nothing is measured that isn't right: our scans, and C's, against the truth of the captures, cell by cell."""

import json
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.captures import Capture
from benchmarks.measuring import ENVIRONMENT
from benchmarks.reference import Cells, reference_cells
from benchmarks.warm_scan import windows
from transhume.knowledge.model import TrafficWindow
from transhume.monitor.capture.scan import Engine


def check_scans(read: Capture, engines: Sequence[Engine]) -> None:
    """See that each engine and the reference in C count what is there, neither more nor less.

    Raises:
        AssertionError: one doesn't.
    """
    with tempfile.TemporaryDirectory(prefix="transhume-bench-") as folder:
        _check(reference_cells(read.path, Path(folder)), read, "the reference in C")
    for engine in engines:
        _check(our_cells(windows(read.path, engine)), read, f"the {engine} engine")


def our_cells(found: Iterable[TrafficWindow]) -> Cells:
    """Return windows of a second as one table."""
    kept = list(found)
    return Cells(
        row=np.concatenate([window.addresses[window.pair] for window in kept]),
        second=np.repeat(
            [int(window.start.timestamp()) for window in kept],
            [len(window.pair) for window in kept],
        ),
        bytes=np.concatenate([window.bytes for window in kept]),
        payload_bytes=np.concatenate([window.payload_bytes for window in kept]),
        frames=np.concatenate([window.frames for window in kept]),
    )


def _check(cells: Cells, read: Capture, who: str) -> None:
    truth = read.truth
    known = np.searchsorted(truth.addresses, cells.row)
    right = known < len(truth.addresses)
    right[right] = truth.addresses[known[right]] == cells.row[right]
    assert right.all(), f"{who} found addresses in {read.path.name} that aren't there"
    first = int(truth.second[0])
    at = (cells.second - first) * len(truth.addresses) + known
    true_at = (truth.second - first) * len(truth.addresses) + truth.pair
    size = int(max(at.max(), true_at.max())) + 1
    for name in ("bytes", "payload_bytes", "frames"):
        counted = np.bincount(at, getattr(cells, name), size)
        true = np.bincount(true_at, getattr(truth, name), size)
        wrong = int((counted != true).sum())
        assert not wrong, f"{who} has {name} wrong in {wrong} cells of {read.path.name}"


def told_by_command(command: Sequence[str]) -> int:
    """Return all the bytes that `transhume analyze --json` accounts for, in pairs and outside them."""
    done = subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    found = json.loads(done.stdout)
    between = sum(pair[2] for pair in found["pairs"])
    outside = sum(found["to_outside"]) + sum(found["from_outside"])
    rest = found["multicast_bytes"] + found["unattributed"]["bytes"]
    return int(between + outside + rest)
