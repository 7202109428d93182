"""How true the matrix is: real Open MPI programs under many placements, beside Open MPI's own counts.

What `tests/system/test_fidelity.py` checks, over more placements and over message sizes, as figures. It takes
root and Open MPI: `python -m benchmarks.bench_fidelity [--placements N] [--page docs/fidelity.md]`. Tables are
printed, and all runs written to build/bench/fidelity.json; a page that is named gets the tables.
"""

import argparse
import asyncio
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from statistics import median

import structlog

from benchmarks.measuring import RESULTS
from tests.system.fidelity.experiment import Finding, Watch, observe
from tests.system.fidelity.measures import best_split, crossing, frobenius_error
from tests.system.fidelity.mpi import missing_tools
from tests.system.fidelity.programs import KIB, PROGRAMS, Program
from tests.system.fidelity.stage import Stage, built_stage
from tests.system.fidelity.watching import by_files, has_tcpdump, live
from transhume.deployment.model import CaptureMethod

PLACEMENTS = 5
CHOSEN = CaptureMethod.AUTO.value
FILES = "files"
"""The capture that is no live one: tcpdump writes, we read."""
MESSAGE_BYTES = (64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, 1024 * KIB)
SIZED = ("ring", "sparse")
"""The programs that are run with messages of each size: equal ones, and unequal ones up to the size."""
LINK_BYTES = 4 * 1024 * KIB
ROUNDS_AT_LEAST, ROUNDS_AT_MOST = 8, 2000
BEGIN, END = "<!-- measured: begin -->\n", "<!-- measured: end -->\n"

Rows = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one run comes to."""

    program: str
    capture: str
    seed: int
    message_bytes: int
    rounds: int
    true_bytes: int
    error: float
    wire_error: float
    """The same of wire bytes: what headers and acknowledgements add."""
    unplaced_error: float
    """The error if ranks were taken to be where they aren't: what a useless matrix scores."""
    best_cut_bytes: int
    regret_bytes: int
    pattern: str
    expected_pattern: str
    pattern_score: float
    dropped_frames: int

    @property
    def regret(self) -> float:
        """What choosing by the measured matrix costs, beside the best cut."""
        return self.regret_bytes / self.best_cut_bytes


def figures(finding: Finding, capture: str, seed: int) -> Figures:
    pattern, true = finding.pattern, finding.true
    return Figures(
        program=finding.program.name,
        capture=capture,
        seed=seed,
        message_bytes=finding.program.message_bytes,
        rounds=finding.program.rounds,
        true_bytes=int(true.sum()),
        error=finding.error,
        wire_error=frobenius_error(finding.wire, true),
        unplaced_error=frobenius_error(finding.measured, finding.true_by_rank),
        best_cut_bytes=crossing(true, best_split(true)),
        regret_bytes=finding.regret_bytes,
        pattern=pattern.kind.value,
        expected_pattern=finding.program.pattern.value,
        pattern_score=pattern.score,
        dropped_frames=finding.matrix.dropped_frames,
    )


async def measured(
    stage: Stage, work: Path, program: Program, seed: int, capture: str = CHOSEN
) -> Figures:
    watch: Watch = (
        partial(by_files, work=work)
        if capture == FILES
        else partial(live, method=CaptureMethod(capture))
    )
    found = figures(await observe(stage, program, seed, watch=watch, work=work), capture, seed)
    told = f"{found.program} {capture} {size(found.message_bytes)} seed {seed}"
    print(f"{told}: error {percent(found.error)}, {found.pattern}", file=sys.stderr)
    return found


async def all_figures(placements: int) -> tuple[list[Figures], list[Figures]]:
    """Run each program under each placement, then two of them with messages of each size."""
    files = (FILES,) if has_tcpdump() else ()
    with built_stage() as stage, tempfile.TemporaryDirectory(prefix="transhume-bench-") as folder:
        work = Path(folder)
        by_program = [
            await measured(stage, work, program, seed, capture)
            for capture in (CHOSEN, CaptureMethod.RING.value, *files)
            for program in PROGRAMS
            for seed in (range(1, placements + 1) if capture == CHOSEN else (1,))
        ]
        by_size = [
            await measured(stage, work, sized(program, message_bytes), 1)
            for program in PROGRAMS
            if program.name in SIZED
            for message_bytes in MESSAGE_BYTES
        ]
    return by_program, by_size


