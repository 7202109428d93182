"""What live migration over a WAN takes: QEMU's own methods and ours, with the same guests, on the lab.

Needs root; `python -m benchmarks.bench_migration [--wan 100mbit] [--scenarios one,four] [--methods …]
[--runs N]`. For each WAN and scenario a lab is built, and its guests are moved to and fro by each method in
turn, another one first in each round; figures are medians over rounds. The WAN takes 20 ms each way. Bytes
and CPU time are counted from outside (`migration/outside.py`), pauses by libvirt's events at both ends.
After every move each guest has verified what it keeps. All runs go to build/bench/migration.json.
"""

import argparse
import asyncio
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import WIDTH, keep
from benchmarks.migration.by_gateways import OURS
from benchmarks.migration.methods import PEERS, PLAIN, ZSTD
from benchmarks.migration.scenarios import DELAY_SECONDS, SCENARIOS, Scenario
from benchmarks.migration.trial import Run, opened_stage
from transhume.lab.lab import Lab
from transhume.lab.network import lab_namespaces
from transhume.quantities import parse_rate

METHODS = {**PEERS, **OURS}
WANS = ("100mbit", "10mbit")
RUNS = 3
LIMIT_SECONDS = 1800.0
EXPLAINED = """medians: MB on the wire from the source, and back to it; seconds until the last guest runs at the
destination; the longest pause of a gang; CPU seconds of QEMU without what executes the guest, and of gateways;
before: what pre-warming took"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All runs of one scenario over one WAN."""

    wan: str
    scenario: Scenario
    runs: tuple[Run, ...]

    def of(self, method: str) -> list[Run]:
        """Return the runs of a method."""
        return [run for run in self.runs if run.method == method]

    def sent(self, method: str) -> float | None:
        """Return the median of a method's bytes; None where it didn't run."""
        found = self.of(method)
        return median(run.sent_bytes for run in found) if found else None


async def measure(
    lab: Lab, scenario: Scenario, methods: Sequence[str], asked: argparse.Namespace
) -> list[Run]:
    """Move a lab's guests by each method once each round, another one first each time."""
    runs = []
    openings = {name: METHODS[name] for name in methods}
    async with opened_stage(lab, openings, asked.limit, scenario.bystanders) as stage:
        for number in range(asked.runs):
            first = number % len(methods)
            for name in (*methods[first:], *methods[:first]):
                await stage.methods[name].reset()
                if scenario.away_seconds is not None:
                    await stage.away(name)
                    await asyncio.sleep(scenario.away_seconds)
                if scenario.returns_a_stranger:
                    await stage.methods[name].reset()
                runs.append(await stage.run(name))
                say(f"  {name}: {runs[-1].sent_bytes / 1e6:.1f} MB in {runs[-1].seconds:.1f} s")
    return runs


def sections(asked: argparse.Namespace) -> Iterator[Section]:
    for wan in asked.wan:
        for scenario in asked.scenarios:
            with tempfile.TemporaryDirectory(prefix="transhume-bench-") as folder:
                lab = Lab(Path(folder) / "state")
                say(f"{wan}, {scenario.title}: building the lab")
                try:
                    lab.up(scenario.lab(parse_rate(wan)))
                    runs = asyncio.run(measure(lab, scenario, asked.methods, asked))
                finally:
                    lab.down()
            yield Section(wan=wan, scenario=scenario, runs=tuple(runs))


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(section: Section, methods: Sequence[str]) -> None:
    title = f"{section.scenario.title}, {section.wan}, {DELAY_SECONDS * 1e3:g} ms each way"
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("method", no_wrap=True)
    for column in (
        "MB",
        f"to {PLAIN}",
        f"to {ZSTD}",
        "back",
        "seconds",
        "pause ms",
        "CPU QEMU",
        "ours",
        "before MB",
        "s",
    ):
        table.add_column(column, justify="right")
    for method in methods:
        table.add_row(method, *_figures(section, method))
    Console(highlight=False, markup=False, width=WIDTH).print(table)


def _figures(section: Section, method: str) -> tuple[str, ...]:
    runs = section.of(method)
    cut = "" if all(run.finished for run in runs) else ">"
    pauses = [worst for run in runs if (worst := longest_pause(run)) is not None]
    return (
        f"{cut}{median(run.sent_bytes for run in runs) / 1e6:.2f}",
        *(_ratio(section, method, to) for to in (PLAIN, ZSTD)),
        f"{median(run.returned_bytes for run in runs) / 1e6:.2f}",
        f"{cut}{median(run.seconds for run in runs):.2f}",
        f"{median(pauses) * 1e3:.0f}" if pauses else "–",
        f"{median(run.qemu_cpu_seconds for run in runs):.2f}",
        f"{median(run.gateway_cpu_seconds for run in runs):.2f}",
        f"{median(run.prepared_bytes for run in runs) / 1e6:.2f}",
        f"{median(run.prepared_seconds for run in runs):.1f}",
    )


def longest_pause(run: Run) -> float | None:
    """Return the seconds that the most delayed of a gang stood still; None where one's pause wasn't seen."""
    seen = [pause for pause in run.pauses if pause is not None]
    return max(seen) if seen and len(seen) == len(run.pauses) else None


def _ratio(section: Section, method: str, to: str) -> str:
    own, base = section.sent(method), section.sent(to)
    return f"{own / base:.3f}" if own is not None and base else "–"


def record(found: Sequence[Section], asked: argparse.Namespace) -> Path:
    results = [
        {"wan": each.wan, "scenario": each.scenario.name, **asdict(run)}
        for each in found
        for run in each.runs
    ]
    facts = {
        "delay_seconds": DELAY_SECONDS,
        "rounds": asked.runs,
        "limit_seconds": asked.limit,
        "scenarios": {each.name: asdict(each) for each in asked.scenarios},
    }
    return keep("migration", {"facts": facts, "results": results})


def _words(known: Sequence[str]) -> str:
    return f"of {', '.join(known)}; by default all"


def asked_for() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_migration")
    by_name = {each.name: each for each in SCENARIOS}
    parser.add_argument("--wan", default=",".join(WANS), help="rates, with commas between")
    parser.add_argument("--scenarios", default=",".join(by_name), help=_words(tuple(by_name)))
    parser.add_argument("--methods", default=",".join(METHODS), help=_words(tuple(METHODS)))
    parser.add_argument("--runs", type=int, default=RUNS, help="rounds")
    parser.add_argument("--limit", type=float, default=LIMIT_SECONDS, help="seconds for a move")
    asked = parser.parse_args()
    try:
        asked.wan = asked.wan.split(",")
        list(map(parse_rate, asked.wan))
        asked.scenarios = [by_name[name] for name in asked.scenarios.split(",")]
        asked.methods = asked.methods.split(",")
        list(map(METHODS.__getitem__, asked.methods))
    except KeyError as error:
        parser.error(f"there is no {error}")
    except ValueError as error:
        parser.error(str(error))
    return asked


def main() -> None:
    asked = asked_for()
    if os.geteuid() != 0:
        sys.exit("bench_migration builds labs: it takes root")
    if lab_namespaces():
        sys.exit("a lab is up, and the benchmark would remove it: transhume lab down")
    found = []
    for section in sections(asked):
        found.append(section)
        show(section, asked.methods)
        target = record(found, asked)
    print(f"{EXPLAINED}\nwritten to {os.path.relpath(target)}")


if __name__ == "__main__":
    main()
