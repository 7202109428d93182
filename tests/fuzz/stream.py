"""Fuzzing of the splitter of QEMU's streams: `python -m tests.fuzz.stream --seconds 3600`.

Whatever bytes come, and in whatever pieces: they go out as they came, no more than a page is held, and the same
pages are found as when all come at once. What was found is in build/fuzz/, and can be named on the command line
to be tried again.
"""

import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import atheris

from tests.fuzz.rounds import arguments_of_a_fuzzer, fuzz, fuzz_by_many
from tests.unit.execute.migration.stream.seeds import SEEDS, seed
from tests.unit.execute.migration.stream.stream_writing import any_multifd, any_plain

OPTIONS = 2
"""Bytes in front of the stream: the size of pieces, and after which of eight a flush comes."""
FLAGS = ("-max_len=16384", "-timeout=60", "-rss_limit_mb=4096")


def main() -> None:
    """Fuzz until time or runs are over, or something was found."""
    asked = arguments_of_a_fuzzer(__doc__).parse_args()
    if asked.seconds:
        sys.exit(fuzz_by_many("tests.fuzz.stream", asked.seconds, write_seeds))
    with atheris.instrument_imports(include=["transhume.execute.migration.stream"]):
        from tests.fuzz.pieces import try_input
    fuzz(asked, try_input, write_seeds, FLAGS)


def write_seeds(folder: Path) -> None:
    """Write the seeds into a folder, as the fuzzer wants them."""
    for number, content in enumerate(seeds()):
        (folder / f"stream-{number}").write_bytes(content)


def seeds() -> Iterator[bytes]:
    """Yield what QEMU sent, cut short, and what it might send."""
    for name in SEEDS:
        yield bytes((200, 2)) + seed(name)[:15_000]
    for number in range(30):
        writer = (any_plain, any_multifd)[number % 2]
        yield bytes((number * 8, number)) + writer(Random(number)).stream[:16_000]


if __name__ == "__main__":
    main()
