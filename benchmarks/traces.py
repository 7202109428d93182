"""Traces from a seed, as files: a federation's prices, notices and traffic over weeks or a year.

    python -m benchmarks.traces DIR --vms 100 --days 365

Prices change by the hour: each cloud's wobbles about a level, and levels shift every two weeks or so. Two of
the clouds are revocable: twice a month they give ten minutes' notice and are gone for hours. VMs talk in groups
of five; who talks how much follows the time of day and the day of the week, and changes four times a day.
"""

import argparse
import random
from collections.abc import Iterator, Sequence
from pathlib import Path

START = "2026-01-01T00:00Z"
HOURS_PER_DAY = 24
GROUP = 5
CLOUDS = (
    ("campus", 0.050, 0.0),
    ("north", 0.046, 0.02),
    ("south", 0.043, 0.02),
    ("spot", 0.040, 0.02),
)
"""Name, dollars for a vCPU and hour at first, dollars for a GB that leaves."""
REVOCABLE = ("south", "spot")
SHAPES = ("night", "morning", "noon", "evening", "weekend")
WOBBLE, PULL = 0.01, 0.2
"""Of a price: the spread of an hour's change, and how fast it goes back to its level."""
SHIFT_DAYS, SHIFT_SPREAD = 14.0, 0.15
NOTICES_A_MONTH, NOTICE_MINUTES = 2.0, 10


def write_trace(folder: Path, *, vms: int, days: int, seed: int = 1) -> None:
    """Write a trace into a folder, which is made where there is none."""
    draw = random.Random(seed)
    names = [f"vm{number:03}" for number in range(1, vms + 1)]
    (folder / "traffic").mkdir(parents=True, exist_ok=True)
    (folder / "federation.yaml").write_text("\n".join(_federation(names, days, draw)) + "\n")
    _table(folder / "prices.csv", "cloud,at,vcpu,memory,egress", _prices(days, draw))
    _table(folder / "notices.csv", "cloud,at,deadline,until", _notices(days, draw))
    _table(folder / "traffic.csv", "at,matrix", _days_of_traffic(days))
    for shape in SHAPES:
        path = folder / "traffic" / f"{shape}.csv"
        _table(path, "source,destination,rate", _pairs(names, draw))


def _table(path: Path, header: str, rows: Iterator[str]) -> None:
    path.write_text("\n".join((header, *rows)) + "\n")


def _federation(names: Sequence[str], days: int, draw: random.Random) -> Iterator[str]:
    most = -(-len(names) * 3 // 5)
    yield f"start: {START}"
    yield f"lasts: {days}d"
    yield "clouds:"
    for cloud, _, _ in CLOUDS:
        host = f"{{vcpus: {most * 2}, memory: {most * 4}GiB}}"
        yield f"  {cloud}: {{hosts: {{{cloud}-1: {host}}}}}"
    yield "links:"
    clouds = [cloud for cloud, _, _ in CLOUDS]
    for n, one in enumerate(clouds):
        for other in clouds[n + 1 :]:
            yield f"  - {{between: [{one}, {other}], rate: 1gbit}}"
    yield "vms:"
    for number, name in enumerate(names):
        cloud = clouds[number // GROUP % len(clouds)]
        dirty = draw.randint(1, 12)
        size = f"vcpus: 2, memory: 4GiB, dirty: {dirty}MB/s"
        yield f"  {name}: {{host: {cloud}-1, {size}, cluster: group-{number // GROUP + 1}}}"


def _prices(days: int, draw: random.Random) -> Iterator[str]:
    level = {cloud: dollars for cloud, dollars, _ in CLOUDS}
    price = dict(level)
    for hour in range(days * HOURS_PER_DAY):
        for cloud, _, egress in CLOUDS:
            if hour and draw.random() < 1 / (SHIFT_DAYS * HOURS_PER_DAY):
                level[cloud] *= 1 + draw.uniform(-SHIFT_SPREAD, SHIFT_SPREAD)
            drift = PULL * (level[cloud] - price[cloud])
            price[cloud] += drift + draw.gauss(0.0, WOBBLE) * level[cloud]
            yield f"{cloud},{hour}h,{price[cloud]:.5f}/h,0.004/GiB/h,{egress}/GB"


def _notices(days: int, draw: random.Random) -> Iterator[str]:
    for cloud in REVOCABLE:
        minute = 0.0
        while True:
            minute += draw.expovariate(NOTICES_A_MONTH / (30 * HOURS_PER_DAY * 60))
            back = minute + NOTICE_MINUTES + draw.uniform(60, 8 * 60)
            if back >= days * HOURS_PER_DAY * 60:
                break
            at, gone = int(minute), int(minute) + NOTICE_MINUTES
            yield f"{cloud},{at}m,{gone}m,{int(back)}m"
            minute = back


def _days_of_traffic(days: int) -> Iterator[str]:
    for day in range(days):
        for hour, shape in ((0, "night"), (7, "morning"), (12, "noon"), (18, "evening")):
            yield f"{day * HOURS_PER_DAY + hour}h,{'weekend' if day % 7 > 4 else shape}"


def _pairs(names: Sequence[str], draw: random.Random) -> Iterator[str]:
    for first in range(0, len(names), GROUP):
        members = names[first : first + GROUP]
        loud = draw.uniform(0.2, 2.0)
        for one in members:
            for other in members:
                if one != other and draw.random() < 0.7:
                    yield f"{one},{other},{draw.uniform(20, 900) * loud:.0f}kB/s"
    for _ in range(len(names) // 2):
        one, other = draw.sample(names, 2)
        yield f"{one},{other},{draw.uniform(1, 40):.0f}kB/s"
    for name in names:
        yield f"{name},outside,{draw.uniform(1, 100):.0f}kB/s"


def main() -> None:
    """Write the trace that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--vms", type=int, default=100)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    write_trace(given.folder, vms=given.vms, days=given.days, seed=given.seed)


if __name__ == "__main__":
    main()
