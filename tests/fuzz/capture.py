"""Fuzzing of the scanner: `python -m tests.fuzz.capture --seconds 3600`.

Whatever bytes come, both engines say the same of them, and say it without a crash. By default the compiled
engine runs as users run it, on memory with forbidden pages at both ends; with `--checked` it is compiled with
each place in each array checked, which takes a minute. What was found is in build/fuzz/, and can be named on
the command line to be tried again.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import atheris

FOUND = Path("build/fuzz")


def main() -> None:
    """Fuzz until time or runs are over, or something was found."""
    asked = _arguments()
    if asked.checked:
        os.environ["NUMBA_BOUNDSCHECK"] = "1"
        # Numba can't compile what Atheris has instrumented: what the kernel is made of comes in before.
        from transhume.monitor.capture.scan.compiled import machine_code

        machine_code.kernel()
    with atheris.instrument_imports(include=["transhume.monitor.capture.scan"]):
        from tests.fuzz.both_engines import try_input
        from transhume.monitor.capture.scan.vectors import engine as _  # noqa: F401
    from tests.fuzz.seeds import seeds, write_seeds

    try_input(next(seeds()))  # it may compile now, which would be far too long for the fuzzer
    FOUND.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        flags = [f"-artifact_prefix={FOUND}/", "-max_len=4096", "-timeout=60", "-rss_limit_mb=4096"]
        flags += [f"-max_total_time={asked.seconds}"] if asked.seconds else []
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
    parser.add_argument("--seconds", type=int, default=0, help="how long")
    parser.add_argument("--runs", type=int, default=0, help="how many inputs")
    parser.add_argument("--seed", type=int, default=0, help="for the same inputs each time")
    parser.add_argument("--checked", action="store_true", help="check each place in each array")
    return parser.parse_args()


if __name__ == "__main__":
    main()
