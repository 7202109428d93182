"""How long a year takes: policies for 100 VMs replayed at ticks of a minute, on one processor.

The trace is generated (`benchmarks.traces`): hourly prices of four clouds, traffic that changes four times a
day, two clouds that go twice a month with ten minutes' notice. Seconds are processor time: of reading the
trace, and of each policy with staying put beside it.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import WIDTH, keep
from benchmarks.traces import write_trace
from transhume.cli.trace_files import load_trace
from transhume.policies.loader import load_policy, parse_policy
from transhume.replaying import Alternative, Run, compare

CAREFUL = Path("policies/cheap-but-on-time.yaml")
KEEN = b"""\
policy: keen
mode: auto
keep_together: {measured: true, cut_above: 1MB/s}
price: {payback: 6h}
availability: {evacuate_on_notice: true}
elective: {min_gain: 2%, hold: 10m, cooldown: 6h, budget: [{moves: 20, per: 1h}]}
"""
"""Moves for little: what makes a replay slow."""


def main() -> None:
    """Replay, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vms", type=int, default=100)
    parser.add_argument("--days", type=int, default=365)
    given = parser.parse_args()
    policies = (load_policy(CAREFUL), parse_policy(KEEN, "keen.yaml").policy)
    with TemporaryDirectory() as folder:
        write_trace(Path(folder), vms=given.vms, days=given.days)
        began = time.process_time()
        trace = load_trace(Path(folder))
        reading = time.process_time() - began
    table = Table(box=SIMPLE_HEAD, title=f"{given.vms} VMs, {given.days} days at 1-minute ticks")
    table.add_column("policy")
    for column in ("CPU seconds", "planner asked", "moves", "early", "paid"):
        table.add_column(column, justify="right")
    table.add_row("(reading the trace)", f"{reading:.1f}")
    figures: dict[str, object] = {"reading_seconds": reading}
    for policy in policies:
        began = time.process_time()
        found = compare(trace, [Alternative(name=policy.name, policies=(policy,))])
        seconds = time.process_time() - began
        run = found.runs[-1]
        table.add_row(*_row(run, seconds))
        figures[run.name] = {"seconds": seconds, "asked": run.asked, "moves": len(run.moves)}
    Console(width=WIDTH).print(table)
    keep("replay", figures)


def _row(run: Run, seconds: float) -> tuple[str, ...]:
    moves = run.mandatory_moves + run.elective_moves
    return (
        run.name,
        f"{seconds:.1f}",
        f"{run.asked:,}",
        f"{moves:,}",
        f"{run.moves_within_cooldown}",
        f"${run.paid_dollars:,.0f}",
    )


if __name__ == "__main__":
    main()
