"""What live moves look like from beside the guest, by each way to keep the network whole; on the lab.

Needs root; `python -m benchmarks.overlay.moves [--rtt 20,100] [--moves 5] [--ways …]`. For each
round trip a lab of three clouds is built; one guest moves round them, by each way in turn, another one first in
each round. A neighbour in each cloud and somebody outside ping it and talk to it (`stand.py`), a bystander at
every site counts what is flooded; what the columns mean is in `trial.py`. All moves go to
build/bench/overlay-moves.json.
"""

import argparse
import asyncio
import math
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from benchmarks.measuring import WIDTH, keep
from benchmarks.overlay.stand import OUTSIDE_NAME, Cadence, Stand
from benchmarks.overlay.trial import ROLES, Move, Mover, View, faults
from benchmarks.overlay.way import Opening, Way
from benchmarks.overlay.ways import WAYS, DaemonBinds
from transhume.deployment.loader import load_deployment
from transhume.execute.hypervisor.libvirt_hosts import LibvirtHosts
from transhume.execute.migration.transport import Direct
from transhume.lab.lab import Lab
from transhume.lab.network import lab_namespaces
from transhume.lab.spec import LabSpec, plan_lab
from transhume.reach.libvirt import Connections

ROUND_TRIPS_MS = (20.0, 100.0)
MOVES = 5
CADENCE = Cadence()
WAN_BYTES_PER_SECOND = 125e6
SETTLE_SECONDS = 2.0
EXPLAINED = """ms. pause: the VM's, STOP to RESUME; source to outside: medians of the longest silence that a
pinger there met, less the pause and what it is farther away now. By the pinger outside, median and p99 or most:
p99: the same; over: the silence less that of the VM's own interface; late: from when the VM was announced until
a datagram was there; lost; net: of these, what didn't get to the VM. Sums of all: twice: answers; bad:
conversations that broke off, or brought wrong bytes. flooded: the median of frames for the VM at bystanders'"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """All moves at one round trip."""

    round_trip_ms: float
    moves: tuple[Move, ...]
    rounds: int
    broken: tuple[str, ...]
    """What was wrong with conversations at the end of all."""

    def of(self, way: str) -> list[Move]:
        """Return the moves by a way."""
        return [move for move in self.moves if move.way == way]


def lab_spec(round_trip_seconds: float, *, guests: int = 1) -> LabSpec:
    """Specify three clouds; the first guest starts in the first of them and does nothing of its own."""
    spec = plan_lab(
        clouds=3,
        vms=guests,
        clusters=1,
        wan_bytes_per_second=WAN_BYTES_PER_SECOND,
        wan_delay_seconds=round_trip_seconds / 2,
        working_set_mib=4,
    )
    first, *others = spec.guests
    return replace(spec, guests=(replace(first, sends={}), *others))


@asynccontextmanager
async def opened_mover(lab: Lab, cadence: Cadence) -> AsyncIterator[Mover]:
    """Plug in all that looks at a lab's first guest, and get ready to move it."""
    guest = lab.spec.guests[0]
    stand = Stand(lab, guest, cadence)
    await asyncio.to_thread(stand.plug)
    hypervisors = load_deployment(lab.deployment).hypervisors
    ours, theirs = Connections(hypervisors), Connections(hypervisors)
    try:
        yield Mover(stand, ours, LibvirtHosts(theirs, Direct()), at=str(guest.cloud))
    finally:
        ours.close()
        theirs.close()


@asynccontextmanager
async def joined(way: Way, mover: Mover) -> AsyncIterator[None]:
    """Have a way make the network for as long as the context lasts."""
    guests = {guest.mac: str(guest.cloud) for guest in mover.stand.lab.spec.guests}
    await way.join({**guests, **mover.stand.places, mover.stand.guest.mac: mover.at})
    try:
        yield
    finally:
        await way.leave()


def next_cloud(mover: Mover) -> str:
    """Return where the guest goes next: round all clouds."""
    names = [str(cloud.name) for cloud in mover.stand.lab.spec.clouds]
    return names[(names.index(mover.at) + 1) % len(names)]


async def measure(
    lab: Lab, openings: Mapping[str, Opening], rounds: int, cadence: Cadence
) -> tuple[tuple[Move, ...], tuple[str, ...]]:
    """Move the guest by each way once each round; return what was seen, and what is wrong at the end."""
    moves: list[Move] = []
    names, home = list(openings), DaemonBinds(lab)
    async with AsyncExitStack() as stack:
        mover = await stack.enter_async_context(opened_mover(lab, cadence))
        ways = {
            name: await stack.enter_async_context(opening(lab))
            for name, opening in openings.items()
        }
        async with joined(home, mover):
            await stack.enter_async_context(mover.stand.talking())
        for number in range(rounds):
            first = number % len(names)
            for name in (*names[first:], *names[:first]):
                async with joined(ways[name], mover):
                    await asyncio.sleep(SETTLE_SECONDS)
                    moves.append(await mover.move(name, ways[name], next_cloud(mover)))
                say(f"  {told(moves[-1])}")
        async with joined(home, mover):
            return tuple(moves), tuple(faults(await mover.stand.end_talks()))


