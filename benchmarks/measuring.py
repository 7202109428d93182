"""Measuring commands against each other: interleaved runs, medians of CPU time, ratios, the machine's facts.

CPU time (user and system, of the process and of all children it has waited for) rather than the clock's,
because it hardly changes when something else runs on the machine; interleaved, so that what does change hits
all alike. Each contender runs once unmeasured first, which fills the page cache and writes Python's bytecode.

A contender that tells its own CPU time repeats its work within one process and prints a line of JSON each time,
`{"cpu": …, "wall": …}`: that is how work is measured without the start-up around it.
"""

import json
import os
import platform
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

WIDTH = 120
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
    frames: int | None = None
    """How many frames it reads: then contenders compare by rate, and a slow one may read fewer."""
    share: float | None = None
    """The bytes that it tells, over those that are there; None where it tells none."""
    most_runs: int | None = None
    """Stop after so many runs, where one takes long."""
    tells_cpu: bool = False


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
    frames: int | None = None
    share: float | None = None

    @property
    def cpu(self) -> float:
        """The median of CPU seconds."""
        return median(run.cpu for run in self.runs)

    @property
    def wall(self) -> float:
        """The median of the clock's seconds."""
        return median(run.wall for run in self.runs)

    @property
    def cost(self) -> float:
        """CPU seconds, of a frame where frames are counted: what ratios compare."""
        return self.cpu / (self.frames or 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """Contenders that were measured together: one table."""

    title: str
    results: Sequence[Result]
    reference: str
    name: str = ""

    def ratio(self, contender: str) -> float | None:
        """Return how often a contender takes the reference's CPU time; None where one didn't run."""
        found = next((each for each in self.results if each.name == contender and each.runs), None)
        return found.cost / self.base.cost if found and self.base else None

    @property
    def base(self) -> Result | None:
        """What the others are compared to, where it ran."""
        found = (each for each in self.results if each.name == self.reference and each.runs)
        return next(found, None)


def measure(contenders: Sequence[Contender], *, rounds: int) -> tuple[Result, ...]:
    """Run all contenders once each round, a different one first each time."""
    runs: dict[str, list[Run]] = {contender.name: [] for contender in contenders}
    there = [(each, each.command) for each in contenders if each.command is not None]
    for _, command in there:
        run(command)
    for number in range(rounds):
        first = number % max(len(there), 1)
        for each, command in (*there[first:], *there[:first]):
            if number < (each.most_runs or rounds):
                runs[each.name] += told_runs(command) if each.tells_cpu else [run(command)]
    return tuple(
        Result(name=each.name, runs=tuple(runs[each.name]), frames=each.frames, share=each.share)
        for each in contenders
    )


def run(command: Sequence[str]) -> Run:
    """Run a command to its end; what it says goes nowhere, unless it fails.

    Raises:
        CalledProcessError: it failed.
    """
    with tempfile.TemporaryFile() as said:
        began = time.monotonic()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said, env=ENVIRONMENT)
        _, status, usage = os.wait4(process.pid, 0)
        wall = time.monotonic() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise subprocess.CalledProcessError(process.returncode, command, stderr=said.read())
    return Run(cpu=usage.ru_utime + usage.ru_stime, wall=wall)


def told_runs(command: Sequence[str]) -> list[Run]:
    """Run a command that measures itself, and return all its runs but the first, which warms it up.

    Raises:
        CalledProcessError: it failed.
    """
    done = subprocess.run(command, check=True, capture_output=True, env=ENVIRONMENT)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [Run(cpu=line["cpu"], wall=line["wall"]) for line in lines[1:]]


def report(
    name: str, title: str, results: Sequence[Result], *, reference: str, facts: Mapping[str, object]
) -> None:
    """Print a table of medians, as ratios to a reference too, and write all runs to build/bench/NAME.json."""
    report_sections(name, [Section(title=title, results=results, reference=reference)], facts=facts)


def report_sections(
    name: str, sections: Iterable[Section], *, facts: Mapping[str, object]
) -> tuple[Section, ...]:
    """Print a table for each section as it comes, then write all runs to build/bench/NAME.json."""
    console = Console(highlight=False, markup=False, width=WIDTH)
    shown = []
    for section in sections:
        console.print(_table(section))
        console.print(f"medians; ratios of CPU time to {section.reference}\n")
        shown.append(section)
    target = keep(name, {"facts": dict(facts), "sections": [_record(each) for each in shown]})
    machine = ", ".join(f"{key} {value}" for key, value in _machine().items())
    console.print(f"{machine}\nwritten to {os.path.relpath(target)}")
    return tuple(shown)


def keep(name: str, found: Mapping[str, object]) -> Path:
    """Write what was found, when and on what machine to build/bench/NAME.json, and return the path."""
    target = RESULTS / f"{name}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    record = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": _machine(),
        **found,
    }
    target.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return target


def _table(section: Section) -> Table:
    table = Table(title=section.title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    by_frame = any(each.frames for each in section.results)
    shared = any(each.share is not None for each in section.results)
    table.add_column("command", no_wrap=True)
    for column in ("CPU s", "ratio", "wall s", "runs"):
        table.add_column(column, justify="right")
    if by_frame:
        table.add_column("frames", justify="right")
        table.add_column("frames / CPU s", justify="right")
    if shared:
        table.add_column("bytes told / true", justify="right")
    for each in section.results:
        rate = _rate(each) if by_frame else ()
        share = (f"{each.share:.3f}" if each.share is not None else "–",) if shared else ()
        table.add_row(each.name, *_figures(each, section), *rate, *share)
    return table


def _figures(result: Result, section: Section) -> tuple[str, ...]:
    if not result.runs:
        return "not installed", "–", "–", "0"
    ratio = section.ratio(result.name)
    told = "–" if ratio is None else f"{ratio:.3g}"
    return f"{result.cpu:.3f}", told, f"{result.wall:.3f}", str(len(result.runs))


def _rate(result: Result) -> tuple[str, ...]:
    if not (result.runs and result.frames):
        return "–", "–"
    return f"{result.frames:,}", f"{result.frames / result.cpu:,.0f}"


def _record(section: Section) -> dict[str, object]:
    return {
        "name": section.name,
        "title": section.title,
        "reference": section.reference,
        "results": [
            {
                "name": each.name,
                "installed": bool(each.runs),
                "frames": each.frames,
                "cpu_seconds": each.cpu if each.runs else None,
                "wall_seconds": each.wall if each.runs else None,
                "ratio": section.ratio(each.name),
                "frames_per_cpu_second": 1 / each.cost if each.runs and each.frames else None,
                "bytes_share": each.share,
                "runs": [asdict(run) for run in each.runs],
            }
            for each in section.results
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
        "load": round(os.getloadavg()[0], 2),
    }
