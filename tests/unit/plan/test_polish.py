"""A schedule in full clouds, and the process in which CP-SAT looks for a shorter one."""

import subprocess
import sys
from dataclasses import replace

import pytest

from benchmarks.bench_schedule import full_clouds
from transhume.plan.schedule import Schedule, lower_bound, schedule
from transhume.plan.schedule import polish as polishing
from transhume.plan.schedule.polish import Polish

pytest.importorskip("ortools", reason="the extra [prove]")

MOVES, TERMS = full_clouds(24, seed=3)
POLISH = Polish(most_moves=50, effort=0.5)


@pytest.fixture(scope="module")
def listed() -> Schedule:
    return schedule(MOVES, TERMS)


def test_in_full_clouds_cp_sat_finds_a_much_shorter_schedule_and_always_the_same(
    listed: Schedule,
) -> None:
    one, other = (POLISH.better(listed, MOVES, TERMS) for _ in range(2))

    assert one == other
    assert one.makespan < 0.9 * listed.makespan
    assert one.makespan >= lower_bound((leg.move for leg in one.legs), TERMS) - 1e-6


def test_a_process_that_fails_costs_nothing_but_the_polish(
    listed: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polishing, "WORKER", "transhume.nothing_of_that_name")

    assert POLISH.better(listed, MOVES, TERMS) is listed


def test_without_ortools_the_schedule_stays_as_it_is(
    listed: Schedule, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(polishing, "find_spec", lambda _: None)

    assert POLISH.better(listed, MOVES, TERMS) is listed


def test_nothing_longer_than_asked_for_is_polished(listed: Schedule) -> None:
    few = replace(POLISH, most_moves=len(listed.legs) - 1)

    assert few.better(listed, MOVES, TERMS) is listed


def test_the_process_of_cp_sat_loads_no_other_solver_and_the_planner_no_cp_sat() -> None:
    """HiGHS and OR-Tools in one process have clashed."""
    for module, stranger in (
        ("transhume.plan.schedule.cp_sat", "scipy"),
        ("transhume.plan.planner", "ortools"),
    ):
        code = f"import sys, {module}; sys.exit({stranger!r} in sys.modules)"
        subprocess.run([sys.executable, "-c", code], check=True)
