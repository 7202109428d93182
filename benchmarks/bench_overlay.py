"""The overlay in figures: what it takes to programme it, what it takes from a stream, and what moves look like.

Needs root; `python -m benchmarks.bench_overlay [--sections programming,moves]`. Each section is a module
of `benchmarks/overlay/`, which says what it measures. What was found goes to build/bench/overlay.json;
sections that weren't asked for stay there as they were.
"""

import argparse
import os
import shutil
import sys
from collections.abc import Callable
from typing import Any

from rich.console import Console

from benchmarks.figures import kept
from benchmarks.measuring import WIDTH, keep
from benchmarks.overlay import encrypted, moves, news, programming, throughput

NAME = "overlay"
SECTIONS: dict[str, Callable[[Console], dict[str, Any]]] = {
    "programming": programming.measure,
    "news": news.measure,
    "throughput": throughput.measure,
    "encrypted": encrypted.measure_all,
    "moves": moves.measure_all,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_overlay")
    parser.add_argument("--sections", default=",".join(SECTIONS), help="which, by commas")
    asked = parser.parse_args().sections.split(",")
    if unknown := set(asked) - set(SECTIONS):
        parser.error(
            f"no such section: {', '.join(sorted(unknown))}; there are {', '.join(SECTIONS)}"
        )
    if os.geteuid() != 0 or not all(map(shutil.which, ("bridge", "gcc"))):
        sys.exit(
            "bench_overlay makes network namespaces and compiles: it takes root, iproute2 and gcc"
        )
    console = Console(highlight=False, markup=False, width=WIDTH)
    for name in asked:
        found = {**kept(NAME).get("sections", {}), name: SECTIONS[name](console)}
        target = keep(NAME, {"sections": found})
    console.print(f"written to {os.path.relpath(target)}")


if __name__ == "__main__":
    main()