def told(move: Move) -> str:
    """Return a line on one move."""
    views = ", ".join(
        f"{view.role} {view.silence * 1e3:.0f} ms, {view.lost} lost" for view in move.views
    )
    wrong = "".join(f"; {each}" for each in move.broken)
    return f"{move.way}: pause {move.pause * 1e3:.0f} ms; {views}; {move.flooded} flooded{wrong}"


def sections(asked: argparse.Namespace) -> Iterator[Section]:
    for round_trip_ms in asked.rtt:
        with tempfile.TemporaryDirectory(prefix="transhume-bench-") as folder:
            lab = Lab(Path(folder) / "state")
            say(f"round trip {round_trip_ms:g} ms: building the lab")
            try:
                lab.up(lab_spec(round_trip_ms / 1e3))
                moves, broken = asyncio.run(measure(lab, asked.ways, asked.moves, CADENCE))
            finally:
                lab.down()
        yield Section(
            round_trip_ms=round_trip_ms,
            moves=moves,
            rounds=asked.moves,
            broken=broken,
        )


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def show(section: Section, ways: Iterable[str]) -> None:
    title = (
        f"{section.round_trip_ms:g} ms round trip, {section.rounds} moves by each way;"
        f" pings each {CADENCE.outside_ping_seconds * 1e3:g} ms from outside,"
        f" {CADENCE.ping_seconds * 1e3:g} ms from neighbours"
    )
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.collapse_padding = True
    table.add_column("way", no_wrap=True)
    for column in (
        *("pause", "source", "dest.", "third", "outside", "p99"),
        *("over", "late", "lost", "net", "twice", "flooded", "bad"),
    ):
        table.add_column(column, justify="right")
    for way in ways:
        if moves := section.of(way):
            table.add_row(way, *_figures(moves))
    Console(highlight=False, markup=False, width=WIDTH + 16).print(table)
    for each in section.broken:
        say(f"at the end: {each}")


def _figures(moves: Sequence[Move]) -> tuple[str, ...]:
    views = [view for move in moves for view in move.views]
    by_role = [_added([view for view in views if view.role == role]) for role in ROLES]
    outside = [view for view in views if view.role == OUTSIDE_NAME]
    return (
        f"{median(move.pause for move in moves) * 1e3:.0f}",
        *(_ms(values, median) for values in by_role),
        _ms(_added(outside), percentile_99),
        _both([view.over for view in outside if view.over is not None]),
        _both([view.late for view in outside if view.late is not None]),
        _counts([view.lost for view in outside]),
        _counts([view.lost - view.unanswered for view in outside]),
        str(sum(view.duplicates for view in views)),
        f"{median(move.flooded for move in moves):g}",
        str(sum(len(move.broken) for move in moves)),
    )


def _counts(values: Sequence[int]) -> str:
    return f"{median(values):g}/{max(values)}"


def _added(views: Iterable[View]) -> list[float]:
    return [view.added for view in views]


def _both(values: Sequence[float]) -> str:
    return f"{_ms(values, median)}/{_ms(values, percentile_99)}"


def _ms(values: Sequence[float], of: Callable[[Sequence[float]], float]) -> str:
    if not values:
        return "–"
    found = of(values) * 1e3
    return f"{found:.1f}" if abs(found) < 100 else f"{found:.0f}"


def percentile_99(values: Sequence[float]) -> float:
    """Return the least value that 99 % of all don't exceed."""
    return sorted(values)[math.ceil(0.99 * len(values)) - 1]


def measure_all(console: Console) -> dict[str, Any]:
    """Do it all as it is done unless told otherwise; print the tables, and return what was seen."""
    asked = asked_for([])
    found = []
    for section in sections(asked):
        found.append(section)
        show(section, asked.ways)
    console.print(EXPLAINED)
    return recorded(found, asked)


def recorded(found: Sequence[Section], asked: argparse.Namespace) -> dict[str, Any]:
    facts = {"rounds": asked.moves, "ways": list(asked.ways), "cadence": asdict(CADENCE)}
    return {"facts": facts, "sections": [asdict(each) for each in found]}


def asked_for(words: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overlay.moves")
    trips = ",".join(f"{each:g}" for each in ROUND_TRIPS_MS)
    parser.add_argument("--rtt", default=trips, help="ms, with commas between")
    parser.add_argument("--moves", type=int, default=MOVES, help="by each way")
    parser.add_argument("--ways", default=",".join(WAYS), help=f"of {', '.join(WAYS)}")
    asked = parser.parse_args(words)
    try:
        asked.rtt = list(map(float, asked.rtt.split(",")))
        asked.ways = {name: WAYS[name] for name in asked.ways.split(",")}
    except KeyError as error:
        parser.error(f"there is no {error}")
    except ValueError as error:
        parser.error(str(error))
    return asked


def main() -> None:
    asked = asked_for()
    if os.geteuid() != 0:
        sys.exit("the lab takes root")
    if lab_namespaces():
        sys.exit("a lab is up, and the benchmark would remove it: transhume lab down")
    found = []
    for section in sections(asked):
        found.append(section)
        show(section, asked.ways)
        target = keep("overlay-moves", recorded(found, asked))
    print(f"{EXPLAINED}\nwritten to {os.path.relpath(target)}")


if __name__ == "__main__":
    main()
