"""The exact solver's manners: no time, no choice, no load before the first use."""

import subprocess
import sys

import numpy as np

from tests.unit.plan.scenario import policy, two_clusters
from transhume.knowledge.model import CloudName, VmName
from transhume.plan import ExactSolver, Place, Problem
from transhume.plan.constraints import AtLeastClouds, MoveLimit
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


def test_penalties_that_are_only_just_met_do_not_make_the_solver_give_up() -> None:
    """Found by chance: HiGHS fails on this problem where the bound on the penalties is too tight."""
    some = (0, 1, 2, 4)
    problem = Problem(
        vms=tuple(VmName(f"vm{number}") for number in range(6)),
        places=(Place(cloud=CloudName("a")), Place(cloud=CloudName("b"))),
        cloud=np.array([0, 1]),
        home=np.array([0, 0, 0, 0, 1, 0]),
        allowed=np.ones((6, 2), dtype=bool),
        penalty=np.array([[3.0, 0], [0, 0], [0, 0], [2, 0], [0, 0], [0, 0]]),
        dollars=np.array(
            [
                [0.52337878, 2.60369301],
                [0.50783667, 0.46193934],
                [0.61478274, 2.77371745],
                [0.31798795, 1.85552134],
                [0.63902258, 1.97174475],
                [0.8369399, 1.34663374],
            ]
        ),
        pairs=np.array([[0, 4], [0, 5], [1, 5], [2, 3], [2, 5], [3, 4], [3, 5], [4, 5]]),
        rates=np.array(
            [
                [0.0, 2.64854594],
                [7.53055228, 9.89387411],
                [0.0, 8.92396618],
                [5.009164, 5.73035525],
                [4.56155543, 9.43615521],
                [3.02725677, 2.82760893],
                [8.9111191, 3.02351072],
                [6.73806403, 1.72113323],
            ]
        ),
        egress=np.array([[0.0, 0.05563636], [0.08011863, 0.0]]),
        needs=np.array([[1, 100], [1, 400], [2, 100], [2, 200], [2, 100], [2, 400]])
        * np.array([1, 1 << 20]),
        capacity=np.array([[11, 1400 << 20], [3, 400 << 20]]),
        constraints=(
            AtLeastClouds(members=some, minimum=2, penalty=2.0),
            AtLeastClouds(members=some, minimum=2, penalty=2.0),
            MoveLimit(members=(0, 1), limit=0),
        ),
    )
    assert ExactSolver().solve(problem).optimal
