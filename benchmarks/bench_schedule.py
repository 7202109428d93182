"""How long schedules are, over the lower bound of any, beside simpler ways to carry out the same moves.

The moves lead from a virtual cluster's scattered home to what the planner for thousands makes of it
(`instances`), over links of 1 to 10 Gb/s, one migration at a time on each, with what guests rewrite
meanwhile. Three rooms: what the clouds have; 1.02 times what they hold before or after, whichever is more; and
exactly that. The lower bound is the busiest link's work, or the longest move. (A VM that is parked goes
by other links: then it's the bound of the ways that ours takes, and the polish may be below it.)

Up to 50 moves, what CP-SAT makes of our schedule is told as well. "full": four clouds, each with the room of
one VM and equal links.

Beside ours: the moves in chunks of two, each when the one before has ended (the way of OpenStack Watcher, by
its default parallelism; a model of it, not its code); at most eight at a time; and as many as may at a time,
first come, first served. The last two wait for room; where that ends in a deadlock, they are stuck for good.
Chunks are given the room that they may not have.

`python -m benchmarks.bench_schedule [--seeds N] [--moves 500,5000]`.
"""

import argparse
import heapq
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.instances import make_instance
from benchmarks.measuring import WIDTH, keep
from transhume.knowledge.model import CloudName, HostName, Resources, VmName
from transhume.plan.scale import Effort, Instance, solve
from transhume.plan.schedule import Berth, Move, Terms, lower_bound, schedule
from transhume.plan.schedule.polish import Polish
from transhume.plan.settings import PlannerSettings

SIZES = {50: (100, 6, 1.0), 500: (1_000, 10, 3.0), 5_000: (10_000, 20, 10.0)}
"""VMs, clouds, and seconds of planning, by about how many moves come of it."""
ROOMS = {"as it is": None, "1.02": 1.02, "1.00": 1.0}
GIGABIT = 1.25e8
OVERHEAD_SECONDS = 1.0
POLISH = Polish(most_moves=50, effort=PlannerSettings().polish_effort)
WATCHER, EIGHT, FIFO = "chunks of 2", "8 at a time", "first come"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One instance, with each way's makespan in seconds."""

    seed: int
    room: str
    moves: int
    bound: float
    ours: float
    cpu_seconds: float
    polished: float
    """Ours after CP-SAT; the same where that isn't asked."""
    parked: int
    stuck: int
    peers: dict[str, float]


def cases(size: int, seed: int) -> Iterator[tuple[str, list[Move], Terms]]:
    """Yield the moves of one instance, in three rooms."""
    vms, clouds, seconds = SIZES[size]
    instance = make_instance(vms, clouds, seed=seed)
    began = time.monotonic()
    outcome = solve(
        instance,
        seed=seed,
        effort=Effort(rounds=100_000, cycles=1_000_000),
        spent=lambda: (time.monotonic() - began) / seconds,
    )
    moves, rates = make_moves(instance, outcome.assignment, seed)
    for room, tight in ROOMS.items():
        yield room, moves, make_terms(instance, outcome.assignment, tight, rates)
    if size <= POLISH.most_moves:
        yield "full", *full_clouds(size, seed)


def full_clouds(count: int, seed: int) -> tuple[list[Move], Terms]:
    """Return moves among four clouds that have the room of one VM each to spare, before and after."""
    chance = np.random.default_rng(seed)
    here = np.arange(count) % 4
    there = (here + chance.integers(1, 4, count)) % 4
    rates = np.full((4, 4), 5 * GIGABIT)
    sizes = chance.choice([2, 4, 8], count)
    room = np.bincount(here, sizes, 4), np.bincount(there, sizes, 4)
    free = np.maximum(*room) - room[0] + sizes.max()
    moves = [
        Move(
            vm=VmName(f"vm{n}"),
            source=HostName(f"h{here[n]}"),
            destination=HostName(f"h{there[n]}"),
            source_cloud=CloudName(f"c{here[n]}"),
            destination_cloud=CloudName(f"c{there[n]}"),
            needs=Resources(vcpus=int(sizes[n]), memory_bytes=int(sizes[n])),
            seconds=_seconds(float(sizes[n]), dirty, float(rates[here[n], there[n]])),
            unit=f"vm{n}",
        )
        for n, dirty in enumerate(chance.uniform(0, 0.5 * GIGABIT, count).tolist())
    ]
    terms = Terms(
        free={
            HostName(f"h{k}"): Resources(vcpus=int(each), memory_bytes=int(each))
            for k, each in enumerate(free)
        },
        cloud_of={move.vm: move.source_cloud for move in moves},
    )
    return moves, terms


