"""Where things are in what a daemon records: a folder of traces, each with the policies that were in force.

    DIR/20300101T120000Z/           a trace, as `docs/replay.md` describes it
    DIR/20300101T120000Z/policies/1/in-force/*.yaml     the policies at first; 2, 3 …: each later set

The newest trace has the name that sorts last; one that isn't complete yet has another ending. Whoever reads a
recording needs no more than these names.
"""

import re
from pathlib import Path

FEDERATION = "federation.yaml"
IN_FORCE = "in-force"
"""The name under which the policies in force stand in a comparison."""
UNFINISHED = ".new"
_RECORDED = re.compile(r"\d{8}T\d{6}Z(-\d+)?")


def traces_in(folder: Path) -> list[Path]:
    """Return the traces in a folder of recordings, the oldest first."""
    found = folder.glob(f"*/{FEDERATION}")
    return sorted((path.parent for path in found if path.parent.suffix != UNFINISHED), key=_age)


def recorded_in(folder: Path) -> list[Path]:
    """Return those among the traces in a folder that have names as a daemon gives them, the oldest first."""
    return [trace for trace in traces_in(folder) if _RECORDED.fullmatch(trace.name)]


def unfinished_in(folder: Path) -> list[Path]:
    """Return what is left in a folder of traces that a daemon has begun, and not got far with."""
    return [path for path in folder.glob(f"*{UNFINISHED}") if _RECORDED.fullmatch(path.stem)]


def latest_trace(folder: Path) -> Path | None:
    """Return the trace that a folder is, or the newest of those recorded in it, else of all."""
    if (folder / FEDERATION).is_file():
        return folder
    return next(reversed(recorded_in(folder) or traces_in(folder)), None)


def in_force(trace: Path) -> Path | None:
    """Return the folder of the policies that were in force last; None where none were recorded."""
    found = [path for path in (trace / "policies").glob(f"*/{IN_FORCE}") if path.is_dir()]
    numbered = [path for path in found if path.parent.name.isdigit()]
    return max(numbered, key=lambda path: int(path.parent.name), default=None)


def _age(trace: Path) -> tuple[str, int]:
    """Return what traces are sorted by: their second, and their number in it."""
    second, _, number = trace.name.partition("-")
    return second, int(number) if number.isdigit() else 0
