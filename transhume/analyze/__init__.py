"""Analyze: pure functions from windows and reports to matrices, groups, cuts and symptoms."""

from transhume.analyze.cut import find_cut
from transhume.analyze.groups import find_groups
from transhume.analyze.identity import vms_from_windows
from transhume.analyze.matrix import build_matrix
from transhume.analyze.symptoms import find_symptoms

__all__ = ["build_matrix", "find_cut", "find_groups", "find_symptoms", "vms_from_windows"]