def make_moves(
    instance: Instance, target: NDArray[np.int64], seed: int
) -> tuple[list[Move], NDArray[np.float64]]:
    """Return the moves from home to a target in no particular order, and the rate of each link."""
    chance = np.random.default_rng(seed + 99)
    clouds = instance.cloud_count
    rates = GIGABIT * chance.choice([1.0, 2.0, 5.0, 10.0], (clouds, clouds), p=[0.2, 0.3, 0.3, 0.2])
    rates = np.minimum(rates, rates.T)
    moved = chance.permutation(np.flatnonzero(target != instance.home))
    dirty = chance.uniform(0, 0.5 * GIGABIT, len(moved))
    return [
        _move(instance, int(vm), int(target[vm]), rates, float(rewritten))
        for vm, rewritten in zip(moved, dirty, strict=True)
    ], rates


def _move(
    instance: Instance, vm: int, there: int, rates: NDArray[np.float64], dirty: float
) -> Move:
    here = int(instance.home[vm])
    vcpus, gigabytes = (int(amount) for amount in instance.size[vm])
    return Move(
        vm=VmName(f"vm{vm}"),
        source=HostName(f"h{here}"),
        destination=HostName(f"h{there}"),
        source_cloud=CloudName(f"c{here}"),
        destination_cloud=CloudName(f"c{there}"),
        needs=Resources(vcpus=vcpus, memory_bytes=gigabytes),
        seconds=_seconds(gigabytes, dirty, float(rates[here, there])),
        unit=f"vm{vm}",
    )


def _seconds(gigabytes: float, dirty: float, rate: float) -> float:
    """Return how long a move takes: what is rewritten meanwhile is sent once more, and again."""
    return gigabytes * 1e9 / (rate - dirty) + OVERHEAD_SECONDS


def make_terms(
    instance: Instance, target: NDArray[np.int64], tight: float | None, rates: NDArray[np.float64]
) -> Terms:
    """Return what the moves have to heed; a VM may be parked in any cloud."""
    before, after = np.zeros_like(instance.capacity), np.zeros_like(instance.capacity)
    np.add.at(before, instance.home, instance.size)
    np.add.at(after, target, instance.size)
    capacity = np.maximum(instance.capacity, np.maximum(before, after))
    if tight is not None:
        capacity = np.floor(np.maximum(before, after) * tight).astype(np.int64)
    free = capacity - before

    def berths(move: Move) -> Sequence[Berth]:
        here, there = int(move.source[1:]), int(move.destination[1:])
        size = move.needs.memory_bytes
        return [
            Berth(
                host=HostName(f"h{k}"),
                cloud=CloudName(f"c{k}"),
                seconds_in=_seconds(size, 0.25 * GIGABIT, float(rates[here, k])),
                seconds_out=_seconds(size, 0.25 * GIGABIT, float(rates[k, there])),
                dollars=float(size),
            )
            for k in range(instance.cloud_count)
            if k not in (here, there)
        ]

    return Terms(
        free={
            HostName(f"h{k}"): Resources(vcpus=int(v), memory_bytes=int(m))
            for k, (v, m) in enumerate(free)
        },
        cloud_of={VmName(f"vm{n}"): CloudName(f"c{k}") for n, k in enumerate(instance.home)},
        berths=berths,
    )


def in_chunks(moves: Sequence[Move], count: int) -> float:
    """Return how long it takes to make so many moves at a time, each chunk after the one before."""
    chunks = (moves[at : at + count] for at in range(0, len(moves), count))
    return sum(max(move.seconds for move in chunk) for chunk in chunks)


