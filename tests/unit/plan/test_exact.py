"""The exact solver's manners: no time, no choice, no load before the first use."""

import subprocess
import sys

from tests.unit.plan.scenario import policy, two_clusters
from transhume.plan import ExactSolver, Problem
from transhume.plan.formulate import Formulator, Freedom
from transhume.plan.money import Bill
from transhume.plan.rules import read_rules
from transhume.plan.settings import PlannerSettings
from transhume.plan.situation import Situation


def problem(*, movable: bool = True) -> Problem:
    situation = Situation.read(two_clusters(), [policy()], PlannerSettings())
    bill = Bill.of(situation)
    formulator = Formulator(situation=situation, bill=bill, ruling=read_rules(situation, bill))
    return formulator.problem(Freedom(movable=frozenset(range(6)) if movable else frozenset()))


def test_out_of_time_everybody_stays_and_nothing_is_claimed() -> None:
    found = ExactSolver(seconds=0.0).solve(problem())

    assert (found.assignment == problem().home).all()
    assert not found.optimal


def test_without_a_choice_staying_is_proved_to_be_the_best() -> None:
    assert ExactSolver().solve(problem(movable=False)).optimal


def test_the_solver_library_is_loaded_only_when_it_is_needed() -> None:
    """Every command imports the planner's names; SciPy alone would double their start-up time."""
    code = "import sys, transhume.plan; sys.exit('scipy' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
