"""Matrix Market: bytes by source and destination, as `scipy.io.mmread`, Julia, MATLAB and R read them.

Coordinate, integer, general: rows send, columns receive, counted from 1; comments say which VM each one is.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transhume.cli.analysis import Analysis


def write(path: Path, analysis: "Analysis") -> None:
    """Write the matrix of the whole time."""
    matrix = analysis.matrix
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.write("%%MatrixMarket matrix coordinate integer general\n")
        file.write(f"% bytes in {matrix.seconds!r} s from {matrix.start.isoformat()}\n")
        for number, vm in enumerate(matrix.vms, 1):
            file.write(f"% {number} {_in_one_line(vm)}\n")
        file.write(f"{len(matrix.vms)} {len(matrix.vms)} {len(matrix.bytes)}\n")
        for source, destination, count in zip(
            matrix.source.tolist(),
            matrix.destination.tolist(),
            matrix.bytes.tolist(),
            strict=True,
        ):
            file.write(f"{source + 1} {destination + 1} {count}\n")


def _in_one_line(name: str) -> str:
    return "".join(each if each.isprintable() else "\ufffd" for each in name)
