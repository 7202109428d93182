"""How good plans are: the gap to a certified lower bound, by size of the instance, beside simpler ways.

Each row is a size, each of its instances a seed. All gaps are to the best bound known of the instance (ours, or
the provers' where they looked), so they are what a plan costs too much *at most*. Beside ours: staying put; and
the greedy way, in which each VM in turn goes where that saves most until nothing saves anything. Small ones
go through `transhume.plan.prove` too, as the planner's problems of that size do: told are how many were proved,
and the time of the whole (a quick search, then toulbar2 and HiGHS side by side, in new processes).

Beside peers: CP-SAT, HiGHS and METIS (see `plan_peers`) plan the first few instances of each size.

`python -m benchmarks.bench_plan [--seeds N] [--peer-seeds M] [--rows 20x4,1000x10]`. Compiling isn't measured.
"""

import argparse
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import TypeVar

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.instances import make_instance
from benchmarks.measuring import WIDTH, keep
from benchmarks.plan_peers import (
    PEERS,
    Answer,
    add_missing,
    add_row,
    ask,
    installed,
    new_table,
    record,
)
from transhume.plan.prove.proving import prove
from transhume.plan.scale import Effort, is_feasible, solve
from transhume.plan.scale.descent import descend
from transhume.plan.scale.level import level_of
from transhume.plan.scale.solving import effort_within

