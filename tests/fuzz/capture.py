"""Fuzzing of the scanner: `python -m tests.fuzz.capture --seconds 3600`.

Whatever bytes come, both engines say the same of them, and say it without a crash. By default the compiled
engine runs as users run it, on memory with forbidden pages at both ends; with `--checked` it is compiled with
each place in each array checked, which takes a minute. What was found is in build/fuzz/, and can be named on
the command line to be tried again.
"""

import argparse
import os
import sys

import atheris

from tests.fuzz.rounds import arguments_of_a_fuzzer, fuzz, fuzz_by_many
from tests.fuzz.seeds import seeds, write_seeds

FLAGS = ("-max_len=4096", "-timeout=60", "-rss_limit_mb=4096")


def main() -> None:
    """Fuzz until time or runs are over, or something was found."""
    asked = _arguments()
    if asked.seconds:
        more = ["--checked"] if asked.checked else []
        sys.exit(fuzz_by_many("tests.fuzz.capture", asked.seconds, write_seeds, more))
    _fuzz(asked)


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
    fuzz(asked, try_input, write_seeds, FLAGS)


def _arguments() -> argparse.Namespace:
    parser = arguments_of_a_fuzzer(__doc__)
    parser.add_argument("--checked", action="store_true", help="check each place in each array")
    return parser.parse_args()


if __name__ == "__main__":
    main()
