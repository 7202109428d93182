"""Which solver gets which problem, and what the large one makes of one that the exact one can't prove."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.instances import make_instance
from transhume.knowledge.model import CloudName, VmName
from transhume.plan import ExactSolver, Place, Problem, by_size
from transhume.plan.by_size import LargeSolver, SolverBySize
from transhume.plan.constraints import AtLeastClouds, AtMost, LinkTime, MoveLimit, SameCloud
from transhume.plan.scale.price_classes import classes
from transhume.plan.scale.translate import translate, why_not
from transhume.plan.solver import Solution


def large_problem(vms: int = 90, clouds: int = 4) -> Problem:
    """A problem of the planner with the communities of a benchmark's instance."""
    made = make_instance(vms, clouds, seed=2)
    return Problem(
        vms=tuple(VmName(f"vm{number}") for number in range(vms)),
        places=tuple(Place(cloud=CloudName(f"c{number}")) for number in range(clouds)),
        cloud=np.arange(clouds),
        home=made.home,
        allowed=made.allowed,
        penalty=np.zeros(made.unary.shape),
        dollars=made.unary / 168e6,
        pairs=made.pairs,
        rates=made.traffic * 1e6 / (168 * 3600),
        egress=np.linspace(0.02, 0.12, clouds)[:, None] * 3600e-9 * (1 - np.eye(clouds)),
        needs=made.size * np.array([1, 1 << 30]),
        capacity=made.capacity * np.array([1, 1 << 30]),
        constraints=(MoveLimit(members=tuple(range(vms)), limit=vms // 2),),
    )


def test_many_vms_are_searched_and_come_out_cheaper() -> None:
    pytest.importorskip("numba", reason="the extra [fast]")
    problem = large_problem()
    solution = LargeSolver(seconds=0.5).solve(problem)
    assert problem.feasible(solution.assignment)
    assert solution.cost < 0.95 * problem.cost(problem.home)
    assert (solution.assignment != problem.home).sum() <= 45


def near_and_far(problem: Problem) -> Problem:
    """The same with two providers, and a way of 10 ms within and 80 ms between them."""
    provider = np.arange(len(problem.egress)) % 2
    same = provider[:, None] == provider
    others = 1 - np.eye(len(provider))
    return replace(
        problem,
        egress=np.where(same, 0.02, 0.09) * 3600e-9 * others,
        latency=np.where(same, 10.0, 80.0) * others,
        nearness=problem.rates.sum(axis=1) * 3600e-9 * 2e-4,
    )


def test_what_providers_and_latency_make_of_traffic_is_said_exactly_and_by_class() -> None:
    problem = near_and_far(large_problem())
    said = translate(problem)
    assert said.instance.price.max() == 53  # $0.106 beside $0.022, in units of what they share
    assert classes(said.instance.price.astype(np.float64)).tolist() == [0, 1, 0, 1]
    assert said.error < 1e-9 * problem.cost(problem.home)
    told = said.instance.cost(said.instance.home) / said.units_per_dollar
    assert abs(told - problem.cost(problem.home)) <= said.error + 1e-12


def test_a_millisecond_of_different_worth_is_left_to_the_exact_solver() -> None:
    problem = near_and_far(large_problem(12, 3))
    nearness = problem.nearness * (np.arange(len(problem.pairs)) % 2)
    mixed = replace(problem, nearness=nearness)
    assert "millisecond" in why_not(mixed)
    assert SolverBySize(seconds=30).solve(mixed).optimal


def test_vms_that_must_be_in_one_cloud_move_as_one() -> None:
    pytest.importorskip("numba", reason="the extra [fast]")
    problem = large_problem()
    free = np.flatnonzero((problem.home == problem.home[0]) & problem.allowed.all(axis=1))
    rule = SameCloud(members=tuple(free[:5].tolist()))
    problem = replace(problem, constraints=(*problem.constraints, rule))
    solution = LargeSolver(seconds=0.5).solve(problem)
    assert problem.feasible(solution.assignment)
    assert len(set(solution.assignment[list(rule.members)])) == 1


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note who is asked; all answer that everybody stays."""
    names: list[str] = []
    for name in ("ExactSolver", "ProvingSolver", "LargeSolver"):

        class Stub:
            bound: float | None = 0.0

            def __init__(self, *, seconds: float, name: str = name) -> None:
                self.name = name

            def solve(self, problem: Problem) -> Solution:
                names.append(self.name)
                return Solution.of(problem, problem.home, optimal=False, bound=self.bound)

        monkeypatch.setattr(by_size, name, Stub)
    return names


@pytest.mark.parametrize(
    ("free", "solver"),
    [(10, "ExactSolver"), (11, "ProvingSolver"), (60, "ProvingSolver"), (61, "LargeSolver")],
    ids=["a-handful", "one-more", "the-most-proved", "beyond"],
)
def test_the_number_of_vms_with_a_choice_decides(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, free: int, solver: str
) -> None:
    monkeypatch.setattr(by_size, "_has_numba", lambda: True)
    problem = large_problem()
    chosen = np.flatnonzero(problem.movable)[:free]
    allowed = np.arange(4) == problem.home[:, None]
    allowed[chosen] = problem.allowed[chosen]
    SolverBySize(most_proved_vms=60).solve(replace(problem, allowed=allowed))
    assert asked == [solver]


def test_what_a_large_instance_can_not_say_is_for_the_exact_solver(asked: list[str]) -> None:
    rule = AtLeastClouds(members=(0, 1, 2, 3), minimum=3)
    problem = replace(large_problem(), constraints=(rule,))
    SolverBySize().solve(problem)
    assert asked == ["ExactSolver"]
    assert why_not(problem) == "a spread over 3 clouds"


def test_where_more_is_broken_than_need_be_the_exact_solver_is_asked_too(
    asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(by_size.ProvingSolver, "bound", None)
    SolverBySize().solve(large_problem(vms=60))
    assert asked == ["ProvingSolver", "ExactSolver"]


def evacuation() -> Problem:
    """A cloud that must be left, over links that carry so much in time, and a quota and a spread elsewhere."""
    problem = large_problem(300, 6)
    fleeing = tuple(np.flatnonzero(problem.home == 0).tolist())
    allowed = np.ones_like(problem.allowed)
    allowed[:, 0] = problem.home == 0
    penalty = np.zeros(problem.penalty.shape)
    penalty[list(fleeing), 0] = 2.5
    there = int((problem.home == 1).sum())
    web = [int(np.flatnonzero(problem.home == cloud)[0]) for cloud in range(1, 4)]
    links = [
        LinkTime(members=fleeing, place=place, seconds=(8.0,) * len(fleeing), limit=120.0)
        for place in range(1, 6)
    ]
    return replace(
        problem,
        allowed=allowed,
        penalty=penalty,
        capacity=problem.capacity * 2,
        constraints=(
            AtMost(members=tuple(range(300)), cloud=1, limit=there + 2),
            AtLeastClouds(members=tuple(web), minimum=3),
            *links,
        ),
    )


def test_a_cloud_is_left_in_time_within_quotas_by_hundreds_of_vms() -> None:
    pytest.importorskip("numba", reason="the extra [fast]")
    problem = evacuation()
    solution = LargeSolver(seconds=1.0).solve(problem)
    assert problem.violation(problem.home) > 0
    assert problem.feasible(solution.assignment)
    assert solution.violation == 0
    assert solution.bound is not None
    assert solution.bound < solution.cost < 1.05 * solution.bound


@pytest.mark.parametrize("installed", [True, False])
def test_without_numba_provers_do_what_they_can(
    asked: list[str], monkeypatch: pytest.MonkeyPatch, installed: bool
) -> None:
    monkeypatch.setattr(by_size, "_has_numba", lambda: installed)
    SolverBySize(most_proved_vms=60).solve(large_problem())
    assert asked == ["LargeSolver" if installed else "ProvingSolver"]


def test_where_nobody_has_a_choice_staying_is_the_best() -> None:
    problem = large_problem()
    pinned = np.arange(4) == problem.home[:, None]
    assert LargeSolver().solve(replace(problem, allowed=pinned)).optimal


def test_a_problem_of_some_tens_of_vms_is_proved_and_says_so() -> None:
    problem = large_problem(vms=24)
    solution = SolverBySize(seconds=60).solve(problem)
    exact = ExactSolver(seconds=60).solve(problem)
    assert int(problem.movable.sum()) > by_size.A_HANDFUL
    assert solution.optimal
    assert exact.optimal
    assert solution.bound == solution.cost == pytest.approx(exact.cost, rel=2e-6)


def test_a_plan_that_is_not_proved_comes_with_a_bound_below_it() -> None:
    pytest.importorskip("numba", reason="the extra [fast]")
    solution = LargeSolver(seconds=0.5).solve(large_problem())
    assert not solution.optimal
    assert solution.bound is not None
    assert 0 < solution.bound < solution.cost
