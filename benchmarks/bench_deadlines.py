"""What deadline policies cost as the changeover shrinks: 48 h of work in 60 h, at random starts.

On generated availability of four zones in two regions, and on recorded ones where `--traces DIR` names a folder
with a file for each zone; without it, that part is left out, and the benchmark says so. Uniform Progress
is given all zones too, and takes any that is there. A second table has each zone by itself, on average.
"""

import argparse
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import WIDTH, keep
from transhume.cli.availability_files import load_availability
from transhume.plan.deadline import (
    POLICIES,
    Availability,
    Comparison,
    Job,
    cases_of,
    compare_policies,
    generate,
)

HOUR = 3600.0
WORK_SECONDS, DEADLINE_SECONDS = 48 * HOUR, 60 * HOUR
CHANGEOVERS_MINUTES = (12.0, 6.0, 3.0, 1.2)
SPOT_DOLLARS, ON_DEMAND_DOLLARS = 0.9731, 3.06
"""Of the paper on Uniform Progress, an hour of a machine with one V100."""
GENERATED_TICK_SECONDS, GENERATED_DAYS = 195.0, 28
SEED = 7
OURS, BASELINE = "foresight", "uniform-progress"


def compare_all(
    availability: Availability, *, starts: int, alone: bool
) -> Iterator[tuple[float, Comparison]]:
    """Yield each changeover in minutes, and what the policies came to."""
    for minutes in CHANGEOVERS_MINUTES:
        job = Job(
            work_seconds=WORK_SECONDS,
            deadline_seconds=DEADLINE_SECONDS,
            changeover_seconds=minutes * 60,
        )
        cases = cases_of(
            availability,
            job,
            spot_dollars_per_hour=SPOT_DOLLARS,
            on_demand_dollars_per_hour=ON_DEMAND_DOLLARS,
            starts=starts,
            seed=SEED,
            alone=alone,
        )
        yield minutes, compare_policies(job, cases, tuple(POLICIES))


def show(console: Console, title: str, found: list[tuple[float, Comparison]]) -> bool:
    """Print a table, and return whether ours was cheaper than Uniform Progress everywhere, and in time."""
    shown = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("changeover", justify="right")
    shown.add_column("policy", no_wrap=True)
    for column in ("cost", "of on demand", "h on demand", "h on spot", "moves", "missed"):
        shown.add_column(column, justify="right")
    kept = True
    for minutes, comparison in found:
        costs = {each.policy: each.cost_dollars for each in comparison.averages}
        missed = sum(each.missed for each in comparison.averages)
        kept &= costs[OURS] < costs[BASELINE] and not missed
        for each in comparison.averages:
            shown.add_row(
                f"{minutes:g} min",
                each.policy,
                f"${each.cost_dollars:.2f}",
                f"{each.share_of_on_demand:.1%}",
                f"{each.on_demand_hours:.1f}",
                f"{each.spot_hours:.1f}",
                f"{each.moves:.1f}",
                f"{each.missed} of {comparison.cases}",
            )
        shown.add_row(
            f"{minutes:g} min",
            "lower bound",
            f"${comparison.bound_dollars:.2f}",
            f"{comparison.bound_share_of_on_demand:.1%}",
            end_section=True,
        )
    console.print(shown)
    return kept


def main() -> None:
    asked = argparse.ArgumentParser(description=__doc__)
    asked.add_argument("--traces", type=Path, help="a folder with a .json file for each zone")
    asked.add_argument("--starts", type=int, default=100)
    given = asked.parse_args()
    console = Console(highlight=False, markup=False, width=WIDTH)
    ticks = int(GENERATED_DAYS * 24 * HOUR / GENERATED_TICK_SECONDS)
    sources = {"generated": generate(ticks=ticks, tick_seconds=GENERATED_TICK_SECONDS, seed=SEED)}
    if given.traces:
        sources["recorded"] = load_availability(given.traces)
    else:
        console.print("LEFT OUT: recorded availability; name its folder by --traces DIR\n")
    sections = []
    for source, availability in sources.items():
        for alone in (False, True):
            starts = max(1, given.starts // len(availability.zones)) if alone else given.starts
            found = list(compare_all(availability, starts=starts, alone=alone))
            scope = "each zone alone" if alone else f"{len(availability.zones)} zones"
            kept = show(console, f"48 h of work in 60 h, {source}, {scope}", found)
            verdict = "kept" if kept else "not so" if alone else "BROKEN"
            console.print(f"{verdict}: {OURS} costs less than {BASELINE}, and nothing is late\n")
            sections += [
                {"source": source, "scope": scope, "changeover_minutes": minutes, **asdict(each)}
                for minutes, each in found
            ]
    console.print(f"written to {keep('deadlines', {'seed': SEED, 'sections': sections}).name}")


if __name__ == "__main__":
    main()
