"""Decides which VMs go to which cloud, in which order, what that costs and brings, and why. Pure."""

from transhume.plan.check import find_faults
from transhume.plan.exact import ExactSolver
from transhume.plan.explain import explain_no_plan, explain_plan, explain_step
from transhume.plan.explain_vm import explain_vm
from transhume.plan.planner import make_plan, make_undo
from transhume.plan.problem import Place, Problem
from transhume.plan.settings import PlannerSettings
from transhume.plan.solver import Solution, Solver

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
