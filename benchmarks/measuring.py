"""Measuring commands against each other: interleaved runs, medians of CPU time, ratios, the machine's facts.

CPU time (user and system, of the process and of all children it has waited for) rather than the clock's,
because it hardly changes when something else runs on the machine; interleaved, so that what does change hits
all alike. Each contender runs once unmeasured first, which fills the page cache and writes Python's bytecode.
"""

import json
import os
import platform
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

RESULTS = Path(__file__).parents[1] / "build" / "bench"
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    # What makes Python slower to start for us isn't what users have.
    if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONDEVMODE", "PYTHONWARNINGS")
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A command to measure; with no command it isn't installed, and the table says so."""

    name: str
    command: tuple[str, ...] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one run took, in seconds."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The runs of one contender; none where it isn't installed."""

    name: str
    runs: tuple[Run, ...]

    @property
    def cpu(self) -> float:
        """The median of CPU seconds."""
        return median(run.cpu for run in self.runs)

    @property
    def wall(self) -> float:
        """The median of the clock's seconds."""
        return median(run.wall for run in self.runs)


def measure(contenders: Sequence[Contender], *, rounds: int) -> tuple[Result, ...]:
    """Run all contenders once each round, a different one first each time."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    there = [(each.name, each.command) for each in contenders if each.command is not None]
    for _, command in there:
        run(command)
    for number in range(rounds):
        first = number % len(there)
        for name, command in (*there[first:], *there[:first]):
            runs[name].append(run(command))
    return tuple(Result(name=name, runs=tuple(found)) for name, found in runs.items())


def run(command: Sequence[str]) -> Run:
    """Run a command to its end; what it says goes nowhere.

    Raises:
        CalledProcessError: it failed.
    """
    began = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    )
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.monotonic() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Run(cpu=usage.ru_utime + usage.ru_stime, wall=wall)


def report(
    name: str, title: str, results: Sequence[Result], *, reference: str, facts: Mapping[str, object]
) -> None:
    """Print a table of medians, as ratios to a reference too, and write all runs to build/bench/NAME.json."""
    base = next((each.cpu for each in results if each.name == reference and each.runs), None)
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("command")
    for column in ("CPU s", "ratio", "wall s", "runs"):
        table.add_column(column, justify="right")
    for each in results:
        table.add_row(each.name, *_figures(each, base))
    console = Console(highlight=False, markup=False)
    console.print(table)
    console.print(f"medians; ratios of CPU time to {reference}")
    target = RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(_record(results, base, facts), indent=2) + "\n", encoding="utf-8")
    console.print(f"written to {os.path.relpath(target)}")


def _figures(result: Result, base: float | None) -> tuple[str, ...]:
    if not result.runs:
        return "not installed", "–", "–", "0"
    ratio = f"{result.cpu / base:.2f}" if base else "–"
    return f"{result.cpu:.3f}", ratio, f"{result.wall:.3f}", str(len(result.runs))


def _record(
    results: Sequence[Result], base: float | None, facts: Mapping[str, object]
) -> dict[str, object]:
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        "facts": dict(facts),
        "results": [
            {
                "name": each.name,
                "installed": bool(each.runs),
                "cpu_seconds": each.cpu if each.runs else None,
                "wall_seconds": each.wall if each.runs else None,
                "ratio": each.cpu / base if each.runs and base else None,
                "runs": [asdict(run) for run in each.runs],
            }
            for each in results
        ],
    }


def _machine() -> dict[str, object]:
    models = (
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text("utf-8").splitlines()
        if line.startswith("model name")
    )
    return {
        "cpu": next(models, platform.machine()),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kernel": platform.release(),
    }
