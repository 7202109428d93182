"""The race of the provers: who wins, what a loss costs, and that nobody is left behind."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from benchmarks.instances import make_instance
from transhume.plan.prove import proving
from transhume.plan.prove.proving import Proof, prove
from transhume.plan.scale import Instance, is_feasible

pytest.importorskip("numba", reason="the extra [fast]")
pytest.importorskip("pytoulbar2", reason="the extra [prove]")

HARD = make_instance(100, 6, seed=1)


def workers_of(parent: int) -> list[int]:
    """Return the processes that a process has started and that aren't gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _parent(entry) == parent:
            found.append(int(entry.name))
    return found


def _parent(process: Path) -> int:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return -1


def eventually(pid: int) -> Iterator[int]:
    """Wait for the first worker of a process; the test's own time-out is the limit."""
    while not (workers := workers_of(pid)):
        time.sleep(0.01)
    yield from workers


def test_a_small_instance_is_proved_and_nobody_is_left() -> None:
    instance = make_instance(20, 4, seed=1)
    before = workers_of(os.getpid())

    proof = prove(instance, seconds=60)

    assert proof.optimal
    assert proof.cost == proof.bound == instance.cost(proof.assignment) == 1106752118
    assert workers_of(os.getpid()) == before


def test_the_same_seed_gives_the_same_plan() -> None:
    instance = make_instance(20, 4, seed=3)

    one, other = (prove(instance, seconds=60) for _ in range(2))

    assert one.optimal
    assert (one.assignment == other.assignment).all()


@pytest.mark.parametrize("alone", ["toulbar2", "highs"])
def test_either_prover_is_enough(monkeypatch: pytest.MonkeyPatch, alone: str) -> None:
    monkeypatch.setattr(proving, "_provers", lambda _: [alone])

    assert prove(make_instance(20, 4, seed=1), seconds=60).cost == 1106752118


def test_without_numba_the_provers_begin_with_what_going_downhill_finds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(proving, "find_spec", lambda _: None)

    proof = prove(make_instance(20, 4, seed=1), seconds=60)

    assert proof.optimal
    assert proof.cost == 1106752118


def test_out_of_time_the_best_found_comes_with_its_certified_bound_and_no_claim() -> None:
    before = workers_of(os.getpid())

    proof = prove(HARD, seconds=0.1)

    _unproved(proof, HARD)
    assert workers_of(os.getpid()) == before


def test_provers_are_asked_where_no_temporary_file_can_be_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A full disk must not end all planning."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr(proving, "find_spec", lambda _: None)

    assert prove(make_instance(20, 4, seed=1), seconds=60).optimal


def test_killed_provers_cost_nothing_but_the_proof() -> None:
    found: list[Proof] = []
    thread = threading.Thread(target=lambda: found.append(prove(HARD, seconds=60)))
    others = set(workers_of(os.getpid()))
    thread.start()
    while thread.is_alive():  # whoever of them starts, until none is left
        for worker in set(workers_of(os.getpid())) - others:
            os.kill(worker, signal.SIGKILL)
        thread.join(0.01)

    _unproved(found[0], HARD)


def test_ctrl_c_leaves_nobody_behind() -> None:
    code = (
        "from benchmarks.instances import make_instance\n"
        "from transhume.plan.prove.proving import prove\n"
        "prove(make_instance(100, 6, seed=1), seconds=60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as planner:
        workers = list(eventually(planner.pid))
        planner.send_signal(signal.SIGINT)
        _, told = planner.communicate()

    assert b"KeyboardInterrupt" in told
    deadline = time.monotonic() + 10  # who has ended is there until somebody takes notice
    while left := [worker for worker in workers if Path(f"/proc/{worker}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)


def test_provers_die_with_a_planner_that_is_killed() -> None:
    code = (
        "from benchmarks.instances import make_instance\n"
        "from transhume.plan.prove.proving import prove\n"
        "prove(make_instance(100, 6, seed=1), seconds=60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code]) as planner:
        workers = list(eventually(planner.pid))
        time.sleep(0.5)  # a worker asks to die with its parent as the first thing it does
        planner.kill()

    while [worker for worker in workers if _running(worker)]:
        time.sleep(0.01)


def _running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def _unproved(proof: Proof, instance: Instance) -> None:
    assert not proof.optimal
    assert 0 < proof.bound < proof.cost <= instance.cost(instance.home)
    assert is_feasible(instance, np.asarray(proof.assignment))