SWEEPS = 1000
_Found = TypeVar("_Found")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A size of instances, and the time that each way may take."""

    vms: int
    clouds: int
    seconds: float
    prover_seconds: float = 0.0
    """For the provers; they aren't asked where that's 0."""

    @property
    def name(self) -> str:
        """How the row is called on the command line."""
        return f"{self.vms}x{self.clouds}"


ROWS = (
    Row(vms=20, clouds=4, seconds=0.3, prover_seconds=60),
    Row(vms=60, clouds=6, seconds=2, prover_seconds=60),
    Row(vms=100, clouds=6, seconds=3, prover_seconds=60),
    Row(vms=1_000, clouds=10, seconds=5),
    Row(vms=10_000, clouds=20, seconds=12),
    Row(vms=10_000, clouds=50, seconds=40),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """What became of one instance; money in micro-dollars."""

    seed: int
    bound: int
    ours: int
    seconds: float
    greedy: int
    greedy_seconds: float
    home: int
    prover: int | None
    """What the plan costs that the provers end with."""
    prover_bound: int | None
    prover_seconds: float | None

    def gap(self, cost: int) -> float:
        """Return by how much a cost can be above the best, as a share."""
        best = max(self.bound, self.prover_bound or 0)
        return cost / best - 1

    @property
    def found_the_best(self) -> bool:
        """Whether the search alone found the best there is, as the provers tell."""
        return self.gap(self.ours) <= 0

    @property
    def best_proved(self) -> bool:
        """Whether the provers came to a proof."""
        return self.prover is not None and self.prover == self.prover_bound


def measure(row: Row, seed: int) -> Measured:
    """Plan one instance in each way."""
    instance = make_instance(row.vms, row.clouds, seed=seed)
    began = time.monotonic()
    outcome = solve(instance, seed=seed, effort=effort_within(instance, row.seconds))
    seconds = time.monotonic() - began
    level = level_of(instance)
    order = np.random.default_rng(seed).permutation(instance.vm_count)
    greedy, greedy_seconds = _timed(lambda: descend(level, instance.home, SWEEPS, order))
    assert is_feasible(instance, outcome.assignment)
    assert is_feasible(instance, greedy)
    best, bound, prover_seconds = None, None, None
    if row.prover_seconds:
        proof, prover_seconds = _timed(
            lambda: prove(instance, seconds=row.prover_seconds, seed=seed)
        )
        best, bound = proof.cost, proof.bound
        assert is_feasible(instance, proof.assignment)
    return Measured(
        seed=seed,
        bound=outcome.bound,
        ours=outcome.cost,
        seconds=seconds,
        greedy=instance.cost(greedy),
        greedy_seconds=greedy_seconds,
        home=instance.cost(instance.home),
        prover=best,
        prover_bound=bound,
        prover_seconds=prover_seconds,
    )


def _timed(work: Callable[[], _Found]) -> tuple[_Found, float]:
    began = time.monotonic()
    return work(), time.monotonic() - began


def main() -> None:
    rows, seeds, peer_seeds = _arguments()
    console = Console(highlight=False, markup=False, width=WIDTH)
    warm = make_instance(40, 4, seed=0)
    solve(warm, effort=Effort(rounds=3, cycles=3))
    found: list[tuple[Row, list[Measured]]] = []
    for row in rows:
        console.print(f"{row.name}: {seeds} instances, {row.seconds:g} s each")
        found.append((row, [measure(row, seed) for seed in range(1, seeds + 1)]))
    console.print(_table(found))
    answers = {row.name: _ask_peers(row, measured[:peer_seeds]) for row, measured in found}
    if peer_seeds:
        console.print(_beside_peers(found, answers))
    target = keep(
        "plan",
        {
            "facts": {"seeds": seeds, "peer_seeds": peer_seeds},
            "peers": {row: [record(each) for each in said] for row, said in answers.items()},
            "rows": [
                asdict(row) | {"name": row.name, "instances": [_record(each) for each in measured]}
                for row, measured in found
            ],
        },
    )
    load = os.getloadavg()[0]
    console.print(
        f"load {load:.1f} on {os.cpu_count()} processors; written to {os.path.relpath(target)}"
    )


def _ask_peers(row: Row, measured: Sequence[Measured]) -> list[Answer]:
    """Let every peer that is installed plan the first of the instances."""
    return [
        ask(
            peer,
            vms=row.vms,
            clouds=row.clouds,
            seed=each.seed,
            seconds=row.seconds,
            gap=each.gap,
        )
        for peer in PEERS
        if installed(peer)
        for each in measured
    ]


def _beside_peers(
    found: Sequence[tuple[Row, Sequence[Measured]]], answers: Mapping[str, Sequence[Answer]]
) -> Table:
    table = new_table()
    for row, measured in found:
        asked = {each.seed for each in answers[row.name]}
        ours = [each for each in measured if each.seed in asked]
        if ours:
            mine = [_answer("ours", each, each.ours, each.seconds) for each in ours]
            add_row(table, row.name, "ours", mine)
            greedy = [_answer("greedy", each, each.greedy, each.greedy_seconds) for each in ours]
            add_row(table, row.name, "greedy", greedy)
        for peer in PEERS:
            said = [each for each in answers[row.name] if each.peer == peer.name]
            if said:
                add_row(table, row.name, peer.shown, said)
            else:
                add_missing(table, row.name, peer)
    return table


def _answer(name: str, measured: Measured, cost: int, seconds: float) -> Answer:
    return Answer(
        peer=name,
        seed=measured.seed,
        cost=cost,
        gap=measured.gap(cost),
        seconds=seconds,
        building_seconds=0.0,
        note="",
    )


def _arguments() -> tuple[tuple[Row, ...], int, int]:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=20, help="instances of each size")
    parser.add_argument("--peer-seeds", type=int, default=3, help="of these, how many for peers")
    parser.add_argument("--rows", default=",".join(row.name for row in ROWS), help="sizes")
    asked = parser.parse_args()
    wanted = asked.rows.split(",")
    return tuple(row for row in ROWS if row.name in wanted), asked.seeds, asked.peer_seeds


def _record(measured: Measured) -> dict[str, object]:
    return asdict(measured) | {"gap": measured.gap(measured.ours)}


def _table(found: Sequence[tuple[Row, Sequence[Measured]]]) -> Table:
    table = Table(title="Plans", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("VMs x clouds", no_wrap=True)
    for column in ("gap", "worst", "best there is", "s", "greedy", "worst", "stay", "proved", "s"):
        table.add_column(column, justify="right")
    for row, measured in found:
        asked = any(each.prover is not None for each in measured)
        table.add_row(
            row.name,
            *_gaps(measured, [each.ours for each in measured]),
            f"{sum(each.found_the_best for each in measured)} of {len(measured)}" if asked else "–",
            f"{median(each.seconds for each in measured):.1f}",
            *_gaps(measured, [each.greedy for each in measured]),
            _gaps(measured, [each.home for each in measured])[0],
            f"{sum(each.best_proved for each in measured)} of {len(measured)}" if asked else "–",
            f"{median(each.prover_seconds or 0.0 for each in measured):.1f}" if asked else "–",
        )
    table.caption = "gaps to the best bound known: medians and worst; seconds: medians"
    return table


def _gaps(measured: Sequence[Measured], costs: Sequence[int]) -> tuple[str, str]:
    gaps = [each.gap(cost) for each, cost in zip(measured, costs, strict=True)]
    return f"{median(gaps):.2%}", f"{max(gaps):.2%}"


if __name__ == "__main__":
    main()