def first_come(moves: Sequence[Move], terms: Terms, most: int | None) -> float:
    """Return how long it takes where the first of the waiting that may begin does, in no order of merit."""
    free = {h: [room.vcpus, room.memory_bytes] for h, room in terms.free.items()}
    waiting, running, busy = list(moves), list[tuple[float, int]](), set()
    now, begun = 0.0, list[Move]()
    while waiting or running:
        left = []
        for move in waiting:
            room = free[move.destination]
            may = move.link not in busy and (most is None or len(running) < most)
            may &= room[0] >= move.needs.vcpus and room[1] >= move.needs.memory_bytes
            if not may:
                left.append(move)
                continue
            busy.add(move.link)
            room[0] -= move.needs.vcpus
            room[1] -= move.needs.memory_bytes
            heapq.heappush(running, (now + move.seconds, len(begun)))
            begun.append(move)
        waiting = left
        if not running:
            return float("inf")
        now, number = heapq.heappop(running)
        ended = begun[number]
        busy.discard(ended.link)
        free[ended.source][0] += ended.needs.vcpus
        free[ended.source][1] += ended.needs.memory_bytes
    return now


def measure(seed: int, room: str, moves: Sequence[Move], terms: Terms) -> Measured:
    """Schedule the same moves in each way."""
    began = time.process_time()
    found = schedule(moves, terms)
    spent = time.process_time() - began
    return Measured(
        seed=seed,
        room=room,
        moves=len(moves),
        bound=lower_bound((leg.move for leg in found.legs), terms),
        ours=found.makespan,
        cpu_seconds=spent,
        polished=POLISH.better(found, moves, terms).makespan,
        parked=sum(leg.makes_room_for is not None for leg in found.legs),
        stuck=len(found.stuck),
        peers={
            WATCHER: in_chunks(moves, 2),
            EIGHT: first_come(moves, terms, 8),
            FIFO: first_come(moves, terms, None),
        },
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seeds", type=int, default=3, help="instances of each size")
    parser.add_argument("--moves", default=",".join(map(str, SIZES)), help="sizes")
    asked = parser.parse_args()
    console = Console(highlight=False, markup=False, width=WIDTH)
    found: dict[tuple[int, str], list[Measured]] = {}
    for size in map(int, asked.moves.split(",")):
        console.print(f"{size} moves: planning {asked.seeds} instances")
        for seed in range(1, asked.seeds + 1):
            for room, moves, terms in cases(size, seed):
                found.setdefault((size, room), []).append(measure(seed, room, moves, terms))
    console.print(_table(found))
    target = keep(
        "schedule",
        {
            "facts": {"seeds": asked.seeds},
            "rows": [
                {"moves": size, "room": room, "instances": [_record(each) for each in measured]}
                for (size, room), measured in found.items()
            ],
        },
    )
    load = os.getloadavg()[0]
    console.print(
        f"load {load:.1f} on {os.cpu_count()} processors; written to {os.path.relpath(target)}"
    )


def _record(measured: Measured) -> dict[str, object]:
    peers = {name: each if np.isfinite(each) else None for name, each in measured.peers.items()}
    ratios = {
        "ratio": measured.ours / measured.bound,
        "polished_ratio": measured.polished / measured.bound,
    }
    return asdict(measured) | {"peers": peers} | ratios


def _table(found: dict[tuple[int, str], list[Measured]]) -> Table:
    table = Table(title="Schedules", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for column in ("moves", "room"):
        table.add_column(column, no_wrap=True)
    for column in (
        "ours",
        "worst",
        "polished",
        "worst",
        "CPU s",
        "worst",
        "parked",
        FIFO,
        EIGHT,
        WATCHER,
    ):
        table.add_column(column, justify="right")
    for (_, room), measured in found.items():
        ratios = [each.ours / each.bound for each in measured]
        polished = [each.polished / each.bound for each in measured]
        seconds = [each.cpu_seconds for each in measured]
        peers = [
            median(each.peers[name] / each.bound for each in measured)
            for name in (FIFO, EIGHT, WATCHER)
        ]
        table.add_row(
            f"{median(each.moves for each in measured):,.0f}",
            room,
            f"{median(ratios):.3f}",
            f"{max(ratios):.3f}",
            f"{median(polished):.3f}",
            f"{max(polished):.3f}",
            f"{median(seconds):.2f}",
            f"{max(seconds):.2f}",
            f"{median(each.parked for each in measured):.0f}",
            *(f"{ratio:.2f}" if np.isfinite(ratio) else "stuck" for ratio in peers),
        )
    table.caption = "times the lower bound of any schedule: medians and worst; seconds of CPU"
    return table


if __name__ == "__main__":
    main()