def sized(program: Program, message_bytes: int) -> Program:
    """Return a program that sends about as much in messages of another size."""
    rounds = min(max(LINK_BYTES // message_bytes, ROUNDS_AT_LEAST), ROUNDS_AT_MOST)
    return replace(program, message_bytes=message_bytes, rounds=rounds)


PROGRAM_HEADINGS = (
    "program",
    "capture",
    "placements",
    "messages of at most",
    "MB",
    "error, median",
    "error, worst",
    "if misplaced",
    "pattern",
    "named rightly",
    "regret, worst",
)


def rows_by_program(found: Iterable[Figures]) -> list[tuple[str, ...]]:
    groups: dict[tuple[str, str], list[Figures]] = {}
    for each in found:
        groups.setdefault((each.capture, each.program), []).append(each)
    return [
        (
            program.replace("_", "-"),
            capture,
            str(len(runs)),
            size(runs[0].message_bytes),
            f"{median(run.true_bytes for run in runs) / 1e6:.0f}",
            percent(median(run.error for run in runs)),
            percent(max(run.error for run in runs)),
            percent(median(run.unplaced_error for run in runs)),
            runs[0].expected_pattern,
            f"{sum(run.pattern == run.expected_pattern for run in runs)} of {len(runs)}",
            percent(max(run.regret for run in runs)),
        )
        for (capture, program), runs in groups.items()
    ]


SIZE_HEADINGS = (
    "messages of at most",
    *(f"{name}, {what}" for name in SIZED for what in ("error", "regret")),
)


def rows_by_size(found: Iterable[Figures]) -> list[tuple[str, ...]]:
    run_of = {(run.program, run.message_bytes): run for run in found}
    rows = []
    for message_bytes in MESSAGE_BYTES:
        runs = [run_of[name, message_bytes] for name in SIZED]
        shares = (share for run in runs for share in (run.error, run.regret))
        rows.append((size(message_bytes), *map(percent, shares)))
    return rows


def size(count: int) -> str:
    if count < KIB:
        return f"{count} B"
    return f"{count // KIB} KiB" if count < KIB * KIB else f"{count // KIB**2} MiB"


def percent(share: float) -> str:
    return f"{share:.2%}" if share else "0"


def table(headings: Sequence[str], rows: Rows) -> str:
    """Return a table as Markdown whose columns line up for the eye too."""
    columns = zip(headings, *rows, strict=True)
    widths = [max(map(len, column)) for column in columns]
    rule = ["-" * width for width in widths]
    return "".join(
        "| "
        + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        + " |\n"
        for row in (headings, rule, *rows)
    )


def record(by_program: Sequence[Figures], by_size: Sequence[Figures]) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "open_mpi": open_mpi_version(),
        "by_program": [asdict(each) for each in by_program],
        "by_message_size": [asdict(each) for each in by_size],
    }


def open_mpi_version() -> str:
    told = subprocess.run(["mpirun", "--version"], check=True, capture_output=True, text=True)
    return told.stdout.partition("\n")[0]


def renewed(page: str, tables: str) -> str:
    """Return a page with the tables between its two marks."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page lacks the marks {BEGIN.strip()} and {END.strip()}")
    return f"{before}{begin}\n{tables}\n{end}{after}"


def main() -> None:
    parser = argparse.ArgumentParser(description="How true the matrix is that is seen at the taps.")
    parser.add_argument("--placements", type=int, default=PLACEMENTS, help="of each program")
    parser.add_argument("--page", type=Path, help="a page to put the tables into")
    asked = parser.parse_args()
    if os.geteuid() != 0 or missing_tools():
        print(f"not measured: needs root, and {', '.join(missing_tools()) or 'nothing else'}")
        return
    quiet = structlog.make_filtering_bound_logger(logging.WARNING)
    structlog.configure(wrapper_class=quiet)
    by_program, by_size = asyncio.run(all_figures(asked.placements))
    tables = (
        table(PROGRAM_HEADINGS, rows_by_program(by_program))
        + "\n"
        + table(SIZE_HEADINGS, rows_by_size(by_size))
    )
    print(tables)
    target = RESULTS / "fidelity.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(record(by_program, by_size), indent=2) + "\n", encoding="utf-8")
    print(f"written to {os.path.relpath(target)}")
    if asked.page:
        text = asked.page.read_text(encoding="utf-8")
        asked.page.write_text(renewed(text, tables), encoding="utf-8")


if __name__ == "__main__":
    main()
