"""The scan in C that ours is compared to: built here when it is needed, and its result as columns."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.measuring import RESULTS
from transhume.knowledge.model.addresses import ADDRESS_PAIR, AddressPairs

SOURCE = Path(__file__).with_name("scan.c")
CELL = np.dtype(
    [
        ("bytes", "<u8"),
        ("payload_bytes", "<u8"),
        ("frames", "<u8"),
        ("second", "<u4"),
        ("entry", "<u4"),
        ("row", ADDRESS_PAIR),
    ]
)


def reference_scan() -> Path:
    """Return the program, compiled where it is older than its source."""
    program = RESULTS / "scan"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        program.parent.mkdir(parents=True, exist_ok=True)
        compiler = os.environ.get("CC", "cc")
        subprocess.run([compiler, "-O3", "-o", str(program), str(SOURCE)], check=True)
    return program


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Cells:
    """What a scan counted: a row of addresses, a second, and sums; in any order."""

    row: AddressPairs
    second: NDArray[np.int64]
    bytes: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]
    frames: NDArray[np.int64]


def reference_cells(path: Path, folder: Path) -> Cells:
    """Return what C counts in a capture."""
    told = folder / "cells"
    command = [str(reference_scan()), str(path), "1", str(told)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = np.fromfile(told, dtype=CELL)
    return Cells(
        row=found["row"],
        second=found["second"].astype(np.int64),
        bytes=found["bytes"].astype(np.int64),
        payload_bytes=found["payload_bytes"].astype(np.int64),
        frames=found["frames"].astype(np.int64),
    )
