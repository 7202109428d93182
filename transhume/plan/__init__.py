"""Decides which VMs go to which cloud, in which order, what that costs and brings, and why. Pure.

The one thing that isn't is `transhume.plan.processes`, which runs provers in processes of their own. Names are
imported when they are first used: a prover needs few of them.
"""

from typing import TYPE_CHECKING, Final

from transhume.names_on_demand import names_on_demand

if TYPE_CHECKING:
    from transhume.plan.check import find_faults
    from transhume.plan.exact import ExactSolver
    from transhume.plan.explain import explain_no_plan, explain_plan, explain_step
    from transhume.plan.planner import make_plan, make_undo
    from transhume.plan.problem import Place, Problem
    from transhume.plan.settings import PlannerSettings
    from transhume.plan.solver import Solution, Solver
    from transhume.plan.vm_lines import explain_vm

_MODULES: Final = {
    "check": ("find_faults",),
    "exact": ("ExactSolver",),
    "explain": ("explain_no_plan", "explain_plan", "explain_step"),
    "vm_lines": ("explain_vm",),
    "planner": ("make_plan", "make_undo"),
    "problem": ("Place", "Problem"),
    "settings": ("PlannerSettings",),
    "solver": ("Solution", "Solver"),
}

__all__ = [
    "ExactSolver",
    "Place",
    "PlannerSettings",
    "Problem",
    "Solution",
    "Solver",
    "explain_no_plan",
    "explain_plan",
    "explain_step",
    "explain_vm",
    "find_faults",
    "make_plan",
    "make_undo",
]

__getattr__ = names_on_demand(__name__, _MODULES)
