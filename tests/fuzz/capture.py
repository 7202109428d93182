"""Fuzzing of the scanner: `python -m tests.fuzz.capture --seconds 3600`.

Whatever bytes come, both engines say the same of them, and say it without a crash. By default the compiled
engine runs as users run it, on memory with forbidden pages at both ends; with `--checked` it is compiled with
each place in each array checked, which takes a minute. What was found is in build/fuzz/, and can be named on
the command line to be tried again. A long run is one of many processes, each of which begins with the inputs
that those before it found to be new: what traces Python's comparisons takes some kilobytes for each input.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import atheris

from tests.fuzz.seeds import seeds, write_seeds

FOUND = Path("build/fuzz")
RUNS_OF_A_PROCESS = 20_000


def main() -> None:
    """Fuzz until time or runs are over, or something was found."""
    asked = _arguments()
    if asked.seconds:
        sys.exit(_by_many(asked))
    _fuzz(asked)


def _by_many(asked: argparse.Namespace) -> int:
    """Fuzz by one process after the other; return the exit status of the first that found something, or 0."""
    until = time.monotonic() + asked.seconds
    rounds = 0
    with tempfile.TemporaryDirectory() as folder:
        write_seeds(Path(folder))
        command = [sys.executable, "-m", "tests.fuzz.capture", folder]
        command += ["--checked"] if asked.checked else []
        while (left := int(until - time.monotonic())) > 0:
            limits = [f"--runs={RUNS_OF_A_PROCESS}", f"--for-at-most={left}"]
            status = subprocess.run([*command, *limits], check=False).returncode
            if status:
                return status
            rounds += 1
            inputs = sum(1 for _ in Path(folder).iterdir())
            print(f"{rounds} rounds, {inputs} inputs kept, {left} seconds left", flush=True)
    return 0


def _fuzz(asked: argparse.Namespace) -> None:
    if asked.checked:
        os.environ["NUMBA_BOUNDSCHECK"] = "1"
        # Numba can't compile what Atheris has instrumented: what the kernel is made of comes in before.
        from transhume.monitor.capture.scan.compiled import machine_code

        machine_code.kernel()
    with atheris.instrument_imports(include=["transhume.monitor.capture.scan"]):
        from tests.fuzz.both_engines import try_input
        from transhume.monitor.capture.scan.vectors import engine as _  # noqa: F401

    try_input(next(seeds()))  # it may compile now, which would be far too long for the fuzzer
    FOUND.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"-artifact_prefix={FOUND}/", "-max_len=4096", "-timeout=60", "-rss_limit_mb=4096"]
        flags += [f"-max_total_time={asked.for_at_most}"] if asked.for_at_most else []
        flags += [f"-runs={asked.runs}"] if asked.runs else []
        flags += [f"-seed={asked.seed}"] if asked.seed else []
        if asked.inputs:
            where = asked.inputs
        else:
            write_seeds(Path(folder))
            where = [folder]
        atheris.Setup([sys.argv[0], *where, *flags], try_input, enable_python_coverage=True)
        atheris.Fuzz()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("inputs", nargs="*", help="inputs to try again, or a folder of inputs")
    parser.add_argument("--seconds", type=int, default=0, help="how long, by many processes")
    parser.add_argument("--for-at-most", type=int, default=0, help="how long, by this process")
    parser.add_argument("--runs", type=int, default=0, help="how many inputs")
    parser.add_argument("--seed", type=int, default=0, help="for the same inputs each time")
    parser.add_argument("--checked", action="store_true", help="check each place in each array")
    return parser.parse_args()


if __name__ == "__main__":
    main()
