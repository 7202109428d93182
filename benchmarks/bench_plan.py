"""How good plans are: the gap to a certified lower bound, by size of the instance, beside simpler ways.

Each row is a size, each of its instances a seed. All gaps are to the best bound known of the instance (ours, or
HiGHS's where that looked), so they are what a plan costs too much *at most*. Beside ours: staying put; and the
greedy way, in which each VM in turn goes where that saves most until nothing saves anything. For small
instances HiGHS, through SciPy, proves how good plans really are, by the local polytope's formulation.

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
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import coo_array

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
from transhume.plan.scale import Effort, Instance, is_feasible, solve
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
    """For HiGHS; it isn't asked where that's 0."""

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
    """What HiGHS's best plan costs."""
    prover_bound: int | None
    prover_seconds: float | None

    def gap(self, cost: int) -> float:
        """Return by how much a cost can be above the best, as a share."""
        best = max(self.bound, self.prover_bound or 0)
        return cost / best - 1

    @property
    def proved(self) -> bool:
        """Whether our plan is the best there is, as far as HiGHS can tell (to a millionth)."""
        return self.gap(self.ours) <= 1e-6


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
        (best, bound), prover_seconds = _timed(lambda: prove(instance, row.prover_seconds))
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


def prove(instance: Instance, seconds: float) -> tuple[int | None, int]:
    """Return what HiGHS's best plan costs (None where it found none), and the bound that it proved.

    A variable for each VM and cloud, one for each pair and two clouds, which sum up to the ends' variables.
    """
    vms, clouds = instance.vm_count, instance.cloud_count
    pairs = len(instance.pairs)
    place = np.arange(vms * clouds).reshape(vms, clouds)
    split = vms * clouds + np.arange(pairs * clouds * clouds).reshape(pairs, clouds, clouds)
    forth, back = instance.traffic.T[:, :, None, None]
    crossing = forth * instance.price + back * instance.price.T
    together = instance.apart[:, None, None] & np.eye(clouds, dtype=np.bool_)
    rows = _Rows()
    rows.add(place, 1, 1, 1)
    for end, axis in ((0, 2), (1, 1)):
        sums = split if axis == 2 else split.transpose(0, 2, 1)
        ends = place[instance.pairs[:, end]].reshape(-1, 1)
        each = np.hstack([sums.reshape(-1, clouds), ends])
        rows.add(each, np.r_[np.ones(clouds), -1], 0, 0)
    for resource in range(instance.size.shape[1]):
        rows.add(place.T, instance.size[:, resource], -np.inf, instance.capacity[:, resource])
    away = np.arange(clouds) != instance.home[:, None]
    moves = (away * instance.machines[:, None]).ravel()
    rows.add(place.reshape(1, -1), moves, -np.inf, instance.move_limit)
    result = milp(
        np.r_[instance.unary.ravel(), crossing.ravel()] / 1e6,
        integrality=np.r_[np.ones(vms * clouds), np.zeros(crossing.size)],
        bounds=Bounds(0, np.r_[instance.allowed.ravel(), ~together.ravel()].astype(float)),
        constraints=rows.constraint(vms * clouds + crossing.size),
        options={"time_limit": seconds, "mip_rel_gap": 1e-7},
    )
    bound = int((result.mip_dual_bound or 0.0) * 1e6)
    if result.x is None:
        return None, bound
    found = result.x[: vms * clouds].reshape(vms, clouds).argmax(axis=1)
    assert is_feasible(instance, found)
    return instance.cost(found), min(bound, instance.cost(found))


class _Rows:
    """Rows of a linear program, added many of a kind at a time."""

    def __init__(self) -> None:
        self._entries: list[tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]] = []
        self._limits: list[NDArray[np.float64]] = []
        self._count = 0

    def add(self, columns: NDArray[np.int64], values: object, least: object, most: object) -> None:
        """Add a row for each row of columns, all with the same coefficients."""
        count = len(columns)
        at = np.repeat(self._count + np.arange(count), columns.shape[1])
        coefficients = np.broadcast_to(np.asarray(values, dtype=np.float64), columns.shape)
        self._entries.append((at, columns.ravel(), coefficients.ravel()))
        limits = [
            np.broadcast_to(np.asarray(each, dtype=np.float64), count) for each in (least, most)
        ]
        self._limits.append(np.stack(limits, 1))
        self._count += count

    def constraint(self, columns: int) -> LinearConstraint:
        """Return all of them."""
        at, column, value = (np.concatenate(part) for part in zip(*self._entries, strict=True))
        matrix = coo_array((value, (at, column)), shape=(self._count, columns)).tocsr()
        least, most = np.concatenate(self._limits).T
        return LinearConstraint(matrix, least, most)


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
    for column in ("gap", "worst", "best there is", "s", "greedy", "worst", "stay", "HiGHS", "s"):
        table.add_column(column, justify="right")
    for row, measured in found:
        proved = [each.prover for each in measured if each.prover is not None]
        table.add_row(
            row.name,
            *_gaps(measured, [each.ours for each in measured]),
            f"{sum(each.proved for each in measured)} of {len(measured)}" if proved else "–",
            f"{median(each.seconds for each in measured):.1f}",
            *_gaps(measured, [each.greedy for each in measured]),
            _gaps(measured, [each.home for each in measured])[0],
            _gaps(measured, proved)[0] if len(proved) == len(measured) else "–",
            f"{median(each.prover_seconds or 0.0 for each in measured):.1f}" if proved else "–",
        )
    table.caption = "gaps to the best bound known: medians and worst; seconds: medians"
    return table


def _gaps(measured: Sequence[Measured], costs: Sequence[int]) -> tuple[str, str]:
    gaps = [each.gap(cost) for each, cost in zip(measured, costs, strict=True)]
    return f"{median(gaps):.2%}", f"{max(gaps):.2%}"


if __name__ == "__main__":
    main()
