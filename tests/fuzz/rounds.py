"""Long runs of a fuzzer: many processes, one after the other.

Each begins with the inputs that those before it found to be new: what traces Python's comparisons takes some
kilobytes for each input, and would fill the memory of one process.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

FOUND = Path("build/fuzz")
RUNS_OF_A_PROCESS = 20_000

Seeding = Callable[[Path], None]


def arguments_of_a_fuzzer(description: str | None) -> argparse.ArgumentParser:
    """Return a parser of what every fuzzer can be asked for."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("inputs", nargs="*", help="inputs to try again, or a folder of inputs")
    parser.add_argument("--seconds", type=int, default=0, help="how long, by many processes")
    parser.add_argument("--for-at-most", type=int, default=0, help="how long, by this process")
    parser.add_argument("--runs", type=int, default=0, help="how many inputs")
    parser.add_argument("--seed", type=int, default=0, help="for the same inputs each time")
    return parser


def fuzz_by_many(module: str, seconds: int, write_seeds: Seeding, more: Sequence[str] = ()) -> int:
    """Fuzz until time is over; return the exit status of the first that found something, or 0."""
    until = time.monotonic() + seconds
    rounds = 0
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(Path(folder))
        command = [sys.executable, "-m", module, folder, *more]
        while (left := int(until - time.monotonic())) > 0:
            limits = [f"--runs={RUNS_OF_A_PROCESS}", f"--for-at-most={left}"]
            status = subprocess.run([*command, *limits], check=False).returncode
            if status:
                return status
            rounds += 1
            inputs = sum(1 for _ in Path(folder).iterdir())
            print(f"{rounds} rounds, {inputs} inputs kept, {left} seconds left", flush=True)
    return 0


def fuzz(
    asked: argparse.Namespace,
    try_input: Callable[[bytes], None],
    write_seeds: Seeding,
    flags: Sequence[str],
) -> None:
    """Fuzz in this process until time or runs are over, or something was found; then end it."""
    FOUND.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        given = [f"-artifact_prefix={FOUND}/", *flags]
        given += [f"-max_total_time={asked.for_at_most}"] if asked.for_at_most else []
        given += [f"-runs={asked.runs}"] if asked.runs else []
        given += [f"-seed={asked.seed}"] if asked.seed else []
        if not asked.inputs:
            write_seeds(Path(folder))
        where = asked.inputs or [folder]
        atheris.Setup([sys.argv[0], *where, *given], try_input, enable_python_coverage=True)
        atheris.Fuzz()
