"""The peers of the planner's benchmark: asks each in a process of its own, and checks what it says.

A peer that isn't installed, has no answer in its time, or runs out of memory is a row that says so. Costs are
recounted here, and gaps are to the same bounds as ours: the best known of the instance.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from statistics import median

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table

from benchmarks.instances import make_instance
from transhume.plan.scale import Instance, is_feasible

MOST_MEMORY_BYTES = 12 << 30
STARTING_SECONDS = 90.0
"""For starting, making the instance and building the model: not in a peer's seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another way to plan, and what it needs."""

    name: str
    """As `benchmarks.plan_rivals` calls it."""
    shown: str
    module: str
    package: str
    seconds: float | None = 30.0
    """What it may take; None: as long as we."""


PEERS = (
    Peer(name="cp-sat", shown="CP-SAT, 2 workers", module="ortools", package="ortools"),
    Peer(name="highs", shown="HiGHS", module="scipy", package="scipy"),
    Peer(name="metis", shown="METIS, downhill", module="pymetis", package="pymetis"),
    Peer(
        name="metis-searched",
        shown="METIS, our search",
        module="pymetis",
        package="pymetis",
        seconds=None,
    ),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a peer said of one instance."""

    peer: str
    seed: int
    cost: int | None
    """In micro-dollars; None where it has no plan that is feasible."""
    gap: float | None
    """To the best bound known, as a share."""
    seconds: float
    building_seconds: float
    note: str


def installed(peer: Peer) -> bool:
    """Say whether what a peer needs is there."""
    return find_spec(peer.module) is not None


def ask(
    peer: Peer, *, vms: int, clouds: int, seed: int, seconds: float, gap: Callable[[int], float]
) -> Answer:
    """Let a peer plan one instance; what it says is recounted.

    Args:
        peer: who.
        vms: the instance's size.
        clouds: the same.
        seed: the instance's, and the peer's.
        seconds: what we take.
        gap: tells from a cost how far it is above the bound, as a share.
    """
    mine = seconds if peer.seconds is None else peer.seconds
    words = (peer.name, str(vms), str(clouds), str(seed), str(mine))
    try:
        told = subprocess.run(
            (sys.executable, "-m", "benchmarks.plan_rivals", *words),
            capture_output=True,
            text=True,
            check=False,
            timeout=mine + STARTING_SECONDS,
            preexec_fn=_limit_memory,
        )
    except subprocess.TimeoutExpired:
        late = f"no answer in {mine:g} s after {STARTING_SECONDS:g} s for its model"
        return _no_answer(peer, seed, mine + STARTING_SECONDS, late)
    if told.returncode:
        last = (told.stderr.strip().splitlines() or [f"ended with {told.returncode}"])[-1]
        short = "out of memory" if "MemoryError" in last or "bad_alloc" in last else last[:40]
        return _no_answer(peer, seed, 0.0, short)
    said = json.loads(told.stdout.splitlines()[-1])
    answered = said["assignment"] is not None
    instance = make_instance(vms, clouds, seed=seed)
    cost = _recounted(instance, said["assignment"]) if answered else None
    note = said["note"] or ("" if answered else "no answer in time")
    return Answer(
        peer=peer.name,
        seed=seed,
        cost=cost,
        gap=None if cost is None else gap(cost),
        seconds=said["seconds"],
        building_seconds=said["building_seconds"],
        note="infeasible" if answered and cost is None else note,
    )


def _recounted(instance: Instance, assignment: list[int] | None) -> int | None:
    if assignment is None:
        return None
    found = np.array(assignment, dtype=np.int64)
    return instance.cost(found) if is_feasible(instance, found) else None


def _no_answer(peer: Peer, seed: int, seconds: float, note: str) -> Answer:
    return Answer(
        peer=peer.name,
        seed=seed,
        cost=None,
        gap=None,
        seconds=seconds,
        building_seconds=0.0,
        note=note,
    )


def _limit_memory() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))


def new_table() -> Table:
    """Return the table that shows peers beside ours, still empty."""
    table = Table(title="Beside peers", title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("VMs x clouds", no_wrap=True)
    table.add_column("by", no_wrap=True)
    for column in ("seeds", "feasible", "gap", "worst", "s", "to build"):
        table.add_column(column, justify="right")
    table.add_column("")
    table.caption = (
        "gaps to the best bound known: medians and worst of the feasible; seconds: medians"
    )
    return table


def add_row(table: Table, size: str, shown: str, answers: Sequence[Answer]) -> None:
    """Add what one way came to on its seeds."""
    gaps = [each.gap for each in answers if each.gap is not None]
    notes = sorted({each.note for each in answers if each.note})
    building = median(each.building_seconds for each in answers)
    table.add_row(
        size,
        shown,
        str(len(answers)),
        str(len(gaps)),
        f"{median(gaps):.2%}" if gaps else "–",
        f"{max(gaps):.2%}" if gaps else "–",
        f"{median(each.seconds for each in answers):.1f}",
        f"{building:.1f}" if building >= 0.05 else "–",
        "; ".join(f"{note} ({sum(a.note == note for a in answers)})" for note in notes),
    )


def add_missing(table: Table, size: str, peer: Peer) -> None:
    """Add that a peer isn't installed."""
    table.add_row(size, peer.shown, *["–"] * 6, f"{peer.package} isn't installed")


def record(answer: Answer) -> dict[str, object]:
    """Return an answer as it's written down."""
    return asdict(answer)
